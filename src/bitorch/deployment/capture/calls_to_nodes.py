"""A tape, read call by call: decides which calls are nodes."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .builder import Builder
from .folding import PLAIN
from .problems import PARTIAL, ReadsValues, Refusal
from .reader import Reader
from .rearrange import MOST_AXES
from .replay import function_name
from .rules import embeddings
from .rules import low_bit as wholes
from .rules.by_function import (
    ALIGNED,
    BROADCASTING,
    CASTS,
    CHANNELS_SECOND,
    DROPOUT,
    FACTORIES,
    METADATA,
    MOVEMENTS,
    REDUCTIONS,
    RULES,
    SPELLED,
    Rule,
    folded,
    is_movement,
    nearest,
    without_ones,
)
from .rules.reductions import OF_INTEGERS, REDUCING
from .tape import Call, mapped, tensors_in
from .unfolding import unfolded

_LARGEST_EXTENT = 2**20  # of images, in the runtime
_LARGEST_CHANNELS = 2**24

#: By the name of a function: what to use instead.
_INSTEAD = {
    "local_response_norm": "Use BatchNorm, or nn.RMSNorm",
    **dict.fromkeys(["gt", "ge", "lt", "le", "eq", "ne"], "Use relu, leaky_relu, clamp or maximum"),
    **dict.fromkeys(["rand_like", "randn_like", "bernoulli"], "Leave out what is random"),
}


def interpret(builder: Builder, calls: Iterable[Call]) -> None:
    """Add the nodes and problems of all calls to a builder that knows the inputs."""
    for call in calls:
        builder.record_strangers(call)
        if not any(builder.varies(tensor) for tensor in call.tensors):
            builder.constants(call)
            continue
        try:
            _interpret(builder, call)
        except Refusal as refusal:
            builder.unsupported(call, refusal)


def _interpret(builder: Builder, call: Call) -> None:
    function: Any = call.function
    results = list(tensors_in(call.result))
    if isinstance(function, nn.Module):
        _check_whole(function)
        _bind(builder, call, wholes.rule)
    elif _is_metadata(function) and not results:
        return
    elif function in FACTORIES:
        builder.constants(call)
    elif any(result.is_inference() for result in results):
        raise Refusal("it computes in inference mode, where changes in place cannot be seen", "Use torch.no_grad there")
    elif not results and not call.changed:
        raise ReadsValues(
            f"{_name(call)} reads the values of a tensor, so what the model computes may depend on them",
            f"Decide by shapes only, and keep tensors tensors (no item(), bool() or numpy() of them), {PARTIAL}",
        )
    elif function in DROPOUT and call.kwargs.get("training", False):
        raise Refusal("it is a dropout at work, which is random", "Pass training=self.training, or use nn.Dropout")
    elif results and not call.changed and all(any(r is t for t in call.tensors) for r in results):
        return  # nothing happened, as in F.dropout(training=False) or x.contiguous()
    elif any(map(builder.only_leaves, call.tensors)):
        raise Refusal(
            "it reads the places of largest or smallest numbers, which are integers and can only leave the network",
            f"Return them as argmax and argmin give them, {PARTIAL}",
        )
    elif is_movement(function, *call.args, **call.kwargs):
        _move(builder, call)
    elif function is Tensor.__setitem__ and not call.kwargs:
        _bind(builder, replace(call, result=call.args[0]), RULES[function])
    elif function in RULES and not _writes_elsewhere(call):
        _bind(builder, call, RULES[function])
    else:
        raise _unknown(call)


def _check_whole(module: nn.Module) -> None:
    """Refuse modules without a counterpart, and quantizers of the user's that fail on numbers they are asked about."""
    try:
        wholes.check(module)
    except Refusal:
        raise
    except Exception as error:  # code of the user may raise anything, and it is told, not swallowed
        raise Refusal(
            f"its quantizer fails on some numbers, large and infinite ones among them: {type(error).__name__}: {error}",
            f"Let its codes() take any float tensor, {PARTIAL}",
        ) from error


def _bind(builder: Builder, call: Call, rule: Rule) -> None:
    """Let the results of a call stand for the node that a rule makes of it."""
    if rule not in OF_INTEGERS:
        _check_type(call)
    images = call
    if rule not in SPELLED:
        reduces = rule in REDUCING and len(call.tensors) == 1  # max and min of two tensors do not
        aligned = rule in BROADCASTING | ALIGNED and not reduces
        second = rule in CHANNELS_SECOND or wholes.takes_second_axis(call.function)
        images = unfolded(builder, call, rule, broadcasts=aligned, channels_second=second, reduces=reduces)
    reader = _checked(builder, images)
    if rule in BROADCASTING:
        reader.call = images = _without_batch(builder, images)
    try:
        arguments = inspect.signature(rule).bind(reader, *images.args, **images.kwargs)
    except TypeError:  # a rarer form of the function, which the rule does not know
        raise _unknown(call) from None
    name = rule(*arguments.args, **arguments.kwargs)
    fold = PLAIN if images.folds is None else images.folds.result
    builder.bind(call, name, reader.channels_at, reader.placed, fold, only_leaves=rule in OF_INTEGERS)


