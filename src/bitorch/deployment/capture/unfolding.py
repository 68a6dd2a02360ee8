"""Calls of folded tensors as calls of images: what rules see where the batch is not the first axis alone."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from .builder import Builder
from .folding import Fold, Folds
from .problems import PARTIAL, Refusal
from .tape import Call, mapped, tensors_in

#: Arguments that name axes, whatever the function.
_AXES = frozenset({"dim", "axis"})


def unfolded(
    builder: Builder,
    call: Call,
    rule: Callable[..., str],
    *,
    broadcasts: bool,
    channels_second: bool,
    reduces: bool,
) -> Call:
    """Return a call as it is with the batch in front of every tensor; the call itself where it is there.

    Args:
        rule: of the function, whose parameters tell which arguments are axes.
        broadcasts: its tensors are repeated along axes, and constants among them have the axes of the result.
        channels_second: it takes the second axis as channels, whatever the others are.
        reduces: it takes one tensor, and its result may lack the axes that it names.

    Raises:
        Refusal: its tensors have the batch at different places, or it works along the axis that has the batch.
    """
    rank = next(tensors_in(call.result)).dim()
    given = [t for t in call.tensors if builder.varies(t)]
    folds = {id(t): builder.fold(t) for t in given}
    if all(fold is None or fold.is_plain for fold in folds.values()) or None in folds.values():
        return call
    lead = {id(t): rank - t.dim() if broadcasts else 0 for t in given}
    found = {replace(fold, axis=fold.axis + lead[key]) for key, fold in folds.items() if fold is not None}
    if len(found) != 1:
        raise Refusal(
            "its tensors have the batch at different places, so it mixes images",
            f"Keep the batch as the same dimension of each, {PARTIAL}",
        )
    fold = found.pop()
    if channels_second and fold.axis != 0:
        raise Refusal(
            "its second axis has the batch, where it takes channels", f"Bring the batch to the front, {PARTIAL}"
        )
    fold = replace(fold, channels_second=channels_second)
    if not reduces:
        return _as_images(builder, call, rule, fold, fold, rank, broadcasts=broadcasts)
    before = given[0].dim()
    dropped = [axis for axis in _axes(rule, call, before) if axis < fold.axis] if rank < before else []
    made = replace(fold, axis=fold.axis - len(dropped))
    return _as_images(builder, call, rule, fold, made, before, broadcasts=False)


def _axes(rule: Callable[..., str], call: Call, rank: int) -> set[int]:
    """The axes that a call names."""
    found = inspect.signature(rule).bind(None, *call.args, **call.kwargs).arguments
    named = [found[name] for name in _AXES & found.keys() if found[name] is not None]
    return {axis % rank for value in named for axis in ([value] if isinstance(value, int) else value)}


def _as_images(
    builder: Builder, call: Call, rule: Callable[..., str], fold: Fold, made_as: Fold, rank: int, *, broadcasts: bool
) -> Call:
    """A call of tensors that are folded, and of a result that is: of arguments of so many axes."""
    made: dict[int, Tensor] = {}  # by the id of a tensor, what stands for it

    def unfold(x: Any) -> Any:
        if not isinstance(x, Tensor) or not (broadcasts or builder.varies(x)):
            return x
        if id(x) not in made:
            varies = builder.varies(x)
            function = fold.unfolded if varies else fold.unfolded_constant
            lead = (None,) * (rank - x.dim() if broadcasts else 0)
            made[id(x)] = builder.view(x, lambda t: function(t[lead])) if varies else function(x.detach()[lead])
        return made[id(x)]

    kept = {id(x): x for x in call.tensors}
    args, kwargs = mapped(call.args, unfold), mapped(call.kwargs, unfold)
    taken = [*tensors_in((call.args, call.kwargs))]
    constants = frozenset(i for i, x in enumerate(taken) if not builder.varies(x))
    tensors = tuple(
        fold if builder.varies(x) or (broadcasts and _has_axis(x, fold.axis, rank)) else None for x in taken
    )
    given = {id(new): kept[old] for old, new in made.items()}
    folds = Folds(call.args, call.kwargs, tensors, constants, given, made_as)
    args, kwargs = _with_axes(rule, args, kwargs, fold, rank)
    result = mapped(call.result, lambda x: made_as.unfolded(x.detach()) if isinstance(x, Tensor) else x)
    before, after = (_of_new(versions, made) for versions in (call.before, call.after))
    return replace(call, args=args, kwargs=kwargs, result=result, before=before, after=after, folds=folds)


def _has_axis(constant: Tensor, axis: int, rank: int) -> bool:
    """Whether a constant has a number for each place of an axis of the result, which has so many axes."""
    own = axis - (rank - constant.dim())
    return own >= 0 and constant.shape[own] > 1


def _of_new(versions: Mapping[int, int], made: Mapping[int, Tensor]) -> dict[int, int]:
    new = {id(made[key]): version for key, version in versions.items() if key in made}
    return {**versions, **new}


def _with_axes(
    rule: Callable[..., str], args: tuple[Any, ...], kwargs: dict[str, Any], fold: Fold, rank: int
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments that are axes of the folded tensors, as those of the unfolded ones."""
    names = [*inspect.signature(rule).parameters][1:]

    def changed(name: str, value: Any) -> Any:
        if name not in _AXES:
            return value
        if isinstance(value, int):
            return fold.axis_of(value % rank)
        is_list = isinstance(value, Sequence) and not isinstance(value, str)
        return tuple(fold.axis_of(axis % rank) for axis in value) if is_list else value

    named = zip(names, args, strict=False)
    return (
        (*(changed(name, value) for name, value in named), *args[len(names) :]),
        {name: changed(name, value) for name, value in kwargs.items()},
    )
