"""bitorch.calibrate: the ranges of the float net, in every layer or in none, and nothing else changed."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitorch import LowBitConfig, calibrate, quantize_
from bitorch.layers import QActivation
from bitorch.quantizations import InputCalibrated, InputLSQ, InputPACT, RangeQuantization

NAN, INF = float("nan"), float("inf")
METHODS: list[dict[str, Any]] = [
    {"range": "calibrated"},
    {"range": "calibrated", "calibration": "percentile", "percentile": 99.0, "weight_scale": "channel"},
    {"range": "learned", "learned_by": "lsq", "weight_scale": "channel"},
    {"range": "learned", "learned_by": "lsq+"},
    {"range": "learned", "learned_by": "pact"},
]


def float_net() -> nn.Sequential:
    """A net whose BatchNorms have seen a batch."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.SiLU(),
        nn.Conv2d(6, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(96, 10),
        nn.Linear(10, 2),
    )
    net(batches()[0])
    return net


def converted(**method: Any) -> nn.Sequential:
    net = float_net()
    quantize_(net, LowBitConfig(2, 4, **method))
    return net


def batches(count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(8, 3, 4, 4, generator=generator) for _ in range(count)]


def ranges(net: nn.Module) -> list[RangeQuantization]:
    return [module for module in net.modules() if isinstance(module, RangeQuantization)]


def everything(net: nn.Module) -> dict[str, Any]:
    """All that a calibration could change."""
    return {
        **{name: value.clone() for name, value in net.state_dict().items()},
        "training": [module.training for module in net.modules()],
        "modules": [id(module) for module in net.modules()],
        "parameters": [id(parameter) for parameter in net.parameters()],
        "gradients": [parameter.grad for parameter in net.parameters()],
        "flags": [(q.is_set, q.zero_point()) for q in ranges(net)],
        "random": torch.get_rng_state(),
    }


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one.nan_to_num(nan=1e9), other.nan_to_num(nan=1e9))
    return bool(one == other)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_the_ranges_are_those_of_the_float_net(method: dict[str, Any]) -> None:
    net, plain = converted(**method), float_net().eval()
    seen: dict[int, list[Tensor]] = {3: [], 8: []}
    clips = method.get("learned_by") == "pact"  # as its float form does, too

    def look(index: int, x: Tensor) -> Tensor:
        seen[index].append(x)
        return x.relu() if clips else x

    for index in seen:
        plain[index].register_forward_pre_hook(lambda _, x, index=index: (look(index, x[0]),))
    with torch.no_grad():
        for x in batches():
            plain(x)
    calibrate(net, batches())
    for index, quantizer in zip((3, 8), ranges(net), strict=True):
        expected = copy.deepcopy(quantizer)
        expected.fit_(torch.cat([x.flatten() for x in seen[index]]))
        assert quantizer.is_set
        assert quantizer.limits() == pytest.approx(expected.limits())
    assert net(batches()[0]).isfinite().all()


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_nothing_but_the_ranges_changes(method: dict[str, Any]) -> None:
    net = converted(**method)
    net[4].eval()  # as a frozen BatchNorm has it
    owners = [f"{name}." for name, module in net.named_modules() if isinstance(module, RangeQuantization)]
    before = everything(net)
    calibrate(net, batches())
    after = everything(net)
    for key, value in before.items():
        if key != "flags" and not key.startswith(tuple(owners)):
            assert same(value, after[key]), key
    assert all(is_set for is_set, _ in after["flags"])


def test_the_table() -> None:
    net = converted(range="learned", learned_by="pact")
    table = calibrate(net, batches())
    assert [row.name for row in table.ranges] == ["3", "8"]
    for row, quantizer in zip(table.ranges, ranges(net), strict=True):
        assert (row.quantizer, row.bits) == ("InputPACT", 4)
        assert (row.low, row.high) == quantizer.limits()
        assert row.low == 0 < row.high <= row.seen_high * 1.01
        assert 0 <= row.clipped < 1
    first, second = table.ranges
    assert first.seen_low < 0 == second.seen_low  # behind SiLU and ReLU
    assert first.clipped > 0.3
    assert second.clipped < 0.1
    lines = str(table).splitlines()
    assert lines[0].split() == ["layer", "quantizer", "bits", "inputs", "seen", "range", "clipped"]
    assert any(line.split()[:3] == ["3", "InputPACT", "4"] for line in lines)
    assert f"{100 * first.clipped:.2f} %" in str(table)


