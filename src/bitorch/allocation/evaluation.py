"""Accuracy and mean loss of a classifier on labelled batches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

#: Inputs [B, …] and labels [B].
Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Score:
    """How good a model is: `accuracy` in [0, 1], and `loss`, the mean cross-entropy."""

    accuracy: float
    loss: float


def labelled(data: Iterable[object], device: torch.device) -> list[Batch]:
    """Return batches of inputs and labels as a list, on a device.

    Raises:
        TypeError: an item that is no pair of tensors, labels that are not int64.
        ValueError: no batch, an empty one, or not one label for each input.
    """
    batches = [_checked(index, item) for index, item in enumerate(data)]
    if not batches:
        raise ValueError("data is empty; pass batches of inputs and labels, such as a loader of validation images")
    return [(inputs.to(device), labels.to(device)) for inputs, labels in batches]


def _checked(index: int, item: object) -> Batch:
    inputs, labels = _pair(index, item)
    if labels.dtype != torch.int64 or labels.dim() != 1:
        raise TypeError(
            f"data: the labels of batch {index} must be int64 of shape [batch], got {labels.dtype} of shape "
            f"{list(labels.shape)}"
        )
    if inputs.dim() == 0 or len(inputs) != len(labels):
        raise ValueError(
            f"data: batch {index} must have one label for each input, got inputs of shape {list(inputs.shape)} and "
            f"{len(labels)} labels"
        )
    if inputs.dtype == torch.uint8:
        raise TypeError(f"data: batch {index} is uint8; pass what the model takes: bitorch.data.to_float(pixels)")
    if not inputs.numel():
        raise ValueError(f"data: batch {index} is empty: its inputs have shape {list(inputs.shape)}")
    return inputs.detach(), labels.detach()


def _pair(index: int, item: object) -> Batch:
    if isinstance(item, tuple | list) and len(item) == 2:
        inputs, labels = item
        if isinstance(inputs, Tensor) and isinstance(labels, Tensor):
            return inputs, labels
    raise TypeError(f"data: batch {index} must be a pair of tensors, inputs and labels, got {_spelled(item)}")


def _spelled(item: object) -> str:
    if isinstance(item, tuple | list):
        return f"a {type(item).__name__} of {', '.join(type(x).__name__ for x in item)}" if item else "an empty one"
    return type(item).__name__


@contextmanager
def quietly(device: torch.device) -> Iterator[None]:
    """Differentiate nothing inside, and leave the random generators as they were."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.inference_mode(False), torch.no_grad():
        yield


def score(model: nn.Module, batches: Sequence[Batch], *, renew_statistics: bool) -> Score:
    """Evaluate a model, which may be changed: its mode, and where asked for the statistics of its BatchNorms.

    Raises:
        TypeError: its output is no float tensor.
        ValueError: the output is not [batch, classes], or has no class for a label.
    """
    if renew_statistics:
        _renew(model, batches)
    model.eval()
    right, loss, count = 0, 0.0, 0
    for inputs, labels in batches:
        logits = _logits(model(inputs.clone()), labels)
        right += int((logits.argmax(1) == labels).sum())
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
        count += len(labels)
    return Score(right / count, loss / count if math.isfinite(loss) else math.inf)


def _logits(output: object, labels: Tensor) -> Tensor:
    if not isinstance(output, Tensor) or not output.is_floating_point():
        raise TypeError(f"the model must return a float tensor [batch, classes], got {type(output).__name__}")
    if output.dim() != 2 or len(output) != len(labels):
        raise ValueError(
            f"the model must return [batch, classes], got shape {list(output.shape)} for {len(labels)} labels"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= output.shape[1]:
        raise ValueError(f"data has labels {low}…{high}, but the model has {output.shape[1]} classes")
    return output.double()


def _renew(model: nn.Module, batches: Sequence[Batch]) -> None:
    """Take the running statistics of all BatchNorms anew: the plain mean over the batches, in one pass."""
    norms = [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats and module.running_mean is not None
    ]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        if norm.num_batches_tracked is None:  # as old pickles have it; the mean of all batches needs the count
            norm.num_batches_tracked = torch.zeros((), dtype=torch.long, device=batches[0][0].device)
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
        norm.train()
    for inputs, _ in batches:
        model(inputs.clone())
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
