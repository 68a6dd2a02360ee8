"""A Ray cluster, found by its address, with all its machines seen to be fit for a sweep before it begins."""

from __future__ import annotations

import re
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..version import __version__
from .node_check import missing_on_node

try:
    import ray
    from ray import tune as tune
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ModuleNotFoundError as missing:
    raise ImportError(
        'sweeps on a cluster need Ray: pip install ".[ray]" in a checkout of bitorch, on each machine',
        name=missing.name,
    ) from missing

#: Until a port is open, until Ray has answered, and until each machine has started a process.
_SECONDS_TO_CONNECT, _SECONDS_TO_ANSWER, _SECONDS_TO_START = 5, 60, 120
_LONGEST_REASON = 300
_TRY = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
"""
_START = (
    "start one with `ray start --head`, or let this machine join one with `ray start --address=HOST:PORT`, and give "
    "that HOST:PORT"
)


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Connect to a cluster inside.

    Args:
        address: HOST:PORT, or "auto".

    Raises:
        ValueError: of another form. ConnectionError: nothing answers there within a minute, or no cluster of this
            version of Ray and Python, or this machine is not a part of it.
    """
    _check_port(address)
    # In a process of its own: Ray ends the process in which it waits too long for what is no cluster.
    try:
        tried = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _TRY, address],
            capture_output=True, text=True, timeout=_SECONDS_TO_ANSWER, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ConnectionError(
            f"no Ray cluster answers at {address} within {_SECONDS_TO_ANSWER} seconds; {_START}"
        ) from None
    if tried.returncode != 0:
        raise ConnectionError(f"no Ray cluster can be used at {address} ({_reason(tried.stderr)}); {_START}")
    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()


def check_nodes(folder: Path, cpus: int, gpus: int) -> None:
    """See that every machine has the folder of the sweep, and this bitorch, and that one has room for a run.

    Args:
        folder: of the sweep; it is there.
        cpus, gpus: of a run.

    Raises:
        ValueError: naming the machine, and what it lacks.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if not any(_has(node, "CPU", cpus) and _has(node, "GPU", gpus) for node in nodes):
        raise ValueError(
            f"a run takes {cpus} cpus and {gpus} gpus, and no machine of the cluster has so many for Ray; lower cpus "
            "or gpus in the file, or start a larger machine"
        )
    marker = folder / f".seen-{secrets.token_hex(8)}"
    marker.write_text(marker.name, encoding="utf-8")
    try:
        looks = [_look(node, marker) for node in nodes]
        for node, look in zip(nodes, looks, strict=True):
            if problem := _answer(look):
                raise ValueError(
                    f"the machine {node['NodeManagerHostname']} ({node['NodeManagerAddress']}) {problem}; the folder "
                    "of a sweep, and that in which the command is called, must be on storage that all machines of the "
                    "cluster see under the same path, and all need the same bitorch"
                )
    finally:
        marker.unlink(missing_ok=True)


def _look(node: dict[str, Any], marker: Path) -> Any:
    here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    task = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=here)(missing_on_node)
    return task.remote(marker.absolute(), marker.name, Path.cwd(), __version__)


def _answer(look: Any) -> str:
    """Return what a machine lacks, be it that it cannot say it."""
    try:
        return str(ray.get(look, timeout=_SECONDS_TO_START))
    except ray.exceptions.GetTimeoutError:
        return f"has not started a process within {_SECONDS_TO_START} seconds"
    except ray.exceptions.RayError as error:
        return f"cannot run bitorch ({_reason(str(error))})"


def _has(node: dict[str, Any], resource: str, count: int) -> bool:
    return bool(node["Resources"].get(resource, 0) >= count)


def _check_port(address: str) -> None:
    """Raise a ConnectionError where nothing listens, in few seconds, which Ray would take many for."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not re.fullmatch(r"\d{1,5}", port) or "/" in host:
        raise ValueError(f"address must be HOST:PORT, such as 10.0.0.1:6379, or auto, got {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=_SECONDS_TO_CONNECT).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"no Ray cluster answers at {address} ({error}); {_START}") from None


def _reason(text: str) -> str:
    """Return the last error that a process has printed, as one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [index for index, line in enumerate(lines) if re.match(r"[\w.]+(Error|Exception)\b", line)]
    said = lines[errors[-1] :] if errors else lines[-1:]
    return " ".join(said)[:_LONGEST_REASON] if said else "it ended without a word"
