"""From a captured graph to a program of bitorch_runtime: the shared passes, the backend's own, and lowering."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

import bitorch_runtime

from ..graph.graph import Graph
from ..passes.pipeline import PASSES as SHARED
from ..passes.pipeline import READ_PIXELS, Pass, steps
from .fold_tables import drop_lookups, fold_tables
from .fuse_thresholds import fuse_thresholds
from .lower import Lowered, lower

#: The passes of this backend, behind the shared ones.
BACKEND: tuple[Pass, ...] = (
    Pass(fold_tables, makes=frozenset({"lookup"})),
    Pass(drop_lookups),
    Pass(fuse_thresholds, makes=frozenset({"thresholds"})),
)
PASSES: tuple[Pass, ...] = (*SHARED, *BACKEND)


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


def compile_graph(
    graph: Graph,
    *,
    pixels: bool = False,
    names: Sequence[str | None] = (),
    tied: Mapping[str, str] = MappingProxyType({}),
    passes: Sequence[Pass] | None = None,
) -> Compiled:
    """Run all passes over a captured graph, and write what comes out as a program.

    Args:
        pixels: the inputs become uint8, see `read_pixels`.
        names, tied: of the program's outputs, and of modules with one weight, see `lower`.
        passes: those to run; None: all of them.

    Raises:
        GraphError: a pass does not keep what it promises.
    """
    chosen = PASSES if passes is None else tuple(passes)
    made = tuple(steps(graph, (READ_PIXELS, *chosen) if pixels else chosen))
    _, last = made[-1]
    return Compiled(last, lower(last, names, tied), made)


def check_runs(compiled: Compiled) -> None:
    """Raise a ValueError that names the layer unless the runtime takes the program."""
    with told_by_layer(compiled):
        bitorch_runtime.Program(compiled.lowered.operations, compiled.lowered.arrays)


@contextmanager
def told_by_layer(compiled: Compiled) -> Iterator[None]:
    """Let what the runtime says of an operation, when a program is made of it inside, name the layer."""
    try:
        yield
    except ValueError as error:
        found = re.match(r"operation (\d+) ", str(error))
        if found is None:
            raise
        anchor = compiled.graph[compiled.lowered.anchors[int(found[1])]]
        where = anchor.place if anchor.place else anchor.name
        raise ValueError(f"{where}: the runtime cannot compute this layer: {error}") from error
