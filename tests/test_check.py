"""`bitorch.check`: every finding, provoked; a net without any; and that the model is left as it was."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitorch
from bitorch.layers import AbsorbedReLU, QActivation, QConv2d, QLinear
from bitorch.models import build
from bitorch.quantizations import (
    GradientDoReFa,
    InputCalibrated,
    InputDoReFa,
    InputLSQ,
    InputPACT,
    Quantization,
    RangeQuantization,
    Sign,
    WeightDoReFa,
)


def linear(inputs: int = 16, outputs: int = 16, *, bits: int = 2, **options: Any) -> QLinear:
    return QLinear(
        inputs,
        outputs,
        input_quantization=InputDoReFa(bits, variant="paper"),
        weight_quantization=WeightDoReFa(1, variant="paper"),
        gradient_cancellation_threshold=0,
        **options,
    )


def sign_linear() -> QLinear:
    return QLinear(16, 16, input_quantization=Sign(), weight_quantization=WeightDoReFa(1, variant="paper"))


def net(*between: nn.Module, layer: nn.Module | None = None) -> nn.Sequential:
    """Float linear layer "0", what stands between, a low-bit layer, BatchNorm and a float linear layer."""
    torch.manual_seed(0)
    low_bit = linear() if layer is None else layer
    return nn.Sequential(nn.Linear(8, 16), *between, low_bit, nn.BatchNorm1d(16), nn.Linear(16, 3))


class Affine(nn.Module):
    """x·factor + shift."""

    def __init__(self, factor: float, shift: float = 0.0) -> None:
        super().__init__()
        self.factor, self.shift = factor, shift

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor + self.shift


def batch(count: int = 32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 8, generator=generator), torch.arange(count) % 3


def normalized(*after: nn.Module) -> tuple[nn.Module, ...]:
    return nn.BatchNorm1d(16), *after


def with_weight(layer: QLinear, value: float) -> QLinear:
    nn.init.constant_(layer.weight, value)
    return layer


class NoGradient(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach()


class Log(nn.Module):
    """log x: not finite for x ≤ 0."""

    def forward(self, x: Tensor) -> Tensor:
        return x.log()


class InfiniteGradient(nn.Module):
    """√(x − x): 0, with a gradient that is not finite."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (x - x.detach()).abs().sqrt()


def poisoned() -> nn.Sequential:
    model = net(*normalized(nn.ReLU()))
    with torch.no_grad():
        next(model[0].parameters())[2, 1] = math.inf
    return model


def unused() -> nn.Module:
    model = net(*normalized(nn.ReLU()))
    model.register_module("more", nn.Linear(3, 3))
    model.forward = lambda x: nn.Sequential(*list(model)[:-1])(x)  # type: ignore[method-assign]
    return model


def ranged(quantizer: RangeQuantization, *, step: float | None = None) -> QLinear:
    """A layer over a range 0 … 2 or so, or over none, or over one of that step."""
    layer = linear()
    layer.activation.activation_function = quantizer
    if step is not None:
        quantizer.fit_(torch.linspace(0, 2, 50))
    if step == 0 and isinstance(quantizer, InputLSQ):
        quantizer.step.data.zero_()
    return layer


