"""The networks as programs of bitorch-runtime, with random weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

import bitorch_runtime
from layers_cases import code_thresholds

ACTIVATION_BITS = 2
LEVELS = (1 << ACTIVATION_BITS) - 1
EDGE_BITS = 8
"""Of the first and last layer of ResNet-18."""

Arrays = dict[str, npt.NDArray[Any]]


@dataclass
class Source:
    """A network as `bitorch_runtime.Program` takes it."""

    operations: list[dict[str, Any]]
    arrays: Arrays


def source(net: str, rng: np.random.Generator) -> Source:
    """The operations and arrays of "resnet18" or "svhn-a"."""
    return {"resnet18": _resnet18, "svhn-a": _svhn_a}[net](_Builder(rng))


@dataclass
class _Builder:
    """Operations one after the other; tensors and arrays are named after the layer that makes them."""

    rng: np.random.Generator
    operations: list[dict[str, Any]] = field(default_factory=list)
    arrays: Arrays = field(default_factory=dict)

    def source(self) -> Source:
        return Source(self.operations, self.arrays)

    def add(self, op: str, **keys: Any) -> None:
        self.operations.append({"op": op, **keys})

    def weights(self, name: str, shape: tuple[int, ...], bits: int) -> npt.NDArray[np.int16]:
        """Random codes of this shape; the array `name` holds them packed."""
        n = (1 << bits) - 1
        codes = (2 * self.rng.integers(0, n, shape, endpoint=True) - n).astype(np.int16)
        self.arrays[name] = bitorch_runtime.pack_weights(codes, bits)
        return codes

    def norm(
        self, codes: npt.NDArray[np.int16], levels: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """[N] slopes and shifts that take the sums of random codes 0 … levels to about 0 … 1."""
        rows = codes.reshape(len(codes), -1).astype(np.float64)
        deviation = np.sqrt((rows**2).sum(1) * levels * (levels + 2) / 12)
        slope = self.rng.uniform(0.2, 0.6, len(rows)) / deviation
        shift = self.rng.uniform(0.1, 0.6, len(rows)) - rows.sum(1) * levels / 2 * slope
        return slope.astype(np.float32), shift.astype(np.float32)

    def layer(self, name: str, input_: str, shape: tuple[int, ...], weight_bits: int, levels: int, **keys: Any) -> None:
        """A convolution [N, C, h, w] or linear layer [N, F] with the float stage."""
        multiply, offset = self.norm(self.weights(f"{name}.weight", shape, weight_bits), levels)
        self.arrays |= {f"{name}.multiply": multiply, f"{name}.offset": offset}
        self.add(
            "linear" if len(shape) == 2 else "conv2d",
            input=input_,
            weight=f"{name}.weight",
            weight_bits=weight_bits,
            out_channels=shape[0],
            multiply=f"{name}.multiply",
            offset=f"{name}.offset",
            **keys,
        )

    def inner(self, name: str, input_: str, shape: tuple[int, ...], stride: int, padding: int) -> None:
        """A 1-bit convolution from codes to codes, by integer thresholds."""
        codes = self.weights(f"{name}.weight", shape, 1)
        bound = int(np.prod(shape[1:])) * LEVELS
        multiply, offset = self.norm(codes, LEVELS)
        self.arrays[f"{name}.thresholds"] = code_thresholds(multiply, offset, LEVELS, bound)
        self.add(
            "conv2d",
            input=input_,
            weight=f"{name}.weight",
            weight_bits=1,
            out_channels=shape[0],
            **window(shape[2], stride, padding),
            thresholds=f"{name}.thresholds",
            bits=ACTIVATION_BITS,
            codes=name,
        )


def window(kernel: int, stride: int, padding: int) -> dict[str, Any]:
    return {
        "kernel_size": [kernel] * 2,
        "stride": [stride] * 2,
        "padding": [padding] * 4,
        "dilation": [1, 1],
        "groups": 1,
    }


def _resnet18(net: _Builder) -> Source:
    net.add("input", output="image", dtype="uint8", bits=EDGE_BITS, shape=[3, 224, 224], order="nhwc")
    stem = window(7, 2, 3)
    net.layer("stem", "image", (64, 3, 7, 7), EDGE_BITS, 255, **stem, relu=True, float32="stem")
    net.add("max_pool", input="stem", output="pool", kernel_size=[3, 3], stride=[2, 2], padding=[1, 1, 1, 1])
    net.add("quantize", input="pool", output="pool.codes", bits=ACTIVATION_BITS)
    name, channels = "pool", 64
    for stage, width in enumerate((64, 128, 256, 512)):
        for block in range(2):
            name = _block(net, f"layer{stage + 1}.{block}", name, channels, width, 2 if width > channels else 1)
            channels = width
    net.add("global_avg_pool", input=name, output="mean")
    net.add("quantize", input="mean", output="mean.codes", bits=EDGE_BITS)
    net.layer("fc", "mean.codes", (1000, 512), EDGE_BITS, 255, float32="scores")
    net.add("output", input="scores")
    return net.source()


def _block(net: _Builder, name: str, input_: str, channels: int, width: int, stride: int) -> str:
    """One basic block. A name has floats, for the shortcut, and codes, for the next convolution."""
    net.inner(f"{name}.conv1", f"{input_}.codes", (width, channels, 3, 3), stride, 1)
    residual = input_
    if stride > 1:
        residual = f"{name}.downsample"
        shape = (width, channels, 1, 1)
        net.layer(residual, f"{input_}.codes", shape, 1, LEVELS, **window(1, stride, 0), float32=residual)
    shape = (width, width, 3, 3)
    keys = {"residual": residual, "relu": True, "float32": name, "codes": f"{name}.codes", "bits": ACTIVATION_BITS}
    last = name == "layer4.1"
    if last:
        del keys["codes"], keys["bits"]
    net.layer(f"{name}.conv2", f"{name}.conv1", shape, 1, LEVELS, **window(3, 1, 1), **keys)
    return name


def _svhn_a(net: _Builder) -> Source:
    net.add("input", output="image", dtype="float32", shape=[3, 40, 40], order="nhwc")
    rng = net.rng
    net.arrays |= {
        "first.weight": rng.standard_normal((48, 5, 5, 3), np.float32),
        "first.multiply": rng.uniform(0.05, 0.1, 48).astype(np.float32),
        "first.offset": rng.uniform(0.2, 0.6, 48).astype(np.float32),
    }
    net.add(
        "conv2d_float",
        input="image",
        weight="first.weight",
        **window(5, 1, 0),
        multiply="first.multiply",
        offset="first.offset",
        bits=ACTIVATION_BITS,
        codes="first",
    )
    halve = {"kernel_size": [2, 2], "stride": [2, 2], "padding": [0, 0, 0, 0]}
    net.add("max_pool", input="first", output="first.pool", **halve)
    net.inner("conv2", "first.pool", (64, 48, 3, 3), 1, 1)
    net.inner("conv3", "conv2", (64, 64, 3, 3), 1, 1)
    net.add("max_pool", input="conv3", output="conv3.pool", **halve)
    net.inner("conv4", "conv3.pool", (128, 64, 3, 3), 1, 0)
    net.inner("conv5", "conv4", (128, 128, 3, 3), 1, 1)
    net.inner("conv6", "conv5", (128, 128, 3, 3), 1, 0)
    net.layer("conv7", "conv6", (512, 128, 5, 5), 1, LEVELS, **window(5, 1, 0), relu=True, float32="conv7")
    net.arrays |= {
        "last.weight": rng.standard_normal((10, 512), np.float32),
        "last.multiply": np.ones(10, np.float32),
        "last.offset": rng.standard_normal(10, np.float32),
    }
    net.add(
        "linear_float",
        input="conv7",
        weight="last.weight",
        multiply="last.multiply",
        offset="last.offset",
        float32="scores",
    )
    net.add("output", input="scores")
    return net.source()
