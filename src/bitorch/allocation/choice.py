"""Which bits each layer gets: the least loss within a budget, by additive losses and costs."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .candidates import Pair, order
from .knapsack import least_loss

#: Of each layer at each of its bits.
Losses = Mapping[str, Mapping[Pair, float]]
LayerCosts = Mapping[str, Mapping[Pair, int]]


def finite_monotone(losses: Losses) -> dict[str, dict[Pair, float]]:
    """Return losses of which none is above that of fewer bits in the same layer; those that are not finite are gone.

    A layer has all levels of fewer bits, or as good ones, and training finds them: where more bits measure worse, that
    is noise, or a net that has learned to live with the levels it has.
    """
    finite = {
        name: {pair: loss for pair, loss in of_layer.items() if math.isfinite(loss)}
        for name, of_layer in losses.items()
    }
    return {
        name: {pair: min(of_layer[other] for other in of_layer if _within(other, pair)) for pair in of_layer}
        for name, of_layer in finite.items()
    }


def _within(one: Pair, other: Pair) -> bool:
    """Return whether a pair has nowhere more bits than another."""
    return all(a <= b for a, b in zip(order(one), order(other), strict=True))


def most_bits(losses: Losses) -> dict[str, Pair]:
    """Return of each layer the pair with the most bits, those of weight and activation added."""
    return {name: max(pairs, key=lambda pair: (sum(order(pair)), pair[0])) for name, pairs in losses.items()}


def fewest(costs: LayerCosts, losses: Losses) -> dict[str, Pair]:
    """Return of each layer the pair that costs least; of several the one with the least loss."""
    return {
        name: min(pairs, key=lambda pair: (costs[name][pair], pairs[pair], order(pair)))
        for name, pairs in losses.items()
    }


def cost_of(bits: Mapping[str, Pair], costs: LayerCosts) -> int:
    """Return the sum of the costs of layers with these bits."""
    return sum(costs[name][pair] for name, pair in bits.items())


def best_bits(losses: Losses, costs: LayerCosts, budget: int) -> dict[str, Pair] | None:
    """Return the bits of least total loss within a budget, the most bits if that pays for them; None if none do."""
    most = most_bits(losses)
    if cost_of(most, costs) <= budget:
        return most
    pairs = {name: sorted(of_layer, key=order) for name, of_layer in losses.items()}
    groups = [[(costs[name][pair], losses[name][pair]) for pair in pairs[name]] for name in pairs]
    chosen = least_loss(groups, budget)
    return None if chosen is None else {name: pairs[name][i] for name, i in zip(pairs, chosen, strict=True)}
