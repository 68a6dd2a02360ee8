"""A layer that is called n times is stored once, and its bytes are counted once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bitorch
import bitorch_runtime
from bitorch import LowBitConfig, deploy
from bitorch.allocation.file_bytes import bytes_by_layer
from bitorch.deployment.runtime.sharing import share_arrays
from bitorch_runtime.operations import array_names


class Repeated(nn.Module):
    """A linear layer, a BatchNorm and a PReLU, each called several times; the linear layer under two names."""

    def __init__(self, width: int, times: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.norm = nn.BatchNorm1d(width)
        self.act = nn.PReLU(width)
        self.alias = self.linear
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        for index in range(self.times):
            x = self.norm((self.alias if index % 2 else self.linear)(x))
            if index % 3 == 2:
                x = self.act(x)
        return x


def repeated(width: int, times: int, bits: tuple[int, int]) -> nn.Module:
    torch.manual_seed(0)
    model = Repeated(width, times)
    bitorch.quantize_(model, LowBitConfig(*bits, first="same", last="same"))
    return model.eval()


def of_key(operations: list[dict[str, Any]], key: str) -> list[str]:
    return [operation[key] for operation in operations if key in operation]


@pytest.mark.parametrize("bits", [(1, 2), (4, 4), (2, 8)])
def test_a_layer_called_eight_times_is_stored_once(bits: tuple[int, int], tmp_path: Path) -> None:
    model = repeated(64, 8, bits)
    packed = deploy(model, torch.rand(2, 64))
    operations, arrays = packed.program()
    assert len(of_key(operations, "weight")) == 8
    assert len(set(of_key(operations, "weight"))) == 1
    for key in ("multiply", "offset", "norm_multiply", "norm_offset", "slope"):
        assert len(set(of_key(operations, key))) <= 1, key
    assert packed.owners is not None
    assert packed.owners.arrays.keys() == arrays.keys()
    layers = packed.owners.arrays
    assert len({(layers[name], a.dtype, a.shape, a.tobytes()) for name, a in arrays.items()}) == len(arrays)
    packed.save(tmp_path / "net")
    x = torch.randn(5, 64)
    expected = packed(x)
    assert isinstance(expected, Tensor)
    found = bitorch_runtime.load(tmp_path / "net")(x.numpy())
    assert isinstance(found, np.ndarray)
    assert np.array_equal(found, expected.numpy())


def test_the_file_of_a_wide_layer_called_eight_times() -> None:
    model = repeated(256, 8, (4, 4))
    floats = sum(parameter.nbytes for parameter in model.parameters())
    assert deploy(model, torch.rand(1, 256)).nbytes < floats / 3  # 4 bits of 32, thresholds and header


@pytest.mark.parametrize("bits", [(4, 4), (2, 8)])
def test_bytes_of_the_report_sum_to_the_file(bits: tuple[int, int]) -> None:
    model = repeated(64, 8, bits)
    packed = deploy(model, torch.rand(1, 64))
    report = bitorch.report(model, torch.rand(1, 64), packed=packed)
    rows = {row.name: row for row in report.rows}
    assert report.totals.packed_bytes == packed.nbytes
    assert sum(row.packed_bytes for row in rows.values() if row.packed_bytes is not None) == packed.nbytes
    assert rows["linear"].deploys
    layers = bytes_by_layer(packed, ["linear"])
    assert 0 < layers["linear"] < packed.nbytes


def test_equal_arrays_of_two_modules_stay_two() -> None:
    """Each is of one module, whose bytes it counts to."""
    operations: list[dict[str, Any]] = [
        {"op": "linear", "weight": "a/sum.weight", "offset": "a.offset"},
        {"op": "linear", "weight": "a@2/sum.weight", "offset": "a@2.offset"},
        {"op": "linear", "weight": "b/sum.weight", "offset": "b.offset"},
        {"op": "pad", "channels": [1, 0]},
        {"op": "select", "channels": "a@2.channels"},
    ]
    weight, offset = np.ones((2, 2), np.uint8), np.zeros(2, np.float32)
    arrays: dict[str, Any] = dict.fromkeys(of_key(operations, "weight"), weight)
    arrays |= dict.fromkeys(of_key(operations, "offset"), offset)
    arrays["a@2.channels"] = offset.view(np.int32)
    share_arrays(operations, arrays, {name: name[0] for name in arrays}, {})
    assert of_key(operations, "weight") == ["a/sum.weight", "a/sum.weight", "b/sum.weight"]
    assert of_key(operations, "offset") == ["a.offset", "a.offset", "b.offset"]
    assert arrays.keys() == {"a/sum.weight", "a.offset", "b/sum.weight", "b.offset", "a@2.channels"}
    assert array_names(operations[3]) == {}


def test_numbers_that_differ_in_a_bit_stay_two() -> None:
    operations: list[dict[str, Any]] = [
        {"op": "affine", "offset": "a.offset"},
        {"op": "affine", "offset": "a@2.offset"},
    ]
    arrays: dict[str, Any] = {"a.offset": np.zeros(2, np.float32), "a@2.offset": -np.zeros(2, np.float32)}
    share_arrays(operations, arrays, dict.fromkeys(arrays, "a"), {})
    assert len(arrays) == 2
