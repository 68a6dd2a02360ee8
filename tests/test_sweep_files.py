"""Files of sweeps: each key, field and value that does not fit is named before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from bitorch.sweeps.plan import Plan
from bitorch.sweeps.space import Integers, Reals
from bitorch.sweeps.sweep_file import read_sweep
from bitorch.train import Settings


def plan_of(text: str, folder: Path) -> Plan:
    path = folder / "sweep.yaml"
    path.write_text(text, encoding="utf-8")
    return read_sweep(path)


def test_a_grid_is_the_product_of_its_lists(tmp_path: Path) -> None:
    plan = plan_of(
        "settings: {epochs: 2, seed: 5}\ngrid: {lr: [1.0e-3, 1e-2], bits: [[1, 2, 6], [2, 2, 6]]}\nseeds: 2", tmp_path
    )
    assert plan.points == [
        {"lr": 0.001, "bits": [1, 2, 6]},
        {"lr": 0.001, "bits": [2, 2, 6]},
        {"lr": "1e-2", "bits": [1, 2, 6]},
        {"lr": "1e-2", "bits": [2, 2, 6]},
    ]
    assert (plan.count, plan.fields) == (4, ["lr", "bits"])
    assert plan.runs(plan.points[3]) == [
        Settings(epochs=2, lr=0.01, bits=(2, 2, 6), seed=seed) for seed in (5, 6)
    ]  # fmt: skip


SEARCH = """
search:
  lr: {loguniform: [1.0e-4, 1.0e-2]}
  momentum: {uniform: [0.5, 0.9]}
  batch_size: {integers: [16, 64]}
  bits: {choice: [[1, 2, 6], [2, 2, 6]]}
