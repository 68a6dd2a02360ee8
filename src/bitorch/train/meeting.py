"""Whether the processes of a run are those that were asked for, and what it says when they do not meet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist


def check_launched(devices: int, num_nodes: int) -> None:
    """Raise a ValueError if torchrun has started another number of processes than the run is to have.

    Args:
        devices: processes on each machine.
        num_nodes: machines.
    """
    if not dist.is_available() or not dist.is_torchelastic_launched():
        return
    started = int(os.environ["WORLD_SIZE"])
    if started != devices * num_nodes:
        raise ValueError(
            f"devices × num_nodes must be {started}, as torchrun has started {started} "
            f"{'process' if started == 1 else 'processes'}, got {devices} × {num_nodes}; devices is what torchrun has "
            "as --nproc-per-node, and num_nodes what it has as --nnodes"
        )


@contextmanager
def saying_who_is_missing(processes: int, timeout: int) -> Iterator[None]:
    """Turn what PyTorch raises when processes do not find each other into a sentence.

    Args:
        processes: that are to meet.
        timeout: seconds that each of them waits.

    Raises:
        ConnectionError: in place of an error of torch.distributed from before they have met.
    """
    try:
        yield
    except dist.DistError as error:
        if dist.is_initialized():
            raise
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise ConnectionError(
            f"the {processes} processes of the run have not met at {place} within {timeout} s (timeout): {error} Start "
            "the same command on every machine, by torchrun with one --rdzv-endpoint that all of them reach"
        ) from error
