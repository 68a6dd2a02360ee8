"""Normalisations and reductions as users write them: captured, deployed, and held to the model number by number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitorch
from bitorch.layers import QConv2d, QLinear
from bitorch.quantizations import InputDoReFa, WeightDoReFa
from capture_nets import Net, captured, kinds

Function = Callable[[Any, Tensor], Any]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def image(*shape: int) -> Tensor:
    return torch.randn(2, *(shape if shape else (4, 6, 5)))


def weights(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def tracked(x: Tensor) -> Tensor:
    mean, weight = weights(4)
    return F.instance_norm(x, mean, weight.square() + 0.1, weight, mean, use_input_stats=False)


def scaled(x: Tensor) -> Tensor:
    plus, weight = (w.view(-1, 1, 1) for w in weights(4))
    return torch.addcmul(plus, weight, x)


def mean_of_columns(x: Any) -> Any:  # PyTorch's annotations of mean have no `axis`
    return x.mean(axis=3)


NORMS: dict[str, tuple[tuple[int, ...], Function, str]] = {
    "layer norm of tokens": ((7, 12), lambda m, x: F.layer_norm(x, (12,), *weights(12)), "normalize"),
    "without weights": ((7, 12), lambda m, x: F.layer_norm(x, (12,)), "normalize"),
    "without bias": ((7, 12), lambda m, x: F.layer_norm(x, (12,), weights(12)[0]), "normalize"),
    "of a vector": ((9,), lambda m, x: F.layer_norm(x, (9,), *weights(9)), "normalize"),
    "of tokens and features": ((7, 12), lambda m, x: F.layer_norm(x, (7, 12), *weights(7, 12)), "normalize"),
    "of images": ((4, 6, 5), lambda m, x: F.layer_norm(x, (4, 6, 5), *weights(4, 6, 5), 1e-3), "normalize"),
    "of pixels": ((4, 6, 5), lambda m, x: F.layer_norm(x, (6, 5), *weights(6, 5)), "normalize"),
    "of the last axis": ((4, 6, 5), lambda m, x: F.layer_norm(x, (5,), *weights(5)), "normalize"),
    "as timm writes it": (
        (4, 6, 5),
        lambda m, x: F.layer_norm(x.permute(0, 2, 3, 1), (4,), *weights(4)).permute(0, 3, 1, 2),
        "normalize",
    ),
    "group norm": ((6, 4, 5), lambda m, x: F.group_norm(x, 3, *weights(6)), "normalize"),
    "group norm of signals": ((6, 9), lambda m, x: F.group_norm(x, 2), "normalize"),
    "group norm of vectors": ((6,), lambda m, x: F.group_norm(x, 2, *weights(6)), "normalize"),
    "group norm of volumes": ((4, 3, 4, 5), lambda m, x: F.group_norm(x, 1, *weights(4)), "normalize"),
    "instance norm": ((4, 6, 5), lambda m, x: F.instance_norm(x, weight=weights(4)[0]), "normalize"),
    "instance norm of tokens": ((7, 12), lambda m, x: F.instance_norm(x.transpose(1, 2)), "normalize"),
    "instance norm with statistics": ((4, 6, 5), lambda m, x: tracked(x), "batch_norm"),
    "RMS norm": ((7, 12), lambda m, x: F.rms_norm(x, (12,), weights(12)[0], 1e-4), "normalize"),
    "RMS norm with its own eps": ((7, 12), lambda m, x: nn.RMSNorm(12)(x), "normalize"),
    "length 1": ((7, 12), lambda m, x: F.normalize(x, dim=-1), "normalize"),
    "length 1 of channels": ((4, 6, 5), lambda m, x: F.normalize(x), "normalize"),
    "addcmul": ((4, 6, 5), lambda m, x: scaled(x), "batch_norm"),
}


@pytest.mark.parametrize("name", NORMS)
def test_normalisations_are_captured(name: str) -> None:
    shape, function, kind = NORMS[name]
    assert kind in kinds(captured(Net(function).eval(), image(*shape)))


REDUCTIONS: dict[str, tuple[tuple[int, ...], Function, str]] = {
    "mean over channels": ((4, 6, 5), lambda m, x: x.mean(1), "reduce"),
    "mean over channels, kept": ((4, 6, 5), lambda m, x: x.mean(1, keepdim=True), "reduce"),
    "mean over rows": ((4, 6, 5), lambda m, x: x.mean(-2), "reduce"),
    "mean over columns": ((4, 6, 5), lambda m, x: x.mean(dim=3, keepdim=True), "reduce"),
    "mean over channels and rows": ((4, 6, 5), lambda m, x: x.mean((1, -2)), "global_avg_pool"),
    "mean over an image": ((4, 6, 5), lambda m, x: x.mean((1, 2, 3)), "reduce"),
    "mean over all but channels": ((4, 6, 5), lambda m, x: x.mean((2, 3)), "global_avg_pool"),
    "mean over tokens": ((7, 12), lambda m, x: x.mean(1), "global_avg_pool"),
    "mean over heads": ((3, 7, 4), lambda m, x: x.mean(1), "reduce"),
    "mean by numpy's name": ((4, 6, 5), lambda m, x: mean_of_columns(x), "reduce"),
    "sum of tokens": ((7, 12), lambda m, x: x.sum(1), "reduce"),
    "sum of features": ((7, 12), lambda m, x: torch.sum(x, -1, keepdim=True), "reduce"),
    "sum of a vector": ((9,), lambda m, x: x.sum(1), "reduce"),
    "largest over channels": ((4, 6, 5), lambda m, x: x.amax(1, keepdim=True), "extreme"),
    "largest over rows": ((4, 6, 5), lambda m, x: x.amax(2), "extreme"),
    "largest over pixels": ((4, 6, 5), lambda m, x: x.amax((2, 3)), "max_pool"),
    "largest of a volume": ((4, 3, 4, 5), lambda m, x: x.amax((2, 3, 4)), "max_pool"),
    "smallest": ((4, 6, 5), lambda m, x: x.amin((1, 3)), "extreme"),
    "max along an axis": ((4, 6, 5), lambda m, x: x.max(2)[0], "extreme"),
    "max, by name": ((7, 12), lambda m, x: torch.max(x, dim=2, keepdim=True).values, "max_pool"),
    "min along an axis": ((7, 12), lambda m, x: x.min(2).values, "extreme"),
    "variance": ((7, 12), lambda m, x: x.var(-1, keepdim=True), "reduce"),
    "variance without correction": ((7, 12), lambda m, x: x.var(2, unbiased=False), "reduce"),
    "deviation": ((4, 6, 5), lambda m, x: x.std((2, 3), correction=0), "reduce"),
    "norm": ((7, 12), lambda m, x: x.norm(dim=-1, keepdim=True), "reduce"),
    "norm over pixels": ((4, 6, 5), lambda m, x: x.norm(p=2, dim=(2, 3), keepdim=True), "reduce"),
    "vector norm": ((4, 6, 5), lambda m, x: torch.linalg.vector_norm(x, dim=1), "reduce"),
    "place of the largest": ((4, 6, 5), lambda m, x: x.argmax(1), "place"),
    "place of the smallest, kept": ((4, 6, 5), lambda m, x: x.argmin(2, keepdim=True), "place"),
    "used twice": ((4, 6, 5), lambda m, x: torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1), "reduce"),
}


def windows(x: Tensor) -> Tensor:
    """[batch, 4, 6, 5] as windows of one row, [batch·6, 5, 4]."""
    return x.permute(0, 2, 3, 1).contiguous().view(-1, 5, 4)


FOLDED: dict[str, Function] = {
    "layer norm of windows": lambda m, x: F.layer_norm(windows(x), (4,), *weights(4)).view(-1, 6, 5, 4),
    "layer norm of whole windows": lambda m, x: F.layer_norm(windows(x), (5, 4)).view(-1, 6, 5, 4),
    "group norm of windows": lambda m, x: F.group_norm(windows(x), 5, *weights(5)).view(-1, 6, 5, 4),
    "mean of windows": lambda m, x: windows(x).mean(1).view(-1, 6, 4),
    "sum of features of windows": lambda m, x: windows(x).sum(-1).view(-1, 6, 5),
    "variance of windows, kept": lambda m, x: windows(x).var(-2, keepdim=True).view(-1, 6, 1, 4),
    "largest of windows": lambda m, x: windows(x).max(1)[0].view(-1, 6, 4),
    "length 1 of windows": lambda m, x: F.normalize(windows(x)).view(-1, 6, 5, 4),
    "length 1 of features of windows": lambda m, x: F.normalize(windows(x), dim=2).view(-1, 6, 5, 4),
    "layer norm of sequences": lambda m, x: F.layer_norm(x.flatten(2).permute(2, 0, 1), (4,)).transpose(0, 1),
    "mean of sequences": lambda m, x: x.flatten(2).permute(2, 0, 1).mean(0),
    "mean of features of sequences": lambda m, x: x.flatten(2).permute(2, 0, 1).mean(-1).t(),
    "largest of sequences, kept": lambda m, x: x.flatten(2).permute(2, 0, 1).amax(0, keepdim=True).transpose(0, 1),
}


@pytest.mark.parametrize("name", FOLDED)
def test_the_batch_may_be_part_of_an_axis(name: str) -> None:
    captured(Net(FOLDED[name]).eval(), image())


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions_are_captured(name: str) -> None:
    shape, function, kind = REDUCTIONS[name]
    assert kind in kinds(captured(Net(function).eval(), image(*shape)))


class Between(nn.Module):
    """A function between low-bit layers, and behind the last one."""

    def __init__(self, function: Function, shape: tuple[int, ...], bits: int) -> None:
        super().__init__()
        low_bit: dict[str, Any] = {"weight_quantization": WeightDoReFa(bits), "input_quantization": InputDoReFa(bits)}
        is_image = len(shape) > 1 and shape[0] == 4
        self.layers = nn.ModuleList(
            [QConv2d(4, 4, 1, **low_bit) if is_image else QLinear(shape[-1], shape[-1], **low_bit) for _ in range(2)]
        )
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self, self.layers[1](self.layers[0](x)))


@pytest.mark.parametrize("bits", [1, 2])
@pytest.mark.parametrize("name", [*NORMS, *REDUCTIONS, *FOLDED])
@pytest.mark.one_in(3)
def test_what_is_deployed_is_the_model(name: str, bits: int) -> None:
    """`deploy` verifies it on trial inputs, special numbers among them; here once more, with batches of 1 and 3."""
    shape, function, _ = {**NORMS, **REDUCTIONS, **{key: ((4, 6, 5), f, "") for key, f in FOLDED.items()}}[name]
    if len(shape) == 4 and shape[0] == 4:
        pytest.skip("there is no low-bit layer of volumes here")
    model = Between(function, shape, bits).eval()
    packed = bitorch.deploy(model, torch.rand(2, *shape))
    for batch in (1, 3):
        found = bitorch.verify(model, packed, torch.rand(batch, *shape))
        assert found, str(found)


def test_places_leave_as_integers() -> None:
    model = Between(lambda m, x: (x.argmax(1), x.amax(1)), (4, 6, 5), 2).eval()
    packed = bitorch.deploy(model, torch.rand(2, 4, 6, 5))
    x = torch.rand(3, 4, 6, 5)
    results = packed(x)
    assert isinstance(results, dict)
    places, largest = results.values()
    assert places.dtype == torch.int32
    assert torch.equal(places.long(), model(x)[0])
    assert torch.equal(largest, model(x)[1])


def test_a_quantizer_behind_a_norm_is_one_operation_with_it() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            low_bit: dict[str, Any] = {"weight_quantization": WeightDoReFa(1), "input_quantization": InputDoReFa(2)}
            self.first, self.norm, self.second = nn.Linear(8, 12), nn.LayerNorm(12), QLinear(12, 12, **low_bit)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            y: Tensor = x + self.second(self.norm(x))
            return y

    packed = bitorch.deploy(Block().eval(), torch.rand(2, 5, 8))
    operations = [operation for operation in packed.program()[0] if operation["op"] not in ("input", "output")]
    assert [operation["op"] for operation in operations] == ["linear_float", "normalize", "linear"]
    assert "codes" in operations[1]
    assert "float32" not in operations[1]
    assert "residual" in operations[2]


DEGENERATE = {
    "constant": torch.full((2, 5, 12), 0.1),
    "zeros": torch.zeros(2, 5, 12),
    "a large mean": 1e5 + torch.rand(2, 5, 12),
    "NaN": torch.where(torch.arange(12) == 3, torch.nan, torch.rand(2, 5, 12)),
    "infinity": torch.where(torch.arange(12) == 3, torch.inf, torch.rand(2, 5, 12)),
    "tiny": torch.rand(2, 5, 12) * 1e-30,
    "one that overflows": torch.where(torch.arange(12) == 3, 1e30, torch.rand(2, 5, 12)),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_values(name: str) -> None:
    """Of the norm itself, in front of everything else."""

    class Norms(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            low_bit: dict[str, Any] = {"weight_quantization": WeightDoReFa(1), "input_quantization": InputDoReFa(2)}
            self.layer = QLinear(12, 4, **low_bit)

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            whole = F.layer_norm(x, (12,)), F.layer_norm(x, (5, 12)), F.rms_norm(x, (12,)), F.normalize(x, dim=-1)
            return (*whole, x.var(-1), x.norm(dim=1), x.amax(1), self.layer(whole[0]))

    model = Norms().eval()
    packed = bitorch.deploy(model, torch.rand(2, 5, 12))
    found = bitorch.verify(model, packed, DEGENERATE[name])
    assert found, str(found)


def test_one_channel_and_one_token() -> None:
    def function(m: Any, x: Tensor) -> tuple[Tensor, ...]:
        return F.layer_norm(x, (1,)), x.mean(1), x.var(2, correction=0), x.argmax(1)

    model = Between(function, (1, 1), 1).eval()
    packed = bitorch.deploy(model, torch.rand(2, 1, 1))
    assert bitorch.verify(model, packed, torch.rand(3, 1, 1))
