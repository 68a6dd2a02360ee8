"""The multiple-choice knapsack, against all selections; and the bits that are chosen with it."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bitorch
from bitorch.allocation.candidates import Pair
from bitorch.allocation.choice import best_bits, cost_of, fewest, finite_monotone, most_bits
from bitorch.allocation.knapsack import Item, least_loss

# Sums of small whole numbers are exact in float64, so totals are compared with equality.
items = st.tuples(st.integers(0, 20), st.integers(-8, 8).map(float))
groups = st.lists(st.lists(items, min_size=1, max_size=5), min_size=0, max_size=5)


def totals(groups: list[list[Item]], chosen: tuple[int, ...] | list[int]) -> tuple[int, float]:
    cost = sum(group[index][0] for group, index in zip(groups, chosen, strict=True))
    return cost, sum(group[index][1] for group, index in zip(groups, chosen, strict=True))


@settings(deadline=None, max_examples=300)
@given(groups, st.integers(-5, 80))
def test_it_is_the_best_of_all_selections(groups: list[list[Item]], budget: int) -> None:
    every = [totals(groups, chosen) for chosen in product(*(range(len(group)) for group in groups))]
    possible = [(loss, cost) for cost, loss in every if cost <= budget]
    found = least_loss(groups, budget)
    if not possible:
        assert found is None
        return
    assert found is not None
    cost, loss = totals(groups, found)
    assert (loss, cost) == min(possible)  # least loss, and least cost of those


def test_large_costs_and_many_groups() -> None:
    group = [(10**12, 5.0), (2 * 10**12, 1.0)]
    found = least_loss([group] * 60, 60 * 10**12 + 7 * 10**12)
    assert found is not None
    assert totals([group] * 60, found) == (67 * 10**12, 53 * 5.0 + 7.0)


PAIRS: list[Pair] = [(1, 1), (1, 2), (2, 1), (2, 2)]
Table = dict[Pair, float]
tables = st.dictionaries(st.sampled_from(PAIRS), st.integers(-5, 9).map(float), min_size=1)


@settings(deadline=None)
@given(st.lists(tables, min_size=1, max_size=4), st.data(), st.integers(0, 40))
def test_bits_are_the_best_of_all_mixes(given_losses: list[Table], data: st.DataObject, budget: int) -> None:
    losses = finite_monotone({f"l{i}": dict(table) for i, table in enumerate(given_losses)})
    costs = {name: {pair: data.draw(st.integers(0, 12)) for pair in pairs} for name, pairs in losses.items()}
    found = best_bits(losses, costs, budget)
    mixes = [dict(zip(losses, pairs, strict=True)) for pairs in product(*losses.values())]
    possible = [mix for mix in mixes if cost_of(mix, costs) <= budget]
    assert (found is None) == (not possible)
    if found is None:
        assert cost_of(fewest(costs, losses), costs) > budget
        return
    assert found in possible
    if most_bits(losses) in possible:
        assert found == most_bits(losses)
    else:
        assert _loss(losses, found) == min(_loss(losses, mix) for mix in possible)


def _loss(losses: dict[str, Table], mix: dict[str, Pair]) -> float:
    return sum(losses[name][pair] for name, pair in mix.items())


def test_more_bits_never_count_as_worse_and_what_is_not_finite_is_gone() -> None:
    measured: dict[str, Table] = {
        "a": {(1, 1): 3.0, (1, 2): 5.0, (2, 1): 1.0, (2, 2): 2.0},
        "b": {(1, 1): float("inf"), (4, None): 1.0},
    }
    assert finite_monotone(measured) == {
        "a": {(1, 1): 3.0, (1, 2): 3.0, (2, 1): 1.0, (2, 2): 1.0},
        "b": {(4, None): 1.0},
    }


def test_budgets() -> None:
    assert bitorch.Budget(bytes=7).units == 7
    assert bitorch.Budget(milliseconds=0.25).units == 2500
    assert (bitorch.Budget(bytes=7).unit, bitorch.Budget(milliseconds=1).unit) == ("bytes", "milliseconds")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "either bytes or milliseconds"),
        ({"bytes": 1, "milliseconds": 1.0}, ValueError, "either bytes or milliseconds"),
        ({"bytes": 0}, ValueError, "above 0"),
        ({"bytes": -3}, ValueError, "above 0"),
        ({"bytes": 1e5}, TypeError, "bytes must be an int"),
        ({"bytes": True}, TypeError, "bytes must be an int"),
        ({"milliseconds": "1"}, TypeError, "milliseconds must be a number"),
        ({"milliseconds": float("nan")}, ValueError, "finite"),
        ({"milliseconds": float("inf")}, ValueError, "finite"),
    ],
)
def test_bad_budgets(arguments: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        bitorch.Budget(**arguments)  # type: ignore[arg-type]
