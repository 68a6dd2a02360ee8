"""Whole programs with each kernel in turn, wherever it serves a layer, against the reference.

`python forced_kernels.py` prints the kernels that ran, as JSON, in a process of its own: BITORCH_KERNEL is read once.
A kernel is forced by the file of measured times, in which it takes next to nothing and every other one a second.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import bitorch_runtime
from bitorch_runtime import pack_weights, reference, tuning

Array = np.ndarray[Any, Any]
#: Of weights and activations.
BITS = ((1, 1), (1, 2), (2, 2), (3, 3), (1, 5), (4, 4), (2, 8), (8, 8))
SIDE, IMAGES = 11, 2


class Chain:
    """Layers of codes of `bits`, one after the other."""

    def __init__(self, weight_bits: int, bits: int) -> None:
        self.rng = np.random.default_rng(10 * weight_bits + bits)
        self.weight_bits, self.bits = weight_bits, bits
        self.operations: list[dict[str, Any]] = [
            {"op": "input", "output": "x", "shape": [3, SIDE, SIDE], "order": "nhwc", "dtype": "uint8", "bits": 8}
        ]
        self.arrays: dict[str, Array] = {}
        self.x: Array = self.rng.integers(0, 256, (IMAGES, SIDE, SIDE, 3), dtype=np.uint8)

    def array(self, values: Array) -> str:
        name = f"a{len(self.arrays)}"
        self.arrays[name] = values
        return name

    def _floats(self, low: float, high: float, channels: int) -> str:
        return self.array(self.rng.uniform(low, high, channels).astype(np.float32))

    def _thresholds(self, reach: float, channels: int, *, integers: bool) -> str:
        n = 2**self.bits - 1
        first = reach * self.rng.uniform(-1, 0, (channels, 1))
        steps = first + reach / n * self.rng.uniform(0.5, 1.5, (channels, 1)) * np.arange(n)
        return self.array(np.ceil(steps).astype(np.int32) if integers else steps.astype(np.float32))

    def _layer(self, outs: int, taps: tuple[int, ...], levels: int, keys: dict[str, Any]) -> str:
        """Codes of D; with a residual, floats and codes of them."""
        name = f"t{len(self.operations)}"
        most = 2**self.weight_bits - 1
        weight = pack_weights(2 * self.rng.integers(0, most + 1, (outs, *taps)) - most, self.weight_bits)
        keys = {**keys, "weight": self.array(weight), "weight_bits": self.weight_bits, "out_channels": outs}
        keys |= {"codes": name, "bits": self.bits}
        size = float(np.sqrt(np.prod(taps))) * most * levels / 2  # of D, about
        if "residual" in keys:
            keys |= {"multiply": self._floats(0.5 / size, 1 / size, outs), "offset": self._floats(-0.1, 0.1, outs)}
            keys |= {"relu": True, "float32": f"{name}/y"}
            if self.bits <= 4:  # else the unit quantizer
                keys["thresholds"] = self._thresholds(1, outs, integers=False)
        else:
            keys["thresholds"] = self._thresholds(size, outs, integers=True)
        self.operations.append(keys)
        return name

    def conv(
        self, source: str, channels: tuple[int, int], kernel: int, *, stride: int = 1, groups: int = 1, **keys: Any
    ) -> str:
        pad, levels = kernel // 2, 255 if source == "x" else 2**self.bits - 1
        window = {"kernel_size": [kernel] * 2, "stride": [stride] * 2, "padding": [pad] * 4, "dilation": [1, 1]}
        operation = {"op": "conv2d", "input": source, **window, "groups": groups, **keys}
        return self._layer(channels[1], (channels[0] // groups, kernel, kernel), levels, operation)

    def linear(self, source: str, channels: tuple[int, int]) -> str:
        return self._layer(channels[1], channels[:1], 2**self.bits - 1, {"op": "linear", "input": source})


def chain(weight_bits: int, bits: int) -> Chain:
    """A first layer, 3×3, depthwise, 1×1 to few channels and to many with a residual, and a linear layer."""
    net = Chain(weight_bits, bits)
    y = net.conv("x", (3, 40), 3)
    y = net.conv(y, (40, 64), 3)
    y = net.conv(y, (64, 72), 3)
    y = net.conv(y, (72, 72), 3, groups=72)
    y = net.conv(y, (72, 72), 5, stride=2, groups=72)
    y = net.conv(y, (72, 20), 1)
    y = net.conv(y, (20, 130), 1)
    net.operations.append({"op": "dequantize", "input": y, "output": "floats"})
    y = net.conv(y, (130, 130), 1, residual="floats")
    net.operations.append({"op": "flatten", "input": y, "output": "flat", "order": "hwc"})
    y = net.linear("flat", (130 * 36, 65))
    net.operations.append({"op": "output", "input": y})
    return net


def force(kernel: str) -> None:
    """Let a kernel be the fastest of those that were measured."""
    content = json.loads(tuning.times_file().read_bytes())
    for times in content.values():
        for key in times:
            times[key] = 1.0 if key.split(": ", 1)[1] == kernel else 1e9
    tuning.times_file().write_text(json.dumps(content))


def forced(net: Chain, path: Path) -> set[str]:
    """The kernels that gave the reference's numbers: those that serve a layer in the layout it gets."""
    tuning.times_file().unlink(missing_ok=True)
    bitorch_runtime.save(path, net.operations, net.arrays)
    expected = reference.run(net.operations, net.arrays, net.x)
    bitorch_runtime.load(path, tune=True)
    ran: set[str] = set()
    for kernel in sorted({key.split(": ", 1)[1] for key in tuning.known_times()}):
        force(kernel)
        model = bitorch_runtime.load(path, tune=True)
        np.testing.assert_array_equal(model(net.x), expected, kernel)
        ran |= {one["kernel"] for one in model.operations()} & {kernel}
    return ran


def main() -> None:
    bitorch_runtime.set_num_threads(1)
    ran: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        for bits in BITS:
            ran |= forced(chain(*bits), Path(folder) / "net.bit.safetensors")
    json.dump(sorted(ran), sys.stdout)


if __name__ == "__main__":
    main()
