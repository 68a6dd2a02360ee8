"""Whether a model can be deployed, before it is trained."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from .capture import capture, listing
from .problems import Problem


@dataclass(frozen=True)
class Deployability:
    """What stands in the way of deploying a model. True if nothing does; printing it shows a list."""

    problems: tuple[Problem, ...]

    def __bool__(self) -> bool:
        return not self.problems

    def __str__(self) -> str:
        return listing(self.problems) if self.problems else "the model can be deployed"


def can_deploy(model: nn.Module, *example: Tensor) -> Deployability:
    """Say whether `deploy` takes a model, and all that has to change if it does not.

    Args:
        model, example: as of `deploy`. The model may still be untrained.

    Raises:
        TypeError: no module, no tensors.
    """
    return Deployability(capture(model, *example).problems)
