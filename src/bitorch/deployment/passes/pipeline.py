"""The passes in their order: each is a function from graph to graph, and can be tested and printed alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import bitorch_runtime

from ..graph.graph import Graph
from ..runtime.fuse_thresholds import fuse_thresholds
from ..runtime.lower import Lowered, lower
from .move_codes import (
    drop_lookups,
    fold_tables,
    move_codes,
    share_codes,
    swap_pools,
)
from .split_quantized import drop_identities, read_pixels, split_quantized

Pass = Callable[[Graph], Graph]

PASSES: tuple[Pass, ...] = (
    drop_identities,
    split_quantized,
    share_codes,
    swap_pools,
    move_codes,
    share_codes,
    fold_tables,
    drop_lookups,
    fuse_thresholds,
)


@dataclass(frozen=True)
class Compiled:
    """A program, the graph that it computes, and how it came about.

    Attributes:
        graph: after all passes. The program's tensors have the names of its nodes, see `Lowered`.
        lowered: the program.
        steps: (name of the pass, the graph after it), "captured" first.
    """

    graph: Graph
    lowered: Lowered
    steps: tuple[tuple[str, Graph], ...]


def compile_graph(graph: Graph, *, pixels: bool = False, names: Sequence[str | None] = ()) -> Compiled:
    """Run all passes over a captured graph.

    Args:
        pixels: the inputs become uint8, see `read_pixels`.
        names: of the program's outputs, see `lower`.
    """
    steps = [("captured", graph)]
    for step in (read_pixels, *PASSES) if pixels else PASSES:
        graph = step(graph)
        steps.append((step.__name__, graph))
    return Compiled(graph, lower(graph, names), tuple(steps))


def check_runs(compiled: Compiled) -> None:
    """Raise a ValueError that names the layer unless the runtime takes the program."""
    try:
        bitorch_runtime.Program(compiled.lowered.operations, compiled.lowered.arrays)
    except ValueError as error:
        found = re.match(r"operation (\d+) ", str(error))
        if found is None:
            raise
        anchor = compiled.graph[compiled.lowered.anchors[int(found[1])]]
        where = anchor.place if anchor.place else anchor.name
        raise ValueError(f"{where}: the runtime cannot compute this layer: {error}") from error
