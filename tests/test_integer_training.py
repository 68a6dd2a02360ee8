"""recipes/integer_training.py: trainings on floats and on integers from the same seeds, and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import pytest
import torch

import integer_training
from bitorch.data import Dataset, Images
from bitorch.layers.integer_kernels import machine_obstacle
from integer_training import Options
from integer_training_net import small_net
from integer_training_runs import Run, Task, Way, train, trained
from integer_training_table import simulated_twin, table, time_ratio

mpl.use("agg")
BITS = (1, 2, 6)


@pytest.fixture(autouse=True)
def as_many_threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def task() -> Task:
    generator = torch.Generator().manual_seed(0)
    images = Images(
        torch.randint(0, 256, (8, 1, 28, 28), generator=generator, dtype=torch.uint8),
        torch.arange(8) % 3,
        num_classes=3,
    )
    return Task(Dataset("random", images, images), lambda: small_net(3), 2, batch_size=4, lr=1e-3, target=0.5)


@pytest.mark.skipif(machine_obstacle() is not None, reason=str(machine_obstacle()))
def test_both_ways_begin_with_the_same_bits() -> None:
    floats, integers = (train(task(), Way(BITS, kernels=kernels), 1) for kernels in ("float", "integer"))
    assert integers.losses[0] == floats.losses[0]
    assert integers.losses == pytest.approx(floats.losses, rel=0.05)
    assert integers.losses != train(task(), Way(BITS), 2).losses
    assert integers.losses == train(task(), Way(BITS), 1).losses


def test_what_a_run_says() -> None:
    run = Run([1.0], [2.0, 3.0, 4.0], [0.1, 0.6, 0.5])
    assert (run.accuracy, run.seconds_to(0.5), run.seconds_to(0.7)) == (0.5, 5, None)
    assert simulated_twin("W1A2G6, integer") == "W1A2G6, simulated"
    assert simulated_twin("W1A2G6, simulated") is simulated_twin("bf16") is None
    assert time_ratio([run, run], [run, Run([], [1.0, 1.0, 1.0], [])]) == 1.5


def test_the_table() -> None:
    def runs(*accuracies: float) -> list[Run]:
        return [Run([], [2.0], [accuracy]) for accuracy in accuracies]

    found = {"float32": runs(0.9, 0.8), "A, simulated": runs(0.5, 0.7), "A, integer": runs(0.6, 0.7)}
    cells = {str(column.header): list(column.cells) for column in table("data", found, 0.65).columns}
    assert cells["accuracy"] == ["85.00 %", "60.00 %", "65.00 %"]
    assert cells["points to simulated"] == ["", "", "+5.00 ± 7.07"]
    assert cells["s to 65%"] == ["2.0", "2.0 (1 of 2)", "2.0 (1 of 2)"]


def test_a_run_that_is_done_is_read(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    done = trained(path, task(), Way(bf16=True), 0, 1)
    before = path.stat().st_mtime_ns
    assert trained(path, task(), Way(bf16=True), 0, 1) == done
    assert path.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"run\.json has a run with other settings; choose another folder, or delete"):
        trained(path, task(), Way(), 0, 1)


def test_a_short_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    integer_training.main(Options(out=tmp_path, seeds=1, epochs=1, images=128, test_images=64, threads=1))
    assert (tmp_path / "integer-training.png").stat().st_size > 10_000
    assert len(json.loads((tmp_path / "digits" / "W1A2G6-integer-seed0.json").read_text())["run"]["losses"]) == 2
    assert "points to simulated" in capsys.readouterr().out
    with pytest.raises(ValueError, match="seeds must be at least 1, got 0"):
        Options(seeds=0)
