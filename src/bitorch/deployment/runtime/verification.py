"""Does the packed program compute what the model computes? Tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

import bitorch_runtime

from ...running import as_it_was
from ...text_table import aligned
from ...wrappers import unwrapped
from ..capture.runs import run_or_raise
from ..graph.graph import Graph
from ..graph.last_bits import behind_free_bits
from .all_tensors import all_tensors
from .compile import Compiled
from .lower import Lowered
from .packed_model import PackedModel
from .same_network import as_floats, compiled_as
from .subnormals import subnormals_kept
from .walk import Comparison, Found, Walk, compared

if TYPE_CHECKING:
    from bitorch_runtime._native import Port


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
        comparisons, values = Walk(_found(compiled, program, inputs), inputs).compare()
        results = packed(*inputs)
        given = list(results.values()) if isinstance(results, dict) else [results]
        named = dict(zip((spec.name for spec in packed.outputs), given, strict=True))
        comparisons.extend(compared_outputs(model, compiled.graph, named, values, inputs))
    return Verification(tuple(comparisons))


def _found(compiled: Compiled, program: bitorch_runtime.Program, inputs: Sequence[Tensor]) -> Found:
    """Run a program of which every tensor leaves."""
    results = program(*(_as_input(x, port) for x, port in zip(inputs, program.inputs, strict=True)))
    named = results if isinstance(results, dict) else {program.outputs[0]["name"]: results}
    tensors = {node.name: compiled.lowered.tensor(node.name) for node in compiled.graph}
    of_nodes = {node: named[tensor] for node, tensor in tensors.items() if tensor in named}
    return Found(compiled.graph, of_nodes, _operation_of(compiled.lowered))


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


def compared_outputs(
    model: nn.Module,
    graph: Graph,
    results: Mapping[str, Tensor],
    values: Mapping[str, Tensor],
    inputs: Sequence[Tensor],
) -> list[Comparison]:
    """Compare results with those of a walk, and the model's own with those of its graph.

    Args:
        results: of what was made of the model, by the names of the outputs, in order.
        values: of the walk.
    """
    rows = [
        compared(f"{name} (result)", "output", "floats", values[node], found, exact=True)
        for (name, found), node in zip(results.items(), graph.outputs, strict=True)
    ]
    replayed = graph.replay(inputs)
    with as_it_was(model):
        own = run_or_raise(model, [*map(as_floats, inputs)], "the inputs", "Give inputs that the model takes").tensors
    free = behind_free_bits(graph)
    rows.extend(
        compared(f"{name} (graph)", "", "floats", expected, replayed[node], exact=node not in free)
        for name, node, expected in zip(results, graph.outputs, own, strict=True)
    )
    return rows
