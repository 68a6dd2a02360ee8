"""What stands in the way of deploying a model, told to the person who has to change it."""

from __future__ import annotations

from dataclasses import dataclass, field

#: The end of a remedy, wherever packed layers in a PyTorch model are a way out.
PARTIAL = "or pass partial=True, which leaves this part to PyTorch"


@dataclass(frozen=True)
class Problem:
    """One thing that cannot be deployed.

    Attributes:
        name: of the node, or of the module or tensor of the model; "" for the model or the example as a whole.
        place: where in the model it is, and from where it was called: "block.act (GELU), called from net.py:33"; or "".
        what: one sentence.
        remedy: one sentence.
        cause: the exception behind it, to be chained.
    """

    name: str
    place: str
    what: str
    remedy: str
    cause: Exception | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        where = self.place if self.place else self.name
        return f"{where}: {self.what}. {self.remedy}." if where else f"{self.what}. {self.remedy}."


def beyond_the_runtime(error: ValueError) -> Problem:
    """Return what the runtime says of a graph that is fine otherwise."""
    return Problem("", "", str(error), f"Change this layer, {PARTIAL}", error)


class Refusal(Exception):  # noqa: N818 - it never leaves this package: it becomes a Problem
    """Raised where a call of the model has no counterpart in a graph.

    Args:
        what, remedy: of the Problem.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


class ReadsValues(Refusal):
    """A refusal because Python gets to know values of a tensor: so it matters even if no output needs the tensor."""


class Silent(Refusal):
    """A refusal because of one that was told already."""

    def __init__(self) -> None:
        super().__init__("", "")
