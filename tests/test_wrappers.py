"""Every public call sees through what wraps a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import bitorch
from bitorch.layers import QConv2d
from bitorch.wrappers import unwrapped


def float_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(24, 5)
    )


CONFIG = bitorch.LowBitConfig(weight_bits=1, activation_bits=2, range="calibrated")


@pytest.fixture(autouse=True, scope="module")
def _no_compilation() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def compiled(model: nn.Module) -> nn.Module:
    wrapped: nn.Module = torch.compile(model, backend="eager")  # type: ignore[assignment]  # as it is of a module
    return wrapped


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "torch.compile": compiled,
    "DataParallel": nn.DataParallel,
    "AveragedModel": AveragedModel,
    "averaged exponentially": lambda m: AveragedModel(m, multi_avg_fn=get_ema_multi_avg_fn(0.9)),
    "two": lambda m: compiled(nn.DataParallel(m)),
}


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("name", WRAPPERS)
def test_every_call(name: str) -> None:
    wrapped = WRAPPERS[name](float_net())
    x, labels = torch.rand(8, 1, 6, 6), torch.randint(0, 5, (8,))
    conversion = bitorch.quantize_(wrapped, CONFIG)
    inner = unwrapped(wrapped)
    assert isinstance(inner, nn.Sequential)
    assert [row.name for row in conversion.layers] == ["0", "3", "5"]
    assert isinstance(inner[3], QConv2d)
    ranges = bitorch.calibrate(wrapped, [x]).ranges
    assert ranges[0].name == "3"
    assert all(row.name in {"0", "3", "5"} for row in bitorch.set_bits(wrapped, (2, 2)).layers)
    wrapped.eval()
    with torch.no_grad():
        assert torch.equal(wrapped(x), inner(x))
    assert bitorch.can_deploy(wrapped, x)
    packed = bitorch.deploy(wrapped, x)
    assert packed.provenance is not None
    assert packed.provenance["model"] == "Sequential"
    assert list(packed.provenance["bits"]) == ["3"]
    assert bitorch.verify(wrapped, packed, x)
    assert bitorch.verify(inner, packed, x)
    partial = bitorch.deploy(wrapped, x, partial=True)
    assert [row.name for row in partial.rows if not row.reason] == ["3"]
    report = bitorch.report(wrapped, x)
    assert report.model == "Sequential"
    assert report.deployment == "whole"
    found = bitorch.check(wrapped, (x, labels))
    assert all(not finding.layer.startswith(("module", "_orig_mod")) for finding in found.findings)
    seen = bitorch.sensitivity(wrapped, [(x, labels)], [(1, 1)])
    assert {row.layer for row in seen.rows} <= {"0", "3", "5"}
    chosen = bitorch.allocate(wrapped, [(x, labels)], bitorch.Budget(bytes=10_000), [(1, 1), (2, 2)])
    assert {row.layer for row in chosen.layers} <= {"0", "3", "5"}
    bitorch.float_(wrapped)
    assert type(inner[3]) is nn.Conv2d


def test_distributed(tmp_path: object) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        model, x = float_net(), torch.rand(2, 1, 6, 6)
        bitorch.quantize_(model, bitorch.LowBitConfig(weight_bits=1, activation_bits=2))
        wrapped = nn.parallel.DistributedDataParallel(model.eval())
        packed = bitorch.deploy(wrapped, x)
        assert bitorch.verify(wrapped, packed, x)
        with pytest.raises(ValueError, match="set_bits on the model itself, and wrap it then"):
            bitorch.set_bits(wrapped, (2, 2))
        with pytest.raises(ValueError, match="float_ on the model itself"):
            bitorch.float_(wrapped)
        plain = nn.parallel.DistributedDataParallel(float_net())
        with pytest.raises(ValueError, match="quantize_ on the model itself"):
            bitorch.quantize_(plain, CONFIG)
        assert type(plain.module.get_submodule("3")) is nn.Conv2d
    finally:
        dist.destroy_process_group()


def test_what_is_no_wrapper_stays() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2)))
    assert unwrapped(model) is model


def test_a_model_that_is_compiled_in_place() -> None:
    model, x = float_net(), torch.rand(2, 1, 6, 6)
    bitorch.quantize_(model, bitorch.LowBitConfig(weight_bits=1, activation_bits=2))
    model.eval().compile(backend="eager")
    assert bitorch.verify(model, bitorch.deploy(model, x), x)


def test_a_wrapped_layer_cannot_be_replaced() -> None:
    with pytest.raises(ValueError, match="model is itself a Linear"):
        bitorch.quantize_(nn.DataParallel(nn.Linear(3, 3)), CONFIG)


def test_layers_inside_that_are_compiled() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU()), nn.Conv2d(6, 2, 1))
    bitorch.quantize_(model, bitorch.LowBitConfig(weight_bits=1, activation_bits=2))
    model[1] = compiled(model[1])
    x: Tensor = torch.rand(2, 1, 6, 6)
    assert bitorch.verify(model.eval(), bitorch.deploy(model, x), x)
