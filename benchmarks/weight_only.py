"""Times of linear layers on one token, whose weights have few bits, beside PyTorch's and ONNX Runtime's.

Inputs are floats, or become codes of 8 bits with a step for each token. Square layers follow one another, as many as
their weights do not stay in the caches, and each column is for one of them. Everything is called in turn, and the
shortest time counts. Before that, results are compared with float64.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import onnx
import onnxruntime
import torch
import tyro
from numpy.typing import NDArray
from onnx import TensorProto, helper
from rich.console import Console
from rich.table import Table

import bitorch_runtime
from bitorch_runtime.reference import pack_weights

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class Options:
    """Time layers of low-bit weights and floats."""

    features: int = 4096
    """Inputs of a layer, and outputs."""
    layers: int = 4
    """Layers that follow one another."""
    rows: int = 1
    """Tokens at a time."""
    group: int = 128
    """Inputs that share a scale."""
    bits: tuple[int, ...] = (2, 4, 8)
    """Of weights."""
    threads: int = 1
    """Of every engine."""
    rounds: int = 10
    """How often each is called."""


class Weights(NamedTuple):
    """Layers of signed codes: codes int8 [N, K], scales float32 [N, K / group]."""

    codes: list[Array]
    scales: list[Array]
    bits: int

    @property
    def nbytes(self) -> int:
        """Bytes of one layer, packed."""
        return self.codes[0].size * self.bits // 8 + self.scales[0].nbytes

    def floats(self, layer: int) -> Array:
        group = self.codes[layer].shape[1] // self.scales[layer].shape[1]
        values: Array = self.codes[layer] * np.repeat(self.scales[layer], group, axis=1)
        return values


class Contestant(NamedTuple):
    """What is timed: float32 [rows, K] to [rows, N]; bytes of one layer's weights; the error that it may have."""

    name: str
    call: Callable[[Array], Array]
    nbytes: int
    error: float


