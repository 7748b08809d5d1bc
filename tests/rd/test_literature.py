"""Published curves stand beside one's own where the images are the very same, and say what they
are."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.curves import row

from lic_train.errors import DataError
from lic_train.rd import published
from lic_train.rd.literature import IMAGES, check_set, chosen, lines, set_of
from lic_train.rd.points import RDPoint

KODAK = {f"kodak/{name}.png": size for name, size in IMAGES["kodak"].items()}


def as_published(codec: str, cost: float = 1.0) -> list[RDPoint]:
    """Rows whose means are a published curve's, ``cost`` times as long."""
    (curve,) = published.curves("kodak", [codec])
    return [
        replace(row("mine", i, cost * bpp, psnr, image), lmbda=0.01)
        for i, (bpp, psnr) in enumerate(zip(curve.bpp, curve.psnr, strict=True))
        for image in ("a", "b")
    ]


def test_the_images_are_known_by_name_and_size() -> None:
    assert set_of(KODAK) == set_of(IMAGES["kodak"]) == check_set(KODAK) == "kodak"
    small = {name: (320, 200) for name in KODAK}
    two = dict(list(KODAK.items())[:2])
    turned = KODAK | {"kodak/kodim01.png": (512, 768)}
    for images, words in (
        (small, "kodim01 is 320x200, not 768x512 as in kodak"),
        (two, "of 24 images of kodak, and 2 of these 2"),
        (turned, "kodim01 is 512x768"),
        ({"photo": (768, 512)}, "and 0 of these 1"),
        ({**KODAK, "one_more": (8, 8)}, "24 of these 25"),
    ):
        assert set_of(images) is None
        with pytest.raises(DataError, match="nothing published compares") as caught:
            check_set(images)
        assert words in str(caught.value)


def test_a_bd_rate_is_marked_as_of_what_was_not_measured() -> None:
    anchors = published.curves("kodak", chosen("published:mbt2018-mean,vtm"))
    own = as_published("mbt2018-mean", 0.8)
    said = lines(own, "mine", anchors)
    assert said[0].startswith("mine: BD-rate -20.0 % against mbt2018-mean (published, not measured")
    assert "of pixels: float" in said[0] and "of pixels" not in said[1]
    assert said[1].startswith("mine: BD-rate -3.0 % against vtm (published, not measured here)")
    assert lines(as_published("vtm"), "mine", anchors)[1].startswith("mine: BD-rate +0.0 %")
    few = [p for p in own if p.rate < 3]
    refused = lines(few, "mine", anchors)
    assert all("no BD-rate" in line and "at least 4" in line for line in refused)


def test_what_is_asked_for_must_be_there() -> None:
    for text in ("mbt2018-mean", "published:", "measured:vtm"):
        with pytest.raises(DataError, match="give published:NAME"):
            chosen(text)
    with pytest.raises(DataError, match="no published nothing"):
        published.curves("kodak", chosen("published:nothing"))
