"""How a call is timed, the same way for everybody."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

SAMPLE_SECONDS = 1e-3
NETWORK_SECONDS = 30e-3  # PyTorch's first calls after somebody else's are slow
FEWEST_CALLS = 3


@dataclass(frozen=True)
class Sample:
    """Seconds of the fastest of some calls that follow each other."""

    call: float
    """From Python's call to its return."""
    inside: float | None = None
    """Of the layer alone, as the engine itself measures it, where it can."""


class Contestant(Protocol):
    """A layer that is ready to run, with its output checked."""

    name: str
    kernel: str
    """What the engine says that it ran."""

    def sample(self) -> Sample: ...


def fastest_call(call: Callable[[], object], sample_seconds: float = SAMPLE_SECONDS) -> float:
    """Seconds of the fastest of FEWEST_CALLS, or more until the sample is over; after one that is not counted."""
    call()
    fastest = float("inf")
    begin = time.perf_counter_ns()
    calls = 0
    while calls < FEWEST_CALLS or time.perf_counter_ns() - begin < sample_seconds * 1e9:
        start = time.perf_counter_ns()
        call()
        fastest = min(fastest, (time.perf_counter_ns() - start) / 1e9)
        calls += 1
    return fastest


def calls_per_sample(seconds: float) -> int:
    """How many calls of that length `fastest_call` makes."""
    return max(FEWEST_CALLS, round(SAMPLE_SECONDS / seconds))


@dataclass
class Called:
    """A contestant that is a Python call and nothing else."""

    name: str
    kernel: str
    call: Callable[[], object]
    sample_seconds: float = SAMPLE_SECONDS

    def sample(self) -> Sample:
        return Sample(fastest_call(self.call, self.sample_seconds))


@dataclass
class Samples:
    """A contestant's samples, one a round."""

    contestant: Contestant
    call: list[float] = field(default_factory=list)
    inside: list[float] = field(default_factory=list)

    def take(self) -> None:
        sample = self.contestant.sample()
        self.call.append(sample.call)
        if sample.inside is not None:
            self.inside.append(sample.inside)


def play(contestants: list[Contestant], rounds: int, pause: float) -> list[Samples]:
    """Sample everybody in turn, `rounds` times, so that a drift of the machine meets all alike.

    The order turns by one from round to round. After each sample comes a pause of so many seconds, in which an engine's
    waiting threads stop to spin.
    """
    everybody = [Samples(contestant) for contestant in contestants]
    for round_ in range(rounds):
        first = round_ % len(everybody) if everybody else 0
        for samples in everybody[first:] + everybody[:first]:
            samples.take()
            time.sleep(pause)
    return everybody
