"""ONNX Runtime's linear layers of few bits: MatMulNBits, weights of 2 and 4 bits, float32 in and out.

Its makers wrote it for language models, whose weights are read once per token: codes with a scale for each block of a
row. Activations become int8 inside (`accuracy_level` 4), the fastest that it has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from layers_cases import Layer
from layers_names import FEW_BITS
from layers_onnxruntime import optimized_session
from layers_timing import Called, Contestant

try:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    raise ImportError('measuring ONNX Runtime needs more packages: pip install "bitorch-lowbit[bench]"') from error

BLOCK = 128
"""Weights with one scale."""
TOLERANCE = 0.02
"""Of the length of the output, for activations of 8 bits."""


def contestants(layer: Layer, threads: int, rng: np.random.Generator) -> list[Contestant]:
    """For linear layers whose rows are blocks; none for others."""
    if not layer.linear or layer.in_channels % BLOCK != 0:
        return []
    return [_contestant(layer, bits, name, threads, rng) for bits, name in FEW_BITS.items()]


def _contestant(layer: Layer, bits: int, name: str, threads: int, rng: np.random.Generator) -> Contestant:
    """
    Raises:
        RuntimeError: the output is wrong, or the optimizer left other nodes than the layer.
    """
    rows, blocks = layer.out_channels, layer.in_channels // BLOCK
    codes = rng.integers(0, 1 << bits, (rows, blocks, BLOCK), np.uint8)
    scales = rng.uniform(0.5, 1.5, (rows, blocks)).astype(np.float32) / np.float32(np.sqrt(layer.in_channels))
    session, nodes = optimized_session(_model(layer, bits, codes, scales), threads)
    if nodes != ["MatMulNBits"]:
        raise RuntimeError(f"ONNX Runtime made {nodes} of one MatMulNBits")
    inputs = rng.standard_normal(layer.input_shape, np.float32)
    given, made = (
        onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32)
        for shape in (layer.input_shape, layer.output_shape)
    )
    given.update_inplace(inputs)
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", given)
    binding.bind_ortvalue_output("y", made)

    def call() -> None:
        session.run_with_iobinding(binding)

    call()
    weights = ((codes.astype(np.float64) - (1 << (bits - 1))) * scales[:, :, None]).reshape(rows, -1)
    expected = inputs.astype(np.float64) @ weights.T
    error = np.linalg.norm(made.numpy() - expected) / np.linalg.norm(expected)
    if not error < TOLERANCE:
        raise RuntimeError(f"{name} {layer.name}: the output is off by {error:.1%}")
    return Called(name, f"MatMulNBits, {bits} bits", call)


def _packed(codes: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """[..., n] codes to [..., n * bits / 8] bytes, the first in the lowest bits."""
    apart = codes.reshape(*codes.shape[:-1], -1, 8 // bits)
    packed: npt.NDArray[np.uint8] = np.bitwise_or.reduce(
        apart << (bits * np.arange(8 // bits, dtype=np.uint8)), axis=-1
    )
    return packed


def _model(layer: Layer, bits: int, codes: npt.NDArray[np.uint8], scales: npt.NDArray[np.float32]) -> bytes:
    attributes: dict[str, Any] = {
        "K": layer.in_channels,
        "N": layer.out_channels,
        "bits": bits,
        "block_size": BLOCK,
        "accuracy_level": 4,
    }
    node = helper.make_node("MatMulNBits", ["x", "w", "scales"], ["y"], domain="com.microsoft", **attributes)
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, layer.input_shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, layer.output_shape)],
        [numpy_helper.from_array(_packed(codes, bits), "w"), numpy_helper.from_array(scales.reshape(-1), "scales")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return model
