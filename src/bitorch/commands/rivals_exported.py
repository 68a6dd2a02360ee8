"""A float net as an ONNX file, and in 8 bits, as ONNX Runtime's own quantizer writes it."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_OPSET = 17
#: Batches of random images that ranges of activations are taken from.
_CALIBRATION = 8
_INPUT = "images"


def exported(twin: nn.Module, images: Tensor) -> bytes:
    """Return the net as ONNX, for batches like these."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The exporter's remarks on itself, on the checks of shapes in our nets, and on what it does not fold.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", "Converting a tensor to a Python boolean")
        warnings.filterwarnings("ignore", "Constant folding")
        path = Path(folder) / "twin.onnx"
        # The newer exporter, dynamo=True, would need onnxscript besides.
        torch.onnx.export(twin, (images,), path, dynamo=False, opset_version=_OPSET, input_names=[_INPUT])
        return _with_numbers_of_their_own(path.read_bytes())


def _with_numbers_of_their_own(model: bytes) -> bytes:
    """Give equal numbers of several layers, such as biases of 0, back to each: the exporter keeps one and Identities.

    Behind an Identity a bias stays float32 in ONNX Runtime's quantizer, and with it the whole convolution.
    """
    import onnx

    proto = onnx.load_model_from_string(model)
    kept = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in [node for node in proto.graph.node if node.op_type == "Identity" and node.input[0] in kept]:
        copy = onnx.TensorProto()
        copy.CopyFrom(kept[node.input[0]])
        copy.name = node.output[0]
        proto.graph.initializer.append(copy)
        proto.graph.node.remove(node)
    content: bytes = proto.SerializeToString()
    return content


def in_8_bits(model: bytes, images: Tensor, operations: Sequence[str] | None) -> bytes:
    """Return an exported net with 8-bit weights, per channel, and 8-bit activations.

    Ranges are those of random images in [0, 1].

    Args:
        operations: kinds of nodes that are quantized; None: all that ONNX Runtime can.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory() as folder, _quiet():
        whole, quantized = Path(folder) / "whole.onnx", Path(folder) / "int8.onnx"
        whole.write_bytes(model)
        quantize_static(
            whole,
            quantized,
            _random_images(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=operations,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return quantized.read_bytes()


def _random_images(images: Tensor) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # which has no types
        def __init__(self) -> None:
            generator = torch.Generator().manual_seed(1)
            shape = (_CALIBRATION, *images.shape)
            self._batches = iter(torch.rand(shape, generator=generator).numpy())

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self._batches, None)
            return None if batch is None else {_INPUT: batch}

    return Reader()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantizer's advice, which goes to the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
