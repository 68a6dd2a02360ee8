"""Rules for products of matrices: matmul, bmm, mm, addmm, baddbmm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..problems import PARTIAL, Refusal
from ..reader import Operand, Reader


def matmul(call: Reader, input: Tensor, other: Tensor) -> str:
    """The rule of torch.matmul, torch.bmm and torch.mm: of two tensors, or of one with a constant matrix."""
    if not (call.varies(input) and call.varies(other)):
        return _by_constant(call, input, other) if call.varies(input) else _of_constant(call, input, other)
    return product(call, input, other, 1.0)


def rmatmul(call: Reader, input: Tensor, other: Tensor) -> str:
    """The rule of Tensor.__rmatmul__: other @ input."""
    return matmul(call, other, input)


def addmm(call: Reader, input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> str:
    """The rule of torch.addmm: a linear layer."""
    if call.varies(input) or call.varies(mat2) or not call.varies(mat1):
        raise Refusal("addmm of more than one tensor of the image cannot be deployed", _apart("addmm", "mm"))
    bias = (beta * input.detach()).expand(call.result.shape)[0].clone()
    if bool((input.expand(call.result.shape) != input.expand(call.result.shape)[:1]).any()):
        raise Refusal("addmm adds other numbers to each image", _apart("addmm", "mm"))
    name = call.read(mat1, 1)
    return call.add("linear", name, weight=alpha * mat2.detach().T.clone(), bias=bias)


def baddbmm(call: Reader, input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> str:
    """The rule of torch.baddbmm with beta=0, where the first tensor only gives room for the result."""
    if beta != 0 or not (call.varies(batch1) and call.varies(batch2)):
        raise Refusal("baddbmm with a sum cannot be deployed", _apart("baddbmm", "bmm"))
    return product(call, batch1, batch2, float(alpha))


def _apart(function: str, product: str) -> str:
    return f"Write {function} as input + alpha * torch.{product}(a, b), {PARTIAL}"


def product(call: Reader, one: Tensor, two: Tensor, scale: float) -> str:
    """Add the product of two tensors [batch, *rows, M, K] and [batch, *rows, K, N] that both vary."""
    check_operands(one, two)
    transposed = tuple(int(call.innermost_axis(x) == x.dim() - 2) for x in (one, two))
    operands = [matrix(call, x, turned=bool(turned)) for x, turned in zip((one, two), transposed, strict=True)]
    return add_product(call, "matmul", operands, transposed=transposed, scale=scale)


def check_operands(one: Tensor, two: Tensor) -> None:
    """Refuse tensors whose first dimensions do not meet."""
    if one.dim() != two.dim() or one.dim() < 3:
        raise Refusal(
            f"it multiplies {['batch', *one.shape[1:]]} by {['batch', *two.shape[1:]]}, which mixes the images of a "
            "batch",
            f"Give both tensors as many dimensions, three or more, the batch first, {PARTIAL}",
        )


def constant_or_matrix(call: Reader, x: Tensor, *, turned: bool) -> Operand:
    """Read a tensor as `matrix`; a constant, such as learned queries, as a node of its own."""
    if call.varies(x):
        return matrix(call, x, turned=turned)
    if not bool((x == x[:1]).all()):
        raise Refusal("it reads a constant that is another one for each image", f"Give all the same, {PARTIAL}")
    return constant_operand(call, x[:1], x.dim(), None if x.shape[0] == 1 else x)


def matrix(call: Reader, x: Tensor, *, turned: bool) -> Operand:
    """Read [batch, *rows, M, K] as a node with the last axis as channels; or, turned, the last but one."""
    axis = x.dim() - (2 if turned else 1)
    return call.operand(x, lambda x: x.movedim(axis, 1), lambda value: value.movedim(1, axis))


def add_product(call: Reader, kind: str, operands: list[Operand], **settings: Any) -> str:
    """Add a node of several matrices, whose result is the call's, [batch, *rows, M, N]."""
    again, last = call.again_with(operands), call.result.dim() - 1
    return call.add(
        kind,
        *(operand.name for operand in operands),
        function=lambda *values: again(*values).movedim(last, 1),
        channels_at=last,
        **settings,
    )


