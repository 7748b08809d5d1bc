"""``lic``: what one does with a trained codec. compress, decompress, cut, evaluate, reencode."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lic_train import __version__
from lic_train.errors import BitstreamError, DataError, ModelError
from lic_train.faults import one_line

if TYPE_CHECKING:
    from lic_train.bitstream import Bitstream


def main(arguments: list[str] | None = None) -> None:
    """Entry point; a fault of the input ends in one line on stderr and exit code 2."""
    options = _parser().parse_args(arguments)
    # What libraries say to programmers; stderr is for what concerns the user's files.
    warnings.filterwarnings("ignore", category=FutureWarning)
    with one_line("lic"):
        options.command(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lic", description=__doc__)
    parser.add_argument("--version", action="version", version=f"lic_train {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    compress = commands.add_parser("compress", help="image to file")
    compress.add_argument("image", type=Path)
    compress.add_argument("file", type=Path)
    compress.add_argument("--model", type=Path, required=True, metavar="RUN")
    size = compress.add_mutually_exclusive_group()
    size.add_argument(
        "--rate", type=float, default=-1, help="index, real where the codec has such; else finest"
    )
    size.add_argument("--target-bpp", type=float, metavar="X", help="the finest file of at most X")
    size.add_argument("--target-psnr", type=float, metavar="X", help="the coarsest of X dB or more")
    compress.set_defaults(command=_compress)

    decompress = commands.add_parser("decompress", help="file to PNG image")
    decompress.add_argument("file", type=Path)
    decompress.add_argument("image", type=Path)
    decompress.add_argument("--model", type=Path, required=True, metavar="RUN")
    decompress.set_defaults(command=_decompress)

    cut = commands.add_parser("cut", help="file to the shorter file of a coarser rate")
    cut.add_argument("file", type=Path)
    cut.add_argument("out", type=Path)
    cut.add_argument("--rate", type=int, required=True, help="index, from 0")
    cut.add_argument("--model", type=Path, required=True, metavar="RUN")
    cut.set_defaults(command=_cut)

    evaluate = commands.add_parser(
        "evaluate", help="code a folder of images to files, beside JPEG; write the RD tables"
    )
    evaluate.add_argument("model", type=Path, metavar="RUN")
    evaluate.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    evaluate.add_argument("--out", type=Path, required=True, metavar="DIR")
    evaluate.add_argument("--save-images", type=int, default=3, metavar="N")
    evaluate.set_defaults(command=_evaluate)

    reencode = commands.add_parser(
        "reencode", help="code the decoded images again and again, beside JPEG"
    )
    reencode.add_argument("model", type=Path, metavar="RUN")
    reencode.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    reencode.add_argument("--out", type=Path, required=True, metavar="DIR")
    reencode.add_argument("--rounds", type=int, default=50, metavar="N")
    rates = reencode.add_mutually_exclusive_group()
    rates.add_argument("--rate", type=float, default=-1, help="of every round; else the finest")
    rates.add_argument("--mixed", action="store_true", help="another rate in every round")
    reencode.add_argument("--float", action="store_true", help="only: keep floats between rounds")
    reencode.add_argument("--eight-bit", action="store_true", help="only: keep 8-bit images")
    reencode.set_defaults(command=_reencode)

    for command in (compress, decompress, evaluate, reencode):
        command.add_argument("--device", default="cpu", help="cpu (default) or cuda")
        command.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="an argument of the model that differs from the run's; may be repeated",
        )
    return parser


# Imports of torch take seconds; --help and wrong arguments should not wait for them.


def _compress(options: argparse.Namespace) -> None:
    import torch

    from lic_train.data.images import read_image
    from lic_train.export import load_codec
    from lic_train.rate_control import meet

    picture = read_image(options.image)
    if picture.note:
        print(f"{options.image}: {picture.note}", file=sys.stderr)
    codec = load_codec(options.model, options.device, options.set)
    x = picture.pixels[None].to(torch.device(options.device)).float() / 255
    if options.target_bpp is None and options.target_psnr is None:
        stream = codec.compress(x, options.rate)
    else:
        targets = {"target_bpp": options.target_bpp, "target_psnr": options.target_psnr}
        stream = meet(codec, x, **targets)
    data = stream.to_bytes()
    _write_whole(options.file, data)
    height, width = codec.reference(x, stream.rate).shape[-2:]
    bpp = 8 * len(data) / (height * width)
    print(f"{options.file}: {len(data)} bytes, {bpp:.4f} bpp, {width}x{height}")


def _decompress(options: argparse.Namespace) -> None:
    from lic_train.data.images import write_png
    from lic_train.export import load_codec
    from lic_train.metrics import to_uint8

    if options.image.suffix.lower() != ".png":
        raise DataError(f"{options.image} must end in .png: decoded images are written losslessly")
    with _stream_of(options.file) as stream:
        codec = load_codec(options.model, options.device, options.set)
        pixels = to_uint8(codec.decompress(stream)[0]).cpu()
    write_png(options.image, pixels)
    print(f"{options.image}: {pixels.shape[-1]}x{pixels.shape[-2]}")


def _cut(options: argparse.Namespace) -> None:
    from lic_train.export import load_codec

    with _stream_of(options.file) as stream:
        shorter = load_codec(options.model).cut(stream, options.rate).to_bytes()
    _write_whole(options.out, shorter)
    print(f"{options.out}: {len(shorter)} bytes, rate {options.rate} of 0 ... {stream.rate}")


def _evaluate(options: argparse.Namespace) -> None:
    from lic_train.data.datamodule import Signals
    from lic_train.data.sources import ImageFolder
    from lic_train.experiment import conclude, judge
    from lic_train.export import read_about

    about = read_about(options.model)
    source = ImageFolder(options.data)
    name = str(about.get("name", "codec"))
    points = judge(
        options.model,
        Signals(source),
        out_dir=options.out,
        dataset=options.data.resolve().name,
        name=name,
        lmbda=about.get("lmbda"),
        save_images=options.save_images,
        device=options.device,
        overrides=options.set,
    )
    conclude(points, name, options.out.resolve())


def _reencode(options: argparse.Namespace) -> None:
    from lic_train.data.datamodule import Signals
    from lic_train.data.sources import ImageFolder
    from lic_train.export import load_codec, read_about
    from lic_train.generations import STORAGES, report

    signals = list(Signals(ImageFolder(options.data)))
    chosen = (options.float, options.eight_bit)
    report(
        load_codec(options.model, options.device),
        signals,
        options.out,
        name=str(read_about(options.model).get("name", "codec")),
        dataset=options.data.resolve().name,
        rounds=options.rounds,
        rate=None if options.mixed else options.rate,
        storages=[s for s, keep in zip(STORAGES, chosen, strict=True) if keep or not any(chosen)],
        device=options.device,
    )


@contextmanager
def _stream_of(path: Path) -> Iterator[Bitstream]:
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


def _write_whole(path: Path, data: bytes) -> None:
    """Write all or nothing: a temporary file beside it, then a rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise ModelError(f"{path} cannot be written: {error.strerror}") from None


if __name__ == "__main__":
    main()
