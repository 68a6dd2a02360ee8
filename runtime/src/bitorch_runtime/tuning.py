"""Measured times of kernels, kept from one load to the next: what `load(path, tune=True)` chooses by."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path

from bitorch_runtime import _native, atomic_file


def times_file() -> Path:
    """Return where times are kept: kernel-times.json in $XDG_CACHE_HOME/bitorch, or in ~/.cache/bitorch."""
    folder = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(folder) if os.path.isabs(folder) else Path.home() / ".cache"
    return root / "bitorch" / "kernel-times.json"


def _machine() -> str:
    """Times are those of one kind of CPU and one build of the kernels."""
    return f"{_native.cpu_name()}, bitorch-runtime {_native.version}"


def known_times() -> dict[str, float]:
    """Return the nanoseconds by layer and kernel that were measured on such a CPU before.

    A file that is missing, or is none that `keep_times` wrote, holds none: they are measured anew.
    """
    return _times_of(_read().get(_machine()))


def keep_times(times: Mapping[str, float]) -> None:
    """Add times to the file.

    Where it cannot be written this warns, and the times are measured again by the next process.
    """
    everything = _read()
    everything[_machine()] = {**_times_of(everything.get(_machine())), **times}
    path = times_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_file.write(str(path), json.dumps(everything, indent=1, sort_keys=True).encode())
    except OSError as error:
        warnings.warn(f"{path}: measured times of kernels are not kept: {error}", stacklevel=3)


def _read() -> dict[str, object]:
    try:
        content = json.loads(times_file().read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _times_of(entry: object) -> dict[str, float]:
    if not isinstance(entry, dict):
        return {}
    return {
        key: float(value)
        for key, value in entry.items()
        if isinstance(value, (int, float)) and math.isfinite(value) and value >= 0
    }
