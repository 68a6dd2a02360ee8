"""Evaluation on packed weights: the model's own numbers, bit for bit, and a reason for what is not packed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bitorch
import bitorch_runtime
from bitorch.deployment.partial.evaluation_choice import EvaluationChoice
from bitorch.deployment.partial.evaluation_forms import EvaluationForms
from bitorch.deployment.partial.evaluation_obstacles import evaluation_forms
from bitorch.deployment.partial.evaluation_pass import EvaluationPass
from bitorch.layers import QConv2d, QLinear
from bitorch.layers.extensions.reference import reference_of
from bitorch.layers.low_bit import LowBit
from bitorch.models import LeNet8, ResNet20
from bitorch.quantizations import InputDoReFa, WeightDoReFa


def net(config: bitorch.LowBitConfig | None = None, *, seed: int = 0) -> nn.Sequential:
    """A net for images [3, 8, 8] that looks trained: convolutions, a strided, a grouped and a pointwise one, linear."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.Conv2d(24, 32, 3, padding=1, bias=True),
        nn.BatchNorm2d(32),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1, groups=2),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Conv2d(64, 40, 1),
        nn.BatchNorm2d(40),
        nn.AdaptiveAvgPool2d(1),  # whose sum depends on the order of memory
        nn.Flatten(),
        nn.Linear(40, 20),
        nn.ReLU(),
        nn.Linear(20, 10),
    )
    config = bitorch.LowBitConfig(1, 2, 6) if config is None else config
    bitorch.quantize_(model, config)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)  # type: ignore[arg-type]  # there are statistics
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
            nn.init.normal_(module.weight)
    if config.range != "unit":
        bitorch.calibrate(model, [torch.rand(16, 3, 8, 8)])
    return model.eval()


def layer_of(model: nn.Module, name: str) -> LowBit:
    layer = model.get_submodule(name)
    assert isinstance(layer, LowBit)
    return layer


def images(count: int = 8, *, channels: int = 3, size: int = 8) -> Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(1))


def evaluated(
    model: nn.Module, *batches: Tensor, choice: EvaluationChoice = "packed", of: float = 1e9
) -> tuple[list[Tensor], EvaluationForms]:
    """Return the outputs of a pass, and what the layers have computed with."""
    one = EvaluationPass(model, choice, batches=of)
    outputs = []
    with torch.no_grad():
        for x in batches:
            with one.running():
                outputs.append(model(x))
    return outputs, one.forms


def assert_same_bits(found: Tensor, expected: Tensor) -> None:
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)
    assert found.stride() == expected.stride()


FAMILIES: dict[str, dict[str, Any]] = {
    "W1A1": {"weight_bits": 1, "activation_bits": 1},
    "W1A2": {"weight_bits": 1, "activation_bits": 2},
    "W4A4": {"weight_bits": 4, "activation_bits": 4},
    "W8A8 all": {"weight_bits": 8, "activation_bits": 8, "first": "same", "last": "same"},
    "ends of 8 bits": {"weight_bits": 1, "activation_bits": 2, "first": 8, "last": 8},
    "scale per channel": {"weight_bits": 2, "activation_bits": 2, "weight_scale": "channel"},
    "calibrated": {"weight_bits": 2, "activation_bits": 3, "range": "calibrated"},
    "lsq": {"weight_bits": 3, "activation_bits": 3, "range": "learned"},
    "lsq+": {"weight_bits": 4, "activation_bits": 4, "range": "learned", "learned_by": "lsq+"},
    "pact": {"weight_bits": 2, "activation_bits": 2, "range": "learned", "learned_by": "pact"},
    "twn": {"weight_bits": 2, "activation_bits": 2, "weights": "twn"},
    "sign": {"weight_bits": 1, "activation_bits": 1, "sign": "sign", "pad_value": -1},
    "rsign": {"weight_bits": 1, "activation_bits": 1, "sign": "rsign"},
    "powers of two": {"weight_bits": 3, "activation_bits": 3, "range": "learned", "scale": "pow2"},
}


