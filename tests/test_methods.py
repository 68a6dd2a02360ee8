"""Ternary weights (TWN, TTQ), RSign and RPReLU: values and gradients against the papers' formulas, and in layers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import oracle_methods as oracle
from bitorch import LowBitConfig, quantize_
from bitorch.layers import QActivation, QConv2d, QLinear, RPReLU
from bitorch.quantizations import InputDoReFa, Quantization, RSign, WeightAbsMean, WeightTTQ, WeightTWN

Ternary = WeightTWN | WeightAbsMean

SHAPES = [(6, 5), (4, 3, 3, 3), (8, 1, 5)]
NAN, INF = float("nan"), float("inf")


def seeded(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def value_and_gradient(module: Callable[[Tensor], Tensor], x: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.detach().clone().requires_grad_()
    value = module(leaf)
    value.backward(g)
    assert leaf.grad is not None
    return value.detach(), leaf.grad


def ttq(weight: Tensor, threshold: float = 0.05) -> WeightTTQ:
    quantizer = WeightTTQ(threshold)
    quantizer.initialize_(weight)
    return quantizer


# TWN, and BitNet's absmean

#: What has a threshold and a scale from the weight, and its oracle.
STATISTICS = {
    WeightTWN: (oracle.twn_codes, oracle.twn_scales),
    WeightAbsMean: (oracle.absmean_codes, oracle.absmean_scales),
}
ternary = pytest.mark.parametrize("kind", STATISTICS)


@ternary
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_ternary(kind: type[Ternary], per_channel: bool, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    w, g = seeded(1, *shape).to(dtype), seeded(2, *shape).to(dtype)
    quantizer = kind(per_channel)
    codes, scale = quantizer.codes(w), quantizer.scale(w)
    expected_codes, expected_scales = STATISTICS[kind]
    expected = expected_codes(w.double().numpy(), per_channel)
    assert np.array_equal(codes.numpy(), expected)
    assert scale.shape == ((shape[0], *[1] * (len(shape) - 1)) if per_channel else ())
    scales = expected_scales(w.double().numpy(), per_channel)
    np.testing.assert_allclose(scale.flatten().numpy(), scales, rtol=1e-12 if dtype == torch.float64 else 1e-5)
    value, gradient = value_and_gradient(quantizer, w, g)
    assert torch.equal(value, codes * scale)
    assert torch.equal(gradient, g)
    assert not scale.requires_grad


@ternary
@pytest.mark.parametrize("per_channel", [False, True])
def test_the_gradient_at_the_codes_is_that_of_the_value(kind: type[Ternary], per_channel: bool) -> None:
    w = seeded(3, 4, 5).requires_grad_()
    g = seeded(4, 4, 5)
    kind(per_channel).codes(w).backward(g)
    assert w.grad is not None
    assert torch.equal(w.grad, g)


@ternary
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("number", [0.0, -0.0, 1e-30, -0.3, 1.0, 1e30])
def test_ternary_of_constants(kind: type[Ternary], per_channel: bool, number: float) -> None:
    w = torch.full((3, 4), number)
    value, gradient = value_and_gradient(kind(per_channel), w, torch.ones(3, 4))
    torch.testing.assert_close(value, w)
    assert torch.equal(gradient, torch.ones(3, 4))
    assert kind(per_channel).codes(w).unique().tolist() == [float(np.sign(number))]


@ternary
def test_channels_do_not_touch_each_other(kind: type[Ternary]) -> None:
    w = seeded(5, 3, 7).float()
    other = w.clone()
    other[1:] *= 100
    assert torch.equal(kind(True)(w)[0], kind(True)(other)[0])
    assert not torch.equal(kind()(w)[0], kind()(other)[0])


def test_half_of_the_mean_is_the_threshold() -> None:
    """A quotient of ½ is rounded to the even number, 0; beyond it the code is ±1, however near."""
    w = torch.tensor([1.0, -1.0, 0.0, 2.0])  # of mean 1
    for number, code in [(0.5, 0), (-0.5, 0), (0.5000001, 1), (-0.5000001, -1)]:
        w[2], w[3] = number, 2 - abs(number)
        assert WeightAbsMean().codes(w)[2] == code
    assert WeightAbsMean().scale(w) == 1


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
@ternary
def test_an_empty_weight(kind: type[Ternary], shape: tuple[int, ...]) -> None:
    w = torch.empty(shape)
    assert kind()(w).shape == kind(True)(w).shape == shape
    assert kind(True).scale(w).shape == (shape[0], *[1] * (len(shape) - 1))


@ternary
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("number", [NAN, INF])
def test_what_is_not_finite_shows(kind: type[Ternary], per_channel: bool, number: float) -> None:
    w = torch.tensor([[1.0, number, -1.0], [1.0, 0.1, -1.0]])
    value = kind(per_channel)(w)
    assert value[0].isnan().all()
    assert value[1].isfinite().all() == per_channel
    quantizer = ttq(torch.ones(2, 3))
    assert quantizer(w)[0, 1].isnan()


# TTQ


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_ttq(threshold: float, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    w, g = seeded(6, *shape).to(dtype), seeded(7, *shape).to(dtype)
    w64, g64 = w.double().numpy(), g.double().numpy()
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    quantizer = ttq(w, threshold).to(dtype)
    scales = oracle.ttq_scales(w64, threshold)
    found = (quantizer.positive_scale.item(), quantizer.negative_scale.item())
    np.testing.assert_allclose(found, scales, rtol=1e-6)
    with torch.no_grad():
        quantizer.positive_scale.fill_(0.75)
        quantizer.negative_scale.fill_(1.5)
    value, gradient = value_and_gradient(quantizer, w, g)
    assert np.array_equal(value.numpy(), oracle.ttq_value(w64, 0.75, 1.5, threshold))
    to_weight, to_positive, to_negative = oracle.ttq_gradients(w64, g64, 0.75, 1.5, threshold)
    np.testing.assert_allclose(gradient.numpy(), to_weight, rtol=tolerance, atol=tolerance)
    for scale, expected in ((quantizer.positive_scale, to_positive), (quantizer.negative_scale, to_negative)):
        assert scale.grad is not None
        np.testing.assert_allclose(scale.grad.item(), expected, rtol=tolerance, atol=tolerance)


def test_the_gradients_of_the_scales_are_those_of_the_value() -> None:
    """By differences: a small change of W_p or W_n changes Σ g·value by its gradient."""
    w, g = seeded(8, 5, 6), seeded(9, 5, 6)
    quantizer = ttq(w).double()
    value_and_gradient(quantizer, w, g)
    for scale in (quantizer.positive_scale, quantizer.negative_scale):
        before = (g * quantizer(w)).sum().item()
        scale.data += 1e-3
        assert scale.grad is not None
        assert ((g * quantizer(w)).sum().item() - before) / 1e-3 == pytest.approx(scale.grad.item(), rel=1e-6)


def test_ttq_of_zeros_and_one_sign() -> None:
    zeros = torch.zeros(2, 3)
    value, gradient = value_and_gradient(ttq(zeros), zeros, torch.ones(2, 3))
    assert torch.equal(value, zeros)
    assert torch.equal(gradient, torch.ones(2, 3))
    positive = ttq(torch.tensor([[0.5, 1.5]]))
    assert (positive.positive_scale.item(), positive.negative_scale.item()) == (1.0, 0.0)


def test_ttq_has_no_single_grid() -> None:
    w = torch.randn(3, 4)
    quantizer = ttq(w)
    assert quantizer.max_code is None
    with pytest.raises(TypeError, match="WeightTTQ has two scales, W_p and W_n, so it has no codes"):
        quantizer.codes(w)
    with pytest.raises(TypeError, match="WeightTTQ has two scales, W_p and W_n, so it has no scale"):
        quantizer.scale(w)


def test_ttq_without_scales_says_how_to_get_them() -> None:
    with pytest.raises(RuntimeError, match=r"has no W_p and W_n yet; call initialize_\(weight\)"):
        WeightTTQ()(torch.randn(3, 4))
    with pytest.raises(ValueError, match=r"threshold must be at least 0 and below 1.*got 1\.5"):
        WeightTTQ(1.5)


def test_ttq_in_a_layer_starts_with_its_weight_and_learns() -> None:
    torch.manual_seed(0)
    layer = QLinear(20, 4, weight_quantization=WeightTTQ(), input_quantization=InputDoReFa(2, variant="paper"))
    quantizer = layer.weight_quantization
    assert isinstance(quantizer, WeightTTQ)
    expected = oracle.ttq_scales(layer.weight.detach().double().numpy(), 0.05)
    assert quantizer.positive_scale.item() == pytest.approx(expected[0], rel=1e-6)
    x = torch.rand(8, 20)
    y = layer(x)
    torch.testing.assert_close(
        y, nn.functional.linear(layer.activation(x), quantizer(layer.weight), layer.bias), rtol=0, atol=0
    )
    y.square().sum().backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in layer.parameters())


def test_ttq_and_state_dicts() -> None:
    """Its own is loaded with its scales; that of a float layer gives the weight, which gives the scales."""
    quantizers = [WeightTTQ(), WeightTTQ()]
    layers = [
        QLinear(20, 4, weight_quantization=quantizer, input_quantization=InputDoReFa(2, variant="paper"))
        for quantizer in quantizers
    ]
    with torch.no_grad():
        quantizers[0].positive_scale.fill_(0.125)
    layers[1].load_state_dict(layers[0].state_dict())
    assert quantizers[1].positive_scale.item() == 0.125
    alone = WeightTTQ()
    alone.load_state_dict(quantizers[0].state_dict())
    assert torch.equal(alone(layers[0].weight), quantizers[0](layers[0].weight))
    float_layer = nn.Linear(20, 4)
    layers[1].load_state_dict(float_layer.state_dict())
    expected = oracle.ttq_scales(float_layer.weight.detach().double().numpy(), 0.05)
    assert quantizers[1].positive_scale.item() == pytest.approx(expected[0], rel=1e-6)


# RSign


@pytest.mark.parametrize("dimensions", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_rsign(dimensions: int, dtype: torch.dtype) -> None:
    shape = (4, 5, *[3] * dimensions)
    x, g = seeded(10, *shape).to(dtype), seeded(11, *shape).to(dtype)
    quantizer = RSign(5, dimensions).to(dtype)
    assert quantizer.shift.shape == (5, *[1] * dimensions)
    quantizer.shift.data.copy_(seeded(12, 5).to(dtype).view_as(quantizer.shift))
    x[0, :] = quantizer.shift.detach().expand_as(x[0])  # ties: +1
    shift = quantizer.shift.detach().double().flatten().numpy()
    value, gradient = value_and_gradient(quantizer, x, g)
    assert np.array_equal(value.numpy(), oracle.rsign_value(x.double().numpy(), shift))
    assert torch.equal(quantizer.codes(x), value)
    to_input, to_shift = oracle.rsign_gradients(x.double().numpy(), shift, g.double().numpy())
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    np.testing.assert_allclose(gradient.numpy(), to_input, rtol=tolerance, atol=tolerance)
    assert quantizer.shift.grad is not None
    np.testing.assert_allclose(quantizer.shift.grad.flatten().numpy(), to_shift, rtol=tolerance, atol=10 * tolerance)


def test_rsign_at_the_start_is_approxsign() -> None:
    x = torch.tensor([[0.0, -0.0, 1e-30, -1e-30], [NAN, INF, -INF, 0.5]])
    value = RSign(4, 0)(x)
    assert value[0].tolist() == [1, 1, 1, -1]
    assert value[1, 0].isnan()
    assert value[1, 1:].tolist() == [1, -1, 1]


def test_rsign_wrong_channels() -> None:
    with pytest.raises(ValueError, match=r"RSign\(3, 2\): the input must have 3 channels in axis -3"):
        RSign(3, 2)(torch.randn(2, 4, 5, 5))
    with pytest.raises(ValueError, match="3 channels in axis -3"):
        RSign(3, 2)(torch.randn(3, 5))
    with pytest.raises(ValueError, match="channels must be at least 1, got 0"):
        RSign(0, 2)
    with pytest.raises(ValueError, match="dimensions must be at least 0"):
        RSign(3, -1)


def test_rsign_in_a_convolution() -> None:
    """Signs are padded with −1, as the layer says, after the shift; without a batch axis it works too."""
    torch.manual_seed(1)
    layer = QConv2d(3, 4, 3, padding=1, input_quantization=RSign(3, 2), gradient_cancellation_threshold=0.0)
    rsign = layer.input_quantization
    assert isinstance(rsign, RSign)
    rsign.shift.data.normal_()
    x = torch.randn(2, 3, 6, 6)
    signs = nn.functional.pad(torch.where(x - rsign.shift >= 0, 1.0, -1.0), [1, 1, 1, 1], value=-1)
    torch.testing.assert_close(layer(x), nn.functional.conv2d(signs, torch.where(layer.weight >= 0, 1.0, -1.0)))
    assert torch.equal(layer(x[0]), layer(x)[0])
    layer(x).square().sum().backward()
    assert rsign.shift.grad is not None
    assert bool((rsign.shift.grad != 0).all())


# RPReLU


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3), (2, 5, 3, 3)], ids=str)
def test_rprelu(shape: tuple[int, ...]) -> None:
    module = RPReLU(5).double()
    assert [p.tolist() for p in module.parameters()] == [[0] * 5, [0.25] * 5, [0] * 5]
    for index, parameter in enumerate(module.parameters()):
        parameter.data.copy_(seeded(13 + index, 5))
    x = seeded(20, *shape)
    numbers = [p.detach().numpy() for p in (module.shift_in, module.slope, module.shift_out)]
    np.testing.assert_allclose(module(x).detach().numpy(), oracle.rprelu_value(x.numpy(), *numbers), rtol=1e-12)
    assert torch.autograd.gradcheck(module, (x.requires_grad_(),))
    inputs = (x.detach(), *(p.detach().clone().requires_grad_() for p in module.parameters()))
    names = [name for name, _ in module.named_parameters()]

    def of_parameters(x: Tensor, *values: Tensor) -> Tensor:
        result: Tensor = torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x,))
        return result

    assert torch.autograd.gradcheck(of_parameters, inputs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_rprelu_dtypes(dtype: torch.dtype) -> None:
    x = torch.randn(3, 5).to(dtype)
    value = RPReLU(5)(x)
    assert value.dtype == dtype
    torch.testing.assert_close(value, torch.where(x > 0, x, 0.25 * x))
    with pytest.raises(ValueError, match=r"RPReLU\(5\): the input must have the shape \[batch, 5, …\]"):
        RPReLU(5)(torch.randn(3, 4))
    with pytest.raises(ValueError, match="channels must be at least 1"):
        RPReLU(0)


# All


def all_methods(w: Tensor) -> list[Quantization]:
    return [WeightTWN(), WeightTWN(True), WeightAbsMean(), WeightAbsMean(True), ttq(w), RSign(max(1, w.shape[-1]), 0)]


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_low_precision_is_computed_in_single(index: int, dtype: torch.dtype) -> None:
    w, g = seeded(21, 6, 7).to(dtype), seeded(22, 6, 7).to(dtype)
    quantizer = all_methods(w)[index]
    value, gradient = value_and_gradient(quantizer, w, g)
    single = value_and_gradient(copy.deepcopy(quantizer), w.float(), g.float())
    assert value.dtype == gradient.dtype == dtype
    assert torch.equal(value, single[0].to(dtype))
    assert torch.equal(gradient, single[1].to(dtype))


@pytest.mark.parametrize("index", range(4))
def test_the_bits_are_fixed(index: int) -> None:
    quantizer = all_methods(torch.randn(3, 4))[index]
    own = quantizer.bit_width
    quantizer.set_bits_(own)
    with pytest.raises(ValueError, match=f"{type(quantizer).__name__} always has {own} bits, so it cannot get 4"):
        quantizer.set_bits_(4)


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 2, 3)], ids=str)
def test_empty(index: int, shape: tuple[int, ...]) -> None:
    if index == 3 and shape[-1] == 0:
        return  # no channels
    x = torch.empty(shape)
    quantizer = all_methods(torch.zeros(shape))[index]
    value, gradient = value_and_gradient(quantizer, x, torch.empty(shape))
    assert value.shape == gradient.shape == shape


@pytest.mark.parametrize("index", range(4))
def test_integers_are_refused(index: int) -> None:
    with pytest.raises(TypeError, match="must be a floating-point tensor"):
        all_methods(torch.randn(3, 4))[index](torch.ones(3, 4, dtype=torch.int64))


CONFIGS: list[dict[str, Any]] = [
    {"weight_bits": 2, "activation_bits": 2, "weights": "twn"},
    {"weight_bits": 2, "activation_bits": 2, "weights": "twn", "weight_scale": "channel"},
    {"weight_bits": 2, "activation_bits": 2, "weights": "absmean"},
    {"weight_bits": 2, "activation_bits": 2, "weights": "absmean", "weight_scale": "channel"},
    {"weight_bits": 2, "activation_bits": 2, "weights": "ttq"},
    {"weight_bits": 1, "activation_bits": 1, "sign": "rsign"},
    {"weight_bits": 1, "activation_bits": 2, "gradient_bits": 4, "gradients": "signed"},
    {"weight_bits": 1, "activation_bits": 2, "gradient_bits": 4, "gradients": "luq"},
]


@pytest.mark.parametrize("fields", CONFIGS, ids=str)
def test_a_net_of_each_config_trains(fields: dict[str, Any]) -> None:
    torch.manual_seed(2)
    config = LowBitConfig(**fields, first="same", last="same")
    assert LowBitConfig.from_dict(config.to_dict()) == config
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.Flatten(),
        nn.Linear(128, 4),
    )  # fmt: skip
    quantize_(net, config)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02)
    x, target = torch.rand(16, 3, 6, 6), torch.randint(4, (16,))
    losses = []
    for _ in range(12):
        loss = nn.functional.cross_entropy(net(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())
    assert min(losses[6:]) < losses[0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gradients": "luq", "gradient_bits": 1}, "gradients='luq' take 2 bits or more, got gradient_bits=1"),
        ({"gradients": "fp4"}, "gradients must be one of 'dorefa', 'signed', 'luq'"),
        ({"weights": "ttq", "weight_scale": "channel"}, 'use weight_scale="layer"'),
        ({"weights": "twn", "weight_bits": 3}, "ternary and take 2 bits"),
    ],
)
def test_configs_that_contradict_themselves(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LowBitConfig(**{"weight_bits": 2, "activation_bits": 2, **fields})


def test_a_config_gives_rsign_the_layers_channels() -> None:
    config = LowBitConfig(1, 1, sign="rsign")
    for layer, shape in (
        (nn.Conv1d(6, 2, 3), (6, 1)),
        (nn.Conv2d(6, 2, 3, groups=2), (6, 1, 1)),
        (nn.Linear(5, 2), (5,)),
    ):
        quantizers = config.quantizers("inner", layer)
        assert quantizers is not None
        quantizer = quantizers["input_quantization"]
        assert isinstance(quantizer, RSign)
        assert quantizer.shift.shape == shape
    assert isinstance(QActivation(RSign(3, 0), 0.0)(torch.randn(2, 3)), Tensor)
