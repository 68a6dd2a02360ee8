"""Does the packed program compute what the model computes? Tensor by tensor."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import bitorch_runtime

from ...running import as_it_was
from ...same_numbers import same_numbers
from ...text_table import aligned
from ...wrappers import unwrapped
from ..capture.runs import run_or_raise
from ..graph.chains import without_nan
from ..graph.graph import Node
from ..graph.last_bits import behind_free_bits
from .all_tensors import all_tensors
from .compile import Compiled
from .lower import Lowered
from .packed_model import PackedModel
from .same_network import as_floats, compiled_as
from .sizes_of_terms import sizes_of_terms
from .subnormals import subnormals_kept

if TYPE_CHECKING:
    from bitorch_runtime._native import Port

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
class Verification:
    """What `verify` found: one comparison per tensor, in the order of computation. True if nothing differs."""

    comparisons: tuple[Comparison, ...]

    def __bool__(self) -> bool:
        return all(comparison.ok for comparison in self.comparisons)

    @classmethod
    def of_batches(cls, verifications: Iterable[Verification]) -> Verification:
        """Sum up what `verify_batches` found: counts are added, and the largest of differences counts.

        Raises:
            ValueError: there are none, or they are not of one program.
        """
        batches = [verification.comparisons for verification in verifications]
        if not batches:
            raise ValueError("there is no verification to sum up: no batch was compared")
        if any([c.tensor for c in batch] != [c.tensor for c in batches[0]] for batch in batches):
            raise ValueError("the verifications are of several programs: their tensors have other names")
        return cls(tuple(map(_summed, zip(*batches, strict=True))))

    @property
    def first_difference(self) -> Comparison | None:
        """The first tensor that differs."""
        return next((comparison for comparison in self.comparisons if not comparison.ok), None)

    def __str__(self) -> str:
        first = self.first_difference
        exact = [c for c in self.comparisons if c.exact]
        numbers = sum(c.elements for c in exact)
        sums = [c for c in self.comparisons if not c.exact]
        if first is not None:
            return (
                f"differs first in {first.tensor!r} ({first.operation}): {first.different} of {first.elements} "
                f"{first.kind}, by up to {first.largest:.6g}\n{self.table()}"
            )
        largest = max((c.largest for c in sums), default=0.0)
        inexact = f"; {len(sums)} tensors with float sums within {largest:.1e}" if sums else ""
        return f"equal: {numbers:,} numbers in {len(exact)} tensors, bit for bit{inexact}"

    def table(self) -> str:
        """Every comparison, one line each."""
        header = ("tensor", "operation", "kind", "numbers", "different", "largest", "")
        rows = [
            (
                c.tensor,
                c.operation,
                c.kind if c.exact else f"{c.kind} (summed)",
                str(c.elements),
                str(c.different),
                f"{c.largest:.3g}",
                "" if c.ok else "DIFFERS",
            )
            for c in self.comparisons
        ]
        return "\n".join(line.rstrip() for line in aligned([header, *rows]))


def verify(model: nn.Module, packed: PackedModel, *inputs: Tensor) -> Verification:
    """Run the model and its packed program on the same inputs and compare every tensor between them.

    The model's own modules and functions are called one by one. Where floats are summed (float layers, means) the order
    is free and the last bits may differ; such a tensor is compared with a tolerance, and what follows it is then
    computed by the model from the program's numbers, so that everything else can be held to equality. Codes that are
    taken right from D through a function of free last bits, such as SiLU, must be those of its value, or of one that is
    2⁻²¹ of it larger or smaller. Likewise, where
    the model quantizes NaN, what follows is computed from the program's code, the lowest one. A float sum is not
    compared in images whose numbers are so huge (beyond 10²⁴, and 10¹² where squares are added) that it may overflow in
    one order and not in another.

    Args:
        model: in eval mode.
        packed: what `deploy` made of it, or of a model that should be equal.
        inputs: as the packed model takes them, float32 or uint8 pixels, [batch, …].

    Raises:
        ValueError: the model cannot be captured, the program is that of another network, or inputs have another shape
            than the program's.
        TypeError: inputs are missing, too many, no tensors or of another dtype; no packed model.
    """
    (verification,) = verify_batches(model, packed, [inputs])
    return verification


def verify_batches(
    model: nn.Module, packed: PackedModel, batches: Iterable[Sequence[Tensor]]
) -> Iterator[Verification]:
    """Verify batch by batch, as `verify` does; the model is captured and compiled once for each size of inputs.

    Args:
        model, packed: as of `verify`.
        batches: of each batch the inputs. They are taken one after the other, so they need not be in memory together.

    Yields:
        What was found for each batch; `Verification.of_batches` sums it up.

    Raises:
        ValueError: as `verify`, with the first batch.
    """
    model = unwrapped(model)
    known: dict[tuple[tuple[int, ...], ...], tuple[Compiled, bitorch_runtime.Program]] = {}
    if not isinstance(packed, PackedModel):
        raise TypeError(f"packed must be a PackedModel, as bitorch.deploy returns it, got {type(packed).__name__}")
    for inputs in batches:
        packed._given(tuple(inputs))  # raises, with both shapes, if it does not take them
        shapes = tuple(tuple(x.shape[1:]) for x in inputs)
        if shapes not in known:
            compiled = compiled_as(model, packed, inputs)
            known[shapes] = compiled, all_tensors(compiled.lowered, *packed.program_for(inputs))
        yield compare(model, *known[shapes], packed, inputs)


def compare(
    model: nn.Module,
    compiled: Compiled,
    program: bitorch_runtime.Program,
    packed: PackedModel,
    inputs: Sequence[Tensor],
) -> Verification:
    """`verify` one batch, for a model that is compiled already.

    Args:
        program: that of `all_tensors`.
    """
    with subnormals_kept():
        comparisons, values = _Walk(compiled, program, inputs).compare()
        comparisons.extend(_outputs(model, compiled, packed, values, inputs))
    return Verification(tuple(comparisons))


class _Walk:
    """The model's nodes one after the other, beside the program's tensors."""

    def __init__(self, compiled: Compiled, program: bitorch_runtime.Program, inputs: Sequence[Tensor]) -> None:
        self.compiled = compiled
        results = program(*(_as_input(x, port) for x, port in zip(inputs, program.inputs, strict=True)))
        self.results = results if isinstance(results, dict) else {program.outputs[0]["name"]: results}
        self.inputs = inputs
        self.operation = _operation_of(compiled.lowered)
        self.signs: dict[str, bool] = {}  # whether codes are ±1 in the model, and 0 and 1 in the program

    def compare(self) -> tuple[list[Comparison], dict[str, Tensor]]:
        """Compare every tensor; the second result are the model's values, inexact ones as the program has them."""
        graph = self.compiled.graph
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
                tensor = self.compiled.lowered.tensor(node.name)
                if tensor not in self.results:
                    if is_inexact:
                        inexact.add(node.name)
                    continue
                found = self._found(node, tensor)
                kind = _KINDS.get(self.results[tensor].dtype.name, "floats")
                operation = self.operation[node.name]
                if node.between is not None:
                    value = _between(value, found, *node.between(*(values[name] for name in node.inputs)))
                if node.name in unsure:
                    value = torch.where(unsure[node.name].reshape(-1, *[1] * (value.dim() - 1)), found, value)
                terms = sizes_of_terms(node, [values[name] for name in node.inputs])
                comparisons.append(
                    _comparison(node.name, operation, kind, value, found, exact=not is_inexact, terms=terms)
                )
                if is_inexact and comparisons[-1].ok:
                    values[node.name] = found
                elif node.between is not None:
                    values[node.name] = value
        return comparisons, values

    def _found(self, node: Node, tensor: str) -> Tensor:
        """The program's tensor, as the model would have it."""
        found = torch.from_numpy(self.results[tensor])
        found = found.reshape(len(found), *node.shape)
        if found.dtype != torch.uint8:
            return found.to(torch.float32)
        codes = found.to(torch.float32)
        return 2 * codes - 1 if self.signs[node.name] else codes


