"""One's own curve beside published ones: of the very images they are of, and never as measured.

A published curve is of other programs on another machine, and often of pixels before they were
rounded to 8 bits (0.004 to 0.06 dB more). A BD-rate against one says roughly where a codec stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lic_train.errors import DataError, LicError
from lic_train.rd.bd import bd_rate
from lic_train.rd.curves import Curve, mean_curve
from lic_train.rd.points import RDPoint
from lic_train.rd.published import PublishedCurve

PREFIX = "published:"
NOT_MEASURED = "published, not measured here"
PORTRAITS = (4, 9, 10, 17, 18, 19)
IMAGES = {
    "kodak": {f"kodim{n:02}": (512, 768) if n in PORTRAITS else (768, 512) for n in range(1, 25)},
}
"""Name, width and height of every image of a set, as its curves were measured. Of the other sets
the names are not kept here, so nothing is compared with them."""


def chosen(text: str) -> list[str]:
    """The codecs that ``published:NAME,NAME`` asks for.

    Raises:
        DataError: it has another form.
    """
    names = [name.strip() for name in text.removeprefix(PREFIX).split(",") if name.strip()]
    if not text.startswith(PREFIX) or not names:
        raise DataError(f"--compare {text}: give published:NAME, e.g. published:mbt2018-mean,vtm")
    return names


def set_of(images: Mapping[str, tuple[int, int]]) -> str | None:
    """The published set that these are, all of them and at their size; None if they are none.

    Args:
        images: width and height by name, with or without folders and suffix.
    """
    found = {_stem(name): size for name, size in images.items()}
    return next((name for name, theirs in IMAGES.items() if theirs == found), None)


def check_set(images: Mapping[str, tuple[int, int]]) -> str:
    """As :func:`set_of`.

    Raises:
        DataError: they are no such set; says what is nearest to it.
    """
    if name := set_of(images):
        return name
    mine = {_stem(image): size for image, size in images.items()}
    name, theirs = max(IMAGES.items(), key=lambda item: len({*item[1]} & {*mine}))
    shared = {*theirs} & {*mine}
    why = f"the published curves are of {len(theirs)} images of {name}, and {len(shared)} of "
    why += f"these {len(mine)} have their names"
    if len(shared) == len(theirs) == len(mine):
        other = min(image for image in shared if mine[image] != theirs[image])
        why = "{} is {}x{}, not {}x{} as in {}".format(other, *mine[other], *theirs[other], name)
    raise DataError(f"nothing published compares with these images: {why}")


def bd_rate_against(own: Curve, anchor: PublishedCurve) -> float:
    """BD-rate, PSNR, of a curve of the very images that the published one is of.

    Raises:
        LicError: as :func:`~lic_train.rd.bd.bd_rate`.
    """
    # Its images were checked: from here on it stands as one that could have been published.
    mine = PublishedCurve(
        *(anchor.dataset, own.codec, "", "8-bit", "measured here"),
        *(own.bpp, own.psnr, own.ms_ssim),
    )
    return bd_rate(anchor, mine)


def lines(points: Sequence[RDPoint], codec: str, anchors: Sequence[PublishedCurve]) -> list[str]:
    """A line per published curve: the BD-rate against it, or why there is none."""
    said = []
    own = mean_curve(points, codec)
    for anchor in anchors:
        try:
            value = f"{bd_rate_against(own, anchor):+.1f} %"
        except LicError as error:
            said.append(f"{codec}: no BD-rate against {anchor.codec} ({NOT_MEASURED}): {error}")
            continue
        pixels = "" if anchor.pixels == "8-bit" else f", of pixels: {anchor.pixels}"
        said.append(f"{codec}: BD-rate {value} against {anchor.codec} ({NOT_MEASURED}{pixels})")
    return said


def _stem(name: str) -> str:
    last = name.rpartition("/")[2]
    return last.partition(".")[0]