def weights(options: Options, bits: int) -> Weights:
    """Random ones, that keep the size of what passes through them."""
    rng, half, size = np.random.default_rng(bits), 2 ** (bits - 1), options.features
    codes = [rng.integers(1 - half, half, (size, size)).astype(np.int8) for _ in range(options.layers)]
    least = 1 / np.sqrt(size * np.mean(codes[0].astype(np.float64) ** 2))
    scales = [
        (least * rng.uniform(0.7, 1.3, (size, size // options.group))).astype(np.float32) for _ in range(options.layers)
    ]
    return Weights(codes, scales, bits)


def layer_of(of: Weights, number: int, op: str, source: str, result: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """An operation that has the layer's weights, and its arrays."""
    codes, scale = of.codes[number], of.scales[number]
    names: dict[str, Any] = {"op": op, "input": source, "output": result, "weight": f"w{number}", "scale": f"s{number}"}
    layer = names | {"weight_bits": of.bits, "weight_grid": "signed", "out_channels": len(codes)}
    return layer, {f"w{number}": pack_weights(codes, of.bits, "signed"), f"s{number}": scale}


def program_of(
    of: Weights, operations: list[dict[str, Any]], arrays: dict[str, Array], name: str, error: float
) -> Contestant:
    """The operations between an input x0 and the last layer's result."""
    port: dict[str, Any] = {"op": "input", "output": "x0", "dtype": "float32", "shape": [of.codes[0].shape[1]]}
    program = bitorch_runtime.Program([port, *operations, {"op": "output", "input": f"x{len(of.codes)}"}], arrays)
    kernel = next(one["kernel"] for one in program.operations() if one["op"].startswith("linear_"))

    def call(x: Array) -> Array:
        y = program(x)
        assert isinstance(y, np.ndarray)  # of one output
        return y

    return Contestant(f"bitorch, {kernel}, {name}", call, of.nbytes, error)


def ours(of: Weights) -> Contestant:
    """Floats times weights."""
    layers = [layer_of(of, i, "linear_weight_only", f"x{i}", f"x{i + 1}") for i in range(len(of.codes))]
    arrays = {name: array for _, named in layers for name, array in named.items()}
    return program_of(of, [layer for layer, _ in layers], arrays, f"W{of.bits}", 1e-5)


def ours_of_codes(of: Weights) -> Contestant:
    """Codes of 8 bits times weights: x becomes round(x / step), step = max |x| / 127 of a token."""
    operations: list[dict[str, Any]] = []
    arrays: dict[str, Array] = {"levels": np.full(1, 127, np.float32)}
    for i in range(len(of.codes)):
        layer, named = layer_of(of, i, "linear_groups", f"q{i}", f"y{i}")
        arrays |= named
        operations += [
            {"op": "activation", "function": "abs", "input": f"x{i}", "output": f"magnitude{i}"},
            {"op": "reduce", "function": "amax", "axes": [0], "input": f"magnitude{i}", "output": f"largest{i}"},
            {"op": "affine", "divide": "levels", "low": 2.0**-100, "input": f"largest{i}", "float32": f"step{i}"},
            {"op": "div", "inputs": [f"x{i}", f"step{i}"], "output": f"rows{i}"},
            {"op": "quantize", "input": f"rows{i}", "output": f"q{i}", "bits": 8, "zero_point": 128},
            layer | {"zero_point": 128},
            {"op": "mul", "inputs": [f"y{i}", f"step{i}"], "output": f"x{i + 1}"},
        ]
    return program_of(of, operations, arrays, f"W{of.bits}, codes of 8 bits", 5e-2)


def pytorch(of: Weights, dtype: torch.dtype, error: float) -> Contestant:
    layers = [torch.from_numpy(of.floats(i).astype(np.float32)).to(dtype) for i in range(len(of.codes))]

    @torch.no_grad()
    def call(x: Array) -> Array:
        y = torch.from_numpy(x).to(dtype)
        for weight in layers:
            y = torch.nn.functional.linear(y, weight)
        found: Array = y.float().numpy()
        return found

    name = str(dtype).removeprefix("torch.")
    return Contestant(f"PyTorch {torch.__version__} {name}", call, layers[0].nbytes, error)


def matmul_nbits(of: Weights, options: Options, level: int) -> Contestant:
    """ONNX Runtime's operator of the same weights; accuracy level 0 multiplies floats, 4 int8 activations."""
    size, blocks = options.features, options.features // options.group
    nodes, stored = [], []
    for i, (codes, scale) in enumerate(zip(of.codes, of.scales, strict=True)):
        packed = pack_weights(codes, of.bits, "signed").reshape(size, blocks, -1)
        stored += [onnx.numpy_helper.from_array(packed, f"w{i}"), onnx.numpy_helper.from_array(scale.ravel(), f"s{i}")]
        settings = {"K": size, "N": size, "bits": of.bits, "block_size": options.group, "accuracy_level": level}
        nodes.append(
            helper.make_node(
                "MatMulNBits", [f"x{i}", f"w{i}", f"s{i}"], [f"x{i + 1}"], domain="com.microsoft", **settings
            )
        )
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", size]) for name in ("x0", f"x{len(of.codes)}")
    ]
    graph = helper.make_graph(nodes, "layers", ports[:1], ports[1:], stored)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    settings_of_session = onnxruntime.SessionOptions()
    settings_of_session.intra_op_num_threads = options.threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), settings_of_session, providers=["CPUExecutionProvider"]
    )

    def call(x: Array) -> Array:
        found: Array = session.run(None, {"x0": x})[0]
        return found

    name = f"ONNX Runtime {onnxruntime.__version__} MatMulNBits, W{of.bits}, level {level}"
    return Contestant(name, call, of.nbytes, 1e-5 if level == 0 else 5e-2)


def error_of(one: Contestant, x: Array, of: Weights) -> float:
    """How far a result is from float64's, as a share of that: both as lengths of vectors.

    Raises:
        AssertionError: farther than it may be.
    """
    expected = x.astype(np.float64)
    for i in range(len(of.codes)):
        expected = expected @ of.floats(i).astype(np.float64).T
    error = float(np.linalg.norm(one.call(x) - expected) / np.linalg.norm(expected))
    assert error <= one.error, f"{one.name}: error {error:.1e}"
    return error


def times(contestants: list[Contestant], x: Array, rounds: int) -> list[float]:
    """Milliseconds of each, the shortest."""
    found = [float("inf")] * len(contestants)
    for _ in range(rounds):
        for i, one in enumerate(contestants):
            start = time.perf_counter()
            one.call(x)
            found[i] = min(found[i], (time.perf_counter() - start) * 1e3)
    return found


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    bitorch_runtime.set_num_threads(options.threads)
    cpu, console = bitorch_runtime.cpu(), Console(width=150)
    console.print(
        f"{cpu['name']}, kernels {cpu['kernel']}, {options.threads} threads, {options.layers} layers of "
        f"{options.features}×{options.features}, {options.rows} tokens, groups of {options.group}, "
        f"NumPy {np.__version__}",
        highlight=False,
    )
    x = np.random.default_rng(0).normal(size=(options.rows, options.features)).astype(np.float32)
    table = Table("one layer", "ms", "GB/s of weights", "error")
    for bits in options.bits:
        of = weights(options, bits)
        contestants = [ours(of), ours_of_codes(of), *(matmul_nbits(of, options, level) for level in (0, 4))]
        if bits == options.bits[-1]:
            contestants += [pytorch(of, torch.float32, 1e-5), pytorch(of, torch.bfloat16, 5e-2)]
        errors = [error_of(one, x, of) for one in contestants]
        measured = times(contestants, x, options.rounds)
        for one, error, milliseconds in zip(contestants, errors, measured, strict=True):
            each = milliseconds / options.layers
            table.add_row(one.name, f"{each:.2f}", f"{one.nbytes / each / 1e6:.1f}", f"{error:.0e}")
    console.print(table)


if __name__ == "__main__":
    main(tyro.cli(Options))
