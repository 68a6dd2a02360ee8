"""Quantizers of the user's own: what is overridden, replaced or named in them is what layers do."""

from __future__ import annotations

import copy
import functools
import pickle
import types
from collections.abc import Callable, Iterator
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
    QLinear,
    QMultiheadAttention,
)
from bitorch.layers.low_bit import LowBit
from bitorch.quantizations import (
    ApproxSign,
    Identity,
    InputDoReFa,
    InputLSQ,
    ProgressiveSign,
    Quantization,
    Sign,
    WeightAbsMean,
    WeightDoReFa,
    WeightTWN,
    quantization_from_name,
    quantizations_by_name,
    register_custom_quantization,
)
from bitorch.quantizations.base import STE
from bitorch.quantizations.sign_grid import SignGrid


def third(x: Tensor) -> Tensor:
    """Values on no grid of the library, with a gradient of 2."""
    return x * 2 + 0.3


class OwnQuantize(InputDoReFa):
    name = "own_quantize"

    def quantize(self, x: Tensor) -> Tensor:
        return third(x)


class OwnForward(InputDoReFa):
    name = "own_forward"

    def forward(self, x: Tensor) -> Tensor:
        return third(x)


class OwnCall(InputDoReFa):
    name = "own_call"

    def __call__(self, x: Tensor) -> Tensor:
        return third(x)


class _Mixin:
    def quantize(self, x: Tensor) -> Tensor:
        return third(x)


class OwnMixin(_Mixin, InputDoReFa):
    name = "own_mixin"


class Below(OwnQuantize):
    name = "below"


class OnTopOfTheParent(InputDoReFa):
    name = "on_top"

    def quantize(self, x: Tensor) -> Tensor:
        return super().quantize(x) * 0.7 + 0.1


class OwnSign(Sign):
    name = "own_sign"

    def quantize(self, x: Tensor) -> Tensor:
        return third(x)


class Partial(InputDoReFa):
    name = "partial"
    quantize = staticmethod(functools.partial(torch.add, 0.3, alpha=2))


def replaced(what: str, by: Any = third) -> Callable[[], Quantization]:
    def make() -> Quantization:
        quantizer = InputDoReFa(2)
        setattr(quantizer, what, by)
        return quantizer

    return make


OWN: dict[str, Callable[[], Quantization]] = {
    "quantize": lambda: OwnQuantize(2),
    "forward": lambda: OwnForward(2),
    "call": lambda: OwnCall(2),
    "mixin": lambda: OwnMixin(2),
    "inherited": lambda: Below(2),
    "super": lambda: OnTopOfTheParent(2),
    "sign": OwnSign,
    "partial": lambda: Partial(2),
    "instance's quantize": replaced("quantize"),
    "instance's forward": replaced("forward"),
    "instance's partial": replaced("quantize", functools.partial(torch.mul, 2)),
    "instance's module": replaced("quantize", nn.Hardtanh(-0.3, 0.8)),
}

LAYERS: dict[str, tuple[Callable[..., nn.Module], tuple[int, ...], Callable[..., Tensor]]] = {
    "linear": (functools.partial(QLinear, 4, 3), (5, 4), F.linear),
    "conv1d": (functools.partial(QConv1d, 4, 3, 2), (2, 4, 5), F.conv1d),
    "conv2d": (functools.partial(QConv2d, 4, 3, 2), (2, 4, 5, 5), F.conv2d),
    "conv3d": (functools.partial(QConv3d, 4, 3, 2), (2, 4, 3, 3, 3), F.conv3d),
    "transposed": (functools.partial(QConvTranspose2d, 4, 3, 2), (2, 4, 3, 3), F.conv_transpose2d),
}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("own", OWN)
def test_values_of_ones_own_are_used(own: str, kind: str) -> None:
    build, shape, function = LAYERS[kind]
    torch.manual_seed(1)
    for side in ("input_quantization", "weight_quantization"):
        other = "weight_quantization" if side == "input_quantization" else "input_quantization"
        layer: Any = build(**{side: OWN[own](), other: Sign()}, bias=False, gradient_cancellation_threshold=0)
        x = torch.randn(shape, requires_grad=True)
        w = layer.weight.detach().clone().requires_grad_()
        w_first = w.transpose(0, 1) if kind == "transposed" else w  # as quantizers see it
        value_w: Quantization = Sign()
        value_x = OWN[own]() if side == "input_quantization" else Sign()
        if side == "weight_quantization":
            value_w = OWN[own]()
        quantized = value_w(w_first)
        expected = function(value_x(x), quantized.transpose(0, 1) if kind == "transposed" else quantized)
        y = layer(x)
        torch.testing.assert_close(y, expected)
        g = torch.randn_like(y)
        wanted = torch.autograd.grad(expected, (x, w), g, retain_graph=True)
        given = torch.autograd.grad(y, (x, layer.weight), g)
        for one, other_one in zip(given, wanted, strict=True):
            torch.testing.assert_close(one, other_one)


