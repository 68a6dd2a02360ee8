"""What is assigned to a layer, by whatever name, or hooked onto its quantizers, takes effect."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitorch
from bitorch.deployment.can_deploy import can_deploy
from bitorch.layers import (
    QActivation,
    QConv1d,
    QConv2d,
    QConv2d_NoAct,
    QConv3d,
    QConvTranspose2d,
    QEmbedding,
    QEmbeddingBag,
    QLinear,
    QMultiheadAttention,
)
from bitorch.layers.config import config
from bitorch.layers.low_bit import LowBit
from bitorch.quantizations import (
    ApproxSign,
    GradientDoReFa,
    Identity,
    InputCalibrated,
    InputDoReFa,
    InputLSQ,
    Quantization,
    RSign,
    Sign,
    WeightDoReFa,
    WeightLSQ,
    WeightTTQ,
)

LOW_BIT: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "linear": (lambda **q: QLinear(4, 3, **q), (5, 4)),
    "conv1d": (lambda **q: QConv1d(4, 3, 3, padding=1, **q), (2, 4, 5)),
    "conv2d": (lambda **q: QConv2d(4, 3, 3, padding=1, **q), (2, 4, 5, 5)),
    "conv3d": (lambda **q: QConv3d(4, 3, 3, padding=1, **q), (2, 4, 3, 3, 3)),
    "transposed": (lambda **q: QConvTranspose2d(4, 3, 3, **q), (2, 4, 3, 3)),
    "projection": (lambda **q: QMultiheadAttention(4, 2, **q).q_projection, (2, 3, 4)),
}


def packed(model: nn.Module, x: Tensor) -> Tensor:
    y = bitorch.deploy(model, x)(x)
    assert isinstance(y, Tensor)
    return y


@pytest.fixture(params=LOW_BIT)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def twins(kind: str, **new: Any) -> tuple[Any, Any, Tensor]:
    """A layer with Sign everywhere, one that was made with other quantizers and has its parameters, and an input."""
    build, shape = LOW_BIT[kind]
    old = build(input_quantization=Sign(), weight_quantization=Sign())
    wanted = build(**{"input_quantization": Sign(), "weight_quantization": Sign(), **new})
    with torch.no_grad():
        wanted.weight.copy_(old.weight)
        if old.bias is not None:
            wanted.bias.copy_(old.bias)
    return old, wanted, torch.randn(shape)


@pytest.mark.parametrize("name", ["weight_quantization", "_weight_quantize"])
def test_weight_quantizers(kind: str, name: str) -> None:
    layer, wanted, x = twins(kind, weight_quantization=WeightDoReFa(3))
    quantizer = WeightDoReFa(3)
    setattr(layer, name, quantizer)
    assert layer.weight_quantization is layer._weight_quantize is quantizer
    assert set(layer._modules) == {"activation", "weight_quantization"}
    assert torch.equal(layer(x), wanted(x))


def test_weight_steps_start_with_the_weight_unless_they_are_set(kind: str) -> None:
    layer, wanted, x = twins(kind, weight_quantization=WeightLSQ(3))
    wanted.weight_quantization.initialize_(wanted._quantizer_weight())
    layer._weight_quantize = WeightLSQ(3)
    assert torch.equal(layer.weight_quantization.step, wanted.weight_quantization.step)
    assert torch.equal(layer(x), wanted(x))
    learned = WeightLSQ(3)
    learned.initialize_(torch.ones(3, 3))
    step = learned.step.detach().clone()
    layer.weight_quantization = learned
    assert torch.equal(layer.weight_quantization.step, step)
    layer.weight_quantization = WeightTTQ()
    layer(x)


@pytest.mark.parametrize("new", [InputDoReFa(2), ApproxSign(), Identity()])
def test_input_quantizers(kind: str, new: Quantization) -> None:
    layer, wanted, x = twins(kind, input_quantization=copy.deepcopy(new))
    layer.input_quantization = new
    assert layer.input_quantization is layer.activation.activation_function is new
    assert set(layer._modules) == {"activation", "weight_quantization"}
    assert torch.equal(layer(x), wanted(x))
    assert getattr(layer, "pad_value", None) == getattr(wanted, "pad_value", None)


def test_names_and_gradient_quantizers(kind: str) -> None:
    layer, wanted, x = twins(kind, input_quantization="inputdorefa", weight_quantization="weightdorefa")
    layer.input_quantization, layer.weight_quantization = "inputdorefa", "weightdorefa"
    assert torch.equal(layer(x), wanted(x))
    layer.gradient_quantization = quantizer = GradientDoReFa(4)
    assert layer.gradient_quantization is quantizer
    with pytest.raises(TypeError, match="gradient_quantization must be None or a Quantization instance"):
        layer.gradient_quantization = nn.ReLU()
    layer.gradient_quantization = None
    assert layer.gradient_quantization is None


@pytest.mark.parametrize("name", ["weight_quantization", "_weight_quantize", "input_quantization"])
@pytest.mark.parametrize("wrong", [Sign, nn.ReLU(), 2, None, torch.sign])
def test_wrong_quantizers_leave_the_layer_as_it_was(kind: str, name: str, wrong: Any) -> None:
    layer, _, x = twins(kind)
    before = layer(x)
    rule = "(weight|input)_quantization must be a Quantization instance or the name of one, got"
    with pytest.raises(TypeError, match=rule):
        setattr(layer, name, wrong)
    with pytest.raises(ValueError, match="quantization: no quantization is named 'sine'"):
        setattr(layer, name, "sine")
    assert torch.equal(layer(x), before)


def test_what_does_not_fit_leaves_the_layer_as_it_was() -> None:
    wide: Any = QLinear(100_000, 1, device="meta", input_quantization=Sign(), weight_quantization=WeightDoReFa(8))
    with pytest.raises(ValueError, match="too wide for exact sums"):
        wide.input_quantization = InputDoReFa(8)
    assert isinstance(wide.input_quantization, Sign)
    wide.exact = False
    wide.input_quantization = InputDoReFa(8)
    with pytest.raises(ValueError, match="too wide for exact sums"):
        wide.exact = True
    assert wide.exact is False
    conv: Any = QConv2d(2, 4, 3)
    with pytest.raises(ValueError, match="WeightLSQ has a step for each of 3 channels, but the weight"):
        conv.weight_quantization = WeightLSQ(2, channels=3)
    assert isinstance(conv.weight_quantization, Sign)


def test_borders_follow_the_quantizer_unless_they_were_said() -> None:
    conv: Any = QConv2d(2, 3, 3, padding=1, input_quantization=Sign())
    assert conv.pad_value == -1
    conv.input_quantization = InputDoReFa(2)
    assert conv.pad_value == 0
    conv.activation = Sign()
    assert conv.pad_value == -1
    conv.pad_value = 1
    conv.input_quantization = InputDoReFa(2)
    assert conv.pad_value == 1
    quantizer = InputCalibrated(4)
    with pytest.raises(ValueError, match="pad_value must be 0 with InputCalibrated"):
        conv.input_quantization = quantizer
    assert isinstance(conv.input_quantization, InputDoReFa)
    assert conv.pad_value == 1
    said: Any = QConv2d(2, 3, 3, padding=1, input_quantization=Sign(), pad_value=0)
    said.input_quantization = ApproxSign()
    assert said.pad_value == 0


@pytest.mark.parametrize(
    ("build", "name", "stands_for"),
    [
        (QEmbedding, "embedding_weight_quantization", "weight_quantization"),
        (QEmbedding, "embedding_output_quantization", "output_quantization"),
        (QEmbeddingBag, "embedding_weight_quantization", "weight_quantization"),
        (QEmbeddingBag, "embedding_input_quantization", "output_quantization"),
    ],
)
def test_embeddings(build: Any, name: str, stands_for: str) -> None:
    torch.manual_seed(3)
    layer = build(6, embedding_dim=4)
    wanted = build(6, embedding_dim=4, **{stands_for: WeightDoReFa(3)})
    wanted.load_state_dict(layer.state_dict())
    quantizer = WeightDoReFa(3)
    for assigned in (name, stands_for):
        layer = copy.deepcopy(layer)
        setattr(layer, assigned, quantizer)
        assert getattr(layer, name) is getattr(layer, stands_for) is quantizer
        assert set(layer._modules) == {"weight_quantization", "output_quantization"}
        indices = torch.tensor([[0, 5]])
        assert torch.equal(layer(indices), wanted(indices))
    with pytest.raises(TypeError, match=f"{stands_for} must be a Quantization instance or the name of one, got 3"):
        setattr(layer, name, 3)
    layer.embedding_weight_quantization = WeightLSQ(4)
    assert layer.weight_quantization.step.isfinite()


def test_names_that_a_layer_does_not_have() -> None:
    with pytest.raises(AttributeError, match="QConv2d_NoAct has no input_quantization, so nothing would read it"):
        QConv2d_NoAct(1, 1, 1).input_quantization = Sign()
    with pytest.raises(AttributeError, match="QEmbedding has no gradient_quantization, so nothing would read it"):
        QEmbedding(2, embedding_dim=2).gradient_quantization = GradientDoReFa(2)
    with pytest.raises(AttributeError, match="QLinear has no output_quantization, so nothing would read it"):
        QLinear(2, 2).output_quantization = Sign()
    with pytest.raises(
        AttributeError, match=r"has no input_quantization of its own, .*set layer\.q_projection\.input_"
    ):
        QMultiheadAttention(4, 2).input_quantization = Sign()


# Any module as activation.

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "sign": Sign,
    "dorefa": lambda: InputDoReFa(2),
    "sequential": lambda: nn.Sequential(nn.Hardtanh(), InputDoReFa(2)),
    "relu in an activation": lambda: with_function(nn.ReLU()),
    "own activation": lambda: Doubling(InputDoReFa(2), 0),
}


class Doubling(QActivation):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def with_function(module: nn.Module) -> QActivation:
    activation: Any = QActivation(Sign(), 0)
    activation.activation_function = module
    return activation  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_any_module_is_an_activation(kind: str, name: str) -> None:
    layer, reference, x = twins(kind)
    module = ACTIVATIONS[name]()
    layer.activation = module
    assert layer.activation is module
    reference.activation = nn.Identity()  # computes on values
    value = module(x)
    pad = getattr(layer, "pad_value", None)
    if pad is not None:
        reference.pad_value = pad
    torch.testing.assert_close(layer(x), reference(value))
    assert layer(x).requires_grad
    repr(layer)
    assert isinstance(layer.input_quantization, Quantization)
    x.requires_grad_()
    g = torch.randn_like(layer(x))
    one = torch.autograd.grad(layer(x), x, g, allow_unused=True)[0]
    other = torch.autograd.grad(reference(module(x)), x, g, allow_unused=True)[0]
    torch.testing.assert_close(one, other)
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))


def test_a_quantizer_as_activation_is_exact_and_deploys() -> None:
    torch.manual_seed(4)
    model = nn.Sequential(QLinear(6, 4, input_quantization=InputDoReFa(2))).eval()
    x = torch.randn(3, 6)
    wanted = model(x)
    layer: Any = model[0]
    layer.activation = layer.input_quantization
    assert layer._max_codes() == (3, 1)
    assert torch.equal(model(x), wanted)
    assert torch.equal(packed(model, x), wanted)
    both = nn.Sequential(model, QLinear(4, 2)).eval()
    assert torch.equal(bitorch.deploy(both, x, partial=True).model(x), both(x))


@pytest.mark.parametrize("name", ["identity", "sequential", "relu in an activation", "own activation"])
def test_other_modules_are_not_deployed_and_break_nothing(name: str) -> None:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), QLinear(4, 3), QLinear(3, 2)).eval()
    layer: Any = model[2]
    layer.activation = ACTIVATIONS[name]().eval()
    x = torch.randn(8, 6)
    found = str(can_deploy(model, x))
    assert "not a quantizer" in found or "a Doubling with a forward of its own" in found
    assert torch.equal(bitorch.deploy(model, x, partial=True).model(x), model(x))
    bitorch.report(model, x)
    bitorch.check(model.train(), (x, torch.randint(0, 2, (8,))))
    if "own" not in name:
        with pytest.raises(
            ValueError, match=r"layer '2': the layer's activation is a \w+, not a quantizer, and has no"
        ):
            bitorch.set_bits(model, (1, 2))
        layer.input_quantization = InputDoReFa(3)
        assert layer.input_quantization.bit_width == 3


@pytest.mark.parametrize("wrong", [Sign, torch.relu, None, 3])
def test_what_is_no_activation(wrong: Any) -> None:
    layer: Any = QLinear(2, 2)
    with pytest.raises(
        TypeError, match=r"activation must be a module, such as a quantizer, .* or nn\.Identity\(\), got"
    ):
        layer.activation = wrong
    assert isinstance(layer.activation, QActivation)


# Hooks.


def quantizers_of(layer: LowBit) -> dict[str, nn.Module]:
    return {
        "activation": layer.activation,
        "input": layer.input_quantization,
        "weight": layer.weight_quantization,
    }


HOOKS: dict[str, Callable[[nn.Module, Callable[..., None]], Any]] = {
    "forward": lambda module, see: module.register_forward_hook(lambda m, i, o: see(i, o)),
    "forward_pre": lambda module, see: module.register_forward_pre_hook(lambda m, i: see(i)),
    "backward": lambda module, see: module.register_full_backward_hook(lambda m, i, o: see(i, o)),
    "backward_pre": lambda module, see: module.register_full_backward_pre_hook(lambda m, o: see(o)),
}


@pytest.mark.parametrize("which", ["activation", "input", "weight"])
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("is_learned", [False, True])
def test_hooks_fire_and_change_no_bit(kind: str, which: str, hook: str, is_learned: bool) -> None:
    torch.manual_seed(6)
    layer, _, x = twins(kind)
    if is_learned:
        layer.input_quantization, layer.weight_quantization = InputLSQ(4), WeightLSQ(3)
        layer.input_quantization.fit_(x)
    else:
        layer.input_quantization, layer.weight_quantization = ApproxSign(), WeightDoReFa(2, variant="paper")
    x[0] = torch.nan if not is_learned else x[0]
    x.requires_grad_()

    def step() -> list[Tensor]:
        layer.zero_grad()
        y = layer(x)
        g = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
        wanted = [x, *(p for p in layer.parameters() if p.requires_grad)]
        if "_attention" in layer.__dict__:
            wanted.append(layer._attention[0].in_proj_weight)
        return [y, *torch.autograd.grad(y, wanted, g)]

    expected = step()
    seen: list[Any] = []
    handle = HOOKS[hook](quantizers_of(layer)[which], lambda *values: seen.append(values))
    given = step()
    assert len(seen) == 1
    for one, other in zip(given, expected, strict=True):
        assert torch.equal(one.nan_to_num(7), other.nan_to_num(7))
    if hook == "forward":
        (arguments, output), module = seen[0], quantizers_of(layer)[which]
        handle.remove()
        assert torch.equal(output.nan_to_num(7), module(arguments[0]).nan_to_num(7))
    handle.remove()
    step()
    assert len(seen) == 1


def test_global_hooks_fire() -> None:
    layer = QLinear(4, 3)
    x = torch.randn(2, 4)
    expected = layer(x)
    seen = []
    handle = torch.nn.modules.module.register_module_forward_hook(lambda module, i, o: seen.append(module))
    try:
        assert torch.equal(layer(x), expected)
    finally:
        handle.remove()
    assert {layer.activation, layer.input_quantization, layer.weight_quantization, layer} == set(seen)


@pytest.mark.parametrize("which", ["activation", "input", "weight"])
def test_hooks_that_change_something_are_followed(kind: str, which: str) -> None:
    layer, reference, x = twins(kind)
    reference.activation = nn.Identity()
    if hasattr(layer, "pad_value"):
        layer.pad_value = reference.pad_value = 0
    handle = quantizers_of(layer)[which].register_forward_hook(lambda module, arguments, value: value * 0.3)
    value = Sign()(x)
    wanted = 0.3 * reference(value) if getattr(reference, "bias", None) is None else None
    if wanted is None:
        bias = reference(torch.zeros_like(value))
        wanted = 0.3 * (reference(value) - bias) + bias
    torch.testing.assert_close(layer(x), wanted)
    handle.remove()
    handle = quantizers_of(layer)[which].register_forward_pre_hook(lambda module, arguments: (-arguments[0],))
    if which != "weight":
        torch.testing.assert_close(layer(x), reference(Sign()(-x)))
    handle.remove()


def test_hooked_layers_in_deployment() -> None:
    torch.manual_seed(7)
    model = nn.Sequential(QLinear(6, 4)).eval()
    x = torch.randn(3, 6)
    layer: Any = model[0]
    handle = layer.input_quantization.register_forward_hook(lambda module, i, o: None)
    assert torch.equal(packed(model, x), model(x))
    handle.remove()
    layer.input_quantization.register_forward_hook(lambda module, i, o: o * 0.5)
    assert not can_deploy(model, x)
    both = nn.Sequential(model, QLinear(4, 2)).eval()
    partial = bitorch.deploy(both, x, partial=True)
    assert "its Sign has forward hooks" in str(partial)
    assert torch.equal(partial.model(x), both(x))


# Defaults.


def test_defaults_may_be_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    default = ApproxSign()
    monkeypatch.setattr(config, "input_quantization", default)
    monkeypatch.setattr(config, "weight_quantization", WeightLSQ(4))
    layers: list[Any] = [QLinear(4, 3), QConv2d(4, 3, 3), QConvTranspose2d(4, 3, 3)]
    x = torch.randn(2, 4)
    assert torch.equal(layers[0].input_quantization(x), default(x))
    assert all(layer.input_quantization is default for layer in layers)  # as BITorch has it
    steps = {id(layer.weight_quantization.step) for layer in layers}
    assert len(steps) == 3  # what is learned is each layer's own
    assert isinstance(config.weight_quantization, WeightLSQ)
    assert config.weight_quantization.step.isnan()
    assert QActivation().activation_function is default
    assert QEmbedding(3, embedding_dim=2).output_quantization is default
    monkeypatch.setattr(config, "input_quantization", RSign(4, 0))
    one, other = QLinear(4, 3), QLinear(4, 3)
    assert one.input_quantization is not other.input_quantization
    assert F.linear(x, one.weight).shape == one(x).shape
    monkeypatch.setattr(config, "input_quantization", Sign)
    with pytest.raises(TypeError, match=r"the default of input_quantization, in bitorch\.layers\.config.*did you mean"):
        QLinear(4, 3)
