"""Small sets of the true layout of every `conf/data`, to try a config before the download.

    python scripts/fake_datasets.py FOLDER
    python -m lic_train debug=fast data=clic data.root=FOLDER/clic

Below FOLDER is one folder for each: `kodak`, `clic`, `vimeo` (triplets), `vimeo_septuplets`,
`clips`, `thumbnails`, `cifar10`, `cifar100`, `imagenet32`, `imagenet32_npz`, `hub`, `image_folder`,
`prepared`.
The pictures are smooth noise.
"""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path

import numpy as np
from PIL import Image

from lic_train.data.prepare import Settings, prepare

RNG = np.random.default_rng(0)


def picture(width: int, height: int) -> Image.Image:
    """Smooth colour noise, RGB."""
    coarse = RNG.integers(0, 256, (6, 7, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def save(path: Path, width: int, height: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"compress_level": 1} if path.suffix == ".png" else {}
    picture(width, height).save(path, **options)


def kodak(root: Path) -> None:
    """24 images; numbers 4, 9, 10, 17, 18 and 19 are upright."""
    for number in range(1, 25):
        upright = number in (4, 9, 10, 17, 18, 19)
        save(root / f"kodim{number:02}.png", *((512, 768) if upright else (768, 512)))


def clic(root: Path) -> None:
    """Every archive in a folder of its name."""
    for kind in ("professional", "mobile"):
        for split, count in (("train", 2), ("valid", 1)):
            for i in range(count):
                save(root / f"{kind}_{split}_2020" / split / f"{kind}_{i}.png", 300, 220)
        save(root / f"CLIC2020{kind.title()}_test" / f"{kind}_test.png", 220, 300)


def vimeo(root: Path, prefix: str = "tri", frames: int = 3) -> None:
    """Frames 448x256 in `sequences`, two lists beside it."""
    for split, sequences in (("train", ("00001/0001", "00002/0003")), ("test", ("00001/0002",))):
        (root / "sequences").mkdir(parents=True, exist_ok=True)
        (root / f"{prefix}_{split}list.txt").write_text("".join(f"{s}\n" for s in sequences))
        for sequence in sequences:
            whole = picture(448 + 3 * frames, 256)
            folder = root / "sequences" / sequence
            folder.mkdir(parents=True)
            for n in range(frames):  # a pan to the right, three pixels a frame
                frame = whole.crop((3 * n, 0, 448 + 3 * n, 256))
                frame.save(folder / f"im{n + 1}.png", compress_level=1)


def vimeo_septuplets(root: Path) -> None:
    """As the triplets, with seven frames."""
    vimeo(root, "sep", 7)


def clips(root: Path, frames: int = 16) -> None:
    """A y4m, an mp4 and a raw yuv file."""
    import av

    root.mkdir(parents=True)
    for name, codec in (("a.mp4", "mpeg4"), ("b.y4m", "rawvideo"), ("c.y4m", "rawvideo")):
        with av.open(str(root / name), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 176, 144, "yuv420p"
            whole = picture(176 + frames, 144)
            for n in range(frames):
                frame = av.VideoFrame.from_image(whole.crop((n, 0, 176 + n, 144)))
                container.mux(stream.encode(frame.reformat(format="yuv420p")))
            container.mux(stream.encode())
    yuv = RNG.integers(0, 256, frames * 176 * 144 * 3 // 2, dtype=np.uint8)
    (root / "d_176x144_25fps.yuv").write_bytes(yuv.tobytes())


def small_images(count: int) -> np.ndarray:
    """Rows of red, green and blue 32x32 planes, as CIFAR and ImageNet-32 have them."""
    images = [np.asarray(picture(32, 32)).transpose(2, 0, 1) for _ in range(count)]
    return np.stack(images).reshape(count, 3072)


def cifar10(root: Path) -> None:
    root.mkdir(parents=True)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        batch = {b"data": small_images(4), b"labels": [0] * 4, b"batch_label": name.encode()}
        (root / name).write_bytes(pickle.dumps(batch, protocol=2))
    (root / "batches.meta").write_bytes(pickle.dumps({b"label_names": [b"airplane"]}, protocol=2))


def cifar100(root: Path) -> None:
    root.mkdir(parents=True)
    for name in ("train", "test"):
        batch = {b"data": small_images(4), b"fine_labels": [0] * 4, b"coarse_labels": [0] * 4}
        (root / name).write_bytes(pickle.dumps(batch, protocol=2))
    (root / "meta").write_bytes(pickle.dumps({b"fine_label_names": [b"apple"]}, protocol=2))


def imagenet32(root: Path) -> None:
    root.mkdir(parents=True)
    for name in (*(f"train_data_batch_{i}" for i in range(1, 11)), "val_data"):
        batch = {"data": small_images(2), "labels": [1] * 2, "mean": np.zeros(3072)}
        (root / name).write_bytes(pickle.dumps(batch))


def imagenet32_npz(root: Path) -> None:
    root.mkdir(parents=True)
    for name in (*(f"train_data_batch_{i}" for i in range(1, 11)), "val_data"):
        np.savez(root / f"{name}.npz", data=small_images(2), labels=np.ones(2, int))


def thumbnails(root: Path) -> None:
    """The layout of ImageNet-32."""
    imagenet32(root)


def hub(root: Path) -> None:
    """What `datasets` takes for an image folder with two splits."""
    for split, count in (("train", 5), ("test", 2)):
        for i in range(count):
            save(root / split / f"{i}.png", 300, 200)


def image_folder(root: Path) -> None:
    for i in range(6):
        save(root / "a" / f"{i}.jpg", 320, 240)


def prepared(root: Path) -> None:
    """What `lic data prepare` makes of an image folder."""
    image_folder(root.parent / "to_prepare")
    prepare(root.parent / "to_prepare", root, Settings(min_side=64, shard_images=4))


SETS = (
    *(kodak, clic, vimeo, vimeo_septuplets, clips, thumbnails),
    *(cifar10, cifar100, imagenet32, imagenet32_npz, hub, image_folder, prepared),
)


def write(folder: Path) -> None:
    """Write every set below the folder, which need not exist."""
    for make in SETS:
        make(folder / make.__name__)


def main() -> None:
    """Write them all below the folder of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    write(parser.parse_args().folder)


if __name__ == "__main__":
    main()
