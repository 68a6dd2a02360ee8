"""Where the passes are, and how a graph goes through them: the one file of the tests to know it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bitorch.deployment.capture.capture import Capture
from bitorch.deployment.graph.graph import Graph
from bitorch.deployment.passes.move_codes import move_codes, swap_pools
from bitorch.deployment.passes.pipeline import READ_PIXELS
from bitorch.deployment.passes.share_codes import share_codes
from bitorch.deployment.passes.split_quantized import drop_identities, read_pixels, split_quantized
from bitorch.deployment.runtime.compile import PASSES
from bitorch.deployment.runtime.fold_tables import drop_lookups, fold_tables
from bitorch.deployment.runtime.fuse_stages import group
from bitorch.deployment.runtime.fuse_thresholds import fuse_thresholds
from bitorch.deployment.runtime.lower import Lowered, lower

__all__ = [
    "drop_identities",
    "drop_lookups",
    "fold_tables",
    "fuse_thresholds",
    "group",
    "lower",
    "move_codes",
    "read_pixels",
    "share_codes",
    "split_quantized",
    "swap_pools",
]

Pass = Callable[[Graph], Graph]


def passes(*, pixels: bool) -> tuple[Pass, ...]:
    """All passes of a deployment, in their order."""
    return tuple(step.run for step in ((READ_PIXELS, *PASSES) if pixels else PASSES))


def lowered(captured: Capture, steps: Sequence[Pass]) -> Lowered:
    """The program of a model with these passes."""
    graph = captured.graph
    for step in steps:
        graph = step(graph)
    return lower(graph, captured.tensor_names)
