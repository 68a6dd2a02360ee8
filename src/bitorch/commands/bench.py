"""`bitorch bench`: how fast a packed net is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

import bitorch_runtime

from .. import __version__
from ..data import to_float
from ..deployment.runtime.packed_model import PackedModel
from .console import print_error
from .options import parse
from .rivals import Call, float_twin, in_onnxruntime, in_pytorch, missing_for_onnx
from .timing import seconds_per_call

PACKED = "packed"
_MAX_THREADS = 256


@dataclass(frozen=True)
class _Arguments:
    """Time a packed net, and each of its operations, beside its float twin in PyTorch and ONNX Runtime.

    All get the same threads, and batches that are ready in memory; the twin has random weights. Times are medians.
    """

    net: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="NET")]
    """Packed file, written by bitorch deploy."""
    threads: int = 1
    """Threads of every engine."""
    batch: int = 1
    """Images in a call."""
    repeats: int = 30
    """Samples of each engine, and runs of each operation."""
    json: bool = False
    """Print JSON instead of tables."""


@dataclass(frozen=True)
class Benchmark:
    """What was measured.

    Attributes:
        net: the file.
        cpu, kernels, versions: what it was measured on and with.
        threads, batch: of every call.
        milliseconds: per image, by engine; the first is the packed net.
        not_measured: by engine, why.
    """

    net: str
    cpu: str
    kernels: str
    versions: dict[str, str]
    threads: int
    batch: int
    milliseconds: dict[str, float]
    not_measured: dict[str, str]


def run(arguments: list[str]) -> int:
    """Measure, and print tables."""
    options = parse(_Arguments, arguments, "bitorch bench")
    try:
        for name, value, most in (("threads", options.threads, _MAX_THREADS), ("batch", options.batch, 2**20)):
            _check(name, value, most)
        _check("repeats", options.repeats, 1_000_000)
        packed = PackedModel.load(options.net)
        with using_threads(options.threads):
            benchmark = measure(packed, options.net, options.threads, options.batch, options.repeats)
            profile = packed.profile(*_inputs(packed, options.batch), repeats=options.repeats)
    except (ValueError, TypeError, OSError, MemoryError) as error:
        return print_error(error)
    if options.json:
        print(json.dumps({**asdict(benchmark), "operations": list(profile)}, indent=2))
    else:
        _print(benchmark, profile)
    return 0


def measure(packed: PackedModel, path: Path, threads: int, batch: int, repeats: int) -> Benchmark:
    """Time a packed net beside its rivals, all with the threads that `using_threads` has set."""
    inputs = _inputs(packed, batch)
    calls: dict[str, Call] = {PACKED: lambda: packed(*inputs)}
    rivals, not_measured = _rivals(packed, inputs[0], threads)
    seconds = seconds_per_call({**calls, **rivals}, repeats)
    cpu = bitorch_runtime.cpu()
    return Benchmark(
        net=str(path),
        cpu=cpu["name"],
        kernels=f"{cpu['kernel']} ({cpu['reason']})",
        versions=_versions(),
        threads=threads,
        batch=batch,
        milliseconds={name: 1e3 * value / batch for name, value in seconds.items()},
        not_measured=not_measured,
    )


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Let PyTorch and bitorch_runtime compute with so many threads inside."""
    before = torch.get_num_threads(), bitorch_runtime.get_num_threads()
    torch.set_num_threads(count)
    bitorch_runtime.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        bitorch_runtime.set_num_threads(before[1])


def _rivals(packed: PackedModel, images: Tensor, threads: int) -> tuple[dict[str, Call], dict[str, str]]:
    """Return the rivals' calls, and of those that are not there the reasons."""
    try:
        twin = float_twin(packed)
    except ValueError as error:
        return {}, {"float twin": str(error)}
    floats = to_float(images) if images.dtype == torch.uint8 else images
    calls = in_pytorch(twin, floats)
    if missing := missing_for_onnx():
        return calls, {"ONNX Runtime float32": missing}
    return {**calls, **in_onnxruntime(twin, floats, threads)}, {}


def _inputs(packed: PackedModel, batch: int) -> list[Tensor]:
    """Random pixels, or floats in [0, 1], for each input."""
    generator = torch.Generator().manual_seed(0)
    inputs = []
    for spec in packed.inputs:
        shape = (batch, *spec.shape)
        if spec.dtype == torch.uint8:
            inputs.append(torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator))
        else:
            inputs.append(torch.rand(shape, generator=generator))
    return inputs


def _versions() -> dict[str, str]:
    versions = {"bitorch": __version__, "bitorch_runtime": bitorch_runtime.__version__, "torch": torch.__version__}
    return versions | {"onnxruntime": version("onnxruntime")} if not missing_for_onnx() else versions


def _check(name: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise ValueError(f"--{name} {value}: must be from 1 to {most}")


def _print(benchmark: Benchmark, profile: bitorch_runtime.Profile) -> None:
    console = Console()
    threads = f"{benchmark.threads} thread{'s' if benchmark.threads > 1 else ''}"
    console.print(f"{benchmark.cpu}, {threads}, kernels {benchmark.kernels}", highlight=False)
    console.print(", ".join(f"{name} {value}" for name, value in benchmark.versions.items()), highlight=False)
    console.print(times_table(benchmark))
    for name, reason in benchmark.not_measured.items():
        console.print(f"not measured: {name}: {reason}", highlight=False, markup=False)
    # As text, which a narrow terminal wraps, where a table would leave out parts of names.
    print(f"\n{profile}")


def times_table(benchmark: Benchmark) -> Table:
    """Return a line for each engine, the slowest first."""
    table = Table(title=f"batch {benchmark.batch}", title_justify="left")
    for header in ("engine", "ms per image", "packed is faster by"):
        table.add_column(header, justify="left" if header == "engine" else "right")
    packed = benchmark.milliseconds[PACKED]
    for name, value in sorted(benchmark.milliseconds.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{value:.3f}", "" if name == PACKED else f"{value / packed:.2f}×")
    return table
