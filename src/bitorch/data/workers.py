"""A function of keys, run by worker processes that come back in order."""

from __future__ import annotations

import sys
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import torch
from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

_K = TypeVar("_K")
_R = TypeVar("_R")
#: Keys that one worker works at together, where they are small.
CHUNK = 64


class Workers(Generic[_K, _R]):
    """Calls a function with one key after the other, in worker processes, and yields the results in the keys' order.

    The processes stay from one call to the next. Their number changes nothing but the time.

    Args:
        function: can be pickled where processes are spawned; its results hold tensors or can be pickled.
        workers: processes; 0: the calling process does the work.
    """

    def __init__(self, function: Callable[[_K], _R], workers: int) -> None:
        self._function = function
        self._workers = workers
        self._keys = _Keys[_K]()
        self._loader: DataLoader[_R] | None = None

    def __call__(self, keys: Sequence[_K]) -> Iterator[_R]:
        """Yield function(key) for each key."""
        if self._workers == 0 or not keys:
            yield from map(self._function, keys)
            return
        self._keys.keys = keys
        if self._loader is None:
            self._loader = _loader(self._function, self._keys, self._workers)
            # Held until this object is gone, the loader is never in the garbage that a collector finds. There, its
            # queues would end before it can tell its processes to, and it would wait five seconds for each.
            weakref.finalize(self, _let_go, self._loader).atexit = False
        with warnings.catch_warnings():
            # How many processes there are is the user's choice, and PyTorch warns above the number of cores.
            warnings.filterwarnings("ignore", message="This DataLoader will create")
            results = iter(self._loader)
        yield from results


def in_chunks(function: Callable[[range], _R], count: int, workers: int, doing: str) -> Iterator[_R]:
    """Yield function(range) for ranges that together are 0…count, with a bar on a terminal that says what is done."""
    chunks = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    return track_on_terminal(Workers(function, min(workers, len(chunks)))(chunks), doing, len(chunks))


def track_on_terminal(items: Iterator[_R], doing: str, total: int | None) -> Iterator[_R]:
    """Yield items; a bar on a terminal says how far they are."""
    is_shown = sys.stderr.isatty()
    return iter(track(items, doing, total=total, console=Console(stderr=True), transient=True, disable=not is_shown))


class _Keys(Generic[_K]):
    """What the processes are asked for; other keys in each pass."""

    def __init__(self) -> None:
        self.keys: Sequence[_K] = ()

    def __iter__(self) -> Iterator[_K]:
        return iter(self.keys)

    def __len__(self) -> int:
        return len(self.keys)


class _Function(Dataset[Any]):
    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def __getitem__(self, key: Any) -> Any:
        return self._function(key)


def _loader(function: Callable[[_K], _R], keys: _Keys[_K], workers: int) -> DataLoader[_R]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        return DataLoader(
            _Function(function),
            batch_size=None,
            sampler=keys,
            num_workers=workers,
            collate_fn=_as_it_is,
            persistent_workers=True,
            generator=torch.Generator(),  # which seeds the workers, and must not cost the run random numbers
        )


def _let_go(loader: DataLoader[Any]) -> None:
    """Hold a loader, as an argument of what is called at the end of another object."""


def _as_it_is(value: _R) -> _R:
    return value
