"""ONNX Runtime's contestant: QLinearConv on NHWC memory, or QGemm; uint8 in and out."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from layers_cases import Layer
from layers_int8 import Int8Problem
from layers_names import INT8
from layers_timing import Called, Contestant

try:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    raise ImportError('measuring ONNX Runtime needs more packages: pip install "bitorch-lowbit[bench]"') from error

NAME = INT8[0]


def contestants(layer: Layer, threads: int, rng: np.random.Generator) -> list[Contestant]:
    return [_contestant(layer, threads, rng)]


def _contestant(layer: Layer, threads: int, rng: np.random.Generator) -> Contestant:
    """The layer in a session of its own, input and output bound to memory that stays.

    Raises:
        RuntimeError: the output is wrong, or the optimizer left other nodes than the layer.
    """
    problem = Int8Problem.random(layer, rng)
    session, kernel = _session(_model(problem), threads)
    inputs, outputs = (
        onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.uint8)
        for shape in (layer.input_shape, layer.output_shape)
    )
    inputs.update_inplace(problem.inputs)
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", inputs)
    binding.bind_ortvalue_output("y", outputs)

    def call() -> None:
        session.run_with_iobinding(binding)

    call()
    problem.check(NAME, outputs.numpy())
    return Called(NAME, kernel, call)


def _session(model: bytes, threads: int) -> tuple[Any, str]:
    """A session, and the node that it runs."""
    session, nodes = optimized_session(model, threads)
    if len(nodes) != 1 or not nodes[0].startswith("Q"):
        raise RuntimeError(f"ONNX Runtime made {nodes} of one quantized layer")
    return session, nodes[0]


def optimized_session(model: bytes, threads: int) -> tuple[Any, list[str]]:
    """A session, and the kinds of the nodes that it runs after its optimizations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # the optimized model is for this machine only, which is a warning below that
    options.add_session_config_entry("session.force_spinning_stop", "1")  # its threads are quiet while others are timed
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        options.optimized_model_filepath = str(optimized)
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return session, [node.op_type for node in onnx.load(str(optimized)).graph.node]


def _model(problem: Int8Problem) -> bytes:
    layer = problem.layer
    constants = {
        "x_scale": np.asarray(problem.input_scale),
        "x_zero": np.asarray(0, np.uint8),
        "w": problem.weights,
        "w_scale": problem.weight_scale,
        "w_zero": np.zeros(layer.out_channels, np.int8),
        "y_scale": np.asarray(problem.output_scale),
        "y_zero": np.asarray(0, np.uint8),
        "bias": problem.bias,
    }
    graph = helper.make_graph(
        [_gemm() if layer.linear else _convolution(layer)],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, layer.input_shape)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, layer.output_shape)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return model


def _gemm() -> onnx.NodeProto:
    names = ["x", "x_scale", "x_zero", "w", "w_scale", "w_zero", "bias", "y_scale", "y_zero"]
    return helper.make_node("QGemm", names, ["y"], domain="com.microsoft", transB=1)


def _convolution(layer: Layer) -> onnx.NodeProto:
    """The form on NHWC memory that ONNX Runtime's own optimizer makes of a QLinearConv."""
    return helper.make_node(
        "QLinearConv",
        ["x", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero", "bias"],
        ["y"],
        domain="com.microsoft",
        channels_last=1,
        kernel_shape=[layer.kernel] * 2,
        strides=[layer.stride] * 2,
        pads=[layer.padding] * 4,
        dilations=[1, 1],
        group=layer.groups,
    )
