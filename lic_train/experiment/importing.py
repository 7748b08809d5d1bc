"""A checkpoint of another program becomes a run folder, as if it had been trained here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from lic_train.codec import Codec
from lic_train.codec.blueprint import blueprint, trusted_targets
from lic_train.codec.checkpoint import Tensors, fitted, named_like, read_checkpoint
from lic_train.codec.export import save_codec
from lic_train.codec.weights import check_quantiles
from lic_train.errors import ModelError
from lic_train.utils.configs import config_dir
from lic_train.utils.plain import printable

ADAPTER = "compressai"
"""The model in ``conf/model`` that takes networks of others; its network is called ``NET``."""
NET = "net"


class Imported(NamedTuple):
    """What was imported.

    Attributes:
        codec: in eval mode with tables, as it was written.
        key: of the weights in the checkpoint; "" if they were all there was.
        others: keys of other sets of weights that the checkpoint has.
    """

    codec: Codec
    key: str
    others: list[str]


def import_checkpoint(
    checkpoint: Path,
    out: Path,
    *,
    arch: str | None = None,
    quality: int | None = None,
    cls: str | None = None,
    arguments: Sequence[str] = (),
    key: str | None = None,
    lmbda: float | None = None,
    name: str | None = None,
) -> Imported:
    """Write the export of a checkpoint's weights; coder tables are built anew.

    Args:
        checkpoint: see :func:`read_checkpoint`.
        out: the run folder.
        arch: name of a network in CompressAI; its widths are those of the checkpoint.
        quality: instead, those of this quality.
        cls: ``package.module:Class`` of a network of one's own. It is imported: its code runs.
        arguments: of that class, ``"key=value"``.
        key: which weights of several.
        lmbda: the trade-off that they were trained for, for tables.
        name: what tables call the codec; ``arch`` or the class.

    Raises:
        ModelError: the checkpoint cannot be read or is not of this network, or there is no such
            network.
    """
    tensors, found, others = read_checkpoint(checkpoint, key)
    if cls is None:
        model = _of_arch(str(arch), quality, tensors)
    else:
        model = _of_class(cls, arguments)
    codec = _built(model, cls)
    net = codec.part(NET)
    weights = fitted(tensors, net.state_dict(), cls or str(arch))
    nn.Module.load_state_dict(net, weights, strict=False)  # CompressAI's own wants tables
    check_quantiles(codec)
    codec.eval().update()
    save_codec(
        out,
        codec,
        model,
        name=name or (cls.rpartition(":")[2] if cls else arch),
        lmbda=lmbda,
        imported={
            "file": checkpoint.name,
            "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
            "weights": found,
        },
    )
    return Imported(codec, found, others)


def _of_arch(arch: str, quality: int | None, tensors: Tensors) -> DictConfig:
    """The model's config at the widths of a quality or, without one, of the checkpoint.

    N is what the first layer of g_a gives and M what the last one does.
    """
    model = _model(
        [f"model.arch={arch}", f"model.quality={'null' if quality is None else quality}"]
    )
    for width, place in (("N", 0), ("M", -1)) if quality is None else ():
        state = _built(model, None).part(NET).state_dict()
        layers = [name for name, t in state.items() if name.startswith("g_a.") and t.ndim == 4]
        found = named_like(tensors, state).get(layers[place]) if layers else None
        if found is None or found.ndim != 4 or found.shape[0] == state[layers[place]].shape[0]:
            continue
        try:
            _built(changed := _with(model, width, found.shape[0]), None)
        except ModelError:  # it has no such width: that keys differ says it better
            continue
        model = changed
    return model


def _with(model: DictConfig, key: str, value: int) -> DictConfig:
    return DictConfig({**model, key: value})


def _of_class(cls: str, arguments: Sequence[str]) -> DictConfig:
    (target,) = trusted_targets([cls])
    given: dict[str, Any] = {"_target_": target}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or not key.isidentifier() or key.startswith("_"):
            raise ModelError(f"--set {printable(argument)}: give KEY=VALUE, an argument of {cls}")
        try:
            given[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ModelError(f"--set {printable(argument)} cannot be read") from None
    model = _model([])
    return DictConfig({"_target_": model._target_, NET: given})


def _model(overrides: list[str]) -> DictConfig:
    try:
        with initialize_config_dir(config_dir(), version_base="1.3"):
            model: DictConfig = compose("train", [f"model={ADAPTER}", *overrides]).model
    except HydraException as error:
        raise ModelError(f"the architecture cannot be read: {_line(error)}") from None
    return DictConfig(OmegaConf.to_container(model, resolve=True))


def _built(model: DictConfig, cls: str | None) -> Codec:
    trusted = trusted_targets([cls] if cls else [])
    try:
        codec = instantiate(blueprint(OmegaConf.to_container(model), trusted))
    except HydraException as error:
        if isinstance(error.__cause__, ModelError | ValueError):
            raise ModelError(str(error.__cause__)) from None
        raise ModelError(f"{cls or model.arch} cannot be built: {_line(error)}") from None
    assert isinstance(codec, Codec)
    return codec


def _line(error: Exception) -> str:
    """What Hydra says, less the key it was building."""
    said = " ".join(str(error).split())
    return printable(re.sub(r" full_key: \S+$", "", said))[:300]
