"""Low-bit modules that are made of several products: attention and recurrent layers."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import TypeVar

import torch

from ..quantizations import Quantization
from .low_bit import Converted
from .qlinear import QLinear

_Given = TypeVar("_Given")


class PartLinear(QLinear):
    """A QLinear without parameters of its own: weight and bias are those of the `Composed` that it is a part of."""


class Composed(Converted):
    """Mixin of low-bit modules whose matrices are those of their parts, each a QLinear with quantizers of its own."""

    def projections(self) -> dict[str, QLinear]:
        """Return the parts by their names, in the order of a call."""
        raise NotImplementedError(f"{type(self).__name__} does not define projections()")

    def _shown(self) -> Collection[str]:
        """Return the names of the module's own parameters that its parts show as theirs."""
        raise NotImplementedError(f"{type(self).__name__} does not define _shown()")


def copied(quantization: _Given) -> _Given:
    """Return a copy of a quantizer, whose random generator stays the same one."""
    kept = vars(quantization).values() if isinstance(quantization, Quantization) else ()
    return copy.deepcopy(quantization, {id(value): value for value in kept if isinstance(value, torch.Generator)})