def test_batches_of_every_kind() -> None:
    expected = calibrate(converted(range="calibrated"), batches())
    labelled = [(x, torch.zeros(8)) for x in batches()]
    for same_batches in (labelled, [list(pair) for pair in labelled], iter(batches()), (x for x in batches())):
        assert calibrate(converted(range="calibrated"), same_batches) == expected
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.cat(batches())), batch_size=5)
    rows = calibrate(converted(range="calibrated"), loader).ranges
    for row, other in zip(rows, expected.ranges, strict=True):
        assert (row.low, row.high) == pytest.approx((other.low, other.high), rel=1e-4)


def test_it_is_repeatable_and_can_be_repeated() -> None:
    big = [torch.randn(64, 3, 4, 4, generator=torch.Generator().manual_seed(2)) for _ in range(30)]
    net = converted(range="learned", learned_by="lsq+")
    parameters = [id(parameter) for parameter in net.parameters()]
    first = calibrate(net, big)
    torch.rand(5)
    assert calibrate(net, big) == first == calibrate(converted(range="learned", learned_by="lsq+"), big)
    assert [id(parameter) for parameter in net.parameters()] == parameters
    assert calibrate(net, [2 * x for x in big]) != first


class Odd(nn.Module):
    """A layer that is not called, or gets nothing but zeros, or what is not finite."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self.first, self.body, self.branch, self.last = (nn.Linear(4, n) for n in (4, 4, 4, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.first(x))
        if self.what != "unused":
            x = x + self.branch({"dead": x * 0, "nan": x / 0 * 0, "inf": x.abs() / 0, "fine": x}[self.what])
        y: Tensor = self.last(x)
        return y


def odd(what: str, **method: Any) -> Odd:
    torch.manual_seed(0)
    net = Odd(what)
    quantize_(net, LowBitConfig(2, 3, **method))
    return net


def broken_loader() -> Iterator[Tensor]:
    yield torch.ones(5, 4)
    raise KeyError("no such file")


ERRORS: list[tuple[str, Any, type[Exception], str]] = [
    ("fine", [], ValueError, "batches is empty; pass a few batches"),
    ("fine", torch.randn(5, 4), TypeError, r"batches must be .* a loader or the list \[batch\], got Tensor"),
    ("fine", {"x": torch.randn(5, 4)}, TypeError, "batches must be .* got dict"),
    ("fine", 3, TypeError, "batches must be .* got int"),
    ("fine", [torch.empty(0, 4)], ValueError, r"batch 0 is empty: its shape is \[0, 4\]"),
    ("fine", [torch.randn(5, 4), torch.empty(0, 4)], ValueError, "batch 1 is empty"),
    ("fine", [torch.zeros(5, 4, dtype=torch.uint8)], TypeError, r"batch 0 is torch\.uint8; pass what the model takes"),
    ("fine", ["text"], TypeError, "batch 0 must be a tensor, inputs and labels such as .* or a dict, got str"),
    ("fine", [()], TypeError, "batch 0 must be a tensor"),
    ("fine", [torch.randn(5, 4), torch.full((5, 4), NAN)], ValueError, "layer '(body|branch)': some inputs are NaN"),
    ("fine", [torch.full((5, 4), INF)], ValueError, "layer '(body|branch)': some inputs are NaN or infinite"),
    (
        "fine",
        [torch.randn(5, 7)],
        ValueError,
        r"forward fails on batch 0, of shape \[5, 7\]: RuntimeError: .* multiplied",
    ),
    ("fine", broken_loader, KeyError, "no such file"),
    ("dead", [torch.randn(5, 4)], ValueError, r"layer 'branch': the range collapses.*dead ReLU.*leave the layer float"),
    ("nan", [torch.randn(5, 4)], ValueError, "layer 'branch': some inputs are NaN or infinite"),
    ("inf", [torch.randn(5, 4)], ValueError, "layer 'branch': some inputs are NaN or infinite"),
    ("unused", [torch.randn(5, 4)], ValueError, "layer 'branch': no batch reached its quantizer"),
]


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize(
    ("what", "given", "error", "text"), ERRORS, ids=[f"{what}-{text[:20]}" for what, _, _, text in ERRORS]
)
def test_after_an_error_all_is_as_it_was(
    what: str, given: Any, error: type[Exception], text: str, fitted: bool
) -> None:
    net = odd(what, range="learned", learned_by="lsq+")
    net.body.eval()
    if fitted:
        for quantizer in ranges(net):
            quantizer.fit_(torch.randn(100))
    before = everything(net)
    with pytest.raises(error, match=text):
        calibrate(net, given() if callable(given) else given)
    after = everything(net)
    for key, value in before.items():
        assert same(value, after[key]), key


def test_one_nan_among_many_numbers_is_found() -> None:
    x = torch.randn(20_000, 4)
    x[7, 3] = NAN
    with pytest.raises(ValueError, match="some inputs are NaN or infinite"):
        calibrate(odd("fine", range="calibrated"), [x])


def test_models_without_a_range() -> None:
    with pytest.raises(ValueError, match="the model has no range to calibrate; convert it with a LowBitConfig"):
        calibrate(converted(), batches())
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got list"):
        calibrate([], batches())  # type: ignore[arg-type]  # the error


def test_a_quantizer_alone_and_a_shared_one() -> None:
    alone = InputCalibrated(3)
    (row,) = calibrate(alone, [torch.rand(50, 4)]).ranges
    assert row.name == "the quantizer"
    assert alone(torch.rand(3)).isfinite().all()
    shared = InputPACT(3)
    net = nn.Sequential(shared, nn.Linear(4, 4), shared)
    (row,) = calibrate(net, [torch.rand(50, 4)]).ranges
    assert row.name == "0"
    assert shared.is_set


def test_tokens() -> None:
    """Integers are no pixels where the model begins with an embedding."""
    net = nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2))
    quantize_(net, LowBitConfig(2, 3, range="calibrated"))
    calibrate(net, [torch.arange(20).view(4, 5)])
    assert all(quantizer.is_set for quantizer in ranges(net))
    with pytest.raises(ValueError, match=r"fails on batch 0, of shape \[4\]: TypeError: InputLSQ: the input must be"):
        calibrate(InputLSQ(2), [torch.arange(4)])


def test_a_calibrated_net_loads_what_it_saved() -> None:
    for method in METHODS:
        net, x = converted(**method), batches()[0]
        calibrate(net, batches())
        net.eval()
        fresh = converted(**method).eval()
        with pytest.raises(RuntimeError, match=r"is not set; call bitorch\.calibrate"):
            fresh(x)
        fresh.load_state_dict(net.state_dict(), strict=True)
        assert torch.equal(fresh(x), net(x))
        before = [quantizer.limits() for quantizer in ranges(fresh)]
        fresh.load_state_dict(float_net().state_dict(), strict=True)
        assert [quantizer.limits() for quantizer in ranges(fresh)] == before


# Two processes

SCRIPT = """
import json, os, sys
import torch
import torch.distributed as dist
from torch import nn
from bitorch import LowBitConfig, calibrate, quantize_

rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}/rendezvous", rank=rank, world_size=2)
report = {}

def net(**method):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    quantize_(model, LowBitConfig(2, 3, **method))
    return model

x = (torch.rand if rank else torch.randn)(50, 4, generator=torch.Generator().manual_seed(rank)) * (1 + rank)
for name, method in {
    "calibrated": {"range": "calibrated"},
    "lsq": {"range": "learned"},
    "lsq+": {"range": "learned", "learned_by": "lsq+"},
}.items():
    model = net(**method)
    table = calibrate(model, [x] * (1 + rank))
    report[name] = {
        "state": {k: v.tolist() for k, v in model.state_dict().items() if "activation" in k},
        "rows": [(row.low, row.high) for row in table.ranges],
        "output": model(torch.ones(2, 4)).tolist(),
    }
model = net(range="calibrated")
try:
    calibrate(model, [x if rank else x * float("nan")])
except (ValueError, RuntimeError) as error:
    report["error"] = [type(error).__name__, str(error)]
report["is_set"] = [m.is_set for m in model.modules() if hasattr(m, "is_set")]
with open(f"{sys.argv[2]}/rank{rank}.json", "w") as file:
    json.dump(report, file)
dist.barrier()
dist.destroy_process_group()  # its threads would abort an interpreter that ends
"""


@pytest.mark.slow
def test_two_processes_get_the_ranges_of_the_first_one(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, tmp_path / "script.py", str(rank), tmp_path], env=environment, stderr=subprocess.PIPE
        )
        for rank in (0, 1)
    ]
    try:
        errors = [process.communicate(timeout=120)[1].decode() for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    for name in ("calibrated", "lsq", "lsq+"):
        assert first[name] == second[name]
        assert first[name]["rows"][0][0] < 0  # the first one's numbers are negative in part
    assert first["error"][0] == "ValueError"
    assert second["error"] == [
        "RuntimeError",
        "calibration failed in another process, which says why; all ranges are as they were",
    ]
    assert first["is_set"] == second["is_set"] == [False, False]


def test_a_new_batch_norm_normalizes_by_the_batch_and_stays_new() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), norm, nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 2))
    quantize_(model, LowBitConfig(2, 2, range="calibrated"))
    images = 1e-3 * torch.rand(16, 1, 8, 8)  # so small that only a normalization makes them large
    (row,) = calibrate(model, [images]).ranges
    expected = F.batch_norm(model[0](images), None, None, norm.weight, norm.bias, training=True)
    assert row.seen_high == pytest.approx(float(expected.max().detach()), rel=1e-5)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    assert (norm.running_mean == 0).all()
    assert (norm.running_var == 1).all()
    assert norm.num_batches_tracked == 0
    assert norm.training
    norm(model[0](images))  # now it has seen one
    (after,) = calibrate(model, [images]).ranges
    assert after.seen_high == pytest.approx(float(norm.eval()(model[0](images)).max().detach()), rel=1e-5)


def test_an_activation_by_itself_goes_by_its_own_name() -> None:
    model = nn.Sequential(nn.Linear(4, 4), QActivation(InputLSQ(3), 0.0))
    assert [row.name for row in calibrate(model, [torch.randn(16, 4)]).ranges] == ["1"]


def trained_statistics(norm: Any) -> None:
    """Statistics without the counter, as files without `num_batches_tracked` bring them."""
    norm.running_mean.fill_(0.2)
    norm.running_var.fill_(100.0)


def without_counter(norm: Any) -> None:
    trained_statistics(norm)
    norm.num_batches_tracked = None


def partly_trained(norm: Any) -> None:
    norm.running_var[0] = 100.0


NORMS: dict[str, tuple[Any, Any]] = {
    "counter 0": (nn.BatchNorm2d(4), trained_statistics),
    "no counter": (nn.BatchNorm2d(4), without_counter),
    "cumulative": (nn.BatchNorm2d(4, momentum=None), trained_statistics),
    "no affine": (nn.BatchNorm2d(4, affine=False), trained_statistics),
    "one channel": (nn.BatchNorm2d(1), trained_statistics),
    "several processes": (nn.SyncBatchNorm(4), trained_statistics),
    "instances": (nn.InstanceNorm2d(4, track_running_stats=True), trained_statistics),
    "one channel of several": (nn.BatchNorm2d(4), partly_trained),
    "mean only": (nn.BatchNorm2d(4), lambda norm: norm.running_mean.fill_(0.5)),
}


@pytest.mark.parametrize("kind", NORMS)
def test_trained_statistics_count_whatever_the_counter_says(kind: str) -> None:
    norm, change = copy.deepcopy(NORMS[kind])
    change(norm)
    channels = norm.num_features
    model = nn.Sequential(norm, nn.ReLU(), nn.Conv2d(channels, 4, 3))
    quantize_(model, LowBitConfig(2, 2, range="calibrated", first="same"))
    images = torch.rand(16, channels, 8, 8)
    state = {name: value.clone() for name, value in norm.state_dict().items()}
    (row,) = calibrate(model, [images]).ranges
    expected = norm.eval()(images).relu()
    assert row.seen_high == pytest.approx(float(expected.max().detach()), rel=1e-5)
    assert all(torch.equal(value, state[name]) for name, value in norm.state_dict().items())


NEW_NORMS: dict[str, Any] = {
    "plain": nn.BatchNorm2d(4),
    "cumulative": nn.BatchNorm2d(4, momentum=None),
    "one channel": nn.BatchNorm2d(1),
    "several processes": nn.SyncBatchNorm(4),
    "instances": nn.InstanceNorm2d(4, track_running_stats=True),
    "no statistics": nn.BatchNorm2d(4, track_running_stats=False),
}


@pytest.mark.parametrize("counter", [0, 7, None])
@pytest.mark.parametrize("kind", NEW_NORMS)
def test_a_norm_with_mean_0_and_variance_1_normalizes_by_what_comes(kind: str, counter: int | None) -> None:
    norm = copy.deepcopy(NEW_NORMS[kind])
    channels = norm.num_features
    norm.num_batches_tracked = None if counter is None or kind == "no statistics" else torch.tensor(counter)
    model = nn.Sequential(norm, nn.ReLU(), nn.Conv2d(channels, 4, 3))
    quantize_(model, LowBitConfig(2, 2, range="calibrated", first="same"))
    images = 1e-2 * torch.rand(16, channels, 8, 8)
    (row,) = calibrate(model, [images]).ranges
    axes = (2, 3) if kind == "instances" else (0, 2, 3)
    mean, variance = images.mean(axes, keepdim=True), images.var(axes, correction=0, keepdim=True)
    assert row.seen_high == pytest.approx(float(((images - mean) / (variance + 1e-5).sqrt()).max()), rel=1e-4)
    if kind != "no statistics":
        assert norm.track_running_stats
        assert (norm.running_mean == 0).all()
        assert (norm.running_var == 1).all()


def test_one_input_among_a_million_zeros_sets_the_range() -> None:
    x = torch.zeros(1000, 1000)
    x[3, 4] = 0.75
    quantizer = InputPACT(4)
    (row,) = calibrate(quantizer, [x]).ranges
    assert (row.low, row.high) == pytest.approx((0, 0.75), rel=0.01)
    with pytest.raises(ValueError, match="the range collapses"):
        calibrate(InputPACT(4), [torch.zeros(1000, 1000)])
