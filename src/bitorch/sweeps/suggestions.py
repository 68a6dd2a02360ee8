"""Points that follow from what earlier ones reached: the tree-structured Parzen estimator of Optuna, in rounds.

All points of a round are chosen before one of them is trained, and told in their order when all are done. So the same
file gives the same points however many are trained at the same time, and after a kill they are chosen again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .metric import larger_is_better
from .plan import Plan, Point
from .results import PointResult
from .space import Choice, Distribution, Reals, rounded

try:
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
    from optuna.trial import Trial, TrialState
except ModuleNotFoundError as missing:
    raise ImportError(
        'algorithm tpe needs Optuna: pip install ".[search]" in a checkout of bitorch', name=missing.name
    ) from missing


class Suggestions:
    """The points of a search with algorithm tpe.

    Args:
        plan: of a search.
    """

    def __init__(self, plan: Plan) -> None:
        assert plan.search is not None
        self._search, self._mode = plan.search, plan.mode
        self._distributions = {name: _distribution(d) for name, d in self._search.space.items()}
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # What is told is smaller for better points, because "auto" has no direction before a run is done.
        # constant_liar: the points of a round, which know nothing of each other, keep apart.
        self._study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=self._search.seed, constant_liar=True), direction="minimize"
        )
        self._asked: list[Trial] = []

    def ask(self, most: int) -> list[Point]:
        """Return the points of the next round, `most` at most."""
        self._asked = [self._study.ask(self._distributions) for _ in range(min(most, self._search.round))]
        return [self._point(trial) for trial in self._asked]

    def tell(self, rows: Sequence[PointResult]) -> None:
        """Take what the points of the last round reached, in their order."""
        for trial, row in zip(self._asked, rows, strict=True):
            if row.mean is None or row.metric is None:
                self._study.tell(trial, state=TrialState.FAIL)
            else:
                self._study.tell(trial, -row.mean if larger_is_better(row.metric, self._mode) else row.mean)

    def _point(self, trial: Trial) -> Point:
        return {name: _value(d, trial.params[name]) for name, d in self._search.space.items()}


def _distribution(distribution: Distribution) -> BaseDistribution:
    if isinstance(distribution, Choice):
        return CategoricalDistribution(range(len(distribution.values)))  # by place: a value may be a list
    if isinstance(distribution, Reals):
        return FloatDistribution(distribution.low, distribution.high, log=distribution.log)
    return IntDistribution(distribution.low, distribution.high)


def _value(distribution: Distribution, chosen: Any) -> Any:
    if isinstance(distribution, Choice):
        return distribution.values[chosen]
    if isinstance(distribution, Reals):
        return min(max(rounded(chosen), distribution.low), distribution.high)
    return chosen
