"""How much worse a model is with other bits in one layer: `bitorch.sensitivity`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from ..batches import Batch
from ..conversion.rules import Match
from ..conversion.set_bits import set_bits
from ..deployment.partial.evaluation_choice import EvaluationChoice, check_evaluation
from ..deployment.partial.evaluation_forms import EvaluationForms
from ..model_copy import copied
from ..objective import CROSS_ENTROPY, Loss, Objective
from ..running import quietly
from ..text_table import aligned, ruled
from ..wrappers import unwrapped
from .candidates import Candidates, Pair, Refused, candidates, pairs_of, pattern, spelled
from .evaluation import Score, objective_on, read_data, score


@dataclass(frozen=True)
class LayerSensitivity:
    """How good the model is with other bits in one layer, all other layers as they are.

    Attributes:
        layer: its name.
        weight_bits, activation_bits: that it has here; activation_bits is None of a layer without quantized input.
        accuracy, loss: of the model then; accuracy is None where no output is right or wrong.
        accuracy_change, loss_change: from the model as it is; worse is below 0 for accuracy, and above 0 for loss.
    """

    layer: str
    weight_bits: int
    activation_bits: int | None
    accuracy: float | None
    loss: float
    accuracy_change: float | None
    loss_change: float

    @property
    def bits(self) -> Pair:
        """Bits of weight and activation."""
        return self.weight_bits, self.activation_bits


@dataclass(frozen=True)
class Sensitivity:
    """What `bitorch.sensitivity` found. Printing it shows a table.

    Attributes:
        accuracy, loss: of the model as it is, evaluated in the same way; accuracy is None where no output is right or
            wrong, as of a regression.
        images: number of inputs.
        renewed: whether BatchNorm statistics were taken anew.
        present: the bits of each layer in the model, by its name.
        rows: of each layer and all its other bits, in the model's order.
        refused: bits that a layer cannot get.
        evaluated: what the low-bit layers of the model as it is were evaluated on.
        loss_is: which loss it is, such as "cross-entropy".
    """

    accuracy: float | None
    loss: float
    images: int
    renewed: bool
    present: Mapping[str, Pair]
    rows: tuple[LayerSensitivity, ...]
    refused: tuple[Refused, ...]
    evaluated: EvaluationForms
    loss_is: str = CROSS_ENTROPY

    def __str__(self) -> str:
        rows = [("layer", "is", "with", "accuracy", "change", "loss", "change"), *map(self._cells, self.rows)]
        if self.accuracy is None:
            rows = [(*cells[:3], *cells[5:]) for cells in rows]
        lines = aligned(rows, right=range(3, len(rows[0])))
        accuracy = "" if self.accuracy is None else f"accuracy {self.accuracy:.2%}, "
        base = f"as it is: {accuracy}loss {self.loss:.4f} ({self.loss_is}), on {self.images} inputs"
        how = "BatchNorm statistics taken anew from them" if self.renewed else "BatchNorm statistics as they are"
        refused = [f"{row.layer} cannot have {spelled(row.bits)}: {row.reason}" for row in self.refused]
        evaluated = [str(self.evaluated)] if self.evaluated.layers else []
        return "\n".join([ruled(lines), *evaluated, f"{base}; {how}", *refused])

    def _cells(self, row: LayerSensitivity) -> tuple[str, ...]:
        return (
            row.layer,
            spelled(self.present[row.layer]),
            spelled(row.bits),
            "" if row.accuracy is None else f"{row.accuracy:.2%}",
            "" if row.accuracy_change is None else f"{100 * row.accuracy_change:+.2f}",
            f"{row.loss:.4f}",
            f"{row.loss_change:+.4f}",
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the same in types that JSON has; a loss that is not finite is None."""
        rows = [{name: _finite(value) for name, value in asdict(row).items()} for row in self.rows]
        return {
            **{name: getattr(self, name) for name in ("accuracy", "loss", "loss_is", "images", "renewed")},
            "evaluated": {"packed": list(self.evaluated.packed), "unpacked": self.evaluated.unpacked},
            "present": {name: list(pair) for name, pair in self.present.items()},
            "rows": rows,
            "refused": [{**asdict(row), "bits": list(row.bits)} for row in self.refused],
        }

    def loss_changes(self, layer: str) -> dict[Pair, float]:
        """Return the change of the loss for all bits that a layer was tried with; its present bits have 0.

        Raises:
            KeyError: no such layer.
        """
        found = {row.bits: row.loss_change for row in self.rows if row.layer == layer}
        return {self.present[layer]: 0.0, **found}


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not torch.tensor(value).isfinite() else value


