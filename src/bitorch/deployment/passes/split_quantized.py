"""Passes that take quantized layers apart: quantizer, padding, exact product, scale, bias."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...layers import QConv1d, QConv2d, QLinear
from ...layers.exact import over_outputs, scaled_convolution, scaled_linear
from ...quantizations import (
    InputDoReFa,
    Quantization,
    RangeQuantization,
    RSign,
    Sign,
)
from ...quantizations.base import divide
from ..graph.graph import Graph, Node


def drop_identities(graph: Graph) -> Graph:
    """Remove the nodes that give what they get, such as dropout; those that add or drop dimensions of 1 stay."""
    names: dict[str, str] = {}
    for node in graph:
        if node.kind == "identity" and node.shape == graph[node.inputs[0]].shape:
            names[node.name] = names.get(node.inputs[0], node.inputs[0])
    renamed = graph.renamed(names)
    return Graph(tuple(node for node in renamed if node.name not in names), renamed.outputs)


def read_pixels(graph: Graph) -> Graph:
    """Let the inputs be uint8 pixels q in place of floats q/255."""
    nodes: list[Node] = []
    names: dict[str, str] = {}
    for node in graph:
        if node.kind != "input":
            nodes.append(node)
            continue
        nodes.append(replace(node, settings={"pixels": True}))
        settings = {"bits": 8, "sign": False, "table": None}
        names[node.name] = f"{node.name}/float"
        nodes.append(Node(names[node.name], "values", (node.name,), node.shape, pixel_values, settings, node.place))
    read = [replace(n, inputs=tuple(names.get(i, i) for i in n.inputs)) if n.kind != "values" else n for n in nodes]
    return Graph(tuple(read), tuple(names.get(name, name) for name in graph.outputs))


def pixel_values(pixels: Tensor) -> Tensor:
    """The floats q/255 of uint8 pixels q, as `bitorch.data` makes them."""
    return divide(pixels.to(torch.float32), 255)


def split_quantized(graph: Graph) -> Graph:
    """Write low-bit layers as codes, pad, product, scale, plus; and quantizers that stand alone as codes, values."""
    nodes: list[Node] = []
    for node in graph:
        if node.kind == "low_bit":
            nodes.extend(_split_layer(node, graph[node.inputs[0]].shape))
        elif node.kind == "quantizer":
            nodes.extend(_split_quantizer(node))
        else:
            nodes.append(node)
    return Graph(tuple(nodes), graph.outputs)


def quantized(node: Node, quantizer: Quantization, shape: tuple[int, ...]) -> list[Node]:
    """Return the nodes from a node's input to the stored codes of a quantizer, the last of them `codes`.

    A range of its own is a division, and an addition for its zero point, in front of the unit quantizer; RSign is an
    addition in front of Sign, for x + (−α) has the bits of x − α.
    """
    nodes: list[Node] = []

    def add(step: str, kind: str, function: Callable[[Tensor], Tensor], settings: dict[str, Any]) -> None:
        inputs = (nodes[-1].name,) if nodes else node.inputs
        nodes.append(Node(f"{node.name}/{step}", kind, inputs, shape, function, settings, node.place))

    if isinstance(quantizer, RangeQuantization):
        width, n = quantizer.width().clone(), 2**quantizer.bit_width - 1
        add("range", "divide", lambda x: x / width, {"constant": width.reshape(1)})
        if quantizer.zero_point() != 0:
            shift = quantizer.zero().clone() / n
            add("zero", "plus", lambda x: x + shift, {"constant": shift.reshape(1)})
        quantizer = InputDoReFa(quantizer.bit_width, variant="paper")
    elif isinstance(quantizer, RSign):
        negative = -quantizer.shift.detach().flatten()
        add("shift", "plus", _plus(negative), {"constant": negative})
        quantizer = Sign()
    settings = {"quantizer": quantizer, "bits": quantizer.bit_width, "sign": not quantizer.unsigned}
    add("codes", "codes", quantizer.codes, settings)
    return nodes


def _split_quantizer(node: Node) -> list[Node]:
    quantizer: Quantization = node.settings["quantizer"]
    nodes = quantized(node, quantizer, node.shape)
    settings = {"bits": nodes[-1].settings["bits"], "sign": nodes[-1].settings["sign"]}
    n = 1 if settings["sign"] else 2**quantizer.bit_width - 1
    table, function = None, _values(n)
    if isinstance(quantizer, RangeQuantization):
        function = _scaled_values(quantizer)
        table = function(torch.arange(n + 1, dtype=torch.float32))
    codes = nodes[-1].name
    return [
        *nodes,
        replace(node, kind="values", inputs=(codes,), function=function, settings={**settings, "table": table}),
    ]


def _values(n: int) -> Callable[[Tensor], Tensor]:
    return lambda codes: divide(codes, n)


def _scaled_values(quantizer: RangeQuantization) -> Callable[[Tensor], Tensor]:
    zero, scale = quantizer.zero_point(), quantizer.scale(torch.zeros(1)).clone()
    return lambda codes: (codes - zero) * scale


def _split_layer(node: Node, input_shape: tuple[int, ...]) -> list[Node]:
    layer: QConv1d | QConv2d | QLinear = node.settings["layer"]
    nodes = quantized(node, layer.input_quantization, input_shape)
    sign = nodes[-1].settings["sign"]
    if isinstance(layer, QLinear):
        geometry, function = {}, _linear_product(layer)
    else:
        pad = _explicit_pad(node, layer, nodes[-1])
        nodes.extend(pad)
        geometry, function = _geometry(layer, padded=bool(pad)), _convolution_product(layer, padded=bool(pad))
    product = Node(
        f"{node.name}/sum",
        "product",
        (nodes[-1].name,),
        node.shape,
        function,
        {"layer": layer, "sign": sign, "zero_point": layer.input_quantization.zero_point(), **geometry},
        node.place,
    )
    scale = layer_scale(layer)
    scaled = Node(
        f"{node.name}/scale" if layer.bias is not None else node.name,
        "scale",
        (product.name,),
        node.shape,
        _times(scale),
        {"scale": scale.flatten()},
        node.place,
    )
    nodes.extend((product, scaled))
    if layer.bias is not None:
        bias = layer.bias.detach().clone()
        nodes.append(
            replace(node, kind="plus", inputs=(scaled.name,), function=_plus(bias), settings={"constant": bias})
        )
    return nodes


def layer_scale(layer: QConv1d | QConv2d | QLinear) -> Tensor:
    """What one unit of D is worth, 0-dim or [C_out, 1, …]: both scales' product, in float32 as the layer has it."""
    with torch.no_grad():
        weight_scale = layer.weight_quantization.scale(layer.weight)
        return layer.input_quantization.scale(layer.weight).to(weight_scale.dtype) * weight_scale


