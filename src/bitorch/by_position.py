"""A model that takes the inputs of a batch by position, as deployment calls it, whatever they are passed by."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .batches import Batch
from .model_copy import copied


def by_position(model: nn.Module, batch: Batch) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Return a model that is called with the tensors of a batch in their order, and these tensors.

    It is the model itself where its forward takes them so. Else, as where attention_mask stands behind a cache that
    nobody passes, it is a copy whose forward passes them on by name.
    """
    inputs, named = batch.positional(model)
    if not named and all(isinstance(value, Tensor) for value in inputs):
        return model, batch.in_order(model, batch.where)
    tensors = {name: value for name, value in batch.kwargs.items() if isinstance(value, Tensor)}
    if batch.args or not tensors:
        return model, batch.in_order(model, batch.where)  # which says what is in the way
    own = copied(model)
    _pass_on_by_name(own, list(tensors), {name: value for name, value in batch.kwargs.items() if name not in tensors})
    return own, tuple(tensors.values())


def _pass_on_by_name(model: nn.Module, names: list[str], others: dict[str, Any]) -> None:
    """Have a model's forward take inputs in this order, in place: by a class of its own, which copies have, too."""
    kind: Any = type(model)

    def forward(self: nn.Module, *inputs: Tensor) -> Any:
        return kind.forward(self, **dict(zip(names, inputs, strict=True)), **others)

    named = type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})
    model.__class__ = named
