"""benchmarks/training.py: steps on integers are compared before they are timed; ratios are of steps side by side."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

import training
import training_check
from bitorch import LowBitConfig
from bitorch.layers.integer_kernels import machine_obstacle
from svhn_a import MakeConv
from training_contestants import BITS, FLOAT, SETS, names
from training_nets import NETS, Net
from training_process import start
from training_profile import kind_of, milliseconds_by_kind
from training_results import Case, Measured, table, table_of_kinds, to_json
from training_step import Trained, batch_of, prepare

needs_kernels = pytest.mark.skipif(machine_obstacle() is not None, reason=str(machine_obstacle()))


def tiny(make_conv: MakeConv, relu: bool) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        make_conv(16, 16, 3, 1),
        nn.BatchNorm2d(16),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 3 * 3, 10),
    )


@pytest.fixture(autouse=True)
def net(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(NETS, "tiny", Net("a tiny net", 8, tiny, 1))
    return "tiny"


@pytest.fixture
def two_threads_at_most() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_every_contestant_has_a_config() -> None:
    for members in SETS.values():
        assert next(iter(members)) == FLOAT
        for each in members.values():
            if each.bits is not None:
                LowBitConfig(*each.bits, **each.config)


def test_who_takes_part() -> None:
    everyone = names("kernels", has_kernels=True, compiled=True)
    assert everyone == list(SETS["kernels"])
    without = names("kernels", has_kernels=False, compiled=False)
    assert without == ["float32", "bf16", "W1A2G6, simulated", "W2A4G8, simulated"]


@needs_kernels
@pytest.mark.parametrize("bits", BITS)
def test_a_step_on_integers_is_that_on_floats(net: str, bits: tuple[int, int, int]) -> None:
    said = training_check.check(net, 4, bits)
    assert "Of 1 low-bit layers 1 go forward on integers (1 by " in said
    assert "and 1 backward" in said


@needs_kernels
@pytest.mark.parametrize("parameter", ["0.weight", "3.weight", "8.bias"])
def test_another_step_is_seen(net: str, parameter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(name: str, *arguments: Any) -> Trained:
        step = prepare(name, *arguments)
        if "integer" in name:
            with torch.no_grad():
                step.net.get_parameter(parameter)[0].add_(1)
        return step

    monkeypatch.setattr(training_check, "prepare", changed)
    with pytest.raises(RuntimeError, match=r"tiny, W1A2G6: the loss is .* on integers, but .* on floats"):
        training_check.check(net, 4, (1, 2, 6))


@needs_kernels
def test_another_gradient_is_seen(net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(name: str, *arguments: Any) -> Trained:
        step = prepare(name, *arguments)
        if "integer" in name:
            step.net.get_parameter("0.weight").register_hook(lambda gradient: gradient * (1 + 1e-6))
        return step

    monkeypatch.setattr(training_check, "prepare", changed)
    with pytest.raises(RuntimeError, match=r"the gradient of 0\.weight on integers is off by .*, and 0\.0 is allowed"):
        training_check.check(net, 4, (1, 2, 6))


def test_where_the_time_goes(net: str) -> None:
    step = prepare("W1A2G6, simulated", net, *batch_of(net, 4))
    step()
    spent = milliseconds_by_kind(step)
    assert {kind for kind, milliseconds in spent.items() if not milliseconds} <= {"ReLU", "dropout"}
    assert kind_of("autograd::engine::evaluate_function: _IntegerProductBackward") == "low-bit, backward"
    assert kind_of("bitorch::integer_product") == "low-bit, forward"
    assert kind_of("aten::max_pool2d_with_indices_backward") == "pooling"
    assert kind_of("aten::empty") is None


def case() -> Case:
    def measured(name: str, *seconds: float) -> Measured:
        return Measured(name, list(seconds), 0.5, 2e6, 4e6, {"pooling": 1.0, "the rest": 3.0})

    contestants = [measured("float32", 1, 2, 4), measured("bf16", 1, 1, 1), measured("W1A2G6, integer", 3, 1, 1)]
    return Case("tiny", "a tiny net", 4, 2, contestants)


def test_ratios_are_of_steps_side_by_side() -> None:
    found = to_json({"CPU": "this"}, [case()])["cases"][0]["contestants"][2]
    assert (found["time_over_float32"], found["time_over_bf16"], found["milliseconds"]) == (0.5, 1, 1000)
    json.dumps(found)
    columns = {str(column.header): list(column.cells) for column in table(case()).columns}
    assert columns["÷ bf16"] == ["2.00", "1.00", "1.00"]
    assert columns["MB resident"] == ["4"] * 3
    assert list(table_of_kinds(case()).columns[1].cells) == ["1.0 (25%)"] * 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"nets": ("svhn-b",)}, "nets must be of svhn-a, .*, got svhn-b"),
        ({"threads": (0,)}, "threads must be numbers of at least 1"),
        ({"batches": ()}, "batches must be numbers of at least 1"),
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
    ],
)
def test_wrong_options(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        training.Options(**fields)


@pytest.mark.slow
def test_a_process_that_ends_is_said() -> None:
    process = start("float33", sys.executable, "svhn-a", 2, 1)
    with pytest.raises(RuntimeError, match="the process of float33 ended with exit status 1"):
        process.step()
    process.stop()


@pytest.mark.slow
def test_a_short_run(tmp_path: Any, two_threads_at_most: None, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "training.json"
    options = training.Options(
        nets=("svhn-a",), compare="bf16", batches=(2,), threads=(1,), rounds=1, warmup=1, profile=True, out=path
    )
    training.main(options)
    assert "a training step of SVHN net A, 40×40, batch 2, one thread" in capsys.readouterr().out
    (row,) = json.loads(path.read_text())["cases"]
    assert all(each["allocated"] > 0 and len(each["seconds"]) == 1 for each in row["contestants"])
