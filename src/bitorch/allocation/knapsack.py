"""The multiple-choice knapsack: of each group one item, the least loss that a budget allows. Solved exactly."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

#: Cost and loss of one item.
Item = tuple[int, float]


def least_loss(groups: Sequence[Sequence[Item]], budget: int) -> list[int] | None:
    """Return the index of one item in each group: of all selections within the budget one with the least sum of losses.

    Of several such it is one with the least cost. Dynamic programming: group by group, every sum of costs keeps its
    least loss, and what costs more for no less loss is dropped, as is what leaves too little for the other groups. That
    drops no optimum, so the result is exact, up to the rounding of float64 sums.

    Args:
        groups: each of at least one item; costs may be any ints, losses any finite numbers.
        budget: on the sum of the costs.

    Returns:
        None if even the cheapest items exceed the budget.
    """
    cheapest = [min(cost for cost, _ in group) for group in groups]
    if sum(cheapest) > budget:
        return None
    costs, losses = torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.float64)
    origins: list[tuple[Tensor, Tensor]] = []  # of each sum that is kept: which earlier one, and which item
    for index, group in enumerate(groups):
        room = budget - sum(cheapest[index + 1 :])
        item_costs = torch.tensor([cost for cost, _ in group], dtype=torch.int64)
        item_losses = torch.tensor([loss for _, loss in group], dtype=torch.float64)
        items = _undominated(item_costs, item_losses)
        new_costs = (costs.unsqueeze(1) + item_costs[items]).flatten()
        new_losses = (losses.unsqueeze(1) + item_losses[items]).flatten()
        fits = (new_costs <= room).nonzero().squeeze(1)
        kept = fits[_undominated(new_costs[fits], new_losses[fits])]
        origins.append((kept // len(items), items[kept % len(items)]))
        costs, losses = new_costs[kept], new_losses[kept]
    return _traced(origins, len(costs) - 1)


def _undominated(costs: Tensor, losses: Tensor) -> Tensor:
    """Return the indices, by rising cost, of what has less loss than everything that costs as much or less."""
    by_loss = losses.argsort(stable=True)
    order = by_loss[costs[by_loss].argsort(stable=True)]
    losses = losses[order]
    best_before = torch.cat([losses.new_full((1,), torch.inf), losses.cummin(0).values[:-1]])
    return order[losses < best_before]


def _traced(origins: Sequence[tuple[Tensor, Tensor]], last: int) -> list[int]:
    """Return the items behind the last sum that was kept, which has the least loss."""
    chosen = []
    for earlier, items in reversed(origins):
        chosen.append(int(items[last]))
        last = int(earlier[last])
    return chosen[::-1]
