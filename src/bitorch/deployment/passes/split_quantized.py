"""Passes that take quantized layers apart: quantizer, padding, exact product, scale, bias."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...layers.exact_transposed import Geometry, products_per_output, scaled_transposed_convolution
from ...layers.group_sums import scaled_groups
from ...layers.products import ConvolutionProduct, scaled_convolution, scaled_linear
from ...quantizations.arithmetic import is_sign
from ...quantizations.levels import divide
from ..graph.graph import Graph, Node
from .border_codes import with_border_codes
from .quantizer_codes import coded, over_channels
from .split_matmul import split_matmul


def drop_identities(graph: Graph) -> Graph:
    """Remove the nodes that give what they get, such as dropout; those that add or drop dimensions of 1 stay."""
    names: dict[str, str] = {}
    for node in graph:
        if node.kind == "identity" and node.shape == graph[node.inputs[0]].shape:
            names[node.name] = names.get(node.inputs[0], node.inputs[0])
    renamed = graph.renamed(names)
    return Graph(tuple(node for node in renamed if node.name not in names), renamed.outputs)


def read_pixels(graph: Graph) -> Graph:
    """Let the inputs be uint8 pixels q in place of floats q/255, which come behind a permutation of an input."""
    nodes: list[Node] = []
    names: dict[str, str] = {}
    for node in graph:
        if node.kind == "input" and node.settings["dtype"] == "float32":
            names[node.name] = f"{node.name}/float"
            nodes += [replace(node, settings={**node.settings, "pixels": True}), _floats(names[node.name], node)]
        elif node.kind == "permute" and node.inputs[0] in names:
            moved = replace(node, name=f"{node.name}/pixels")
            nodes += [moved, _floats(node.name, moved)]
        else:
            nodes.append(replace(node, inputs=tuple(names.get(name, name) for name in node.inputs)))
    return Graph(tuple(nodes), tuple(names.get(name, name) for name in graph.outputs)).pruned()


def _floats(name: str, pixels: Node) -> Node:
    settings = {"bits": 8, "sign": False, "table": None}
    return Node(name, "values", (pixels.name,), pixels.shape, pixel_values, settings, pixels.place)


def pixel_values(pixels: Tensor) -> Tensor:
    """The floats q/255 of uint8 pixels q, as `bitorch.data` makes them."""
    return divide(pixels.to(torch.float32), 255)


def split_quantized(graph: Graph) -> Graph:
    """Write low-bit layers as codes, pad, product, scale, plus; and quantizers that stand alone as codes, values.

    Of a layer with scales for groups of inputs, product, scale and plus are one: group_product.
    """
    nodes: list[Node] = []
    for node in graph:
        if node.kind == "low_bit_matmul":
            nodes.extend(split_matmul(node, *(graph[name].shape for name in node.inputs)))
        elif node.kind == "low_bit":
            nodes.extend(_split_layer(node, graph[node.inputs[0]].shape))
        elif node.kind == "quantizer":
            nodes.extend(_split_quantizer(node))
        else:
            nodes.append(node)
    return Graph(tuple(nodes), graph.outputs)


def _split_quantizer(node: Node) -> list[Node]:
    nodes = coded(node, node.shape)
    settings = {"bits": nodes[-1].settings["bits"], "sign": nodes[-1].settings["sign"]}
    n = 1 if settings["sign"] else 2 ** settings["bits"] - 1
    table, function = None, _values(n)
    if node.settings["code_scale"] is not None:
        function = _scaled_values(node.settings["zero_point"], node.settings["code_scale"])
        stored = torch.arange(n + 1, dtype=torch.float32)
        table = function(2 * stored - 1 if settings["sign"] else stored)
    codes = nodes[-1].name
    return [
        *nodes,
        replace(node, kind="values", inputs=(codes,), function=function, settings={**settings, "table": table}),
    ]


def _values(n: int) -> Callable[[Tensor], Tensor]:
    return lambda codes: divide(codes, n)


def _scaled_values(zero: int, scale: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda codes: (codes - zero) * scale


def _split_layer(node: Node, input_shape: tuple[int, ...]) -> list[Node]:
    nodes = coded(node, input_shape)
    if node.settings["scale"].dim() > 1:
        return [*nodes, _group_product(node, nodes[-1])]
    is_convolution = "kernel_size" in node.settings
    if is_convolution:
        node, wider = with_border_codes(node, nodes[-1])
        nodes.extend(wider)
        nodes.extend(_explicit_pad(node, nodes[-1]))
    product = _product(node, nodes[-1], _geometry(node, padded=nodes[-1].kind == "pad") if is_convolution else {})
    scale, bias = node.settings["scale"], node.settings["bias"]
    scaled = Node(
        f"{node.name}/scale" if bias is not None else node.name,
        "scale",
        (product.name,),
        node.shape,
        lambda d: d * over_channels(scale, d),
        {"scale": scale},
        node.place,
        node.module,
    )
    nodes.extend((product, scaled))
    if bias is not None:
        nodes.append(
            replace(
                node,
                kind="plus",
                inputs=(scaled.name,),
                function=lambda x: x + over_channels(bias, x),
                settings={"constant": bias},
            )
        )
    return nodes


def _group_product(node: Node, codes: Node) -> Node:
    settings = _of_weight(node) | {key: node.settings[key] for key in ("scale", "bias")}
    return replace(
        node, kind="group_product", inputs=(codes.name,), function=_sum_of_groups(settings), settings=settings
    )


def _of_weight(node: Node) -> dict[str, Any]:
    """The settings of a product of codes and a layer's weight."""
    kept = ("weight", "weight_bits", "weight_grid", "largest", "zero_point")
    return {name: node.settings[name] for name in kept} | {"sign": is_sign(node.settings["form"])}


