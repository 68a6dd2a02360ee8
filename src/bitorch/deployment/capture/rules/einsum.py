"""The rule of torch.einsum of two operands: a permutation and a reshape of each, a product of matrices, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..problems import PARTIAL, Refusal
from ..reader import Reader

_AS_MATMUL = f"Write it as a matmul of tensors [batch, heads, length, channels], {PARTIAL}"


def einsum(call: Reader, equation: str, *operands: Tensor | Sequence[Tensor]) -> str:
    """The rule of torch.einsum of two tensors, or of one and a constant matrix."""
    given = operands[0] if len(operands) == 1 and not isinstance(operands[0], Tensor) else operands
    tensors = [x for x in given if isinstance(x, Tensor)]
    if not isinstance(equation, str) or len(tensors) != 2:
        raise Refusal(f"einsum of {len(tensors)} tensors cannot be deployed", _AS_MATMUL)
    labels = _Labels.of(equation, tensors)
    varying = [call.varies(x) for x in tensors]
    if all(varying):
        return _product(call, labels, tensors)
    return _by_constant(call, labels if varying[0] else labels.swapped(), tensors if varying[0] else tensors[::-1])


@dataclass(frozen=True)
class _Labels:
    """What the labels of an einsum of two operands do.

    Attributes:
        one, two, result: of the operands, and of the result.
        sizes: of each label.
    """

    equation: str
    one: str
    two: str
    result: str
    sizes: dict[str, int]

    @classmethod
    def of(cls, equation: str, tensors: Sequence[Tensor]) -> _Labels:
        """Read an equation that PyTorch has understood."""
        left, arrow, result = equation.replace(" ", "").partition("->")
        operands = left.split(",")
        counts = [x.dim() - len(labels.replace("...", "")) for labels, x in zip(operands, tensors, strict=True)]
        if "..." in left and len({n for n, labels in zip(counts, operands, strict=True) if "..." in labels}) > 1:
            raise Refusal(f"einsum {equation!r} repeats a tensor along the axes of ...", _AS_MATMUL)
        dots = "".join(chr(0x2460 + i) for i in range(max(0, *counts)))  # letters of nobody's
        if not arrow:
            once = sorted(label for label in set(left) - {",", "."} if left.count(label) == 1)
            result = ("..." if "..." in left else "") + "".join(once)
        one, two, result = (labels.replace("...", dots) for labels in (*operands, result))
        if any(len(set(labels)) < len(labels) for labels in (one, two)):
            raise Refusal(f"einsum {equation!r} takes a diagonal", _AS_MATMUL)
        sizes: dict[str, int] = {}
        for labels, x in zip((one, two), tensors, strict=True):
            for label, size in zip(labels, x.shape, strict=True):
                if sizes.setdefault(label, size) != size:
                    raise Refusal(f"einsum {equation!r} repeats a tensor along an axis of one place", _AS_MATMUL)
        return cls(equation, one, two, result, sizes)

    def swapped(self) -> _Labels:
        """The same with the operands in the other order."""
        return _Labels(self.equation, self.two, self.one, self.result, self.sizes)

    @property
    def summed(self) -> str:
        """The labels of the sum."""
        return "".join(label for label in self.one if label in self.two and label not in self.result)

    @property
    def common(self) -> str:
        """Those of both operands, and of the result."""
        return "".join(label for label in self.result if label in self.one and label in self.two)

    @property
    def of_one(self) -> str:
        """Those of the first operand alone."""
        return "".join(label for label in self.result if label in self.one and label not in self.two)

    @property
    def of_two(self) -> str:
        return "".join(label for label in self.result if label in self.two and label not in self.one)

    def check(self) -> None:
        """Refuse what sums a label of one operand alone."""
        for labels, other in ((self.one, self.two), (self.two, self.one)):
            if any(label not in other and label not in self.result for label in labels):
                raise Refusal(
                    f"einsum {self.equation!r} sums an axis of one tensor alone", f"Take that sum first, {PARTIAL}"
                )

    def shape(self, labels: str) -> tuple[int, ...]:
        return tuple(self.sizes[label] for label in labels)

    def size(self, labels: str) -> int:
        return math.prod(self.shape(labels))


@dataclass(frozen=True)
class _Move:
    """From a tensor of some labels to one of axes that are groups of them, and back; the batch, of any size, first."""

    labels: str
    groups: tuple[str, ...]
    sizes: dict[str, int]

    def forth(self, x: Tensor) -> Tensor:
        """Permute and join axes."""
        order = "".join(self.groups)
        permuted = x.permute([self.labels.index(label) for label in order])
        return permuted.reshape(len(x), *(math.prod(self.sizes[label] for label in g) for g in self.groups[1:]))

    def back(self, x: Tensor) -> Tensor:
        """Take axes apart and permute."""
        order = "".join(self.groups)
        apart = x.reshape(len(x), *(self.sizes[label] for label in order[1:]))
        return apart.permute([order.index(label) for label in self.labels])


def _product(call: Reader, labels: _Labels, tensors: Sequence[Tensor]) -> str:
    labels.check()
    batch = labels.one[:1]
    if not batch or batch != labels.two[:1] or batch != labels.result[:1]:
        raise Refusal(f"einsum {labels.equation!r} mixes the images of a batch", _AS_MATMUL)
    rows = tuple(labels.common.replace(batch, ""))
    operands, transposed = [], []
    for x, own, names, is_left in zip(
        tensors, (labels.of_one, labels.of_two), (labels.one, labels.two), (True, False), strict=True
    ):
        has_own_channels = names[call.innermost_axis(x)] in own and len(own) == 1
        channels, last = (own, labels.summed) if has_own_channels else (labels.summed, own)
        move = _Move(names, (batch, channels, *rows, last), labels.sizes)
        operands.append(call.operand(x, move.forth, move.back))
        transposed.append(int(has_own_channels == is_left))
    placed = _Move(labels.result, (batch, labels.of_two, *rows, labels.of_one), labels.sizes)
    again = call.again_with(operands)
    name = call.add(
        "matmul",
        *(operand.name for operand in operands),
        function=lambda *values: placed.forth(again(*values)),
        shape=tuple(labels.size(group) for group in placed.groups[1:]),
        transposed=tuple(transposed),
        scale=1.0,
    )
    call.placed = placed.back
    return name


def _by_constant(call: Reader, labels: _Labels, tensors: Sequence[Tensor]) -> str:
    """Of a tensor and a constant that has no label of the result in common with it: a linear layer."""
    x, constant = tensors
    labels.check()
    batch = labels.one[:1]
    if not batch or batch != labels.result[:1] or batch in labels.two:
        raise Refusal(f"einsum {labels.equation!r} mixes the images of a batch", _AS_MATMUL)
    if labels.common:
        raise Refusal(f"einsum {labels.equation!r} has a constant with a matrix for each place of an axis", _AS_MATMUL)
    rows = labels.of_one.replace(batch, "")
    move = _Move(labels.one, (batch, labels.summed, *rows), labels.sizes)
    operand = call.operand(x, move.forth, move.back)
    order = [labels.two.index(label) for label in labels.of_two + labels.summed]
    weight = constant.detach().permute(order).reshape(labels.size(labels.of_two), labels.size(labels.summed)).clone()
    placed = _Move(labels.result, (batch, labels.of_two, *rows), labels.sizes)
    again = call.again_with([operand])
    name = call.add(
        "linear",
        operand.name,
        function=lambda value: placed.forth(again(value)),
        shape=(len(weight), *labels.shape(rows)),
        weight=weight,
        bias=None,
    )
    call.placed = placed.back
    return name
