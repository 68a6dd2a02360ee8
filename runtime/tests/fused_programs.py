"""Small programs of operations that run as one, or whose tensors are parts of others.

`python fused_programs.py` prints a digest of what each program of `PROGRAMS` and some random cases give, to be compared
with another process's where BITORCH_FUSED says otherwise.
"""

from __future__ import annotations

import hashlib
import sys
from typing import Any

import numpy as np

from bitorch_runtime import Program, pack_weights
from cases import random_case

Array = np.ndarray[Any, Any]
Operation = dict[str, Any]
SEEDS = range(60)


class Net:
    """A program that grows: `add` returns the name of what an operation gives."""

    def __init__(self, seed: int, shape: list[int], bits: int | None = None) -> None:
        self.rng = np.random.default_rng(seed)
        kind: Operation = {"dtype": "float32"} if bits is None else {"dtype": "uint8", "bits": bits}
        self.operations: list[Operation] = [{"op": "input", "output": "x", "shape": shape, "order": "nchw", **kind}]
        self.arrays: dict[str, Array] = {}
        batch = (3, *shape)
        numbers = self.rng.normal(0, 1, batch).astype(np.float32)
        self.inputs = numbers if bits is None else self.rng.integers(0, 1 << bits, batch).astype(np.uint8)

    def _name(self) -> str:
        return f"t{len(self.operations)}"

    def add(self, op: str, key: str = "output", **keys: Any) -> str:
        name = self._name()
        self.operations.append({"op": op, key: name, **keys})
        return name

    def array(self, values: Array) -> str:
        name = f"a{len(self.arrays)}"
        self.arrays[name] = values
        return name

    def quantize(self, name: str, channels: int, bits: int = 2) -> str:
        """By thresholds of each channel, some of which fall."""
        thresholds = np.sort(self.rng.normal(0, 1, (channels, (1 << bits) - 1)).astype(np.float32))
        descending = self.rng.random(channels) < 0.3
        thresholds[descending] = thresholds[descending, ::-1]
        keys = {"thresholds": self.array(thresholds), "descending": self.array(descending)}
        return self.add("quantize", input=name, bits=bits, **keys)

    def conv(
        self, name: str, channels: tuple[int, int], kernel: int = 1, stride: int = 1, groups: int = 1, **keys: Any
    ) -> str:
        """Of one-bit weights, with a scale: to floats, or what `keys` say."""
        ins, outs = channels
        codes = 2 * self.rng.integers(0, 2, (outs, ins // groups, kernel, kernel)) - 1
        pad = kernel // 2
        scale = {"multiply": self.array(self.rng.normal(0, 0.3, outs).astype(np.float32))}
        scale["offset"] = self.array(self.rng.normal(0, 0.5, outs).astype(np.float32))
        window: Operation = {"kernel_size": [kernel] * 2, "stride": [stride] * 2, "padding": [pad] * 4}
        window |= {"dilation": [1, 1], "groups": groups}
        weight = {"weight": self.array(pack_weights(codes, 1)), "weight_bits": 1, "out_channels": outs}
        key = "codes" if "bits" in keys else "float32"
        return self.add("conv2d", key, input=name, **window, **weight, **scale, **keys)

    def output(self, *names: str) -> Net:
        self.operations += [{"op": "output", "input": name, "order": "nhwc"} for name in names]
        return self


def gated(width: int) -> Net:
    """A gate of each channel, then codes; and a sum of tables."""
    net = Net(width, [20, 9, width])
    pooled = net.add("global_avg_pool", input="x")
    gate = net.add("activation", input=pooled, function="sigmoid")
    codes = net.quantize(net.add("mul", inputs=["x", gate]), 20)
    worth = net.add("dequantize", input=codes, table=net.array(net.rng.normal(0, 1, (20, 4)).astype(np.float32)))
    return net.output(net.add("add", "float32", inputs=[worth, "x"], relu=True))


def squeezed(channels: int, size: int, kernel: int, function: str | None) -> Net:
    """Squeeze and excitation: the mean of what a depthwise layer gives is its gate, and codes are what remains."""
    net = Net(size, [channels, size, size - 4], bits=2)
    layer = net.conv("x", (channels, channels), kernel, groups=channels, relu=function is None)
    if function is not None:
        layer = net.add("activation", input=layer, function=function)
    pooled = net.add("global_avg_pool", input=layer)
    gate = net.add("activation", input=pooled, function="sigmoid")
    return net.output(net.quantize(net.add("mul", inputs=[layer, gate]), channels))


def stem(channels: int, kernel: int, pool: int) -> Net:
    """A first layer with large results, pooled and quantized: three in a row, of rows that overlap."""
    net = Net(kernel, [channels, 61, 75], bits=8)
    layer = net.conv("x", (channels, 40), kernel, 2 if kernel > 1 else 1, relu=True)
    window: Operation = {"kernel_size": [pool, pool], "stride": [2, 2], "padding": [pool // 2] * 4, "dilation": [1, 1]}
    return net.output(net.quantize(net.add("max_pool", input=layer, **window), 40))


def pooled_codes(channels: int, outs: int, kernel: int, pool: int, stride: int) -> Net:
    """A first layer whose codes are pooled, by thresholds that may fall with its sums."""
    net = Net(kernel, [channels, 40, 53], bits=4)
    thresholds = np.sort(net.rng.integers(-90, 90, (outs, 3)).astype(np.int32))
    descending = net.rng.random(outs) < 0.3
    thresholds[descending] = thresholds[descending, ::-1]
    codes = 2 * net.rng.integers(0, 2, (outs, channels, kernel, kernel)) - 1
    window: Operation = {"kernel_size": [kernel] * 2, "stride": [1, 1], "padding": [kernel // 2] * 4}
    window |= {"dilation": [1, 1], "groups": 1, "out_channels": outs, "weight_bits": 1, "bits": 2}
    weight = {"weight": net.array(pack_weights(codes, 1)), "thresholds": net.array(thresholds)}
    layer = net.add("conv2d", "codes", input="x", **window, **weight, descending=net.array(descending))
    keys: Operation = {"kernel_size": [pool, pool], "stride": [stride] * 2, "padding": [0, 0, 1, 1], "dilation": [1, 1]}
    return net.output(net.add("max_pool", input=layer, **keys))


def odd_stem(value: float) -> Net:
    """Numbers with which the largest output of a window is not that of one sum, or might be the other zero."""
    net = stem(3, 7, 3)
    offset = net.arrays[net.operations[1]["offset"]]
    offset[5::7] = value
    net.arrays[net.operations[1]["multiply"]][6::7] = 0.0
    return net


def dense(growth: int, kernel: int) -> Net:
    """Layers that read all before them: each concat begins with the one before."""
    net = Net(growth, [24, 17, 13])
    channels = 3 * 24
    window: Operation = {"kernel_size": [3, 3], "stride": [1, 1], "padding": [1] * 4}
    parts = [net.add("max_pool", input="x", dilation=[1, 1], **window)]
    parts.append(net.add("avg_pool", input="x", count_include_pad=True, **window))
    parts.append(net.add("avg_pool", input="x", count_include_pad=False, **window))
    for _ in range(4):
        whole = net.add("concat", inputs=list(parts)) if len(parts) > 1 else parts[0]
        parts.append(net.conv(net.quantize(whole, channels), (channels, growth), kernel))
        channels += growth
    return net.output(net.quantize(net.add("concat", inputs=list(parts)), channels), parts[4])


def nested(growth: int) -> Net:
    """Concats of concats, of a tensor twice, of some that stand in the middle, and a residual that is a part."""
    net = Net(growth, [8, 7, 10], bits=2)
    a, b, c = (net.conv("x", (8, growth)) for _ in range(3))
    ab = net.add("concat", inputs=[a, b])
    abc = net.add("concat", inputs=[ab, c])
    bc = net.add("concat", inputs=[b, c])
    twice = net.add("concat", inputs=[a, abc, a])
    both = net.conv(net.quantize(bc, 2 * growth), (2 * growth, growth), 3, residual=c)
    last = net.add("concat", inputs=[both, net.add("affine", "float32", input=ab, high=0.5), twice])
    return net.output(net.quantize(last, 8 * growth), net.quantize(ab, 2 * growth), net.quantize(twice, 5 * growth))


def fire(channels: int, last: int) -> Net:
    """Codes side by side, in planes where they fill bytes, read by a layer with padding."""
    net = Net(channels, [16, 9, 9], bits=2)
    parts = [net.conv("x", (16, channels), 1, bits=2), net.conv("x", (16, last), 3, bits=2)]
    whole = net.add("concat", inputs=parts)
    return net.output(net.conv(whole, (channels + last, 33), 3), whole if last == 5 else parts[0])


def beside(channels: int, kernel: int, stride: int) -> Net:
    """Depthwise layers side by side, of codes and of floats: their pixels do not adjoin."""
    net = Net(channels, [channels, 11, 9], bits=2)
    floats = [net.conv("x", (channels, channels), kernel, stride, channels, relu=True) for _ in range(2)]
    thresholds = net.array(np.sort(net.rng.integers(-12, 12, (channels, 3)).astype(np.int32)))
    codes = [net.conv("x", (channels, channels), kernel, stride, channels, bits=2) for _ in range(3)]
    for operation in net.operations[-3:]:
        del operation["multiply"], operation["offset"]
        operation["thresholds"] = thresholds
    numbers = {
        operation.get(key) for operation in net.operations for key in ("multiply", "offset", "thresholds", "weight")
    }
    net.arrays = {name: array for name, array in net.arrays.items() if name in numbers}
    return net.output(net.add("concat", inputs=floats), net.add("concat", inputs=codes))


PROGRAMS: dict[str, Net] = {
    "gated 7": gated(7),
    "gated 40": gated(40),
    "squeezed 40 silu": squeezed(40, 37, 3, "silu"),
    "squeezed 33 hardswish": squeezed(33, 9, 5, "hardswish"),
    "squeezed 72": squeezed(72, 35, 3, None),
    "stem 3 7 3": stem(3, 7, 3),
    "stem 4 5 2": stem(4, 5, 2),
    "stem 1 1 3": stem(1, 1, 3),
    "pooled codes 3 32 3 2": pooled_codes(3, 32, 3, 2, 2),
    "pooled codes 2 70 5 3": pooled_codes(2, 70, 5, 3, 2),
    "pooled codes 1 9 2 3": pooled_codes(1, 9, 2, 3, 3),
    "stem with negative zeros": odd_stem(-0.0),
    "stem with infinite offsets": odd_stem(np.inf),
    "stem with NaN": odd_stem(np.nan),
    "dense 32 1": dense(32, 1),
    "dense 5 3": dense(5, 3),
    "nested 16": nested(16),
    "nested 3": nested(3),
    "fire 64 32": fire(64, 32),
    "fire 24 5": fire(24, 5),
    "fire 12 20": fire(12, 20),
    "beside 24 3 1": beside(24, 3, 1),
    "beside 64 5 2": beside(64, 5, 2),
    "beside 7 3 1": beside(7, 3, 1),
}


def digest(results: Array | dict[str, Array]) -> str:
    arrays = results if isinstance(results, dict) else {"": results}
    return hashlib.sha256(b"".join(arrays[name].tobytes() for name in sorted(arrays))).hexdigest()


def digests() -> list[str]:
    some = [digest(Program(net.operations, net.arrays)(net.inputs)) for net in PROGRAMS.values()]
    for seed in SEEDS:
        case = random_case(seed)
        some.append(digest(Program(case.operations, case.arrays)(*case.inputs)))
    return some


if __name__ == "__main__":
    sys.stdout.write("\n".join(digests()))
