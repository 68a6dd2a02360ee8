"""Several processes that train together, forked from one that has imported everything."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import traceback
from collections.abc import Callable
from typing import Any

_SECONDS = 60.0


def together(count: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Return what a function of a module returns in each of so many processes, to which Lightning finds them launched.

    Args:
        count: of processes.
        function, arguments: what can be pickled.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bitorch.train"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pipes = [context.Pipe(duplex=False) for _ in range(count)]
    processes = [
        context.Process(target=_as_one_of, args=(rank, count, port, sender, function, arguments))
        for rank, (_, sender) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    try:
        return [_received(receiver) for receiver, _ in pipes]
    finally:
        for process in processes:
            process.kill()  # Lightning takes SIGTERM, and waits for the others
            process.join()


def _received(receiver: Any) -> Any:
    assert receiver.poll(_SECONDS), "the processes take too long"
    error, result = pickle.loads(receiver.recv_bytes())
    assert error is None, error
    return result


def _as_one_of(
    rank: int, count: int, port: int, sender: Any, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    import torch

    torch.set_num_threads(1)
    launched = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in launched.items()}, MASTER_ADDR="127.0.0.1", GROUP_RANK="0")
    os.environ["TORCHELASTIC_RUN_ID"] = "tests"
    try:
        # As bytes: tensors that PyTorch sends by itself go with the process.
        sender.send_bytes(pickle.dumps((None, function(*arguments))))
    except BaseException:
        sender.send_bytes(pickle.dumps((traceback.format_exc(), None)))
        raise
