"""Exact sums D of codes and weights, in stock operators.

ConvInteger has no fast kernel for signed weights in ONNX Runtime, and takes 20 times as long as a convolution in 8
bits. MatMulInteger has one: so the pixels that an output sees are gathered side by side, as rows of a matrix, which
takes up to one and a half times as long as QLinearConv, where float32 takes four times and more. What is left, groups
and transposed convolutions, is computed in float32 on integers, exactly up to 2^24.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitorch_runtime.reference.packed_weights import code_line

from ...layers.exact_transposed import swap_channels
from ..graph.graph import Graph, Node
from ..runtime.fuse_thresholds import reach
from .require_onnx import onnx
from .stored_weights import number, shape, unpacked
from .writer import Writer

_INT32, _INT8, _FLOAT = onnx.TensorProto.INT32, onnx.TensorProto.INT8, onnx.TensorProto.FLOAT
_UINT8 = onnx.TensorProto.UINT8
_FEW_CHANNELS = 16
#: float32 has all integers up to here.
EXACT = 2**24
#: Kernels without VNNI add two products in 16 bits.
_PAIR = 2**15 - 1


@dataclass(frozen=True)
class Product:
    """A node of kind `product` as it is written.

    Attributes:
        node: of the graph.
        zero: the stored code that stands for 0: ±1 are stored as 2 and 0.
        most: the largest stored code.
    """

    node: Node
    zero: int
    most: int

    @classmethod
    def of(cls, node: Node) -> Product:
        """Read the settings of a node."""
        inputs, _ = node.settings["largest"]
        sign, zero = node.settings["sign"], node.settings["zero_point"]
        return cls(node, 1 if sign else zero, 2 if sign else inputs + zero)

    @property
    def spatial(self) -> int:
        """How many axes of rows a convolution has; 0 of a linear layer."""
        return len(self.node.settings.get("kernel_size", ()))

    @property
    def is_transposed(self) -> bool:
        return "output_padding" in self.node.settings

    @property
    def groups(self) -> int:
        return int(self.node.settings.get("groups", 1))

    @property
    def weight(self) -> NDArray[np.int64]:
        """The integers, [C_out, C_in / groups, *kernel], or [C_in, C_out / groups, *kernel] of a transposed one."""
        codes = self.node.settings["weight"].detach()
        codes = swap_channels(codes, self.groups) if self.is_transposed else codes
        weight: NDArray[np.int64] = codes.numpy().astype(np.int64)
        return weight

    @property
    def largest_weight(self) -> int:
        return int(np.abs(self.weight).max(initial=1))

    @property
    def most_factor(self) -> int:
        """The largest factor of the weights with which they fit into 8 bits, and pairs of products into 16; 0: none."""
        return min(127 // self.largest_weight, _PAIR // (2 * self.most * self.largest_weight))

    @property
    def ends(self) -> tuple[int, int]:
        """The least and the largest sum that there can be."""
        least, most = (-1, 1) if self.node.settings["sign"] else (-self.zero, self.most - self.zero)
        weight = self.weight.reshape(self.node.channels, -1)
        above, below = weight.clip(min=0).sum(1), weight.clip(max=0).sum(1)
        return int((above * least + below * most).min()), int((above * most + below * least).max())

    @property
    def fits_float(self) -> bool:
        """Whether float32 has every sum."""
        return reach(self.node)[1] < EXACT


def weight_in_32_bits(writer: Writer, product: Product, order: tuple[int, ...]) -> str:
    """Return the weights with their axes in an order, int32, from as many bits as they have."""
    settings = product.node.settings
    bits = settings["weight_bits"]
    step, lowest = code_line(bits, settings["weight_grid"])
    stored = (product.weight.transpose(order) - lowest) // step
    value = unpacked(writer, stored.astype(np.uint8), bits)
    if step != 1:
        value = writer.node("Mul", [value, number(writer, step)])
    return writer.node("Add", [value, number(writer, lowest)])


def is_gathered(graph: Graph, product: Product) -> bool:
    """Whether sums of a convolution are rows of a matrix product, whose channels lie last in memory."""
    few = graph[product.node.inputs[0]].shape[0] < _FEW_CHANNELS
    # Where a pixel has few channels, gathering it takes longer than a convolution of floats.
    is_thin = few and product.fits_float
    return product.spatial > 0 and not (product.is_transposed or product.groups > 1 or is_thin)


def exact_sum(writer: Writer, graph: Graph, product: Product, x: str) -> str:
    """Write the sums of a node, int32 [batch, *shape]; x: the stored codes, uint8."""
    before = graph[product.node.inputs[0]].shape
    if is_gathered(graph, product):
        rows = _patches(writer, product, x, before)
    elif product.spatial == 0:
        rows = _channels_last(writer, x, len(before))
    else:
        return _in_floats(writer, product, x)
    sums, last = _times_weight(writer, product, rows), len(before)
    if last == 1:
        return writer.node("Identity", [sums], product.node.name)
    return writer.node("Transpose", [sums], product.node.name, perm=[0, last, *range(1, last)])


def _channels_last(writer: Writer, x: str, axes: int) -> str:
    return x if axes == 1 else writer.node("Transpose", [x], perm=[0, *range(2, axes + 1), 1])


def _patches(writer: Writer, product: Product, x: str, before: tuple[int, ...]) -> str:
    """What each output sees, [batch, *rows, kernel·C]: kernel by kernel, its channels last."""
    settings = product.node.settings
    channels, *sizes = before
    kernel, stride, padding, dilation = (settings[key] for key in ("kernel_size", "stride", "padding", "dilation"))
    value = _channels_last(writer, x, len(before))
    if math.prod(kernel) == 1 and not any(padding) and set(stride) == {1}:
        return value
    if any(padding):
        widths = np.array([0, *padding[::2], 0, 0, *padding[1::2], 0], np.int64)
        zero = writer.constant("zero", np.uint8(product.zero))
        value = writer.node("Pad", [value, writer.constant("padding", widths), zero])
        sizes = [size + a + b for size, a, b in zip(sizes, padding[::2], padding[1::2], strict=True)]
    value = writer.node("Reshape", [value, shape(writer, [0, -1, channels])])
    out = product.node.shape[1:]
    seen = writer.node("Gather", [value, _places(writer, out, kernel, stride, dilation, sizes)], axis=1)
    if math.prod(kernel) == 1:
        return seen
    return writer.node("Reshape", [seen, shape(writer, [0, *out, math.prod(kernel) * channels])])


def _places(
    writer: Writer,
    out: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    sizes: list[int],
) -> str:
    """Of each output and place of the kernel the pixel, int32 [*out, kernel], as a sum of what each axis gives.

    A kernel of one place has no axis.
    """
    steps = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
    offsets = np.zeros((), np.int64)
    for k, d, step in zip(kernel, dilation, steps, strict=True):
        offsets = offsets[..., None] + np.arange(k) * d * step
    is_one = offsets.size == 1
    value = "" if is_one else writer.constant("offsets", offsets.reshape(-1).astype(np.int32))
    for axis, (count, s, step) in enumerate(zip(out, stride, steps, strict=True)):
        behind = len(out) - axis - is_one
        starts = writer.constant("starts", (np.arange(count) * s * step).astype(np.int32).reshape(-1, *[1] * behind))
        value = writer.node("Add", [value, starts]) if value else starts
    return value


def _times_weight(writer: Writer, product: Product, rows: str) -> str:
    """The product of rows of codes, [batch, …, K], and the weights, int32 [batch, …, C_out]."""
    spatial, channels = product.spatial, product.node.shape[0]
    order = (*range(2, 2 + spatial), 1, 0)
    weight = weight_in_32_bits(writer, product, order)
    if spatial:
        weight = writer.node("Reshape", [weight, shape(writer, [-1, channels])])
    zero = writer.constant("zero", np.uint8(product.zero)) if product.zero else ""
    if product.most_factor >= 1:
        weight = writer.node("Cast", [weight], to=_INT8)
        return writer.node("MatMulInteger", [rows, weight, zero] if zero else [rows, weight])
    if product.largest_weight <= 127:
        weight = writer.node("Cast", [writer.node("Add", [weight, number(writer, 128)])], to=_UINT8)
        return writer.node("MatMulInteger", [rows, weight, zero, writer.constant("middle", np.uint8(128))])
    return _in_two_parts(writer, rows, weight, zero)


def _in_two_parts(writer: Writer, rows: str, weight: str, zero: str) -> str:
    """With weights of 9 bits, from −255 to 255: twice their halves, rounded down, and what is left of them."""
    half = writer.node("BitwiseAnd", [weight, number(writer, 1)])
    rounded = writer.node("Div", [writer.node("Sub", [weight, half]), number(writer, 2)])
    middle = writer.constant("middle", np.uint8(128))
    upper = writer.node("Cast", [writer.node("Add", [rounded, number(writer, 128)])], to=_UINT8)
    lower = writer.node("Cast", [half], to=_UINT8)
    twice = writer.node("Mul", [writer.node("MatMulInteger", [rows, upper, zero, middle]), number(writer, 2)])
    return writer.node("Add", [twice, writer.node("MatMulInteger", [rows, lower, zero] if zero else [rows, lower])])


def window(product: Product) -> dict[str, Any]:
    """The attributes of a convolution."""
    settings = product.node.settings
    padding = settings["padding"]
    is_both_ends = len(padding) == 2 * product.spatial
    pads = [*padding[::2], *padding[1::2]] if is_both_ends else [*padding, *padding]
    return {
        "kernel_shape": list(settings["kernel_size"]),
        "strides": list(settings["stride"]),
        "dilations": list(settings["dilation"]),
        "pads": pads,
        "group": product.groups,
    }


def _in_floats(writer: Writer, product: Product, x: str) -> str:
    """Sums of integers in float32. They pass through int32, so that no optimizer puts what follows into the weights."""
    value = writer.node("Cast", [x], to=_FLOAT)
    if product.zero:
        value = writer.node("Sub", [value, writer.constant("zero", np.float32(product.zero))])
    weight = weight_in_32_bits(writer, product, tuple(range(2 + product.spatial)))
    weight = writer.node("Cast", [weight], to=_FLOAT)
    if product.is_transposed:
        more = list(product.node.settings["output_padding"])
        sums = writer.node("ConvTranspose", [value, weight], **window(product), output_padding=more)
    else:
        sums = writer.node("Conv", [value, weight], **window(product))
    return writer.node("Cast", [sums], product.node.name, to=_INT32)
