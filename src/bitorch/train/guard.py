"""The last check before a step changes parameters, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn import Parameter
from torch.nn.utils import get_total_norm

from ..batches import Batch
from ..checking.non_finite import is_finite, watch
from ..model_copy import copied
from ..quantizations import RangeQuantization
from ..quantizations.range_fit import SMALLEST
from .sharding import class_of, is_sharded

_NAMES_SHOWN = 3


class NonFiniteError(FloatingPointError):
    """A loss or gradient was NaN or infinite, or a learned range of activations has collapsed to zero.

    In the first case the parameters are as they were before the step. The model in memory has made the forward pass, so
    its running statistics may be NaN. Those of the checkpoint are finite.

    Attributes:
        reason: which step, which layer, which parameters, what to do.
        step: the optimizer step that was not made, counted from 0; of a collapsed range the first of the next epoch.
        checkpoint: the last good checkpoint, None if there is none.
    """

    def __init__(self, reason: str, step: int, checkpoint: Path | None = None) -> None:
        kept = "" if checkpoint is None else f" The last good checkpoint is {checkpoint}."
        super().__init__(reason + kept)
        self.reason = reason
        self.step = step
        self.checkpoint = checkpoint

    def __reduce__(self) -> tuple[type[NonFiniteError], tuple[str, int, Path | None]]:
        """Pickle by the arguments, and not by the message, so that it can come out of another process."""
        return type(self), (self.reason, self.step, self.checkpoint)


def is_step_finite(loss: Tensor, parameters: Iterable[Parameter]) -> Tensor:
    """Return a 0-dim bool tensor: the loss and the Euclidean norm of all gradients are finite.

    The norm, and not each entry, because its square is what optimizers like Adam accumulate.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    return torch.isfinite(loss + _norm(gradients))


def _norm(gradients: Iterable[Tensor]) -> Tensor:
    """Return the Euclidean norm of all gradients together, also of those whose slices are on several processes."""
    gradients = list(gradients)
    others = get_total_norm([gradient for gradient in gradients if not isinstance(gradient, DTensor)])
    norm = get_total_norm([gradient for gradient in gradients if isinstance(gradient, DTensor)])
    return torch.hypot(norm.full_tensor(), others) if isinstance(norm, DTensor) else others


def describe_collapsed(model: nn.Module, lr: float) -> str:
    """Return which activation ranges have fallen to zero or below, and what a user can do about it; "" if none has."""
    names = [
        name.removesuffix(".activation.activation_function")
        for name, module in model.named_modules()
        if isinstance(module, RangeQuantization) and module.is_set and not module.width() > module.levels() * SMALLEST
    ]
    if not names:
        return ""
    shown = ", ".join(names[:_NAMES_SHOWN]) + (
        f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    )
    return (
        f"the learned range of {shown} has collapsed to zero, so nothing passes there any more. Lower the learning "
        f"rate (now {lr:g}), calibrate on batches like those of training, or give the layer another range by a rule."
    )


def locate_non_finite(model: nn.Module, batch: Batch, loss: Callable[[Any], Tensor]) -> str:
    """Make the pass of a failed step again, on a copy, and return in which layer it stopped to be finite.

    A model that is shared out to processes cannot be copied; then it is made on the model itself, by all of them.

    Args:
        batch: the model's inputs in that step.
        loss: from the model's output to the loss.
    """
    if not all(is_finite(x) for x in batch.tensors() if x.is_floating_point()):
        return "The inputs of the batch are not finite."
    twin = model if is_sharded(model) else copied(model)
    with torch.enable_grad(), watch(twin) as first:
        value = loss(batch.call(twin))
        value.backward()
    kinds = {name: class_of(module).__name__ for name, module in twin.named_modules()}
    if first.output is not None:
        return f"The first layer whose output is not finite is {first.output} ({kinds[first.output]})."
    if not is_finite(value):
        return "The outputs of all layers are finite, and only the loss is not."
    if first.gradient is not None:
        return (
            f"On the way back the first layer whose output has a gradient that is not finite is {first.gradient} "
            f"({kinds[first.gradient]})."
        )
    return ""


def describe_non_finite(loss: Tensor, named_parameters: Iterable[tuple[str, Parameter]]) -> str:
    """Return what is not finite."""
    named_gradients = {name: p.grad for name, p in named_parameters if p.grad is not None}
    names = [name for name, gradient in named_gradients.items() if not gradient.isfinite().all()]
    if names:
        more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        gradients = f"non-finite gradients in {', '.join(names[:_NAMES_SHOWN])}{more}"
    elif not loss.isfinite():
        gradients = "finite gradients"
    elif not _norm(named_gradients.values()).isfinite():
        gradients = "gradients too large to square"
    else:
        gradients = "finite gradients, but it is not finite in another process"
    return f"the loss is {loss.item():g}, with {gradients}, so the step was not made and no parameter changed."


def remedy(lr: float) -> str:
    """Return what a user can do about it."""
    return (
        f"Lower the learning rate (now {lr:g}), look for NaN or huge values in the data, or give the gradients more "
        "bits."
    )
