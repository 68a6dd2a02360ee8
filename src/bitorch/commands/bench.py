"""`bitorch bench`: how fast a packed net is."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from .console import print_error
from .options import parse

if TYPE_CHECKING:
    from rich.table import Table

    import bitorch_runtime

    from .packed_benchmark import Benchmark

_MAX_THREADS = 256


@dataclass(frozen=True)
class _Arguments:
    """Time a packed net, and each of its operations, beside its float twin in PyTorch, ONNX Runtime and OpenVINO.

    The latter two, where they are installed, in float32 and int8. All get the same threads, and batches that are ready
    in memory; the twin has random weights. Times are medians; those of operations and of the call that they add up to
    are the fastest.
    """

    net: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="NET")]
    """Packed file, written by bitorch deploy."""
    threads: int = 1
    """Threads of every engine."""
    batch: int = 1
    """Images in a call."""
    repeats: int = 30
    """Samples of each engine, and runs of each operation."""
    tune: bool = False
    """Measure which kernel is the fastest for each layer here, and keep the answer, instead of relying on what kernels
    reckon."""
    model: str | None = None
    """What makes the float twin, where that is code of your own: FILE.py:NAME or PACKAGE.MODULE:NAME."""
    json: bool = False
    """Print JSON instead of tables."""


def run(arguments: list[str]) -> int:
    """Measure, and print tables."""
    options = parse(_Arguments, arguments, "bitorch bench")
    try:
        for name, value, most in (("threads", options.threads, _MAX_THREADS), ("batch", options.batch, 2**20)):
            _check(name, value, most)
        _check("repeats", options.repeats, 1_000_000)
        # Only here: PyTorch takes seconds to import, for which --help and a wrong flag need not wait.
        from .packed_benchmark import measure_file

        benchmark, profile = measure_file(
            options.net, options.threads, options.batch, options.repeats, options.tune, options.model
        )
    except (ValueError, TypeError, OSError, MemoryError) as error:
        return print_error(error)
    if options.json:
        rest = benchmark.call_seconds - profile.seconds
        print(json.dumps({**asdict(benchmark), "rest_seconds": rest, "operations": list(profile)}, indent=2))
    else:
        _print(benchmark, profile)
    return 0


def _check(name: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise ValueError(f"--{name} {value}: must be from 1 to {most}")


def _print(benchmark: Benchmark, profile: bitorch_runtime.Profile) -> None:
    from rich.console import Console

    console = Console()
    threads = f"{benchmark.threads} thread{'s' if benchmark.threads > 1 else ''}"
    console.print(f"{benchmark.cpu}, {threads}, kernels {benchmark.kernels}", highlight=False)
    console.print(", ".join(f"{name} {value}" for name, value in benchmark.versions.items()), highlight=False)
    console.print(times_table(benchmark))
    for name, reason in benchmark.not_measured.items():
        console.print(f"not measured: {name}: {reason}", highlight=False, markup=False)
    # As text, which a narrow terminal wraps, where a table would leave out parts of names.
    print("\n" + "\n".join([str(profile), *call_lines(benchmark, profile)]))


def times_table(benchmark: Benchmark) -> Table:
    """Return a line for each engine, the slowest first."""
    from rich.table import Table

    from .packed_benchmark import PACKED

    table = Table(title=f"batch {benchmark.batch}", title_justify="left")
    for header in ("engine", "ms per image", "packed is faster by"):
        table.add_column(header, justify="left" if header == "engine" else "right")
    packed = benchmark.milliseconds[PACKED]
    for name, value in sorted(benchmark.milliseconds.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{value:.3f}", "" if name == PACKED else f"{value / packed:.2f}×")
    return table


def call_lines(benchmark: Benchmark, profile: bitorch_runtime.Profile) -> list[str]:
    """Return what stands below the total of the operations: the rest of a call, and the whole call."""
    total = str(profile).splitlines()[-1]
    number = f"{1e6 * profile.seconds:,.1f}"
    end = total.index(number) + len(number)
    rest = benchmark.call_seconds - profile.seconds
    rows = (("rest of a call: tensors, checks, Python", rest), ("call", benchmark.call_seconds))
    texts = [(name, f"{1e6 * seconds:,.1f}".replace("-", "−")) for name, seconds in rows]
    return [f"{name}{text:>{max(len(text) + 2, end - len(name))}}" for name, text in texts]
