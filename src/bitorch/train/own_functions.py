"""Losses and metrics of the user's own: what they return is looked at, and where they fail is said."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MeanMetric, Metric

from ..containers import tensors_in
from ..input_error import InputError, telling
from ..objective import Loss, check_loss


class CheckedLoss:
    """A loss of the user's own, which must return a tensor of one number that has a gradient.

    Args:
        loss: function of outputs and labels, or of outputs alone where there are no labels.

    Raises:
        TypeError: no function, or a class of one.
    """

    def __init__(self, loss: Loss) -> None:
        check_loss(loss)
        if loss is None:
            raise TypeError("loss must be a function of outputs and labels, got None")
        self.loss = loss
        self.name = self.__name__ = _name(loss, "own loss")

    def __call__(self, output: Any, target: Any) -> Tensor:
        """Return the loss of a batch, a 0-dim tensor; InputError where it is none, or the function raises."""
        with telling(f"the loss {self.name}"):
            value = self.loss(output) if target is None else self.loss(output, target)
        if not isinstance(value, Tensor):
            raise InputError(f"the loss {self.name} must return a tensor of one number, got {type(value).__name__}")
        if value.numel() != 1 or not value.is_floating_point():
            raise InputError(
                f"the loss {self.name} must return a tensor of one number, got {value.dtype} {list(value.shape)}; "
                "take the mean over the batch"
            )
        if torch.is_grad_enabled() and not value.requires_grad and any(x.requires_grad for x in tensors_in(output)):
            raise InputError(
                f"the loss {self.name} returns a number without a gradient, so nothing could be trained; compute it "
                "from the outputs by operations that have one, without detach(), item(), argmax or a comparison"
            )
        return value.reshape(())


@dataclass(frozen=True)
class OwnMetric:
    """A metric of the user's own: its name in the history, what makes a new one, and which values are better."""

    name: str
    make: Callable[[], Metric]
    larger_is_better: bool
    is_function: bool = False


def metric_of(metric: object) -> OwnMetric:
    """Return a metric of the user's own: a torchmetrics.Metric, its class, or a function of outputs and labels.

    Raises:
        TypeError: none of these. ValueError: one that does not say which values are better, or has a name of ours.
    """
    larger = getattr(metric, "higher_is_better", None)
    name = _name(metric, "own")
    if not (isinstance(metric, Metric) or callable(metric)):
        raise TypeError(
            "metric must be a name, a torchmetrics.Metric or a function of outputs and labels to a number, got "
            f"{metric!r}"
        )
    if not isinstance(larger, bool):
        raise ValueError(
            f"the metric {name} does not say whether larger is better; set {name}.higher_is_better = True or False"
        )
    if isinstance(metric, Metric):
        return OwnMetric(name, metric.clone, larger)
    if isinstance(metric, type) and issubclass(metric, Metric):
        _check_makes(metric)
        return OwnMetric(name, metric, larger)
    return OwnMetric(name, lambda: MeanOf(metric, name), larger, is_function=True)


def _check_makes(metric: type[Metric]) -> None:
    needed = [
        p.name
        for p in inspect.signature(metric).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    if needed:
        raise TypeError(f"metric is the class {metric.__name__}, which needs {', '.join(needed)}; pass an instance")


class MeanOf(MeanMetric):
    """The mean over all samples of a function of outputs and labels to the mean number of a batch."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        super().__init__(nan_strategy=math.nan)  # a NaN counts as NaN
        self.function, self.name = function, name

    def update(self, value: Any, weight: Any) -> None:  # type: ignore[override]  # outputs and labels, as other metrics
        """Count a batch of outputs (`value`) and labels (`weight`)."""
        output, target = value, weight
        with telling(f"the metric {self.name}"):
            number = self.function(output) if target is None else self.function(output, target)
        if isinstance(number, Tensor) and number.numel() == 1:
            number = number.detach().float().reshape(())
        elif isinstance(number, bool) or not isinstance(number, int | float):
            kind = f"a tensor {list(number.shape)}" if isinstance(number, Tensor) else type(number).__name__
            raise InputError(f"the metric {self.name} must return a number, got {kind}")
        super().update(number, weight=len(tensors_in(output)[0]))


def _name(value: object, otherwise: str) -> str:
    name = getattr(value, "__name__", type(value).__name__)
    return otherwise if not isinstance(name, str) or name == "<lambda>" else name
