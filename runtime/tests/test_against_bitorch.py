"""The runtime against the trainer's layers: D and D·scale + bias, bit for bit.

The test imports torch and bitorch; the runtime never does.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bitorch.layers import QConv2d, QLinear
from bitorch.quantizations import InputDoReFa, Quantization, Sign, WeightDoReFa
from bitorch_runtime import Conv2d, Linear, Program, pack_weights

Array = np.ndarray[Any, Any]
Variant = Literal["bitorch", "paper"]
VARIANTS: tuple[Variant, ...] = ("bitorch", "paper")


def input_codes(layer: QConv2d | QLinear, x: torch.Tensor) -> Array:
    """The codes that the runtime takes: q, or (q + 1)/2 for signs."""
    q = layer.input_quantization.codes(x).detach()
    q = q if layer.input_quantization.unsigned else (q + 1) / 2
    codes: Array = q.to(torch.uint8).numpy()
    return np.moveaxis(codes, 1, -1)


def scale(layer: QConv2d | QLinear, x: torch.Tensor) -> np.float32:
    """s_x·s_w in float32."""
    product: torch.Tensor = layer.input_quantization.scale(x) * layer.weight_scale()
    return np.float32(product.item())  # type: ignore[no-any-return]  # older NumPy types it as Any


def exact_sums(layer: QConv2d, x: torch.Tensor) -> Array:
    """D in int64, [B, Ho, Wo, N], by torch."""
    q = layer.input_quantization.codes(x).detach().long()
    d = torch.nn.functional.conv2d(
        q, layer.weight_codes().long(), None, layer.stride, layer.padding, layer.dilation, layer.groups
    )
    return np.moveaxis(d.numpy(), 1, -1)


def stage(layer: QConv2d | QLinear, x: torch.Tensor, outputs: int) -> dict[str, Array]:
    """multiply and offset that make y of D."""
    bias = np.zeros(outputs, np.float32) if layer.bias is None else layer.bias.detach().numpy()
    return {"multiply": np.full(outputs, scale(layer, x), np.float32), "offset": bias}


def images(seed: int, *shape: int) -> torch.Tensor:
    """Around [0, 1], levels and the middles between levels among them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(shape, generator=generator) * 1.6 - 0.3
    ties = torch.randint(0, 31, shape, generator=generator) / 30
    return torch.where(torch.rand(shape, generator=generator) < 0.3, ties, x)


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    groups = draw(st.sampled_from([1, 1, 1, 2, 3, 8]))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    sizes = []
    for k, d, p in zip(kernel, dilation, padding, strict=True):
        sizes.append(max(1, d * (k - 1) + 1 - 2 * p) + draw(st.integers(0, 6)))
    return {
        "layer": {
            "in_channels": groups * draw(st.integers(1, 20)),
            "out_channels": groups * draw(st.integers(1, 12)),
            "kernel_size": kernel,
            "stride": draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
            "bias": draw(st.booleans()),
        },
        "sizes": sizes,
        "batch": draw(st.integers(1, 3)),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


def build(
    shape: dict[str, Any], input_quantization: Quantization, weight_quantization: Quantization, **more: Any
) -> QConv2d:
    torch.manual_seed(shape["seed"] % 2**31)
    layer = QConv2d(
        **shape["layer"], input_quantization=input_quantization, weight_quantization=weight_quantization, **more
    ).eval()
    if layer.bias is not None:
        torch.nn.init.normal_(layer.bias)
    return layer


def runtime_of(layer: QConv2d, weight_bits: int, activation_bits: int, **more: Any) -> Conv2d:
    keys: dict[str, Any] = {key: getattr(layer, key) for key in ("stride", "padding", "dilation", "groups")}
    return Conv2d(
        layer.weight_codes().numpy(),
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        **(keys | more),
    )


def check_convolution(shape: dict[str, Any], layer: QConv2d, weight_bits: int, bits: int, sign: bool) -> None:
    x = images(shape["seed"], shape["batch"], layer.in_channels, *shape["sizes"])
    codes = input_codes(layer, x)
    d = runtime_of(layer, weight_bits, bits, sign_activations=sign)(codes)
    assert d.dtype == np.int32
    np.testing.assert_array_equal(d, exact_sums(layer, x))

    y = np.moveaxis(layer(x).detach().numpy(), 1, -1)
    fl32 = d.astype(np.float32) * scale(layer, x)
    if layer.bias is not None:
        fl32 = fl32 + layer.bias.detach().numpy()
    np.testing.assert_array_equal(fl32, y)
    fused = runtime_of(layer, weight_bits, bits, sign_activations=sign, **stage(layer, x, layer.out_channels))(codes)
    assert fused.dtype == np.float32
    np.testing.assert_array_equal(fused, y)


@settings(max_examples=150, deadline=None)
@given(shape=convolutions(), weight_bits=st.integers(1, 8), bits=st.integers(1, 8), variant=st.sampled_from(VARIANTS))
def test_convolution(shape: dict[str, Any], weight_bits: int, bits: int, variant: Variant) -> None:
    quantizers = InputDoReFa(bits, variant=variant), WeightDoReFa(weight_bits, variant=variant)
    check_convolution(shape, build(shape, *quantizers), weight_bits, bits, sign=False)


@pytest.mark.parametrize("weight_bits", range(1, 9))
@pytest.mark.parametrize("bits", range(1, 9))
def test_convolution_of_each_pair_of_widths(weight_bits: int, bits: int) -> None:
    layer = {"in_channels": 40, "out_channels": 33, "kernel_size": 3, "stride": 1, "padding": 1, "bias": True}
    shape = {"layer": layer, "sizes": [5, 6], "batch": 2, "seed": 8 * weight_bits + bits}
    quantizers = InputDoReFa(bits, variant="paper"), WeightDoReFa(weight_bits, variant="paper")
    check_convolution(shape, build(shape, *quantizers), weight_bits, bits, sign=False)


@settings(max_examples=60, deadline=None)
@given(shape=convolutions(), weight_bits=st.integers(1, 8))
def test_convolution_of_signs_with_zeros_at_the_borders(shape: dict[str, Any], weight_bits: int) -> None:
    layer = build(shape, Sign(), WeightDoReFa(weight_bits, variant="paper"), pad_value=0)
    check_convolution(shape, layer, weight_bits, 1, sign=True)


@settings(max_examples=30, deadline=None)
@given(shape=convolutions())
def test_convolution_of_signs_padded_with_a_sign(shape: dict[str, Any]) -> None:
    """The trainer's default border is −1, code 0: padding that the caller does."""
    layer = build(shape, Sign(), Sign())
    x = images(shape["seed"], shape["batch"], layer.in_channels, *shape["sizes"]) - 0.5
    vertical, horizontal = shape["layer"]["padding"]
    padded = np.pad(input_codes(layer, x), ((0, 0), (vertical, vertical), (horizontal, horizontal), (0, 0)))
    keys = stage(layer, x, layer.out_channels)
    y = runtime_of(layer, 1, 1, padding=0, sign_activations=True, **keys)(padded)
    np.testing.assert_array_equal(y, np.moveaxis(layer(x).detach().numpy(), 1, -1))


@settings(max_examples=100, deadline=None)
@given(
    inputs=st.integers(1, 300),
    outputs=st.integers(1, 70),
    batch=st.integers(1, 9),
    weight_bits=st.integers(1, 8),
    bits=st.integers(1, 8),
    variant=st.sampled_from(VARIANTS),
    seed=st.integers(0, 2**31 - 1),
)
# 2000 inputs of 8 and 8 bits: sums above 2^24, which float32 must round once.
@example(inputs=2000, outputs=3, batch=2, weight_bits=8, bits=8, variant="paper", seed=0)
def test_linear(
    inputs: int, outputs: int, batch: int, weight_bits: int, bits: int, variant: Variant, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = QLinear(
        inputs,
        outputs,
        input_quantization=InputDoReFa(bits, variant=variant),
        weight_quantization=WeightDoReFa(weight_bits, variant=variant),
    ).eval()
    x = images(seed, batch, inputs)
    codes, weight = input_codes(layer, x), layer.weight_codes().numpy()
    d = Linear(weight, weight_bits=weight_bits, activation_bits=bits)(codes)
    np.testing.assert_array_equal(d, codes.astype(np.int64) @ weight.astype(np.int64).T)
    keys: dict[str, Any] = stage(layer, x, outputs)
    y = Linear(weight, weight_bits=weight_bits, activation_bits=bits, **keys)(codes)
    np.testing.assert_array_equal(y, layer(x).detach().numpy())


def norm_of(norm: torch.nn.BatchNorm2d) -> dict[str, Array]:
    """norm_multiply, what it makes of 1 without mean and bias, and norm_offset, what it makes of 0."""
    assert norm.running_mean is not None
    with torch.no_grad():
        alpha = torch.nn.functional.batch_norm(
            torch.ones(1, norm.num_features),
            torch.zeros_like(norm.running_mean),
            norm.running_var,
            norm.weight,
            None,
            eps=norm.eps,
        )
        beta = norm(torch.zeros(1, norm.num_features, 1, 1))
    return {"norm_multiply": alpha.flatten().numpy(), "norm_offset": beta.flatten().numpy()}


@settings(max_examples=60, deadline=None)
@given(shape=convolutions(), bits=st.integers(1, 8), residual=st.booleans(), channels_last=st.booleans())
def test_batch_norm(shape: dict[str, Any], bits: int, residual: bool, channels_last: bool) -> None:
    """A convolution with a normalisation in it, and an affine of the normalisation alone, as PyTorch rounds them."""
    if torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        pytest.skip("without a fused multiply-add, PyTorch rounds the product as well")
    layer = build(shape, InputDoReFa(bits, variant="paper"), WeightDoReFa(2, variant="paper"))
    norm = torch.nn.BatchNorm2d(layer.out_channels).eval()
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        norm.running_var.uniform_(0.01, 4)
        for parameter in (norm.running_mean, norm.weight, norm.bias):
            parameter.normal_()
    x = images(shape["seed"], shape["batch"], layer.in_channels, *shape["sizes"])
    with torch.no_grad():
        z = layer(x)
        expected = norm(z.contiguous(memory_format=torch.channels_last) if channels_last else z.contiguous())
        shortcut = torch.randn(z.shape)
        expected = torch.relu(expected + shortcut if residual else expected)
    codes, keys = input_codes(layer, x), {key: getattr(layer, key) for key in ("stride", "dilation", "groups")}
    vertical, horizontal = shape["layer"]["padding"]
    keys |= {"kernel_size": layer.kernel_size, "padding": (vertical, horizontal, vertical, horizontal)}
    arrays = {**stage(layer, x, layer.out_channels), **norm_of(norm)}
    arrays["weight"] = pack_weights(layer.weight_codes().numpy(), 2)
    names = {name: name for name in arrays}
    affine = {"op": "affine", "input": "z", "norm_multiply": "norm_multiply", "norm_offset": "norm_offset", "low": 0}
    shortcut_of = {"residual": "shortcut"} if residual else {}
    program = Program(
        [
            {"op": "input", "output": "x", "dtype": "uint8", "bits": bits, "order": "nhwc"}
            | {"shape": [layer.in_channels, *x.shape[2:]]},
            {"op": "input", "output": "shortcut", "dtype": "float32", "shape": list(z.shape[1:]), "order": "nchw"},
            {"op": "conv2d", "input": "x", "weight_bits": 2, "out_channels": layer.out_channels, **keys, **names}
            | {"relu": True, "float32": "y", **shortcut_of},
            {"op": "input", "output": "z", "dtype": "float32", "shape": list(z.shape[1:]), "order": "nchw"},
            {**affine, **shortcut_of, "float32": "w"},
            {"op": "output", "input": "y", "order": "nchw"},
            {"op": "output", "input": "w", "order": "nchw"},
        ],
        arrays,
    )
    results = program(np.ascontiguousarray(codes), shortcut.numpy(), np.ascontiguousarray(z.numpy()))
    assert isinstance(results, dict)
    for y in results.values():
        np.testing.assert_array_equal(y, expected.numpy().reshape(y.shape))


@pytest.mark.parametrize("bits", range(1, 9))
def test_quantize_gives_the_trainers_codes(bits: int) -> None:
    """The operation `quantize` against InputDoReFa, on levels, ties, and floats next to them."""
    n = 2**bits - 1
    ties = torch.arange(-2, 2 * n + 3, dtype=torch.float32) / (2 * n)
    below, above = (torch.nextafter(ties, torch.tensor(end)) for end in (-9.0, 9.0))
    x = torch.cat([ties, below, above, torch.tensor([torch.inf, -torch.inf, -0.0])]).unsqueeze(0)
    program = Program(
        [
            {"op": "input", "output": "x", "dtype": "float32", "shape": [x.shape[1]], "order": "nchw"},
            {"op": "quantize", "input": "x", "output": "q", "bits": bits},
            {"op": "output", "input": "q", "order": "nchw"},
        ],
        {},
    )
    np.testing.assert_array_equal(program(x.numpy()), InputDoReFa(bits).codes(x).numpy())
