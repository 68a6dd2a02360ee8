"""Models in another runtime mode: on bits, with an engine's layers, and back as they were."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune, spectral_norm

import bitorch
from bitorch import LowBitConfig, RuntimeMode, change_mode, convert, pause_wrapping
from bitorch.layers import (
    CustomImplementationMixin,
    QConv1d,
    QConv2d,
    QConv2d_NoAct,
    QConv3d,
    QEmbedding,
    QLinear,
)
from bitorch.layers.extensions import (
    DefaultImplementationMixin,
    LayerContainer,
    LayerImplementation,
    LayerRecipe,
    LayerRegistry,
)
from bitorch.layers.register import (
    QLinearImplementation,
    all_layer_registries,
    convert_layers_to,
    q_conv2d_registry,
    q_linear_registry,
)
from bitorch.quantizations import Identity, InputDoReFa, Sign, WeightDoReFa

DEFAULT, CPU, GPU, AUTO = RuntimeMode.DEFAULT, RuntimeMode.CPU, RuntimeMode.GPU, RuntimeMode.INFERENCE_AUTO
X = torch.randn(3, 1, 8, 8)


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    for registry in all_layer_registries():
        registry.unregister_custom_implementations()
    assert bitorch.mode is DEFAULT


def net(**config: Any) -> Any:
    layers = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3, groups=2), nn.Flatten(),
        nn.Linear(6 * 36, 8), nn.LayerNorm(8), nn.Linear(8, 3),
    )  # fmt: skip
    bitorch.quantize_(layers, LowBitConfig(**{"weight_bits": 1, "activation_bits": 2, "first": 8, "last": 8, **config}))
    return layers


def names(model: nn.Module) -> list[str]:
    return [type(child).__name__ for child in model.children() if type(child).__name__[:2] in ("QC", "QL", "Pa")]


ON_BITS = ["PackedConv2d", "PackedConv2d", "PackedLinear", "PackedLinear"]
RANGES: tuple[dict[str, Any], ...] = (
    {},
    {"range": "calibrated"},
    {"range": "learned", "weight_bits": 2},
    {"scale": "pow2", "range": "learned"},
)


@pytest.mark.parametrize("config", RANGES, ids=str)
def test_there_and_back(config: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    model = net(**config).eval()
    if config:
        bitorch.calibrate(model, [X])
    layers, state = list(model), {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        expected = model(X)
        assert convert(model, CPU, verbose=True) is model
        assert capsys.readouterr().out.splitlines()[0] == "0: QConv2d → PackedConv2d"
        assert names(model) == ON_BITS
        assert torch.equal(model(X), expected)
        assert not any("weight_quantization" in name for name in model.state_dict())
        convert(model, CPU)
        assert torch.equal(model(X), expected)
        convert(model, DEFAULT)
    assert all(new is old for new, old in zip(model, layers, strict=True))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(model(X), expected)


def test_integers_are_those_of_the_codes() -> None:
    """Against NumPy's integers, which know neither of both layers."""
    layer = QLinear(20, 5, bias=False, input_quantization=Sign(), weight_quantization=Sign()).eval()
    x = torch.randn(7, 20)
    signs = np.where(x.numpy() >= 0, 1, -1) @ np.where(layer.weight.detach().numpy() >= 0, 1, -1).T
    assert np.array_equal(convert(layer, CPU)(x).numpy(), signs)


@pytest.mark.parametrize("is_training", [True, False])
def test_the_training_flag_survives(is_training: bool) -> None:
    model = net().train(is_training)
    expected = copy.deepcopy(model).eval()(X)
    convert(model, CPU)
    assert all(module.training == is_training for module in model)
    assert torch.equal(model.eval()(X), expected)
    model.train(not is_training)
    assert not any(part.training for layer in model for part in layer.children())  # quantizers, which might learn
    convert(model, RuntimeMode.RAW)
    assert all(module.training != is_training for module in model.modules())


def test_training_goes_on_behind_it() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    convert(model, CPU)
    convert(model, DEFAULT)
    before = model[0].weight.detach().clone()
    model(X).square().sum().backward()
    optimizer.step()
    assert not torch.equal(model[0].weight, before)
    expected = copy.deepcopy(model).eval()(X)
    assert torch.equal(convert(model.eval(), CPU)(X), expected)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_go_their_own_way(copied: Callable[[Any], Any]) -> None:
    model = net().eval()
    expected = model(X)
    other = copied(convert(model, CPU))
    weight = other[0].recipe.layer.weight
    assert torch.equal(other(X), expected.detach())
    convert(other, DEFAULT)
    assert other[0].weight is weight
    assert weight is not model[0].recipe.layer.weight
    assert torch.equal(other(X), expected)
    assert names(model) == ON_BITS


