"""Any image network with CompressAI's methods: trained, coded and judged like our own codecs."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from compressai.layers import MaskedConv2d
from torch import Tensor, nn

from lic_train.codec import Codec, Reconstruction
from lic_train.codec.contract import Shape, bits
from lic_train.errors import BitstreamError, LicError, ModelError
from lic_train.modules.codecs.base.architectures import build_architecture
from lic_train.modules.codecs.base.transform import float32, joined
from lic_train.modules.entropy.guarded import Record, guarded
from lic_train.modules.entropy.symbols import CHECK_BYTES, refuse_short
from lic_train.modules.layers.padding import ceil_div, crop_to, pad_to_multiple

STRIDE = 64
"""Sides are padded to multiples of it where the network does not say ``downsampling_factor``."""


class Layout(NamedTuple):
    """What a network writes for an image of one stride a side."""

    strings: Any
    """As ``compress`` returns them; each string stands for itself."""
    shape: Any
    """Its ``shape``: the last two numbers of every size grow with the image."""
    symbols: int


class CompressAICodec(Codec):
    """A network of CompressAI (Bégaint et al. 2020, arXiv 2011.03029) or of its interface.

    ::

        x -> pad -> net.compress -> strings -> chunks, checksum of the symbols
        chunks -> strings, shape of the image's size -> net.decompress -> crop -> x_hat

    The network has ``forward(x) -> {"x_hat", "likelihoods"}``, ``compress(x) -> {"strings",
    "shape"}`` and ``decompress(strings, shape) -> {"x_hat"}``. It trains in float32, as it was
    written for. Out of training it runs in float64, one image at a time, so that the tables its
    decoder chooses are the encoder's on other threads and devices; its coder is under guard.
    A network with ``levels`` and an argument ``s`` has as many rates, and in training draws one a
    batch, at its own lambda. Not reproduced: CompressAI's centred padding with zeros; here the last
    row and column are repeated. See :meth:`caveats` for what cannot be promised.

    Args:
        arch: name of a network of CompressAI, e.g. ``"mbt2018-mean"``.
        quality: whose widths it gets, see :mod:`.base.architectures`.
        N: channels of the transforms instead of the quality's.
        M: channels of y instead of the quality's.
        net: a network of one's own instead; ``arch`` is not looked at.

    Raises:
        ValueError: there is no such architecture, quality or width.
        ModelError: ``net`` has not got these methods.
    """

    def __init__(
        self,
        arch: str = "mbt2018-mean",
        quality: int | None = None,
        N: int | None = None,
        M: int | None = None,
        net: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.net: Any = build_architecture(arch, quality, N, M) if net is None else net
        for method in ("forward", "compress", "decompress"):
            if not callable(getattr(self.net, method, None)):
                raise ModelError(f"{type(self.net).__name__} has no {method}: it is no such codec")
        if getattr(self.net, "vr_entbttlnck", False):
            raise ModelError("a z of variable rate has tables of its own for every rate: refused")
        self.stride = int(getattr(self.net, "downsampling_factor", STRIDE))
        ladder = "s" in inspect.signature(self.net.forward).parameters
        self.num_rates = int(getattr(self.net, "levels", 1)) if ladder else 1
        self.own_lmbda = self.num_rates > 1
        self._layout: Layout | None = None

    # --- reconstructions -------------------------------------------------------------------------
    def forward(self, x: Tensor) -> list[Reconstruction]:
        if self.training:
            rate = int(torch.randint(self.num_rates, ())) if self.num_rates > 1 else 0
            with float32(x):
                result = self.net(pad_to_multiple(x.float(), self.stride), **self._at(rate))
            return [self._reconstruction(result, x, rate)]
        return [self._in_eval(x, rate) for rate in range(self.num_rates)]

    def _in_eval(self, x: Tensor, rate: int) -> Reconstruction:
        """One image at a time, as in coding: in a batch a float may get another last bit."""
        parts = []
        for image in x.split(1):
            result = self._exactly("forward", self._padded(image), **self._at(rate))
            parts.append(self._reconstruction(result, image, rate))
        return joined(parts)._replace(weight=1 / self.num_rates)

    def _reconstruction(self, result: Any, x: Tensor, rate: int) -> Reconstruction:
        x_hat = crop_to(result["x_hat"].float(), x.shape[-2], x.shape[-1])
        likelihoods = {name: p.float() for name, p in result["likelihoods"].items()}
        if self.num_rates == 1:
            return Reconstruction(x_hat, x, likelihoods)
        lmbda = float(self.net.lmbda[rate])
        return Reconstruction(x_hat, x, likelihoods, f"rate{rate}", lmbda=lmbda)

    @torch.no_grad()
    def reconstruct(self, x: Tensor, rate: int = -1) -> Tensor:
        return self._in_eval(x, rate % self.num_rates).x_hat

    @torch.no_grad()
    def estimate(self, x: Tensor, rate: int = -1) -> float:
        r = self._in_eval(x, rate % self.num_rates)
        return sum(bits(p).item() for p in r.likelihoods.values())

    # --- files -----------------------------------------------------------------------------------
    def encode(self, x: Tensor, rate: float) -> list[bytes]:
        layout, record = self._known_layout(), Record()
        padded = self._padded(x)
        with guarded(self.net, record):
            written = self._exactly("compress", padded, **self._at(int(rate)))
        chunks: list[bytes] = []
        strings = _mapped(written["strings"], chunks.append)
        grid = self._grid(tuple(x.shape))
        follows = _grown(layout.shape, grid) == _plain(written["shape"])
        if not follows or _mapped(layout.strings, _nothing) != strings or (
            record.encoded != layout.symbols * grid[0] * grid[1]
        ):  # fmt: skip
            raise ModelError(
                f"what {type(self.net).__name__} writes does not follow from the image's size: "
                "its files cannot be decoded without it"
            )
        return [*chunks, record.checksum]

    def decode(self, chunks: list[bytes], shape: Shape, rate: int) -> Tensor:
        layout = self._known_layout()
        *coded, checksum = chunks
        places: list[None] = []
        _mapped(layout.strings, lambda _: places.append(None))
        fits = len(coded) == len(places) and len(checksum) == CHECK_BYTES
        if not fits or len(shape) != 4 or shape[1] != 3:
            raise BitstreamError("the stream does not hold what this codec writes")
        grid = self._grid(shape)
        count = layout.symbols * grid[0] * grid[1]
        refuse_short(b"".join(coded), count)
        record, left = Record(count), iter(coded)
        strings = _mapped(layout.strings, lambda _: next(left))
        size = _sized(layout.shape, grid)
        with guarded(self.net, record):
            decoded = self._exactly("decompress", strings, size, **self._at(rate))
        if record.checksum != checksum:
            raise BitstreamError(
                "the decoded latents are not those that were coded: the stream is damaged, or this "
                "machine computes other entropy parameters than the encoder did"
            )
        return crop_to(decoded["x_hat"].float(), shape[-2], shape[-1])

    def caveats(self) -> list[str]:
        said = [
            "entropy parameters are not on a grid: files decode on another device as far as float64"
            " chooses the same tables there; a checksum of the symbols tells where it does not",
            "a latent is coded with the next larger scale that has a table, as in CompressAI: files"
            " are about 1 % longer than with the nearest",
        ]
        if any(isinstance(module, MaskedConv2d) for module in self.net.modules()) and not hasattr(
            self.net, "latent_codec"
        ):
            said.append("its context is serial: coding takes a step for every position of y")
        return said

    def update(self, solve_quantiles: bool = False) -> None:
        for module in self.net.modules():
            if isinstance(module, MaskedConv2d):
                # As its forward does, which would otherwise change weights that have a hash.
                mask: Any = module.mask
                module.weight.data *= mask
        self._layout = None
        super().update(solve_quantiles)

    def _known_layout(self) -> Layout:
        """Learnt by coding a grey image of one stride a side."""
        if self._layout is None:
            record = Record()
            grey = torch.full((1, 3, self.stride, self.stride), 0.5)
            with guarded(self.net, record):
                written = self._exactly("compress", self._padded(grey), **self._at(0))
            strings = _mapped(written["strings"], _nothing)
            self._layout = Layout(strings, _plain(written["shape"]), record.encoded)
        return self._layout

    def _padded(self, x: Tensor) -> Tensor:
        return pad_to_multiple(x.to(next(self.net.parameters()).device).double(), self.stride)

    def _grid(self, shape: Shape) -> tuple[int, int]:
        return ceil_div(shape[-2], self.stride), ceil_div(shape[-1], self.stride)

    def _at(self, rate: int) -> dict[str, int]:
        return {"s": rate} if self.num_rates > 1 else {}

    @torch.no_grad()
    def _exactly(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the network with float64 weights, and what it makes is float64 too.

        Raises:
            ModelError: or BitstreamError in decoding, whatever the network fails with.
        """
        kept = self.net.state_dict(keep_vars=True).items()
        weights = {f"net.{n}": p.double() for n, p in kept if p.is_floating_point()}
        decoding, device = method == "decompress", next(self.net.parameters()).device.type
        try:
            with _float64_by_default(), torch.autocast(device, enabled=False), warnings_off():
                call = _Method(self.net, method)
                return torch.func.functional_call(call, weights, arguments, options)
        except LicError:
            raise
        except Exception as error:  # of any kind: it is somebody else's code
            kind = BitstreamError if decoding else ModelError
            said = " ".join(str(error).split())[:200]
            name = type(self.net).__name__
            raise kind(f"{name}.{method} failed ({type(error).__name__}: {said})") from error