"""


def test_a_search_draws_the_same_points_again(tmp_path: Path) -> None:
    points = plan_of(f"{SEARCH}trials: 40\nseed: 3", tmp_path).points
    assert points is not None
    assert points == plan_of(f"{SEARCH}trials: 40\nseed: 3", tmp_path).points
    assert points[:7] == plan_of(f"{SEARCH}trials: 7\nseed: 3", tmp_path).points
    assert points != plan_of(f"{SEARCH}trials: 40\nseed: 4", tmp_path).points
    assert len({repr(point) for point in points}) == 40
    lrs = sorted(point["lr"] for point in points)
    assert lrs[0] >= 1e-4
    assert lrs[-1] <= 1e-2
    assert 5e-4 < lrs[20] < 2e-3  # the middle of the logarithms is 1e-3, and of the numbers 5e-3
    assert all(0.5 <= point["momentum"] <= 0.9 for point in points)
    assert {type(point["batch_size"]) for point in points} == {int}
    assert {tuple(point["bits"]) for point in points} == {(1, 2, 6), (2, 2, 6)}


def test_ends_of_ranges_can_be_drawn() -> None:
    assert [Integers(3, 5).at(share) for share in (0, 0.34, 0.99, 1)] == [3, 4, 5, 5]
    assert (Reals(0.1, 0.2).at(0), Reals(0.1, 0.2).at(1)) == (0.1, 0.2)
    assert [Reals(1e-4, 1e-2, log=True).at(share) for share in (0, 0.5, 1)] == [1e-4, 1e-3, 1e-2]


def test_corners_of_a_search_have_all_ends_and_choices(tmp_path: Path) -> None:
    search = plan_of(f"{SEARCH}trials: 3\nalgorithm: tpe", tmp_path).search
    assert search is not None
    assert [(point["lr"], point["batch_size"], point["bits"]) for point in search.corners()] == [
        (1e-4, 16, [1, 2, 6]),
        (1e-2, 64, [2, 2, 6]),
    ]


GRID = "grid: {lr: [0.1]}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold a mapping with the keys settings and grid, or search, got None"),
        ("- 1", r"must hold a mapping .*, got \[1\]"),
        ("gird: {lr: [1]}", "unknown key 'gird'; did you mean 'grid'"),
        (f"{GRID}epochs: 3", "unknown key 'epochs'; it belongs below settings"),
        ("settings: {epochs: 3}", "must have a grid or a search, and has neither: a search space without a point"),
        (f"{GRID}search: {{lr: {{choice: [1]}}}}", "must have a grid or a search, and has both"),
        ("grid: {}", "grid is empty, which is a search space without a point"),
        ("grid: {lr: []}", "grid.lr has no value, which makes a search space without a point"),
        ("grid: {lr: 0.1}", r"grid.lr must be a list of the values to try, got 0.1; write \[0.1\]"),
        ("grid: {lr: [1, 1]}", "grid.lr has 1 twice"),
        ("grid: {lrr: [1]}", "grid: unknown setting 'lrr'; did you mean 'lr'"),
        ("grid: 3", "grid must be a mapping with texts as keys, got 3"),
        (f"{GRID}settings: {{epohcs: 1}}", "settings: unknown setting 'epohcs'; did you mean 'epochs'"),
        (f"{GRID}settings: {{lr: 0.1}}", "lr stands in settings and in grid; leave it out of one of them"),
        (f"{GRID}settings: {{out: x}}", "settings.out must be left out: a sweep keeps each run in a folder of its own"),
        ("grid: {devices: [1, 2]}", "grid.devices must be left out: each run of a sweep is one process"),
        ("grid: {seed: [1, 2]}\nseeds: 2", "grid.seed and seeds both say which seeds there are"),
        (f"{GRID}seeds: 0", "seeds must be a whole number from 1 to 10000, got 0"),
        (f"{GRID}gpus: 2", "gpus must be a whole number from 0 to 1, got 2"),
        (
            f"{GRID}settings: {{accelerator: gpu}}",
            "accelerator is gpu, and a run of this sweep gets no GPU; say `gpus: 1`",
        ),
        (f"{GRID}trials: 3", "trials belongs to a search, and there is a grid"),
        (f"{GRID}mode: most", "mode must be one of min, max, got 'most'"),
        (f"{GRID}metric: ac", "metric 'ac' is none of ours, .* did you mean acc"),
        (f"{GRID}seeds: 10000\nsettings: {{}}\nlr: 1", "unknown key 'lr'; it belongs below settings"),
        ("grid: {lr: [0.1, 0.2]}\nseeds: 10000", "makes 20,000 runs, and may make 10,000"),
        ("grid: {epochs: [1, x]}", "with epochs 'x': epochs must be an integer, got 'x'"),
        ("grid: {epochs: [1], bits: [[1, 2, 9]]}", r"with epochs 1, bits \[1, 2, 9\]: bits \(of gradients\)"),
        ("search: {lr: {choice: [1]}}", "a search must say its trials"),
        ("search: {lr: [1, 2]}\ntrials: 1", "search.lr must be one of uniform, loguniform, integers, choice"),
        ("search: {lr: {loguniform: [0, 1]}}\ntrials: 1", "search.lr.loguniform must begin above 0"),
        ("search: {lr: {uniform: [2, 1]}}\ntrials: 1", "search.lr.uniform must rise"),
        ("search: {lr: {uniform: [1]}}\ntrials: 1", r"search.lr.uniform must be the lowest and the highest value"),
        ("search: {lr: {uniform: [1, x]}}\ntrials: 1", r"search.lr.uniform\[1\] must be a number, got 'x'"),
        ("search: {lr: {uniform: [1, .inf]}}\ntrials: 1", r"search.lr.uniform\[1\] must be a finite number"),
        ("search: {epochs: {integers: [1, 2.5]}}\ntrials: 1", r"search.epochs.integers\[1\] must be a whole number"),
        ("search: {epochs: {uniform: [1, 2]}}\ntrials: 1", "epochs must be an integer, got 1"),
        ("search: {epochs: {integers: [1, 3]}}\ntrials: 4", "trials is 4, and the search has 3 different points"),
        ("search: {epochs: {integers: [0, 3]}}\ntrials: 4\nalgorithm: tpe", "with epochs 0: epochs must be at least 1"),
        ("search: {lr: {choice: [1]}}\ntrials: 1\nround: 2", "round belongs to algorithm tpe"),
        ("search: {lr: {choice: [1]}}\ntrials: 1\nalgorithm: grid", "algorithm must be one of random, tpe, got 'grid'"),
        ("a: 1\na: 2", "the key 'a' stands twice"),
    ],
)
def test_what_does_not_fit_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, TypeError), match=rf"sweep\.yaml: .*{message}"):
        plan_of(text, tmp_path)


def test_places_that_are_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_sweep(tmp_path / "none.yaml")
    with pytest.raises(IsADirectoryError, match="is a folder; name a YAML or JSON file"):
        read_sweep(tmp_path)
