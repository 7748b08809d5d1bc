"""A pass has the same crops whoever loads them; unusable images are said and replaced."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lic_train.data.datamodule import Batch, ImageDataModule
from lic_train.data.prepare import Settings, prepare
from lic_train.data.sets.prepared import PreparedImages
from lic_train.data.sources import EncodedImage, ImageFolder, ImageSource, ImageStream
from lic_train.data.transforms import RandomResizedCrop
from lic_train.errors import DataError

RNG = np.random.default_rng(1)
IMAGES, BATCH = 12, 4


class Folder(ImageStream):
    """A stream of the files of a folder, shuffled by pass and seed."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.iterdir())

    def images(self, number: int, seed: int) -> Iterator[EncodedImage]:
        for i in np.random.default_rng((seed, number)).permutation(len(self.files)):
            yield EncodedImage(self.files[i].name, self.files[i].read_bytes())


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(IMAGES):
        array = RNG.integers(0, 256, (40 + i, 52 - i, 3), dtype=np.uint8)
        Image.fromarray(array).save(folder / f"{i:02}.png")
    return folder


@pytest.fixture(params=["folder", "prepared", "stream"])
def source(request: pytest.FixtureRequest, photos: Path) -> ImageSource | ImageStream:
    if request.param == "folder":
        return ImageFolder(photos)
    if request.param == "stream":
        return Folder(photos)
    prepare(photos, photos.parent / "set", Settings(min_side=1, shard_images=5))
    return PreparedImages(photos.parent / "set")


def module(source: ImageSource | ImageStream, size: int = 24, **options: Any) -> ImageDataModule:
    held_out = source if isinstance(source, ImageSource) else ImageFolder(source.files[0].parent)
    options = {"batch_size": BATCH, "seed": 9} | options
    return ImageDataModule(source, held_out, RandomResizedCrop(size), **options)


def load(data: ImageDataModule, batches: int, step: int = 0) -> list[Batch]:
    """So many batches, from those on that a trainer at this step has not used."""
    data.trainer = SimpleNamespace(global_step=step, accumulate_grad_batches=1)  # type: ignore
    loaded = list(itertools.islice(data.train_dataloader(), batches))
    return [data.on_before_batch_transfer(batch, 0) for batch in loaded]


