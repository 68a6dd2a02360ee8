"""Containers, recipes, registries and decorators, as engines that were written for BITorch use them."""

from __future__ import annotations

import copy
import gc
import inspect
import pickle
import re
import weakref
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bitorch
from bitorch import RuntimeMode, change_mode, pause_wrapping
from bitorch.layers import QConv1d, QConv2d, QConv3d, QLinear
from bitorch.layers.extensions import (
    BaseImplementation,
    CustomImplementationMixin,
    DefaultImplementationMixin,
    LayerContainer,
    LayerImplementation,
    LayerRecipe,
    LayerRegistry,
)
from bitorch.layers.register import QLinearImplementation, all_layer_registries, q_conv2d_registry, q_linear_registry
from bitorch.quantizations import InputDoReFa, Sign, WeightDoReFa

AUTO = RuntimeMode.INFERENCE_AUTO
COPIES = (copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer)))


class Plain:
    """What is no module."""

    def __init__(self, number: int, factor: int = 2) -> None:
        self.number, self.factor = number, factor

    @property
    def itself(self) -> Plain:
        return self

    def to(self, device: object) -> Plain:
        self.device = device
        return self

    def same(self) -> Plain:
        return self

    def __call__(self, x: int) -> int:
        return self.factor * x


registry = LayerRegistry("Plain")


class PlainImplementation(LayerImplementation):
    def __init__(self, supported_modes: int) -> None:
        super().__init__(registry, supported_modes)


@PlainImplementation(RuntimeMode.DEFAULT)
class PlainLayer(DefaultImplementationMixin, Plain):
    """Found by pickle, although the name is that of a factory."""


#: For type checkers, who take no notice of what a decorator makes of a class.
FACTORY: Any = PlainLayer


class Fast(CustomImplementationMixin, Plain):
    """Takes no device."""

    @classmethod
    def can_clone(cls, recipe: LayerRecipe) -> tuple[bool, str]:
        return recipe.get_arg(1, "factor", 2) != 13, "13 is bad luck"

    @classmethod
    def create_clone_from(cls, recipe: LayerRecipe) -> Fast:  # type: ignore[override]  # as bitorch-engine does
        return cls(*recipe.args, **recipe.kwargs)


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    for one in (registry, *all_layer_registries()):
        one.unregister_custom_implementations()
        one.clear()
    assert bitorch.mode is RuntimeMode.DEFAULT


