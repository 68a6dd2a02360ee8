"""A start with more bits than a model is to have, or none: from there it reaches more than from its own few bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from torch import nn

from ..model_copy import copied
from ..quantizations.bits import FLOAT_BITS, check_bits
from .bits_in_force import BitsByLayer, bits_in_force, bring_into_force

#: Under which names the bits stand in the history and the logs.
METRICS = ("bits/weights", "bits/activations", "bits/gradients")
#: 1 in epochs in which every layer has the bits that it shall have at the end, else 0.
AT_TARGET = "bits/at_target"


@dataclass(frozen=True)
class Stage:
    """Some epochs in which layers have at least so many bits. One that is to have more at the end has those.

    Args:
        epochs: at least 1.
        weight, activation, gradient: 1…8, or 32 for float. None: what each layer is to have at the end.

    Raises:
        ValueError, TypeError: epochs or bits outside their sets.
    """

    epochs: int
    weight: int | None = None
    activation: int | None = None
    gradient: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.epochs, bool) or not isinstance(self.epochs, int):
            raise TypeError(f"epochs must be an int, got {self.epochs!r}")
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {self.epochs}")
        for field in ("weight", "activation", "gradient"):
            if getattr(self, field) is not None:
                check_bits(getattr(self, field), field)

    def bits(self, target: BitsByLayer) -> BitsByLayer:
        """Return the bits of each layer in this stage, from those that it is to have at the end."""
        least = (self.weight, self.activation, self.gradient)
        return {
            name: tuple(end if floor is None else max(end, floor) for end, floor in zip(ends, least, strict=True))  # type: ignore[misc]  # three, as ends
            for name, ends in target.items()
        }


class WarmStart(Callback):
    """Starts a low-bit model with more bits, and gives every layer its own at the end: for a Lightning Trainer.

    The layers' bits when training begins are their targets. They get those of the stage at the start of each epoch, by
    `bitorch.set_bits`, so parameters, optimizer state and ranges stay; after the last stage all layers have their
    targets. Each epoch logs the fewest bits in force, under `METRICS`, and whether they are the targets.

    A `Classifier` keeps the bits in force in its checkpoints, so a run that is stopped in the middle of a stage and
    resumed ends with the same weights.

    Args:
        stages: in their order, at least one.

    Raises:
        ValueError: no stages; when training starts: no low-bit layer, no epoch left for the targets, or bits that a
            layer cannot have, as ±1 activations and ternary weights have always the same.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        if not stages:
            raise ValueError("stages is empty; give at least one, such as Stage(epochs=3, weight=32, activation=32)")
        self.stages = tuple(stages)
        self._target: BitsByLayer = {}

    @classmethod
    def activations_first(cls, epochs: int) -> WarmStart:
        """Return a warm start from float, to low-bit activations, to low-bit weights and gradients.

        Args:
            epochs: before all layers have their own bits, at least 2: half float, half with low-bit activations.
        """
        first, second = _halves(epochs)
        return cls([Stage(first, FLOAT_BITS, FLOAT_BITS, FLOAT_BITS), Stage(second, FLOAT_BITS, None, FLOAT_BITS)])

    @classmethod
    def fewer_bits(cls, epochs: int) -> WarmStart:
        """Return a warm start from at least 8 bits, to 4, to those of each layer, of weights and activations.

        Args:
            epochs: before all layers have their own bits, at least 2: half of them with 8 bits, half with 4.
        """
        first, second = _halves(epochs)
        return cls([Stage(first, 8, 8), Stage(second, 4, 4)])

    @property
    def epochs(self) -> int:
        """How many epochs all stages have together."""
        return sum(stage.epochs for stage in self.stages)

    def bits_at(self, epoch: int, target: BitsByLayer) -> BitsByLayer:
        """Return the bits of each layer in an epoch, counted from 0."""
        for stage in self.stages:
            if epoch < stage.epochs:
                return stage.bits(target)
            epoch -= stage.epochs
        return target

    def check(self, model: nn.Module) -> None:
        """Raise a ValueError if the model's layers cannot have the bits of a stage. The model stays as it is."""
        target = bits_in_force(model)
        if not target:
            raise ValueError("a warm start needs low-bit layers, and the model has none; quantize_ it first")
        for number, stage in enumerate(self.stages, 1):
            try:
                bring_into_force(copied(model), stage.bits(target))
            except ValueError as error:
                raise ValueError(f"warm start, stage {number}: {error}") from None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Take the layers' bits as their targets, unless a checkpoint brings others."""
        if stage != "fit":
            return
        if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= self.epochs:
            raise ValueError(
                f"the warm start takes {self.epochs} epochs and the run {trainer.max_epochs}, which leaves none for "
                "the bits that the layers are to have"
            )
        self.check(pl_module)
        self._target = bits_in_force(pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return the targets, for the checkpoint."""
        return {"target": {name: list(bits) for name, bits in self._target.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the targets of a checkpoint."""
        self._target = {name: (w, a, g) for name, (w, a, g) in state_dict["target"].items()}

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Bring the epoch's bits into force."""
        bring_into_force(pl_module, self.bits_at(trainer.current_epoch, self._target))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the bits in force."""
        now = bits_in_force(pl_module)
        for metric, bits in zip(METRICS, zip(*now.values(), strict=True), strict=True):
            pl_module.log(metric, float(min(bits)), sync_dist=True)
        pl_module.log(AT_TARGET, float(now == self._target), sync_dist=True)


def _halves(epochs: int) -> tuple[int, int]:
    if isinstance(epochs, bool) or not isinstance(epochs, int):
        raise TypeError(f"epochs must be an int, got {epochs!r}")
    if epochs < 2:
        raise ValueError(f"epochs must be at least 2, one for each stage, got {epochs}")
    return epochs - epochs // 2, epochs // 2
