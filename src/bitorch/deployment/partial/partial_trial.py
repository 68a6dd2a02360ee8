"""Whether a partially packed model gives what its original gives, on one example."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ...running import as_it_was
from ...same_numbers import same_numbers
from ..capture.returned import Returned
from ..capture.runs import run_or_raise

_REMEDY = "Pass an example that its forward takes, or none: then nothing is compared"


def first_difference(model: nn.Module, packed: nn.Module, example: Sequence[Tensor]) -> str | None:
    """Run both on the example, with equal random numbers, and name the first output that differs; None if none does.

    Raises:
        ValueError: a forward fails, returns no tensor, or is random in a way that a seed does not hold.
    """
    expected = _outputs(model, example, "the model's forward")
    found = _outputs(packed, example, "the forward of the model with packed layers")
    name = _differing(expected, found)
    if name is None or _differing(expected, _outputs(model, example, "the model's forward")) is None:
        return name
    raise ValueError(
        f"output {name!r}: the model gives other values for the same example each time, so nothing can be compared. "
        "Leave out what is random in forward, or pass no example"
    )


def _outputs(model: nn.Module, example: Sequence[Tensor], whose: str) -> Returned:
    with as_it_was(model):  # which leaves all generators as they were
        _seed()
        return run_or_raise(model, example, "the example", _REMEDY, whose=whose)


def _seed() -> None:
    """Seed the global generators of Python, NumPy and PyTorch."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - that of models which use it
    torch.manual_seed(0)


def _differing(expected: Returned, found: Returned) -> str | None:
    if expected.names != found.names:
        return next((name for name in expected.names if name not in found.names), found.names[-1])
    pairs = zip(expected.names, expected.tensors, found.tensors, strict=True)
    return next((name for name, one, other in pairs if not _equal(one, other)), None)


def _equal(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.layout != torch.strided or other.layout != torch.strided:
        return _equal(one.to_dense(), other.to_dense())
    return torch.equal(one, other) or bool(same_numbers(one, other).all())
