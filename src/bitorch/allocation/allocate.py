"""Bits for each layer that a budget allows: `bitorch.allocate`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from torch import nn

from ..by_position import by_position
from ..conversion.bits import Bits
from ..conversion.rules import Match, Rule
from ..conversion.set_bits import set_bits
from ..deployment.partial.evaluation_choice import EvaluationChoice, check_evaluation
from ..model_copy import copied
from ..objective import Loss
from ..running import quietly
from ..text_table import aligned, ruled
from ..wrappers import unwrapped
from .budget import Budget, amount, amount_text
from .candidates import Pair, candidates, pairs_of, pattern, spelled
from .choice import LayerCosts, Losses, best_bits, cost_of, fewest, finite_monotone
from .costs import Meter, all_costs
from .evaluation import objective_on, read_data, score
from .sensitivity import Sensitivity, measured


@dataclass(frozen=True)
class LayerAllocation:
    """What one layer gets.

    Attributes:
        layer: its name.
        was, bits: bits of weight and activation in the model, and now.
        cost: of the layer now, as predicted, in bytes or milliseconds.
        loss_change: of the model when only this layer changes, none above that of fewer bits.
    """

    layer: str
    was: Pair
    bits: Pair
    cost: float
    loss_change: float


@dataclass(frozen=True)
class Uniform:
    """The model with the same bits in all layers: its cost, as measured, and the loss that is predicted for it."""

    bits: Pair
    cost: float
    predicted_loss: float


@dataclass(frozen=True)
class Allocation:
    """What `bitorch.allocate` found. Printing it shows a table.

    Attributes:
        budget: as given.
        rules: for `set_bits(model, allocation.rules)`; one for each layer, by its name.
        layers: what each gets.
        predicted_cost, predicted_loss: sums over the layers: in bytes or milliseconds, and of the loss.
        cost: of the model with these bits, really deployed: the bytes of its packed file, or the milliseconds.
        accuracy, loss: of the model with these bits before any training, on the data; accuracy is None where no
            output is right or wrong. `sensitivity.loss_is` says which loss.
        uniform: for comparison, the same for equal bits in all layers.
        costs_are: what bytes or milliseconds they are.
        sensitivity: what the losses are from.
    """

    budget: Budget
    rules: tuple[Rule, ...]
    layers: tuple[LayerAllocation, ...]
    predicted_cost: float
    predicted_loss: float
    cost: float
    accuracy: float | None
    loss: float
    uniform: tuple[Uniform, ...]
    costs_are: str
    sensitivity: Sensitivity

    def __str__(self) -> str:
        unit = self.budget.unit
        header = ("layer", "was", "gets", unit, "loss change")
        lines = aligned([header, *map(self._cells, self.layers)], right=(3, 4))
        predicted = amount_text(self.predicted_cost, unit)
        uniform = [
            f"{spelled(row.bits)} in all layers: {amount_text(row.cost, unit)}, predicted loss {row.predicted_loss:.4f}"
            for row in self.uniform
        ]
        costs = f"{amount_text(self.cost, unit)} (predicted {predicted}); {unit} are {self.costs_are}"
        losses = f"loss predicted {self.predicted_loss:.4f}, before training {self.loss:.4f}"
        measured_as = self.sensitivity.loss_is if self.accuracy is None else f"accuracy {self.accuracy:.2%}"
        return "\n".join([ruled(lines), costs, f"{losses}; {measured_as}", *uniform])

    def _cells(self, row: LayerAllocation) -> tuple[str, ...]:
        cost = f"{row.cost:,}" if self.budget.unit == "bytes" else f"{row.cost:.4f}"
        return row.layer, spelled(row.was), spelled(row.bits), cost, f"{row.loss_change:+.4f}"

    def to_dict(self) -> dict[str, Any]:
        """Return the same in types that JSON has."""
        numbers = ("predicted_cost", "predicted_loss", "cost", "accuracy", "loss", "costs_are")
        return {
            "budget": {self.budget.unit: getattr(self.budget, self.budget.unit)},
            **{name: getattr(self, name) for name in numbers},
            "layers": [{**vars(row), "was": list(row.was), "bits": list(row.bits)} for row in self.layers],
            "uniform": [{**vars(row), "bits": list(row.bits)} for row in self.uniform],
            "sensitivity": self.sensitivity.to_dict(),
        }


def allocate(
    model: nn.Module,
    data: Iterable[Any],
    budget: Budget,
    bits: Sequence[int] | Sequence[tuple[int, int]] = (1, 2, 3, 4),
    *,
    layers: Sequence[Match] | None = None,
    renew_statistics: bool = True,
    repeats: int = 20,
    loss: Loss | None = None,
    evaluation: EvaluationChoice = "auto",
) -> Allocation:
    """Choose bits for each layer such that the loss grows least and a budget is kept.

    The loss is taken as additive: that of the model as it is, plus what each layer changes when it alone gets other
    bits (`sensitivity`), where more bits of a layer never count as worse than fewer. So is the cost: copies of the
    model are deployed with each of the bits in all layers, and what each layer costs is read from the packed programs.
    Among all mixes the best by these sums is found exactly (a multiple-choice knapsack, by dynamic programming). Then
    that mix is deployed; if its file is larger than predicted and above the budget, the next best is taken.
    Milliseconds are measured, so they keep the budget up to noise.

    Nothing is trained, and the model stays as it is. Have it trained with the most bits that are considered; then
    `set_bits(model, allocation.rules)`, and train on.

    Args:
        model: converted and trained.
        data: as of `sensitivity`. The first sample is the example that the model is deployed with, so inputs must be
            tensors.
        budget: on the packed file's bytes or on milliseconds. A model that deploys in parts or not at all has the bytes
            that `report` says.
        bits, layers, renew_statistics: as of `sensitivity`. Layers that are left out keep their bits, and are part
            of the costs.
        repeats: runs for milliseconds, of which the fastest counts.
        loss, evaluation: as of `sensitivity`.

    Raises:
        TypeError: as of `sensitivity`; inputs that are no tensors; a budget that is none, `repeats` that is no int.
        ValueError: as of `sensitivity`; a budget below what the fewest bits cost, which the message says; `repeats`
            below 1; milliseconds of a model that does not deploy.
    """
    _check(budget, repeats)
    check_evaluation(evaluation)
    model = unwrapped(model)
    found = candidates(model, pairs_of(bits), layers)
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    batches = read_data(model, data, device, loss)
    callee, inputs = by_position(model, batches[0])
    example = [x[:1] for x in inputs]
    judged = objective_on(model, batches, loss)
    possible = {name: pairs for name, pairs in found.possible.items() if pairs}
    meter = Meter(callee, example, list(possible), budget.unit, repeats)
    costs = all_costs(meter, possible)
    _check_reachable(budget, meter, costs.layers, costs.rest)
    how: _How = {"renew_statistics": renew_statistics, "evaluation": evaluation}
    seen = measured(model, batches, judged, found, **how)
    losses = _losses(seen, possible)
    mix, cost = _chosen(budget, meter, losses, costs.layers, costs.rest)
    with quietly(device):
        before_training = score(_with(model, mix), batches, judged, **how)
    return Allocation(
        budget=budget,
        rules=tuple(Rule(pattern(name), Bits(*pair)) for name, pair in mix.items()),
        layers=tuple(
            LayerAllocation(
                name, seen.present[name], pair, amount(costs.layers[name][pair], budget.unit), losses[name][pair]
            )
            for name, pair in mix.items()
        ),
        predicted_cost=amount(cost_of(mix, costs.layers) + costs.rest, budget.unit),
        predicted_loss=seen.loss + sum(losses[name][pair] for name, pair in mix.items()),
        cost=amount(cost, budget.unit),
        accuracy=before_training.accuracy,
        loss=before_training.loss,
        uniform=_uniform(costs.uniform, losses, seen.loss, budget.unit),
        costs_are=costs.what,
        sensitivity=seen,
    )


class _How(TypedDict):
    """How models are scored."""

    renew_statistics: bool
    evaluation: EvaluationChoice


def _check(budget: object, repeats: object) -> None:
    if not isinstance(budget, Budget):
        raise TypeError(
            "budget must be a bitorch.Budget, such as Budget(bytes=100_000) or Budget(milliseconds=0.5), "
            f"got {budget!r}"
        )
    if isinstance(repeats, bool) or not isinstance(repeats, int):
        raise TypeError(f"repeats must be an int, got {repeats!r}")
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")


def _check_reachable(budget: Budget, meter: Meter, costs: LayerCosts, rest: int) -> None:
    """Raise a ValueError with the least possible if the cheapest bits cost more than the budget."""
    cheapest = fewest(costs, {name: dict.fromkeys(pairs, 0.0) for name, pairs in costs.items()})
    if cost_of(cheapest, costs) + rest > budget.units:
        _within_budget(budget, meter, cheapest)


def _within_budget(budget: Budget, meter: Meter, cheapest: Mapping[str, Pair]) -> int:
    """Return what the cheapest bits really cost; ValueError if that is above the budget."""
    least = meter.measure(cheapest)[1]
    if least > budget.units:
        given, needed = (amount_text(amount(units, budget.unit), budget.unit) for units in (budget.units, least))
        raise ValueError(
            f"a budget of {given} cannot be met: the fewest of these bits take {needed}; raise the budget, or allow "
            "fewer bits in more layers"
        )
    return least


def _losses(seen: Sensitivity, possible: Mapping[str, Sequence[Pair]]) -> dict[str, dict[Pair, float]]:
    """Return the changes of the loss that bits are chosen by."""
    changes = {name: seen.loss_changes(name) for name in possible}
    losses = finite_monotone({name: {pair: changes[name][pair] for pair in pairs} for name, pairs in possible.items()})
    for name, of_layer in losses.items():
        if not of_layer:
            raise ValueError(f"layer {name!r}: the loss is not finite with any of its bits; leave it out of layers")
    return losses


def _chosen(budget: Budget, meter: Meter, losses: Losses, costs: LayerCosts, rest: int) -> tuple[dict[str, Pair], int]:
    """Return the best bits whose real cost keeps the budget, and that cost; milliseconds are taken as predicted."""
    limit = budget.units - rest
    while (mix := best_bits(losses, costs, limit)) is not None:
        cost = meter.measure(mix)[1]
        if cost <= budget.units or budget.unit == "milliseconds":
            return mix, cost
        limit = min(limit, cost_of(mix, costs)) - (cost - budget.units)
    mix = fewest(costs, losses)
    return mix, _within_budget(budget, meter, mix)


def _with(model: nn.Module, mix: Mapping[str, Pair]) -> nn.Module:
    own = copied(model)
    set_bits(own, [(pattern(name), pair) for name, pair in mix.items()])
    return own


def _uniform(costs: Mapping[Pair, int], losses: Losses, loss: float, unit: str) -> tuple[Uniform, ...]:
    return tuple(
        Uniform(pair, amount(cost, unit), loss + sum(of_layer[pair] for of_layer in losses.values()))
        for pair, cost in costs.items()
        if all(pair in of_layer for of_layer in losses.values())
    )
