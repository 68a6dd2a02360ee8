"""What gpt.py measures of a trained net: bytes, tokens a second, and the memory of a process that runs nothing else."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import bitorch
import bitorch_runtime
from gpt_net import GPT, generate

_CALLS = 11
_PROMPT = 8


@dataclass(frozen=True)
class Rates:
    """Tokens a second: of whole windows, and one after the other with a cache."""

    read: float
    generated: float


@dataclass(frozen=True)
class Measured:
    """Of one net.

    Attributes:
        nbytes: of the packed file, or of the float net's parameters.
        rates: by the number of threads.
        memory: bytes of a process that loads the net and reads a window, at most: with PyTorch for a float net, with
            bitorch_runtime alone for a packed one.
    """

    nbytes: int
    rates: dict[int, Rates]
    memory: int


def measure_float(model: GPT, tokens: Tensor, threads: tuple[int, ...]) -> Measured:
    """Measure a float net as PyTorch runs it, on tokens int64 [1, context]."""
    with torch.inference_mode():
        rates = {count: _rates(lambda: model(tokens), model, model, tokens, count) for count in threads}
    nbytes = sum(parameter.nbytes for parameter in model.parameters())
    with tempfile.TemporaryDirectory() as folder:
        torch.save(model, Path(folder, "gpt.pt"))
        return Measured(nbytes, rates, memory_of(Path(folder, "gpt.pt"), tokens))


def measure_packed(model: GPT, tokens: Tensor, threads: tuple[int, ...], out: Path | None) -> Measured:
    """Deploy a low-bit net, whole to read windows and in part to generate, and measure both.

    Args:
        out: where to write the packed file.

    Raises:
        RuntimeError: a packed net is not the trained one.
    """
    packed, in_part = bitorch.deploy(model, tokens), bitorch.deploy(model, partial=True).model
    verification = bitorch.verify(model, packed, tokens)
    if not verification:
        raise RuntimeError(f"the packed file is not the low-bit net: {verification}")
    prompt, count = tokens[0, :_PROMPT], tokens.shape[1] - _PROMPT
    expected, given = (generate(net, len(model.blocks), prompt, count) for net in (model, in_part))
    if given != expected:
        raise RuntimeError(f"the packed layers give other tokens: {given}, not {expected}")
    rates = {threads_: _rates(lambda: packed(tokens), in_part, model, tokens, threads_) for threads_ in threads}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "gpt.bit.safetensors")
        packed.save(file)
        memory = memory_of(file, tokens)
    if out is not None:
        packed.save(out)
    return Measured(packed.nbytes, rates, memory)


def _rates(read: Callable[[], object], net: nn.Module, model: GPT, tokens: Tensor, threads: int) -> Rates:
    torch.set_num_threads(threads)
    bitorch_runtime.set_num_threads(threads)
    prompt, count = tokens[0, :_PROMPT], tokens.shape[1] - _PROMPT
    seconds = [_seconds(read), _seconds(lambda: generate(net, len(model.blocks), prompt, count))]
    torch.set_num_threads(1)
    bitorch_runtime.set_num_threads(1)
    return Rates(tokens.shape[1] / seconds[0], count / seconds[1])


def _seconds(call: Callable[[], object]) -> float:
    """The median of some calls, behind one that is not counted."""
    call()
    times = []
    for _ in range(_CALLS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def memory_of(file: Path, tokens: Tensor) -> int:
    """Return the bytes that a new process with one thread has in memory at most, which loads a net and calls it.

    Args:
        file: a packed net, or a module of PyTorch with the suffix .pt.
        tokens: int64, what it is called with.
    """
    process = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("gpt_memory.py")), str(file)],
        input=json.dumps(tokens.tolist()), text=True, capture_output=True, check=True,
    )  # fmt: skip
    return int(process.stdout)
