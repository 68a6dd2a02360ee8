"""A model's nodes one after the other, beside the tensors of what was made of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from ...same_numbers import same_numbers
from ..graph.chains import without_nan
from ..graph.graph import Graph, Node
from .sizes_of_terms import sizes_of_terms

_KINDS = {"int32": "sums", "uint8": "codes"}
#: Largest difference of a float sum, as a share of the largest number in its tensor.
_TOLERANCE = 1e-4
#: From where on a finite number in an image lets it depend on the order of a float sum whether it overflows.
_HUGE = 1e24


@dataclass(frozen=True)
class Comparison:
    """One tensor of the program beside the model's.

    Attributes:
        tensor: its name; of a layer's exact sums the layer's name and "/sum".
        operation: what computes it.
        kind: "sums" (integers D), "codes" or "floats".
        exact: False where floats are summed, in an order that is free: there a small difference is none.
        elements, different: how many numbers, and how many of them differ in any bit.
        largest: the largest difference; of codes and sums in units of one code.
        ok: no difference, or a small one where it is not exact.
    """

    tensor: str
    operation: str
    kind: str
    exact: bool
    elements: int
    different: int
    largest: float
    ok: bool


@dataclass(frozen=True)
class Found:
    """What a program or a file has computed.

    Attributes:
        graph: the model's nodes.
        results: by name of a node its tensor, [batch, …], where there is one.
        operations: of these, what makes it.
        plus_one: as what a code of +1 is stored, where they are ±1; −1 is 0.
    """

    graph: Graph
    results: Mapping[str, NDArray[Any]]
    operations: Mapping[str, str]
    plus_one: int = 1


class Walk:
    """The model's nodes one after the other, beside what was found for the same inputs."""

    def __init__(self, found: Found, inputs: Sequence[Tensor]) -> None:
        self.found, self.inputs = found, inputs
        self.signs: dict[str, bool] = {}  # whether codes are ±1 in the model, and 0 and 1 in the program

    def compare(self) -> tuple[list[Comparison], dict[str, Tensor]]:
        """Compare every tensor; the second result are the model's values, inexact ones as the program has them."""
        graph = self.found.graph
        values: dict[str, Tensor] = dict(zip((node.name for node in graph.inputs), self.inputs, strict=True))
        comparisons = []
        inexact: set[str] = set()  # floats that follow a free sum within one operation
        unsure: dict[str, Tensor] = {}  # of those and the sums: in which images it is not compared
        with torch.no_grad():
            for node in graph:
                if node.kind == "input":
                    continue
                value = node.value(len(self.inputs[0]), *(values[name] for name in node.inputs))
                self.signs[node.name] = node.settings.get(
                    "sign", any(self.signs.get(n, False) for n in node.inputs[:1])
                )
                if node.row.makes_codes:
                    value = without_nan(value, sign=self.signs[node.name])
                is_inexact = not node.row.exact or any(name in inexact for name in node.inputs)
                values[node.name] = value
                if node.row.sums:
                    limit = math.sqrt(_HUGE) if node.row.squares(node.settings) else _HUGE
                    unsure |= _of_any(node, [_may_overflow(values[name], limit) for name in node.inputs])
                elif node.row.lost:
                    unsure[node.name] = (values[node.inputs[0]].abs() > _HUGE).flatten(1).any(1)
                elif is_inexact:
                    unsure |= _of_any(node, [unsure[name] for name in node.inputs if name in inexact & unsure.keys()])
                if node.name not in self.found.results:
                    if is_inexact:
                        inexact.add(node.name)
                    continue
                found = self._found(node)
                kind = _KINDS.get(self.found.results[node.name].dtype.name, "floats")
                operation = self.found.operations[node.name]
                if node.between is not None:
                    value = _between(value, found, *node.between(*(values[name] for name in node.inputs)))
                if node.name in unsure:
                    value = torch.where(unsure[node.name].reshape(-1, *[1] * (value.dim() - 1)), found, value)
                terms = sizes_of_terms(node, [values[name] for name in node.inputs])
                comparisons.append(
                    compared(node.name, operation, kind, value, found, exact=not is_inexact, terms=terms)
                )
                if is_inexact and comparisons[-1].ok:
                    values[node.name] = found
                elif node.between is not None:
                    values[node.name] = value
        return comparisons, values

    def _found(self, node: Node) -> Tensor:
        """The tensor that was found, as the model would have it."""
        found = torch.from_numpy(self.found.results[node.name])
        found = found.reshape(len(found), *node.shape)
        if found.dtype != torch.uint8:
            return found.to(torch.float32)
        codes = found.to(torch.float32)
        return 2 * codes / self.found.plus_one - 1 if self.signs[node.name] else codes


def _between(value: Tensor, found: Tensor, least: Tensor, most: Tensor) -> Tensor:
    """The codes that the model may have: those that were found, where its last bits decide between them and others."""
    return torch.where((found >= least) & (found <= most), found, value)


def _may_overflow(x: Tensor, limit: float) -> Tensor:
    """Say of which images x, [batch, …], a float sum is not compared: bool [batch]."""
    return (x.isfinite() & (x.abs() > limit)).flatten(1).any(1)


def _of_any(node: Node, unsure: Sequence[Tensor]) -> dict[str, Tensor]:
    """What holds for a node, by its name, if some of its inputs are not compared in these images."""
    return {node.name: torch.stack(list(unsure)).any(0)} if unsure else {}


def compared(
    tensor: str,
    operation: str,
    kind: str,
    expected: Tensor,
    found: Tensor,
    *,
    exact: bool,
    terms: Tensor | None = None,
) -> Comparison:
    """Compare a tensor; `terms` are what it would be if nothing that is added up cancelled, None for its own size."""
    if torch.equal(expected, found):
        return Comparison(tensor, operation, kind, exact, expected.numel(), 0, 0.0, ok=True)
    differs = ~same_numbers(expected, found)
    gaps = (expected[differs].double() - found[differs].double()).abs()
    largest = float(gaps.max()) if gaps.numel() else 0.0
    sizes = expected if terms is None else terms
    finite = sizes[sizes.isfinite()].abs()
    is_near = largest <= _TOLERANCE * (float(finite.max()) if finite.numel() else 0.0)
    ok = gaps.numel() == 0 or (is_near and not exact)
    return Comparison(tensor, operation, kind, exact, expected.numel(), gaps.numel(), largest, ok)