#: A net, and what is found in it: the layer, the finding, a part of its figure in words.
PROVOKED: dict[str, tuple[Callable[[], nn.Module], str, str, str]] = {
    "saturated": (
        lambda: net(Affine(1, 2)), "2", "saturated activations", "% of the inputs are above the range's end 1"),
    "saturated behind BatchNorm": (
        lambda: net(*normalized(Affine(1, 3))), "3", "saturated activations", "and get no gradient"),
    "dead, small": (lambda: net(*normalized(Affine(0.01))), "3", "dead activations", "100.0% of the inputs"),
    "dead, negative": (lambda: net(*normalized(Affine(1, -9))), "3", "dead activations", "100.0% of the inputs"),
    "one level": (lambda: net(*normalized(Affine(0.01, 0.66))), "3", "activations at one level", "become 0.667"),
    "activation alone": (
        lambda: net(*normalized(Affine(0.01)), layer=QActivation(InputDoReFa(2), 0)), "3", "dead activations", "100"),
    "signs behind a ReLU": (
        lambda: net(*normalized(nn.ReLU()), layer=sign_linear()), "3", "ReLU before a sign", "no input is below 0"),
    "no BatchNorm": (lambda: net(Affine(0.1), nn.ReLU()), "3", "no normalization", "far from the range 0 … 1"),
    "no BatchNorm, wide": (lambda: net(Affine(20), nn.ReLU()), "3", "no normalization", "far from the range 0 … 1"),
    "signs without BatchNorm": (
        lambda: net(Affine(1, 9), layer=sign_linear()), "2", "no normalization", "far from a sign's threshold 0"),
    "all weights alike": (
        lambda: net(*normalized(nn.ReLU()), layer=with_weight(linear(), 0.3)), "3", "weights at one level",
        "all 256 weights become 0.3"),
    "zero weights that no gradient reaches": (
        lambda: net(*normalized(nn.ReLU()), layer=nn.Sequential(with_weight(linear(), 0), NoGradient())), "3.0",
        "collapsed range", "weight is 0"),
    "range not set": (
        lambda: net(*normalized(), layer=ranged(InputCalibrated(2))), "2", "uncalibrated range", "Calibrated is not"),
    "learned range not set": (
        lambda: net(*normalized(), layer=ranged(InputPACT(2))), "2", "uncalibrated range", "InputPACT is not set"),
    "learned step of 0": (
        lambda: net(*normalized(nn.ReLU()), layer=ranged(InputLSQ(2), step=0)), "3", "collapsed range", "range is 8.6"),
    "saturated, calibrated": (
        lambda: net(Affine(1, 4), layer=ranged(InputCalibrated(2), step=1)), "2", "saturated activations", "end 1.7"),
    "no gradient": (lambda: net(*normalized(NoGradient())), "0", "zero gradient", "does not depend on its weight"),
    "zero gradient": (lambda: net(*normalized(Affine(0))), "0", "zero gradient", "exactly zero"),
    "unused layer": (unused, "more", "zero gradient", "does not depend on its weight"),
    "infinite weight": (poisoned, "0", "non-finite parameter", "1 of the 128 numbers in its weight"),
    "infinite output": (lambda: net(*normalized(Log())), "2", "non-finite output", "the first output"),
    "infinite gradient": (
        lambda: net(InfiniteGradient(), *normalized(nn.ReLU())), "0", "non-finite gradient", "of its output"),
}  # fmt: skip


@pytest.mark.parametrize("case", PROVOKED)
def test_finding(case: str) -> None:
    build_net, layer, what, detail = PROVOKED[case]
    result = bitorch.check(build_net(), batch())
    assert not result
    found = [finding for finding in result.problems if (finding.layer, finding.what) == (layer, what)]
    assert len(found) == 1, str(result)
    assert detail in found[0].detail
    assert found[0].remedy
    assert f"{layer}: {what}: {found[0].detail}\n    → {found[0].remedy}" in str(result)


@pytest.mark.parametrize("name", ["lenet-8", "resnet-20", "svhn-d"])
@pytest.mark.parametrize("absorb_relu", [False, True])
def test_our_nets_have_no_finding(name: str, absorb_relu: bool) -> None:
    torch.manual_seed(0)
    model = build(name, 1, 10)
    bitorch.quantize_(model, bitorch.LowBitConfig(1, 2, 6, absorb_relu=absorb_relu))
    size = {"lenet-8": 8, "resnet-20": 16, "svhn-d": 40}[name]
    result = bitorch.check(model, (torch.rand(16, 1, size, size), torch.arange(16) % 10))
    assert result
    assert result.problems == ()
    assert str(result).startswith("no problem in ")
    assert {finding.what for finding in result.findings} <= {"saturated activations"}


def test_signs_behind_a_batch_norm_have_no_finding() -> None:
    result = bitorch.check(net(*normalized(), layer=sign_linear()), batch())
    assert (result.findings, result.layers) == ((), 1)


def test_negative_inputs_are_a_note_unless_a_relu_was_meant() -> None:
    result = bitorch.check(net(*normalized()), batch())
    assert result
    (note,) = result.findings
    assert (note.layer, note.what, note.is_note) == ("2", "negative inputs are lost", True)
    assert 0.3 < note.figure < 0.7
    assert "2: negative inputs are lost (a note): " in str(result)
    for between in ((AbsorbedReLU(),), (AbsorbedReLU(), nn.Dropout(0.1), nn.Identity()), (nn.ReLU(),)):
        assert bitorch.check(net(*normalized(*between)), batch()).findings == ()