def _times(scale: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda d: d * over_outputs(scale, d.dim() - 2)


def _plus(bias: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: x + bias.view(-1, *[1] * (x.dim() - 2))


def pad_code(layer: QConv1d | QConv2d) -> int:
    """The code, on the quantizer's grid, that the borders of a layer are filled with."""
    grid = layer.input_quantization.max_code
    assert grid is not None  # capture refuses layers without a grid
    return layer._pad_code(grid)


def _explicit_pad(node: Node, layer: QConv1d | QConv2d, codes: Node) -> list[Node]:
    """A node that pads codes, where it is more than the zeros that the product takes borders for."""
    borders = layer._borders()
    value = pad_code(layer)
    if not any(map(any, borders)) or (layer.padding_mode == "zeros" and value == 0):
        return []
    sizes = tuple(size + before + after for size, (before, after) in zip(codes.shape[1:], borders, strict=True))
    settings = {
        "padding": tuple(width for border in borders for width in border),
        "channels": (0, 0),
        "mode": {"zeros": "constant"}.get(layer.padding_mode, layer.padding_mode),
        "value": (value + 1) // 2 if codes.settings["sign"] else value,
    }
    shape = (codes.shape[0], *sizes)
    return [Node(f"{node.name}/pad", "pad", (codes.name,), shape, _padded(layer, value), settings, node.place)]


def _padded(layer: QConv1d | QConv2d, value: int) -> Callable[[Tensor], Tensor]:
    return lambda codes: layer._padded(codes, float(value))  # stored codes: only zeros have a code of their own


def _geometry(layer: QConv1d | QConv2d, *, padded: bool) -> dict[str, Any]:
    borders = [(0, 0)] * len(layer.kernel_size) if padded else layer._borders()
    return {
        "kernel_size": tuple(layer.kernel_size),
        "stride": tuple(layer.stride),
        "padding": tuple(width for border in borders for width in border),
        "dilation": tuple(layer.dilation),
        "groups": layer.groups,
    }


def weight_codes(layer: QConv1d | QConv2d | QLinear) -> Tensor:
    """The integers behind the weight, float32."""
    with torch.no_grad():
        return layer.weight_quantization.codes(layer.weight)


def max_codes(layer: QConv1d | QConv2d | QLinear) -> tuple[int, int]:
    """Largest absolute codes of input (borders included) and weight."""
    codes = layer._max_codes()
    assert codes is not None  # capture refuses layers without a grid
    return codes


def _linear_product(layer: QLinear) -> Callable[[Tensor], Tensor]:
    weight, one = weight_codes(layer), torch.ones(())
    zero = layer.input_quantization.zero_point()

    def product(codes: Tensor) -> Tensor:  # [batch, F, *rows]
        features_last = (codes.to(weight.dtype) - zero).movedim(1, -1)
        return scaled_linear(features_last, weight, one, one, max_codes(layer)).movedim(-1, 1)

    return product


def _convolution_product(layer: QConv1d | QConv2d, *, padded: bool) -> Callable[[Tensor], Tensor]:
    weight, one = weight_codes(layer), torch.ones(())
    zero = layer.input_quantization.zero_point()

    def product(codes: Tensor) -> Tensor:
        codes = codes.to(weight.dtype) - zero  # pixels come as uint8
        x, padding = (codes, (0,) * len(layer.kernel_size)) if padded else layer._pad(codes, 0.0)
        return scaled_convolution(
            x, weight, one, one, max_codes(layer), layer.stride, padding, layer.dilation, layer.groups
        )

    return product