class _Method(nn.Module):
    """A method of a network as the forward of a module."""

    def __init__(self, net: nn.Module, method: str) -> None:
        super().__init__()
        self.net, self.method = net, method

    def forward(self, *arguments: Any, **options: Any) -> Any:
        return getattr(self.net, self.method)(*arguments, **options)


@contextmanager
def _float64_by_default() -> Iterator[None]:
    """Tensors that a network makes without saying their type have that of its weights."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def warnings_off() -> Iterator[None]:
    """Networks warn at every call that a GPU does not help them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _nothing(string: bytes) -> None:
    return None


def _mapped(strings: Any, one: Any) -> Any:
    """Nested lists of strings with each string replaced by ``one`` of it."""
    if isinstance(strings, list | tuple):
        return [_mapped(inner, one) for inner in strings]
    if strings is None or isinstance(strings, bytes):
        return one(strings)
    raise ModelError(f"compress returned a {type(strings).__name__} among its strings")


def _plain(shape: Any) -> Any:
    """Nested sizes as lists and dictionaries of whole numbers."""
    if isinstance(shape, dict):
        return {key: _plain(value) for key, value in shape.items()}
    if isinstance(shape, list | tuple):
        return [_plain(value) for value in shape]
    return int(shape)


def _grown(shape: Any, grid: tuple[int, int]) -> Any:
    """Sizes of an image of one stride to those of one of ``grid`` strides."""
    if isinstance(shape, dict):
        return {key: _grown(value, grid) for key, value in shape.items()}
    if shape and all(isinstance(value, int) for value in shape):
        return [*shape[:-2], *(side * n for side, n in zip(shape[-2:], grid, strict=True))]
    return [_grown(value, grid) for value in shape]


def _sized(shape: Any, grid: tuple[int, int]) -> Any:
    """As :func:`_grown`, each size as ``torch.Size``, as networks compare them."""
    if isinstance(shape, dict):
        return {key: _sized(value, grid) for key, value in shape.items()}
    if shape and all(isinstance(value, int) for value in shape):
        return torch.Size(_grown(shape, grid))
    return [_sized(value, grid) for value in shape]
