"""Many runs in one folder: done ones are read, interrupted ones go on, others are never overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bitorch.train import Settings
from bitorch.train.sweep import Outcome, sweep

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


def test_processes_reach_what_one_process_reaches(trained: tuple[Path, dict[str, Outcome]], tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    outcomes = sweep(RUNS, tmp_path, jobs=2)
    assert list(outcomes) == list(RUNS)
    assert torch.get_num_threads() == threads
    for name, outcome in outcomes.items():
        assert outcome.accuracy == pytest.approx(trained[1][name].accuracy, abs=0.05)


def test_no_job_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="jobs must be at least 1, got 0"):
        sweep(RUNS, tmp_path, jobs=0)