def test_nothing_keeps_layers_alive() -> None:
    model = net()
    convert(model, CPU)
    convert(model, DEFAULT)
    gone = weakref.ref(model[0])
    del model
    gc.collect()
    assert gone() is None


def test_a_layer_itself_and_a_layer_in_two_places() -> None:
    layer = QConv1d(4, 3, 3, padding=1)
    packed = convert(layer, CPU)
    assert type(packed).__name__ == "PackedConv1d"
    assert packed.recipe.layer is layer
    assert packed.layer_implementation is packed
    assert convert(packed, DEFAULT) is layer
    assert convert(layer, DEFAULT) is layer
    shared = nn.ModuleDict({"a": layer, "b": nn.Sequential(layer)})
    convert(shared, CPU)
    assert shared["a"] is shared["b"][0] is not layer  # type: ignore[index]


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "three dimensions": (lambda: QConv3d(1, 1, 3), "QConv3d: .*three dimensions"),
    "no codes": (lambda: QLinear(4, 3, input_quantization=Identity()), "QLinear: .*PackedLinear: its input quantizer"),
    "inexact": (lambda: QLinear(4, 3, exact=False), "QLinear: .*exact=False"),
    "float64": (lambda: QLinear(4, 3, dtype=torch.float64), "QLinear: .*float64"),
    "meta": (lambda: QLinear(4, 3, device="meta"), "QLinear: .*the weight is on meta"),
}


@pytest.mark.parametrize("which", REFUSED)
def test_what_cannot_be_packed(which: str) -> None:
    make, reason = REFUSED[which]
    model = nn.Sequential(QLinear(4, 4), make())
    before = list(model)
    with pytest.raises(RuntimeError, match=f"^1: {reason}") as error:
        convert(model, CPU)
    assert "implementation(s) of this layer for the mode cpu" in str(error.value)
    assert list(model) == before


def test_all_refusals_are_told_at_once() -> None:
    model = nn.ModuleDict({"fine": QLinear(4, 3), "one": QConv3d(1, 1, 3), "two": QLinear(4, 3, exact=False)})
    with pytest.raises(RuntimeError) as error:
        convert(model, CPU)
    assert [line.split(":")[0] for line in str(error.value).splitlines()] == ["one", "two"]
    with pytest.raises(RuntimeError, match=r"QLinear: no implementation\(s\) of this layer for the mode gpu \+ inf"):
        convert(model, GPU + AUTO)


def test_hooks() -> None:
    model = nn.Sequential(QLinear(4, 3))
    handle = model[0].register_forward_hook(lambda module, args, result: None)
    with pytest.raises(RuntimeError, match="it has forward hooks"):
        convert(model, CPU)
    handle.remove()
    model[0].register_full_backward_hook(lambda module, given, taken: None)
    with pytest.warns(UserWarning, match=r"0 has hooks \(backward_hooks\), which stay with the QLinear"):
        convert(model, CPU)
    convert(model, DEFAULT)
    assert len(model[0]._backward_hooks) == 1


@pytest.mark.parametrize("applied", [prune.l1_unstructured, spectral_norm])
def test_weights_that_hooks_compute(applied: Callable[..., object]) -> None:
    model = nn.Sequential(QLinear(6, 4))
    applied(model[0], "weight", *([0.5] if applied is prune.l1_unstructured else []))
    layer, x = model.eval()[0], torch.randn(3, 6)
    expected = model(x)
    convert(model, CPU)
    assert torch.equal(model(x), expected)
    assert convert(model, DEFAULT)[0] is layer
    assert torch.equal(model(x), expected)


def test_what_stays() -> None:
    class Own(QLinear):
        pass

    model = nn.Sequential(Own(4, 3), nn.Linear(3, 3), QConv2d_NoAct(3, 3, 3), QEmbedding(5, embedding_dim=3))
    before = list(model)
    with pytest.warns(UserWarning, match="0 stays as it is: Own is derived from QLinear"):
        convert(model, CPU)
    convert(model, DEFAULT)
    assert list(model) == before


