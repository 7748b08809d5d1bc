"""What several commands do alike: the options of a model, files read and written whole."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lic_train.errors import BitstreamError, ModelError

if TYPE_CHECKING:
    from lic_train.bitstream import Bitstream


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


@contextmanager
def stream_of(path: Path) -> Iterator[Bitstream]:
    """The stream in a file; whoever refuses it names the file."""
    from lic_train.bitstream import Bitstream

    data = _read(path)
    try:
        yield Bitstream.from_bytes(data)
    except BitstreamError as error:
        raise BitstreamError(f"{path}: {error}") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BitstreamError(f"{path} cannot be read: {error.strerror}") from None


def write_whole(path: Path, data: bytes) -> None:
    """Write all or nothing: a temporary file beside it, then a rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise ModelError(f"{path} cannot be written: {error.strerror}") from None