@pytest.mark.parametrize("own", OWN)
def test_weights_have_no_codes_that_are_not_theirs(own: str) -> None:
    layer = QLinear(4, 3, weight_quantization=OWN[own](), input_quantization=Sign())
    assert layer.weight_quantization.exact_max_code is None
    for method in (layer.weight_codes, layer.weight_scale):
        with pytest.raises(
            TypeError, match="quantize or forward of its own, which its codes do not follow, so it has no"
        ):
            method()


def test_attention_and_embeddings_use_them() -> None:
    torch.manual_seed(2)
    attention = QMultiheadAttention(
        4, 2, batch_first=True, bias=False, input_quantization=OwnQuantize(2), weight_quantization=OwnQuantize(2)
    )
    x = torch.randn(1, 3, 4)
    expected = F.linear(third(x), third(attention.in_proj_weight[:4]))
    torch.testing.assert_close(attention.q_projection(x), expected)
    embedding = QEmbedding(5, embedding_dim=4, weight_quantization=OwnQuantize(2), output_quantization=OwnForward(2))
    torch.testing.assert_close(embedding(torch.tensor([1])), third(third(embedding.weight[1:2])))
    no_act = QConv2d_NoAct(2, 3, 1, weight_quantization=OwnSign())
    x = torch.randn(1, 2, 3, 3)
    torch.testing.assert_close(no_act(x), F.conv2d(x, third(no_act.weight)))


def test_a_class_that_was_patched(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = QLinear(4, 3, bias=False, input_quantization=Sign(), weight_quantization=InputDoReFa(2))
    x = torch.randn(5, 4)
    before = layer(x)
    with monkeypatch.context() as patch:
        patch.setattr(SignGrid, "quantize", lambda self, x: third(x))
        assert layer.input_quantization.exact_max_code is None
        torch.testing.assert_close(layer(x), F.linear(third(x), layer.weight_quantization(layer.weight)))
        assert ApproxSign().exact_max_code is None
    with monkeypatch.context() as patch:
        patch.setattr(InputDoReFa, "quantize", lambda self, x: third(x))

        class Later(InputDoReFa):
            name = "later"

        torch.testing.assert_close(layer(x), F.linear(layer.input_quantization(x), third(layer.weight)))
        assert Later(2).exact_max_code is None
    assert torch.equal(layer(x), before)
    assert Later(2).exact_max_code == 3
    with monkeypatch.context() as patch:
        patch.setattr(Quantization, "forward", lambda self, x: third(x))
        torch.testing.assert_close(layer(x), F.linear(third(x), third(layer.weight)))
    with monkeypatch.context() as patch:  # codes that are patched are what the library's quantize gives
        patch.setattr(Sign, "codes", lambda self, x: -torch.ones_like(x))
        assert layer.input_quantization.exact_max_code == 1
        assert torch.equal(layer(x), layer(-x))


def test_codes_of_ones_own_are_used_exactly() -> None:
    class Shifted(Sign):
        name = "shifted"

        def codes(self, x: Tensor) -> Tensor:
            return super().codes(x - 0.5)

    class Both(InputDoReFa):
        name = "both"

        def codes(self, x: Tensor) -> Tensor:
            return (x > 0.2).to(x.dtype) * 3

        def quantize(self, x: Tensor) -> Tensor:
            return self.codes(x) / 3

    class Again(OwnQuantize):
        name = "again"

        def codes(self, x: Tensor) -> Tensor:
            return torch.ones_like(x)

    x = torch.randn(5, 4)
    for quantizer in (Shifted(), Both(2), Again(2), WeightTWN(), WeightAbsMean()):
        assert quantizer.exact_max_code == quantizer.max_code
        layer = QLinear(4, 3, bias=False, input_quantization=Sign(), weight_quantization=quantizer)
        sums = torch.where(x >= 0, 1.0, -1.0).double() @ quantizer.codes(layer.weight).double().T
        assert torch.equal(layer(x), sums.float() * quantizer.scale(layer.weight))


@pytest.mark.parametrize("cls", [InputDoReFa, functools.partial(InputDoReFa, variant="paper"), WeightDoReFa, Sign])
def test_codes_or_a_scale_alone_are_what_the_quantizer_gives_too(cls: Any) -> None:
    base: Any = cls.func if isinstance(cls, functools.partial) else cls
    options = cls.keywords if isinstance(cls, functools.partial) else {}
    arguments = () if base is Sign else (2,)
    scaled = type("Scaled", (base,), {"name": "scaled", "scale": lambda self, x: torch.tensor(0.25)})(
        *arguments, **options
    )
    ones = type("Ones", (base,), {"name": "ones", "codes": lambda self, x: torch.ones_like(x)})(*arguments, **options)
    x = torch.randn(3, 4)
    assert torch.equal(scaled(x), scaled.codes(x) * 0.25)
    torch.testing.assert_close(ones(x), ones.scale(x).expand(3, 4))
    for quantizer in (scaled, ones):
        layer = QLinear(4, 2, bias=False, input_quantization=quantizer, weight_quantization=Sign())
        torch.testing.assert_close(layer(x), F.linear(quantizer(x), layer.weight_codes().float()))


@pytest.mark.parametrize("own", ["quantize", "instance's quantize"])
def test_copies_and_pickles_keep_it(own: str) -> None:
    layer = QLinear(4, 3, input_quantization=OWN[own](), weight_quantization=Sign())
    x = torch.randn(5, 4)
    expected = layer(x)
    assert torch.equal(copy.deepcopy(layer)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x), expected)
    plain = QLinear(4, 3, input_quantization=InputDoReFa(2), weight_quantization=Sign())
    plain.input_quantization.quantize = types.MethodType(  # type: ignore[method-assign]
        lambda self, x: third(x), plain.input_quantization
    )
    torch.testing.assert_close(plain(x), F.linear(third(x), Sign()(plain.weight), plain.bias))
    copied = copy.deepcopy(plain)
    assert copied.input_quantization.quantize.__self__ is copied.input_quantization  # type: ignore[attr-defined]
    del plain.input_quantization.quantize
    assert plain.input_quantization.exact_max_code == 3


