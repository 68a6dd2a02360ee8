"""What kinds of nodes and operations of programs say of one another."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitorch import LowBitConfig, quantize_
from bitorch.deployment.capture import calls_to_nodes
from bitorch.deployment.capture.capture import capture
from bitorch.deployment.graph.kinds import KINDS
from bitorch.deployment.runtime.compile import compile_graph
from bitorch.layers import QLinear
from bitorch.operators.packed import WEIGHT_GRIDS
from bitorch.quantizations import Identity, InputDoReFa, WeightAbsMax
from bitorch_runtime.operation_keys import MOST_CHANNELS, MOST_EXTENT
from bitorch_runtime.operations import OPERATIONS, why_inexact


class Mixed(nn.Module):
    """A net with every kind whose value may differ in its last bits, and many of the others."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.middle = nn.Conv2d(8, 8, 3)
        self.slopes = nn.PReLU(8)
        self.floats = QLinear(8, 8, input_quantization=Identity(), weight_quantization=WeightAbsMax(4, group_size=4))
        self.codes = QLinear(8, 8, input_quantization=InputDoReFa(2), weight_quantization=WeightAbsMax(4, group_size=4))
        self.narrow, self.last = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = F.max_pool2d(F.relu(self.norm(self.first(x))), 2)
        y = self.slopes(self.middle(y))
        y = torch.cat([F.silu(y)[:, :4], F.hardswish(F.gelu(y))[:, 4:]], 1) * F.hardsigmoid(y)
        y = F.gelu(y, approximate="tanh")
        y = F.selu(y) + F.celu(y, 0.5) + F.softplus(y) + F.mish(y) + F.logsigmoid(y)
        y = y + torch.erf(y).exp().sqrt().log()
        y = F.pad(F.avg_pool2d(F.elu(torch.tanh(y), 0.5), 2), (1, 1, 1, 1), "replicate")
        gate = torch.sigmoid(self.narrow(F.adaptive_avg_pool2d(y, 1).flatten(1)))
        tokens = y.flatten(2)
        tokens = tokens @ tokens.mT @ F.scaled_dot_product_attention(tokens, tokens, tokens)
        y = y + tokens.view_as(y)
        y = F.interpolate(F.interpolate(y, scale_factor=2, mode="bilinear"), size=tuple(y.shape[2:]))
        pooled = F.adaptive_avg_pool2d(y * gate[:, :, None, None] + y.clamp(0.1, 0.9) / 3, 2).flatten(1)
        pooled = torch.cat([self.codes(self.floats(pooled[:, :8])), pooled[:, 8:]], 1)
        pooled = torch.cat([F.layer_norm(pooled[:, :7], (7,)), pooled.var(1, keepdim=True)], 1)
        return F.log_softmax(self.last(pooled), 1)


@pytest.fixture(scope="module")
def pairs() -> set[tuple[str, str, bool]]:
    """(kind of the node that an operation begins with, operation, whether the operation is exact)."""
    torch.manual_seed(0)
    model = Mixed()
    quantize_(model, LowBitConfig(2, 2), filter_fn=lambda layer, name: name not in ("floats", "codes"))
    captured = capture(model.eval(), torch.rand(2, 3, 12, 12))
    captured.check()
    compiled = compile_graph(captured.graph)
    lowered = compiled.lowered
    return {
        (compiled.graph[anchor].kind, operation["op"], why_inexact(operation) == "")
        for operation, anchor in zip(lowered.operations, lowered.anchors, strict=True)
        if operation["op"] != "output"
    }


def test_operations_are_exact_where_their_kinds_are(pairs: set[tuple[str, str, bool]]) -> None:
    """But for sums of floats in one order: the runtime's have the same bits everywhere, PyTorch's have not."""
    differ = {(kind, op) for kind, op, exact in pairs if KINDS[kind].exact != exact}
    sums = {(name, name) for name in ("global_avg_pool", "normalize", "reduce", "resize")}
    assert differ == sums | {("sqrt", "activation")}  # of which PyTorch may give the other neighbour
    assert {kind for kind, row in KINDS.items() if not row.exact} <= {kind for kind, _, _ in pairs}


def test_kinds_that_weigh_are_operations_that_multiply(pairs: set[tuple[str, str, bool]]) -> None:
    """But for products of two tensors, which have no weight, and those that nothing else joins."""
    alone = {"matmul", "attention", "linear_weight_only", "linear_groups"}
    assert all((KINDS[kind].weighs or op in alone) == OPERATIONS[op].multiplies for kind, op, _ in pairs)
    assert {op for kind, op, _ in pairs if KINDS[kind].weighs} == {"conv2d", "linear", "conv2d_float", "linear_float"}


def test_what_is_told_without_the_runtime_is_what_it_takes() -> None:
    """Capture and the operators of exported programs know it without an import."""
    assert (calls_to_nodes._LARGEST_EXTENT, calls_to_nodes._LARGEST_CHANNELS) == (MOST_EXTENT, MOST_CHANNELS)
    assert tuple(choice.value for choice in OPERATIONS["conv2d"]["weight_grid"].choices) == WEIGHT_GRIDS
