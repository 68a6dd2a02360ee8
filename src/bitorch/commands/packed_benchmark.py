"""A packed net timed beside its rivals, for `bitorch bench`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

import bitorch_runtime

from ..data import to_float
from ..deployment.runtime.packed_model import PackedModel
from ..version import __version__
from .example_shapes import example_shapes
from .rivals import Call, float_twin, in_pytorch
from .rivals_engines import Twin, in_engines
from .timing import fastest_call, seconds_per_call

#: The packed net's name among the engines.
PACKED = "packed"


@dataclass(frozen=True)
class Benchmark:
    """What was measured.

    Attributes:
        net: the file.
        cpu, kernels, versions: what it was measured on and with.
        threads, batch: of every call.
        milliseconds: per image, by engine; the first is the packed net.
        not_measured: by engine, why.
        call_seconds: of the fastest call of the packed net, as those of its operations.
    """

    net: str
    cpu: str
    kernels: str
    versions: dict[str, str]
    threads: int
    batch: int
    milliseconds: dict[str, float]
    not_measured: dict[str, str]
    call_seconds: float


def measure_file(
    path: Path, threads: int, batch: int, repeats: int, tune: bool = False, model: str | None = None
) -> tuple[Benchmark, bitorch_runtime.Profile]:
    """Time the packed net of a file beside its rivals, all with so many threads, and then its operations.

    Raises:
        ValueError, TypeError, OSError, MemoryError: no packed file, or one that cannot run with such a batch.
    """
    packed = PackedModel.load(path, tune=tune)
    with using_threads(threads):
        benchmark = measure(packed, path, threads, batch, repeats, model)
        return benchmark, packed.profile(*_inputs(packed, batch), repeats=repeats)


def measure(
    packed: PackedModel, path: Path, threads: int, batch: int, repeats: int, model: str | None = None
) -> Benchmark:
    """Time a packed net beside its rivals, all with the threads that `using_threads` has set.

    The float twin is what the file says, or what a model makes, see `float_twin`.
    """
    inputs = _inputs(packed, batch)
    calls: dict[str, Call] = {PACKED: lambda: packed(*inputs)}
    rivals, not_measured = _rivals(packed, inputs[0], threads, model)
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
        call_seconds=fastest_call(calls[PACKED], repeats),
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


def _rivals(
    packed: PackedModel, images: Tensor, threads: int, model: str | None
) -> tuple[dict[str, Call], dict[str, str]]:
    """Return the rivals' calls, and of those that are not there the reasons."""
    try:
        twin = float_twin(packed, model)
    except ValueError as error:
        if model is not None:
            raise
        return {}, {"float twin": str(error)}
    floats = to_float(images) if images.dtype == torch.uint8 else images
    others, reasons = in_engines(Twin(twin, floats, threads))
    return {**in_pytorch(twin, floats), **others}, reasons


def _inputs(packed: PackedModel, batch: int) -> list[Tensor]:
    """Random pixels, or floats in [0, 1], for each input."""
    generator = torch.Generator().manual_seed(0)
    inputs = []
    for spec, image in zip(packed.inputs, example_shapes(packed), strict=True):
        shape = (batch, *image)
        if spec.dtype == torch.uint8:
            inputs.append(torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator))
        else:
            inputs.append(torch.rand(shape, generator=generator))
    return inputs


def _versions() -> dict[str, str]:
    versions = {"bitorch": __version__, "bitorch_runtime": bitorch_runtime.__version__, "torch": torch.__version__}
    return versions | {name: version(name) for name in ("onnxruntime", "openvino") if find_spec(name) is not None}