def test_a_range_with_an_offset_loses_no_negative_input() -> None:
    quantizer = InputLSQ(4, offset=True)
    quantizer.fit_(torch.linspace(-2, 2, 50))
    model = net(*normalized(), layer=ranged(quantizer))
    assert bitorch.check(model, batch()).findings == ()


@pytest.mark.parametrize("quantizer", [InputDoReFa(2, variant="paper"), InputLSQ(2)], ids=["unit", "learned"])
def test_inputs_far_above_a_range_ask_for_one_that_fits(quantizer: Quantization) -> None:
    layer = linear()
    layer.activation.activation_function = quantizer
    if isinstance(quantizer, InputLSQ):
        quantizer.fit_(torch.linspace(0, 1e-3, 50))
    (finding,) = (f for f in bitorch.check(net(Affine(0, 9), layer=layer), batch()).findings if "saturated" in f.what)
    wanted = "calibrate again" if isinstance(quantizer, InputLSQ) else 'use range="calibrated" or "learned"'
    assert wanted in finding.remedy


def test_a_channel_of_zeros_is_found() -> None:
    layer = linear()
    layer.weight_quantization = WeightDoReFa(1, variant="paper", per_channel=True)
    with torch.no_grad():
        layer.weight[2:4] = 0
    (finding,) = bitorch.check(net(*normalized(nn.ReLU()), layer=layer), batch()).problems
    assert (finding.what, finding.detail) == ("collapsed range", "one step of the weight is 0 in 2 of 16 channels")


def test_functional_calls_count_like_modules() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.last = nn.Conv2d(1, 8, 3), QConv2d(8, 8, 3), nn.Linear(8, 3)
            self.second.activation.activation_function = InputDoReFa(2, variant="paper")

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            if self.normalize:
                x = F.batch_norm(x, None, None, training=True)
            x = F.relu(F.max_pool2d(x, 2)) * self.factor
            logits: Tensor = self.last(self.second(x).mean((2, 3)))
            return logits

        normalize, factor = True, 1.0

    torch.manual_seed(0)
    model = Functional()
    images = torch.rand(8, 1, 10, 10)
    assert not bitorch.check(model, images).problems
    model.normalize, model.factor = False, 0.05
    assert "no normalization" in [finding.what for finding in bitorch.check(model, images).findings]


def test_a_residual_block_that_starts_at_nothing_is_a_note() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.norm = nn.Linear(8, 16), nn.BatchNorm1d(16)
            self.body = nn.Sequential(linear(), nn.BatchNorm1d(16))
            self.dead = nn.Linear(16, 16)
            self.head = nn.Linear(16, 3)
            nn.init.zeros_(self.body[1].weight)  # type: ignore[arg-type]  # a Parameter

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.norm(self.stem(x)))
            logits: Tensor = self.head(x + self.body(x) + 0 * self.dead(x))
            return logits

    torch.manual_seed(0)
    model = Block()
    result = bitorch.check(model, batch())
    assert {f.layer: f.is_note for f in result.findings if f.what == "zero gradient"} == {"body.0": True, "dead": False}
    assert not model.body[1].weight.any()  # type: ignore[operator]


def test_input_and_loss_that_are_not_finite() -> None:
    model = net(*normalized(nn.ReLU()))
    x, y = batch()
    x[3, 1] = math.nan
    (finding,) = bitorch.check(model, (x, y)).findings
    assert (finding.layer, finding.what, finding.figure) == ("", "non-finite input", 1)
    result = bitorch.check(model, batch(), lambda logits, labels: logits.sum() * math.inf)
    assert result.problems[0].what == "non-finite loss"
    assert "(model): non-finite loss: the loss is" in str(result)


def test_a_layer_called_twice_has_its_worst_figure_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.layer(x.abs() + 2) + self.layer(x * 0.3 + 1.2)
            return y

    found = [f for f in bitorch.check(Twice(), batch()[0]).findings if f.what == "saturated activations"]
    assert [(f.layer, f.figure) for f in found] == [("layer", 1.0)]


