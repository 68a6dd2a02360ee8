"""`bitorch sweep`: a table that is the same after kills, and rows for what fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest

from bitorch.cli import main
from bitorch.sweeps.local import LocalRunner
from bitorch.sweeps.results import Results
from bitorch.sweeps.run_sweep import run_sweep
from bitorch.sweeps.sweep_file import read_sweep
from bitorch.sweeps.trial import Ended, Failure
from bitorch.train import Settings
from bitorch.train.sweep import Outcome
from dying import die_always, die_once

SIX = """
settings: {data: digits, model: lenet-8, width: 0.25, epochs: 3, batch_size: 256}
grid:
  bits: [[1, 2, 6], [2, 2, 32], [32, 32, 32]]
  lr: [1.0e-3, 1.0e-2]
"""
TABLES = ("results.csv", "results.json")

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning's own use of a PyTorch name


def tables(folder: Path) -> list[str]:
    return [(folder / name).read_text(encoding="utf-8") for name in TABLES]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the file and with the sweep of it that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "six.yaml").write_text(SIX, encoding="utf-8")
    assert main(["sweep", str(folder / "six.yaml"), "--out", str(folder / "straight"), "--jobs", "2"]) == 0
    return folder


@pytest.mark.slow
def test_a_killed_sweep_ends_with_the_table_of_a_straight_one(straight: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bitorch.cli", "sweep", str(straight / "six.yaml"), "--out", str(tmp_path / "out")]
    process = subprocess.Popen([*command, "--jobs", "2"], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: any(tmp_path.glob("out/*/outcome.json")) and len([*tmp_path.glob("out/*/last.ckpt")]) > 1)
    finally:
        process.kill()
        process.communicate()
    assert not (tmp_path / "out" / "results.csv").exists()
    assert len([*tmp_path.glob("out/*/outcome.json")]) < 6
    assert main(["sweep", str(straight / "six.yaml"), "--out", str(tmp_path / "out"), "--jobs", "2"]) == 0
    assert tables(tmp_path / "out") == tables(straight / "straight")


@pytest.mark.slow
def test_the_table_is_of_what_the_runs_reached(straight: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads((straight / "straight" / "results.json").read_text())
    means = [row["mean"] for row in content["points"]]
    histories = [
        json.loads((straight / "straight" / f"point-{number}" / "outcome.json").read_text())["history"]
        for number in range(1, 7)
    ]
    assert means == [history[-1]["val/acc"] for history in histories]
    assert (content["metric"], content["mode"]) == ("acc", "max")
    assert means[content["best"] - 1] == max(means)
    assert [row["settings"]["lr"] for row in content["points"]] == [0.001, 0.01] * 3
    lines = (straight / "straight" / "results.csv").read_text().splitlines()
    assert lines[0] == "point,bits,lr,acc,acc_std,acc_seed_0,best,error"
    assert lines[1].startswith(f'1,"[1, 2, 6]",0.001,{means[0]!r},,')


@pytest.mark.slow
def test_a_done_sweep_is_read_and_another_one_refused(
    straight: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(LocalRunner, "__call__")
    command = ["sweep", str(straight / "six.yaml"), "--out", str(straight / "straight")]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("1/6 point-1: acc ")
    assert "best" in printed
    other = straight / "other.yaml"
    other.write_text(SIX.replace("epochs: 3", "epochs: 4"), encoding="utf-8")
    assert main(["sweep", str(other), *command[2:]]) == 2
    assert "holds another sweep, whose settings.epochs differs; choose another folder" in capsys.readouterr().err


@pytest.mark.slow
def test_processes_that_die_are_replaced_and_their_runs_resumed(straight: Path, tmp_path: Path) -> None:
    """Point 2 is taken up again from its checkpoint; point 3 never gets anywhere, and is given up."""
    plan = read_sweep(straight / "six.yaml")
    runs = {f"point-{number}": plan.runs(point)[0] for number, point in enumerate(plan.points or [], 1)}
    ends: dict[str, Ended] = {}
    LocalRunner(tmp_path, 1, 1, 0, 1, partial(die_once, tmp_path / "point-2"))(
        {"point-2": runs["point-2"]}, ends.__setitem__
    )
    assert (tmp_path / "point-2.died").exists()
    assert ends == {"point-2": outcome_of(straight / "straight" / "point-2", runs["point-2"], ends["point-2"])}
    LocalRunner(tmp_path, 1, 1, 0, 1, partial(die_always, tmp_path / "point-3"))(
        {name: runs[name] for name in ("point-3", "point-4")}, ends.__setitem__
    )
    assert ends["point-3"] == Failure("its process was killed by SIGKILL, 2 times", is_of_the_run=False)
    assert ends["point-4"] == outcome_of(straight / "straight" / "point-4", runs["point-4"], ends["point-4"])


def outcome_of(folder: Path, settings: Settings, like: Ended) -> Outcome:
    """Return what a run of the straight sweep reached, with the times of another one."""
    assert isinstance(like, Outcome)
    rows = json.loads((folder / "outcome.json").read_text())["history"]
    times = [row["seconds_per_step"] for row in like.history]
    return Outcome(settings, tuple({**row, "seconds_per_step": t} for row, t in zip(rows, times, strict=True)))


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_ctrl_c_stops_a_sweep(straight: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bitorch.cli", "sweep", str(straight / "six.yaml"), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        [*command, "--jobs", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        wait_until(lambda: any(tmp_path.glob("out/*/last.ckpt")))
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of its processes
        printed, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert printed.endswith("\nthe same command goes on where it was\n")
    assert errors == "stopped\n"


# What follows trains nothing: a made-up accuracy stands for each run.


def made_up(accuracy: Callable[[Settings], float | Failure]) -> Callable[..., None]:
    def run(runs: Mapping[str, Settings], on_end: Callable[[str, Ended], None]) -> None:
        for name, settings in reversed(list(runs.items())):  # the order in which they end tells nothing
            value = accuracy(settings)
            row = {"epoch": 1.0, "val/loss": 1.0, "val/acc": value if isinstance(value, float) else 0.0}
            on_end(name, value if isinstance(value, Failure) else Outcome(settings, (row,)))

    return run


def results_of(text: str, folder: Path, accuracy: Callable[[Settings], float | Failure]) -> Results:
    folder.mkdir(exist_ok=True)
    (folder / "sweep-file.yaml").write_text(text, encoding="utf-8")
    return run_sweep(read_sweep(folder / "sweep-file.yaml"), folder / "out", made_up(accuracy), lambda name, end: None)


def test_seeds_have_a_mean_and_a_spread(tmp_path: Path) -> None:
    results = results_of("grid: {lr: [0.1, 0.2]}\nseeds: 3", tmp_path, lambda run: run.lr + 0.1 * run.seed)
    assert [list(row.values) for row in results.rows] == [[0, 1, 2], [0, 1, 2]]
    assert [row.mean for row in results.rows] == pytest.approx([0.2, 0.3])
    assert [row.spread for row in results.rows] == pytest.approx([0.1, 0.1])
    assert results.best is results.rows[1]
    lines = (tmp_path / "out" / "results.csv").read_text().splitlines()
    assert lines[0] == "point,lr,acc,acc_std,acc_seed_0,acc_seed_1,acc_seed_2,best,error"
    assert lines[2].endswith(",yes,")


def test_the_least_can_be_best(tmp_path: Path) -> None:
    results = results_of("grid: {lr: [0.1, 0.2]}\nmode: min", tmp_path, lambda run: run.lr)
    assert results.best is results.rows[0]
    results = results_of("grid: {lr: [0.1, 0.2]}\nmetric: loss", tmp_path, lambda run: run.lr)
    assert (results.metric, results.larger_is_better, results.best) == ("loss", False, results.rows[0])


def test_a_metric_that_is_not_measured_ends_the_sweep_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one of those that the runs measure, loss, acc, got 'f1'"):
        results_of("grid: {lr: [0.1, 0.2]}\nmetric: f1", tmp_path, lambda run: run.lr)


def test_a_run_that_fails_is_a_row(tmp_path: Path) -> None:
    failure = Failure("no memory", is_of_the_run=False)
    results = results_of(
        "grid: {lr: [0.1, 0.2]}\nseeds: 2", tmp_path, lambda run: failure if (run.lr, run.seed) == (0.2, 1) else run.lr
    )
    assert results.has_failed
    assert (results.rows[1].mean, results.rows[1].error) == (None, "seed 1: no memory")
    assert results.best is results.rows[0]


TPE = """
search: {lr: {loguniform: [1.0e-4, 1.0]}, bits: {choice: [[1, 2, 6], [2, 2, 6]]}, batch_size: {integers: [8, 64]}}
trials: 40
algorithm: tpe
round: 5
"""


def peak(run: Settings) -> float:
    return 1.0 - abs(run.lr - 0.01) - 0.1 * (run.bits[0] == 1)


def test_tpe_finds_a_peak_and_finds_it_again(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    results = results_of(TPE, tmp_path / "a", peak)
    assert results_of(TPE, tmp_path / "b", peak) == results
    assert results.best is not None
    assert results.best.mean is not None
    assert results.best.mean > 0.97
    late = [row.mean for row in results.rows[-15:] if row.mean is not None]
    early = [row.mean for row in results.rows[:10] if row.mean is not None]
    assert sorted(late)[7] > sorted(early)[5]  # what it has seen tells it where to look


def test_tpe_stops_where_what_follows_would_depend_on_what_is_missing(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    lost = Failure("a machine was lost", is_of_the_run=False)
    broken = Failure("the loss is nan", is_of_the_run=True)
    results = results_of(TPE, tmp_path / "a", lambda run: lost if run.lr > 0.1 else peak(run))
    assert len(results.rows) % 5 == 0
    assert len(results.rows) < 40
    assert len(results_of(TPE, tmp_path / "b", lambda run: broken if run.lr > 0.1 else peak(run)).rows) == 40
