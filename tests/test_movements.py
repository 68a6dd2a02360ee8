"""Every way to put the numbers of an image elsewhere, as users write it; and writes into parts of tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitorch
from bitorch import LowBitConfig, quantize_
from capture_nets import Net, captured, kinds, problem

PLACES = torch.tensor([3, 0, 2, 2])
TWO = torch.tensor([1, 3])


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def image() -> Tensor:
    return torch.randn(2, 4, 6, 6)


MOVES: dict[str, Callable[[Tensor], Tensor]] = {
    "flip": lambda x: x.flip((1, 2)),
    "rot90": lambda x: torch.rot90(x, 1, (2, 3)),
    "fliplr": lambda x: torch.fliplr(x),
    "roll": lambda x: x.roll((1, 2), (2, 3)),
    "crop": lambda x: x[:, :, 1:5, 2:],
    "steps from anywhere": lambda x: x[..., 1::2, ::3],
    "negative padding": lambda x: F.pad(x, (-1, -2, 1, -1)),
    "cut by padding": lambda x: F.pad(x, (-1, 0, 0, -2, -1, 0)),
    "cut and reflected": lambda x: F.pad(x, (-1, 2, 1, -1), mode="reflect"),
    "hstack": lambda x: torch.hstack([x, x * 2]),
    "dstack": lambda x: torch.dstack([x, x * 2]),
    "windows in a row": lambda x: x.flatten(2).unfold(2, 8, 4),
    "windows that overlap": lambda x: x.unfold(2, 3, 2).unfold(3, 3, 1),
    "F.unfold": lambda x: F.unfold(x, 3),
    "F.unfold, padded": lambda x: F.unfold(x, (3, 2), padding=1, stride=2),
    "F.unfold, dilated": lambda x: F.unfold(x, 2, dilation=2),
    "F.fold": lambda x: F.fold(F.unfold(x, 2, stride=2) * 2, (6, 6), 2, stride=2),
    "gather": lambda x: x.gather(2, PLACES.view(1, 1, 4, 1).expand(len(x), 4, 4, 6)),
    "pairs of places": lambda x: x[:, :, TWO, TWO],
    "a grid of places": lambda x: x[:, :, TWO[:, None], TWO],
    "diagonal": lambda x: x.diagonal(0, 2, 3),
    "triangle": lambda x: x[:, :, torch.ones(6, 6).tril().bool()],
    "other rows for other channels": lambda x: x.flatten(2)[:, torch.arange(4)[:, None], torch.arange(20).view(4, 5)],
    "eight axes": lambda x: (
        x.reshape(len(x), 2, 2, 2, 3, 2, 3).permute(0, 2, 4, 6, 1, 3, 5).reshape(len(x), -1, 4, 3)
    ),
    "windows turned": lambda x: x.view(-1, 4, 2, 3, 2, 3).permute(0, 2, 4, 1, 3, 5).flatten(1, 2).roll(1, 3),
    "repeated and cut": lambda x: x.repeat(1, 2, 1, 3)[:, 1:6, ::2, 4:],
    "relative shift": lambda x: F.pad(x, (1, 0)).view(len(x), 4, 7, 6)[:, :, 1:].reshape(len(x), 4, 6, 6),
    "halves turned": lambda x: torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(3),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVES)
def test_moves(name: str) -> None:
    captured(Net(lambda m, x: MOVES[name](x) * 2).eval(), image())


class Moved(nn.Module):
    """A movement of floats, and one of codes, between low-bit layers."""

    def __init__(self, move: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.move = move
        self.first, self.layer = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.last = nn.Linear(move(image()).flatten(1).shape[1], 3)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.last(self.move(self.layer(F.relu(self.first(x)))).flatten(1))
        return scores


@pytest.mark.parametrize("name", ["windows that overlap", "F.unfold, padded", "pairs of places", "cut and reflected"])
def test_deployed_moves(name: str) -> None:
    model = Moved(MOVES[name])
    quantize_(model, LowBitConfig(2, 2, last="same"))
    model.train()(torch.randn(4, 4, 6, 6))
    packed = bitorch.deploy(model.eval(), image())
    for batch in (1, 2, 3):
        assert bitorch.verify(model, packed, torch.randn(batch, 4, 6, 6))


def column(m: Any, x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 0] = x[:, 1].relu()
    return y


def in_zeros(m: Any, x: Tensor) -> Tensor:
    y = torch.zeros(len(x), 6, 8, 8)
    y[:, 1:5, 1:7, 1:7] = x
    return y


def twice_in_zeros(m: Any, x: Tensor) -> Tensor:
    y = x.new_zeros(len(x), 8, 6, 6)
    y[:, ::2] = x
    y[:, 1::2] = x.relu()
    return y


def added(m: Any, x: Tensor) -> Tensor:
    y = x * 1
    y[:, :2, ..., 1:] += 1
    return y * 2


def number(m: Any, x: Tensor) -> Tensor:
    y = x.clone()
    y[..., -1] = -torch.inf
    return y


def constant_channels(m: Any, x: Tensor) -> Tensor:
    y = x.relu()
    y[:, 1:3] = m.mean[:, 1:3]
    return y


WRITES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "column": column,
    "in zeros": in_zeros,
    "twice in zeros": twice_in_zeros,
    "added": added,
    "number": number,
    "constant channels": constant_channels,
}


@pytest.mark.parametrize("name", WRITES)
def test_writes(name: str) -> None:
    assert "where" in kinds(captured(Net(WRITES[name]).eval(), image()))


def some_images(m: Any, x: Tensor) -> Tensor:
    y = x.clone()
    y[:1] = 0
    return y


def by_another_view(m: Any, x: Tensor) -> Tensor:
    y = x * 1
    part = y[:, :2]
    y[:, :1] = 0
    return part + y[:, :2]


@pytest.mark.parametrize(("function", "what"), [(some_images, "some images"), (by_another_view, "another view")])
def test_writes_that_are_refused(function: Callable[[Any, Tensor], Tensor], what: str) -> None:
    assert what in problem(Net(function).eval(), image()).what
