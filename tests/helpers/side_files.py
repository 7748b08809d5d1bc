"""What a stranger may have put beside a run's weights: tables, JSON and YAML of wrong kinds."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lic_train.evaluation.rate_gap import RateGap
from lic_train.rd.points import RDPoint, write_csv

Change = Callable[[Path], Any]
"""What is done to a run folder."""

ROWS = "rd_points.csv"
DEEP = "[" * 100_000 + "]" * 100_000


def write_plain_run(folder: Path, lmbda: float = 0.01) -> Path:
    """A folder that a report takes: four rates of two images, an anchor, and all side files."""
    rows, gaps = [], []
    for codec, estimated, gain in (("mine", 0.99, 1.0), ("jpeg", None, 0.0)):
        for rate in range(4):
            for k, image in enumerate(("a.png", "b.png")):
                size = 300 * 2**rate + 20 * k
                bpp = 8 * size / (64 * 48)
                value = None if estimated is None else estimated * bpp
                own = None if estimated is None else lmbda
                head = ("set", image, codec, rate, own, 64, 48, size, bpp, value)
                rows.append(RDPoint(*head, 25 + 3 * rate + gain + k, 0.9, 0.1, 0.1, "cpu"))
                if own:
                    gap = (8 * size - 80, 64, 8, 8, 2, -2)
                    gaps.append(RateGap("set", image, codec, rate, own, size, *gap))
    write_csv(rows, folder / ROWS)
    write_csv(gaps, folder / "rate_gap.csv", RateGap)
    texts = {
        "config.yaml": {"name": "mine", "lmbda": lmbda, "model": {"N": 64}},
        "model.yaml": {"lic_train": "0.1.0", "about": {"name": "mine"}},
        "environment.json": {"python": "3.12"},
        "anchors.json": {"anchors": [{"codec": "jpeg", "library": "x", "qualities": [1, 2]}]},
        "point.json": {"label": "model.N=64,lmbda=0.01"},
    }
    for name, values in texts.items():
        (folder / name).write_text(json.dumps(values))
    return folder


def text(name: str, content: str | bytes) -> Change:
    """The file holds just this."""
    data = content if isinstance(content, bytes) else content.encode()

    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)

    return change


def values(name: str, content: Any) -> Change:
    """The file holds this as JSON, which is YAML as well."""
    return text(name, json.dumps(content))


def cell(column: str, content: str, name: str = ROWS, every: bool = False) -> Change:
    """A cell of the first row, or of every row, of a table."""

    def change(folder: Path) -> None:
        with (folder / name).open(newline="") as file:
            header, *rows = csv.reader(file)
        for row in rows if every else rows[:1]:
            row[header.index(column)] = content
        with (folder / name).open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *rows])

    return change


def renamed(name: bytes) -> Change:
    """The codec, in all rows of its own, has another name."""

    def change(folder: Path) -> None:
        quoted = b'"' + name.replace(b'"', b'""') + b'"'
        for table in TABLES:
            data = (folder / table).read_bytes()
            (folder / table).write_bytes(data.replace(b",mine,", b"," + quoted + b","))

    return change


def special(name: str, kind: str) -> Change:
    """No plain file stands there."""

    def change(folder: Path) -> None:
        path = folder / name
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to({"loop": path.name, "device": "/dev/zero"}[kind])

    return change


JSONS = ("anchors.json", "environment.json", "point.json")
YAMLS = ("config.yaml", "model.yaml")
TABLES = (ROWS, "rate_gap.csv")
NUMBERS = ("inf", "-inf", "nan", "0", "-1", "1e308", "1e-320", "1" + "0" * 400, "x", "")
NAMES = {
    "mathtext": "$\\frac{$",
    "markup": "<script>alert(1)</script>",
    "quotes": "\"'`&lt;",
    "NUL": "a\0b",
    "escapes": "\x1b[2J\x1b]0;x\x07",
    "surrogate": "\udce9",
    "path": "../../../etc/passwd",
    "dots": "..",
    "nothing": "",
    "glob": "[a-z]*?",
    "long": "x" * 5000,
    "field": "x" * 200_000,
    "underscore": "_hidden",
    "formula": "=cmd|'/C calc'!A0",
    "line": "a\nb",
    "direction": "\u202egnp.exe",
}


def report_inputs() -> dict[str, Change]:
    """Changes of a run folder by their names; a report is to be made of it, or refused."""
    found: dict[str, Change] = {}
    for name in (*JSONS, *YAMLS, *TABLES):
        for kind in ("fifo", "folder", "loop", "device"):
            found[f"{name} is a {kind}"] = special(name, kind)
        found[f"{name} is binary"] = text(name, bytes(range(256)) * 4)
        found[f"{name} is empty"] = text(name, "")
        found[f"{name} is UTF-16"] = text(name, "a,b\n1,2\n".encode("utf-16"))
        found[f"{name} is NUL"] = text(name, bytes(1000))
        found[f"{name} is large"] = text(name, b"[" + b"1," * 20_000_000 + b"1]")
    for name in (*JSONS, *YAMLS):
        found[f"{name} is deep"] = text(name, DEEP)
        found[f"{name} is a deep object"] = text(name, '{"a":' * 5000 + "1" + "}" * 5000)
        found[f"{name} is a long number"] = text(name, '{"label": 1' + "0" * 5000 + "}")
        found[f"{name} is not finite"] = text(name, '{"label": NaN, "about": Infinity}')
        for kind, value in {"list": [1], "text": "x", "number": 5, "null": None}.items():
            found[f"{name} is a {kind}"] = values(name, value)
    for kind, value in {
        "list": [1, [2]], "text": "abc", "number": 7, "truth": True, "deep": [[[[{"a": [1]}]]]],
    }.items():  # fmt: skip
        found[f"about is {kind}"] = values("model.yaml", {"about": value})
        found[f"anchors are {kind}"] = values("anchors.json", {"anchors": value})
        found[f"an anchor is {kind}"] = values("anchors.json", {"anchors": [value]})
        found[f"weights_mb is {kind}"] = values("model.yaml", {"about": {"weights_mb": value}})
        found[f"lic_train is {kind}"] = values("model.yaml", {"lic_train": value})
        found[f"environment of {kind}"] = values("environment.json", {"python": value})
        found[f"label is {kind}"] = values("point.json", {"label": value})
        found[f"model is {kind}"] = values("config.yaml", {"name": value, "model": value})
    found["cyclic YAML"] = text("config.yaml", "a: &a [*a]\n")
    found["YAML tags"] = text("config.yaml", "!!python/object/apply:os.system ['touch executed']")
    found["YAML keys"] = text("config.yaml", "{1: 2, null: 3, 2020-01-01: x, [1]: 2}")
    found["YAML of many keys"] = text("config.yaml", "\n".join(f"k{i}: 1" for i in range(2000)))
    for column in ("rate", "lmbda", "width", "height", "bytes", "bpp", "bpp_estimated", "psnr",
                   "ms_ssim", "encode_s", "decode_s"):  # fmt: skip
        for number in NUMBERS:
            found[f"{column} {number[:6]}"] = cell(column, number)
            found[f"{column} {number[:6]} everywhere"] = cell(column, number, every=True)
    for column in ("rate", "lmbda", "bytes", "estimated", "codec", "image"):
        for number in NUMBERS:
            found[f"gap {column} {number[:6]}"] = cell(column, number, "rate_gap.csv")
    for column in ("dataset", "image", "codec", "device"):
        for kind, name in NAMES.items():
            content = name.encode("utf-8", "surrogateescape").decode("latin-1")
            found[f"{column} {kind}"] = cell(column, content)
            found[f"{column} {kind} everywhere"] = cell(column, content, every=True)
    for kind, name in NAMES.items():
        found[f"the codec is {kind}"] = renamed(name.encode("utf-8", "surrogateescape"))
    header = ",".join(RDPoint.__dataclass_fields__)
    found["a table of a header"] = text(ROWS, header + "\n")
    found["a table of commas"] = text(ROWS, header + "\n" + "," * 16 + "\n")
    found["a table with long lines"] = text(ROWS, header + "\n" + "1," * 1000 + "\n")
    found["a table with short lines"] = text(ROWS, header + "\n1,2\n")
    found["a quote that does not end"] = text(ROWS, header + '\n"' + "x" * 300_000)
    for name in ("originals/a.png", "reconstructions/a.png_r0.png"):
        for kind in ("fifo", "folder", "loop", "device"):
            found[f"{name} is a {kind}"] = special(name, kind)
        found[f"{name} is no picture"] = text(name, b"\x89PNG\r\n\x1a\n" + bytes(100))
        found[f"{name} is EPS"] = text(name, "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n")
    return found