def packed(model: nn.Module, x: Tensor) -> Tensor:
    y = bitorch.deploy(model, x)(x)
    assert isinstance(y, Tensor)
    return y


def net(layer: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4), layer, nn.Linear(3, 2)).eval()


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("side", ["input_quantization", "weight_quantization"])
def test_deployment_says_it_or_keeps_pytorch(own: str, side: str) -> None:
    other = "weight_quantization" if side == "input_quantization" else "input_quantization"
    options: dict[str, Any] = {side: OWN[own](), other: Sign()}
    model = net(QLinear(4, 3, **options))
    x = torch.randn(2, 6)
    found = can_deploy(model, x)
    assert not found
    which = side.removesuffix("_quantization")
    assert f"its {which} quantizer" in str(found)
    assert "has a quantize or forward of its own, which its codes do not follow" in str(found)
    assert "'1'" in str(found) or " 1 " in str(found) or "1:" in str(found)
    both = nn.Sequential(model, QLinear(2, 2, input_quantization=Sign(), weight_quantization=Sign())).eval()
    partial = bitorch.deploy(both, x, partial=True)
    assert torch.equal(partial.model(x), both(x))
    assert "which its codes do not follow" in str(partial)


def test_activations_of_their_own_in_deployment() -> None:
    x = torch.randn(2, 6)
    for activation in (OwnQuantize(2), QActivation(OwnSign(), 0)):
        model = nn.Sequential(nn.Linear(6, 4), activation, nn.Linear(4, 2)).eval()
        if can_deploy(model, x):
            torch.testing.assert_close(packed(model, x), model(x))


@pytest.mark.parametrize("own", OWN)
def test_reports_checks_and_bytes_see_no_codes(own: str) -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), QLinear(4, 3, input_quantization=OWN[own](),
                          weight_quantization=OWN[own]()))  # fmt: skip
    x, y = torch.randn(8, 6), torch.randint(0, 3, (8,))
    bitorch.check(model, (x, y))
    report = bitorch.report(model.eval(), x)
    row = next(row for row in report.to_dict()["rows"] if row["name"] == "2")
    assert row["weight_levels"] is None
    assert row["activation_levels"] is None


class PlainScale(Quantization):
    """As one writes a quantizer with a learned scale in PyTorch."""

    name = "plain_scale"
    bit_width = 4

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))  # type: ignore[assignment, method-assign]
        self.register_buffer("zero_point", torch.tensor(1.0))
        self.codes = nn.Identity()  # type: ignore[method-assign]

    def quantize(self, x: Tensor) -> Tensor:
        return self.codes((x / self.scale + self.zero_point).clamp(0, 15)) * self.scale  # type: ignore[operator]


