"""Images per second of the loader alone, beside CompressAI's ImageFolder with RandomCrop, in turns.

    python scripts/bench_loader.py PHOTOS SCRATCH --copies 100

Copies PHOTOS so many times into SCRATCH (kept for the next run), prepares the copies, and times
batches of 16 crops of 256x256: CompressAI's classes as its example trains with them, our loader on
the same files with plain crops, and on the prepared set with plain and with resized crops. Each
measurement begins when the workers have filled their queues. Best of `--rounds`, in turns.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import compressai.datasets
import torch
from torch.utils.data import DataLoader
from torchvision import transforms

from lic_train.data.datamodule import ImageDataModule
from lic_train.data.images import list_images
from lic_train.data.prepare import Settings, prepare
from lic_train.data.prepared import PreparedImages
from lic_train.data.sources import ImageFolder, ImageSource
from lic_train.data.transforms import RandomResizedCrop


def endless(loader: Iterable[object]) -> Iterator[object]:
    """Epoch after epoch."""
    while True:
        yield from loader


def compressai_batches(folder: Path, size: int, batch: int, workers: int) -> Iterator[object]:
    """As in CompressAI's examples/train.py."""
    transform = transforms.Compose([transforms.RandomCrop(size), transforms.ToTensor()])
    images = compressai.datasets.ImageFolder(folder.parent, split=folder.name, transform=transform)
    return endless(DataLoader(images, batch, num_workers=workers, shuffle=True))


def our_batches(
    source: ImageSource, size: int, batch: int, workers: int, min_scale: float = 1.0
) -> Iterator[object]:
    crop = RandomResizedCrop(size, min_scale, horizontal_flip=min_scale < 1)
    data = ImageDataModule(source, source, crop, batch, num_workers=workers)
    return iter(data.train_dataloader())


def rate(batches: Iterator[object], batch: int, workers: int, seconds: float) -> float:
    """Images per second."""
    for _ in range(1 + 2 * workers):
        next(batches)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        next(batches)
        count += batch
    return count / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--copies", type=int, default=100)
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder, prepared = options.scratch / "copies", options.scratch / "prepared"
    folder.mkdir(parents=True, exist_ok=True)
    for photo in list_images(options.photos):
        for i in range(options.copies):
            target = folder / f"{photo.stem}_{i:03}{photo.suffix}"
            if not target.exists():
                shutil.copy(photo, target)
    start = time.perf_counter()
    manifest = prepare(folder, prepared, Settings(keep_duplicates=True, keep_grey=True), workers=2)
    count = manifest["counts"]["kept"]
    print(f"{count} images, {sum(s['bytes'] for s in manifest['shards']) / 1e9:.1f} GB prepared")
    print(f"prepared in {time.perf_counter() - start:.0f} s (0 where it was there)", flush=True)

    size, batch = options.crop, options.batch
    loaders: dict[str, Callable[[int], Iterator[object]]] = {
        "CompressAI ImageFolder, RandomCrop": lambda w: compressai_batches(folder, size, batch, w),
        "image_folder, plain crops": lambda w: our_batches(ImageFolder(folder), size, batch, w),
        "prepared, plain crops": lambda w: our_batches(PreparedImages(prepared), size, batch, w),
        "prepared, resized crops and flips": lambda w: our_batches(
            PreparedImages(prepared), size, batch, w, 0.5
        ),
    }
    print(f"images per second, batch {batch} of {size}x{size}, best of {options.rounds}")
    for workers in (1, 2):
        best = dict.fromkeys(loaders, 0.0)
        for _ in range(options.rounds):
            for name, make in loaders.items():
                best[name] = max(best[name], rate(make(workers), batch, workers, options.seconds))
        baseline = next(iter(best.values()))
        for name, value in best.items():
            print(f"{workers} workers  {value:8.1f}  {value / baseline:6.1f} x  {name}", flush=True)


if __name__ == "__main__":
    main()
