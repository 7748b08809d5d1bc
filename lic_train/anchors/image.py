"""Conventional codecs that code the same images, through maintained libraries.

A file here is the encoded buffer itself: writing it to disk would change neither its length nor
its pixels. What is not installed is absent and says so.
"""

from __future__ import annotations

import importlib
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor

from lic_train.anchors.base import Anchor, Coded
from lic_train.errors import DataError


@dataclass(frozen=True)
class ImageAnchor(Anchor):
    """One codec that Pillow writes, by itself or with a plugin.

    Args:
        name: what the rows say in ``codec``.
        title: what people call it.
        format: Pillow's name of the file format.
        save_settings: keyword arguments of ``Image.save`` at a quality; nothing that would make the
            file depend on the number of cores.
        qualities: the ladder, coarse to fine.
        plugin: package that teaches Pillow the format; ``""``: it is built in.
        library: who does the work, with its version.
    """

    name: str
    title: str
    format: str
    save_settings: Callable[[int], dict[str, Any]]
    qualities: tuple[int, ...]
    library: Callable[[], str]
    plugin: str = ""

    def absent(self) -> str:
        """Why it cannot be used here, one line; ``""``: it can."""
        try:
            if self.plugin:
                importlib.import_module(PLUGINS[self.plugin])
            self.library()
        except (ImportError, KeyError, OSError) as error:
            how = "pip install 'lic_train[anchors]'" if self.plugin else "another build of pillow"
            return f"{self.title} is absent ({str(error).strip(chr(39))}): it takes {how}"
        return ""

    def describe(self) -> dict[str, str]:
        """How its numbers are made: versions, settings (Q: the quality) and the ladder."""
        low, high = self.settings(self.qualities[0]), self.settings(self.qualities[-1])
        settings = {k: value if high[k] == value else "Q" for k, value in low.items()}
        plugin = f", {self.plugin} {version(self.plugin)}" if self.plugin else ""
        return {
            "codec": self.name,
            "title": self.title,
            "through": f"pillow {PIL.__version__}{plugin}",
            "library": self.library(),
            "settings": ", ".join(f"{k}={v}" for k, v in settings.items()),
            "qualities": ", ".join(map(str, self.qualities)),
        }

    def settings(self, quality: int) -> dict[str, Any]:
        """Keyword arguments of ``Image.save``."""
        return self.save_settings(quality)

    def code(self, pixels: Tensor, quality: int) -> Coded:
        """Encode and decode one image.

        Args:
            pixels: ``(3, H, W)``, ``uint8``.
            quality: in the anchor's own units.

        Raises:
            DataError: the codec refuses the image, e.g. for its size.
        """
        if pixels.ndim != 3:
            raise DataError(f"{self.title} codes images, this is a clip")
        image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
        buffer = io.BytesIO()
        start = time.perf_counter()
        try:
            image.save(buffer, format=self.format, **self.settings(quality))
            middle = time.perf_counter()
            decoded = np.array(Image.open(buffer).convert("RGB"))
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            size = f"{image.width}x{image.height}"
            reason = " ".join(str(error).split())
            raise DataError(f"{self.title} cannot code an image of {size} ({reason})") from error
        decode_s = time.perf_counter() - middle
        tensor = torch.from_numpy(decoded).permute(2, 0, 1).contiguous()
        return Coded(buffer.getvalue(), tensor, middle - start, decode_s)


# The fine steps at the bottom let the curve reach the rates at which learned codecs are compared.
# JPEG's quality 1 is left out: its tables saturate and it codes as 2 does.
LADDER = (2, 3, 4, 5, 6, 8, *range(10, 100, 5))
# Of slower codecs, whose curves are as smooth.
SHORT = (2, 5, 10, 15, 20, 25, 30, 40, 50, 60, 70, 80, 90, 95)
PLUGINS = {"pillow-heif": "pillow_heif", "pillow-jxl-plugin": "pillow_jxl"}


def _built_in(feature: str, name: str) -> Callable[[], str]:
    def library() -> str:
        from PIL import features

        if not (found := features.version(feature)):
            raise KeyError(f"this pillow was built without {name}")
        return f"{name} {found}"

    return library


def _avif() -> str:
    from PIL import _avif as pillow_avif

    coders = pillow_avif.codec_versions()  # type: ignore[attr-defined]
    return f"libavif {pillow_avif.libavif_version}, {coders}"  # type: ignore[attr-defined]


def _x265() -> str:
    import pillow_heif

    pillow_heif.register_heif_opener()  # as importing it does not
    info = pillow_heif.libheif_info()
    if "x265" not in info["encoders"]:
        raise KeyError("this pillow-heif was built without x265")
    return f"{info['encoders']['x265']} in libheif {info['libheif']}"


JPEG = ImageAnchor(
    "jpeg",
    "JPEG",
    "JPEG",
    lambda q: {"quality": q, "subsampling": "4:2:0", "optimize": True},
    LADDER,
    _built_in("libjpeg_turbo", "libjpeg-turbo"),
)
WEBP = ImageAnchor(
    "webp",
    "WebP",
    "WEBP",
    lambda q: {"quality": q, "method": 6},
    LADDER,
    _built_in("webp", "libwebp"),
)
JPEG2000 = ImageAnchor(
    "jpeg2000",
    "JPEG 2000",
    "JPEG2000",
    lambda q: {"quality_mode": "dB", "quality_layers": [q], "irreversible": True, "mct": 1},
    tuple(range(20, 50, 2)),
    _built_in("jpg_2000", "openjpeg"),
)
AVIF = ImageAnchor(
    "avif",
    "AVIF",
    "AVIF",
    # libaom makes other files with one thread than with more.
    lambda q: {"quality": q, "subsampling": "4:4:4", "speed": 4, "max_threads": 1},
    SHORT,
    _avif,
)
JPEGXL = ImageAnchor(
    "jpegxl",
    "JPEG XL",
    "JXL",
    lambda q: {"quality": q, "effort": 7, "num_threads": 1},
    SHORT,
    lambda: "libjxl of pillow-jxl-plugin",  # which does not tell its version
    "pillow-jxl-plugin",
)
HEVC = ImageAnchor(
    "hevc",
    "HEVC intra (x265)",
    "HEIF",
    # Rows coded in parallel (wpp) cost 2 % more bits, and come about on several cores only.
    lambda q: {"quality": q, "chroma": 444, "enc_params": {"tune": "psnr", "x265:wpp": "0"}},
    SHORT[:-2],
    _x265,
    "pillow-heif",
)
ANCHORS = {anchor.name: anchor for anchor in (JPEG, WEBP, JPEG2000, AVIF, JPEGXL, HEVC)}
"""All of images. HEVC stands for BPG, which is x265 in a smaller container and has no package."""
