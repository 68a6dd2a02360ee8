"""When, where and with what a report was made."""

from __future__ import annotations

import platform
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version

import torch

from ..doctor import processor_name
from ..version import __version__


def circumstances() -> dict[str, str]:
    """Return, by name, the date, the machine and the versions of what computes."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{processor_name()} ({platform.machine()}), {platform.system()}",
        "versions": ", ".join(f"{name} {number}" for name, number in _versions().items()),
    }


def _versions() -> dict[str, str]:
    versions = {"bitorch": __version__, "torch": torch.__version__, "Python": platform.python_version()}
    try:
        runtime = version("bitorch-runtime")
    except PackageNotFoundError:
        return versions
    return {"bitorch": __version__, "bitorch_runtime": runtime, **versions}
