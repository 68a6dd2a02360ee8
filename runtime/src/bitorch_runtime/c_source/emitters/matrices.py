"""Products of matrices, and attention."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..body import Body
from ..tensors import CTensor
from .axes import Axis, strides_of, write_axes


def _leading(first: CTensor, second: CTensor, shape: Sequence[int]) -> list[Axis]:
    """How far apart two tensors' matrices are along the axes in front of them, of what comes out."""
    steps = []
    for tensor in (first, second):
        sizes = [*tensor.axes(len(shape) + 1), tensor.channels]
        steps.append([0 if size == 1 else step for size, step in zip(sizes, strides_of(sizes), strict=True)][:-2])
    return [Axis(*each) for each in zip(shape, *steps, strict=True)]


def _matrices(body: Body, y: CTensor, write: str) -> None:
    """Write a loop over the matrices of a product, and what is done with each; {size} is how many numbers it gives."""
    a, b = body.inputs()
    turned = body.operation.get("transposed", [0, 0])
    leading = y.rows[:-1]
    (m, k), (k_again, n) = (
        _rows_and_columns(tensor, is_turned) for tensor, is_turned in zip((a, b), turned, strict=True)
    )
    assert k == k_again
    a_steps, b_steps = ((1, x.channels) if t else (x.channels, 1) for x, t in zip((a, b), turned, strict=True))
    body.use("matrices")
    body.line(f"static const net_matrices shape = {{{', '.join(map(str, (m, n, k, *a_steps, *b_steps)))}}};")
    axes = write_axes(body, _leading(a, b, leading))
    with body.loop("i", math.prod(leading)):
        body.line("uint32_t first_a, first_b;")
        body.line(f"net_find({axes.rpartition(',')[0]}, i, &first_a, &first_b);")
        body.line(write.format(size=m * n))


def _rows_and_columns(tensor: CTensor, turned: int) -> tuple[int, int]:
    rows = tensor.rows[-1]
    return (tensor.channels, rows) if turned else (rows, tensor.channels)


def matmul(body: Body) -> None:
    """Write matmul."""
    y = body.tensor("output")
    body.read(body.inputs()[0], "a")
    body.read(body.inputs()[1], "b")
    body.give(y, "y")
    scale = body.scalar(float(body.operation.get("scale", 1.0)))
    body.use("multiply_floats", "axes")
    _matrices(body, y, f"net_multiply_floats(&shape, a + first_a, b + first_b, {scale}, y + i * {{size}});")


def matmul_codes(body: Body) -> None:
    """Write matmul_codes."""
    operation, inputs = body.operation, body.inputs()
    y = body.tensor("int32" if "int32" in operation else "float32")
    zeros, signs = operation.get("zero_points", [0, 0]), operation.get("signs", [0, 0])
    sums = body.give(body.tensor("int32"), "d") if "int32" in operation else body.working("int32_t", y.count, "d")
    body.use("multiply_codes", "axes")
    for name, tensor, zero, sign in zip("ab", inputs, zeros, signs, strict=True):
        codes = body.read(tensor, f"{name}_codes")
        body.line(f"const net_factor {name} = {{{codes}, {tensor.field}, {2 if sign else 1}, {1 if sign else zero}}};")
    _matrices(body, y, f"net_multiply_codes(&shape, &a, first_a, &b, first_b, {sums} + i * {{size}});")
    if "float32" in operation:
        out = body.give(body.tensor("float32"), "y")
        body.call("sums_as_floats", sums, out, y.count)
        body.call("multiply_all", out, float(operation["scale"]), y.count)


def attention(body: Body) -> None:
    """Write attention: head by head."""
    operation, y = body.operation, body.tensor("output")
    query, key, value, *others = body.inputs()
    bias = others[0] if others else None
    leading = y.rows[:-1]
    keys, queries = key.rows[-1], query.rows[-1]
    names = [body.read(tensor, name) for tensor, name in zip((query, key, value), "qkv", strict=True)]
    added = "0" if bias is None else f"{body.read(bias, 'bias')} + first_bias"
    out, scores = body.give(y, "y"), body.working("float", keys, "scores")
    body.use("axes")
    first = write_axes(body, _shared(query, key, leading), "axes")
    second = write_axes(body, _shared(bias, value, leading), "more")
    sizes = (queries, f"{names[1]} + first_k, {names[2]} + first_v", keys, query.channels, value.channels)
    bias_step = 0 if bias is None or bias.rows[-1] == 1 else keys
    ways = (added, bias_step, float(operation.get("scale", 1.0)), int(operation.get("causal", False)))
    with body.loop("i", math.prod(leading)):
        body.line("uint32_t first_q, first_k, first_v, first_bias;")
        body.line(f"net_find({first.rpartition(',')[0]}, i, &first_q, &first_k);")
        body.line(f"net_find({second.rpartition(',')[0]}, i, &first_bias, &first_v);")
        if bias is None:
            body.line("(void)first_bias;")
        body.call("attend", f"{names[0]} + first_q", *sizes, *ways, scores, f"{out} + i * {queries * value.channels}")


def _shared(one: CTensor | None, other: CTensor, leading: Sequence[int]) -> list[Axis]:
    """`_leading`, where neighbours along the last axis may share the matrix of the second tensor."""
    count = len(leading)
    sizes = [*other.axes(count + 1), other.channels]
    own = sizes[count - 1] if count else 1
    axes = _leading(other if one is None else one, other, leading) if own in (1, *leading[-1:]) else []
    if axes or count == 0:
        return [Axis(axis.size, 0 if one is None else axis.source, axis.target) for axis in axes]
    share = leading[-1] // own
    split = [*leading[:-1], own, share]
    steps = [0 if size == 1 else step for size, step in zip(sizes, strides_of(sizes), strict=True)][:count]
    first: list[int] = [0] * (count + 1)
    if one is not None:
        shape = [*one.axes(count + 1), one.channels]
        by_axis = [0 if size == 1 else step for size, step in zip(shape, strides_of(shape), strict=True)][:count]
        first = [*by_axis[:-1], by_axis[-1] * share, by_axis[-1]]
    return [Axis(*each) for each in zip(split, first, [*steps, 0], strict=True)]
