"""Any image file becomes 8-bit RGB with a note of what was converted, or one clear error."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from lic_train.errors import DataError

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm"})

ORIENTATION_TAG = 0x0112  # EXIF; 1 = upright
TIFF_BITS_TAG, TIFF_PHOTOMETRIC_TAG = 258, 262

# Pillow modes without transparency that `convert("RGB")` gets right.
OPAQUE_MODES = {
    "RGB": "",
    "RGBX": "unused fourth channel dropped",
    "1": "black-and-white repeated to RGB",
    "L": "greyscale repeated to RGB",
    "P": "palette expanded",
    "CMYK": "CMYK converted to RGB",
    "YCbCr": "YCbCr converted to RGB",
    "LAB": "CIELAB converted to RGB",
    "HSV": "HSV converted to RGB",
}
ALPHA_MODES = {
    "RGBA": "alpha blended on white",
    "RGBa": "alpha blended on white",
    "LA": "greyscale repeated to RGB, alpha blended on white",
    "La": "greyscale repeated to RGB, alpha blended on white",
    "PA": "palette expanded, alpha blended on white",
}
GREY_16_MODES = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})


class Picture(NamedTuple):
    """A decoded image.

    Attributes:
        pixels: uint8 ``(3, H, W)``, RGB. In memory the channels are last: crops of such a tensor
            are resized about twice as fast. Rows may be Pillow's own, with four bytes per pixel.
        note: what was converted, "" for a plain 8-bit RGB file.
    """

    pixels: Tensor
    note: str


def read_image(path: str | Path) -> Picture:
    """Decode one image file completely.

    Colour profiles are not applied: sample values are taken as sRGB. Of a file with several frames
    the first is read. Transparency is blended on white.

    Raises:
        DataError: the file is missing, a folder, empty, not an image, truncated or corrupt, larger
            than Pillow's limit against decompression bombs, or of a kind that has no defined 8-bit
            meaning (floating point, 32-bit integers). The text names the file.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path}: is a folder, not an image; give the path of a file")
    try:
        # Not by path: Pillow 13 would map an uncompressed grey TIFF into memory, and scrambles
        # it if its EXIF orientation says to turn it by 90 degrees.
        with path.open("rb") as file:
            return _decode_open(file, path.stat().st_size, str(path))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path") from None
    except PermissionError:
        raise DataError(f"{path}: may not be read; change its permissions") from None


def decode_image(data: bytes, name: str) -> Picture:
    """Decode an image file in memory, see ``read_image``.

    Args:
        data: bytes of the file.
        name: what errors call it.

    Raises:
        DataError: as ``read_image``.
    """
    return _decode_open(io.BytesIO(data), len(data), name)


def _decode_open(file: BinaryIO, size: int, name: str) -> Picture:
    try:
        if size == 0:
            raise DataError("is empty (0 bytes); copy it again or remove it")
        with warnings.catch_warnings():
            # Pillow only warns up to twice its limit; an unattended run must not resume from there.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                return _decode(image)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise DataError(
            f"{name}: has more pixels than Pillow's limit against decompression bombs "
            f"({Image.MAX_IMAGE_PIXELS}); make it smaller or raise PIL.Image.MAX_IMAGE_PIXELS"
        ) from None
    except UnidentifiedImageError:
        raise DataError(f"{name}: is not an image that Pillow can read; remove it") from None
    except Exception as error:
        # Decoders meet corrupt bytes with OSError, SyntaxError, ValueError, struct.error and more:
        # there is no common base class to name here.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{name}: is corrupt or truncated ({reason}); copy it again or remove it"
        ) from error