def test_parents_that_read_weights() -> None:
    attention = nn.MultiheadAttention(4, 2)
    attention.out_proj = QLinear(4, 4)  # type: ignore[assignment]
    with pytest.raises(RuntimeError, match=r"out_proj: QLinear: .*its parent reads the weight without calling it"):
        convert(attention, CPU)


@pytest.mark.parametrize("kind", ["attention", "lstm"])
def test_parts_of_other_layers(kind: str) -> None:
    model: nn.Module = nn.ModuleDict(
        {"a": nn.Linear(8, 8), "b": nn.MultiheadAttention(8, 2) if kind == "attention" else nn.LSTM(8, 8)}
    )
    bitorch.quantize_(model, LowBitConfig(weight_bits=1, activation_bits=2, first=8, last=8))
    layer = model.eval().get_submodule("b")
    x = torch.rand(3, 2, 8)
    arguments = (x, x, x) if kind == "attention" else (x,)
    with torch.no_grad():
        expected = layer(*arguments)[0]
        parts = {name: type(part).__name__ for name, part in layer.named_children()}
        other = copy.deepcopy(convert(model, CPU))
        assert all(type(part).__name__ == "PackedLinear" for part in layer.children())
        assert torch.equal(layer(*arguments)[0], expected)
        for one in (model, other):
            convert(one, DEFAULT)
            assert {name: type(part).__name__ for name, part in one.get_submodule("b").named_children()} == parts
            assert torch.equal(one.get_submodule("b")(*arguments)[0], expected)


def test_a_packed_layer_with_other_weights_has_no_way_back() -> None:
    model, other = net().eval(), net().eval()
    expected = other(X)
    convert(model, CPU)
    model.load_state_dict(model.state_dict())
    convert(copy.deepcopy(model), DEFAULT)  # the same numbers
    model.load_state_dict(convert(other, CPU).state_dict())
    assert torch.equal(model(X), expected.detach())
    with pytest.raises(ValueError, match="another state_dict was loaded into the PackedConv2d"):
        convert(model, DEFAULT)
    assert names(model) == ON_BITS


def test_layers_are_constructed_on_bits() -> None:
    torch.manual_seed(3)
    expected = QLinear(4, 3).eval()
    torch.manual_seed(3)
    with change_mode(CPU):
        layer: Any = QLinear(4, 3)
        with pytest.raises(RuntimeError, match="three dimensions"):
            QConv3d(1, 1, 3)
        with pause_wrapping():
            assert type(QConv3d(1, 1, 3)) is QConv3d
    assert type(layer).__name__ == "PackedLinear"
    x = torch.randn(5, 4)
    assert torch.equal(layer(x), expected(x).detach())
    assert torch.equal(convert(layer, DEFAULT).weight, expected.weight)