@contextmanager
def of_two(rank: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As that rank of two sees it."""
    with monkeypatch.context() as patch:
        patch.setattr(torch.distributed, "is_initialized", lambda: True)
        patch.setattr(torch.distributed, "get_rank", lambda: rank)
        patch.setattr(torch.distributed, "get_world_size", lambda: 2)
        yield


def crops(batches: list[Batch]) -> Counter[tuple[str, bytes]]:
    return Counter(
        (name, x.numpy().tobytes()) for b in batches for x, name in zip(b.x, b.names, strict=True)
    )


def test_a_pass_has_the_same_crops_for_any_workers_ranks_and_after_a_resume(
    source: ImageSource | ImageStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = IMAGES // BATCH
    whole = load(module(source), 2 * steps)
    first, second = crops(whole[:steps]), crops(whole[steps:])
    for one in (first, second):  # no image is lost or seen twice
        assert sorted(name for name, _ in one) == [f"{i:02}.png" for i in range(IMAGES)]
    assert not first & second
    for workers in (1, 2):
        loaded = load(module(source, num_workers=workers), 2 * steps)
        assert [batch.names for batch in loaded] == [batch.names for batch in whole]
        assert crops(loaded[:steps]) == first and crops(loaded[steps:]) == second
    for workers in (0, 2):
        resumed = load(module(source, num_workers=workers), 2 * steps - 1, step=1)
        assert crops(whole[:1] + resumed[: steps - 1]) == first
        assert crops(resumed[steps - 1 :]) == second
    of_ranks: list[Batch] = []
    for rank in (0, 1):
        with of_two(rank, monkeypatch):
            part = load(module(source, batch_size=BATCH // 2), steps)
            assert crops(load(module(source, batch_size=2, num_workers=2), steps)) == crops(part)
            of_ranks += part
    assert crops(of_ranks) == first


def test_crops_grow_late_in_a_training_whoever_loads_them_and_after_a_resume(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last 40 % of 5 batches have crops of twice the side, a quarter as many."""
    grows: dict[str, Any] = {"size": 8, "late_scale": 2, "late_share": 0.4, "steps": 5}
    whole = load(module(ImageFolder(photos), **grows), 5)
    shapes = [tuple(batch.x.shape) for batch in whole]
    assert shapes == [(4, 3, 8, 8)] * 3 + [(1, 3, 16, 16)] * 2
    every = crops(whole)
    first_pass = [name for batch in whole for name in batch.names][:IMAGES]
    assert len(every) == 14 and sorted(first_pass) == [f"{i:02}.png" for i in range(IMAGES)]
    for workers in (0, 2):
        for step in (1, 3, 4):  # before, at and after the change
            data = module(ImageFolder(photos), num_workers=workers, **grows)
            assert crops(whole[:step] + load(data, 5 - step, step=step)) == every
    of_ranks: list[Batch] = []
    for rank in (0, 1):
        with of_two(rank, monkeypatch):
            of_ranks += load(module(ImageFolder(photos), batch_size=2, **grows), 3)
    assert crops(of_ranks) == crops(whole[:3])


@pytest.mark.parametrize("options", [{"late_scale": 0}, {"late_scale": 2, "late_share": 1.5}])
def test_growing_that_cannot_be_is_refused(photos: Path, options: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="late_scale"):
        module(ImageFolder(photos), steps=5, **options)
    for source, steps in ((Folder(photos), 5), (ImageFolder(photos), None)):
        with pytest.raises(DataError, match="of known length, and not of streams"):
            module(source, late_scale=2, steps=steps)


def broken(photos: Path, *numbers: int) -> Path:
    for i in numbers:
        path = photos / f"{i:02}.png"
        path.write_bytes(path.read_bytes()[:400])
    return photos


@pytest.mark.parametrize("stream", [False, True])
def test_corrupt_images_are_named_counted_and_replaced(
    photos: Path, stream: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    broken(photos, 3, 8)
    source = Folder(photos) if stream else ImageFolder(photos)
    data = module(source)
    passes = load(data, 2 * IMAGES // BATCH)
    assert data.skipped.keys() == {"03.png", "08.png"}
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and all("corrupt or truncated" in line for line in said)
    assert said[0].startswith("lic_train: skipped ") and said[1].endswith(
        "(2)" if stream else f"(2 of {IMAGES})"
    )
    names = Counter(name for batch in passes for name in batch.names)
    assert len(names) == IMAGES - 2 and min(names.values()) >= 2 and names.total() == 2 * IMAGES
    for workers in (1, 2):  # who stands in does not depend on who loads
        again = module(source, num_workers=workers)
        assert crops(load(again, len(passes))) == crops(passes)
        assert again.skipped.keys() == data.skipped.keys()
    assert crops(passes[:1] + load(module(source), len(passes) - 1, step=1)) == crops(passes)
    with pytest.raises(DataError, match=r"0[38]\.png: is corrupt"):
        load(module(source, corrupt="fail"), IMAGES // BATCH)
    broken(photos, *range(IMAGES))
    source = Folder(photos) if stream else ImageFolder(photos)  # without what it had decoded
    for workers in (0, 1):
        with pytest.raises(DataError, match=r"\d\.png: is corrupt"):
            load(module(source, num_workers=workers), 1)


@pytest.mark.parametrize("stream", [False, True])
def test_small_images_are_enlarged_or_skipped_and_said(
    photos: Path, stream: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Folder(photos) if stream else ImageFolder(photos)
    data = module(source, size=43)  # 00 to 02 are lower, 10 and 11 narrower
    enlarged = load(data, IMAGES // BATCH)
    assert {name for batch in enlarged for name in batch.names} == {
        f"{i:02}.png" for i in range(IMAGES)
    }
    (line,) = capsys.readouterr().err.splitlines()
    assert "is smaller than the crop of 43; such images are enlarged" in line
    assert not data.skipped
    data = module(source, size=43, small="skip")
    names = {name for batch in load(data, IMAGES // BATCH) for name in batch.names}
    assert names <= {f"{i:02}.png" for i in range(3, 10)}
    assert data.skipped.keys() == {f"{i:02}.png" for i in (0, 1, 2, 10, 11)}
    assert data.skipped["00.png"] == "52x40 is smaller than the crop of 43"


def test_fewer_images_than_ranks_work_and_are_said(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = module(ImageFolder(photos, limit=2))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 2)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    assert len(load(data, 2)) == 2 and len(load(data, 1)) == 1
    assert capsys.readouterr().err == "lic_train: 2 images for 3 ranks: a batch has some twice\n"


def test_choices_and_streams_without_images_are_refused(photos: Path) -> None:
    for options in ({"corrupt": "maybe"}, {"small": "no"}):
        with pytest.raises(DataError, match="corrupt=skip or fail"):
            module(ImageFolder(photos), **options)
    source = Folder(photos)
    data = module(source)
    source.files = []
    with pytest.raises(DataError, match="empty"):
        load(data, 1)


def test_a_data_module_counts_in_words(photos: Path) -> None:
    assert module(ImageFolder(photos)).describe() == "12 images to train on, 12 to evaluate"
    assert module(Folder(photos)).describe() == "a stream of images to train on, 12 to evaluate"
