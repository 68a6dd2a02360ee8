"""Weights with a scale for each group of inputs: absmax at every bit width, and ternary ones, against float64."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bitorch
import oracle_methods as oracle
from bitorch import LowBitConfig, quantize_
from bitorch.layers import QConv2d, QLinear
from bitorch.quantizations import Identity, WeightAbsMax, WeightAbsMean, WeightTWN
from bitorch.quantizations.weight_groups import GroupedWeight
from bitorch.reporting.weight_bytes import WeightBytes, weight_bytes

BITS = range(1, 9)


def seeded(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def rows_of(quantizer: GroupedWeight, w: Tensor) -> int:
    """How many scales a weight has."""
    if quantizer.group_size is not None:
        return w.numel() // quantizer.group_size
    return len(w) if quantizer.per_channel else 1


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("options", [{}, {"per_channel": True}, {"group_size": 9}, {"group_size": 1}], ids=str)
def test_absmax(bits: int, options: dict[str, int]) -> None:
    w, g = seeded(4, 3, 3, 3).requires_grad_(), seeded(4, 3, 3, 3) + 1
    quantizer = WeightAbsMax(bits, **options)  # type: ignore[arg-type]  # one of them
    value, rows = quantizer(w), rows_of(quantizer, w)
    codes, scales = oracle.absmax(w.detach().numpy(), bits, rows)
    assert np.array_equal(quantizer.codes(w).detach().numpy(), codes)
    np.testing.assert_allclose(quantizer.scale(w).expand(w.shape).reshape(rows, -1)[:, 0], scales, rtol=1e-14)
    assert torch.equal(value, quantizer.codes(w) * quantizer.scale(w))
    value.backward(g)
    assert w.grad is not None
    assert torch.equal(w.grad, g)
    assert not quantizer.scale(w).requires_grad


@pytest.mark.parametrize("kind", [WeightAbsMean, WeightTWN])
def test_ternary_in_groups(kind: type[WeightAbsMean | WeightTWN]) -> None:
    """Each group is what a channel of its own would be."""
    w = seeded(4, 6).float()
    grouped, alone = kind(group_size=3), kind(per_channel=True)
    assert torch.equal(grouped(w), alone(w.reshape(-1, 3)).reshape(4, 6))
    found = grouped.group_codes(w)
    assert found is not None
    assert torch.equal(found.scale, alone.scale(w.reshape(-1, 3)).reshape(4, 2))
    assert torch.equal((found.codes.view(4, 2, 3) * found.scale.unsqueeze(2)).view(4, 6), grouped(w))


@pytest.mark.parametrize("bits", [1, 2, 8])
@pytest.mark.parametrize("number", [0.0, -0.0, 1e-45, -0.3, 1e38])
def test_a_constant(bits: int, number: float) -> None:
    """All zeros stay zeros, and learn; what is so small that its scale would be below it becomes 0."""
    w = torch.full((2, 4), number, requires_grad=True)
    value = WeightAbsMax(bits, group_size=2)(w)
    torch.testing.assert_close(value, w, atol=1e-44, rtol=1e-6)
    value.sum().backward()
    assert w.grad is not None
    assert torch.equal(w.grad, torch.ones(2, 4))


@pytest.mark.parametrize("bits", [1, 4])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_not_finite_shows_in_its_group_alone(bits: int, number: float) -> None:
    w = torch.tensor([[1.0, number, -1.0, 0.5]])
    assert WeightAbsMax(bits, group_size=2)(w).isfinite().tolist() == [[False, False, True, True]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    w = seeded(2, 8).to(dtype)
    quantizer = WeightAbsMax(4, group_size=4)
    assert quantizer(w).dtype == dtype
    assert torch.equal(quantizer(w), quantizer(w.float()).to(dtype))


def test_empty_weights_and_32_bits() -> None:
    for shape in ((0, 4), (3, 0), (0,)):
        for quantizer in (WeightAbsMax(4), WeightAbsMax(4, True), WeightAbsMax(4, group_size=2)):
            assert quantizer(torch.empty(shape)).shape == shape
    w = seeded(2, 4)
    assert WeightAbsMax(32, group_size=2)(w) is w
    assert WeightAbsMax(32, group_size=2).group_codes(w) is None


def test_groups_fill_the_inputs() -> None:
    fits = r"group_size=5 does not divide the 12 inputs of each output channel of a weight \[3, 12\]; take .* such as 4"
    with pytest.raises(ValueError, match=fits):
        QLinear(12, 3, input_quantization=Identity(), weight_quantization=WeightAbsMax(4, group_size=5))
    with pytest.raises(ValueError, match=fits):
        WeightAbsMax(4, group_size=5)(torch.ones(3, 12))
    QConv2d(3, 3, 2, input_quantization=Identity(), weight_quantization=WeightAbsMax(4, group_size=4))
    for wrong, kind in ((0, ValueError), (True, TypeError), (1.5, TypeError)):
        with pytest.raises(kind, match="group_size must be"):
            WeightAbsMax(4, group_size=wrong)  # type: ignore[arg-type]  # as a caller without type checks may


def test_a_subclass_with_values_of_its_own_has_no_group_codes() -> None:
    class Mine(WeightAbsMax):
        def quantize(self, x: Tensor) -> Tensor:
            return x

    assert Mine(4, group_size=2).group_codes(torch.ones(2, 4)) is None


def test_a_config_of_weights_alone() -> None:
    """Inputs stay as they are, negative ones too, whatever the range."""
    config = LowBitConfig(4, 32, weights="absmax", group_size=32, first="same", last="same")
    model = nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 4))
    quantize_(model, config)
    for layer in model:
        assert isinstance(layer, QLinear)
        assert isinstance(layer.input_quantization, Identity)
        assert str(layer.weight_quantization) == "WeightAbsMax(bits=4, per_channel=False, group_size=32)"
    x = seeded(8, 64).float()
    expected = x.double()
    for layer in model:
        assert isinstance(layer, QLinear)
        codes, scales = oracle.absmax(layer.weight.detach().double().numpy(), 4, layer.weight.numel() // 32)
        value = torch.from_numpy(codes.reshape(len(scales), -1) * scales[:, np.newaxis]).reshape(layer.weight.shape)
        expected = expected @ value.T + layer.bias.detach()
    torch.testing.assert_close(model(x).double(), expected, atol=1e-5, rtol=1e-5)
    assert bitorch.check(model, x)
    numbers = 64 * 32 + 32 * 32 + 32 * 4
    packed = numbers // 2 + 4 * (numbers // 32) + 4 * 68
    assert weight_bytes(model) == WeightBytes(float32=4 * (numbers + 68), packed=packed)
    assert LowBitConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"group_size": 64}, "needs weights='absmax' or 'absmean' or 'twn', got weights=None"),
        ({"group_size": 64, "weights": "absmax", "weight_scale": "channel"}, "leave one of them out"),
        ({"group_size": 64, "weights": WeightAbsMax(4)}, "is for methods by name"),
        ({"group_size": 0, "weights": "absmax"}, "group_size must be 1 or more, such as 32, 64 or 128, got 0"),
    ],
)
def test_configs_that_do_not_go_together(fields: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        LowBitConfig(4, 32, **fields)  # type: ignore[arg-type]  # of several types