def test_import_paths_of_the_page() -> None:
    page = (Path(__file__).parent.parent / "docs" / "bitorch.md").read_text(encoding="utf-8")
    section = page.split("## Modes and engines")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(bitorch[\w.]*)` \| (.*) \|$", section, re.MULTILINE)
    assert len(rows) == 11
    for module, names in rows:
        for name in re.findall(r"`(\w+)`", names):
            assert hasattr(import_module(module), name), f"{module}.{name}"
    assert bitorch.convert is bitorch.layers.convert


def test_a_container_stands_for_its_implementation() -> None:
    layer = LayerContainer(Plain, 1, factor=3)
    assert isinstance(layer, LayerContainer)
    assert isinstance(layer, Plain)
    assert layer(5) == 15
    layer.factor = 4
    assert layer(5) == 20
    assert layer.layer_implementation.factor == 4
    del layer.factor
    assert not hasattr(layer, "factor")
    assert "LayerContainer" in repr(layer)
    assert "Plain" in repr(layer)
    assert {"recipe", "number", "same"} <= set(dir(layer))
    assert vars(layer) == {"number": 1}


def test_what_gives_the_implementation_gives_the_container() -> None:
    class Patched(LayerContainer[Plain]):
        patch = [*LayerContainer.patch, "same"]  # noqa: RUF012 - as BITorch's users write it

    layer = Patched(Plain, 1)
    assert layer.itself is layer
    assert layer.to("cpu") is layer
    assert layer.layer_implementation.device == "cpu"
    assert layer.same() is layer
    assert LayerContainer(Plain, 1).same().__class__ is Plain


def test_the_implementation_is_exchanged() -> None:
    layer = LayerContainer(Plain, 1)
    held = [layer]
    layer.replace_layer_implementation(Fast(1, 7))
    assert held[0](2) == 14
    assert isinstance(layer, Fast)
    assert layer.recipe.args == (1,)
    assert set(LayerContainer.internal_variable_names) == {"_layer_implementation", "_recipe"}


def test_a_container_around_a_module_is_a_child() -> None:
    layer: Any = LayerContainer(nn.Linear, 4, 3)
    net = nn.Sequential(layer, nn.ReLU())
    x = torch.randn(2, 4)
    assert torch.equal(net(x), layer.layer_implementation(x).relu())
    assert set(net.state_dict()) == {"0.weight", "0.bias"}
    assert net.eval() is net
    assert not layer.training
    for change in (layer.train, layer.double, layer.cpu, lambda: layer.to(torch.float32)):
        assert change() is layer
    net.load_state_dict({name: torch.zeros_like(value) for name, value in net.state_dict().items()})
    assert layer.weight.abs().sum() == 0


@pytest.mark.parametrize("copied", COPIES)
def test_containers_are_copied(copied: Any) -> None:
    for layer in (LayerContainer(nn.Linear, 4, 3), FACTORY(1, factor=3)):
        other = copied(layer)
        assert type(other) is LayerContainer
        assert other.recipe.layer is other
        assert other.layer_implementation is not layer.layer_implementation
        assert other.recipe.args == layer.recipe.args
        assert other.__class__ is layer.__class__


def test_recipes() -> None:
    recipe = LayerRecipe(layer=None, args=(1, 2), kwargs={"three": 3})
    assert recipe.get_positional_arg(1) == 2
    with pytest.raises(IndexError):
        recipe.get_positional_arg(2)
    assert [recipe.get_arg(i, key, 9) for i, key in enumerate(("one", "three", "three", "four"))] == [1, 2, 3, 9]
    same = LayerRecipe(layer=None, args=(1, 2), kwargs={"three": 3})
    assert recipe == recipe
    assert recipe != same
    assert len({recipe, same}) == 2
    with pytest.raises(AttributeError):
        recipe.args = ()  # type: ignore[misc]


def test_a_factory_builds_for_the_mode() -> None:
    layer = FACTORY(1, factor=3)
    assert isinstance(layer, LayerContainer)
    assert isinstance(layer, FACTORY.class_)
    assert layer in registry
    assert registry.layer_instances == {layer}
    assert registry.get_recipe_for(layer) is layer.recipe is registry.get_recipe_for(layer.layer_implementation)
    assert registry.get_recipe_for(Plain(1)) is None
    with pause_wrapping():
        assert type(FACTORY(1)) is FACTORY.class_
    with change_mode(AUTO), pytest.raises(RuntimeError, match=r"Plain: no implementation\(s\) .* inference_auto"):
        FACTORY(1)
    PlainImplementation(AUTO)(Fast)
    with change_mode(AUTO):
        assert isinstance(FACTORY(1), Fast)


def test_layers_are_converted_and_back() -> None:
    PlainImplementation(AUTO + RuntimeMode.GPU)(Fast)
    one, other = FACTORY(1, factor=3), FACTORY(2)
    registry.convert_layers_to(RuntimeMode.GPU, only=[one.layer_implementation], device="cpu")
    assert isinstance(one, Fast)
    assert not isinstance(other, Fast)
    assert one.layer_implementation.device == "cpu"
    registry.convert_layers_to(RuntimeMode.GPU, only=iter([other]))
    assert isinstance(other, Fast)
    assert (one.factor, other.factor) == (3, 2)
    assert registry.layer_instances == {one, other}
    registry.convert_layers_to(RuntimeMode.RAW)
    assert type(one.layer_implementation) is type(other.layer_implementation) is FACTORY.class_


def test_the_device_is_handed_on_by_position() -> None:
    given: list[object] = []

    @PlainImplementation(AUTO)
    class Placed(Fast):
        @classmethod
        def create_clone_from(cls, *arguments: Any) -> Placed:
            given.extend(arguments)
            return cls(1)

    layer = FACTORY(1)
    registry.convert_layers_to(AUTO, device="meta")
    assert given == [layer.recipe, "meta"]
    assert type(layer.layer_implementation) is Placed


def test_a_refusal_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    PlainImplementation(AUTO)(Fast)
    layers = [FACTORY(number, 13 if number == 2 else 3) for number in range(5)]
    with pytest.raises(RuntimeError, match=r"Plain: .*implementation\(s\).* inference_auto .*Fast: 13 is bad luck"):
        registry.convert_layers_to(AUTO)
    assert not any(isinstance(layer, Fast) for layer in layers)
    assert not registry.is_replacing
    registry.convert_layers_to(AUTO, only=layers[:2], verbose=True)
    assert capsys.readouterr().out == "Plain: PlainLayer → Fast\n" * 2


def test_the_first_that_takes_it() -> None:
    class Second(Fast):
        @classmethod
        def can_clone(cls, recipe: LayerRecipe) -> tuple[bool, str]:
            return True, ""

    PlainImplementation(AUTO)(Fast)
    PlainImplementation(AUTO)(Second)
    assert registry.get_layer(AUTO).class_ is Fast  # nothing is to be cloned
    assert registry.get_layer(AUTO, LayerRecipe(None, (1, 13), {})).class_ is Second
    assert registry.get_layer().class_ is FACTORY.class_
    assert len(registry.layer_implementations) == 3
    registry.unregister_custom_implementations()
    assert registry.layer_implementations == {FACTORY}


def test_a_registry_keeps_no_layer_alive() -> None:
    layer = FACTORY(1)
    inside = weakref.ref(layer.layer_implementation)
    assert len(registry.layer_instances) == 1
    del layer
    gc.collect()
    assert inside() is None
    assert not registry.layer_instances
    kept = FACTORY(1)
    registry.clear()
    assert kept is not None
    assert not registry.layer_instances


def test_weights_go_along() -> None:
    own = LayerRegistry("Own")

    @LayerImplementation(own, RuntimeMode.DEFAULT)
    class Own(DefaultImplementationMixin, nn.Linear):
        pass

    layer: Any = Own(4, 3).eval()
    weight = layer.weight
    own.convert_layers_to(RuntimeMode.DEFAULT)
    assert layer.weight is not weight
    assert torch.equal(layer.weight, weight)
    assert not layer.training
    layer.replace_layer_implementation(nn.Linear(4, 2))
    with pytest.warns(UserWarning, match="Own.* starts with new values of weight, bias"):
        own.convert_layers_to(RuntimeMode.DEFAULT)


def test_what_cannot_be_registered() -> None:
    for modes in (-1, 16, "cpu"):
        with pytest.raises(AssertionError, match="supported_modes must be a RuntimeMode"):
            LayerImplementation(registry, modes)  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="Fast is registered for mode default, so it must derive from Default"):
        PlainImplementation(RuntimeMode.DEFAULT)(Fast)
    with pytest.raises(AssertionError, match="Plain is registered for mode gpu, so it must derive from Custom"):
        PlainImplementation(RuntimeMode.GPU)(Plain)


def test_what_an_implementation_has_to_say() -> None:
    recipe = LayerRecipe(None, (), {})
    calls = (
        BaseImplementation.is_default_implementation,
        lambda: CustomImplementationMixin.can_clone(recipe),
        lambda: CustomImplementationMixin.create_clone_from(recipe),
    )
    for call in calls:
        with pytest.raises(NotImplementedError, match="must define the class method"):
            call()
    assert DefaultImplementationMixin.is_default_implementation()
    assert DefaultImplementationMixin.can_clone(recipe)[0]
    assert not CustomImplementationMixin.is_default_implementation()


CONVOLUTION = {
    "stride": 2,
    "padding": 1,
    "dilation": 1,
    "groups": 2,
    "bias": False,
    "padding_mode": "zeros",
    "device": "cpu",
    "dtype": torch.float64,
}
LINEAR = {"bias": False, "device": "cpu", "dtype": torch.float64}


@pytest.mark.parametrize("kind", [QConv1d, QConv2d, QConv3d])
@pytest.mark.parametrize(
    "copied", [lambda layer: layer, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))]
)
def test_arguments_of_convolutions(kind: type[QConv2d], copied: Any) -> None:
    layer = copied(kind(4, 6, 3, **CONVOLUTION, weight_quantization=WeightDoReFa(2)))  # type: ignore[arg-type]
    expected = {"in_channels": 4, "out_channels": 6, "kernel_size": 3, **CONVOLUTION}
    assert kind.get_args_as_kwargs(layer.recipe) == expected
    assert layer.recipe.args == (4, 6, 3)
    assert layer.recipe.layer is layer
    assert layer.recipe.kwargs == {**CONVOLUTION, "weight_quantization": layer.weight_quantization}
    by_name = LayerRecipe(None, (), {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "groups": 2})
    found = kind.get_args_as_kwargs(by_name)
    assert found["groups"] == 2
    assert found["stride"] == 1
    assert found["bias"] is False
    assert len(found) == 11
    with pytest.raises(IndexError, match="no argument kernel_size"):
        kind.get_args_as_kwargs(LayerRecipe(None, (4, 6), {}))


def test_arguments_of_linear_layers() -> None:
    given = {
        "input_quantization": InputDoReFa(2),
        "weight_quantization": Sign(),
        "gradient_cancellation_threshold": 0.5,
    }
    layer = QLinear(4, 3, **LINEAR, **given)  # type: ignore[arg-type]
    assert QLinear.get_args_as_kwargs(layer.recipe) == {"in_features": 4, "out_features": 3, **LINEAR, **given}
    layer.weight_quantization = other = WeightDoReFa(2)
    assert QLinear.get_args_as_kwargs(layer.recipe)["weight_quantization"] is other
    assert layer.recipe.kwargs["weight_quantization"] is other
    plain = QLinear(4, out_features=3)
    assert (plain.recipe.args, plain.recipe.kwargs) == ((4,), {"out_features": 3})
    assert QLinear.get_args_as_kwargs(plain.recipe)["bias"] is True


def test_arguments_are_what_the_layer_is_by_now() -> None:
    layer = QConv2d(4, 6, 3, bias=True, input_quantization="inputdorefa")
    layer.stride, layer.bias, layer.pad_value, layer.exact = (2, 2), None, 1.0, False
    assert layer.recipe.kwargs.items() >= {"stride": (2, 2), "bias": False, "pad_value": 1.0, "exact": False}.items()
    again = QConv2d(*layer.recipe.args, **layer.recipe.kwargs)
    again.load_state_dict(layer.state_dict())
    x = torch.rand(2, 4, 5, 5)
    assert torch.equal(again(x), layer(x))


@pytest.mark.parametrize("kind", [nn.Linear, nn.Conv2d])
def test_converted_layers_have_a_recipe(kind: type[nn.Module]) -> None:
    float_layer = nn.Linear(4, 3) if kind is nn.Linear else nn.Conv2d(4, 6, (3, 2), padding=1, groups=2)
    net = nn.Sequential(float_layer)
    bitorch.quantize_(net, bitorch.LowBitConfig(weight_bits=1, activation_bits=2, first=8, last=8))
    layer: Any = net[0]
    again = type(layer)(*layer.recipe.args, **layer.recipe.kwargs)
    again.load_state_dict(layer.state_dict())
    x = torch.rand(2, 4) if kind is nn.Linear else torch.rand(2, 4, 5, 5)
    assert torch.equal(again(x), layer(x))


def test_float_layers_have_no_recipe() -> None:
    net = nn.Sequential(QLinear(4, 3))
    bitorch.float_(net)
    assert type(net[0]) is nn.Linear
    assert vars(net[0]).keys() == vars(nn.Linear(4, 3)).keys()


def test_layers_stay_ordinary_classes() -> None:
    class Own(QLinear):
        def __init__(self, size: int) -> None:
            super().__init__(size, size)

    assert QLinear.class_ is QLinear
    assert QConv3d.class_ is QConv3d
    layer = QLinear(4, 3)
    assert layer.layer_implementation is layer
    assert layer in q_linear_registry
    assert layer not in q_conv2d_registry
    assert q_linear_registry.get_recipe_for(layer).args == (4, 3)  # type: ignore[union-attr]
    assert q_conv2d_registry.get_recipe_for(layer) is None
    names = list(inspect.signature(QLinear).parameters)
    assert names[:3] == ["in_features", "out_features", "bias"]
    assert "self" not in names
    assert list(inspect.signature(QConv2d).parameters)[:3] == ["in_channels", "out_channels", "kernel_size"]
    assert list(inspect.signature(Own).parameters) == ["size"]
    assert list(inspect.signature(layer).parameters) == ["args", "kwargs"]  # that of a call, as of any module
    assert Own(3).recipe.args == (3, 3)
    gone = weakref.ref(layer)
    assert layer in q_linear_registry.layer_instances
    del layer
    assert gone() is None  # at once: nothing holds it, and it is in no circle


def engine(registered_for: int = AUTO) -> Any:
    @QLinearImplementation(registered_for)
    class Engine(CustomImplementationMixin, QLinear):
        """As one of bitorch-engine: derived from BITorch's QLinearBase."""

        made = 0

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            type(self).made += 1

        @classmethod
        def can_clone(cls, recipe: LayerRecipe) -> tuple[bool, str]:
            arguments = QLinear.get_args_as_kwargs(recipe)
            return arguments["in_features"] % 4 == 0, f"{arguments['in_features']} inputs"

        @classmethod
        def create_clone_from(cls, recipe: LayerRecipe, device: Any = None) -> Engine:
            new = cls(*recipe.args, **recipe.kwargs)
            new.weight, new.bias = recipe.layer.weight, recipe.layer.bias
            return new

    return Engine


def test_an_engine_is_asked_when_a_layer_is_built() -> None:
    engine_class = engine()
    assert type(QLinear(4, 3)) is QLinear
    torch.manual_seed(1)
    expected = QLinear(4, 3).weight
    with change_mode(AUTO):
        torch.manual_seed(1)
        layer = QLinear(4, 3, input_quantization="sign")
        assert type(layer) is engine_class
        assert getattr(engine_class, "made") == 1  # noqa: B009 - a narrowed type
        assert torch.equal(layer.weight, expected)
        assert layer.recipe.args == (4, 3)
        assert layer.layer_implementation is layer
        assert layer in q_linear_registry
        with pause_wrapping():
            assert type(QLinear(4, 3)) is QLinear
        with pytest.raises(RuntimeError, match=r"QLinear: .*inference_auto.*Engine: 5 inputs"):
            QLinear(5, 3)
        with pytest.raises(RuntimeError, match=r"QConv2d: no implementation\(s\)"):
            QConv2d(4, 3, 3)
        copies = copy.deepcopy(nn.Sequential(layer)), pickle.loads(pickle.dumps(QLinear.__new__(QLinear)))
        assert type(copies[0][0]) is engine_class
        assert type(copies[1]) is QLinear


def test_an_engine_that_is_no_low_bit_layer() -> None:
    @QLinearImplementation(RuntimeMode.GPU)
    class Foreign(CustomImplementationMixin, nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        @classmethod
        def can_clone(cls, recipe: LayerRecipe) -> tuple[bool, str]:
            return True, ""

        @classmethod
        def create_clone_from(cls, recipe: LayerRecipe, device: Any = None) -> Foreign:
            inner = QLinear(*recipe.args, **recipe.kwargs)  # not asked for again
            inner.load_state_dict(recipe.layer.state_dict())
            return cls(inner)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.inner(x)
            return y

    with change_mode(RuntimeMode.GPU):
        layer: Any = QLinear(4, 3, bias=False)
    assert type(layer) is Foreign
    assert type(layer.inner) is QLinear
    assert layer.training
    assert layer.recipe.kwargs == {"bias": False}
    assert torch.equal(layer.recipe.layer.weight, layer.inner.weight)