def sensitivity(
    model: nn.Module,
    data: Iterable[Any],
    bits: Sequence[int] | Sequence[tuple[int, int]] = ((1, 1), (2, 2), (4, 4)),
    *,
    layers: Sequence[Match] | None = None,
    renew_statistics: bool = True,
    loss: Loss | None = None,
    evaluation: EvaluationChoice = "auto",
) -> Sensitivity:
    """Evaluate a model with other bits in one layer at a time.

    Quantizers keep their ranges, as in `set_bits`; nothing is trained. With few bits, the outputs of a layer have other
    means and variances, which mere training of a BatchNorm's statistics corrects. So that a layer is not blamed for
    that, all BatchNorms take their statistics anew from the data in every trial, and for the model as it is:
    the means over its batches, for which batches of 32 inputs and more are best. Copies are changed, never the model,
    and the random generator stays as it is. The same call gives the same numbers.

    Args:
        model: converted and trained, on any device: a classifier, or any other model with a loss.
        data: batches of inputs and labels, such as (x, y), ((u, v), y) or dicts for model(**batch), see
            docs/training.md; taken once, and kept. A few hundred images that training has not seen are enough to tell
            layers apart.
        bits: to try: pairs of weight and activation bits, or numbers, of which weights and activations get all pairs.
            1…8, or 32 for none. What a layer has already is not tried.
        layers: those to change: names, globs, "re:…" or layer types, as in rules; None for all low-bit layers.
        renew_statistics: False keeps the statistics of BatchNorms.
        loss: function of the model's output and the labels (of the output alone, if the data have none) to its mean, a
            tensor of one number. None: the one that the model returns, or else the one that outputs and labels ask for,
            by the table in docs/training.md: cross-entropy for classes, mean squared error for numbers …
        evaluation: what low-bit layers compute with: "auto", "packed" or "unpacked", as in bitorch.train.Settings. The
            numbers are the same.

    Returns:
        A table of the loss, and where labels are right or wrong the accuracy, for each layer and its bits. Bits that a
        layer cannot have, such as 2 behind a sign, are listed with the reason.

    Raises:
        TypeError: no module, no batches, no labels and no loss, a loss that is no function; bits or matches that are
            none; outputs without logits.
        ValueError: no low-bit layer, a match without one, bits that no layer can have, no data or an empty batch,
            labels without a class, or that do not say which loss; the loss of the model as it is is not finite; an
            unknown evaluation, or "packed" where a layer cannot be.
    """
    model = unwrapped(model)
    check_evaluation(evaluation)
    pairs = pairs_of(bits)
    found = candidates(model, pairs, layers)
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    batches = read_data(model, data, device, loss)
    judged = objective_on(model, batches, loss)
    return measured(model, batches, judged, found, renew_statistics=renew_statistics, evaluation=evaluation)


def measured(
    model: nn.Module,
    batches: Sequence[Batch],
    judged: Objective,
    found: Candidates,
    *,
    renew_statistics: bool,
    evaluation: EvaluationChoice,
) -> Sensitivity:
    """Return the sensitivity to candidates that were found before."""
    scored = partial(score, batches=batches, judged=judged, renew_statistics=renew_statistics, evaluation=evaluation)
    with quietly(batches[0].tensors()[0].device):
        base = scored(copied(model))
        if base.loss == float("inf"):
            raise ValueError(
                "the model's loss on the data is not finite; bitorch.check(model, batch) names the layer it starts in"
            )
        rows = []
        for name, pairs in found.possible.items():
            for pair in pairs:
                if pair != found.present[name]:
                    trial = copied(model)
                    set_bits(trial, [(pattern(name), pair)])
                    rows.append(_row(name, pair, scored(trial), base))
    return Sensitivity(
        accuracy=base.accuracy,
        loss=base.loss,
        images=sum(map(len, batches)),
        renewed=renew_statistics,
        present=dict(found.present),
        rows=tuple(rows),
        refused=found.refused,
        loss_is=judged.name,
        evaluated=base.evaluated,
    )


def _row(name: str, pair: Pair, found: Score, base: Score) -> LayerSensitivity:
    return LayerSensitivity(
        layer=name,
        weight_bits=pair[0],
        activation_bits=pair[1],
        accuracy=found.accuracy,
        loss=found.loss,
        accuracy_change=None if found.accuracy is None or base.accuracy is None else found.accuracy - base.accuracy,
        loss_change=found.loss - base.loss,
    )