def _without_batch(builder: Builder, call: Call) -> Call:
    """Return the call with constants that are the same for all images, as torch.zeros_like(x), for one image."""

    def for_one(value: Any) -> Any:
        is_candidate = isinstance(value, Tensor) and not builder.varies(value) and value.dim() == rank
        if not is_candidate or value.shape[0] != builder.batch:
            return value
        return value[:1] if torch.equal(value, value[:1].expand_as(value)) else value

    rank = next(tensors_in(call.result)).dim()  # at least 1
    return replace(call, args=mapped(call.args, for_one), kwargs=mapped(call.kwargs, for_one))


def _move(builder: Builder, call: Call) -> None:
    if builder.leaves_indices(call):
        return
    _check_type(call)
    if not call.args and "input" in call.kwargs:
        others = {key: value for key, value in call.kwargs.items() if key != "input"}
        call = replace(call, args=(call.kwargs["input"],), kwargs=others)
    if call.changed:
        raise Refusal(f"{_name(call)} changes a tensor in place", "Use the function without the underscore")
    if any(builder.varies(t) for t in tensors_in((call.args[1:], call.kwargs)) if not _gives_shape(call)):
        raise Refusal(
            f"{_name(call)} takes numbers from places that depend on the image", f"Use places that are fixed, {PARTIAL}"
        )
    if not builder.varies(call.args[0] if call.args else None):
        if not _gives_shape(call):
            raise _unknown(call)
        return builder.constants(call)
    builder.moved(call, function=_of_positions(call.function))


def _of_positions(function: Any) -> Any:
    """What a function that moves numbers does to positions."""
    if function in CASTS:
        return _as_it_is
    if function in REDUCTIONS:
        return without_ones
    others = {F.interpolate: nearest, F.fold: folded}
    return others.get(function, function)


def _as_it_is(positions: Tensor, *_: Any, **__: Any) -> Tensor:
    return positions


def _gives_shape(call: Call) -> bool:
    return function_name(call.function) in {"view_as", "reshape_as", "expand_as", "type_as", "to"}


def _checked(builder: Builder, call: Call) -> Reader:
    """Return what a rule sees, of a call whose result has the batch in front, and a size that can be a node's."""
    for result in list(tensors_in(call.result))[:1]:
        shape = tuple(result.shape)
        if len(shape) < 1 or shape[0] != builder.batch:
            raise Refusal(
                f"{_name(call)} gives {list(shape)} for a batch of {builder.batch}: it mixes or drops the batch",
                f"Keep the batch as the first dimension, {PARTIAL}",
            )
        check_size(shape[1:])
    return Reader(builder, call)


def check_size(shape: Sequence[int]) -> None:
    """Refuse shapes of an image that the runtime does not have."""
    if len(shape) > MOST_AXES:
        raise Refusal(
            f"images of {list(shape)} have more than {MOST_AXES} dimensions",
            f"Use up to {MOST_AXES}, channels among them, {PARTIAL}",
        )
    if 0 in shape:
        raise Refusal(f"an image of {list(shape)} is empty", "Use larger images, or fewer pools and strides")
    if max(shape[:1], default=0) > _LARGEST_CHANNELS or max(shape[1:], default=0) > _LARGEST_EXTENT:
        raise Refusal(
            f"an image of {list(shape)} is too large",
            f"Use at most {_LARGEST_CHANNELS} channels, and {_LARGEST_EXTENT} pixels a side",
        )


def _check_type(call: Call) -> None:
    for result in list(tensors_in(call.result))[:1]:
        if result.dtype != torch.float32:
            raise Refusal(
                f"{_name(call)} gives {result.dtype}, where a deployed network has float32",
                f"Leave out casts and autocast, and compare no values, {PARTIAL}",
            )


def _writes_elsewhere(call: Call) -> bool:
    """Say whether a call changes another tensor than the one that it returns: out=, for example."""
    results = list(tensors_in(call.result))
    return any(not any(t is r for r in results) for t in call.changed) or call.kwargs.get("out") is not None


def _unknown(call: Call) -> Refusal:
    name = function_name(call.function)
    if name == "embedding" and call.changed:
        return embeddings.changing_table(call.kwargs.get("max_norm"))
    if name == "embedding_bag":
        return Refusal("the runtime has no embedding_bag", f"Use nn.Embedding, and mean(1) of what it gives, {PARTIAL}")
    full_name = str(getattr(call.function, "__name__", name))
    if full_name == f"{name}_" and getattr(Tensor, name, None) in MOVEMENTS:
        return Refusal(f"{full_name} cannot be deployed", "Use the function without the underscore")
    instead = _INSTEAD.get(name, "Use functions that can be deployed (see docs/deploying.md)")
    return Refusal(f"{_name(call)} cannot be deployed", f"{instead}, {PARTIAL}")


def _name(call: Call) -> str:
    return function_name(call.function)


def _is_metadata(function: Any) -> bool:
    is_property = getattr(function, "__name__", "") == "__get__"
    return is_property or function in METADATA
