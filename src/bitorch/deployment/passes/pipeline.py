"""The passes that every backend begins with, in their order. They end at codes, products, scales, sums and values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..graph.check_graph import check_graph
from ..graph.graph import Graph
from ..graph.kinds import CAPTURED
from .move_codes import move_codes, swap_pools
from .share_codes import share_codes
from .split_quantized import drop_identities, read_pixels, split_quantized


@dataclass(frozen=True)
class Pass:
    """One step from graph to graph, which keeps all numbers, and what it promises.

    Attributes:
        run: returns the new graph.
        makes: kinds of nodes that there may be from here on.
        removes: kinds of nodes that there are no more.
    """

    run: Callable[[Graph], Graph]
    makes: frozenset[str] = frozenset()
    removes: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """That of its function."""
        return self.run.__name__

    def __call__(self, graph: Graph) -> Graph:
        return self.run(graph)

    def __str__(self) -> str:
        removed, made = (", ".join(sorted(kinds)) for kinds in (self.removes, self.makes))
        return f"{self.name}: {removed} → {made}" if removed or made else self.name


READ_PIXELS = Pass(read_pixels, makes=frozenset({"values"}))
PASSES: tuple[Pass, ...] = (
    Pass(drop_identities),
    Pass(
        split_quantized,
        makes=frozenset({"codes", "values", "product", "group_product", "code_matmul", "scale"}),
        removes=frozenset({"low_bit", "low_bit_matmul", "quantizer"}),
    ),
    Pass(share_codes),
    Pass(swap_pools),
    Pass(move_codes),
    Pass(share_codes),
)


def steps(graph: Graph, passes: Sequence[Pass]) -> Iterator[tuple[str, Graph]]:
    """Run passes over a captured graph one after the other, and check each result.

    Yields:
        ("captured", the graph itself), then for each pass its name and its graph.

    Raises:
        GraphError: a graph is not well-formed, or has nodes of a kind that a pass has promised to remove.
    """
    kinds = CAPTURED
    check_graph(graph, kinds, "capture")
    yield "captured", graph
    for step in passes:
        graph = step(graph)
        kinds = (kinds - step.removes) | step.makes
        check_graph(graph, kinds, step.name)
        yield step.name, graph
