"""Distances by networks: torchmetrics' own code over the weights that are at hand, here random."""

from __future__ import annotations

import math
import subprocess
import sys
import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.zoo import Zoo
from torchvision import models
from torchvision.models import _api

from lic_train.codec.signal import to_uint8
from lic_train.data.datamodule import Signal
from lic_train.errors import DataError
from lic_train.evaluation.measure import evaluate
from lic_train.evaluation.results import Labels
from lic_train.rd.perceptual import distances
from lic_train.rd.points import RDPoint, read_csv, summary, write_csv


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of ImageNet's, which are not to be had without a network: random ones."""
    torch.manual_seed(0)
    alexnet = models.alexnet().state_dict()
    monkeypatch.setattr(_api.WeightsEnum, "get_state_dict", lambda *_, **__: alexnet)


def test_lpips_is_nothing_for_equal_images_and_grows_with_the_error(weights: None) -> None:
    lpips = distances(["lpips"])["lpips"]
    image = torch.randint(60, 190, (3, 64, 80), dtype=torch.uint8)
    noise = torch.randint(-60, 60, image.shape)
    little, much = ((image + noise // part).to(torch.uint8) for part in (4, 1))
    assert lpips(image, image) == 0
    assert 0 < lpips(little, image) < lpips(much, image)
    # The mean over the images of a clip.
    clip = lpips(torch.stack([little, much]), torch.stack([image, image]))
    assert clip == pytest.approx((lpips(little, image) + lpips(much, image)) / 2, rel=1e-5)
    assert math.isnan(lpips(image[:, :31], image[:, :31]))


def test_it_is_a_column_of_the_table(weights: None, zoo: Zoo, tmp_path: Path) -> None:
    photo = Signal("photo", to_uint8(zoo.signal("mean_scale", 64, 64)[0]))
    codec = zoo.ready("mean_scale")
    labels = Labels("set", "mine", 0.01)
    points = evaluate(codec, [photo], labels, distances=distances(["lpips"])).points
    assert points[0].lpips is not None and points[0].lpips > 0 and points[0].dists is None
    write_csv(points, tmp_path / "rd_points.csv")
    assert read_csv(tmp_path / "rd_points.csv") == points
    (mean,) = summary(points)["points"]
    assert mean["lpips"] == pytest.approx(points[0].lpips) and mean["dists"] is None


def test_a_table_older_than_the_column_is_read(tmp_path: Path) -> None:
    point = RDPoint("set", "a", "mine", 0, None, 8, 8, 10, 1.25, None, 30.0, 0.9, 1.0, 1.0, "cpu")
    write_csv([point], tmp_path / "new.csv")
    lines = (tmp_path / "new.csv").read_text().splitlines()
    old = "\n".join(line.rsplit(",", 2)[0] for line in lines)
    (tmp_path / "old.csv").write_text(old + "\n")
    assert read_csv(tmp_path / "old.csv") == [point]


@pytest.mark.parametrize("name", ["lpips", "dists"])
def test_without_weights_one_line_says_where_they_belong(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(_api.WeightsEnum, "get_state_dict", offline)
    with pytest.raises(DataError, match=f"{name} wants .* put its file into .*checkpoints"):
        distances([name])


def test_an_unknown_distance_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    command = ["debug=fast", "evaluation.perceptual=[fid]", f"hydra.run.dir={tmp_path}/run"]
    done = subprocess.run(
        [sys.executable, "-m", "lic_train", *command], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode != 0
    assert "'fid' is not one of lpips, dists" in done.stderr.strip().splitlines()[-1]
    assert not (tmp_path / "run" / "checkpoints").exists()
