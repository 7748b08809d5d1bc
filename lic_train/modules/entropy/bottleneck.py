"""The factorised prior of z: CompressAI's EntropyBottleneck, coded through :mod:`.symbols`."""

from __future__ import annotations

import torch
from compressai.entropy_models import EntropyBottleneck
from torch import Tensor

from lic_train.modules.entropy import accounts
from lic_train.modules.entropy.escapes import factorised_as_coded
from lic_train.modules.entropy.symbols import (
    SymbolDecoder,
    Tables,
    encode_symbols,
    information,
    table_bits,
)


def price(model: EntropyBottleneck, z: Tensor) -> tuple[Tensor, Tensor]:
    """z_hat of z ``(N, C, h, w)``, float32, noisy in training, and its likelihoods: CompressAI's,
    but out of training as the coder has them."""
    z_hat, likelihood = model(z.float())
    return z_hat, likelihood if model.training else factorised_as_coded(likelihood, z_hat, model)


def price_as_is(model: EntropyBottleneck, z_hat: Tensor) -> Tensor:
    """Likelihoods of z_hat ``(N, C, h, w)`` itself, float32: no noise is added in training."""
    rows = z_hat.float().transpose(0, 1).flatten(1)[:, None]
    likelihood = model.likelihood_lower_bound(model._likelihood(rows)[0])
    return likelihood.reshape(z_hat.transpose(0, 1).shape).transpose(0, 1)


def encode_bottleneck(model: EntropyBottleneck, z: Tensor) -> tuple[Tensor, bytes]:
    """Code z ``(1, N, h, w)``; return z_hat, float32 and equal to the decoder's, and the chunk."""
    medians = _medians(model)
    symbols = torch.round(z.float() - medians)
    coded = symbols.int().flatten().cpu().numpy(), _channel_indexes(z.shape), Tables(model)
    chunk = encode_symbols(*coded)

    def entry() -> accounts.Entry:
        bits, escaped = table_bits(*coded)
        return accounts.Entry(len(chunk), bits, information(price(model, z)[1]), escaped)

    accounts.add(entry)
    return symbols + medians, chunk


def decode_bottleneck(model: EntropyBottleneck, chunk: bytes, height: int, width: int) -> Tensor:
    """z_hat ``(1, N, height, width)``, float32, on the model's device."""
    medians = _medians(model)
    shape = torch.Size((1, model.channels, height, width))
    symbols = SymbolDecoder(chunk, Tables(model), shape.numel()).next(_channel_indexes(shape))
    return torch.from_numpy(symbols).to(medians).reshape(shape) + medians


def _medians(model: EntropyBottleneck) -> Tensor:
    return model.quantiles[:, 0, 1].detach().reshape(1, -1, 1, 1)


def _channel_indexes(shape: torch.Size):  # type: ignore[no-untyped-def]
    _, channels, height, width = shape
    return torch.arange(channels).repeat_interleave(height * width).numpy()
