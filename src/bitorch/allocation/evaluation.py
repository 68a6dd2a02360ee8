"""Mean loss, and where labels are right or wrong the accuracy, of a model on labelled batches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..batches import Batch, read_batch
from ..deployment.partial.evaluation_choice import EvaluationChoice
from ..deployment.partial.evaluation_forms import EvaluationForms
from ..deployment.partial.evaluation_pass import EvaluationPass
from ..model_copy import copied
from ..objective import Loss, Objective, check_loss, objective
from ..running import quietly


@dataclass(frozen=True)
class Score:
    """How good a model is.

    Attributes:
        accuracy: in [0, 1], None where no output is right or wrong.
        loss: the mean.
        evaluated: what low-bit layers have computed with.
    """

    accuracy: float | None
    loss: float
    evaluated: EvaluationForms


def read_data(model: nn.Module, data: Iterable[object], device: torch.device, loss: Loss | None) -> list[Batch]:
    """Return batches of inputs and labels as a list, on a device.

    Raises:
        TypeError, ValueError: no batch, or one that `read_batch` refuses, or not one label for each input, where no
            loss and no model says what labels are.
    """
    batches = []
    for index, item in enumerate(data):
        batch = read_batch(item, model, f"data: batch {index}")
        labels = batch.labels
        is_judged = loss is None and batch.labels_name is None and isinstance(labels, Tensor) and labels.dim() > 0
        if is_judged and len(labels) != len(batch):
            raise ValueError(
                f"data: batch {index} must have one label for each input, got {len(batch)} inputs and {len(labels)} "
                "labels"
            )
        batches.append(batch.mapped(torch.detach).to(device))
    if not batches:
        raise ValueError("data is empty; pass batches of inputs and labels, such as a loader of validation images")
    if any((batch.labels is None) != (batches[0].labels is None) for batch in batches):
        raise ValueError("data has batches with labels and batches without; pass labels with all of them")
    return batches


def objective_on(model: nn.Module, batches: Sequence[Batch], loss: Loss | None) -> Objective:
    """Return how a model is judged on batches, by what a copy of it returns for the first one.

    Raises:
        TypeError, ValueError: as `objective`; TypeError too without a loss and without labels.
    """
    check_loss(loss)
    with quietly(batches[0].tensors()[0].device):
        found = objective(batches[0].copied().run(copied(model).eval()), batches, loss)
    if found is None:
        raise TypeError("data: batch 0 has no labels; pass inputs and labels such as (x, y), or loss=")
    return found


def score(
    model: nn.Module,
    batches: Sequence[Batch],
    judged: Objective,
    *,
    renew_statistics: bool,
    evaluation: EvaluationChoice,
) -> Score:
    """Evaluate a model, which may be changed: its mode, and where asked for the statistics of its BatchNorms.

    The loss is the mean over all inputs, the accuracy that over all labels.
    """
    one = EvaluationPass(model, evaluation, batches=len(batches) * (2 if renew_statistics else 1))
    with one.running():
        if renew_statistics:
            _renew(model, batches)
        model.eval()
        accuracy, loss = _means(model, batches, judged)
    return Score(accuracy, loss if math.isfinite(loss) else math.inf, one.forms)


def _means(model: nn.Module, batches: Sequence[Batch], judged: Objective) -> tuple[float | None, float]:
    """Return accuracy and loss of a model in eval mode."""
    right, labels, loss, count = 0, 0, 0.0, 0
    for batch in batches:
        output = batch.copied().run(model)
        loss += float(judged.loss(output, batch.labels)) * len(batch)
        count += len(batch)
        if judged.right is not None:
            found = judged.right(output, batch.labels)
            right, labels = right + int(found.sum()), labels + found.numel()
    return right / labels if labels else None, loss / count


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
            norm.num_batches_tracked = torch.zeros((), dtype=torch.long, device=batches[0].tensors()[0].device)
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
        norm.train()
    for batch in batches:
        batch.copied().run(model)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
