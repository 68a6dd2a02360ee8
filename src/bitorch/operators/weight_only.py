"""The PyTorch operator of a linear layer on packed weights and floats: `bitorch::packed_weight_only`.

It finds its program as the other packed operators do, see `packed`.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from .packed import WEIGHT_GRIDS, run_call
from .packed_programs import Stages, runtime
from .registration import register

if TYPE_CHECKING:
    from bitorch_runtime import Program

_LIBRARY = torch.library.Library("bitorch", "FRAGMENT")
_LIBRARY.define(
    "packed_weight_only(Tensor x, Tensor weight, Tensor scale, Tensor? bias, int weight_bits, "
    "str weight_grid='odd') -> Tensor"
)
_PACKED_WEIGHT_ONLY = torch.ops.bitorch.packed_weight_only.default


def packed_weight_only(
    x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None, weight_bits: int, weight_grid: str = "odd"
) -> Tensor:
    """Multiply floats by a packed weight: Σ_g scale·Σ c·x + bias, in float32, summed in any order.

    Args:
        x: float32 [..., in_features].
        weight: uint8 [out_features, row_bytes], see `bitorch_runtime.pack_weights`.
        scale: float32 [out_features, groups], groups dividing in_features.
        bias: float32 [out_features].
        weight_bits: 1 to 8.
        weight_grid: one of `packed.WEIGHT_GRIDS`, the one that the weight was packed with.

    Returns:
        float32 [..., out_features], without gradient.

    Raises:
        ValueError: a dtype, a shape or a number is another one; the message names it.
    """
    y: Tensor = _PACKED_WEIGHT_ONLY(x, weight, scale, bias, weight_bits, weight_grid)
    return y


class _WeightOnlyCall(NamedTuple):
    """The arguments of packed_weight_only, in its order."""

    x: Tensor
    weight: Tensor
    scale: Tensor
    bias: Tensor | None
    weight_bits: int
    weight_grid: str = "odd"  # PyTorch leaves arguments out that are as the operator's schema has them

    def stages(self) -> Stages:
        return self.scale, self.bias

    def of_stages(self, stages: Stages) -> _WeightOnlyCall:
        scale, bias = stages
        assert scale is not None  # there is one always
        return self._replace(scale=scale, bias=bias)

    def axes(self) -> int:
        """Return how many axes one input has."""
        return 1

    def settings(self) -> Hashable:
        """Return what the program depends on, tensors aside."""
        return self.x.dtype, self.x.shape[-1:], self.weight_bits, self.weight_grid

    def size(self) -> tuple[int, ...]:
        """Return the shape of the result, after a check of all arguments."""
        if self.x.dim() == 0 or self.x.dtype != torch.float32:
            raise ValueError(
                f"packed_weight_only: x must be float32 [..., in_features], got {self.x.dtype} {tuple(self.x.shape)}"
            )
        inputs, outputs = self.x.shape[-1], self.weight.shape[0]
        if not 1 <= self.weight_bits <= 8:
            raise ValueError(f"packed_weight_only: weight_bits must be 1 to 8, got {self.weight_bits}")
        if self.weight_grid not in WEIGHT_GRIDS:
            known = ", ".join(map(repr, WEIGHT_GRIDS))
            raise ValueError(f"packed_weight_only: weight_grid must be one of {known}, got {self.weight_grid!r}")
        row = -(-inputs * self.weight_bits // 8)
        if self.weight.dtype != torch.uint8 or self.weight.shape[1:] != (row,):
            raise ValueError(
                f"packed_weight_only: weight must be uint8 [out_features, {row}] for {inputs} inputs of "
                f"{self.weight_bits} bits, got {self.weight.dtype} {tuple(self.weight.shape)}"
            )
        is_matrix = self.scale.dim() == 2 and self.scale.shape[0] == outputs and self.scale.shape[1] > 0
        if self.scale.dtype != torch.float32 or not is_matrix or inputs % self.scale.shape[1] != 0:
            raise ValueError(
                f"packed_weight_only: scale must be float32 [{outputs}, groups], of as many groups as divide the "
                f"{inputs} inputs, got {self.scale.dtype} {tuple(self.scale.shape)}"
            )
        if self.bias is not None and (self.bias.dtype != torch.float32 or self.bias.shape != (outputs,)):
            raise ValueError(
                f"packed_weight_only: bias must be float32 [{outputs}], got {self.bias.dtype} {tuple(self.bias.shape)}"
            )
        return *self.x.shape[:-1], outputs

    def make_program(self) -> Program:
        layer: dict[str, Any] = {
            "op": "linear_weight_only",
            "input": "x",
            "output": "y",
            "weight": "weight",
            "weight_bits": self.weight_bits,
            "weight_grid": self.weight_grid,
            "out_channels": self.weight.shape[0],
            "scale": "scale",
        }
        arrays = {"weight": self.weight.contiguous().numpy(), "scale": self.scale.contiguous().numpy()}
        if self.bias is not None:
            layer["bias"], arrays["bias"] = "bias", self.bias.contiguous().numpy()
        port = {"op": "input", "output": "x", "dtype": "float32", "shape": [self.x.shape[-1]]}
        program: Program = runtime().Program([port, layer, {"op": "output", "input": "y"}], arrays)
        return program

    def spread_nan(self, y: Tensor) -> None:
        """Do nothing: NaN spreads by itself where floats are multiplied."""


def _kernel(*values: Any) -> Tensor:
    return run_call(_WeightOnlyCall(*values))


def _fake(*values: Any) -> Tensor:
    call = _WeightOnlyCall(*values)
    return call.x.new_empty(call.size())


register(_LIBRARY, "packed_weight_only", _kernel, _fake)
