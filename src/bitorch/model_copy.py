"""Copies of models that hold tensors with a history, as pruned and weight-normalized layers do."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from functools import partial
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

#: Beside numbers and texts, which have no attributes.
_COPIED_AS_THEY_ARE = (type, ModuleType, FunctionType, BuiltinFunctionType)
_Module = TypeVar("_Module", bound=nn.Module)


def copied(model: _Module, replaced: Mapping[int, object] | None = None) -> _Module:
    """Return a deep copy of a module, also where `copy.deepcopy` fails.

    It fails on tensors that were computed with a gradient: a weight of `torch.nn.utils.prune` or of the hook-based
    weight_norm and spectral_norm, an output that forward keeps. In the copy they are values without a history, until a
    forward computes them anew. Tensors that were made in inference mode are ordinary ones in the copy, so it can be
    trained. The module itself is only read.

    Args:
        replaced: what stands in the copy where the module has something else, by the `id` of that.
    """
    with torch.inference_mode(False), torch.no_grad():
        memo: dict[int, Any] = {}
        for tensor in _tensors(model):
            if not tensor.is_leaf or tensor.is_inference():
                memo[id(tensor)] = _without_history(tensor)
        if replaced is not None:
            memo.update(replaced)
        return copy.deepcopy(model, memo)


def _without_history(tensor: Tensor) -> Tensor:
    value = tensor.detach().clone()
    return nn.Parameter(value, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else value


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    """Yield the tensors that a deep copy would copy, through attributes and containers."""
    values: list[object] = [model]
    seen: set[int] = set()
    while values:
        one = values.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, Tensor):
            yield one
        elif isinstance(one, Mapping):
            values.extend(one.values())
        elif isinstance(one, partial):
            values.extend((one.func, one.args, one.keywords))
        elif isinstance(one, list | tuple | set | frozenset):
            values.extend(one)
        elif not isinstance(one, _COPIED_AS_THEY_ARE) and hasattr(one, "__dict__"):
            values.extend(vars(one).values())
