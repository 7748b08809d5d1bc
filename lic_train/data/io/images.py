"""Any image file becomes 8-bit RGB with a note of what was converted, or one clear error."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from PIL import Image, ImageFile, UnidentifiedImageError
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from lic_train.errors import DataError
from lic_train.utils.limits import limit_pillow, too_many_pixels

ORIENTATION_TAG = 0x0112  # EXIF; 1 = upright
TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image of each orientation upright."""
UNREADABLE = "unreadable metadata ignored"
HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
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

    Metadata never decides whether pixels are good: what of it cannot be read is left out, with a
    note.

    Raises:
        DataError: the file is missing, no file, empty, not an image, truncated or corrupt, larger
            than :func:`max_pixels`, or of a kind that has no defined 8-bit meaning (floating
            point, 32-bit integers). The text names the file.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path}: is a folder, not an image; give the path of a file")
    try:
        if path.exists() and not path.is_file():  # a pipe would never end
            raise DataError(f"{path}: is no file; give the path of an image")
        # Not by path: Pillow 13 would map an uncompressed grey TIFF into memory, and scrambles
        # it if its EXIF orientation says to turn it by 90 degrees.
        with path.open("rb") as file:
            return _decode_open(file, path.stat().st_size, str(path))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path") from None
    except PermissionError:
        raise DataError(f"{path}: may not be read; change its permissions") from None
    except OSError as error:  # a link that leads to itself, a name too long
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


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
        try:
            return _decode_guarded(file)
        except DataError:
            raise
        except Exception:
            file.seek(0)
            plain = without_metadata(file.read())
            if plain is None:
                raise
            pixels, note = _decode_guarded(io.BytesIO(plain))
            return Picture(pixels, ", ".join(filter(None, [note, UNREADABLE])))
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    except UnidentifiedImageError:
        raise DataError(f"{name}: {_unidentified(file)}") from None
    except Exception as error:
        # Decoders meet corrupt bytes with OSError, SyntaxError, ValueError, struct.error and more:
        # there is no common base class to name here.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{name}: is corrupt or truncated ({reason}); copy it again or remove it"
        ) from error


def _decode_guarded(file: BinaryIO) -> Picture:
    """Decode, under the limit of pixels, and with what Python would warn of among the notes."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        # Pillow only warns up to twice its limit; an unattended run must not resume from there.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        limit_pillow()
        try:
            with Image.open(file) as image:
                picture = _decode(image)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise DataError(too_many_pixels("the image")) from None
    if any(issubclass(w.category, UserWarning) for w in warned) and UNREADABLE not in picture.note:
        picture = Picture(picture.pixels, ", ".join(filter(None, [picture.note, UNREADABLE])))
    return picture


def _unidentified(file: BinaryIO) -> str:
    """Why Pillow cannot tell what the file is, where its first bytes say it."""
    file.seek(0)
    head = file.read(64)
    if head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS:
        return "is HEIC, which Pillow cannot read; convert it to PNG or JPEG"
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS and not the image; run: git lfs pull"
    return "is not an image that Pillow can read; remove it"


def _decode(image: ImageFile.ImageFile) -> Picture:
    """Load the open image and convert it; DataError texts here lack the path."""
    notes = []
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        notes.append(f"first of {frames} frames")
    # Both are gone after load(): Pillow clears `tile` and turns TIFFs upright by itself. Of a PNG,
    # asking for the EXIF loads the pixels, whose faults must not pass for those of the EXIF.
    deep, tiff = _has_16_bit_samples(image), image.format == "TIFF"
    orientation, readable = _orientation(image) if tiff else (1, True)
    image.load()
    if not tiff:
        orientation, readable = _orientation(image)
    if not readable:
        notes.append(UNREADABLE)
    if has_other_profile(image.info.get("icc_profile")):
        notes.append("colour profile not applied")
    upright: Image.Image = image
    if not tiff and orientation in TRANSPOSITIONS:
        upright = image.transpose(TRANSPOSITIONS[orientation])
    if orientation in TRANSPOSITIONS:
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


def _orientation(image: ImageFile.ImageFile) -> tuple[Any, bool]:
    """EXIF orientation, 1 where there is none, and whether the EXIF could be read."""
    try:
        return image.getexif().get(ORIENTATION_TAG, 1), True
    except Exception:  # as many kinds as there are ways to damage it
        return 1, False


def has_other_profile(profile: bytes | None) -> bool:
    """Whether an ICC profile says that the samples are not sRGB; its own description decides."""
    if not profile:
        return False
    return b"sRGB" not in profile and "sRGB".encode("utf-16-be") not in profile


def without_metadata(data: bytes) -> bytes | None:
    """A PNG file with what its pixels need and no more; None where it is none.

    Pillow refuses the pixels of a PNG whose texts, profile or gamma it cannot take.
    """
    if not data.startswith(PNG_SIGNATURE):
        return None
    kept, position = [PNG_SIGNATURE], len(PNG_SIGNATURE)
    while position + 12 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        if kind[:1].isupper() or kind in (b"tRNS", b"eXIf"):
            kept.append(data[position:end])
        position = end
    return b"".join(kept)


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
