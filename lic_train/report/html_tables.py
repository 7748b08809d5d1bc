"""The tables of a report's section as HTML: what they say can be read without the script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from lic_train.rd.bd import Comparison
from lic_train.report.section import Section, point_names


def table(header: Sequence[str], rows: Sequence[Sequence[str]], text: Sequence[int] = ()) -> str:
    """An HTML table of ready-made cells; empty without rows. Columns of ``text`` stand left."""
    if not rows:
        return ""

    def line(tag: str, cells: Sequence[str]) -> str:
        kind = {i: ' class="text wide"' if tag == "td" else ' class="text"' for i in text}
        inner = "".join(f"<{tag}{kind.get(i, '')}>{c}</{tag}>" for i, c in enumerate(cells))
        return f"<tr>{inner}</tr>"

    body = "".join(line("td", row) for row in rows)
    head = line("th", [escape(name) for name in header])
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def bd_matrix(section: Section) -> str:
    """Rows codecs, columns what they are compared with: anchors, then each other."""
    others = [s.label for s in (*section.anchors, *section.codecs)]
    if len(section.codecs) < 2:
        others = [s.label for s in section.anchors]
    rows = [
        [escape(codec.label)]
        + [
            "" if other == codec.label else bd_cell(section.comparisons[codec.label, other])
            for other in others
        ]
        for codec in section.codecs
    ]
    return table(["codec", *(f"vs {other}" for other in others)], rows if others else [])


def bd_cell(compared: Comparison) -> str:
    """The figure with its interval, or a dash and why there is none."""
    if compared.bd_rate is None:
        return _dash(compared.refusal)
    spread = f"spread of methods {compared.spread:.1f}; overlap {compared.overlap:.0%}"
    text = f'<span title="{escape(spread)}">{percent(compared.bd_rate)}</span>'
    if compared.mean is not None and compared.interval is not None:
        low, high = compared.interval
        text += f"<small>{compared.mean:+.1f} [{low:+.1f}, {high:+.1f}]</small>"
    return text


def hull_table(section: Section) -> str:
    """A row per directory with more than one curve."""
    anchors = [s.label for s in section.anchors]
    rows = []
    for hull in section.hulls:
        cells = [
            _dash(value) if isinstance(value, str) else percent(value)
            for value in (hull.bd_rate[anchor] for anchor in anchors)
        ]
        low, high = hull.curve.bpp.min(), hull.curve.bpp.max()
        rows.append([escape(hull.curve.codec), f"{len(hull.curve.bpp)}", f"{low:.3f} – {high:.3f}"])
        rows[-1] += cells
    return table(["hull", "points", "bpp", *(f"vs {anchor}" for anchor in anchors)], rows)


def saved_table(section: Section) -> str:
    """A row per operating point, a column per anchor."""
    anchors = [s.label for s in section.anchors]
    rows = []
    for codec in section.codecs:
        curve = section.curves[codec.label]
        saved = [section.saved[codec.label, anchor] for anchor in anchors]
        for i, name in enumerate(point_names(curve)):
            cells = []
            for of_anchor in saved:
                one = of_anchor[i]
                if math.isnan(one.on_mean_curve):
                    outside = "outside the anchor's PSNR"
                    cell = _dash(outside if one.same_size else "of another size")
                else:
                    cell = percent(one.on_mean_curve, saves=1)
                if one.images:
                    of = f"of {one.images} image{'s' * (one.images != 1)}"
                    cell += f"<small>({one.mean_over_images:+.1f} {of})</small>"
                cells.append(cell)
            rows.append([escape(codec.label), escape(name), f"{curve.psnr[i]:.2f}", *cells])
    header = ["codec", "point", "PSNR dB", *(f"vs {anchor}" for anchor in anchors)]
    return table(header, rows if anchors else [])


def points_table(section: Section) -> str:
    """Every operating point of the codecs, with what its files and weights weigh."""
    rows = []
    for codec in section.codecs:
        curve = section.curves[codec.label]
        for i, name in enumerate(point_names(curve)):
            mine = [p for p in codec.points if (p.lmbda, p.rate) == (curve.lmbda[i], curve.rate[i])]
            about = codec.of_lmbda[curve.lmbda[i]].about
            estimates = [p.bpp_estimated for p in mine if p.bpp_estimated is not None]
            estimate = float(np.mean(estimates)) if len(estimates) == len(mine) else math.nan
            weights = about.get("weights_mb", math.nan)
            rows.append(
                [
                    escape(codec.label),
                    escape(name),
                    number(curve.bpp[i], 4),
                    number(curve.psnr[i], 2),
                    number(curve.ms_ssim[i], 4),
                    number(float(np.mean([p.bytes for p in mine])), 0),
                    f"{100 * (curve.bpp[i] / estimate - 1):+.2f} %" if estimate > 0 else "–",
                    number(curve.encode_s[i], 3),
                    number(curve.decode_s[i], 3),
                    number(weights, 1),
                    number(about.get("parameters", math.nan) / 1e6, 2),
                    number(about.get("kmacs_per_pixel", math.nan), 1),
                    escape(", ".join(sorted({p.device for p in mine}))),
                ]
            )
    header = ["codec", "point", "bpp", "PSNR dB", "MS-SSIM", "bytes", "rate gap", "encode s"]
    return table([*header, "decode s", "weights MB", "M parameters", "kMAC/pixel", "device"], rows)


def per_image(section: Section) -> str:
    """A row per image: BD-rate of every codec against the first anchor, where there is one."""
    if not section.anchors:
        return ""
    anchor = section.anchors[0].label
    columns = [(c.label, section.comparisons[c.label, anchor]) for c in section.codecs]
    columns = [(label, compared) for label, compared in columns if compared.per_image]
    rows = [
        [escape(image), f"{width}x{height}"]
        + [
            percent(compared.per_image[image])
            if image in compared.per_image
            else _dash("this image's curve has no BD-rate")
            for _, compared in columns
        ]
        for image, (width, height) in section.images.items()
    ]
    header = ["image", "size", *(f"{label} vs {anchor}" for label, _ in columns)]
    return table(header, rows if columns else [])


def differences_table(columns: Sequence[str], configs: Sequence[Mapping[str, Any]]) -> str:
    """Settings that are not the same in all runs; those that change together share a row."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for key in sorted({key for config in configs for key in config}):
        values = tuple("" if config.get(key) is None else str(config[key]) for config in configs)
        if len(set(values)) > 1:
            rows.setdefault(values, []).append(key)
    body = [
        [", ".join(map(escape, keys)), *map(escape, values)]
        for values, keys in sorted(rows.items(), key=lambda item: item[1])
    ]
    return table(["setting", *columns], body, text=[0])


def number(value: float, digits: int) -> str:
    """Fixed digits; a dash for what is not finite."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def percent(value: float, saves: int = -1) -> str:
    """With its sign and the colour of good or bad news; ``saves`` is the sign of a saving."""
    kind = "saves" if value * saves > 0 else "costs"
    return f'<span class="{kind}">{value:+.1f}</span>'


def _dash(reason: str) -> str:
    return f'<span class="refused">–<small>{escape(reason)}</small></span>'
