"""Layers with weights: convolutions, transposed ones, linear layers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ....layers.exact_transposed import swap_channels
from ..require_onnx import onnx
from ..stored_weights import unpacked
from .call import Call, floats

_FLOAT = onnx.TensorProto.FLOAT
#: The opset since which bits can be masked: in older ones codes stay bytes.
_MASKS = 18


def conv(call: Call) -> str:
    """A float convolution, of one dimension to three, transposed or not."""
    weight = call.setting("weight")
    if "output_padding" in call.node.settings:
        weight = swap_channels(weight, call.setting("groups"))
    bias = call.setting("bias")
    fixed = "" if bias is None else call.constant("bias", floats(bias))
    return convolution(call, call.x, call.constant("weight", floats(weight)), fixed)


def convolution(call: Call, x: str, weight: str, bias: str = "", *, pads: bool = True, is_last: bool = True) -> str:
    """The convolution that the settings of a node describe, of these values.

    Args:
        weight: as ONNX has it: [C_out, C_in/groups, …], of a transposed one [C_in, C_out/groups, …].
        bias: [C_out]; "" for none.
        pads: False where the borders are there already.
        is_last: whether this is the node's value.
    """
    inputs = (x, weight, bias) if bias else (x, weight)
    add = call.last if is_last else call.op
    kernel, stride, dilation = (list(call.setting(key)) for key in ("kernel_size", "stride", "dilation"))
    window = {"kernel_shape": kernel, "strides": stride, "dilations": dilation, "group": call.setting("groups")}
    padding = call.setting("padding")
    if "output_padding" in call.node.settings:
        more = list(call.setting("output_padding"))
        return add("ConvTranspose", *inputs, pads=[*padding, *padding], output_padding=more, **window)
    borders = [*padding[::2], *padding[1::2]] if pads else [0] * len(padding)
    return add("Conv", *inputs, pads=borders, **window)


def linear(call: Call) -> str:
    """A float linear layer, of the channels at each place of the rows."""
    weight, bias = floats(call.setting("weight")), call.setting("bias")
    added = None if bias is None else floats(bias)
    if call.shapes[0][1:]:
        return _of_rows(call, call.constant("weight", weight), added)
    if call.exact:
        inputs = (call.x, call.constant("weight", weight))
        return call.last("Gemm", *inputs, *(() if added is None else (call.constant("bias", added),)), transB=1)
    # Readers of quantized nets know this product better.
    product = (call.last if added is None else call.op)("MatMul", call.x, call.constant("weight", weight.T))
    return product if added is None else call.last("Add", product, call.constant("bias", added))


def weight_only(call: Call) -> str:
    """A linear layer whose weight is kept in its bits, and made of codes and scales by operators when it is loaded."""
    bits, codes, scale = call.setting("weight_bits"), call.setting("weight"), floats(call.setting("scale"))
    step, lowest = (1, -(2 ** (bits - 1))) if call.setting("weight_grid") == "signed" else (2, 1 - 2**bits)
    stored = ((codes.detach().numpy().astype(np.int64) - lowest) // step).astype(np.uint8)
    groups = stored.reshape(*scale.shape, -1)  # [F_out, G, F_in / G]
    has_masks = call.writer.opset >= _MASKS
    kept = unpacked(call.writer, groups, bits) if has_masks else call.constant("weight", groups)
    numbers = call.op("Cast", kept, to=_FLOAT)
    if step != 1:
        numbers = call.op("Mul", numbers, call.number("step", step))
    numbers = call.op("Add", numbers, call.number("lowest", lowest))
    numbers = call.op("Mul", numbers, call.constant("scale", scale[:, :, np.newaxis]))
    weight = call.op("Reshape", numbers, call.constant("shape", np.array(stored.shape, np.int64)))
    bias = call.setting("bias")
    added = None if bias is None else floats(bias)
    if call.shapes[0][1:]:
        return _of_rows(call, weight, added)
    return call.last("Gemm", call.x, weight, *(() if added is None else (call.constant("bias", added),)), transB=1)


def _of_rows(call: Call, weight: str, bias: NDArray[np.float32] | None) -> str:
    """The product of a weight [F_out, F_in] and [batch, F_in, *rows]: the weight stands on the left of it."""
    x, rows = call.x, call.shapes[0][1:]
    flat = len(rows) > 1
    x = call.reshaped(x, (call.shapes[0][0], -1)) if flat else x
    add = call.op if flat or bias is not None else call.last
    value = add("MatMul", weight, x)
    if bias is not None:
        value = (call.op if flat else call.last)("Add", value, call.constant("bias", bias.reshape(-1, 1)))
    return call.reshaped(value, call.node.shape, is_last=True) if flat else value
