"""The pass that lets readers that quantize one tensor in the same way share its codes."""

from __future__ import annotations

from ..graph.graph import Graph


def share_codes(graph: Graph) -> Graph:
    """Let readers that quantize one tensor in the same way share the codes."""
    names: dict[str, str] = {}
    known: dict[tuple[object, ...], str] = {}
    for node in graph:
        if node.kind == "codes":
            form = node.settings["form"]
            # Only "round" has the zero point in the codes; to the others it says what these stand for.
            zero_point = node.settings["zero_point"] if form == "round" else 0
            key = node.inputs[0], form, node.settings["bits"], zero_point, node.settings["keeps_nan"]
            if known.setdefault(key, node.name) != node.name:
                names[node.name] = known[key]
    return graph.renamed(names).pruned()
