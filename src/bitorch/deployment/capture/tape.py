"""What a model does, call by call: every PyTorch function that its forward calls, on real tensors.

The model runs once on an example. A TorchFunctionMode sees each function, method and operator where the model's code
calls it, not what it consists of inside, and hooks tell which module is running. So Python control flow just happens;
whether it would have happened for other images too is found out by comparing tapes, see capture.py. Modules that mean
one thing as a whole (the low-bit layers and quantizers) are one call.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from .folding import Folds

#: Frames of these folders are not where a model calls something.
_LIBRARIES = (
    str(Path(torch.__file__).parent),
    *(str(Path(__file__).parents[2] / folder) for folder in ("deployment", "layers", "quantizations")),
)


@dataclass(frozen=True)
class Place:
    """The module that is running, and the line of the user's code that called into PyTorch."""

    path: str
    module: nn.Module
    line: str

    def __str__(self) -> str:
        kind = type(self.module).__name__
        where = f"{self.path} ({kind})" if self.path else f"the model ({kind})"
        return f"{where}, called from {self.line}" if self.line else where


@dataclass(frozen=True)
class Call:
    """One call, and the state of its tensors.

    Attributes:
        function: what was called: a function of PyTorch, or a module.
        args, kwargs: as they were; containers are copies, so that later changes to a list do not show.
        result: any structure that holds tensors, or none.
        before: version of each tensor argument, by id, before the call; `after`: of arguments and results, after it.
        folds: of a call that stands for the model's, with the batch in front of every tensor, how that one is made.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    before: Mapping[int, int]
    after: Mapping[int, int]
    place: Place
    folds: Folds | None = None

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors among the arguments."""
        return list(tensors_in((self.args, self.kwargs)))

    @property
    def changed(self) -> list[Tensor]:
        """The arguments that the call changed in place."""
        return [t for t in self.tensors if id(t) in self.before and self.after[id(t)] != self.before[id(t)]]


def tensors_in(value: object) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists, dicts and slices."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, slice):
        yield from tensors_in((value.start, value.stop, value.step))


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return nested tuples, lists, dicts and slices as new containers, with everything else changed."""
    if isinstance(value, tuple) and type(value) is not torch.Size:
        items = tuple(mapped(item, change) for item in value)
        return type(value)(*items) if hasattr(value, "_fields") else items
    if isinstance(value, list):
        return [mapped(item, change) for item in value]
    if isinstance(value, dict):
        return {key: mapped(item, change) for key, item in value.items()}
    if isinstance(value, slice):
        return slice(*(mapped(part, change) for part in (value.start, value.stop, value.step)))
    return change(value)


def version(tensor: Tensor) -> int:
    """Return the count of changes in place, which a tensor shares with its views; -1 for one that has none."""
    return -1 if tensor.is_inference() else tensor._version


def _versions(value: object) -> dict[int, int]:
    return {id(tensor): version(tensor) for tensor in tensors_in(value)}


def _unasked(function: Any) -> Any:
    """The same function without its question whether a mode would take the whole call: it calls what it consists of."""
    names = {**function.__globals__, "has_torch_function": lambda _: False}
    unasked = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    unasked.__kwdefaults__ = function.__kwdefaults__
    return unasked


#: Functions in Python that are recorded by what they call: of attention there are operations for each step.
_IN_STEPS: Mapping[Any, Any] = MappingProxyType(
    {F.multi_head_attention_forward: _unasked(F.multi_head_attention_forward)}
)


class Tape(TorchFunctionMode):
    """The calls so far; see `recording`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self._running: list[tuple[str, nn.Module]] = [("", model)]
        self._started: list[tuple[nn.Module, dict[int, int]]] = []  # whole modules that run now, with `before`

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = {} if kwargs is None else kwargs
        if self._started:
            return func(*args, **kwargs)
        if func in _IN_STEPS:
            with self:
                return _IN_STEPS[func](*args, **kwargs)
        before = _versions((args, kwargs))
        kept = _snapshot(args), _snapshot(kwargs)
        result = func(*args, **kwargs)
        self._record(func, *kept, result, before)
        return result

    def _record(self, function: Any, args: Any, kwargs: Any, result: Any, before: dict[int, int]) -> None:
        after = _versions((args, kwargs, result))
        place = Place(*self._running[-1], _users_line())
        self.calls.append(Call(function, args, kwargs, _snapshot(result), before, after, place))

    def follow(self, path: str, module: nn.Module, *, is_whole: bool) -> list[RemovableHandle]:
        """Add hooks to a module, and return their handles.

        They bracket forward alone: hooks of the user lie outside, and are recorded for what they call.
        """

        def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
            if self._started:
                return
            self._running.append((path, module))
            if is_whole:
                before: dict[int, int] = {}
                self._started.append((module, before))  # from here on nothing is recorded, not even what stands below
                before |= _versions((args, kwargs))

        def leave(module: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
            if self._started and self._started[-1][0] is module:
                self._record(module, _snapshot(args), _snapshot(kwargs), result, self._started[-1][1])
                self._started.pop()
            if not self._started:
                self._running.pop()

        return [
            module.register_forward_pre_hook(enter, with_kwargs=True),
            module.register_forward_hook(leave, with_kwargs=True, prepend=True, always_call=True),
        ]


@contextmanager
def recording(model: nn.Module, is_whole: Callable[[nn.Module], bool]) -> Iterator[Tape]:
    """Record what is called inside.

    Args:
        model: whose modules are told apart. It has hooks inside.
        is_whole: says which modules are recorded as one call.
    """
    tape = Tape(model)
    with ExitStack() as stack:
        for path, module in model.named_modules():
            for handle in tape.follow(path, module, is_whole=is_whole(module)):
                stack.callback(handle.remove)
        with tape:
            yield tape


def _snapshot(value: Any) -> Any:
    return mapped(value, lambda item: item)


def _users_line() -> str:
    """Return "file:line" of the innermost code that is neither PyTorch's nor ours; "" if there is none."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        name = frame.f_code.co_filename
        if name == _CAPTURE_FILE:
            return ""
        if not name.startswith(_LIBRARIES) and not name.startswith("<"):
            return f"{Path(name).name}:{frame.f_lineno}"
    return ""


#: Where the model is called: outside of it there are only our callers.
_CAPTURE_FILE = str(Path(__file__).with_name("capture.py"))
