"""ONNX files of low-bit nets: how large beside the packed file, how fast beside ONNX Runtime's int8 of the float net.

Weights are random, statistics of BatchNorms those of random images. Each file of dialect integer is compared with its
model in every tensor over the images before it is timed; a time is that of one image on one thread, the median of
rounds in which both take turns. Those of qcdq and qonnx sum floats: counted are the images that get the model's class.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import bitorch
from bitorch.commands.rivals_exported import exported, in_8_bits
from bitorch.deployment.onnx.verification import verify_onnx
from bitorch.models import build, is_external

#: Channels, height and width, and classes; of other names, "torchvision:resnet18", see `_shape`.
_SHAPES = {
    "lenet-8": ((1, 8, 8), 10),
    "lenet-28": ((1, 28, 28), 10),
    "svhn-a": ((3, 40, 40), 10),
    "svhn-d": ((3, 40, 40), 10),
    "resnet-20": ((3, 32, 32), 10),
    "resnet-18": ((3, 224, 224), 1000),
    "mobilenet-v2": ((3, 224, 224), 1000),
}
_SETTINGS: dict[str, dict[str, Any]] = {
    "W1A1": {"weight_bits": 1, "activation_bits": 1, "sign": "sign"},
    "W1A2": {"weight_bits": 1, "activation_bits": 2},
    "W2A2": {"weight_bits": 2, "activation_bits": 2},
    "W4A4": {"weight_bits": 4, "activation_bits": 4},
    "learned": {"weight_bits": 4, "activation_bits": 4, "range": "learned"},
    "channel": {"weight_bits": 2, "activation_bits": 2, "range": "learned", "weight_scale": "channel"},
}
_DIALECTS = ("integer", "qcdq", "qonnx")


@dataclass(frozen=True)
class Options:
    """Write ONNX files, compare them with their models, and say how large and how fast they are."""

    nets: tuple[str, ...] = ("lenet-28", "resnet-18")
    settings: tuple[str, ...] = ("W1A2", "W4A4")
    dialects: tuple[str, ...] = ("integer",)
    images: int = 64
    """How many are compared."""
    rounds: int = 15
    """Of timing; 0: nothing is timed."""

    def check(self) -> None:
        """
        Raises:
            ValueError: a name is not valid.
        """
        known = ((self.nets, tuple(_SHAPES)), (self.settings, tuple(_SETTINGS)), (self.dialects, _DIALECTS))
        for given, names in known:
            for one in given:
                if one not in names and not is_external(one):
                    raise ValueError(f"there is no {one!r}, but {', '.join(names)}")


@dataclass(frozen=True)
class Row:
    """What was found for one net."""

    net: str
    setting: str
    verified: str
    packed: int
    file: int
    on_lines: str
    ours: float | None
    int8: float | None

    def cells(self) -> list[str]:
        """The row of the table."""
        ratio = "" if self.ours is None or self.int8 is None else f"{self.ours / self.int8:.2f}"
        times = ["" if one is None else f"{one * 1e3:.2f}" for one in (self.ours, self.int8)]
        is_small = self.file <= 1.25 * self.packed + 20_000
        sizes = [f"{self.packed:,}", f"{self.file:,}", "yes" if is_small else "NO"]
        return [self.net, self.setting, self.verified, *sizes, self.on_lines, *times, ratio]


def _shape(net: str) -> tuple[tuple[int, int, int], int]:
    """Of one image, and the number of classes; those of timm and torchvision get small images."""
    return ((3, 64, 64), 10) if is_external(net) else _SHAPES[net]


def model_of(net: str, setting: str, images: Tensor) -> nn.Module:
    """A net in a setting, with random weights, in eval mode."""
    torch.manual_seed(0)
    shape, classes = _shape(net)
    model = build(net, shape[0], classes)
    bitorch.quantize_(model, bitorch.LowBitConfig(**_SETTINGS[setting]))
    for norm in model.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            norm.momentum = None
            nn.init.normal_(norm.weight, 0.3, 0.3)
            nn.init.normal_(norm.bias, 0.3, 0.2)
    if "range" in _SETTINGS[setting]:
        bitorch.calibrate(model, [images])
    with torch.no_grad():
        model.train()(images)
    return model.eval().requires_grad_(False)


def measure(net: str, setting: str, options: Options, folder: Path) -> Row:
    """Write, verify and time one net.

    Raises:
        RuntimeError: a tensor of the file differs from the model's.
    """
    shape, classes = _shape(net)
    images = torch.rand(options.images, *shape, generator=torch.Generator().manual_seed(1))
    model = model_of(net, setting, images[:4])
    path = folder / f"{net}.onnx"
    written = bitorch.export_onnx(model, images[:1], path=path)
    found = [verify_onnx(model, path, part) for part in images.split(16)]
    for one in found:
        if not one:
            raise RuntimeError(f"{net} {setting}: the file {one}")
    packed = bitorch.deploy(model, images[:1])
    times: list[float | None] = [None, None]
    if options.rounds:
        torch.manual_seed(0)
        twin = build(net, shape[0], classes).eval()
        rival = in_8_bits(exported(twin, images[:1]), images[:1], None)
        times = [*in_turn([_call(path.read_bytes(), images[:1]), _call(rival, images[:1])], options.rounds)]
    on_lines = f"{len(written.on_lines)} of {len(written.layers)}"
    numbers = sum(comparison.elements for one in found for comparison in one.comparisons if comparison.exact)
    return Row(net, setting, f"{numbers:,}", packed.nbytes, written.nbytes, on_lines, *times)


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _call(model: bytes, images: Tensor) -> Callable[[], object]:
    session = _session(model)
    feed = {session.get_inputs()[0].name: images.numpy()}
    return lambda: session.run(None, feed)


def in_turn(calls: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Return the median seconds of each call; all take turns."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds + 1):
        for call, kept in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            call()
            kept.append(time.perf_counter() - start)
    return [statistics.median(kept[1:]) for kept in seconds]


def same_classes(net: str, setting: str, dialect: str, options: Options, folder: Path) -> list[str]:
    """Write one net in a dialect of floats; the row of the second table."""
    images = torch.rand(options.images, *_shape(net)[0], generator=torch.Generator().manual_seed(1))
    model = model_of(net, setting, images[:4])
    path = folder / f"{net}.{dialect}.onnx"
    written = bitorch.export_onnx(model, images[:1], path=path, dialect=dialect)
    scores = _scores(path, images, by_runtime=dialect == "qcdq")
    with torch.no_grad():
        expected = torch.cat([model(part) for part in images.split(16)])
    same = int((scores.argmax(1) == expected.argmax(1)).sum())
    furthest = float((scores - expected).abs().amax() / expected.abs().amax())
    return [net, setting, dialect, f"{same} of {len(images)}", f"{furthest:.1e}", f"{written.nbytes:,}"]


def _scores(path: Path, images: Tensor, *, by_runtime: bool) -> Tensor:
    """What a file gives in ONNX Runtime, or in the package qonnx, which takes one image after the other."""
    if by_runtime:
        session = _session(path.read_bytes())
        name = session.get_inputs()[0].name
        found = [session.run(None, {name: part.numpy()})[0] for part in images.split(16)]
    else:
        from qonnx.core.modelwrapper import ModelWrapper
        from qonnx.core.onnx_exec import execute_onnx

        wrapped = ModelWrapper(onnx.load(path))
        (name,), (output,) = ([end.name for end in ends] for ends in (wrapped.graph.input, wrapped.graph.output))
        found = [execute_onnx(wrapped, {name: image.numpy()})[output] for image in images.split(1)]
    return torch.from_numpy(np.concatenate(found))


def main(options: Options) -> None:
    """Print the tables."""
    options.check()
    heads = ("net", "bits", "numbers equal", "packed", "ONNX", "≤ 1.25 + 20 kB", "on lines", "ms", "int8 ms", "ratio")
    integers, floats = Table(*heads), Table("net", "bits", "dialect", "same class", "furthest score", "ONNX")
    cases = [
        (net, setting, dialect) for net in options.nets for setting in options.settings for dialect in options.dialects
    ]
    with tempfile.TemporaryDirectory() as folder:
        for net, setting, dialect in cases:
            if dialect == "integer":
                integers.add_row(*measure(net, setting, options, Path(folder)).cells())
            else:
                floats.add_row(*same_classes(net, setting, dialect, options, Path(folder)))
    for table in (integers, floats):
        if table.row_count:
            Console(width=140).print(table)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
