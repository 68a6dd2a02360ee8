"""What a sweep trains: points of a grid or of a search, each with every seed."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..short_repr import short_repr
from ..train.fields import plain
from ..train.settings import Settings
from .space import Choice, Distribution, Reals

Algorithm = Literal["random", "tpe"]
Mode = Literal["min", "max"]
#: More than anybody waits for, and less than a product of long lists asks of the memory.
MOST_RUNS = 10_000
#: Before a search is said to have no further points.
_DRAWS_FOR_EACH = 200

#: Values of the fields that a sweep varies.
Point = Mapping[str, Any]


@dataclass(frozen=True)
class Search:
    """Points that are drawn.

    Attributes:
        space: distributions by field, one at least.
        trials: number of points.
        algorithm: "random", or "tpe", where points follow from what earlier ones reached.
        seed: of the draws.
        round: points of tpe that are chosen together, and so can be trained at the same time.
    """

    space: Mapping[str, Distribution]
    trials: int
    algorithm: Algorithm
    seed: int
    round: int

    def drawn(self) -> list[Point]:
        """Return the points of algorithm random: no two are the same, and fewer trials have the first of them.

        Raises:
            ValueError: there are fewer points than trials.
        """
        source = random.Random(self.seed)
        points: dict[str, Point] = {}
        for _ in range(_DRAWS_FOR_EACH * (self.trials + 10)):
            if len(points) == self.trials:
                break
            point = {name: distribution.at(source.random()) for name, distribution in self.space.items()}
            points.setdefault(repr(point), point)
        if len(points) < self.trials:
            raise ValueError(
                f"trials is {self.trials}, and the search has {len(points)} different points; lower trials to that, or "
                "write a grid"
            )
        return list(points.values())

    def corners(self) -> list[Point]:
        """Return points that together have both ends of every range, and every choice."""
        choices = [len(d.values) for d in self.space.values() if isinstance(d, Choice)]
        return [
            {name: _corner(distribution, number) for name, distribution in self.space.items()}
            for number in range(max([2, *choices]))
        ]


@dataclass(frozen=True)
class Plan:
    """What a sweep file says.

    Attributes:
        settings: fields that all runs have.
        grid: values by field, of which all products are points; None of a search.
        search: what points are drawn from; None of a grid.
        seeds: runs of each point, with the seeds from `settings.seed` on.
        metric: what tells which point is best, after the last epoch; "auto": what chooses a run's best checkpoint.
        mode: whether its least or its largest value is the best; None: what is known of the metric.
        cpus: cores of one run, and so its threads, on which the last bits of its numbers depend.
        gpus: of one run, 0 or 1.
    """

    settings: Mapping[str, Any]
    grid: Mapping[str, tuple[Any, ...]] | None
    search: Search | None
    seeds: int
    metric: str
    mode: Mode | None
    cpus: int
    gpus: int

    @property
    def fields(self) -> list[str]:
        """The fields that points differ in, in the order of the file."""
        space: Mapping[str, Any] | None = self.grid if self.search is None else self.search.space
        assert space is not None  # as a plan has one of them
        return list(space)

    @property
    def points(self) -> list[Point] | None:
        """All points in their order; None of a search whose points follow from what others reach."""
        if self.grid is not None:
            return [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]
        assert self.search is not None  # as a plan has one of them
        return self.search.drawn() if self.search.algorithm == "random" else None

    @property
    def count(self) -> int:
        """How many points there are."""
        if self.search is not None:
            return self.search.trials
        assert self.grid is not None
        return math.prod(map(len, self.grid.values()))

    @property
    def first_seed(self) -> int:
        """Of each point's runs; where points differ in their seeds, of no meaning."""
        seed: int = self.settings.get("seed", Settings.seed)
        return seed

    def runs(self, point: Point) -> list[Settings]:
        """Return the settings of a point's runs, one for each seed; ValueError or TypeError if some do not fit."""
        fields = {**self.settings, **point}
        if self.seeds == 1:
            return [Settings.from_dict(fields)]
        return [Settings.from_dict({**fields, "seed": self.first_seed + number}) for number in range(self.seeds)]

    def identity(self) -> dict[str, Any]:
        """Return what decides which runs there are, as types that YAML has."""
        content: dict[str, Any] = {"settings": {name: plain(value) for name, value in self.settings.items()}}
        if self.grid is not None:
            content["grid"] = {name: list(values) for name, values in self.grid.items()}
        if self.search is not None:
            content["search"] = {name: _said(distribution) for name, distribution in self.search.space.items()}
            content |= {name: getattr(self.search, name) for name in ("trials", "algorithm", "seed")}
            if self.search.algorithm == "tpe":  # whose points follow from these, too
                content |= {"round": self.search.round, "metric": self.metric, "mode": self.mode}
        return {**content, "seeds": self.seeds, "cpus": self.cpus, "gpus": self.gpus}


def point_text(point: Point) -> str:
    """Return a point for people: "lr 0.001, bits [1, 2, 6]"."""
    return ", ".join(f"{name} {short_repr(value)}" for name, value in point.items())


def _corner(distribution: Distribution, number: int) -> Any:
    if isinstance(distribution, Choice):
        return distribution.values[number % len(distribution.values)]
    return distribution.low if number % 2 == 0 else distribution.high


def _said(distribution: Distribution) -> dict[str, list[Any]]:
    """Return a distribution as a file says it."""
    if isinstance(distribution, Choice):
        return {"choice": list(distribution.values)}
    if isinstance(distribution, Reals):
        return {"loguniform" if distribution.log else "uniform": [distribution.low, distribution.high]}
    return {"integers": [distribution.low, distribution.high]}