def engine(mode: int, *, takes: Callable[[LayerRecipe], bool] = lambda recipe: True) -> type[nn.Module]:
    @QLinearImplementation(mode)
    class Engine(CustomImplementationMixin, nn.Module):
        """Holds a reference layer, built in mode RAW, and trains its weight under the layer's own name."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__()
            with pause_wrapping():
                inner = QLinear(*args, **kwargs)
            self.weight, self.is_engine = nn.Parameter(inner.weight.detach().clone()), True
            self.inner = (inner,)

        @classmethod
        def can_clone(cls, recipe: LayerRecipe) -> tuple[bool, str]:
            return takes(recipe), "the engine does not want it"

        @classmethod
        def create_clone_from(cls, recipe: LayerRecipe, device: Any = None) -> Engine:
            new = cls(*recipe.args, **recipe.kwargs)
            new.weight.data.copy_(recipe.layer.weight)
            return new

        def forward(self, x: Tensor) -> Tensor:
            layer = self.inner[0]
            y: Tensor = torch.func.functional_call(layer, {"weight": self.weight}, (x,))
            return y

    return Engine


def test_an_engine_trains_and_comes_back() -> None:
    engine_class = engine(AUTO)
    model = nn.Sequential(QLinear(4, 3, bias=False), QConv2d(1, 1, 1))
    layer, x = model[0], torch.randn(2, 4)
    expected = layer(x)
    with pytest.raises(RuntimeError, match=r"1: QConv2d: no implementation\(s\)"):
        convert(model, AUTO)
    model = nn.Sequential(layer)
    convert(model, AUTO)
    assert type(model[0]) is engine_class
    assert hasattr(model[0], "is_engine")
    assert torch.equal(model(x), expected)
    converted = model[0]
    assert convert(model, AUTO)[0] is converted
    with torch.no_grad():
        converted.weight.neg_()
    assert convert(model, DEFAULT)[0] is layer
    assert torch.equal(layer.weight, converted.weight)


def test_an_engine_is_asked_before_layers_are_packed() -> None:
    engine_class = engine(CPU + GPU, takes=lambda recipe: recipe.get_positional_arg(0) > 4)
    model = nn.Sequential(QLinear(4, 8), QLinear(8, 3)).eval()
    convert(model, CPU)
    assert [type(layer).__name__ for layer in model] == ["PackedLinear", engine_class.__name__]
    with pytest.raises(RuntimeError, match=r"0: QLinear: .*Engine: the engine does not want it"):
        convert(model, GPU)
    convert(model, GPU + AUTO + DEFAULT)
    assert [type(layer).__name__ for layer in model] == ["QLinear", engine_class.__name__]


def test_what_an_engine_trained_under_other_names_is_told() -> None:
    @QLinearImplementation(GPU)
    class Other(CustomImplementationMixin, nn.Linear):
        @classmethod
        def can_clone(cls, recipe: LayerRecipe) -> tuple[bool, str]:
            return True, ""

        @classmethod
        def create_clone_from(cls, recipe: LayerRecipe, device: Any = None) -> Other:
            new = cls(4, 3, bias=False)
            new.packed = nn.Parameter(torch.zeros(7))
            return new

    layer = QLinear(4, 3, bias=False)
    weight = layer.weight.detach().clone()
    model = convert(nn.Sequential(layer), GPU)
    with pytest.warns(UserWarning, match="0: packed of Other, which can be trained"):
        convert(model, DEFAULT)
    assert model[0] is layer
    assert torch.equal(layer.weight, model[0].weight)
    assert not torch.equal(layer.weight, weight)  # Other has its own under this name


def test_layers_inside_of_an_engines_layer_stay() -> None:
    @QLinearImplementation(GPU)
    class Holding(CustomImplementationMixin, nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        @classmethod
        def can_clone(cls, recipe: LayerRecipe) -> tuple[bool, str]:
            return True, ""

        @classmethod
        def create_clone_from(cls, recipe: LayerRecipe, device: Any = None) -> Holding:
            return cls(recipe.layer)

    model = convert(nn.Sequential(QLinear(4, 3)), GPU)
    inner = model[0].inner
    convert_layers_to(GPU, only=model.modules())
    convert(model, GPU)
    assert model[0].inner is inner
    assert convert(model, DEFAULT)[0] is inner


def test_an_engines_layer_itself() -> None:
    engine(GPU)
    layer = QLinear(4, 3, bias=False)
    converted = convert(layer, GPU)
    assert convert(converted, DEFAULT) is layer
    assert type(convert(converted, CPU)).__name__ == "PackedLinear"


def test_layers_inside_of_other_containers_are_found() -> None:
    own = LayerRegistry("Block")

    @LayerImplementation(own, DEFAULT)
    class Block(DefaultImplementationMixin, nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = QLinear(4, 3)

    block: Any = Block()
    for model in (block, nn.Sequential(block)):
        assert convert(model, CPU) is model
        assert type(block.inner).__name__ == "PackedLinear"
        convert(model, DEFAULT)
        assert type(block.inner) is QLinear


def test_containers_in_a_model_are_converted() -> None:
    @QLinearImplementation(DEFAULT)
    class Wrapped(DefaultImplementationMixin, nn.Linear):
        pass

    engine_class = engine(AUTO)
    container = Wrapped(4, 3, bias=False)
    assert isinstance(container, LayerContainer)
    model = nn.Sequential(QLinear(4, 4), container)
    convert(model, AUTO)
    assert model[1] is container
    assert type(container.layer_implementation) is type(model[0]) is engine_class
    convert_layers_to(DEFAULT, only=model.modules())
    assert type(container.layer_implementation) is Wrapped.class_  # type: ignore[attr-defined]
    assert type(model[0]) is QLinear
    q_linear_registry._implementations.remove(Wrapped)  # type: ignore[arg-type]  # a factory, for who knows the decorator


def test_registries_find_layers_in_models(capsys: pytest.CaptureFixture[str]) -> None:
    model, other, alone = net(), net(), QLinear(4, 3)
    q_conv2d_registry.convert_layers_to(CPU, only=model.modules(), verbose=True)
    assert capsys.readouterr().out == "Sequential.0: QConv2d → PackedConv2d\nSequential.3: QConv2d → PackedConv2d\n"
    assert names(model) == ["PackedConv2d", "PackedConv2d", "QLinear", "QLinear"]
    assert {model[0], model[3], other[0], other[3]} <= q_conv2d_registry.layer_instances
    assert names(other) == ["QConv2d", "QConv2d", "QLinear", "QLinear"]
    convert_layers_to(CPU, only=[other[7]])
    assert names(other) == ["QConv2d", "QConv2d", "QLinear", "PackedLinear"]
    with pytest.raises(ValueError, match="only has a QLinear that no module holds"):
        convert_layers_to(CPU, only=[alone])
    gc.collect()  # what other tests left may hold layers that cannot be packed
    convert_layers_to(DEFAULT)
    assert names(model) == names(other) == ["QConv2d", "QConv2d", "QLinear", "QLinear"]


def test_wrapped_models() -> None:
    model = net().eval()
    wrapped = torch.nn.DataParallel(model)
    assert convert(wrapped, CPU) is wrapped
    assert names(model) == ON_BITS


def test_other_quantizers_and_dtypes() -> None:
    model = nn.Sequential(QLinear(6, 4, input_quantization=InputDoReFa(3), weight_quantization=WeightDoReFa(4)))
    model.to(torch.bfloat16).eval()
    x = torch.rand(2, 6, dtype=torch.bfloat16)
    expected = model(x)
    assert torch.equal(convert(model, CPU, device="cpu")(x), expected)
    convert(model, DEFAULT)
    with pytest.raises(ValueError, match="device must be a CPU"):
        convert(model, CPU, device="cuda")
    assert type(model[0]) is QLinear


def test_what_is_no_model_and_no_mode() -> None:
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module"):
        convert([QLinear(4, 3)], CPU)
    with pytest.raises(ValueError, match="new_mode must be a RuntimeMode or a sum of them, got 'cpu'"):
        convert(QLinear(4, 3), "cpu")  # type: ignore[arg-type]


def test_layers_that_stay_are_moved_and_codes_are_forgotten() -> None:
    engine(GPU)
    model = nn.Sequential(QLinear(4, 3, bias=False)).eval()
    with torch.no_grad():
        model(torch.rand(1, 4))
    assert model[0]._weight_codes.made is not None  # type: ignore[union-attr]
    convert(convert(model, CPU), GPU)
    assert model[0].recipe.layer._weight_codes.made is None  # type: ignore[union-attr]
    convert(model, GPU, device="meta")
    assert model[0].weight.is_meta


def test_an_engine_gives_modules() -> None:
    class Plain(CustomImplementationMixin):
        @classmethod
        def can_clone(cls, recipe: LayerRecipe) -> tuple[bool, str]:
            return True, ""

        @classmethod
        def create_clone_from(cls, recipe: LayerRecipe, device: Any = None) -> Plain:
            return cls()

    QLinearImplementation(GPU)(Plain)
    with pytest.raises(TypeError, match=r"Plain\.create_clone_from must return a torch\.nn\.Module"):
        convert(nn.Sequential(QLinear(4, 3)), GPU)


def test_what_needs_the_layers_themselves() -> None:
    model = net().eval()
    convert(model, CPU)
    calls: tuple[Callable[[], object], ...] = (
        lambda: bitorch.deploy(model, X),
        lambda: bitorch.deploy(model, X, partial=True),
        lambda: bitorch.set_bits(model, (2, 2)),
        lambda: bitorch.float_(model),
        lambda: bitorch.quantize_(model, LowBitConfig(weight_bits=1, activation_bits=2)),
        lambda: bitorch.calibrate(model, [X]),
    )
    for call in calls:
        with pytest.raises(ValueError, match="is a PackedConv2d in the place of a QConv2d, and so are 3"):
            call()
    (problem,) = bitorch.can_deploy(model, X).problems
    assert "bitorch.convert(model, bitorch.RuntimeMode.DEFAULT)" in str(problem)
    convert(model, DEFAULT)
    bitorch.deploy(model, X)
