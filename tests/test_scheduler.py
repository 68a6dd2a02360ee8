"""Scheduled quantizers: BITorch's measured vectors, layers that follow, and what copies, states and devices reach."""

from __future__ import annotations

import copy
import io
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bitorch
from bitorch.layers import QActivation, QConv2d, QEmbedding, QLinear, QMultiheadAttention
from bitorch.quantizations import (
    ApproxSign,
    GradientDoReFa,
    Identity,
    InputDoReFa,
    InputLSQ,
    ProgressiveSign,
    Quantization,
    Quantization_Scheduler,
    ScheduledQuantizer,
    Sign,
    WeightDoReFa,
    WeightLSQ,
)
from bitorch.quantizations.quantization_scheduler import MixLinearScheduling, StepScheduling

X = [-0.5, 0.25]
THIRD = 1 / 3
KINDS = (ScheduledQuantizer, MixLinearScheduling, StepScheduling)


def walk(quantizer: ScheduledQuantizer, steps: int, x: Tensor) -> list[list[float]]:
    values = [quantizer(x).tolist()]
    for _ in range(steps):
        quantizer.step()
        values.append(quantizer(x).tolist())
    return values


# Values


def test_measured_vectors_of_mixing() -> None:
    found = walk(MixLinearScheduling([Identity(), Sign()], 4), 5, torch.tensor(X))
    assert found == [X, [-0.625, 0.4375], [-0.75, 0.625], [-0.875, 0.8125], [-1, 1], [-1, 1]]


def test_measured_vectors_of_steps() -> None:
    found = walk(StepScheduling([Identity(), InputDoReFa(2), Sign()], 4), 5, torch.tensor(X))
    third = torch.tensor(THIRD).item()
    assert found == [X, X, [0, third], [-1, 1], [-1, 1], [-1, 1]]


def test_mixing_three_goes_through_the_middle() -> None:
    quantizer, x = MixLinearScheduling([Identity(), InputDoReFa(2), Sign()], 2), torch.randn(50)
    quantizer.step()
    assert torch.equal(quantizer(x), InputDoReFa(2)(x))  # as it is, also where the next one would give NaN
    quantizer.factor = 0.75
    assert torch.equal(quantizer(x), 0.5 * InputDoReFa(2)(x) + 0.5 * Sign()(x))


