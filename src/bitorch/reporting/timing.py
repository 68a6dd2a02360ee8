"""How long each part of a model takes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..running import hooked


def self_seconds(
    model: nn.Module, parts: Mapping[str, nn.Module], image: Sequence[Tensor], repeats: int
) -> dict[str | None, float]:
    """Return the seconds that each part takes without the parts inside it; under None those that no part takes.

    Of each part the fastest of several runs counts, behind one that does not.
    """
    fastest: dict[str | None, float] = {}
    for index in range(repeats + 1):
        clock = _Clock()
        with hooked(parts, clock.enter, clock.leave), torch.no_grad():
            inputs = [x.clone() for x in image]
            clock.start()
            model(*inputs)
            clock.stop()
        if index > 0:
            fastest = {name: min(taken, fastest.get(name, taken)) for name, taken in clock.seconds.items()}
    return fastest


class _Clock:
    """A stack of who is running: what passes counts for the innermost."""

    def __init__(self) -> None:
        self.seconds: dict[str | None, float] = {None: 0.0}
        self._running: list[str | None] = [None]
        self._since = 0.0

    def start(self) -> None:
        self._since = time.perf_counter()

    def stop(self) -> None:
        now = time.perf_counter()
        at = self._running[-1]
        self.seconds[at] = self.seconds.get(at, 0.0) + now - self._since
        self._since = now

    def enter(self, name: str, part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.stop()
        self._running.append(name)

    def leave(self, name: str, part: nn.Module, result: object) -> None:
        self.stop()
        self._running.pop()
