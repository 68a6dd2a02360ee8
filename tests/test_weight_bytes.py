"""What a model costs, counted by hand."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor, nn

from bitorch import LowBitConfig, quantize_
from bitorch.layers import QLinear
from bitorch.quantizations import Quantization
from bitorch.reporting.weight_bytes import WeightBytes, weight_bytes


def test_float_model_packs_to_itself() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5))
    assert weight_bytes(model) == WeightBytes(float32=4 * (15 + 5 + 10), packed=4 * (15 + 5 + 10))


def test_low_bit_weights_take_their_bits_and_a_scale() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(3, 5), nn.Linear(4, 4))
    quantize_(model, LowBitConfig(3, 2), ["1"])
    float_bytes = 4 * 2 * (16 + 4)
    # 15 weights of 3 bits are 45 bits, so 6 bytes; one scale; 5 biases.
    assert weight_bytes(model) == WeightBytes(float32=float_bytes + 4 * (15 + 5), packed=float_bytes + 6 + 4 + 4 * 5)


def test_shared_parameters_count_once() -> None:
    layer = nn.Linear(8, 8, bias=False)
    model = nn.Sequential(nn.Linear(8, 8, bias=False), layer, layer, nn.Linear(8, 8, bias=False))
    quantize_(model, LowBitConfig(1, 1))
    assert weight_bytes(model) == WeightBytes(float32=3 * 256, packed=2 * 256 + 8 + 4)


@pytest.mark.parametrize(
    ("weights", "weight_scale", "scales"),
    [
        ("seq", "channel", 8),
        ("lsq", "layer", 1),
        ("lsq", "channel", 8),
        ("dorefa", "channel", 8),
        ("twn", "channel", 8),
        ("absmean", "channel", 8),
        ("ttq", "layer", 2),
    ],
)
def test_scales_of_channels_count_and_learned_ranges_do_not(weights: Any, weight_scale: Any, scales: int) -> None:
    model = nn.Sequential(*[nn.Linear(8, 8, bias=False) for _ in range(3)])
    bits = 1 if weights == "dorefa" else 2
    quantize_(model, LowBitConfig(bits, 2, range="learned", weights=weights, weight_scale=weight_scale))
    assert weight_bytes(model) == WeightBytes(float32=3 * 256, packed=2 * 256 + 8 * bits + 4 * scales)


def test_32_bit_weights_stay_float() -> None:
    model = nn.Sequential(*[nn.Linear(8, 8, bias=False) for _ in range(3)])
    quantize_(model, LowBitConfig(32, 2))
    assert weight_bytes(model) == WeightBytes(float32=3 * 256, packed=3 * 256)


def test_a_quantizer_that_does_not_say_its_bits_counts_as_float() -> None:
    class Mine(Quantization):
        def quantize(self, x: Tensor) -> Tensor:
            return x

    model = QLinear(8, 8, bias=False, weight_quantization=Mine())
    assert weight_bytes(model) == WeightBytes(float32=256, packed=256)