@pytest.mark.parametrize("labels", [True, False])
def test_the_model_is_left_as_it_was(labels: bool) -> None:
    generator = torch.Generator().manual_seed(5)
    model = net(*normalized(nn.ReLU(), nn.Dropout(0.2)))
    model.insert(1, GradientDoReFa(4, generator=generator))
    model.eval()
    model[0].train()
    calls: list[int] = []
    model[0].register_forward_hook(lambda *arguments: calls.append(1))
    before = copy.deepcopy(model.state_dict())
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    states = torch.get_rng_state(), generator.get_state()
    images, targets = batch()
    first = bitorch.check(model, (images, targets) if labels else images)
    assert first.findings == bitorch.check(model, [images, targets] if labels else [images]).findings
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert torch.equal(generator.get_state(), states[1])
    assert [module.training for module in model] == [True] + [False] * (len(model) - 1)
    assert hooks == [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]


def test_a_batch_of_inference_mode() -> None:
    model = net(*normalized(nn.ReLU()))
    with torch.inference_mode():
        images, labels = batch()
        wanted = images[:, :3] * 2
        inside = bitorch.check(model, (images, wanted))
    assert inside == bitorch.check(model, (images, wanted)) == bitorch.check(model, (images.clone(), wanted.clone()))
    assert inside.loss == "mean squared error"
    assert bitorch.check(model, (images, labels))


def test_uint8_images_are_pixels() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), linear(16, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    images = torch.randint(0, 256, (16, 1, 4, 4), dtype=torch.uint8)
    assert bitorch.check(model, images).findings == bitorch.check(model, images / 255).findings == ()


def test_outputs_other_than_a_tensor() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = net(*normalized(nn.ReLU()))

        def forward(self, x: Tensor) -> dict[str, Any]:
            return {"logits": (self.layers(x), None), "count": torch.tensor(3)}

    images, labels = batch()
    assert bitorch.check(Pair(), images)
    assert bitorch.check(Pair(), (images, labels), lambda out, y: F.cross_entropy(out["logits"][0], y))
    assert bitorch.check(Pair(), (images, labels))  # the only tensor of floats
    with pytest.raises(TypeError, match="without a floating-point tensor"):
        bitorch.check(_Constant(), images)


def test_heads_beside_the_logits_are_not_dead() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers, self.auxiliary, self.unused = net(*normalized(nn.ReLU())), nn.Linear(8, 3), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            self.unused(x)
            return {"logits": self.layers(x), "auxiliary": self.auxiliary(x)}

    assert [f.layer for f in bitorch.check(Heads(), batch()).problems] == ["unused"]
    own = bitorch.check(Heads(), batch(), lambda out, y: F.cross_entropy(out["logits"], y))
    assert [f.layer for f in own.problems] == ["auxiliary", "unused"]  # as this loss has it


class _Scripted(torch.jit.ScriptModule):
    """As torch.jit.script and torch.jit.trace give them."""


class _Constant(nn.Module):
    def forward(self, x: Tensor) -> int:
        return len(x)


@pytest.mark.parametrize(
    ("model", "data", "error", "message"),
    [
        ("net", torch.rand(4, 8), TypeError, "model must be a torch.nn.Module, got str"),
        (_Scripted(), torch.rand(4, 8), TypeError, "model is a TorchScript module, which cannot be looked into"),
        (nn.LazyLinear(3), torch.rand(4, 8), ValueError, "layers without a shape; run one batch"),
        (nn.Linear(8, 3), 3, TypeError, r"batch must be a tensor, inputs and labels such as \(x, y\) .*, got int"),
        (nn.Linear(8, 3), iter(()), TypeError, r"got \w+; .* next\(iter\(loader\)\) is one batch of a loader"),
        (nn.Linear(8, 3), (torch.rand(4, 8), "y"), TypeError, "labels must be a tensor, got str"),
        (nn.Linear(8, 3), torch.rand(1, 8), ValueError, r"at least 2 samples, .*, got inputs \[1, 8\]"),
        (nn.Linear(8, 3), (torch.rand(4, 8), torch.arange(3)), ValueError, "4 inputs and 3 labels"),
    ],
)
def test_errors(model: Any, data: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        bitorch.check(model, data)


@pytest.mark.parametrize("made_inside", [False, True])
def test_in_inference_mode_it_finds_the_same(made_inside: bool) -> None:
    model, x = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 8), nn.Linear(8, 3)), torch.rand(8, 8)
    bitorch.quantize_(model, bitorch.LowBitConfig(2, 4))
    expected = bitorch.check(model, (x, torch.arange(8) % 3))
    with torch.inference_mode():
        batch = (x.clone() if made_inside else x, torch.arange(8) % 3)
        assert bitorch.check(model, batch) == expected
