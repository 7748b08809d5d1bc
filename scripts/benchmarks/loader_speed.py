"""Images per second of the loader alone, beside CompressAI's ImageFolder with RandomCrop, in turns.

    python scripts/benchmarks/loader_speed.py PHOTOS SCRATCH --copies 100

Stores PHOTOS in SCRATCH as lossless WebP, PNG and JPEG (quality 95, 4:2:0), gives each file so many
names (hard links: what was read once comes from memory, as real copies that fit there would) and
prepares the JPEG files; all is kept for the next run. Then says where the time of one image goes,
and times batches of 16 crops of 256x256, float32 in [0, 1]: CompressAI's classes as its example
trains with them; our loader on the same files, its cache off as if the set were too large for it;
and the prepared set with plain and with resized crops. Each measurement begins when the workers
have filled their queues. Best of `--rounds`, in turns.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import compressai.datasets
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms

from lic_train.data.datamodule import ImageDataModule, collate
from lic_train.data.io.images import decode_image
from lic_train.data.io.listing import list_images
from lic_train.data.prepare import Settings, prepare
from lic_train.data.sets.prepared import PreparedImages
from lic_train.data.sources import ImageFolder, ImageSource
from lic_train.data.transforms import RandomResizedCrop

SAVED: dict[str, dict[str, Any]] = {
    "webp": {"lossless": True},
    "png": {},
    "jpg": {"quality": 95},
}


def stored(photos: list[Path], scratch: Path, kind: str, copies: int) -> Path:
    """A folder with so many names of each photograph, as files of this kind."""
    once, folder = scratch / f"once_{kind}", scratch / kind
    once.mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True)
    for photo in photos:
        file = once / f"{photo.stem}.{kind}"
        if not file.exists() and photo.suffix == file.suffix:
            shutil.copyfile(photo, file)
        elif not file.exists():
            with Image.open(photo) as image:
                image.convert("RGB").save(file, **SAVED[kind])
        for i in range(copies):
            name = folder / f"{photo.stem}_{i:03}.{kind}"
            if not name.exists():
                os.link(file, name)
    return folder


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
    source: ImageSource, size: int, min_scale: float, batch: int, workers: int
) -> Iterator[object]:
    """As a trainer on the CPU gets them."""
    crop = RandomResizedCrop(size, min_scale, horizontal_flip=min_scale < 1)
    data = ImageDataModule(source, source, crop, batch, num_workers=workers)
    for loaded in data.train_dataloader():
        yield data.on_after_batch_transfer(loaded, 0)  # type: ignore[arg-type]


def rate(batches: Iterator[object], batch: int, workers: int, seconds: float) -> float:
    """Images per second."""
    for _ in range(1 + 2 * workers):
        next(batches)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        next(batches)
        count += batch
    return count / (time.perf_counter() - start)


def milliseconds(work: Callable[[int], Any], repeats: int = 24) -> float:
    """Mean of so many calls, which are numbered."""
    start = time.perf_counter()
    for i in range(repeats):
        work(i)
    return 1000 * (time.perf_counter() - start) / repeats


def decoding(files: list[Path]) -> str:
    """Milliseconds of one image file."""
    data = [file.read_bytes() for file in files]

    def pillow(i: int) -> None:
        with Image.open(io.BytesIO(data[i % len(data)])) as image:
            image.load()

    reading = milliseconds(lambda i: files[i % len(files)].read_bytes())
    whole = milliseconds(lambda i: decode_image(data[i % len(data)], ""))
    decoder = milliseconds(pillow)
    return f"reading {reading:.2f}  Pillow's decoder {decoder:.2f}  our tensor {whole:.2f}"


def cropping(prepared: ImageSource, size: int, batch: int) -> str:
    """Milliseconds of one crop of a prepared set, wherever it lies."""
    plain = ImageDataModule(prepared, prepared, RandomResizedCrop(size, 1, False), batch)
    resized = ImageDataModule(prepared, prepared, RandomResizedCrop(size, 0.5), batch)
    view = milliseconds(lambda k: plain.draws[k], 512)
    made = milliseconds(lambda k: resized.draws[k], 512)
    draws = [plain.draws[k] for k in range(batch)]
    loaded = collate(draws)
    stacking = milliseconds(lambda k: collate(draws), 64) / batch
    scaling = milliseconds(lambda k: plain.on_after_batch_transfer(loaded, 0), 64) / batch
    return (
        f"plain crop {view:.3f} (a view)  resized and mirrored {made:.3f}  "
        f"into the batch {stacking:.3f}  to float {scaling:.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--copies", type=int, default=100)
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="to prepare")
    parser.add_argument("--only-prepare", action="store_true", help="time nothing yet")
    options = parser.parse_args()
    torch.set_num_threads(1)
    photos, scratch = list_images(options.photos), options.scratch
    folders = {kind: stored(photos, scratch, kind, options.copies) for kind in SAVED}
    start = time.perf_counter()
    keep_all = Settings(keep_duplicates=True, keep_grey=True)
    manifest = prepare(folders["jpg"], scratch / "prepared", keep_all, options.processes)
    count, gigabytes = len(manifest["images"]), sum(s["bytes"] for s in manifest["shards"]) / 1e9
    taken = time.perf_counter() - start
    print(f"{count} JPEG images prepared, {gigabytes:.1f} GB, in {taken:.0f} s (0: was there)")
    if options.only_prepare:
        return
    prepared = PreparedImages(scratch / "prepared")
    size, batch = options.crop, options.batch
    print("milliseconds per image, one process")
    for kind in SAVED:
        print(f"  {kind:5} {decoding(list_images(scratch / f'once_{kind}'))}")
    print(f"  prepared  {cropping(prepared, size, batch)}", flush=True)

    print(f"images per second, batch {batch} of {size}x{size}, best of {options.rounds}")
    for workers in options.workers:
        for kind, folder in folders.items():
            ours = partial(our_batches, size=size, batch=batch, workers=workers)
            rivals: dict[str, Callable[[], Iterator[object]]] = {
                "CompressAI's loader": partial(compressai_batches, folder, size, batch, workers),
                "image_folder": partial(ours, ImageFolder(folder, cache_mb=0), min_scale=1),
                "prepared": partial(ours, prepared, min_scale=1),
                "prepared, resized and mirrored": partial(ours, prepared, min_scale=0.5),
            }
            best = dict.fromkeys(rivals, 0.0)
            for _ in range(options.rounds):
                for name, make in rivals.items():
                    best[name] = max(best[name], rate(make(), batch, workers, options.seconds))
            for name, value in best.items():
                times = value / best["CompressAI's loader"]
                print(
                    f"  {workers} workers  {kind:5} {value:8.1f} {times:7.2f} x  {name}", flush=True
                )


if __name__ == "__main__":
    main()
