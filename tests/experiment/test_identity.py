"""Weights are the same if their tensors are, whatever the file says besides."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lic_train.experiment.identity import of_weights

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}


def saved(folder: Path, tensors: dict[str, torch.Tensor], **remarks: str) -> Path:
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", remarks)
    return folder


def test_order_and_remarks_do_not_count(tmp_path: Path) -> None:
    first = of_weights(saved(tmp_path / "1", TENSORS, lic_train="1", made="today"))
    turned = dict(reversed(TENSORS.items()))
    assert of_weights(saved(tmp_path / "2", turned, lic_train="2")) == first
    assert len(first) == 12


@pytest.mark.parametrize(
    "change",
    [
        {"b": torch.full((4,), 2, dtype=torch.bfloat16)},
        {"a.weight": TENSORS["a.weight"].reshape(3, 2)},
        {"b": TENSORS["b"].view(torch.float16)},
        {"c": torch.ones(1)},
    ],
)
def test_values_shapes_types_and_names_count(
    change: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    old = of_weights(saved(tmp_path / "1", TENSORS))
    assert of_weights(saved(tmp_path / "2", TENSORS | change)) != old


def test_no_weights_and_damaged_ones_have_none(tmp_path: Path) -> None:
    assert of_weights(tmp_path) == ""
    for data in (b"", b"\xff" * 8, (2).to_bytes(8, "little") + b"[]"):
        (tmp_path / "model.safetensors").write_bytes(data)
        assert of_weights(tmp_path) == ""
