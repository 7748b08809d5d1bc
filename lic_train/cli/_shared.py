"""What several commands do alike: the options of a model, files read and written whole."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lic_train.errors import BitstreamError, ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from lic_train.codec import Codec
    from lic_train.codec.bitstream import Bitstream


def model_arguments(parser: argparse.ArgumentParser) -> None:
    """--device and --set, of whatever loads a codec."""
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an argument of the model that differs from the run's; may be repeated",
    )
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="PACKAGE.MODULE:CLASS",
        help="a class beyond lic_train's own that the model may name: its code will run",
    )


def import_from_here(names: Sequence[str]) -> None:
    """Import the modules of classes that the user trusts, from the current folder if need be.

    The folder is on the path for as long as that takes and no longer: nothing else comes from it.

    Args:
        names: ``package.module:Class``.

    Raises:
        ModelError: a module is there and cannot be imported.
    """
    import importlib
    from importlib.util import find_spec

    for name in names:
        module = name.partition(":")[0]
        package, here = module.partition(".")[0], Path.cwd()
        lies_here = (here / f"{package}.py").is_file() or (here / package).is_dir()
        if not package.isidentifier() or not lies_here or find_spec(package):
            continue
        sys.path.append(str(here))
        try:
            importlib.import_module(module)
        except Exception as error:  # whatever its code raises
            said = f"{type(error).__name__}: {error}"
            raise ModelError(f"--trust {name}: {module} cannot be imported ({said})") from error
        finally:
            sys.path.remove(str(here))


def force_argument(parser: argparse.ArgumentParser) -> None:
    """--force, of whatever writes where the user says."""
    parser.add_argument(
        "--force", action="store_true", help="overwrite files that lic_train did not write"
    )


@contextmanager
def stream_of(path: Path, codec: Codec | None = None) -> Iterator[Bitstream]:
    """The stream in a file, or what the codec can make of one cut short; whoever refuses it names
    the file."""
    from lic_train.codec.bitstream import Bitstream

    data = _read(path)
    try:
        try:
            stream = Bitstream.from_bytes(data)
        except BitstreamError as error:
            if codec is None:
                raise
            stream = _salvaged(codec, data, error)
            print(f"{path}: {error}; decoding what is whole", file=sys.stderr)
        yield stream
    except BitstreamError as error:
        raise BitstreamError(f"{path}: {error}") from None


def _salvaged(codec: Codec, data: bytes, error: BitstreamError) -> Bitstream:
    from lic_train.codec.bitstream import Bitstream

    try:
        return codec.salvage(Bitstream.beginning(data))
    except BitstreamError:
        raise error from None


def pace(pixels: Tensor, seconds: float) -> str:
    """Of a video, how many frames and how fast; of an image nothing."""
    if pixels.ndim < 4:
        return ""
    return f", {len(pixels)} frames, {len(pixels) / seconds:.2f} a second"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BitstreamError(f"{path} cannot be read: {error.strerror}") from None


def write_whole(path: Path, data: bytes) -> None:
    """Write all or nothing.

    Raises:
        ModelError: it cannot be written.
    """
    from lic_train.utils import files

    try:
        files.write_whole(path, data, make_folder=False)
    except OSError as error:
        raise ModelError(f"{path} cannot be written: {error.strerror}") from None
