"""What can_deploy tells to do is true where it says so, and it tells all at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitorch
from bitorch.layers import QActivation, QConv2d, QLinear
from bitorch.quantizations import InputDoReFa, WeightDoReFa

LOW_BIT: dict[str, Any] = {"weight_quantization": WeightDoReFa(1), "input_quantization": InputDoReFa(2)}
PARTIAL = "or pass partial=True, which leaves this part to PyTorch"


class Function(nn.Module):
    """A function behind a quantizer, and a low-bit layer beside it."""

    def __init__(self, function: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.quantizer = QActivation(InputDoReFa(2))
        self.layer = QLinear(4, 4, **LOW_BIT)
        self.register_buffer("four", torch.rand(4))
        self.function = function

    def forward(self, x: Tensor, y: Tensor) -> Any:
        return self.function(self, self.quantizer(x)), self.layer(y)


def model_of(function: Callable[[Any, Tensor], Any]) -> nn.Module:
    return Function(function).eval()


IMAGE, LINE, VECTOR = (4, 6, 6), (4, 6), (8,)

#: What is refused, on which shape, what is said to do, and that in code: it must be deployed, and give the same.
REMEDIES: dict[str, tuple[tuple[int, ...], Callable[..., Any], str, Callable[..., Any]]] = {
    "a power": (VECTOR, lambda m, x: x**4, "x * x * x", lambda m, x: x * x * x * x),
}
ALIKE = {"maximum", "minimum", "cat", "a"}


@pytest.mark.parametrize("name", REMEDIES)
def test_remedies_are_true(name: str) -> None:
    shape, refused, remedy, instead = REMEDIES[name]
    example = torch.rand(2, *shape), torch.rand(2, 4)
    found = bitorch.can_deploy(model_of(refused), *example)
    assert [remedy in problem.remedy for problem in found.problems] == [True], str(found)
    assert PARTIAL in str(found)
    model = model_of(instead)
    assert bitorch.can_deploy(model, *example), str(bitorch.can_deploy(model, *example))
    bitorch.deploy(model, *example)
    if name.split()[0] in ALIKE and "adaptive" not in name:
        other = model_of(refused)
        torch.testing.assert_close(other(*example)[0], model(*example)[0])


#: What only PyTorch can do: on which shape, and what is not to be claimed.
ONLY_PARTIAL: dict[str, tuple[tuple[int, ...], Callable[..., Any], str]] = {
    "a number of values": (VECTOR, lambda m, x: x * x.mean().item(), "nothing"),
    "sorting": (IMAGE, lambda m, x: x.sort(1)[0], "nothing"),
}


@pytest.mark.parametrize("name", ONLY_PARTIAL)
def test_what_is_left_to_pytorch_says_so(name: str) -> None:
    shape, function, wrong = ONLY_PARTIAL[name]
    example = torch.rand(2, *shape), torch.rand(2, 4)
    model = model_of(function)
    found = bitorch.can_deploy(model, *example)
    assert found.problems
    assert all(PARTIAL in problem.remedy for problem in found.problems), str(found)
    assert wrong not in str(found)
    bitorch.deploy(model, *example, partial=True)


# All at once


class Words(nn.Module):
    """An embedding, and things behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 8)
        self.norm = nn.LayerNorm(8)
        self.hidden = QLinear(8, 8, **LOW_BIT)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.erfinv(self.norm(self.words(x)))
        z: Tensor = self.hidden(torch.lgamma(y.softmax(-1))).cumsum(-1)
        return z


def test_all_that_stands_behind_an_embedding() -> None:
    example = torch.randint(0, 20, (2, 5))
    model = Words().eval()
    said = str(bitorch.can_deploy(model, example))
    for text in ("erfinv", "lgamma", "cumsum cannot"):
        assert text in said, said
    with pytest.raises(ValueError, match="erfinv"):
        bitorch.deploy(model, example)
    bitorch.deploy(model, example, partial=True)


def test_indices_that_are_only_cast_are_refused() -> None:
    model = nn.Sequential(QLinear(5, 3, **LOW_BIT), nn.Embedding(3, 3)).eval()
    model.forward = lambda x: model[0](x.float())  # type: ignore[method-assign]
    assert "it computes with input 'x', which is int64: only embeddings take indices. Pass x.float()" in str(
        bitorch.can_deploy(model, torch.randint(0, 9, (2, 5)))
    )


# Modes


def test_a_slice_of_a_model_in_eval_mode() -> None:
    model = nn.Sequential(nn.Sequential(QConv2d(1, 2, 3, **LOW_BIT)), nn.ReLU(), nn.Dropout(), nn.Flatten()).eval()
    part, x = model[:2], torch.rand(2, 1, 6, 6)
    assert part.training
    assert bitorch.can_deploy(part, x)
    assert bitorch.verify(part, bitorch.deploy(part, x), x)
    assert not bitorch.deploy(part, x, partial=True).model.training
    part.get_submodule("1").train()
    assert "in training mode (the model, 1)" in str(bitorch.can_deploy(part, x))
    with pytest.raises(ValueError, match=r"in training mode \(the model, 1\)"):
        bitorch.deploy(part, x, partial=True)


@pytest.mark.parametrize("training", [True, False])
def test_converted_layers_are_in_the_mode_of_the_old_ones(training: bool) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 1), nn.Flatten(), nn.Linear(32, 3)).train(training)
    bitorch.quantize_(model, bitorch.LowBitConfig(weight_bits=1, activation_bits=2, gradient_bits=4, first="same"))
    assert all(module.training == training for module in model.modules())
    assert bool(bitorch.can_deploy(model, torch.rand(1, 1, 6, 6))) == (not training)


# The runtime


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: F.max_pool2d(x[:, :, :1, :1].contiguous(), 2, stride=1, padding=1, dilation=2),
        lambda x: F.max_pool2d(F.avg_pool2d(x, 6), 2, stride=1, padding=1, dilation=2),
        lambda x: F.max_pool1d(x.mean((2, 3), keepdim=True).flatten(2), 2, stride=1, padding=1, dilation=2),
    ],
)
def test_windows_that_lie_wholly_in_padding(pool: Callable[[Tensor], Tensor]) -> None:
    model = model_of(lambda m, x: pool(x))
    example = torch.rand(2, *IMAGE), torch.rand(2, 4)
    found = bitorch.can_deploy(model, *example)
    assert "one of its windows lies wholly in padding" in str(found)
    with pytest.raises(ValueError, match="lies wholly in padding"):
        bitorch.deploy(model, *example)


def test_can_deploy_asks_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = nn.Sequential(QConv2d(1, 2, 3, **LOW_BIT)).eval(), torch.rand(1, 1, 6, 6)

    def refuse(*_: object) -> None:
        raise ValueError("operation 1 (quantize) is too much")

    monkeypatch.setattr("bitorch.deployment.runtime.compile.bitorch_runtime.Program", refuse)
    found = bitorch.can_deploy(model, x)
    assert not found
    assert "0 (QConv2d): the runtime cannot compute this layer: operation 1" in str(found)
    assert PARTIAL in str(found)