@pytest.mark.parametrize("kind", LAYERS)
def test_parameters_may_have_the_names_of_methods(kind: str) -> None:
    build, shape, _ = LAYERS[kind]
    layer: Any = build(input_quantization=PlainScale(), weight_quantization=PlainScale())
    layer(torch.randn(shape)).sum().backward()
    for quantizer in (layer.input_quantization, layer.weight_quantization):
        assert quantizer.scale.grad is not None
        assert sorted(dict(quantizer.named_parameters())) == ["scale"]
        assert sorted(quantizer.state_dict()) == ["scale", "zero_point"]
        assert quantizer.exact_max_code is None
    other = build(input_quantization=PlainScale(), weight_quantization=PlainScale())
    other.load_state_dict(layer.state_dict())
    with torch.no_grad():
        layer.input_quantization.scale.fill_(0.25)
    for again in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), layer.to(torch.float64)):
        assert again.input_quantization.scale == 0.25
    assert layer.input_quantization.scale.dtype == torch.float64
    parameters = {name: p.detach() * 0 + 1.0 for name, p in layer.named_parameters()}
    x = torch.rand(shape, dtype=torch.float64)
    called = torch.func.functional_call(layer, parameters, (x,))
    assert not torch.equal(called, layer(x))
    del layer.input_quantization.scale
    assert callable(layer.input_quantization.scale)


def test_names_with_a_meaning_can_be_set_to_plain_values() -> None:
    class Says(Quantization):
        name = "says"

        def __init__(self) -> None:
            super().__init__()
            self.bit_width = 2
            self.max_code = 1  # type: ignore[misc]
            self.unsigned = False
            self.grid = "signed"
            self.clips_negative = False  # type: ignore[misc]
            self.no_grid = "is mine"

        def codes(self, x: Tensor) -> Tensor:
            return x.clamp(-1, 1).round()

        def scale(self, x: Tensor) -> Tensor:
            return torch.ones(())

        def quantize(self, x: Tensor) -> Tensor:
            return self.codes(x)

    assert Says().exact_max_code == 1
    model = net(QLinear(4, 3, input_quantization=Sign(), weight_quantization=Says()))
    x = torch.randn(2, 6)
    torch.testing.assert_close(packed(model, x), model(x))  # the ends are float sums


@pytest.mark.parametrize("name", ["max_code", "grid", "unsigned", "clips_negative", "no_grid", "bit_width", "name"])
@pytest.mark.parametrize("how", ["parameter", "buffer", "module"])
def test_reserved_names_say_so(name: str, how: str) -> None:
    message = (
        f"the name '{name}' is reserved for what Quantization means by it; choose another one, such as 'own_{name}'"
    )
    with pytest.raises(AttributeError, match=message):
        put(PlainScale(), name, how)


@pytest.mark.parametrize("name", ["scale", "codes", "max_code"])
@pytest.mark.parametrize("how", ["parameter", "buffer", "module"])
def test_names_that_a_quantizer_has_a_meaning_for_are_reserved_below_it(name: str, how: str) -> None:
    if how == "module" and name != "max_code":
        return  # a module can be called, as the method is
    quantizer = InputDoReFa(2)
    with pytest.raises(AttributeError, match=f"InputDoReFa: the name '{name}' is reserved for what Quantization means"):
        put(quantizer, name, how)
    with pytest.raises(AttributeError, match=f"InputDoReFa: the name '{name}' is reserved"):
        setattr(quantizer, name, 0.5)
    assert quantizer(torch.ones(1)) == 1
    assert not dict(quantizer.named_parameters())


@pytest.mark.parametrize("how", ["parameter", "buffer"])
def test_layers_with_parameters_of_those_names(how: str) -> None:
    class Own(QConv2d):
        def __init__(self) -> None:
            super().__init__(2, 3, 3, padding=1, input_quantization=InputDoReFa(2), weight_quantization=Sign())
            put(self, "weight_scale", how)
            put(self, "weight_codes", how)

    layer = Own()
    assert isinstance(layer.weight_scale, Tensor)
    layer(torch.rand(1, 2, 4, 4))
    bitorch.report(nn.Sequential(layer).eval(), torch.rand(1, 2, 4, 4))
    with pytest.raises((AttributeError, TypeError), match=r"pad_value.* (is reserved|must be a number)"):
        put(layer, "pad_value", how)


def put(module: nn.Module, name: str, how: str) -> None:
    if how == "parameter":
        setattr(module, name, nn.Parameter(torch.ones(1)))
    elif how == "buffer":
        module.register_buffer(name, torch.ones(1))
    else:
        setattr(module, name, nn.Identity())