def test_gradients_are_mixed_as_well() -> None:
    x = torch.tensor([-1.5, 0.25], requires_grad=True)
    quantizer = MixLinearScheduling([Identity(), nn.Hardtanh()], 4)
    quantizer.factor = 0.25
    quantizer(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.75, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_schedule_is_the_identity(kind: type[ScheduledQuantizer]) -> None:
    quantizer = kind()
    x = torch.randn(3, requires_grad=True)
    assert torch.equal(quantizer(x), x)
    assert (quantizer.bit_width, quantizer.steps, quantizer.step_count, quantizer.factor) == (32, 0, 0, 0.0)
    for error in (ValueError, ZeroDivisionError):
        with pytest.raises(error, match="has no steps to make"):
            quantizer.step()


def test_the_base_is_the_identity_whatever_it_holds() -> None:
    x = torch.randn(3)
    assert torch.equal(ScheduledQuantizer([Sign()], 3)(x), x)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_any_module_may_be_scheduled(kind: type[ScheduledQuantizer]) -> None:
    x = torch.randn(9)
    for one in (nn.Tanh(), nn.Sequential(nn.ReLU(), Sign()), InputDoReFa(3)):
        quantizer = kind([one], 2)
        assert torch.equal(quantizer(x), one(x))
        assert quantizer.bit_width == (3 if isinstance(one, InputDoReFa) else 32)
    quantizer = kind([nn.Tanh(), Sign()], 1)
    quantizer.step()
    assert torch.equal(quantizer(x), Sign()(x))
    assert quantizer(x.half()).dtype == torch.float16


def test_a_factor_beyond_the_steps_stays_one() -> None:
    quantizer = StepScheduling([Identity(), Sign()], 2)
    for expected in (0.5, 1.0, 1.0):
        quantizer.step()
        assert quantizer.factor == expected
    assert quantizer.step_count == 3


def test_arguments_are_checked() -> None:
    with pytest.raises(TypeError, match=r"quantizations\[1\] must be a quantizer or another module, got .*Sign'>; did"):
        MixLinearScheduling([Identity(), Sign], 3)  # type: ignore[list-item]
    with pytest.raises(ValueError, match="steps must be at least 0, got -1"):
        StepScheduling([Sign()], -1)


# What reaches the quantizers inside


def test_they_are_copies_that_follow_modes_dtypes_and_copies() -> None:
    own = WeightLSQ(2)
    quantizer = MixLinearScheduling([ProgressiveSign(), own], 4)
    own.step.data.fill_(7.0)
    inside: Any = quantizer.quantizations
    assert inside[1] is not own
    assert inside[1].step != 7
    quantizer.eval()
    assert not inside[0].training
    assert quantizer.double().quantizations[1].step.dtype == torch.float64
    quantizer.step()
    again: Any = copy.deepcopy(quantizer)
    again.step()
    assert (quantizer.step_count, again.step_count, again.factor) == (1, 2, 0.5)
    assert again.quantizations[1] is not inside[1]
    moved: Any = quantizer.to("meta")
    assert moved.quantizations[1].step.device.type == "meta"


def test_only_what_is_learned_is_in_the_state() -> None:
    assert not MixLinearScheduling([Identity(), Sign()], 3).state_dict()
    learned = WeightLSQ(2).state_dict()
    expected = [f"quantizations.1.{name}" for name in learned]
    assert list(StepScheduling([Identity(), WeightLSQ(2)], 3).state_dict()) == expected


def test_learned_steps_start_with_the_weight_and_trained_ones_stay() -> None:
    layer = QLinear(8, 4, weight_quantization=MixLinearScheduling([Identity(), WeightLSQ(2)], 4))
    scheduled: Any = layer.weight_quantization
    assert scheduled.quantizations[1].step.isfinite()
    scheduled.factor = 0.5
    layer(torch.randn(3, 8)).sum().backward()
    assert scheduled.quantizations[1].step.grad is not None
    scheduled.quantizations[1].step.data.fill_(0.125)
    layer.weight_quantization = scheduled
    assert scheduled.quantizations[1].step == 0.125
    layer.load_state_dict(nn.Linear(8, 4).state_dict(), strict=True)  # a float one: they start anew
    assert scheduled.quantizations[1].step != 0.125


# The scheduler


class Net(nn.Module):
    """A layer of every kind that quantizers sit in."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = QConv2d(2, 4, 3, padding=1, gradient_quantization=GradientDoReFa(4))
        self.activation = QActivation()
        self.head = nn.Sequential(nn.Flatten(), QLinear(4 * 16, 5))
        self.again = self.conv
        self.sign = Sign()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.sign(self.activation(self.conv(x))))
        return y


def quantizers(model: nn.Module) -> list[Quantization]:
    return [m for m in model.modules() if isinstance(m, Quantization)]


def test_every_quantizer_of_weights_and_activations_is_scheduled() -> None:
    net = Net()
    scheduler = Quantization_Scheduler(net, 4, [Identity(), Sign()], "mix_linear", True)
    places = [
        net.conv.weight_quantization,
        net.conv.input_quantization,
        net.activation.activation_function,
        net.head[1].weight_quantization,
        net.head[1].input_quantization,
        net.sign,
    ]
    assert {id(place) for place in places} == {id(q) for q in scheduler.scheduled_quantizer_instances}
    assert len(scheduler.scheduled_quantizer_instances) == 6
    assert all(type(place) is MixLinearScheduling for place in places)
    assert scheduler.scheduled_quantizer is MixLinearScheduling
    assert isinstance(net.conv.gradient_quantization, GradientDoReFa)
    assert [name for name, _ in net.conv.named_children()].count("input_quantization") == 0  # no stray child
    scheduler.step()
    assert {q.factor for q in scheduler.scheduled_quantizer_instances} == {0.25}


def reference(net: Net, x: Tensor, quantize: Callable[[Tensor], Tensor]) -> Tensor:
    conv, linear = net.conv, net.head[1]
    assert isinstance(linear, QLinear)
    padded = nn.functional.pad(quantize(x), [1] * 4, value=-1.0)
    y = nn.functional.conv2d(padded, quantize(conv.weight))
    flat = quantize(quantize(y)).flatten(1)
    result: Tensor = nn.functional.linear(quantize(flat), quantize(linear.weight), linear.bias)
    return result


@pytest.mark.parametrize("factor", [0.0, 0.25, 1.0])
def test_layers_compute_what_the_schedule_says(factor: float) -> None:
    """Weights as well; BITorch leaves those of wrapped layers out."""
    net, x = Net(), torch.randn(2, 2, 4, 4)
    scheduler = Quantization_Scheduler(net, 4, [Identity(), Sign()], "mix_linear", True)
    scheduler.factor = factor

    def mixed(x: Tensor) -> Tensor:
        signs: Tensor = Sign()(x)
        return (1 - factor) * x + factor * signs

    torch.testing.assert_close(net(x), reference(net, x, mixed), rtol=1e-5, atol=1e-4)


def test_the_end_of_a_schedule_is_the_net_without_one() -> None:
    """In exact values: ±1 sums to integers whatever the order."""
    net, x = Net(), torch.randn(2, 2, 4, 4)
    expected = net(x)
    scheduler = Quantization_Scheduler(net, 3, [Identity(), Sign()], "step", True)
    for _ in range(3):
        scheduler.step()
    assert torch.equal(net(x), expected)
    scheduler.finish(net)
    assert not any(isinstance(q, ScheduledQuantizer) for q in quantizers(net))
    assert torch.equal(net(x), expected)
    assert net.conv.weight_codes().abs().eq(1).all()
    assert scheduler.scheduled_quantizer_instances == []


def test_finished_nets_deploy() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), QConv2d(4, 8, 3, padding=1), nn.Flatten(), QLinear(8 * 16, 3)).eval()
    x = torch.randn(2, 1, 6, 6)
    scheduler = Quantization_Scheduler(net, 1, [Identity(), InputDoReFa(2)], "step", True)
    scheduler.step()
    for layer in (net[1], net[3]):
        assert isinstance(layer, QLinear | QConv2d)
        scheduled: Any = layer.weight_quantization
        scheduled.quantizations[1] = WeightDoReFa(1).eval()
    found = str(bitorch.can_deploy(net, x))
    assert "is scheduled, until Quantization_Scheduler.finish(model) has put the last quantizer there" in found
    scheduler.finish(net)
    assert net[1].pad_value == 0  # which goes with InputDoReFa, and was −1
    packed: Any = bitorch.deploy(net, x)
    assert torch.equal(packed(x), net(x))


def test_without_all_only_scheduled_quantizers_are_replaced() -> None:
    net = Net()
    net.sign = ScheduledQuantizer()  # type: ignore[assignment]
    net.head[1].input_quantization = ScheduledQuantizer()
    scheduler = Quantization_Scheduler(net, 2, [Identity(), Sign()], "step")
    assert scheduler.scheduled_quantizer_instances == [net.sign, net.head[1].input_quantization]
    assert isinstance(net.conv.weight_quantization, Sign)


def test_a_model_without_any_warns() -> None:
    with pytest.warns(UserWarning, match="no quantizer to schedule; schedule_all_quantizations=True takes every"):
        Quantization_Scheduler(Net(), 2, [Sign()], "step")
    with pytest.warns(UserWarning, match="no quantizer to schedule$"):
        Quantization_Scheduler(nn.Linear(2, 2), 2, [Sign()], "step", True)


def test_excluded_layers_stay_as_they_are() -> None:
    net = Net()
    scheduler = Quantization_Scheduler(net, 2, [Identity(), Sign()], "step", True, [QConv2d, QActivation])
    assert scheduler.scheduled_quantizer_instances == [
        net.sign,
        net.head[1].input_quantization,
        net.head[1].weight_quantization,
    ]
    assert isinstance(net.conv.weight_quantization, Sign)
    assert isinstance(net.activation.activation_function, Sign)


def test_shared_quantizers_and_layers_get_one_for_each_place() -> None:
    shared = Sign()
    first = QLinear(4, 4, input_quantization=shared, weight_quantization=shared)
    net = nn.Sequential(first, QLinear(4, 4, input_quantization=shared), first)
    scheduler = Quantization_Scheduler(net, 2, [Identity(), Sign()], "step", True)
    assert len(scheduler.scheduled_quantizer_instances) == 4
    assert first.input_quantization is not first.weight_quantization


def test_other_layers_and_activations() -> None:
    layer = QLinear(4, 4)
    layer.activation = nn.Sequential(nn.Tanh(), Sign())
    net = nn.ModuleDict({"a": layer, "b": QEmbedding(5, embedding_dim=4), "c": QMultiheadAttention(4, 2)})
    Quantization_Scheduler(net, 2, [Identity(), Sign()], "step", True)
    left = [q for q in quantizers(net) if not isinstance(q, ScheduledQuantizer)]
    assert all(isinstance(q, Identity | Sign) for q in left)
    assert len(left) == 2 * sum(isinstance(q, ScheduledQuantizer) for q in quantizers(net))
    assert isinstance(layer.activation[1], StepScheduling)
    assert layer(torch.randn(2, 4)).shape == (2, 4)


def test_quantizers_that_do_not_fit_leave_the_model_as_it_was() -> None:
    net = Net()
    before = quantizers(net)
    with pytest.raises(ValueError, match="channels"):
        Quantization_Scheduler(net, 2, [Identity(), WeightLSQ(2, channels=3)], "step", True)
    assert [id(q) for q in quantizers(net)] == [id(q) for q in before]


def test_learned_ranges_that_were_set_before_come_along() -> None:
    learned = InputLSQ(2)
    learned.fit_(torch.linspace(0, 1, 50))
    net = nn.Sequential(QLinear(4, 4, weight_quantization=WeightDoReFa(2)).eval())
    scheduler = Quantization_Scheduler(net, 1, [Identity(), learned], "mix_linear", True, [])
    scheduler.step()
    layer = net[0]
    assert isinstance(layer, QLinear)
    x = torch.randn(3, 4)
    assert torch.equal(layer.input_quantization(x), learned(x))
    assert not layer.weight_quantization.training
    scheduler.finish(net)
    assert torch.equal(layer.input_quantization(x), learned(x))


def test_a_last_module_that_is_no_quantizer_stays_scheduled() -> None:
    net = nn.Sequential(QLinear(4, 4))
    scheduler = Quantization_Scheduler(net, 1, [Sign(), nn.Tanh()], "step", True)
    with pytest.raises(ValueError, match="the schedule has come to 0%, and its last quantizer is not in force yet"):
        scheduler.finish(net)
    scheduler.step()
    scheduler.finish(net)
    assert isinstance(net[0].weight_quantization, StepScheduling)


@pytest.mark.parametrize("kind", [ValueError, AssertionError])
def test_schedules_without_steps_or_quantizers(kind: type[Exception]) -> None:
    with pytest.raises(kind, match="steps must be at least 1, got 0"):
        Quantization_Scheduler(Net(), 0, [Sign()], "step")
    with pytest.raises(kind, match="quantizations is empty; give"):
        Quantization_Scheduler(Net(), 2, [], "step")


@pytest.mark.parametrize("kind", [ValueError, KeyError])
def test_unknown_procedure(kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"^scheduling_procedure must be one of 'mix_linear', 'step', got 'jump'$"):
        Quantization_Scheduler(Net(), 2, [Sign()], "jump", True)


def test_its_state_says_how_far_it_is() -> None:
    net = Net()
    scheduler = Quantization_Scheduler(net, 4, [Identity(), Sign()], "mix_linear", True)
    for _ in range(3):
        scheduler.step()
    file = io.BytesIO()
    torch.save(scheduler.state_dict(), file)
    file.seek(0)
    other = Quantization_Scheduler(Net(), 4, [Identity(), Sign()], "mix_linear", True)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert {(q.step_count, q.factor) for q in other.scheduled_quantizer_instances} == {(3, 0.75)}
    other.step()
    assert other.factor == 1
    assert net.state_dict().keys() == Net().state_dict().keys()  # checkpoints of the net are those without a schedule


def test_a_training_loop_as_it_is_written_for_bitorch() -> None:
    """Options on a command line, layers by the defaults, a schedule step by step, a checkpoint into a net without."""
    layer_config: Any = bitorch.config_from_name("layer_config")
    parser = ArgumentParser()
    bitorch.add_config_args(parser)
    bitorch.apply_args_to_configuration(parser.parse_args(["--input-quantization", "approxsign"]))
    torch.manual_seed(0)
    try:
        net, twin = (nn.Sequential(nn.Linear(6, 16), QLinear(16, 16), QLinear(16, 2)) for _ in range(2))
    finally:
        layer_config.input_quantization = "sign"
    scheduler = Quantization_Scheduler(net, 20, [Identity(), ApproxSign()], "mix_linear", True)
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    x, losses = torch.randn(64, 6), []
    y = (x[:, 0] > 0).long()
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    twin.load_state_dict(net.state_dict())
    twin[1].weight_quantization = twin[2].weight_quantization = ApproxSign()
    scheduler.finish(net)
    assert torch.equal(net(x), twin(x))


def test_model_and_scheduler_are_copied_together() -> None:
    net = Net()
    scheduler = Quantization_Scheduler(net, 4, [Identity(), Sign()], "mix_linear", True)
    other, others = copy.deepcopy((net, scheduler))
    others.step()
    assert other.conv.weight_quantization.factor == 0.25
    assert net.conv.weight_quantization.factor == 0
    with pytest.raises(ValueError, match="factor must be from 0 to 1, got 2"):
        scheduler.factor = 2
