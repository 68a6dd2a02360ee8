"""What the nets of the zoo cost, as a page of Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_HEADER = ("net", "image", "parameters", "multiply-adds", "float bytes", "packed bytes", "deploys whole", "packed ms",
           "float ms", "times faster")  # fmt: skip
_HEAD = """# The zoo

Written by `.venv/bin/python recipes/zoo.py --docs docs/zoo.md` on {machine}, with {versions}.

Nets of [bitorch.models](api/models.md) that are low-bit as they are built: 1-bit weights, and 1-bit activations in
front of them but in the bottlenecks of Resnet50 and Resnet152. Weights are random and have seen one step of training,
so there are no accuracies here.

- Parameters, multiply-adds and bytes are those of `bitorch.report`; the packed bytes are those of the packed file, and
  where there is none, of the weights in their bits.
- Milliseconds are those of one image on one thread, the fastest of some calls: of the packed file, and of the float
  net of the same architecture (`bitorch.float_`) in PyTorch.

"""
_WHY = """
## Why some do not deploy whole

"""


@dataclass(frozen=True)
class Costs:
    """What a net costs.

    Attributes:
        name: in the table.
        side: of the images.
        parameters: number of them.
        macs: multiply-adds for one image.
        float_bytes: of all weights as floats.
        packed_bytes: of the packed file; of the weights in their bits, where there is none.
        problem: why there is none; "" where there is one.
        packed_seconds: for one image; None where there is no packed file.
        float_seconds: of the float net of the same architecture, for one image.
    """

    name: str
    side: int
    parameters: int
    macs: int
    float_bytes: int
    packed_bytes: int
    problem: str
    packed_seconds: float | None
    float_seconds: float


def line(costs: Costs) -> str:
    """Return a line of the table."""
    packed, ratio = "–", "–"
    if costs.packed_seconds is not None:
        packed, ratio = f"{costs.packed_seconds * 1e3:.2f}", f"{costs.float_seconds / costs.packed_seconds:.1f}"
    return _line(
        (
            costs.name,
            f"{costs.side}×{costs.side}",
            f"{costs.parameters:,}",
            f"{costs.macs:,}",
            f"{costs.float_bytes:,}",
            f"{costs.packed_bytes:,}",
            "no" if costs.problem else "yes",
            packed,
            f"{costs.float_seconds * 1e3:.2f}",
            ratio,
        )
    )


def page(found: Sequence[Costs], about: Mapping[str, str]) -> str:
    """Return the table, and below it the reasons of all that is no single file."""
    lines = [_line(_HEADER), "|" + "---|" * len(_HEADER), *map(line, found)]
    text = _HEAD.format(**about) + "\n".join(lines) + "\n"
    reasons = [f"- {costs.name}: {_without_places(costs.problem)}" for costs in found if costs.problem]
    return text + _WHY + "\n".join(reasons) + "\n" if reasons else text


def _without_places(problem: str) -> str:
    """Return a problem without the line of source that it was met in."""
    return re.sub(r", called from [^:]+:\d+", "", problem)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
