"""Whether a model can be deployed, before it is trained."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from .capture.capture import capture, listing
from .capture.problems import Problem, beyond_the_runtime
from .runtime.compile import check_runs, compile_graph


@dataclass(frozen=True)
class Deployability:
    """What stands in the way of deploying a model. True if nothing does; printing it shows a list.

    Attributes:
        problems: all of them.
        left_out: what the model returns beside tensors, such as numbers and caches: a packed net does not.
    """

    problems: tuple[Problem, ...]
    left_out: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return not self.problems

    def __str__(self) -> str:
        said = listing(self.problems) if self.problems else "the model can be deployed"
        if not self.left_out:
            return said
        return f"{said}\nThe packed net returns tensors only, and leaves out {', '.join(self.left_out)}."


def can_deploy(model: nn.Module, *example: Tensor) -> Deployability:
    """Say whether `deploy` takes a model, and all that has to change if it does not.

    Args:
        model, example: as of `deploy`. The model may still be untrained.

    Raises:
        TypeError: no module, no tensors.
    """
    found = capture(model, *example)
    problems = found.problems
    if not problems:
        try:
            check_runs(compile_graph(found.graph, names=found.tensor_names))
        except ValueError as error:
            problems = (beyond_the_runtime(error),)
    return Deployability(problems, found.left_out)
