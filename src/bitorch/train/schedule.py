"""The learning rate as a pure function of the step, so that there is no scheduler state to save or lose."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Schedule:
    """Factor on the learning rate.

    Args:
        kind: "cosine" falls to 0 at the end, "step" multiplies by gamma at each milestone, "constant" stays 1.
        every: "step" changes the factor with every optimizer step, "epoch" only between epochs.
        milestones: epochs, for "step".
        gamma: factor per milestone, for "step".
        warmup_epochs: linear rise at the start, before the course of `kind`.
    """

    kind: Literal["cosine", "step", "constant"] = "cosine"
    every: Literal["step", "epoch"] = "step"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    warmup_epochs: float = 0.0

    def factor(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        """Return the factor for a step, counted from 0, of a run of steps_per_epoch · epochs steps. Range 0 to 1."""
        unit = 1 if self.every == "epoch" else 1 / steps_per_epoch
        time = step // steps_per_epoch if self.every == "epoch" else step / steps_per_epoch  # in epochs
        if time < self.warmup_epochs:
            return min(1.0, (time + unit) / self.warmup_epochs)
        if self.kind == "cosine":
            progress = min(1.0, (time - self.warmup_epochs) / (epochs - self.warmup_epochs))
            return 0.5 * (1 + math.cos(math.pi * progress))
        if self.kind == "step":
            return self.gamma ** sum(time >= milestone for milestone in self.milestones)
        return 1.0