def _decode(image: ImageFile.ImageFile) -> Picture:
    """Load the open image and convert it; DataError texts here lack the path."""
    notes = []
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        notes.append(f"first of {frames} frames")
    # Both are gone after load(): Pillow clears `tile` and turns TIFFs upright by itself.
    deep = _has_16_bit_samples(image)
    orientation = image.getexif().get(ORIENTATION_TAG, 1)
    image.load()
    upright: Image.Image = image
    if orientation in range(2, 9):
        upright = ImageOps.exif_transpose(image)
        notes.append("EXIF orientation applied")

    if deep and "transparency" in image.info:
        raise DataError("has 16-bit samples and a transparent colour; save it with 8 bits or alpha")
    if image.mode in GREY_16_MODES or image.mode == "I":
        _require_full_scale_grey(image)
        grey = np.array(upright).astype(np.uint32)
        # 65535 = 255 * 257, so this is exact rounding with white at 255.
        grey8 = ((grey + 128) // 257).astype(np.uint8)
        rgb = Image.fromarray(grey8).convert("RGB")
        notes += ["16-bit scaled to 8-bit", OPAQUE_MODES["L"]]
    else:
        rgb, note = _to_rgb(upright)
        notes += ["16-bit reduced to 8-bit"] if deep else []
        notes += [note] if note else []
    return Picture(_to_tensor(rgb), ", ".join(notes))


def _has_16_bit_samples(image: ImageFile.ImageFile) -> bool:
    """Whether the file stores 16 bits a sample, which Pillow's mode hides for colour images.

    The decoder's arguments tell: a raw mode such as "RGB;16B" (PNG, TIFF), a white level (PPM).
    """
    for tile in image.tile:
        for argument in tile.args if isinstance(tile.args, tuple) else (tile.args,):
            if isinstance(argument, str) and ";16" in argument:
                return True
            if image.format == "PPM" and isinstance(argument, int) and argument > 255:
                return True
    return False


def _require_full_scale_grey(image: ImageFile.ImageFile) -> None:
    """Refuse deep greyscale whose white is not known to be 65535."""
    if image.format in ("PNG", "PPM"):  # Pillow's PPM reader rescales to 65535
        return
    if image.format == "TIFF" and image.mode in GREY_16_MODES:
        tags = getattr(image, "tag_v2", {})
        bits, photometric = tags.get(TIFF_BITS_TAG), tags.get(TIFF_PHOTOMETRIC_TAG)
        if bits in (16, (16,)) and photometric == 1:  # unsigned, black is zero
            return
    raise DataError(
        f"holds {image.mode} integers whose white level is not defined; save it as 8-bit or "
        "16-bit PNG"
    )


def _to_rgb(image: Image.Image) -> tuple[Image.Image, str]:
    """8-bit image of any mode to mode RGB, and the note."""
    mode = image.mode
    if mode in ALPHA_MODES or (mode in OPAQUE_MODES and image.has_transparency_data):
        if mode == "La":  # Pillow has no direct conversion
            image = image.convert("LA")
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        note = ALPHA_MODES.get(mode)
        if note is None:
            note = ", ".join(filter(None, [OPAQUE_MODES[mode], ALPHA_MODES["RGBA"]]))
        return Image.alpha_composite(white, rgba).convert("RGB"), note
    if mode in OPAQUE_MODES:
        return image if mode == "RGB" else image.convert("RGB"), OPAQUE_MODES[mode]
    if mode == "F":
        raise DataError(
            "holds floating-point (HDR) samples, which have no defined white; tone-map it to 8 bits"
        )
    raise DataError(f"has the unsupported Pillow mode {mode!r}; save it as 8-bit RGB")


def _to_tensor(rgb: Image.Image) -> Tensor:
    """Mode RGB to uint8 (3, H, W), channels-last in memory: Pillow's own, so that a crop is all
    that is copied, where that is in one piece (up to 16 MB)."""
    try:
        pixels = from_dlpack(pa.array(rgb).values).view(rgb.height, rgb.width, 4)[..., :3]
    except ValueError:
        pixels = torch.from_numpy(np.array(rgb))
    return pixels.permute(2, 0, 1)


def _to_pillow(pixels: Tensor) -> Image.Image:
    """uint8 (3, H, W) to mode RGB."""
    if pixels.dtype != torch.uint8 or pixels.ndim != 3 or pixels.shape[0] != 3:
        raise ValueError(f"expected uint8 (3, H, W), got {pixels.dtype} {tuple(pixels.shape)}")
    return Image.fromarray(pixels.cpu().permute(1, 2, 0).contiguous().numpy())


def shrink(pixels: Tensor, longest_side: int) -> Tensor:
    """Downscale an image or clip with Lanczos so that neither side exceeds ``longest_side`` pixels.

    The aspect ratio is kept to the nearest pixel; an image that already fits is returned as it is.

    Args:
        pixels: uint8 ``(..., 3, H, W)``.
        longest_side: at least 1.

    Raises:
        ValueError: the image must be downscaled and has another type or shape.
    """
    height, width = pixels.shape[-2:]
    scale = longest_side / max(height, width)
    if scale >= 1:
        return pixels
    if pixels.ndim > 3:
        return torch.stack([shrink(frame, longest_side) for frame in pixels])
    return resize(pixels, max(1, round(height * scale)), max(1, round(width * scale)))


def resize(pixels: Tensor, height: int, width: int) -> Tensor:
    """Resample uint8 ``(3, H, W)`` with antialiased Lanczos to uint8 ``(3, height, width)``.

    Raises:
        ValueError: ``pixels`` has another type or shape.
    """
    return _to_tensor(_to_pillow(pixels).resize((width, height), Image.Resampling.LANCZOS))


def listing(folder: Path) -> str:
    """Return the first names in a folder on one line; "nothing" if it is empty or not a folder."""
    paths = folder.iterdir() if folder.is_dir() else []
    names = sorted(path.name + "/" * path.is_dir() for path in paths)
    return ", ".join(names[:8]) + ", ..." * (len(names) > 8) or "nothing"


def list_images(root: str | Path) -> list[Path]:
    """Return the image files below a folder, sorted by relative path.

    Images are recognised by their extension, in upper or lower case. Hidden files and folders are
    skipped; links to files are followed, links to folders are not.

    Raises:
        DataError: ``root`` is missing, not a folder, unreadable or without images.
    """
    root = Path(root).expanduser()
    if not root.exists():
        raise DataError(f"{root}: no such folder; check the path")
    if not root.is_dir():
        raise DataError(f"{root}: is a file; give the folder that holds the images")

    def fail(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be listed ({error.strerror}); check permissions")

    found: list[Path] = []
    for folder, subfolders, files in os.walk(root, onerror=fail):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        paths = [Path(folder, name) for name in files if not name.startswith(".")]
        found += [path for path in paths if path.suffix.lower() in EXTENSIONS]
    if not found:
        kinds = " ".join(sorted(extension[1:] for extension in EXTENSIONS))
        raise DataError(f"{root}: holds no images ({kinds}); check the path")
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())
