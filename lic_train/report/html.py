"""The report as one HTML file that needs no network: tables in the text, charts by a script."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

from lic_train.figures.curves import COLOURS, GREY
from lic_train.rd.bd import METRICS
from lic_train.rd.curves import Curve
from lic_train.report.crops import Crop
from lic_train.report.gaps import gaps_of, gaps_table
from lic_train.report.html_tables import bd_matrix, hull_table, per_image, points_table, saved_table
from lic_train.report.section import Section, point_names

GENERATOR = '<meta name="generator" content="lic_train">'
"""What tells a report from any other HTML file."""
GREYS = (GREY, "#5f6b7a", "#a7b0ba")
DASHES = ("", "7 3", "2 3", "9 3 2 3", "12 4")
COLUMNS = (
    "bpp",
    "psnr",
    "ms_ssim",
    "ms_ssim_mean_of_db",
    "ms_ssim_db_of_mean",
    "encode_s",
    "decode_s",
)


def page(
    title: str,
    sections: Sequence[Section],
    crops: Mapping[str, Mapping[str, Sequence[Crop]]],
    about: Sequence[tuple[str, str, str]],
    notes: Sequence[str],
    files: str,
) -> str:
    """The whole file.

    Args:
        title: over everything.
        sections: one per dataset.
        crops: of a dataset, of an image: what to show of it.
        about: heading, explanation and table, ready-made, of what is not of one dataset.
        notes: what was left out before there were sections.
        files: name of the folder with the CSV files and figures.
    """
    body = [f"<h1>{escape(title)}</h1>"]
    body.append(
        f"<p>Bits are those of whole files, header included. PSNR and MS-SSIM are of 8-bit RGB "
        f"images out of decoded files, computed per image, then averaged. Every number and curve "
        f"here can be computed again from <code>{escape(files)}/*.csv</code>.</p>"
    )
    body += [_notice(note) for note in notes]
    for section in sections:
        body.append(_section(section, crops.get(section.dataset, {})))
    for heading, explanation, table in about:
        if table:
            body.append(f"<h2>{escape(heading)}</h2><p>{escape(explanation)}</p>{table}")
    style, script = (
        resources.files("lic_train.report").joinpath(f"page.{kind}").read_text()
        for kind in ("css", "js")
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{GENERATOR}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head>"
        f"<body><main>{''.join(body)}</main><script>{script}</script></body></html>\n"
    )


def _section(section: Section, crops: Mapping[str, Sequence[Crop]]) -> str:
    count = len(section.images)
    parts = [
        f"<h2>{escape(section.dataset)}</h2>",
        f"<p>{count} image{'s' * (count != 1)} that every codec here was measured on, at the same "
        "size.</p>",
        *(_notice(note) for note in section.notes),
        _chart(section),
        _part(
            "BD-rate, %",
            "Mean curves, PSNR, PCHIP over log rate; negative saves bits. Below it the mean over "
            "images of their own BD-rates with a 95 % bootstrap interval over images.",
            bd_matrix(section),
        ),
        _part(
            "Convex hull",
            "The best operating points of all runs of a directory, whichever codec they are of.",
            hull_table(section),
        ),
        _part(
            "Rate saved at equal PSNR, %",
            "Of each operating point, on the mean curve of an anchor; positive saves bits. In "
            "brackets the mean over the images whose PSNR the anchor reaches.",
            saved_table(section),
        ),
        _part(
            "Operating points, size and time",
            "Means over the images. The rate gap is what files hold beyond the estimate from "
            "likelihoods. Seconds compare only where one machine measured them, one after the "
            "other. Multiply-accumulates are of one pass through coder and decoder.",
            points_table(section),
        ),
        _part(
            "Rate gap by cause, % of the estimate",
            "Bits of the file's header, of what the codec adds for checking, of the coder's end, "
            "of symbols within its tables and outside them.",
            gaps_table(section, gaps_of(section)),
        ),
        _part("Images", "BD-rate of single images, %.", per_image(section)),
        *(_crops(image, own, section) for image, own in crops.items()),
    ]
    return "".join(parts)


def _chart(section: Section) -> str:
    options = "".join(f'<option value="{key}">{label}</option>' for key, label in METRICS.items())
    images = "".join(f"<option>{escape(image)}</option>" for image in section.images)
    data = json.dumps({"series": _series(section)}, allow_nan=False).replace("<", "\\u003c")
    return (
        '<div class="curves"><div class="controls">'
        f'<label>quality <select name="metric">{options}</select></label>'
        f'<label>images <select name="image"><option value="">mean over all</option>{images}'
        "</select></label>"
        '<label><input type="checkbox" name="log"> logarithmic rate</label>'
        '<label><input type="checkbox" name="whole"> all of the anchors</label></div>'
        '<div class="legend"></div><div class="chart"><div class="tip"></div></div>'
        f'<script type="application/json">{data}</script></div>'
    )


def _series(section: Section) -> list[dict[str, Any]]:
    """What the script draws: its own names, plain numbers, None for what is not finite."""
    drawn: list[dict[str, Any]] = []
    for k, s in enumerate(section.codecs):
        style = {"colour": COLOURS[k % len(COLOURS)], "width": 2.4, "marker": True}
        style |= {"dash": DASHES[k // len(COLOURS) % len(DASHES)], "trained": True}
        drawn.append(
            {"label": s.label, "points": _points(section.curves[s.label], s.conventional)} | style
        )
    for k, s in enumerate(section.anchors):
        style = {"colour": GREYS[k // len(DASHES) % len(GREYS)], "width": 1.5, "marker": False}
        style |= {"dash": DASHES[k % len(DASHES)], "trained": False}
        drawn.append(
            {"label": s.label, "points": _points(section.curves[s.label], s.conventional)} | style
        )
    for entry in drawn:
        own = section.of_image[entry["label"]]
        entry["images"] = {
            image: _points(own[image], not entry["trained"]) for image in section.images
        }
    for hull in section.hulls:
        style = {"colour": "#1f2933", "width": 1.4, "marker": False, "dash": "3 3"}
        points = _points(hull.curve)
        drawn.append({"label": hull.curve.codec, "points": points, "trained": False} | style)
    for k, curve in enumerate(section.published):
        style = {"colour": "#b9a36b", "width": 1.2, "marker": False, "hidden": True}
        style |= {"dash": DASHES[k % len(DASHES)], "trained": False, "focus": True}
        columns = zip(curve.bpp, curve.psnr, curve.ms_ssim, curve.ms_ssim_db_of_mean, strict=True)
        names = ("bpp", "psnr", "ms_ssim", "ms_ssim_db_of_mean")
        rows = [dict(zip(names, map(_finite, row), strict=True)) for row in columns]
        drawn.append({"label": curve.label, "points": rows} | style)
    return drawn


def _points(curve: Curve, conventional: bool = False) -> list[dict[str, Any]]:
    columns = {name: getattr(curve, name) for name in COLUMNS}
    titles = point_names(curve, conventional)
    return [
        {"name": titles[i]} | {name: _finite(columns[name][i]) for name in COLUMNS}
        for i in range(len(curve.bpp))
    ]


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _crops(image: str, crops: Sequence[Crop], section: Section) -> str:
    width, height = section.images[image]
    figures = "".join(
        f'<figure><img src="{crop.data}" alt="{escape(crop.title)}">'
        f"<figcaption><b>{escape(crop.title)}</b><br>{escape(crop.caption)}</figcaption></figure>"
        for crop in crops
    )
    return f'<h3>{escape(image)}, {width}x{height}</h3><div class="crops">{figures}</div>'


def _part(heading: str, explanation: str, table: str) -> str:
    return f"<h3>{escape(heading)}</h3><p>{escape(explanation)}</p>{table}" if table else ""


def _notice(text: str) -> str:
    return f'<p class="notice">{escape(text)}</p>'
