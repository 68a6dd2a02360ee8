"""Layers with weights: convolutions, transposed ones, linear layers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ....layers.exact_transposed import swap_channels
from .call import Call, floats


def conv(call: Call) -> str:
    """A float convolution, of one dimension to three, transposed or not."""
    weight = call.setting("weight")
    if "output_padding" in call.node.settings:
        weight = swap_channels(weight, call.setting("groups"))
    bias = call.setting("bias")
    fixed = "" if bias is None else call.constant("bias", floats(bias))
    return convolution(call, call.x, call.constant("weight", floats(weight)), fixed)


def convolution(call: Call, x: str, weight: str, bias: str = "", *, pads: bool = True) -> str:
    """The convolution that the settings of a node describe, of these values.

    Args:
        weight: as ONNX has it: [C_out, C_in/groups, …], of a transposed one [C_in, C_out/groups, …].
        bias: [C_out]; "" for none.
        pads: False where the borders are there already.
    """
    inputs = (x, weight, bias) if bias else (x, weight)
    kernel, stride, dilation = (list(call.setting(key)) for key in ("kernel_size", "stride", "dilation"))
    window = {"kernel_shape": kernel, "strides": stride, "dilations": dilation, "group": call.setting("groups")}
    padding = call.setting("padding")
    if "output_padding" in call.node.settings:
        more = list(call.setting("output_padding"))
        return call.last("ConvTranspose", *inputs, pads=[*padding, *padding], output_padding=more, **window)
    borders = [*padding[::2], *padding[1::2]] if pads else [0] * len(padding)
    return call.last("Conv", *inputs, pads=borders, **window)


def linear(call: Call) -> str:
    """A float linear layer, of the channels at each place of the rows."""
    bias = call.setting("bias")
    weight = call.constant("weight", floats(call.setting("weight")))
    return matrix_product(call, call.x, weight, None if bias is None else floats(bias))


def matrix_product(call: Call, x: str, weight: str, bias: NDArray[np.float32] | None = None) -> str:
    """The product of a weight [F_out, F_in] and a value [batch, F_in, *rows], and a bias [F_out]."""
    rows = call.shapes[0][1:]
    if not rows:
        inputs = (x, weight) if bias is None else (x, weight, call.constant("bias", bias))
        return call.last("Gemm", *inputs, transB=1)
    flat = len(rows) > 1
    x = call.reshaped(x, (call.shapes[0][0], -1)) if flat else x
    add = call.op if flat or bias is not None else call.last
    value = add("MatMul", weight, x)
    if bias is not None:
        value = (call.op if flat else call.last)("Add", value, call.constant("bias", bias.reshape(-1, 1)))
    return call.reshaped(value, call.node.shape, is_last=True) if flat else value
