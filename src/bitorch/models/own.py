"""Nets of the user's own: what a function, class or module of theirs makes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ..model_copy import copied
from ..own_code import OwnCode, call_with_what_it_takes, errors_shown

#: What a net may be given as: a module, which is copied, or a class or function that returns one.
GivenNet = nn.Module | Callable[..., nn.Module]


def build_given(
    given: GivenNet | OwnCode,
    text: str,
    *,
    channels: int | None = None,
    num_classes: int | None = None,
    image_size: tuple[int, int] | None = None,
) -> nn.Module:
    """Return a new net of the user's own, which shares nothing with what they have given.

    Args:
        given: the module, or what is called with those of the following that it names, and that are known.
        text: what it is called in messages, "mine.py:net".
        channels: of the images; also under the name in_channels.
        num_classes: of the data.
        image_size: height and width of the images.

    Raises:
        ValueError: it raises something, with the line in the user's file where that is known.
        TypeError: it needs more than it is offered, or returns no module.
    """
    function: Any = given.function if isinstance(given, OwnCode) else given
    if isinstance(function, nn.Module):
        return copied(function)
    if not callable(function):
        raise TypeError(f"model must be a torch.nn.Module or a function that returns one, got {function!r}")
    channels_name = "in_channels" if _names(function, "in_channels") else "channels"
    known = {"num_classes": num_classes, channels_name: channels, "image_size": image_size}
    offered = {name: value for name, value in known.items() if value is not None}
    with _errors_of(given, f"model {text}"):
        made = call_with_what_it_takes(function, **offered)
    if not isinstance(made, nn.Module):
        raise TypeError(f"model {text} must return a torch.nn.Module, got {type(made).__name__}")
    return copied(made)  # it may return one that it keeps


@contextmanager
def _errors_of(given: GivenNet | OwnCode, what: str) -> Iterator[None]:
    """Show the lines of errors in a user's file. What is passed in Python raises as any function does."""
    if not isinstance(given, OwnCode):
        yield
        return
    with errors_shown(given, what):
        yield


def _names(function: Callable[..., Any], parameter: str) -> bool:
    try:
        return parameter in inspect.signature(function).parameters
    except ValueError:  # of some functions that are written in C
        return False
