"""Codes of gradients: what they are, when a layer multiplies them, and when it calls the gradient quantizer instead."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import oracle_gradients
from bitorch.layers import QConv2d, QLinear
from bitorch.quantizations import (
    GradientDoReFa,
    GradientLUQ,
    GradientQuantization,
    GradientSigned,
    InputDoReFa,
    WeightDoReFa,
    gradients,
)

Coded = GradientDoReFa | GradientSigned


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def key(seed: int) -> tuple[int, int]:
    (drawn,) = torch.randint(-(2**63), 2**63 - 1, (1,), generator=seeded(seed)).tolist()
    return oracle_gradients.key_of(drawn)


QUANTIZERS = [GradientDoReFa(bits) for bits in range(1, 9)] + [GradientSigned(bits) for bits in range(2, 9)]


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda q: f"{type(q).__name__}{q.bit_width}")
@pytest.mark.parametrize("shape", [(3, 5, 4, 6), (4, 37), (2, 6, 3), (2, 3, 2, 4, 3)], ids=str)
def test_codes_and_maxima(quantizer: Coded, shape: tuple[int, ...]) -> None:
    quantizer.generator = seeded(1)
    g = torch.randn(shape, generator=seeded(2)) * 10.0 ** torch.arange(-20, -20 + shape[0]).view(
        -1, *[1] * (len(shape) - 1)
    )
    g[-1] = 1e-37
    i, m = quantizer.gradient_codes(g)
    channels = 1 if len(shape) > 3 else len(shape) - 1
    drawn = oracle_gradients.noise(shape, channels, key(1))
    assert np.array_equal(m.flatten().numpy(), oracle_gradients.maxima(g.numpy()))
    assert i.dtype == torch.int8
    assert i.shape == g.shape
    if isinstance(quantizer, GradientSigned):
        assert np.array_equal(i.numpy(), oracle_gradients.signed_codes(g.numpy(), quantizer.bit_width, drawn))
    else:
        codes = oracle_gradients.dorefa_codes(g.numpy(), quantizer.bit_width, drawn)
        assert np.array_equal(2 * i.numpy().astype(np.int64) + 1, codes)


@pytest.mark.parametrize("quantizer", [GradientDoReFa(7), GradientSigned(7)], ids=lambda q: type(q).__name__)
def test_codes_at_their_limits(quantizer: Coded) -> None:
    """Gradients of which a last bit decides: the factor of a sample is rounded once, as no reciprocal would be."""
    quantizer.generator = seeded(1)
    samples, largest = 500, 0.1 + torch.rand(500, 1, generator=seeded(2))
    drawn = oracle_gradients.noise((samples, 8), 1, key(1))
    is_signed = isinstance(quantizer, GradientSigned)
    steps, half = (63, 0.5) if is_signed else (63.5, 0.0)
    limits = torch.randint(-60, 60, (samples, 8), generator=seeded(3)) + half - torch.from_numpy(drawn) / 2**16
    g = (limits.double() * largest / steps).float()
    g[:, 0] = largest[:, 0]
    codes = (oracle_gradients.signed_codes if is_signed else oracle_gradients.dorefa_codes)(g.numpy(), 7, drawn)
    i = quantizer.gradient_codes(g)[0].numpy().astype(np.int64)
    assert np.array_equal(i if is_signed else 2 * i + 1, codes)


def test_there_are_no_codes_without_bits() -> None:
    with pytest.raises(ValueError, match=r"no codes with 32 bits and a gradient of shape \[2, 3\]; take up to 8 bits"):
        GradientDoReFa(32).gradient_codes(torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"a gradient of shape \[0, 3\]"):
        GradientSigned(4).gradient_codes(torch.ones(0, 3))


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda q: f"{type(q).__name__}{q.bit_width}")
def test_no_noise_leaves_the_grid(quantizer: Coded) -> None:
    """At ±m with the largest noise, for many m: from 8 bits on the sum rounds to the next integer at some of them."""
    m = torch.rand(100_000, 1, generator=seeded(3)) + 0.5
    _, _, largest = quantizer._grid(m)
    for sign in (1, -1):
        drawn = torch.full((100_000, 1), sign * (2**15 - 1), dtype=torch.int16)
        codes = quantizer._rounded(sign * m, m, drawn, None)
        assert bool((codes == sign * largest / (1 if isinstance(quantizer, GradientSigned) else 2)).all())


@pytest.mark.parametrize(
    "quantizer", [GradientDoReFa(6), GradientSigned(4), GradientLUQ(4), GradientLUQ(4, range="tensor")]
)
@pytest.mark.parametrize("run", [1, 200, 2**30])
def test_runs_and_strides_change_nothing(
    quantizer: GradientQuantization, run: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    g = torch.randn(6, 5, 4, 7, generator=seeded(4))
    quantizer.generator = seeded(5)
    expected = quantizer.quantize_gradient(g)
    monkeypatch.setattr(gradients, "_RUN_ON_CPU", run)
    for other in (
        g,
        g.contiguous(memory_format=torch.channels_last),
        g.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
        torch.stack([g, g], -1)[..., 0],
    ):
        quantizer.generator = seeded(5)
        assert torch.equal(quantizer.quantize_gradient(other), expected)


# Layers


def layer(gradient_quantization: Any, **more: Any) -> QConv2d:
    torch.manual_seed(6)
    arguments: dict[str, Any] = {
        "weight_quantization": WeightDoReFa(2, variant="paper"),
        "input_quantization": InputDoReFa(2, variant="paper"),
        "gradient_cancellation_threshold": 0.0,
    }
    return QConv2d(4, 6, 3, padding=1, bias=True, gradient_quantization=gradient_quantization, **arguments | more)


X = torch.rand(5, 4, 6, 7, generator=seeded(7))
G = torch.randn(5, 6, 6, 7, generator=seeded(8))


def gradients_of(conv: nn.Module, g: Tensor = G, x: Tensor = X) -> list[Tensor]:
    conv.zero_grad()
    leaf = x.clone().requires_grad_()
    conv(leaf).backward(g)
    parameters = [p.grad for p in conv.parameters()]
    assert leaf.grad is not None
    return [leaf.grad, *(p.clone() for p in parameters if p is not None)]


def close(ours: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("quantizer", [GradientDoReFa(6), GradientSigned(4), GradientLUQ(4), GradientLUQ(8)], ids=repr)
@pytest.mark.parametrize("watched", ["forward", "backward", "all modules"])
def test_hooks_see_the_quantizer_called(quantizer: GradientQuantization, watched: str) -> None:
    """It is the same noise, and the same codes: only what rounds differs."""
    conv = layer(copy.deepcopy(quantizer))
    of_conv: Any = conv.gradient_quantization
    of_conv.generator = seeded(9)
    expected = gradients_of(conv)
    of_conv.generator = seeded(9)
    seen: list[object] = []
    note: Any = lambda module, *_: seen.append(module)  # noqa: E731
    if watched == "all modules":
        handle = nn.modules.module.register_module_forward_hook(note)
    elif watched == "backward":
        handle = of_conv.register_full_backward_hook(note)
    else:
        handle = of_conv.register_forward_hook(note)
    try:
        close(gradients_of(conv), expected)
    finally:
        handle.remove()
    assert of_conv in seen
    seen.clear()
    of_conv.generator = seeded(9)
    assert all(map(torch.equal, gradients_of(conv), expected))
    assert seen == []


class Doubled(GradientDoReFa):
    name = "doubled"

    def quantize_gradient(self, gradient: Tensor) -> Tensor:
        return 2 * super().quantize_gradient(gradient)


class Own(GradientQuantization):
    name = "own gradients"

    def _quantized(self, gradient: Tensor) -> Tensor:
        return gradient.sign()


class Forward(GradientDoReFa):
    name = "own forward"

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 1.0


def test_other_methods_are_followed() -> None:
    plain = gradients_of(layer(GradientDoReFa(6, noise=False)))
    close(gradients_of(layer(Doubled(6, noise=False))), [2 * g for g in plain])
    close(gradients_of(layer(Own(4))), gradients_of(layer(None), G.sign()))
    close(gradients_of(layer(Forward(6, noise=False))), plain)
    conv = layer(GradientDoReFa(6, noise=False))
    of_conv: Any = conv.gradient_quantization
    of_conv.quantize_gradient = lambda gradient: 3 * gradient
    close(gradients_of(conv), gradients_of(layer(None), 3 * G))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GradientDoReFa, "quantize", lambda self, x: x)
        close(gradients_of(layer(GradientDoReFa(6))), gradients_of(layer(None)))
    assert not gradients.codes_are_gradients(InputDoReFa(2))


@pytest.mark.parametrize(
    "more", [{"exact": False}, {"weight_quantization": WeightDoReFa(32)}], ids=["values", "32 bits"]
)
def test_layers_on_values(more: dict[str, Any]) -> None:
    conv = layer(GradientDoReFa(6, noise=False), **more)
    close(gradients_of(conv), gradients_of(layer(None, **more), GradientDoReFa(6, noise=False).quantize_gradient(G)))


def test_a_scale_for_each_channel() -> None:
    more = {"weight_quantization": WeightDoReFa(1, variant="paper", per_channel=True)}
    conv = layer(GradientDoReFa(6, noise=False), **more)
    close(gradients_of(conv), gradients_of(layer(None, **more), GradientDoReFa(6, noise=False).quantize_gradient(G)))


@pytest.mark.parametrize("what", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite(what: float) -> None:
    g = G.clone()
    g[1, 2, 3, 4] = what
    g[2] = 0
    of_x, of_weight, of_bias = gradients_of(layer(GradientDoReFa(6)), g)
    inside = (X >= 0) & (X <= 1)
    assert bool(of_x[1][inside[1]].isnan().all())
    assert bool((of_x[2] == 0).all())
    assert bool(of_x[[0, 3, 4]].isfinite().all())
    assert bool(of_weight.isnan().all())
    assert bool(of_bias.isnan().any())


def test_a_sample_is_the_first_axis_of_tokens_too() -> None:
    torch.manual_seed(10)
    linear = QLinear(8, 5, gradient_quantization=GradientDoReFa(4, noise=False), input_quantization=InputDoReFa(2))
    x, g = torch.rand(3, 2, 4, 8), torch.randn(3, 2, 4, 5)
    ours = gradients_of(linear, g, x)
    linear.gradient_quantization = None
    close(ours, gradients_of(linear, GradientDoReFa(4, noise=False).quantize_gradient(g), x))


def test_autocast_and_memory_order() -> None:
    conv = layer(GradientDoReFa(6))
    of_conv: Any = conv.gradient_quantization

    def seeded_gradients(g: Tensor, **autocast: Any) -> list[Tensor]:
        of_conv.generator = seeded(11)
        with torch.autocast("cpu", torch.bfloat16, **autocast):
            return gradients_of(conv, g)

    expected = seeded_gradients(G, enabled=False)
    assert all(map(torch.equal, seeded_gradients(G), expected))
    last = seeded_gradients(G.contiguous(memory_format=torch.channels_last))
    assert torch.equal(last[0], expected[0])
    close(last, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_other_dtypes(dtype: torch.dtype) -> None:
    conv = layer(GradientDoReFa(6, noise=False)).to(dtype)
    x, g = X.to(dtype), G.to(dtype)
    ours = gradients_of(conv, g, x)
    conv.gradient_quantization = None
    expected = gradients_of(conv, GradientDoReFa(6, noise=False).quantize_gradient(g.double()).to(g.dtype), x)
    for one, other in zip(ours, expected, strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one, other, rtol=0.03 if dtype == torch.bfloat16 else 1e-9, atol=0.05)


def test_empty_batches_and_frozen_parts() -> None:
    conv = layer(GradientDoReFa(6))
    assert gradients_of(conv, G[:0], X[:0])[0].shape == (0, 4, 6, 7)
    conv.weight.requires_grad_(False)
    assert len(gradients_of(conv)) == 2
    conv.bias.requires_grad_(False)  # type: ignore[union-attr]
    assert len(gradients_of(conv)) == 1
    conv.weight.requires_grad_(True)
    y = conv(X)
    y.backward(G)
    assert conv.weight.grad is not None


def test_second_derivatives_are_refused() -> None:
    x = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(layer(GradientDoReFa(6))(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_a_seed_is_a_step() -> None:
    """The global generator gives one draw for each backward pass of a layer, and none forward."""
    conv = layer(GradientDoReFa(6))
    torch.manual_seed(12)
    first, second = gradients_of(conv), gradients_of(conv)
    assert not torch.equal(first[0], second[0])
    torch.manual_seed(12)
    with torch.no_grad():
        conv(X)
    torch.randint(-(2**63), 2**63 - 1, (1,))
    assert torch.equal(gradients_of(conv)[0], second[0])


# While it traces an autograd.Function, torch._dynamo makes an instance of it, against which autograd warns.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiled_with_noise() -> None:
    """The same bits of the input's gradient, with one graph for any batch."""
    conv = layer(GradientDoReFa(6))
    compiled = torch.compile(conv, fullgraph=True, backend="aot_eager", dynamic=True)
    for batch in (5, 3):
        torch.manual_seed(13)
        expected = gradients_of(conv, G[:batch], X[:batch])
        torch.manual_seed(13)
        x = X[:batch].clone().requires_grad_()
        conv.zero_grad()
        compiled(x).backward(G[:batch])
        assert x.grad is not None
        assert torch.equal(x.grad, expected[0])
        torch.testing.assert_close(conv.weight.grad, expected[1])
