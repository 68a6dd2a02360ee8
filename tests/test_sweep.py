"""Many runs in one folder: done ones are read, interrupted ones go on, others are never overwritten."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch

from bitorch.train import Interrupted, NonFiniteError, Settings, fit
from bitorch.train.sweep import Outcome, read_outcome, sweep

RUNS = {"float": Settings(bits=(32, 32, 32), epochs=2), "low": Settings(bits=(1, 2, 6), epochs=2)}

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning's own use of a PyTorch name


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Outcome]]:
    folder = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, sweep(RUNS, folder)


def test_outcomes_are_those_of_the_runs(trained: tuple[Path, dict[str, Outcome]]) -> None:
    folder, outcomes = trained
    assert list(outcomes) == list(RUNS)
    for name, outcome in outcomes.items():
        assert len(outcome.history) == 2
        assert outcome.accuracy == outcome.history[-1]["val/acc"]
        assert (folder / name / "last.ckpt").is_file()


def test_a_second_call_reads_and_does_not_train(
    trained: tuple[Path, dict[str, Outcome]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, outcomes = trained
    monkeypatch.delattr("bitorch.train.sweep.fit")
    seen: list[str] = []
    again = sweep(RUNS, folder, on_done=lambda name, outcome: seen.append(name))
    assert [again[name].history for name in RUNS] == [outcomes[name].history for name in RUNS]
    assert seen == list(RUNS)


def test_other_settings_of_that_name_are_refused(trained: tuple[Path, dict[str, Outcome]]) -> None:
    with pytest.raises(ValueError, match="holds a run with other settings"):
        sweep({"low": Settings(bits=(1, 2, 6), epochs=3)}, trained[0])


def test_an_outcome_is_read_by_its_folder_alone(trained: tuple[Path, dict[str, Outcome]], tmp_path: Path) -> None:
    folder, outcomes = trained
    assert read_outcome(folder / "low") == outcomes["low"]
    assert read_outcome(tmp_path) is None
    (tmp_path / "outcome.json").write_text('{"history": [], "settings": {}}')
    with pytest.raises(ValueError, match=r"outcome\.json is damaged: its history lacks val/loss; delete it"):
        read_outcome(tmp_path)


def test_an_interrupted_run_ends_as_a_straight_one(trained: tuple[Path, dict[str, Outcome]], tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(name: str, row: dict[str, float]) -> None:
        raise StopError

    with pytest.raises(StopError):
        sweep({"low": RUNS["low"]}, tmp_path, on_epoch=stop)
    assert not (tmp_path / "low" / "outcome.json").exists()
    outcome = sweep({"low": RUNS["low"]}, tmp_path)["low"]
    straight = torch.load(trained[0] / "low" / "last.ckpt", weights_only=True)["state_dict"]
    resumed = torch.load(tmp_path / "low" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(resumed[key], straight[key]) for key in straight)
    accuracies = [row["val/acc"] for row in outcome.history]
    assert accuracies == [row["val/acc"] for row in trained[1]["low"].history]


def test_an_interrupted_run_that_had_started_from_weights_goes_on(
    trained: tuple[Path, dict[str, Outcome]], tmp_path: Path
) -> None:
    start = trained[0] / "float" / "best.ckpt"
    runs = {"low": dataclasses.replace(RUNS["low"], init=start)}
    straight = sweep(runs, tmp_path / "straight")["low"]

    class StopError(Exception):
        pass

    def stop(name: str, row: dict[str, float]) -> None:
        raise StopError

    with pytest.raises(StopError):
        sweep(runs, tmp_path / "stopped", on_epoch=stop)
    outcome = sweep(runs, tmp_path / "stopped")["low"]
    assert [row["val/acc"] for row in outcome.history] == [row["val/acc"] for row in straight.history]
    assert sweep(runs, tmp_path / "stopped")["low"].history == outcome.history
    with pytest.raises(ValueError, match="holds a run with other settings"):
        sweep({"low": RUNS["low"]}, tmp_path / "stopped")


def test_a_run_that_ended_before_its_outcome_was_written_is_not_trained_again(
    trained: tuple[Path, dict[str, Outcome]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, outcomes = trained
    path = folder / "low" / "outcome.json"
    content = path.read_text()
    path.unlink()
    monkeypatch.delattr("bitorch.train.sweep.fit")
    assert sweep({"low": RUNS["low"]}, folder)["low"].history == outcomes["low"].history
    assert json.loads(path.read_text()) == json.loads(content)


@pytest.mark.slow
def test_processes_reach_what_one_process_reaches_until_a_run_fails(
    trained: tuple[Path, dict[str, Outcome]], tmp_path: Path
) -> None:
    """An error in a process comes out and ends the sweep; runs that had begun before are done, and kept."""
    threads = torch.get_num_threads()
    # Steps that are so large that the next ones are not finite.
    wrong = {f"run{seed}": Settings(bits=(32, 32, 32), epochs=2, lr=1e38, seed=seed) for seed in range(6)}
    with pytest.raises(NonFiniteError, match=r"is nan|is inf|too large"):
        sweep(RUNS | wrong, tmp_path, jobs=2)
    assert torch.get_num_threads() == threads
    assert len({path.name for path in tmp_path.iterdir()} - RUNS.keys()) <= 4
    assert all((tmp_path / name / "outcome.json").is_file() for name in RUNS)
    for name, outcome in sweep(RUNS, tmp_path, jobs=2).items():
        assert outcome.accuracy == pytest.approx(trained[1][name].accuracy, abs=0.05)


def test_outcomes_come_in_the_order_of_the_runs_whichever_ends_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    low_is_told = threading.Event()
    told: list[str] = []

    def train(folder: Path, settings: Settings) -> Outcome:
        assert folder.name == "low" or low_is_told.wait(60)
        return Outcome(settings, ())

    def tell(name: str, outcome: Outcome) -> None:
        told.append(name)
        low_is_told.set()

    # Threads in place of processes, which take seconds to start.
    monkeypatch.setattr("bitorch.train.sweep.ProcessPoolExecutor", lambda jobs, *rest: ThreadPoolExecutor(jobs))
    monkeypatch.setattr("bitorch.train.sweep.train_run", train)
    assert list(sweep(RUNS, tmp_path, jobs=2, on_done=tell)) == ["float", "low"]
    assert told == ["low", "float"]


def test_no_job_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="jobs must be at least 1, got 0"):
        sweep(RUNS, tmp_path, jobs=0)


def test_half_done_run_with_other_settings_is_refused_before_any_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(dataclasses.replace(RUNS["low"], epochs=1, out=tmp_path / "low"), show=False)
    before = (tmp_path / "low" / "last.ckpt").read_bytes()
    with pytest.raises(ValueError, match="low holds a run with other settings; choose another folder"):
        sweep(RUNS, tmp_path)
    assert (tmp_path / "low" / "last.ckpt").read_bytes() == before
    assert not (tmp_path / "float").exists()


def test_outcomes_from_before_a_setting_was_there_are_still_read(
    trained: tuple[Path, dict[str, Outcome]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.loads((trained[0] / "low" / "outcome.json").read_text())
    del content["settings"]["pad_to"]
    (tmp_path / "low").mkdir()
    (tmp_path / "low" / "outcome.json").write_text(json.dumps(content))
    monkeypatch.delattr("bitorch.train.sweep.fit")
    assert sweep({"low": RUNS["low"]}, tmp_path)["low"].history == trained[1]["low"].history


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.slow
def test_ctrl_c_ends_the_processes_of_a_sweep(tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
from bitorch.train import Settings
from bitorch.train.sweep import sweep
if __name__ == "__main__":
    sweep({{str(seed): Settings(epochs=200, seed=seed) for seed in range(6)}}, Path({str(tmp_path / "runs")!r}), jobs=2)
"""
    (tmp_path / "script.py").write_text(script)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py")], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        wait_for([tmp_path / "runs" / name / "metrics.csv" for name in "01"])
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of its processes
        _, errors = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert "KeyboardInterrupt" in errors
    assert "BrokenProcessPool" not in errors
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["0", "1"]


