"""Products of two tensors that both vary, and attention.

A tensor's matrix [M, K] lies in [K, *rows, M]: so its channels go in front of its last axis, and what is multiplied
there is the transposed product, [N, M] = [N, K]·[K, M].
"""

from __future__ import annotations

import numpy as np

from .call import Call, Shape


def matmul(call: Call) -> str:
    """scale times the product."""
    return product_of(call, call.x, call.inputs[1], call.setting("scale"))


def product_of(call: Call, left: str, right: str, scale: float) -> str:
    """The product that the settings of a node describe, of these values in the place of its inputs, times a number."""
    axes = max(2, *map(len, call.shapes))
    turned = call.setting("transposed")
    one = as_columns(call, left, call.shapes[0], axes, turned=bool(turned[0]))
    two = as_columns(call, right, call.shapes[1], axes, turned=bool(turned[1]))
    value = call.op("MatMul", two, one)
    if scale != 1.0:
        value = call.op("Mul", value, call.number("scale", scale))
    return _back(call, value, axes)


def as_columns(call: Call, value: str, shape: Shape, axes: int, *, turned: bool = False) -> str:
    """[K, *rows, M] as [batch, *rows, K, M] of so many axes without the batch; turned, its ends change places."""
    full = (shape[0], *[1] * (axes - max(2, len(shape))), *(shape[1:] if len(shape) > 1 else (1,)))
    value = value if full == shape else call.reshaped(value, full)
    middle = range(2, axes)
    return call.transposed(value, (0, *middle, axes, 1) if turned else (0, *middle, 1, axes))


def _back(call: Call, value: str, axes: int) -> str:
    """[batch, *rows, N, M] as the node's value, [batch, N, *rows, M], perhaps without ones in front of the rows."""
    value = call.transposed(value, (0, axes - 1, *range(1, axes - 1), axes))
    return call.reshaped(value, call.node.shape, is_last=True)


def attention(call: Call) -> str:
    """softmax(scale·q kᵀ + bias) v; zeros where a query sees no key."""
    axes = max(2, *map(len, call.shapes))
    shapes = call.shapes
    q, k, v = (as_columns(call, value, shape, axes) for value, shape in zip(call.inputs[:3], shapes[:3], strict=True))
    heads = _heads(shapes[0], axes)
    k, v = (_for_heads(call, value, shape, heads, axes) for value, shape in ((k, shapes[1]), (v, shapes[2])))
    swapped = (*range(axes - 1), axes, axes - 1)
    q = call.transposed(call.op("Mul", q, call.number("scale", call.setting("scale"))), swapped)
    scores = call.op("MatMul", q, k)  # [batch, *heads, T, S]
    if len(call.inputs) > 3:
        scores = call.op("Add", scores, call.transposed(as_columns(call, call.inputs[3], shapes[3], axes), swapped))
    if call.setting("causal"):
        seen = np.tri(_last(shapes[0]), _last(shapes[1]), dtype=bool)
        scores = call.op("Where", call.constant("seen", seen), scores, call.number("unseen", -np.inf))
    shares = call.op("Softmax", scores, axis=axes)
    if len(call.inputs) > 3:
        is_none = call.op("IsNaN", shares)
        shares = call.op("Where", is_none, call.number("nothing", 0), shares)
    means = call.op("MatMul", v, call.transposed(shares, swapped))  # [batch, *heads, E, T]
    return _back(call, means, axes)


def _last(shape: Shape) -> int:
    return shape[-1] if len(shape) > 1 else 1


def _heads(shape: Shape, axes: int) -> int:
    """The last axis in front of the matrix."""
    return shape[-2] if axes > 2 and len(shape) > 2 else 1


def _for_heads(call: Call, value: str, shape: Shape, heads: int, axes: int) -> str:
    """Keys or values [batch, *heads, D, S] as many as there are heads of queries, where these share them."""
    own = _heads(shape, axes)
    if not 1 < own < heads:
        return value
    places = np.repeat(np.arange(own), heads // own).tolist()
    return call.op("Gather", value, call.integers("shared", places), axis=axes - 2)
