"""OpenVINO's contestants for networks of tokens: read from PyTorch by OpenVINO, in int8 by its quantizer, NNCF.

`networks_openvino.py` writes convolutional networks layer by layer instead, which needs no quantizer of somebody else's
and says exactly what is int8. Attention and normalisations are more than it knows.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch

from layers_openvino import compiled_request
from layers_timing import NETWORK_SECONDS, Called, Contestant
from networks_graph import Graph
from networks_models import float_model
from networks_names import OPENVINO_FLOAT, OPENVINO_INT8

try:
    import nncf
    import openvino
except ImportError as error:
    raise ImportError('measuring OpenVINO needs more packages: pip install "bitorch-lowbit[bench]"') from error

#: Random images that show NNCF the ranges.
CALIBRATION_IMAGES = 16
INT8_KERNELS = ("i8", "I8", "u8")


def contestants(net: str, graph: Graph, threads: int, floats: bool) -> list[Contestant]:
    """In int8, and with `floats` in float32.

    Raises:
        RuntimeError: the scores are wrong, or no matrix product ran in int8.
    """
    return [*([_float(net, graph, threads)] if floats else []), _int8(net, graph, threads)]


def _float(net: str, graph: Graph, threads: int) -> Contestant:
    request = compiled_request(_from_pixels(_model(net, graph)), threads, graph.images, precision="f32")
    request.infer()
    graph.check(OPENVINO_FLOAT, request.get_output_tensor().data, 1e-2)
    return Called(OPENVINO_FLOAT, "", lambda: request.infer(share_outputs=True), NETWORK_SECONDS)


def _int8(net: str, graph: Graph, threads: int) -> Contestant:
    model = _from_pixels(_quantized(_model(net, graph), graph))
    request = compiled_request(model, threads, graph.images, count=True)
    request.infer()
    graph.check(OPENVINO_INT8, request.get_output_tensor().data)
    products = ("Convolution", "FullyConnected", "MatMul")
    kernels = [node.exec_type for node in request.get_profiling_info() if node.node_type in products]
    in_int8 = [kernel for kernel in kernels if kernel.endswith(INT8_KERNELS)]
    if not in_int8:
        raise RuntimeError(f"OpenVINO ran its products as {kernels}")
    request = compiled_request(model, threads, graph.images)
    kernel = max(set(in_int8), key=in_int8.count)
    return Called(OPENVINO_INT8, kernel, lambda: request.infer(share_outputs=True), NETWORK_SECONDS)


def _model(net: str, graph: Graph) -> Any:
    """Floats [batch, 3, H, W] to scores, of the batch at hand."""
    batch, height, width, channels = graph.images.shape
    example = torch.zeros(batch, channels, height, width)
    with torch.no_grad():
        model = openvino.convert_model(float_model(net), example_input=example, input=list(example.shape))
    return model


def _quantized(model: Any, graph: Graph) -> Any:
    """With FakeQuantize where NNCF puts it for transformers."""
    batch, height, width, channels = graph.images.shape
    rng = np.random.default_rng(0)
    images = [rng.random((batch, channels, height, width), np.float32) for _ in range(CALIBRATION_IMAGES)]
    nncf.set_log_level(logging.ERROR)
    return nncf.quantize(model, nncf.Dataset(images), subset_size=len(images), model_type=nncf.ModelType.TRANSFORMER)


def _from_pixels(model: Any) -> Any:
    """With uint8 NHWC as input."""
    processor = openvino.preprocess.PrePostProcessor(model)
    processor.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    processor.input().model().set_layout(openvino.Layout("NCHW"))
    processor.input().preprocess().convert_element_type(openvino.Type.f32).scale(255.0)
    return processor.build()