def _product(node: Node, codes: Node, geometry: dict[str, Any]) -> Node:
    settings = _of_weight(node) | geometry
    function = _product_of_window(settings) if geometry else _linear_product(settings)
    return Node(f"{node.name}/sum", "product", (codes.name,), node.shape, function, settings, node.place, node.module)


def _explicit_pad(node: Node, codes: Node) -> list[Node]:
    """A node that pads codes, where it is more than the zeros that the product takes borders for."""
    padding, mode, value = (node.settings[name] for name in ("padding", "padding_mode", "pad_code"))
    if not any(padding) or (mode == "zeros" and value == 0) or "output_padding" in node.settings:
        return []
    sizes = tuple(
        size + before + after for size, before, after in zip(codes.shape[1:], padding[::2], padding[1::2], strict=True)
    )
    if not codes.settings["sign"]:
        value += node.settings["zero_point"]  # as it is stored
    settings = {
        "padding": padding,
        "channels": (0, 0),
        "mode": "constant" if mode == "zeros" else mode,
        "value": (value + 1) // 2 if codes.settings["sign"] else value,
    }
    shape = (codes.shape[0], *sizes)
    function = _padded(padding, settings["mode"], float(value))
    return [Node(f"{node.name}/pad", "pad", (codes.name,), shape, function, settings, node.place, node.module)]


def _padded(padding: tuple[int, ...], mode: str, value: float) -> Callable[[Tensor], Tensor]:
    """Pad codes by (before, after) of each dimension, outermost first."""
    widths = [width for before in range(len(padding) - 2, -1, -2) for width in padding[before : before + 2]]
    return lambda x: F.pad(x, widths, mode, value if mode == "constant" else None)


def _geometry(node: Node, *, padded: bool) -> dict[str, Any]:
    names = ("kernel_size", "stride", "padding", "dilation", "groups", "output_padding")
    geometry = {name: node.settings[name] for name in names if name in node.settings}
    return geometry | {"padding": (0,) * len(geometry["padding"])} if padded else geometry


def _linear_product(product: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
    weight, zero, largest = product["weight"], product["zero_point"], product["largest"]
    one = torch.ones(())

    def function(codes: Tensor) -> Tensor:  # [batch, F, *rows]
        features_last = (codes.to(weight.dtype) - zero).movedim(1, -1)
        return scaled_linear(features_last, weight, one, one, largest).movedim(-1, 1)

    return function


def _sum_of_groups(product: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
    weight, zero, largest, scale, bias = (product[key] for key in ("weight", "zero_point", "largest", "scale", "bias"))

    def function(codes: Tensor) -> Tensor:  # [batch, F, *rows]
        features_last = (codes.to(weight.dtype) - zero).movedim(1, -1)
        return scaled_groups(features_last, weight, scale, largest, bias).movedim(-1, 1)

    return function


def _product_of_window(product: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
    return _transposed_product(product) if "output_padding" in product else _convolution_product(product)


def _transposed_product(product: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
    weight, zero, largest = product["weight"], product["zero_point"], product["largest"]
    geometry = Geometry(*(product[name] for name in Geometry._fields))
    inputs = products_per_output(weight.shape[1], product["kernel_size"], geometry.stride, geometry.dilation)
    one = torch.ones(())

    def function(codes: Tensor) -> Tensor:
        x = codes.to(weight.dtype) - zero
        return scaled_transposed_convolution(x, weight, one, one, largest, inputs, geometry)

    return function


def _convolution_product(product: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
    weight, zero, largest = product["weight"], product["zero_point"], product["largest"]
    stride = product["stride"]
    convolution = ConvolutionProduct(stride, (0,) * len(stride), product["dilation"], product["groups"])
    pad, one = _padded(product["padding"], "constant", 0.0), torch.ones(())

    def function(codes: Tensor) -> Tensor:
        x = pad(codes.to(weight.dtype) - zero)  # pixels come as uint8
        return scaled_convolution(x, weight, one, one, largest, convolution)

    return function
