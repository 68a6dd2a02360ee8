"""Linear layers with low-bit weights beside floats, deployed: whole, in part, as ONNX and as C."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bitorch
from bitorch import LowBitConfig, quantize_
from bitorch.deployment.partial.packed_weight_only import PackedWeightOnlyLinear
from bitorch.layers import QConv2d, QLinear
from bitorch.quantizations import (
    Identity,
    InputCalibrated,
    InputDoReFa,
    Quantization,
    WeightAbsMax,
    WeightAbsMean,
    WeightDoReFa,
    WeightLSQ,
    WeightTTQ,
)

WEIGHTS: list[Quantization] = [
    *(WeightAbsMax(bits, group_size=32) for bits in range(1, 9)),
    WeightAbsMax(4, per_channel=True),
    WeightAbsMean(group_size=32),
    WeightDoReFa(3, variant="paper"),
    WeightLSQ(2, channels=1),
]


def net(weights: Quantization) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 64, bias=False), nn.GELU(), nn.Linear(64, 10))
    quantize_(model, LowBitConfig(weights=weights, activations=Identity(), first="same", last="same"))
    return model.eval()


def inputs(*shape: int) -> Tensor:
    return torch.randn(*shape, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_whole(weights: Quantization) -> None:
    """One file of packed weights, which gives what the model gives; vectors and rows of them."""
    model = net(weights)
    for x in (inputs(3), inputs(2, 7)):
        packed = bitorch.deploy(model, x[:1])
        assert isinstance(packed, bitorch.PackedModel)
        assert bitorch.verify(model, packed, x)
        with torch.no_grad():
            torch.testing.assert_close(packed(x), model(x), rtol=1e-4, atol=1e-5)
    layers = [one for one in packed.operations() if one["op"] == "linear_weight_only"]
    assert len(layers) == 3
    numbers, bits = 64 * 96 + 96 * 64 + 64 * 10, weights.bit_width
    assert packed.nbytes < numbers * bits / 8 + 4 * numbers / 32 + 8000


def test_groups_of_scales_are_those_of_training() -> None:
    model = net(WeightAbsMax(4, group_size=32))
    first = model.get_submodule("0")
    assert isinstance(first, QLinear)
    packed = bitorch.deploy(model, inputs(1))
    assert isinstance(packed, bitorch.PackedModel)
    found = WeightAbsMax(4, group_size=32).group_codes(first.weight)
    assert found is not None
    arrays = packed.program()[1]
    kept = [array for array in arrays.values() if array.shape == (96, 2)]
    assert any(np.array_equal(array, found.scale) for array in kept)


@pytest.mark.parametrize("dialect", ["integer", "qcdq", "qonnx"])
@pytest.mark.parametrize("rows", [(), (7,)], ids=str)
def test_onnx(dialect: str, rows: tuple[int, ...], tmp_path: Path) -> None:
    model, x, path = net(WeightAbsMax(3, group_size=32)), inputs(3, *rows), tmp_path / "net.onnx"
    bitorch.export_onnx(model, x[:1], path=path, dialect=dialect)
    if dialect != "qonnx":  # ONNX Runtime has not its operators
        assert bitorch.verify_onnx(model, path, x)
    assert path.stat().st_size < (64 * 96 * 2 + 640) * 1.5  # less than half of float32


def test_c(tmp_path: Path) -> None:
    packed = bitorch.deploy(net(WeightAbsMax(3, group_size=32)), inputs(1))
    assert isinstance(packed, bitorch.PackedModel)
    header = bitorch.export_c(packed, tmp_path / "net.h")
    assert "net_sum_groups" in (tmp_path / "net.h").read_text()
    assert header.constant_bytes < (64 * 96 * 2 + 640) * 2


def test_inputs_of_32_bits_that_are_no_identity_are_refused() -> None:
    """Ranges of 32 bits leave their input as it is; the unit range is a ReLU, which nobody has asked for."""
    kept = QLinear(64, 8, input_quantization=InputCalibrated(32), weight_quantization=WeightAbsMax(4)).eval()
    assert isinstance(bitorch.deploy(kept, inputs(1)), bitorch.PackedModel)
    relu = QLinear(64, 8, input_quantization=InputDoReFa(32), weight_quantization=WeightAbsMax(4)).eval()
    with pytest.raises(ValueError, match=r"its input quantizer InputDoReFa.* has no fixed grid"):
        bitorch.deploy(relu, inputs(1))


def test_what_is_refused() -> None:
    ttq = QLinear(64, 8, input_quantization=Identity(), weight_quantization=WeightTTQ()).eval()
    with pytest.raises(ValueError, match="has two scales, W_p and W_n, so there are no codes to store"):
        bitorch.deploy(ttq, inputs(1))
    conv = QConv2d(4, 4, 1, input_quantization=Identity(), weight_quantization=WeightAbsMax(4)).eval()
    with pytest.raises(
        ValueError, match="leaves floats, which the runtime multiplies by low-bit weights in linear lay"
    ):
        bitorch.deploy(conv, torch.randn(1, 4, 2, 2))
    watched = QLinear(64, 8, input_quantization=Identity(), weight_quantization=WeightAbsMax(4)).eval()
    watched.weight_quantization.register_forward_hook(lambda module, arguments, result: 2 * result)
    with pytest.raises(ValueError, match="a forward hook sees, and may change"):
        bitorch.deploy(watched, inputs(1))


def part_of(weights: Quantization, x: Tensor) -> tuple[nn.Module, bitorch.PartialDeployment]:
    model = net(weights)
    packed = bitorch.deploy(model, x, partial=True)
    assert isinstance(packed, bitorch.PartialDeployment)
    return model, packed


@pytest.mark.parametrize("weights", WEIGHTS[::3], ids=str)
def test_in_part(weights: Quantization, tmp_path: Path) -> None:
    """Packed modules in PyTorch, and the file of them, which holds weights in their bits."""
    x = inputs(2, 5)
    model, packed = part_of(weights, x)
    assert [row.became for row in packed.rows] == ["PackedWeightOnlyLinear"] * 3
    with torch.no_grad():
        torch.testing.assert_close(packed(x), model(x), rtol=1e-4, atol=1e-5)
    packed.save(tmp_path / "net.pt")
    again = bitorch.PartialDeployment.load(tmp_path / "net.pt", net(weights))
    assert torch.equal(again(x), packed(x))
    numbers = 64 * 96 * 2 + 640
    assert (tmp_path / "net.pt").stat().st_size < numbers * weights.bit_width / 8 + numbers / 8 + 16000


def test_in_part_with_codes_behind() -> None:
    """Codes may take another step for another order of sums, which a comparison of outputs would call a difference."""
    torch.manual_seed(0)
    floats = QLinear(64, 64, input_quantization=Identity(), weight_quantization=WeightAbsMax(4, group_size=32))
    codes = QLinear(64, 64, input_quantization=InputDoReFa(8), weight_quantization=WeightDoReFa(4))
    model = nn.Sequential(floats, nn.Sigmoid(), codes)
    packed = bitorch.deploy(model.eval(), inputs(300), partial=True)
    assert isinstance(packed, bitorch.PartialDeployment)
    assert [row.became for row in packed.rows] == ["PackedWeightOnlyLinear", "PackedLinear"]


def test_in_part_finds_another_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(layer: PackedWeightOnlyLinear, input: Tensor) -> Tensor:
        return 1.01 * forward(layer, input)

    forward = PackedWeightOnlyLinear.forward
    monkeypatch.setattr(PackedWeightOnlyLinear, "forward", other)
    with pytest.raises(bitorch.DeploymentError, match="output '0' of the model with packed layers differs"):
        bitorch.deploy(net(WeightAbsMax(4, group_size=32)), inputs(3), partial=True)


def test_a_packed_module_in_other_dtypes_and_compiled() -> None:
    layer = QLinear(64, 8, input_quantization=Identity(), weight_quantization=WeightAbsMax(4, group_size=32)).eval()
    packed, x = PackedWeightOnlyLinear(layer), inputs(3)
    y = packed(x)
    half = PackedWeightOnlyLinear(layer).to(torch.bfloat16)
    assert half.scale.dtype == torch.float32
    assert torch.equal(half(x), y.to(torch.bfloat16))
    assert torch.equal(torch.export.export(packed, (x,)).module()(x), y)
    assert packed(inputs(0)).shape == (0, 8)
    with pytest.raises(ValueError, match=r"floats of the shape \[..., 64\], got torch.float32 \(3, 63\)"):
        packed(x[:, 1:])


def test_attention_of_weights_alone() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, dropout=0.0)
    quantize_(model, LowBitConfig(4, 32, weights="absmax", group_size=32, first="same", last="same"))
    x = inputs(2, 5)
    packed = bitorch.deploy(model.eval(), x, partial=True)
    assert isinstance(packed, bitorch.PartialDeployment)
    assert sum(row.became == "PackedWeightOnlyLinear" for row in packed.rows) >= 2
    whole = bitorch.deploy(model, x)
    assert isinstance(whole, bitorch.PackedModel)
    assert {one["op"] for one in whole.operations()} >= {"linear_weight_only"}
    assert not {one["op"] for one in whole.operations()} & {"linear_float"}
