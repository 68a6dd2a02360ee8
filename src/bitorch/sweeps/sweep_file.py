"""The file of a sweep: every key of it is known, and every point becomes settings, before anything is trained."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ..short_repr import short_repr
from ..structured_text import parse_yaml, read_text
from ..train.content import Part
from ..train.fields import reject_unknown
from ..train.settings import Settings
from .metric import KNOWN_METRICS
from .plan import MOST_RUNS, Mode, Plan, Point, Search, point_text
from .space import read_distribution, read_values

_OF_SEARCH = ("trials", "algorithm", "seed", "round")
_KEYS = ("settings", "grid", "search", *_OF_SEARCH, "seeds", "metric", "mode", "cpus", "gpus")
_ALGORITHMS = ("random", "tpe")
_MODES = ("min", "max")
#: What a sweep says of its runs by itself.
_OURS = {
    "out": "a sweep keeps each run in a folder of its own below --out",
    "resume": "a sweep goes on with its runs by itself",
    "devices": "each run of a sweep is one process; gpus says whether it has a GPU",
    "num_nodes": "each run of a sweep is one process; --address spreads runs over machines",
}


def read_sweep(path: Path) -> Plan:
    """Return what a sweep file says: YAML, of which JSON is a part.

    Raises:
        FileNotFoundError: no such file. IsADirectoryError: a folder.
        ValueError, TypeError: naming the file, the key, its value, the rule and the fix; also for the first point whose
            settings do not fit, and for a space without a point.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a YAML or JSON file with the settings of a sweep")
    text = read_text(path)
    try:
        plan = _plan(Part(parse_yaml(text, yaml), ""))
        _check_points(plan)
    except TypeError as error:
        raise TypeError(f"{path}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return plan


def _plan(content: Part) -> Plan:
    if not isinstance(content.value, Mapping):
        raise ValueError(
            f"it must hold a mapping with the keys settings and grid, or search, got {content.value!r:.40}"
        )
    for key in content.value:
        if key not in _KEYS:
            near = difflib.get_close_matches(str(key), _KEYS, n=1)
            is_field = key in Settings.__dataclass_fields__
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(_KEYS)}"
            raise ValueError(f"unknown key {short_repr(key)}; {'it belongs below settings' if is_field else hint}")
    if ("grid" in content.value) == ("search" in content.value):
        has = "both" if "grid" in content.value else "neither"
        raise ValueError(
            f"it must have a grid or a search, and has {has}: a search space without a point trains nothing"
        )
    grid = content.get("grid")
    return Plan(
        settings=_settings(content),
        grid=None if grid is None else {name: read_values(part) for name, part in _fields(grid, content)},
        search=_search(content),
        seeds=_whole(content, "seeds", 1, 1, MOST_RUNS),
        metric=_metric(content),
        mode=_mode(content),
        cpus=_whole(content, "cpus", 1, 1, 1024),
        gpus=_whole(content, "gpus", 0, 0, 1),
    )


def _settings(content: Part) -> Mapping[str, Any]:
    part = content.get("settings")
    if part is None:
        return {}
    fields = part.mapping()
    _check_names(part)
    return dict(fields)


def _fields(space: Part, content: Part) -> Iterator[tuple[str, Part]]:
    """Yield what a grid or a search varies."""
    if not space.mapping():
        raise ValueError(
            f"{space.place} is empty, which is a search space without a point; give it a field and its values"
        )
    _check_names(space)
    fixed = content["settings"].mapping() if "settings" in content.mapping() else {}
    for name, part in space.items():
        if name in fixed:
            raise ValueError(f"{name} stands in settings and in {space.place}; leave it out of one of them")
        if name == "seed" and "seeds" in content.mapping():
            raise ValueError(f"{part.place} and seeds both say which seeds there are; leave one of them out")
        yield name, part


def _check_names(part: Part) -> None:
    fields = part.mapping()
    try:
        reject_unknown(fields, list(Settings.__dataclass_fields__))
    except ValueError as error:
        raise ValueError(f"{part.place}: {error}") from None
    for name in fields:
        if name in _OURS:
            raise ValueError(f"{part.place}.{name} must be left out: {_OURS[name]}")


def _search(content: Part) -> Search | None:
    part = content.get("search")
    if part is None:
        for key in _OF_SEARCH:
            if key in content.mapping():
                raise ValueError(f"{key} belongs to a search, and there is a grid; leave it out")
        return None
    algorithm = _one_of(content, "algorithm", _ALGORITHMS, "random")
    if "trials" not in content.mapping():
        raise ValueError("a search must say its trials, how many points are drawn, such as `trials: 20`")
    if algorithm == "random" and "round" in content.mapping():
        raise ValueError("round belongs to algorithm tpe; points of random do not wait for each other, so leave it out")
    return Search(
        space={name: read_distribution(inner) for name, inner in _fields(part, content)},
        trials=_whole(content, "trials", 1, 1, MOST_RUNS),
        algorithm="tpe" if algorithm == "tpe" else "random",
        seed=_whole(content, "seed", 0, 0, 2**32 - 1),
        round=_whole(content, "round", 4, 1, MOST_RUNS),
    )


def _metric(content: Part) -> str:
    part = content.get("metric")
    return "auto" if part is None else part.text()


def _mode(content: Part) -> Mode | None:
    metric = _metric(content)
    if "mode" in content.mapping():
        return "min" if _one_of(content, "mode", _MODES, "max") == "min" else "max"
    if metric not in KNOWN_METRICS:
        near = difflib.get_close_matches(metric, KNOWN_METRICS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"ours are {', '.join(KNOWN_METRICS)}"
        raise ValueError(
            f"metric {short_repr(metric)} is none of ours, and of your own a mode, min or max, must be given; {hint}"
        )
    return None


def _one_of(content: Part, key: str, choices: tuple[str, ...], default: str) -> str:
    part = content.get(key)
    if part is None:
        return default
    if part.value not in choices:
        raise part.error(f"one of {', '.join(choices)}")
    return str(part.value)


def _whole(content: Part, key: str, default: int, least: int, most: int) -> int:
    part = content.get(key)
    return default if part is None else part.integer(least, most)


def _check_points(plan: Plan) -> None:
    """Raise a ValueError or TypeError for too many runs, and for the first point whose settings do not fit."""
    if plan.count * plan.seeds > MOST_RUNS:
        raise ValueError(f"it makes {plan.count * plan.seeds:,} runs, and may make {MOST_RUNS:,}; leave values out")
    points = plan.points
    if points is None:
        assert plan.search is not None  # of algorithm tpe
        points = plan.search.corners()
    for point in points:
        _check_point(plan, point)


def _check_point(plan: Plan, point: Point) -> None:
    try:
        runs = plan.runs(point)
    except TypeError as error:
        raise TypeError(f"with {point_text(point)}: {error}") from None
    except ValueError as error:
        raise ValueError(f"with {point_text(point)}: {error}") from None
    if plan.gpus == 0 and runs[0].accelerator in ("gpu", "mps"):
        raise ValueError(f"accelerator is {runs[0].accelerator}, and a run of this sweep gets no GPU; say `gpus: 1`")
