"""Models for the tests of capture, and what every captured model is held to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bitorch.deployment.can_deploy import can_deploy
from bitorch.deployment.capture.capture import Capture, capture
from bitorch.deployment.capture.problems import Problem
from bitorch.deployment.graph.graph import Node
from bitorch.quantizations import InputDoReFa, WeightDoReFa
from capture_oracle import value_of

NO_LOW_BIT = "the model has no low-bit layer"
#: The other thing that a model without one is told.
READS_FLOATS = "its low-bit weights are multiplied by floats"
LOW_BIT: dict[str, Any] = {"weight_quantization": WeightDoReFa(1), "input_quantization": InputDoReFa(2)}
SHAPE = (4, 6, 6)
#: Kinds whose value depends, in its last bits, on the order in which floats are summed, or on the library's exp.
INEXACT = frozenset(
    {"conv", "linear", "global_avg_pool", "elu", "sigmoid", "tanh", "silu", "gelu", "gelu_tanh", "softmax"}
    | {"matmul", "attention", "normalize", "reduce"}
)


class Net(nn.Module):
    """A function as a model, with some parameters that it may use."""

    def __init__(self, function: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.function = function
        self.slopes = nn.Parameter(torch.randn(4))
        self.register_buffer("mean", torch.randn(1, 4, 1, 1))
        self.register_buffer("std", torch.rand(4, 1, 1) + 0.5)
        self.constant = torch.randn(4, 1, 1)  # not registered
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.linear = nn.Linear(4, 4)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def randomized(model: nn.Module) -> nn.Module:
    """Give batch norms statistics and weights as after training."""
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) and module.running_mean is not None:
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.3, 2)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return model.eval()


def outputs(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    return list(result.values()) if isinstance(result, dict) else [t for t in result if t is not None]


def captured(model: nn.Module, *example: Tensor) -> Capture:
    """Capture a model that can be deployed, but for low-bit layers, and hold the graph to it."""
    found = capture(model, *example)
    others = [p for p in found.problems if p.what != NO_LOW_BIT and not p.what.startswith(READS_FLOATS)]
    assert others == [], str(can_deploy(model, *example))
    for batch in (1, 2, 5):
        inputs = [torch.randn(batch, *x.shape[1:]) for x in example]
        with torch.no_grad():
            expected = outputs(model(*(x.clone() for x in inputs)))
        before = [x.clone() for x in inputs]
        values = found.graph.replay(inputs)
        assert len(expected) == len(found.graph.outputs) == len(found.output_names)
        for name, tensor in zip(found.graph.outputs, expected, strict=True):
            assert torch.equal(values[name], tensor)
        for node in found.graph:
            assert tuple(values[node.name].shape) == (batch, *node.shape), node
            if node.kind not in ("input", "low_bit", "quantizer"):
                meant = value_of(node, *(values[name] for name in node.inputs)).expand(batch, *node.shape)
                if node.kind in INEXACT:
                    torch.testing.assert_close(values[node.name], meant, rtol=1e-5, atol=1e-5)
                else:
                    assert torch.equal(values[node.name], meant), node
        assert all(torch.equal(x, was) for x, was in zip(inputs, before, strict=True))
    return found


def kinds(found: Capture) -> list[str]:
    return [node.kind for node in found.graph if node.kind != "input"]


def only(found: Capture, kind: str) -> Node:
    (node,) = (node for node in found.graph if node.kind == kind)
    return node


def problems(model: nn.Module, *example: Tensor) -> list[Problem]:
    return [p for p in capture(model, *example).problems if p.what != NO_LOW_BIT]


def problem(model: nn.Module, *example: Tensor) -> Problem:
    (one,) = problems(model, *example)
    return one


def image(batch: int = 2) -> Tensor:
    return torch.randn(batch, *SHAPE)


class TwoInputs(nn.Module):
    def forward(self, left: Tensor, right: Tensor, *more: Tensor) -> Tensor:
        return torch.cat([left, right.relu(), *more], 1)