@pytest.mark.parametrize("is_global", [True, False])
def test_a_scale_that_is_set_is_the_one_in_use(is_global: bool) -> None:
    quantizer = ProgressiveSign(use_global_scaling=is_global)
    quantizer.scale = 0.1  # type: ignore[assignment, method-assign]
    assert quantizer.current_scale == 0.1
    x = torch.tensor([-1.0, -0.1, 0.0, 0.1, 1.0])
    assert torch.allclose(quantizer(x), torch.tensor([-1, -0.4, 0, 0.4, 1]))  # T = 1 − 4^(−10·0.1) = 0.75
    layer = QLinear(5, 1, bias=False, input_quantization=quantizer, weight_quantization=Sign())
    torch.testing.assert_close(layer(x), F.linear(quantizer(x), Sign()(layer.weight)))
    quantizer.eval()
    assert quantizer(x).tolist() == [-1, -1, 1, 1, 1]
    assert torch.equal(layer(x), F.linear(quantizer(x), Sign()(layer.weight)))


@pytest.fixture
def registry() -> Iterator[None]:
    before = dict(quantizations_by_name)
    yield
    quantizations_by_name.clear()
    quantizations_by_name.update(before)


@pytest.mark.usefixtures("registry")
def test_a_class_that_is_defined_again_can_be_registered_again() -> None:
    def cell() -> type[Quantization]:
        class Mine(Identity):
            name = "mine"

        register_custom_quantization(Mine)
        return Mine

    cell()
    again = cell()
    assert quantization_from_name("mine") is again
    assert isinstance(QLinear(2, 2, input_quantization="mine").input_quantization, again)

    class Other(Identity):
        name = "mine"

    with pytest.raises(ValueError, match="the name 'mine' belongs to Mine; choose another"):
        register_custom_quantization(Other)


class RoundToTernary(STE):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clamp(-1, 1).round()


class Ternary(Quantization):
    name = "ternary"
    bit_width = 2
    max_code = 1

    def codes(self, x: Tensor) -> Tensor:
        value: Tensor = RoundToTernary.apply(x)  # type: ignore[no-untyped-call]
        return value

    def scale(self, x: Tensor) -> Tensor:
        return torch.ones(())

    def quantize(self, x: Tensor) -> Tensor:
        return self.codes(x)


def test_the_error_names_the_line_that_is_missing() -> None:
    model = net(QLinear(4, 3, input_quantization=Sign(), weight_quantization=Ternary()))
    x = torch.randn(2, 6)
    line = 'set grid = "signed" on Ternary: they are integers of 2 bits, from -2 to 1'
    assert line in str(can_deploy(model, x))
    both = nn.Sequential(model, QLinear(2, 2, input_quantization=Sign(), weight_quantization=Sign())).eval()
    assert line in str(bitorch.deploy(both, x, partial=True))
    model[1].weight_quantization.grid = "signed"  # type: ignore[index]
    torch.testing.assert_close(packed(model, x), model(x))  # the ends are float sums


def test_partial_deployment_sees_what_is_replaced_on_instances() -> None:
    x = torch.randn(3, 6)
    codes, gradient = Sign(), bitorch.quantizations.GradientDoReFa(4)
    codes.codes = lambda x: -torch.ones_like(x)  # type: ignore[method-assign]
    gradient.forward = lambda x: x * 2  # type: ignore[method-assign]
    options: list[dict[str, Any]] = [
        {"input_quantization": codes, "weight_quantization": Sign()},
        {"input_quantization": Sign(), "weight_quantization": Sign(), "gradient_quantization": gradient},
    ]
    for option in options:
        plain = QLinear(3, 2, input_quantization=Sign(), weight_quantization=Sign())
        model = nn.Sequential(nn.Linear(6, 4), QLinear(4, 3, **option), plain).eval()
        assert torch.equal(bitorch.deploy(model, x, partial=True).model(x), model(x))
        if can_deploy(model, x):
            torch.testing.assert_close(packed(model, x), model(x))  # the ends are float sums


def test_learned_ranges_with_values_of_their_own() -> None:
    class Halved(InputLSQ):
        name = "halved"

        def quantize(self, x: Tensor) -> Tensor:
            return super().quantize(x) / 2

    quantizer = Halved(4)
    quantizer.fit_(torch.rand(100))
    layer: LowBit = QLinear(4, 3, bias=False, input_quantization=quantizer, weight_quantization=Sign())
    x = torch.rand(2, 4)
    torch.testing.assert_close(layer(x), F.linear(quantizer(x), Sign()(layer.weight)))