@pytest.mark.parametrize("options", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
def test_the_numbers_are_those_of_the_model(options: dict[str, Any], layout: torch.memory_format) -> None:
    model = net(bitorch.LowBitConfig(**options)).to(memory_format=layout)  # type: ignore[call-overload]
    batches = [images(), images(5), images(1)]
    found, forms = evaluated(model, *batches)
    assert forms.unpacked == {}
    assert len(forms.packed) >= 4
    with torch.no_grad():
        for x, y in zip(batches, found, strict=True):
            assert_same_bits(y, model(x))


@pytest.mark.parametrize("grad", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference"])
@pytest.mark.parametrize("autocast", [False, True])
def test_modes_and_autocast(grad: Callable[[], Any], autocast: bool) -> None:
    model, x = net(), images()
    one = EvaluationPass(model, "packed")
    with grad(), torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
        expected = model(x)
        with one.running():
            first, second = model(x), model(x)
    assert_same_bits(first, expected)
    assert_same_bits(second, expected)
    assert one.forms.unpacked == {}


@pytest.mark.parametrize("make", [LeNet8, ResNet20])
def test_nets(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = make().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    bitorch.quantize_(model, bitorch.LowBitConfig(1, 2, 6))
    model.eval()
    x = images(4, channels=1 if make is LeNet8 else 3)
    (found,), forms = evaluated(model, x)
    assert forms.unpacked == {}
    with torch.no_grad():
        assert_same_bits(found, model(x))


def test_attention_is_packed_and_recurrent_layers_say_why_not() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"attention": nn.MultiheadAttention(16, 2), "steps": nn.LSTM(16, 8)})
    bitorch.quantize_(model, bitorch.LowBitConfig(2, 2, first="same", last="same"))
    model.eval()
    x = torch.rand(6, 3, 16)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = model

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.parts["steps"](self.parts["attention"](x, x, x)[0])[0]
            return y

    whole = Net().eval()
    (found,), forms = evaluated(whole, x, choice="auto")
    assert [name for name in forms.packed if "attention" in name] == list(forms.packed)
    assert len(forms.packed) == 4
    assert set(forms.unpacked.values()) == {"a recurrent layer reads its weight once for all steps"}
    with torch.no_grad():
        assert_same_bits(found, whole(x))


def test_the_model_stays_as_it_is() -> None:
    model = net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modules = list(model.modules())
    threads = bitorch_runtime.get_num_threads()
    bitorch_runtime.set_num_threads(threads + 1)
    try:
        one = EvaluationPass(model, "packed")
        with torch.no_grad(), one.running():
            assert bitorch_runtime.get_num_threads() == torch.get_num_threads()
            model(images())
            assert list(model.state_dict()) == list(before)
        with pytest.raises(RuntimeError, match="mat1"), torch.no_grad(), one.running():  # of a float layer
            model[16](torch.rand(2, 3))
        assert bitorch_runtime.get_num_threads() == threads + 1
    finally:
        bitorch_runtime.set_num_threads(threads)
    assert list(model.modules()) == modules
    assert not any("forward" in vars(module) or reference_of(module) for module in modules)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_gradients_are_those_of_the_model() -> None:
    model, x = net(), images()
    one = EvaluationPass(model, "auto")
    with one.running():
        model(x).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert set(one.forms.unpacked.values()) == {"gradients are wanted"}


def test_layers_in_training_mode_train() -> None:
    model = net()
    model[3].train()
    _, forms = evaluated(model, images(), choice="auto")
    assert forms.unpacked == {"3": "it is in training mode"}


def test_hooks_are_called() -> None:
    model, seen = net(), []
    layer = layer_of(model, "10")
    model[1].register_forward_hook(lambda module, args, output: seen.append("norm"))
    model[7].register_forward_hook(lambda module, args, output: output + 1)
    layer.input_quantization.register_forward_hook(lambda module, args, output: seen.append("quantizer"))
    x = images()
    with torch.no_grad():
        expected = model(x)
    (found,), forms = evaluated(model, x, choice="auto")
    assert seen == ["norm", "quantizer"] * 2
    assert_same_bits(found, expected)
    assert set(forms.unpacked) == {"7", "10"}
    assert forms.unpacked["7"] == "it has forward hooks, which may change its input, weight or result"
    assert forms.unpacked["10"] == "there are hooks on its quantizers"


@pytest.mark.parametrize("what", ["weight", "data", "bias", "range"])
def test_what_changes_within_a_pass_is_seen(what: str) -> None:
    model, x = net(bitorch.LowBitConfig(2, 2, range="learned")), images()
    layer = model[3]
    assert isinstance(layer, QConv2d)
    one = EvaluationPass(model, "auto")
    with torch.no_grad(), one.running():
        first = model(x)
        if what == "weight":
            layer.weight.neg_()
        elif what == "data":
            layer.weight.data = -layer.weight.data
        elif what == "bias":
            assert layer.bias is not None
            layer.bias.add_(1.0)
        else:
            next(layer.input_quantization.parameters()).mul_(0.5)
        second = model(x)
    with torch.no_grad():
        assert_same_bits(second, model(x))
    assert not torch.equal(first, second)
    assert one.forms.unpacked == {"3": "its numbers have changed within the pass"}


def test_weights_of_hooks_and_parametrizations() -> None:
    model, x = net(), images()
    torch.nn.utils.prune.l1_unstructured(model[3], "weight", 0.3)
    torch.nn.utils.parametrizations.weight_norm(model[10])
    with torch.no_grad():
        expected = model(x)
    found, forms = evaluated(model, x, x, choice="auto")
    assert forms.unpacked == {"10": "a subclass may compute something else"}  # as a parametrized layer is one
    for y in found:
        assert_same_bits(y, expected)


def test_a_shape_that_does_not_fit_is_told_by_the_layer() -> None:
    layer = nn.Sequential(QLinear(4, 3, input_quantization=InputDoReFa(2), weight_quantization=WeightDoReFa(2))).eval()
    one = EvaluationPass(layer, "packed")
    with torch.no_grad(), pytest.raises(RuntimeError, match="shapes cannot be multiplied"), one.running():
        layer(torch.rand(2, 5))


def test_inputs_without_a_batch_and_empty_ones() -> None:
    model = net()
    layers = nn.Sequential(*[module for module in model if isinstance(module, QConv2d)][:1]).eval()
    for x in (torch.rand(24, 8, 8), torch.rand(0, 24, 8, 8), torch.rand(2, 24, 8, 8, dtype=torch.float64)):
        (found,), _ = evaluated(layers, x)
        with torch.no_grad():
            assert_same_bits(found, layers(x))


def test_outputs_lie_in_memory_as_the_layers_own() -> None:
    layer = layer_of(net().to(memory_format=torch.channels_last), "3")  # type: ignore[call-overload]
    for x in (torch.rand(4, 24, 8, 8), torch.rand(4, 24, 8, 8).to(memory_format=torch.channels_last)):
        (found,), _ = evaluated(layer, x)
        with torch.no_grad():
            assert_same_bits(found, layer(x))
        assert not found.is_contiguous()  # channels last, as the weight is


def test_costs_decide() -> None:
    model, x = net(), images(4)
    few = "packing takes longer than what a pass of so few inputs saves"
    for batches, packed in ((1, ()), (10**3, ("3", "7")), (10**6, ("3", "7", "10", "14"))):
        (found,), forms = evaluated(model, x, choice="auto", of=batches)
        assert forms.packed == packed
        assert set(forms.unpacked.values()) <= {few}
        with torch.no_grad():
            assert_same_bits(found, model(x))
    _, forms = evaluated(model, x, of=1)  # "packed"
    assert forms.packed == ("3", "7", "10", "14")


def test_few_channels_are_left_to_floats() -> None:
    torch.manual_seed(0)
    sizes = (16, 16, 32)
    model = nn.Sequential(*[nn.Conv2d(into, out, 3) for into, out in pairwise(sizes)], nn.Conv2d(32, 32, 3, groups=32))
    bitorch.quantize_(model, bitorch.LowBitConfig(1, 2, first="same", last="same"))
    assert str(evaluation_forms(model)) == (
        "evaluates as it trains: 0 (floats are faster for 16 to 16 channels; 17 to as many would do)\n"
        "evaluates on packed weights: 1, 2"
    )
    assert evaluation_forms(model, "packed").unpacked == {}


def test_compiled_parts_are_left_alone() -> None:
    model = net()
    model[3].compile(backend="eager")
    compiled = torch.compile(nn.Sequential(model[7:11]), backend="eager")
    assert EvaluationPass(model).forms.unpacked["3"] == "torch.compile computes it"
    assert list(evaluation_forms(model).unpacked) == ["3"]
    assert isinstance(compiled, nn.Module)
    assert set(evaluation_forms(compiled).unpacked.values()) == {"torch.compile computes it"}


def test_reasons_that_are_known_before() -> None:
    model = net()
    layer_of(model, "3").kernels = "float"
    layer_of(model, "7").exact = False
    bitorch.set_bits(model, [("10", (32, 32))])
    forms = evaluation_forms(model.train())
    assert model.training
    assert model[3].training
    assert forms.unpacked["3"] == 'kernels="float"'
    assert forms.unpacked["7"].startswith("a layer with exact=False computes on floats")
    assert "has no levels" in forms.unpacked["10"] or "there are no codes" in forms.unpacked["10"]
    assert forms.packed == ("14",)
    assert set(evaluation_forms(model, device="cuda").unpacked.values()) == {
        "packed weights are for CPUs, and it is on cuda"
    }
    assert set(evaluation_forms(model, "unpacked").unpacked.values()) == {'evaluation="unpacked"'}
    with pytest.raises(ValueError, match=r'evaluation="packed": layer \'7\' cannot be evaluated on packed weights, as'):
        evaluation_forms(model, "packed")


def test_without_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ImportError("packed layers run on bitorch_runtime, which is not installed")

    monkeypatch.setattr("bitorch.deployment.partial.evaluation_obstacles.runtime", missing)
    model, x = net(), images()
    (found,), forms = evaluated(model, x, choice="auto")
    assert forms.packed == ()
    assert str(forms).startswith("evaluates as it trains: all 4 low-bit layers (packed layers run on bitorch_runtime")
    with torch.no_grad():
        assert_same_bits(found, model(x))


def test_what_cannot_be_packed_is_an_error_where_it_must_be() -> None:
    model = net()
    with torch.no_grad():
        layer_of(model, "7").weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="layer '7' cannot be evaluated on packed weights, as the weight holds NaN"):
        evaluated(model, images())
    (found,), forms = evaluated(model, images(), choice="auto")
    assert list(forms.unpacked) == ["7"]
    assert found.isnan().any()
    with pytest.raises(ValueError, match="evaluation must be one of 'auto', 'packed', 'unpacked', got 'int8'"):
        EvaluationPass(model, "int8")  # type: ignore[arg-type]
