"""Whether a partially packed model gives what its original gives, on one example."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import numpy as np
import torch
from torch import Tensor, nn

from ...model_copy import copied
from ...running import as_it_was
from ...same_numbers import same_numbers
from ..capture.returned import Returned
from ..capture.runs import run_or_raise
from .packed_weight_only import PackedWeightOnlyLinear

#: What sums of many products may lose, as a share of the largest.
_LOST = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
_REMEDY = "Pass an example that its forward takes, or none: then nothing is compared"


def first_difference(model: nn.Module, packed: nn.Module, example: Sequence[Tensor]) -> str | None:
    """Run both on the example, with equal random numbers, and name the first output that differs; None if none does.

    Float sums with packed weights have an order of their own, of which codes behind them may take another step. So each
    such layer is compared with its original for the inputs that come to it, and the model as it is with these layers in
    the places of their originals. The name is then that of the layer.

    Raises:
        ValueError: a forward fails, returns no tensor, or is random in a way that a seed does not hold.
    """
    summing = {name: layer for name, layer in packed.named_modules() if isinstance(layer, PackedWeightOnlyLinear)}
    originals = {name: model.get_submodule(name) for name in summing}
    wrong: list[str] = []
    with ExitStack() as stack:
        for name, layer in summing.items():
            stack.callback(layer.register_forward_hook(_comparison(name, originals[name], wrong)).remove)
        found = _outputs(packed, example, "the forward of the model with packed layers")
    if wrong:
        return wrong[0]
    if summing:
        model = copied(model, {id(original): summing[name] for name, original in originals.items()})
    expected = _outputs(model, example, "the model's forward")
    name = _differing(expected, found)
    if name is None or _differing(expected, _outputs(model, example, "the model's forward")) is None:
        return name
    raise ValueError(
        f"output {name!r}: the model gives other values for the same example each time, so nothing can be compared. "
        "Leave out what is random in forward, or pass no example"
    )


def _comparison(name: str, original: nn.Module, wrong: list[str]) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
    """A hook that notes a name where a layer's result is not the original's, but for what float32 sums may lose."""

    def compare(layer: nn.Module, inputs: tuple[Tensor], found: Tensor) -> None:
        expected = original(*inputs)
        size = expected.float().abs().nan_to_num(posinf=0.0).max() if expected.numel() > 0 else torch.ones(())
        loses = _LOST[expected.dtype] * (1 + float(size))
        if not torch.allclose(found.float(), expected.float(), rtol=_LOST[expected.dtype], atol=loses, equal_nan=True):
            wrong.append(name)

    return compare


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
