"""A program's tensors, and what an operation leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .basics import Floats, Integers, Operation, levels
from .stages import apply_thresholds, float_stage, unit_quantize


@dataclass(frozen=True)
class Tensor:
    """A tensor of a program: [B, *rows, C] float32, or int64 for codes (which have bits) and for int32 tensors."""

    values: NDArray[Any]
    bits: int | None = None

    @property
    def code_scale(self) -> float | None:
        """What one code is worth unless told otherwise: 1/n, None for floats."""
        return None if self.bits is None else 1 / levels(self.bits)


Tensors: TypeAlias = Mapping[str, Tensor]


Arrays: TypeAlias = Mapping[str, NDArray[Any]]


Apply: TypeAlias = Callable[[Operation, Tensors, Arrays], dict[str, Tensor]]


def leaving_codes(operation: Operation, arrays: Arrays, y: Floats | None, d: Integers | None) -> Tensor:
    """The tensor of codes that an operation leaves: by thresholds of D or of y, or the unit quantizer of y."""
    bits = operation["bits"]
    if "thresholds" not in operation:
        assert y is not None
        return Tensor(unit_quantize(y, bits), bits)
    thresholds = arrays[operation["thresholds"]]
    descending = arrays[operation["descending"]] if "descending" in operation else None
    x = d if thresholds.dtype == np.int32 else y
    assert x is not None
    return Tensor(apply_thresholds(x, thresholds, descending), bits)


def apply_float_stage(operation: Operation, tensors: Tensors, arrays: Arrays, x: NDArray[Any]) -> Floats:
    """Return the `float_stage` of D or float sums that an operation describes, float32 [B, H, W, N]."""
    multiply, offset = (arrays[operation[key]] if key in operation else None for key in ("multiply", "offset"))
    residual = tensors[operation["residual"]].values.reshape(x.shape) if "residual" in operation else None
    norm = None
    if "norm_multiply" in operation:
        norm = arrays[operation["norm_multiply"]], arrays[operation["norm_offset"]]
    return float_stage(x, multiply, offset, residual, operation.get("relu", False), norm)


def leaving(operation: Operation, arrays: Arrays, y: Floats | None, d: Integers | None = None) -> dict[str, Tensor]:
    """The tensors that leave an operation, by name."""
    outputs = {}
    if "int32" in operation:
        assert d is not None
        outputs[operation["int32"]] = Tensor(d)
    if "float32" in operation:
        assert y is not None
        outputs[operation["float32"]] = Tensor(y)
    if "codes" in operation:
        outputs[operation["codes"]] = leaving_codes(operation, arrays, y, d)
    return outputs


def of_one(compute: Callable[[Operation, Tensor, Arrays], Tensor]) -> Apply:
    """An operation that makes its "output" of its "input"."""

    def apply_one(operation: Operation, tensors: Tensors, arrays: Arrays) -> dict[str, Tensor]:
        return {operation["output"]: compute(operation, tensors[operation["input"]], arrays)}

    return apply_one
