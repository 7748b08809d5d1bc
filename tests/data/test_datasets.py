"""Published sets are read in their true layouts, and another layout is refused by name."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from PIL import Image

from lic_train.data.datamodule import ImageDataModule
from lic_train.data.io.images import read_image
from lic_train.data.sets.benchmarks import Clic, Kodak
from lic_train.data.sets.hub import HubImages, HubStream
from lic_train.data.sets.pixel_batches import PixelBatches, thumbnail_images
from lic_train.data.sources import ImageSource
from lic_train.errors import DataError
from lic_train.experiment.build import instantiate_data
from lic_train.utils.configs import config_dir


def refused(call: Callable[[], object], *words: str) -> None:
    with pytest.raises(DataError) as caught:
        call()
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value), caught.value


def names(source: ImageSource) -> list[str]:
    return [source.name(i) for i in range(len(source))]


def build(*overrides: object) -> ImageDataModule:
    with initialize_config_dir(config_dir(), version_base="1.3"):
        data = instantiate_data(compose("train", [str(override) for override in overrides]).data)
    assert isinstance(data, ImageDataModule)
    return data


# --- Kodak and CLIC


def test_kodak(trees: Path, tmp_path: Path) -> None:
    source = Kodak(trees / "kodak")
    assert names(source) == [f"kodim{i:02}.png" for i in range(1, 25)]
    assert source.pixels(0).shape == (3, 512, 768) and source.pixels(3).shape == (3, 768, 512)
    shutil.copytree(trees / "kodak", tmp_path / "all" / "kodak")
    assert len(Kodak(tmp_path / "all", limit=3)) == 3
    folder = tmp_path / "all" / "kodak"
    Image.new("RGB", (384, 256)).save(folder / "kodim07.png")
    refused(lambda: Kodak(folder), "kodim07.png", "expected 768x512", "found 384x256")
    (folder / "kodim11.png").unlink()
    refused(lambda: Kodak(folder), "kodim01.png to kodim24.png", "found 23 of 24 (no kodim11.png)")
    refused(lambda: Kodak(trees / "clic"), "r0k.us", "found CLIC2020Mobile_test/")
    refused(lambda: Kodak(tmp_path / "no"), "no such folder")
    refused(lambda: Kodak(None, key="data.eval_root"), "data.eval_root=FOLDER")


def test_clic(trees: Path, tmp_path: Path) -> None:
    root = trees / "clic"
    assert len(Clic(root, "train")) == 4 and len(Clic(root, "test")) == 2
    assert names(Clic(root, "valid", "mobile")) == ["mobile_valid_2020/valid/mobile_0.png"]
    (remark,) = Clic(root, "train").remarks()
    assert "4 images, published were 1633" in remark
    for split in ("train", "valid"):  # all archives unpacked in one place
        shutil.copytree(root / f"mobile_{split}_2020" / split, tmp_path / split)
    assert len(Clic(tmp_path, "train")) == 2
    shutil.copytree(tmp_path / "valid", tmp_path / "latest")  # is no "test", though it ends so
    refused(lambda: Clic(tmp_path, "test"), "in a folder test", "found latest/, train/, valid/")
    refused(lambda: Clic(tmp_path, "train", "mobile"), "mobile_train_2020")
    refused(lambda: Clic(tmp_path, "eval"), "train, valid or test")  # type: ignore[arg-type]
    refused(lambda: Clic(None, "train"), "data.root=FOLDER", "compression.cc")


def test_any_training_set_goes_with_any_evaluation_set(trees: Path) -> None:
    train, held_out = f"data.root={trees / 'clic'}", f"data.eval_root={trees / 'kodak'}"
    data = build("data=clic", "eval_data=kodak", train, held_out)
    assert len(data.train_source) == 4 and names(data.eval_source)[0] == "kodim01.png"
    photos, held_out = f"data.root={trees / 'image_folder'}", f"data.eval_root={trees / 'clic'}"
    data = build("data=thumbnails", "eval_data=clic", photos, held_out)
    assert len(data.train_source) == 6
    assert len(data.eval_source) == 2
    data = build("data=kodak", f"data.root={trees / 'kodak'}", "eval_data=samples")
    assert names(data.eval_source) == ["kodim23", "monarch", "chelsea"]
    own = build("data=clic", train)
    assert len(own.eval_source) == 2
    with pytest.raises(InstantiationException) as caught:
        build("data=clic", "eval_data=kodak", train)
    assert "add data.eval_root=FOLDER" in str(caught.value.__cause__)


# --- batch files


@pytest.mark.parametrize(
    ("folder", "train", "held_out"),
    [("imagenet32", 20, 2), ("imagenet32_npz", 20, 2), ("cifar10", 20, 4), ("cifar100", 4, 4)],
)
def test_batch_files(trees: Path, folder: str, train: int, held_out: int) -> None:
    source = PixelBatches(trees / folder, "train")
    assert len(source) == train and len(PixelBatches(trees / folder, "eval")) == held_out
    assert len(set(names(source))) == train
    everything = torch.stack([source.pixels(i) for i in range(train)])
    assert everything.shape == (train, 3, 32, 32) and everything.dtype == torch.uint8
    assert len({x.numpy().tobytes() for x in everything}) == train
    assert len(PixelBatches(trees / folder, "train", limit=3)) == 3


def test_rows_are_planes_of_red_green_and_blue(tmp_path: Path) -> None:
    image = np.arange(3072, dtype=np.uint32).astype(np.uint8).reshape(3, 32, 32)
    (tmp_path / "val_data").write_bytes(pickle.dumps({"data": image.reshape(1, 3072)}))
    assert torch.equal(PixelBatches(tmp_path, "eval").pixels(0), torch.from_numpy(image))


def test_a_batch_file_cannot_run_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "run"),)

    (tmp_path / "val_data").write_bytes(pickle.dumps({"data": Evil()}))
    refused(lambda: PixelBatches(tmp_path, "eval"), "val_data", "mkdir", "no need of")
    assert not (tmp_path / "run").exists()


def test_faults_of_batch_files_are_named(trees: Path, tmp_path: Path) -> None:
    refused(lambda: PixelBatches(trees / "kodak", "train"), "train_data_batch_1", "kodim01.png")
    shutil.copytree(trees / "cifar10", tmp_path / "x")
    (tmp_path / "x" / "data_batch_4").unlink()
    refused(lambda: PixelBatches(tmp_path / "x", "train"), "found 4 of 5", "no data_batch_4")
    test = tmp_path / "x" / "test_batch"
    test.write_bytes(test.read_bytes()[:200])
    refused(lambda: PixelBatches(tmp_path / "x", "eval"), "test_batch", "no batch file")
    test.write_bytes(pickle.dumps({"data": np.zeros((4, 100), np.uint8)}))
    refused(lambda: PixelBatches(tmp_path / "x", "eval"), "(4, 100)")


def test_thumbnails_are_of_whatever_the_folder_holds(trees: Path) -> None:
    batches, photos, cifar = trees / "imagenet32", trees / "image_folder", trees / "cifar10"
    assert len(thumbnail_images(batches, "train")) == 20
    assert len(thumbnail_images(batches, "train", photos)) == 20
    assert len(thumbnail_images(batches, "eval", photos)) == 6
    assert len(thumbnail_images(photos, "train", cifar)) == 6
    assert len(thumbnail_images(photos, "eval", cifar)) == 4
    assert len(thumbnail_images(photos, "eval", eval_every=3)) == 2
    data = build("data=thumbnails", f"data.root={cifar}")
    assert next(iter(data.train_dataloader())).x.shape == (32, 3, 32, 32)
    (first, *_), original = data.signals(), PixelBatches(cifar, "eval").pixels(0)
    assert torch.equal(first.pixels, original)  # no resampling


# --- the datasets library


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.mark.usefixtures("offline")
def test_a_set_of_the_datasets_library(trees: Path) -> None:
    source = HubImages(trees / "hub", "train")
    assert names(source) == [f"train/{i}.png" for i in range(5)]
    for i in range(5):
        path = trees / "hub" / "train" / f"{i}.png"
        assert torch.equal(source.pixels(i), read_image(path).pixels)
    assert len(HubImages(trees / "hub", "train", limit=2)) == 2
    streamed = HubImages(trees / "hub", "test", limit=9, streamed=True)
    assert sorted(names(streamed)) == ["test/0.png", "test/1.png"]
    refused(lambda: HubImages(trees / "hub", "valid"), "'valid'", "test, train")
    refused(lambda: HubImages(trees / "hub", "train", column="picture"), "['image']")
    refused(lambda: HubImages(trees / "hub", "test", streamed=True), "needs a limit")
    refused(lambda: HubImages(None, "train"), "data.root=NAME")
    refused(lambda: HubImages(trees / "cifar10", "train"), "cannot load it")


@pytest.mark.usefixtures("offline")
def test_parquet_files_hold_images_and_their_names(
    trees: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import datasets

    # Not tmp_path: a stream takes the word "test" in it for the name of the split.
    folder = tmp_path_factory.mktemp("parquet")
    files = sorted((trees / "hub" / "train").iterdir())
    rows = [{"bytes": path.read_bytes(), "path": path.name} for path in files]
    features = datasets.Features({"label": datasets.Value("int64"), "photo": datasets.Image()})
    table = {"label": list(range(5)), "photo": rows}
    datasets.Dataset.from_dict(table, features=features).to_parquet(folder / "train.parquet")
    source = HubImages(folder, "train")
    assert names(source) == [path.name for path in files]
    assert torch.equal(source.pixels(4), read_image(files[4]).pixels)
    stream = HubStream(folder, "train", buffer=3)
    orders = [[image.name for image in stream.images(p, seed=5)] for p in (0, 0, 1, 2, 3)]
    assert all(sorted(order) == names(source) for order in orders)
    assert orders[0] == orders[1] and len({tuple(order) for order in orders}) > 1
