"""`bitorch.check` on models with zeros that they start with by design, beside ones that are dead."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitorch
from bitorch import LowBitConfig

X, Y = torch.randn(16, 8, generator=torch.Generator().manual_seed(1)), torch.arange(16) % 3


def zero(layer: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    """As ControlNet and LoRA start: weight and bias 0."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Net(nn.Module):
    """A stem, an inner part that a test chooses, a head."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU())
        self.inner = inner
        self.norm, self.head = nn.BatchNorm1d(16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.inner(self.stem(x))).relu())
        return logits


class LoRA(nn.Module):
    """W x + B A x with B = 0."""

    def __init__(self, *behind: nn.Module, frozen: bool = True) -> None:
        super().__init__()
        self.base, self.lora_A = nn.Linear(16, 16), nn.Linear(16, 4, bias=False)
        self.lora_B = zero(nn.Linear(4, 16, bias=False))
        self.behind = nn.Sequential(*behind)
        self.base.requires_grad_(not frozen)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x) + self.behind(self.lora_B(self.lora_A(x)))
        return y


class Residual(nn.Module):
    """x + gate · F(x); the gate is a parameter of that shape and value."""

    def __init__(self, gate: Tensor, body: nn.Module) -> None:
        super().__init__()
        self.body, self.gate = body, nn.Parameter(gate)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.gate * self.body(x)
        return y


def body() -> nn.Sequential:
    return nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16))


def zero_norm(features: int = 16) -> nn.BatchNorm1d:
    norm = nn.BatchNorm1d(features)
    nn.init.zeros_(norm.weight)
    return norm


class Control(nn.Module):
    """A copy of a block between two zero layers, beside the block itself, which is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.copy = nn.Linear(16, 16).requires_grad_(False), body()
        self.before, self.behind = zero(nn.Linear(16, 16)), zero(nn.Linear(16, 16))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x) + self.behind(self.copy(x + self.before(x)))
        return y


def zero_head() -> nn.Module:
    model = Net(body())
    zero(model.head)
    return model


def reads_zeros() -> nn.Module:
    """A low-bit layer that sees only what a zero layer gives."""
    return Net(nn.Sequential(zero(nn.Linear(16, 16)), nn.Linear(16, 16)))


BY_DESIGN: dict[str, Callable[[], nn.Module]] = {
    "LoRA": lambda: Net(LoRA()),
    "LoRA whose base is trained": lambda: Net(LoRA(frozen=False)),
    "LoRA with a low-bit layer behind": lambda: Net(LoRA(nn.Linear(16, 16))),
    "the last norm of a block": lambda: Net(Residual(torch.ones(1), nn.Sequential(body(), zero_norm()))),
    "ReZero": lambda: Net(Residual(torch.zeros(1), body())),
    "ReZero with a scalar": lambda: Net(Residual(torch.zeros(()), body())),
    "LayerScale at 0": lambda: Net(Residual(torch.zeros(16), body())),
    "LayerScale at 1e-6": lambda: Net(Residual(torch.full((16,), 1e-6), body())),
    "ReZero in a ReZero block": lambda: Net(Residual(torch.zeros(1), Residual(torch.zeros(1), body()))),
    "LoRA in a ReZero block": lambda: Net(Residual(torch.zeros(1), LoRA())),
    "ControlNet": lambda: Net(Control()),
    "a zero head": zero_head,
    "a layer that reads zeros": reads_zeros,
    "frozen but the head": lambda: frozen(Net(body())),
    "all frozen": lambda: Net(body()).requires_grad_(False),
}


def frozen(model: Net) -> Net:
    model.stem.requires_grad_(False)
    model.inner.requires_grad_(False)
    return model


class Detached(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 0


#: Nets that never learn somewhere, and the layers that a problem must name.
DEAD: dict[str, tuple[Callable[[], nn.Module], set[str]]] = {
    "LoRA with a dead layer behind": (lambda: Net(LoRA(Detached())), {"inner.lora_A", "inner.lora_B"}),
    "two zero layers, of which neither learns": (
        lambda: Net(Residual(torch.ones(1), nn.Sequential(zero(nn.Linear(16, 16)), zero(nn.Linear(16, 16))))),
        {"inner.body.0", "inner.body.1"}),
    "a gate of 0 on a norm of 0, of which neither learns": (
        lambda: Net(Residual(torch.zeros(1), nn.Sequential(body(), zero_norm()))),
        {"inner.body.0.0", "inner.body.0.3"}),
    "a frozen zero norm": (
        lambda: Net(Residual(torch.ones(1), nn.Sequential(body(), zero_norm().requires_grad_(False)))),
        {"inner.body.0.0", "inner.body.0.3"}),
    "a gate of 0 that is no parameter": (
        lambda: Net(Residual(torch.ones(1), nn.Sequential(body(), Detached()))), {"inner.body.0.0", "inner.body.0.3"}),
    "a zero layer with a ReLU behind, whose gradient at 0 is 0": (
        lambda: Net(nn.Sequential(zero(nn.Linear(16, 16)), nn.ReLU(), nn.Linear(16, 16))), {"inner.0", "inner.2"}),
    "a ReLU that is dead behind a zero layer": (
        lambda: Net(nn.Sequential(zero(nn.Linear(16, 16)), Minus(), nn.ReLU(), nn.Linear(16, 16))), {"inner.3"}),
}  # fmt: skip


class Minus(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - 9


def checked(build: Callable[[], nn.Module]) -> bitorch.Check:
    torch.manual_seed(0)
    model = build()
    bitorch.quantize_(model, [("inner*", LowBitConfig(1, 4, first="same", last="same"))])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    result = bitorch.check(model, (X, Y))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    return result


@pytest.mark.parametrize("name", BY_DESIGN)
def test_zeros_that_learn_are_no_problem(name: str) -> None:
    result = checked(BY_DESIGN[name])
    assert result.problems == (), str(result)


def test_the_note_names_the_zeros() -> None:
    notes = {f.layer: f for f in checked(BY_DESIGN["LoRA"]).findings if f.what == "zero gradient"}
    assert list(notes) == ["inner.lora_A"]
    detail = "the gradient of its weight is exactly zero, as inner.lora_B.weight is still all zero"
    assert notes["inner.lora_A"].detail == detail
    dead = [f for f in checked(reads_zeros).findings if f.what == "dead activations"]
    assert [(f.layer, f.is_note) for f in dead] == [("inner.1", True)]
    assert "as inner.0.weight is still all zero" in dead[0].detail


@pytest.mark.parametrize("name", DEAD)
def test_what_is_dead_is_told(name: str) -> None:
    build, layers = DEAD[name]
    result = checked(build)
    told = {f.layer for f in result.problems if f.what in ("zero gradient", "dead activations")}
    assert layers <= told, str(result)


def test_convolutions_and_normalizations_of_images() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4)
            self.inner = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
            self.zero = zero(nn.Conv2d(4, 4, 1))
            self.head = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.norm(self.stem(x)))
            x = x + self.zero(self.inner(x))
            logits: Tensor = self.head(x.mean((2, 3)))
            return logits

    torch.manual_seed(0)
    model = Block()
    bitorch.quantize_(model, [("inner*", LowBitConfig(1, 4, first="same", last="same"))])
    result = bitorch.check(model, (torch.rand(8, 1, 6, 6), torch.arange(8) % 3))
    assert result.problems == (), str(result)
    assert {f.layer for f in result.findings if f.what == "zero gradient"} == {"inner.0"}
