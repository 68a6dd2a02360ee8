"""Nets of the user's own: what a function, class or module of theirs makes."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ..model_copy import copied
from ..own_code import OwnCode, call_with_what_it_takes, errors_shown, parameters_of

#: What a net may be given as: a module, which is copied, or a class or function that returns one.
GivenNet = nn.Module | Callable[..., nn.Module]


def build_given(
    given: GivenNet | OwnCode,
    text: str,
    *,
    shape: tuple[int, int, int] | None = None,
    num_classes: int | None = None,
) -> nn.Module:
    """Return a new net of the user's own, which shares nothing with what they have given.

    Args:
        given: the module, or what is called with those of num_classes, channels (or in_channels) and image_size, height
            and width, that it names and that are known.
        text: what it is called in messages, "mine.py:net".
        shape: of one image, [C, H, W].
        num_classes: of the data.

    Raises:
        ValueError: it raises something, with the line in the user's file where that is known.
        TypeError: it needs more than it is offered, or returns no module.
    """
    function: Any = given.function if isinstance(given, OwnCode) else given
    if isinstance(function, nn.Module):
        return _shaped(copy.deepcopy(function), text, shape) if _is_lazy(function) else copied(function)
    if not callable(function):
        raise TypeError(f"model must be a torch.nn.Module or a function that returns one, got {function!r}")
    channels_name = "in_channels" if "in_channels" in parameters_of(function) else "channels"
    offered: dict[str, object] = {} if num_classes is None else {"num_classes": num_classes}
    if shape is not None:
        offered |= {channels_name: shape[0], "image_size": shape[1:]}
    if num_classes is None and _needs(function, "num_classes"):
        raise TypeError(
            f"model {text} needs num_classes, and the data does not say how many there are: let its function return "
            'a dict with "train", "val" and "num_classes" or "class_names", or give num_classes a default'
        )
    with _errors_of(given, f"model {text}"):
        made = call_with_what_it_takes(function, **offered)
    if not isinstance(made, nn.Module):
        raise TypeError(f"model {text} must return a torch.nn.Module, got {type(made).__name__}")
    if _is_lazy(made):
        with _errors_of(given, f"model {text}"):
            return _shaped(copy.deepcopy(made), text, shape)
    return copied(made)  # it may return one that it keeps


def _needs(function: Callable[..., Any], name: str) -> bool:
    """Whether a function has a parameter of that name, without a default."""
    parameter = parameters_of(function).get(name)
    return parameter is not None and parameter.default is inspect.Parameter.empty


def _is_lazy(net: nn.Module) -> bool:
    return any(map(is_lazy, net.parameters()))


def _shaped(net: nn.Module, text: str, shape: tuple[int, int, int] | None) -> nn.Module:
    """Return a net whose lazy layers, such as nn.LazyLinear, have their shapes, as after a first image."""
    if shape is None:
        raise ValueError(
            f"model {text} has layers without a shape, and there are no images to show it; build it without"
        )
    training = net.training
    with torch.no_grad():
        net.eval()(torch.zeros(2, *shape))
    return net.train(training)


@contextmanager
def _errors_of(given: GivenNet | OwnCode, what: str) -> Iterator[None]:
    """Show the lines of errors in a user's file. What is passed in Python raises as any function does."""
    if not isinstance(given, OwnCode):
        yield
        return
    with errors_shown(given, what):
        yield
