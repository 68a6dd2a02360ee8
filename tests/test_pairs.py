"""Arithmetic of two tensors, constants of any shape, and tensors whose first axis is more than the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitorch
from bitorch import LowBitConfig, quantize_
from bitorch_runtime import reference
from capture_nets import Net, captured, image, kinds

BITS = ((1, 2), (2, 2), (4, 4))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def plane() -> Tensor:
    """One number for each pixel."""
    return torch.arange(36.0).view(6, 6) - 7


def mask() -> Tensor:
    return torch.ones(6, 6).tril().bool()


PAIRS: dict[str, tuple[Callable[[Any, Tensor], Any], str | None]] = {
    "pixels": (lambda m, x: x + plane(), "constant add"),
    "pixels first": (lambda m, x: plane() - x, "constant sub"),
    "number / x": (lambda m, x: 2 / x, "reciprocal times"),
    "x / y": (lambda m, x: x / (x.relu() + 1), "relu plus div"),
    "rows": (lambda m, x: x.relu() * torch.arange(6.0).view(6, 1), "relu constant mul"),
    "channels that widen": (lambda m, x: x[:, :1] + m.mean, "select constant add"),
    "everything widens": (lambda m, x: x[:, :1, :, :1] * torch.ones(4, 1, 6), "select take constant mul"),
    "one of each": (lambda m, x: x[:, :1] / x.amax((2, 3), keepdim=True), "max_pool select div"),
    "maximum": (lambda m, x: torch.maximum(x, x.flip(3)), "take maximum"),
    "torch.min of two": (lambda m, x: torch.min(x, x[:, :1]), "select minimum"),
    "maximum with zero": (lambda m, x: torch.maximum(x, torch.zeros(1)), "clamp"),
    "minimum with pixels": (lambda m, x: torch.minimum(plane(), x), "constant minimum"),
    "clamp by channels": (lambda m, x: torch.clamp(x, max=m.mean.abs()), "constant minimum"),
    "clamp by tensors": (lambda m, x: torch.clamp(x, plane() - 5, plane() + 5), "constant constant maximum minimum"),
    "clamp by the image": (lambda m, x: torch.clamp(x, min=-x), "times maximum"),
    "where": (lambda m, x: torch.where(mask(), x, -x), "times constant where"),
    "where of constants": (lambda m, x: torch.where(mask(), 0.5, x), "constant constant where"),
    "x.where": (lambda m, x: x.where(mask(), plane()), "constant constant where"),
    "masked_fill": (lambda m, x: x.masked_fill(mask(), -torch.inf), "constant constant where"),
    "masked_fill_": (lambda m, x: (x * 2).masked_fill_(mask(), 3), "times constant constant where"),
    "tril": (lambda m, x: x.tril(1), "constant constant where"),
    "triu": (lambda m, x: torch.triu(x, -1), "constant constant where"),
    "added mask": (lambda m, x: x + torch.zeros(6, 6).masked_fill(mask(), -torch.inf), "constant add"),
    "for the batch": (lambda m, x: x + plane().expand(len(x), 4, 6, 6), "constant add"),
    "zeros like": (lambda m, x: x + torch.zeros_like(x), "plus"),
    "token": (lambda m, x: torch.cat([m.mean.expand(len(x), -1, -1, 6), x], 2), "constant concat"),
    "between": (lambda m, x: torch.cat([x, plane()[None, None].expand(len(x), 1, -1, -1), x], 1), "constant concat"),
    "as many as x": (lambda m, x: torch.cat([x, m.mean.expand_as(x)], 1), "constant concat"),
    "stack": (lambda m, x: torch.stack([x, x.relu(), torch.zeros_like(x)], 2).flatten(2, 3), None),
    "stack of features": (lambda m, x: torch.stack([x.mean((2, 3)), x.amax((2, 3))], -1).flatten(1), None),
    "the same twice": (lambda m, x: (x + plane()) * plane(), "constant add mul"),
    "channels or one": (lambda m, x: x - x.mean((2, 3), keepdim=True), "global_avg_pool sub"),
    "repeated": (lambda m, x: x[:, :1].expand_as(x) + x, "select add"),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_pairs(name: str) -> None:
    function, expected = PAIRS[name]
    found = captured(Net(function).eval(), image())
    if expected is not None:
        assert " ".join(kinds(found)) == expected


def special(*shape: int) -> Tensor:
    """Numbers with all kinds of others among them."""
    x = torch.randn(*shape)
    flat = x.view(-1)
    flat[:5] = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0, 1e-40])
    return x


class Pairs(nn.Module):
    """All functions, of tensors that are repeated along axes, between low-bit layers."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(features, features), nn.Linear(features, features)
        self.places = nn.Parameter(torch.randn(1, 5, features))
        self.mask = nn.Buffer(torch.randn(5, features) > 0)
        self.last = nn.Linear(features, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.one(x) + self.places
        z = self.other(x)
        y = torch.maximum(y, z[:, :1]) - torch.minimum(z, y[:, :, :1])
        y = y / (F.relu(z) + 1) * self.places.sigmoid()
        y = torch.where(self.mask, y, z) + 1 / (y.clamp(0, 1) + self.places.abs() + 1)
        scores: Tensor = self.last(torch.clamp(y, self.places - 1, self.places + 1))
        return scores


def settled(model: nn.Module, bits: tuple[int, int], x: Tensor) -> nn.Module:
    quantize_(model, LowBitConfig(*bits))
    model.train()(x)
    return model.eval()


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("features", [1, 3, 40])
def test_deployed_pairs(bits: tuple[int, int], features: int) -> None:
    model = settled(Pairs(features), bits, torch.randn(4, 5, features))
    packed = bitorch.deploy(model, torch.randn(2, 5, features))
    for batch in (1, 2, 3):
        assert bitorch.verify(model, packed, special(batch, 5, features))


def test_functions_of_two_inputs() -> None:
    """Bit for bit, whatever the numbers; the reference and the core too."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
            z = self.layer(x[:, 0])
            return z, x - y, x / y, x * y, torch.minimum(x, y), torch.maximum(y, x), x + y

    model = Two()
    quantize_(model, LowBitConfig(2, 2, first="same", last="same"))
    model.eval()
    packed = bitorch.deploy(model, torch.randn(2, 3, 4), torch.randn(2, 3, 1))
    x, y = special(3, 3, 4), special(3, 3, 1)
    assert bitorch.verify(model, packed, x, y)
    expected = reference.run(*packed.program(), x.numpy(), y.numpy())
    assert isinstance(expected, dict)
    for found, name in zip(packed(x, y).values(), expected, strict=True):
        np.testing.assert_array_equal(found.numpy(), expected[name])


# Folded batches


def windows(x: Tensor, size: int) -> Tensor:
    """[B, C, H, W] as [B·n, size·size, C], as Swin does it."""
    b, c, h, w = x.shape
    x = x.permute(0, 2, 3, 1).view(b, h // size, size, w // size, size, c)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, size * size, c)


def whole(x: Tensor, size: int, h: int, w: int) -> Tensor:
    """And back."""
    x = x.view(-1, h // size, w // size, size, size, x.shape[-1])
    return x.permute(0, 5, 1, 3, 2, 4).reshape(-1, x.shape[-1], h, w)


FOLDED: dict[str, Callable[[Any, Tensor], Any]] = {
    "windows": lambda m, x: whole(windows(x, 3).relu(), 3, 6, 6),
    "softmax of windows": lambda m, x: whole(windows(x, 3).softmax(1), 3, 6, 6),
    "places of windows": lambda m, x: whole(windows(x, 3) + torch.arange(9.0).view(9, 1), 3, 6, 6),
    "numbers of windows": lambda m, x: (
        windows(x, 3).view(-1, 4, 9, 4) + torch.arange(4.0).view(4, 1, 1)
    ).flatten(1),
    "mask of windows": lambda m, x: (windows(x, 3) * torch.arange(4.0).repeat(len(x)).view(-1, 1, 1)).view(len(x), -1),
    "layers of windows": lambda m, x: F.linear(windows(x, 3), m.linear.weight[:, :4]).view(len(x), -1),
    "shifted windows": lambda m, x: whole(windows(x.roll((-1, -1), (2, 3)), 2).tanh(), 2, 6, 6).roll((1, 1), (2, 3)),
    "tokens first": lambda m, x: (x.flatten(2).permute(2, 0, 1) + m.mean.view(4)).relu().permute(1, 2, 0),
    "tokens first, a constant": lambda m, x: (x.flatten(2).permute(2, 0, 1) * plane().view(36, 1, 1)).permute(1, 0, 2),
    "tokens and batch": lambda m, x: (
        x.flatten(2).permute(2, 0, 1).reshape(-1, 4).softmax(-1).view(36, -1, 4).transpose(0, 1)
    ),
    "channels and batch": lambda m, x: (x.flatten(0, 1).mean((1, 2), keepdim=True)).view(-1, 4),
    "norm of tokens": lambda m, x: m.norm1d(x.permute(0, 2, 3, 1).contiguous().view(-1, 4)).view(len(x), 36, 4),
    "norm of windows": lambda m, x: m.norm1d(windows(x, 3).transpose(1, 2)).view(len(x), -1),
    "in place": lambda m, x: windows(x, 3).relu_().add_(1).view(len(x), -1),
    "cat of windows": lambda m, x: torch.cat([windows(x, 3), windows(x, 3) * 2], 1).view(len(x), -1),
    "token of windows": lambda m, x: torch.cat([m.mean.view(1, 1, 4).expand(4 * len(x), -1, -1), windows(x, 3)], 1)
    .reshape(len(x), -1),
    "two windows": lambda m, x: (windows(x, 3) - windows(x, 3)[:, :1]).view(len(x), -1),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDED)
def test_folded(name: str) -> None:
    net = Net(FOLDED[name])
    net.norm1d = nn.BatchNorm1d(4)
    net.norm1d.running_mean.normal_()  # type: ignore[union-attr]
    captured(net.eval(), image())


class Windows(nn.Module):
    """Layers, a norm and positions in shifted windows; tokens in front of the batch; one norm of all tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 1), nn.BatchNorm1d(8)
        self.query, self.value, self.last = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.places = nn.Parameter(torch.randn(1, 4, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        parts = windows(x.roll((-1, -1), (2, 3)), 2)
        parts = F.relu(self.query(parts) + self.places) * self.value(parts)
        parts = self.norm(parts.flatten(0, 1)).reshape_as(parts)
        x = whole(parts, 2, 4, 6).roll((1, 1), (2, 3))
        tokens = x.flatten(2).permute(2, 0, 1)
        tokens = tokens + self.query(tokens)
        flat = self.value(tokens.reshape(-1, 8))
        scores: Tensor = self.last(flat.view(tokens.shape).transpose(0, 1).mean(1))
        return scores


@pytest.mark.parametrize("bits", BITS)
def test_deployed_windows(bits: tuple[int, int]) -> None:
    model = settled(Windows(), bits, torch.randn(4, 3, 4, 6))
    packed = bitorch.deploy(model, torch.randn(1, 3, 4, 6))
    for batch in (1, 2, 3):
        assert bitorch.verify(model, packed, torch.randn(batch, 3, 4, 6))


def test_a_sequence_longer_than_its_table_is_told() -> None:
    model = settled(Pairs(4), (2, 2), torch.randn(4, 5, 4))
    with pytest.raises(ValueError, match=r"The size of tensor a \(6\) must match the size of tensor b \(5\)"):
        bitorch.deploy(model, torch.randn(2, 6, 4))


def test_equal_constants_are_one() -> None:
    found = captured(Net(lambda m, x: (x + plane()).relu() + plane()).eval(), image())
    assert kinds(found).count("constant") == 1
