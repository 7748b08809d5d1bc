"""What decoding needs, and nothing else: weights and tables as safetensors, the model as YAML.

A training checkpoint holds optimizers and no tables; an export holds tables and no optimizers.
Nothing in it is executed: see :mod:`.blueprint` for what the YAML may name.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from lic_train import __version__
from lic_train.codec import Codec
from lic_train.codec.blueprint import blueprint, trusted_targets
from lic_train.codec.contract import TABLES
from lic_train.codec.weights import check_weights
from lic_train.errors import ModelError
from lic_train.utils.device import check_device
from lic_train.utils.files import written_whole
from lic_train.utils.plain import printable, read_yaml

WEIGHTS = "model.safetensors"
CONFIG = "model.yaml"
UNKNOWN = object()


def ready_copy(codec: Codec, solve_quantiles: bool = False) -> Codec:
    """A deep copy in eval mode with tables, so that the codec that trains on stays as it is."""
    ready = _fast(copy.deepcopy(codec).eval().cpu())
    ready.update(solve_quantiles)
    return ready


def save_codec(directory: Path, codec: Codec, model: DictConfig, **about: Any) -> Codec:
    """Write ``model.safetensors`` and ``model.yaml``; return the codec as they hold it.

    Args:
        directory: is made where it does not exist.
        codec: in eval mode with tables, see :func:`ready_copy`.
        model: the config that instantiates it (``_target_`` and arguments).
        about: what a reader wants to know of it, e.g. ``lmbda``; plain values.
    """
    tensors = {name: t.detach().cpu().contiguous() for name, t in codec.state_dict().items()}
    # Resolved where it stands: it may refer to the rest of the run's config.
    plain = OmegaConf.to_container(model, resolve=True)
    text = OmegaConf.to_yaml({"lic_train": __version__, "about": about, "model": plain})
    # Both are written before either takes its place.
    with written_whole(directory / CONFIG) as config, written_whole(directory / WEIGHTS) as weights:
        # Not `save_file`: what it says of a full disk is no OSError.
        # One key of metadata: the order of several is random, and so the bytes would be.
        weights.write_bytes(save(tensors, {"lic_train": __version__}))
        config.write_text(text)
    return codec


def load_codec(
    directory: Path,
    device: str = "cpu",
    overrides: Sequence[str] = (),
    trust: Sequence[str] = (),
) -> Codec:
    """The codec of a run directory, in eval mode, ready to compress and decompress.

    Args:
        directory: of a finished run.
        device: where it will work.
        overrides: arguments of the model that differ from the run's, ``"key=value"`` or
            ``"part.key=value"``; the weights must still fit.
        trust: classes beyond this package's that the model may name, ``"package.module:Class"``:
            their code is run.

    Raises:
        ModelError: a file is missing or damaged, weights and config do not fit together, there is
            no such device, an override names no argument of the model, or the model names a class
            that is not allowed.
    """
    directory = Path(directory)
    check_device(device)
    model = _read_config(directory).model
    weights = directory / WEIGHTS
    tensors = _read_weights(weights)
    _override(model, overrides)
    trusted = trusted_targets(trust)
    try:
        plan = blueprint(OmegaConf.to_container(model), trusted)
    except ModelError as error:
        raise ModelError(f"{directory / CONFIG}: {error}") from None
    try:
        codec = instantiate(plan)
        if not isinstance(codec, Codec):
            raise ModelError(f"{directory / CONFIG} names {type(codec).__name__}, not a codec")
        check_weights(codec, tensors)
        codec.load_state_dict(tensors)
    except ModelError as error:
        raise ModelError(f"{weights}: {error}") from None
    except (HydraException, RuntimeError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error.__cause__, ModelError):  # a constructor says it better itself
            raise error.__cause__ from None
        reason = str(error).strip().splitlines()
        config = " with ".join([str(directory / CONFIG), *overrides])
        raise ModelError(f"{weights} does not fit {config}: {' '.join(reason[:2])}") from None
    codec = _fast(codec.eval().to(torch.device(device)))
    codec.fix_fingerprint()
    return codec


def _fast(codec: Codec) -> Codec:
    """Float32 convolutions take a quarter less time in channels-last order."""
    return codec.to(memory_format=torch.channels_last)


def load_weights(part: nn.Module, directory: Path, name: str = "") -> None:
    """Start ``part`` of a codec, called ``name`` in it, from the weights of a finished run.

    Where the run's codec has a part of that name itself, those weights are taken, else all of
    them. Coder tables stay behind.

    Raises:
        ModelError: there is no export, or its weights are not of such a part.
    """
    _read_config(Path(directory))
    tensors = _read_weights(Path(directory) / WEIGHTS)
    prefix = f"{name}." if name else ""
    same = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    found, wanted = _without_tables(same or tensors), _without_tables(part.state_dict())
    shapes, expected = ({k: v.shape for k, v in t.items()} for t in (found, wanted))
    if shapes != expected:
        differ = sorted(k for k in {*shapes, *expected} if shapes.get(k) != expected.get(k))
        one = differ[0]
        raise ModelError(
            f"the weights of {directory} do not fit {name or 'the codec'}: {len(differ)} differ, "
            f"e.g. {one}, {_shape(shapes, one)} instead of {_shape(expected, one)}"
        )
    for key, tensor in found.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{key} of {directory} holds numbers that are not finite")
    nn.Module.load_state_dict(part, found, strict=False)  # CompressAI's own wants tables


def _shape(shapes: dict[str, torch.Size], name: str) -> str:
    return "x".join(map(str, shapes[name])) if name in shapes else "none"


def _without_tables(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v for k, v in tensors.items() if k.rpartition(".")[2] not in TABLES}


def _read_weights(weights: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(weights)
    except FileNotFoundError:
        raise ModelError(f"{weights} is missing: export the run again") from None
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{weights} is damaged ({error}): copy or export it again") from None


def _override(model: DictConfig, overrides: Sequence[str]) -> None:
    """Set arguments of the model in place: only those it has."""
    for override in overrides:
        key, equals, _ = override.partition("=")
        try:
            known = bool(equals) and OmegaConf.select(model, key, default=UNKNOWN) is not UNKNOWN
            value = OmegaConf.select(OmegaConf.from_dotlist([override]), key)
        except Exception as error:  # OmegaConf's and the YAML parser's own families of errors
            raise ModelError(f"--set {override} cannot be read ({type(error).__name__})") from None
        if not known:
            keys = ", ".join(str(k) for k in model if not str(k).startswith("_"))
            raise ModelError(
                f"--set {override}: give KEY=VALUE with one of the model's keys, {keys}"
            )
        OmegaConf.update(model, key, value, merge=False)


def read_about(directory: Path) -> dict[str, Any]:
    """What :func:`save_codec` was told about the model, e.g. its lambda.

    Raises:
        ModelError: there is no export here, or it is damaged.
    """
    about = OmegaConf.to_container(_read_config(Path(directory))).get("about")  # type: ignore[union-attr]
    return {str(k): v for k, v in about.items()} if isinstance(about, dict) else {}


def _read_config(directory: Path) -> DictConfig:
    if not directory.is_dir():
        raise ModelError(f"{directory} is no run directory: give the folder a training run made")
    config = directory / CONFIG
    if not config.is_file():
        raise ModelError(
            f"{directory} holds no {CONFIG}: the run did not finish, or this is another folder"
        )
    try:
        loaded = read_yaml(config)
        if isinstance(loaded, dict) and isinstance(loaded.get("model"), dict) and loaded["model"]:
            kept = {key: loaded[key] for key in ("model", "about") if key in loaded}
            if "${" in str(kept["model"]):
                raise ModelError(f"{config} refers to other settings: export the run again")
            created = OmegaConf.create(kept)
            OmegaConf.to_container(created, throw_on_missing=True)  # raises, if it cannot
            return created
    except (OmegaConfBaseException, ValueError, OSError) as error:
        reason = printable(" ".join(str(error).split()))
        raise ModelError(f"{config} cannot be read ({reason}): export the run again") from None
    raise ModelError(f"{config} holds no model: export the run again")