def wait_for(paths: list[Path]) -> None:
    deadline = time.monotonic() + 90
    while not all(path.exists() for path in paths):
        assert time.monotonic() < deadline, f"still missing: {[path for path in paths if not path.exists()]}"
        time.sleep(0.2)


@dataclass(frozen=True)
class Options:
    """Of a recipe."""

    epochs: int = 1


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "recipes"))
    monkeypatch.setattr("sys.argv", ["recipe", "--epochs", "3"])
    return import_module("recipe")


@pytest.mark.parametrize(
    ("error", "code", "out", "err"),
    [
        (Interrupted(Path("last.ckpt"), signal.SIGINT), 130, "stopped; the same command goes on where it was\n", ""),
        (KeyboardInterrupt(), 130, "stopped; the same command goes on where it was\n", ""),
        (NonFiniteError("step 3: the loss is nan", 3), 1, "", "error: step 3: the loss is nan\n"),
        (ValueError("a wrong value"), 2, "", "error: a wrong value\n"),
        (NotADirectoryError("no folder"), 2, "", "error: no folder\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_recipes_end_without_a_traceback(
    recipe: ModuleType, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, out: str, err: str
) -> None:
    seen = []

    def main(options: Options) -> None:
        seen.append(options)
        raise error

    with pytest.raises(SystemExit) as stop:
        recipe.run(main, Options)
    assert stop.value.code == code
    assert capsys.readouterr() == (out, err)
    assert seen == [Options(epochs=3)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ("[]", "must be a mapping"),
        ('{"history": []}', "its history lacks val/loss"),
        ('{"history": [{"val/loss": "x"}]}', r"history\[0\]\.val/loss must be a number"),
        ('{"history": [{"val/loss": 1}], "settings": {"x": 1}}', "unknown setting 'x'"),
        ("[" * 20_000, "nested too deeply"),
    ],
)
def test_a_damaged_outcome_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "outcome.json").write_text(text)
    with pytest.raises(ValueError, match=rf"outcome\.json is damaged: .*{message}.*; delete it"):
        sweep({"a": Settings(epochs=1)}, tmp_path)
