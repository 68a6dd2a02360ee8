"""Training in two processes on the CPU: both hold the same weights, and stopping one stops both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

# Run by Lightning's launcher once more for the second process. Three runs in one pair of processes, because starting a
# process takes longer than training.
SCRIPT = """
import hashlib, json, math, os, pathlib, signal, sys
import torch
from bitorch.cli import main
from bitorch.data import Augmentation
from bitorch.train import fit
from bitorch.train.run import Run

rank = int(os.environ.get("LOCAL_RANK", 0))
augment = Augmentation.__call__
train = Run.train
calls = []
disturb = None
report = []

def disturbed(self, x):
    calls.append(1)
    return disturb(augment(self, x), len(calls)) if disturb else augment(self, x)

def remembered(self, **options):
    row = {}
    report.append(row)
    result = train(self, **options)
    state = sorted(self.model.named_parameters())
    row["weights"] = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for _, p in state)).hexdigest()
    row["history"] = [{k: v for k, v in r.items() if k != "seconds_per_step"} for r in result.history]
    return result

Augmentation.__call__ = disturbed
Run.train = remembered

def run(*more):
    calls.clear()
    flags = "train --data digits --model lenet-8 --bits 1 2 6 --accelerator cpu --devices 2 --epochs 2 --batch-size 180"
    report_code = main([*flags.split(), "--shift", "1", *more])
    report[-1]["code"] = report_code

def ctrl_c_in_one_process(x, call):
    if rank == 0 and call == 2:
        signal.raise_signal(signal.SIGINT)
    return x

def infinite_loss_in_one_process(logits, y, **options):
    # In training only: validation passes no options. The gradients stay finite, and so does the other process.
    loss = cross_entropy(logits, y, **options)
    return loss + math.inf if options and rank == 1 else loss

run("--out", "straight")
disturb = ctrl_c_in_one_process
run("--out", "stopped")
disturb = None
run("--resume", "stopped/last.ckpt")
cross_entropy = torch.nn.functional.cross_entropy
torch.nn.functional.cross_entropy = infinite_loss_in_one_process
run("--out", "broken")
pathlib.Path(f"rank{rank}.json").write_text(json.dumps(report))
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What the two processes report of four runs, and what they printed."""
    folder = tmp_path_factory.mktemp("ddp")
    (folder / "script.py").write_text(SCRIPT)
    # A launcher's variables, should the tests themselves run under one, would make this a part of its group.
    launcher = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
    environment = {name: value for name, value in os.environ.items() if name not in launcher}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error::UserWarning"}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    reports = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    return {"first": reports[0], "second": reports[1], "out": done.stdout.splitlines(), "err": done.stderr.splitlines()}


def test_both_processes_hold_the_same_weights(runs: dict[str, list[Any]]) -> None:
    assert runs["first"][0]["code"] == runs["second"][0]["code"] == 0
    assert runs["first"][0]["weights"] == runs["second"][0]["weights"]


def test_ctrl_c_in_one_process_stops_both_and_the_run_can_be_resumed(runs: dict[str, list[Any]]) -> None:
    stopped, resumed = runs["first"][1], runs["first"][2]
    assert stopped == {"code": 130}
    assert runs["second"][1] == {"code": 0}
    assert resumed["code"] == runs["second"][2]["code"] == 0
    assert resumed["weights"] == runs["second"][2]["weights"] == runs["first"][0]["weights"]
    assert resumed["history"] == runs["first"][0]["history"]


def test_infinite_loss_in_one_process_stops_both(runs: dict[str, list[Any]]) -> None:
    assert (runs["first"][3], runs["second"][3]) == ({"code": 1}, {"code": 0})


def test_only_the_first_process_prints(runs: dict[str, list[Any]]) -> None:
    assert len([line for line in runs["out"] if line.startswith("epoch ")]) == 4
    assert len([line for line in runs["out"] if line.startswith("stopped; resume with")]) == 1
    errors = [line for line in runs["err"] if line.startswith("error:")]
    assert len(errors) == 1
    assert errors[0].startswith("error: step 0 (epoch 1): the loss is ")
    assert "with finite gradients, but it is not finite in another process" in errors[0]