def _between(value: Tensor, found: Tensor, least: Tensor, most: Tensor) -> Tensor:
    """The codes that the model may have: those that were found, where its last bits decide between them and others."""
    return torch.where((found >= least) & (found <= most), found, value)


def _may_overflow(x: Tensor, limit: float) -> Tensor:
    """Say of which images x, [batch, …], a float sum is not compared: bool [batch]."""
    return (x.isfinite() & (x.abs() > limit)).flatten(1).any(1)


def _of_any(node: Node, unsure: Sequence[Tensor]) -> dict[str, Tensor]:
    """What holds for a node, by its name, if some of its inputs are not compared in these images."""
    return {node.name: torch.stack(list(unsure)).any(0)} if unsure else {}


def _operation_of(lowered: Lowered) -> dict[str, str]:
    """The operation that makes each tensor."""
    names: dict[str, str] = {}
    nodes = {tensor: name for name, tensor in lowered.names.items()}
    for operation, anchor, value in zip(lowered.operations, lowered.anchors, lowered.values, strict=True):
        made = [anchor, value]
        if "codes" in operation:
            codes: str = operation["codes"]
            made.append(nodes.get(codes, codes))
        for name in made:
            names.setdefault(name, operation["op"])
    return names


def _as_input(x: Tensor, port: Port) -> NDArray[Any]:
    return np.ascontiguousarray(x.detach().numpy()).reshape(len(x), *port["shape"])


def _summed(batches: Sequence[Comparison]) -> Comparison:
    """One tensor's comparisons of several batches as one."""
    return replace(
        batches[0],
        elements=sum(c.elements for c in batches),
        different=sum(c.different for c in batches),
        largest=max(c.largest for c in batches),
        ok=all(c.ok for c in batches),
    )


def _comparison(
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


def _outputs(
    model: nn.Module, compiled: Compiled, packed: PackedModel, values: dict[str, Tensor], inputs: Sequence[Tensor]
) -> list[Comparison]:
    """Compare the packed model's results with those of the walk, and the model's own with those of its graph."""
    names = [spec.name for spec in packed.outputs]
    results = packed(*inputs)
    given = list(results.values()) if isinstance(results, dict) else [results]
    rows = [
        _comparison(f"{name} (result)", "output", "floats", values[node], found, exact=True)
        for name, node, found in zip(names, compiled.graph.outputs, given, strict=True)
    ]
    replayed = compiled.graph.replay(inputs)
    with as_it_was(model):
        own = run_or_raise(model, [*map(as_floats, inputs)], "the inputs", "Give inputs that the model takes").tensors
    free = behind_free_bits(compiled.graph)
    rows.extend(
        _comparison(f"{name} (graph)", "", "floats", expected, replayed[node], exact=node not in free)
        for name, node, expected in zip(names, compiled.graph.outputs, own, strict=True)
    )
    return rows
