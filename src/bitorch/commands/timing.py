"""How long calls take, all measured alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

#: A sample is as many calls in a row as take about so long.
_SAMPLE_SECONDS = 5e-3
#: Between samples, in which the threads of the engine before stop to spin.
_PAUSE_SECONDS = 5e-3


def seconds_per_call(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median time of each call.

    In every round each of them is sampled once, in turn, so that a drift of the machine meets all alike; a sample is
    the mean over some milliseconds of calls.

    Args:
        calls: by name.
        rounds: samples of each.
    """
    counts = {name: _calls_per_sample(call) for name, call in calls.items()}
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            samples[name].append(_mean(call, counts[name]))
            time.sleep(_PAUSE_SECONDS)
    return {name: statistics.median(values) for name, values in samples.items()}


def _calls_per_sample(call: Callable[[], object]) -> int:
    call()  # the first plans and allocates
    return max(1, round(_SAMPLE_SECONDS / max(_mean(call, 3), 1e-9)))


def _mean(call: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def fastest_call(call: Callable[[], object], repeats: int) -> float:
    """Return the seconds of the fastest of so many calls, as a program's profile counts its operations."""
    return min(_mean(call, 1) for _ in range(repeats))
