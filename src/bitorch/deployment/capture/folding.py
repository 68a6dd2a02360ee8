"""Tensors whose first axis is not the batch alone: [batch·k, …] of windows and heads, [T, batch, C] of sequences.

Such a tensor is one of images [k, …] and [T, C] all the same. Rules see it so, with the batch in front; what the model
calls is called with the tensor as the model has it.

    x.view(B, H/w, w, W/w, w, C).transpose(2, 3).reshape(-1, w·w, C)      axis 0 has batch × windows
    x.transpose(0, 1)                                                     axis 1 has the batch
    y.transpose(0, 1).reshape(T·B, C)                                     axis 0 has tokens × batch
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .problems import PARTIAL, Refusal


@dataclass(frozen=True)
class Fold:
    """Where the batch is in a tensor.

    Attributes:
        axis: that it lies along.
        outer, inner: how many places the axis has outside and inside of the batch.
        channels_second: whether the unfolded tensor keeps the folded one's second axis there, as channels.
    """

    axis: int
    outer: int
    inner: int
    channels_second: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether the first axis is the batch, and nothing else."""
        return self == PLAIN

    def unfolded(self, x: Tensor, like: Tensor | None = None) -> Tensor:
        """Return a view with the batch in front of all.

        Args:
            like: an unfolded tensor that has as many places outside and inside of the batch as x, where those are not
                the fold's own: functions of single numbers are asked about other numbers of them.
        """
        return self._unfolded(x, (self.outer, -1, self.inner) if like is None else self._parts_of(like))

    def _parts_of(self, x: Tensor) -> tuple[int, int, int]:
        x = x.movedim(1, self.axis + 2) if self.channels_second else x
        outer = x.shape[self.axis + 1] if self.outer > 1 else 1
        return outer, -1, x.shape[self.axis + 1 + (self.outer > 1)] if self.inner > 1 else 1

    def unfolded_constant(self, x: Tensor) -> Tensor:
        """Return `unfolded` of a constant; one with one place along the axis gets a batch of 1."""
        return self._unfolded(x, (1, 1, 1)) if x.shape[self.axis] == 1 else self.unfolded(x)

    def _unfolded(self, x: Tensor, parts: tuple[int, int, int]) -> Tensor:
        x = x.unflatten(self.axis, parts).movedim(self.axis + 1, 0)
        x = x if self.inner > 1 else x.squeeze(self.axis + 2)
        x = x if self.outer > 1 else x.squeeze(self.axis + 1)
        return x.movedim(self.axis + 2, 1) if self.channels_second else x

    def folded(self, x: Tensor) -> Tensor:
        """Return the tensor that `unfolded` makes x of, for any batch."""
        x = x.movedim(1, self.axis + 2) if self.channels_second else x
        x = x if self.outer > 1 else x.unsqueeze(self.axis + 1)
        x = x if self.inner > 1 else x.unsqueeze(self.axis + 2)
        return x.movedim(0, self.axis + 1).flatten(self.axis, self.axis + 2)

    def axis_of(self, axis: int) -> int:
        """Return where an axis of the folded tensor is in the unfolded one.

        Raises:
            Refusal: it is the one of the batch.
        """
        if axis == self.axis:
            raise Refusal(
                "it works along the axis that the batch is part of, so it mixes images",
                f"Keep the batch as a dimension of its own there, {PARTIAL}",
            )
        return axis + 1 if axis < self.axis else axis + (self.outer > 1) + (self.inner > 1)


#: The first axis is the batch.
PLAIN = Fold(0, 1, 1)


def fold_of(positions: Tensor, batch: int, size: int) -> Fold | None:
    """Return where the batch is in a tensor; None if it is nowhere, or in several places.

    Args:
        positions: int64, see movement.py; of `batch` images, 2 or more.
        size: numbers of an image before it was moved.
    """
    if positions.dim() == 0 or positions.numel() == 0:
        return None
    if positions.shape[0] == batch and torch.equal(positions.reshape(batch, -1)[:, 0] // size, torch.arange(batch)):
        return PLAIN
    images = positions // size
    lines = [images.movedim(axis, 0).reshape(length, -1)[:, 0] for axis, length in enumerate(positions.shape)]
    along = [axis for axis, line in enumerate(lines) if bool((line != line[0]).any())]
    if len(along) != 1:
        return None
    line = lines[along[0]]
    inner = int((line != line[0]).nonzero()[0])
    if len(line) % (batch * inner) != 0:
        return None
    fold = Fold(along[0], len(line) // (batch * inner), inner)
    expected = torch.arange(batch).view(1, batch, 1).expand(fold.outer, batch, inner).flatten()
    return fold if torch.equal(line, expected) else None


@dataclass(frozen=True)
class Folds:
    """How a call of unfolded tensors is made of those that the model has.

    Attributes:
        args, kwargs: of the model's call.
        tensors: of each tensor among the arguments, in their order, how it is folded; None: not at all, as constants
            that the batch is no part of.
        constants: which of them are constants: they are the same for every image.
        given: the arguments themselves, by the ids of those that stand for them.
        result: how the results are folded.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    tensors: tuple[Fold | None, ...]
    constants: frozenset[int]
    given: Mapping[int, Tensor]
    result: Fold