def _by_constant(call: Reader, x: Tensor, constant: Tensor) -> str:
    """x [batch, *rows, K] times a constant: [K, N] is the weight of a linear layer."""
    if constant.dim() < 2 or x.dim() < 2:
        raise Refusal(
            f"it multiplies {['batch', *x.shape[1:]]} by a vector of {constant.numel()} numbers",
            f"Multiply with a matrix and drop the dimension: (x @ v.unsqueeze(-1)).squeeze(-1), {PARTIAL}",
        )
    last = x.dim() - 1
    if constant.shape[:-2].numel() == 1 and constant.dim() <= x.dim():
        weight = constant.detach().reshape(constant.shape[-2:]).T.clone()
        return call.add("linear", call.read(x, last), channels_at=last, weight=weight, bias=None)
    transposed = (int(call.innermost_axis(x) == x.dim() - 2), 0)
    _check_axes(x, constant)
    operands = [matrix(call, x, turned=bool(transposed[0])), constant_operand(call, constant, x.dim())]
    return add_product(call, "matmul", operands, transposed=transposed, scale=1.0)


def _of_constant(call: Reader, constant: Tensor, x: Tensor) -> str:
    """A constant [M, K] times x [batch, *rows, K, N]: a linear layer over the last axis but one."""
    if constant.dim() < 2 or x.dim() < 3:
        raise Refusal(
            f"it multiplies a constant of {list(constant.shape)} by {['batch', *x.shape[1:]]}, which mixes the images "
            "of a batch",
            f"Multiply from the other side: x @ matrix.T, {PARTIAL}",
        )
    axis = x.dim() - 2
    if constant.shape[:-2].numel() == 1 and constant.dim() <= x.dim():
        weight = constant.detach().reshape(constant.shape[-2:]).clone()
        return call.add("linear", call.read(x, axis), channels_at=axis, weight=weight, bias=None)
    _check_axes(x, constant)
    transposed = (0, int(call.innermost_axis(x) == x.dim() - 2))
    operands = [constant_operand(call, constant, x.dim()), matrix(call, x, turned=bool(transposed[1]))]
    return add_product(call, "matmul", operands, transposed=transposed, scale=1.0)


def _check_axes(x: Tensor, constant: Tensor) -> None:
    """Refuse a constant with a matrix for each image."""
    if constant.dim() > x.dim() or (constant.dim() == x.dim() and constant.shape[0] != 1):
        raise Refusal(
            f"it multiplies {['batch', *x.shape[1:]]} by a constant of {list(constant.shape)}, with a matrix for each "
            "image",
            f"Leave the first dimension of the constant out, {PARTIAL}",
        )


def constant_operand(call: Reader, constant: Tensor, dimensions: int, argument: Tensor | None = None) -> Operand:
    """Add a constant that meets tensors of so many dimensions, [*rows, M, K] without the batch, as a node.

    Args:
        argument: of the call, where it has the constant once for each image: it is taken from the node then.
    """
    without_batch = constant.shape[1:] if constant.dim() == dimensions else constant.shape
    rows = (1,) * (dimensions - 1 - len(without_batch))
    value = constant.detach().reshape(*rows, *without_batch).movedim(-1, 0).contiguous()
    name = call.builder.constant(call.call, value, f"{call.builder.name_of(call.call)}.constant")
    if argument is None:
        return Operand(name, constant, _constantly(constant))
    shape, is_bool = argument.shape[1:], argument.dtype == torch.bool

    def back(values: Tensor) -> Tensor:
        numbers = values.movedim(1, -1).expand(len(values), *shape) if values.dim() == len(shape) + 1 else values
        return numbers == 0 if is_bool else numbers

    return Operand(name, argument, back)


def _constantly(constant: Tensor) -> Callable[[Tensor], Tensor]:
    """What takes any value for this one."""
    return lambda _: constant
