"""How papers train, as fields of `Settings`, for as many epochs as one has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from literature import Bits

Fields = dict[str, Any]

SGD: Fields = {"optimizer": "sgd", "momentum": 0.9}
#: LSQ's share of the weight decay by bits of weights; more bits have all of it.
_LSQ_SHARE = {2: 0.25, 3: 0.5}


@dataclass(frozen=True)
class Course:
    """How a paper trains.

    Attributes:
        epochs, batch_size: of the paper.
        fields: of `Settings`: optimizer, learning rate and so on.
        milestones: epochs at which the learning rate is multiplied by gamma; () without steps.
        gamma: that factor.
    """

    epochs: int
    batch_size: int
    fields: Fields
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1

    def fields_for(self, epochs: int) -> Fields:
        """Return the fields for another number of epochs, with the steps of the learning rate moved in proportion.

        Steps that fall together become one, and one that falls on the start or the end is left out.
        """
        if not self.milestones:
            return self.fields
        scaled = sorted({round(milestone * epochs / self.epochs) for milestone in self.milestones})
        milestones = tuple(milestone for milestone in scaled if 0 < milestone < epochs)
        if not milestones:
            return {**self.fields, "schedule": "constant"}
        return {**self.fields, "schedule": "step", "milestones": milestones, "gamma": self.gamma}


def lsq_course(epochs: int, batch_size: int, bits: Bits) -> Course:
    """Return LSQ's: a cosine without restarts, and less weight decay for fewer bits."""
    lr = 0.001 if bits[0] == 8 else 0.01
    decay = 1e-4 * _LSQ_SHARE.get(bits[0], 1.0)
    return Course(epochs, batch_size, {**SGD, "lr": lr, "weight_decay": decay, "schedule": "cosine"})
