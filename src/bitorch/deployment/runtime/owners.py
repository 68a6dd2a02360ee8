"""Which modules of the model a program's operations and arrays are of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Owners:
    """Paths of modules, as `named_modules` has them; "" is the model itself.

    Attributes:
        operations: of each operation, the module whose weights, factors, slopes or thresholds it computes with; None
            where it is one by itself: pools, sums and products of two tensors, moves, tables, inputs and outputs.
        readers: of each operation that makes codes, the module whose quantizer they are of; None of the others.
        arrays: of each array, by its name, the module that it is made from.
    """

    operations: tuple[str | None, ...]
    readers: tuple[str | None, ...]
    arrays: Mapping[str, str]
