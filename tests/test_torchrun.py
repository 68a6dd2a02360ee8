"""Training on several machines: two agents of torchrun, which find each other by an address, as on two machines."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# Each process writes which weights it ends with; a sharded net's are told by its checkpoint alone.
SCRIPT = """
import hashlib, json, os, pathlib, sys
from bitorch.cli import main
from bitorch.train.run import Run

train = Run.train

def remembered(self, **options):
    result = train(self, **options)
    state = sorted(self.model.named_parameters())
    own = [(p.to_local() if hasattr(p, "to_local") else p).detach() for _, p in state]
    weights = hashlib.sha256(b"".join(p.numpy().tobytes() for p in own)).hexdigest()
    history = [{k: v for k, v in row.items() if k != "seconds_per_step"} for row in result.history]
    pathlib.Path(f"rank{os.environ['RANK']}.json").write_text(json.dumps({"weights": weights, "history": history}))
    return result

Run.train = remembered
sys.exit(main(sys.argv[1:]))
"""
FLAGS = "train --data digits --model lenet-8 --width 0.25 --bits 1 2 6 --accelerator cpu --epochs 1 --batch-size 180"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def agent(folder: Path, agents: int, rank: int, port: int, flags: str) -> subprocess.Popen[str]:
    """Start one machine's torchrun, with as many processes as make two with the other machines."""
    folder.mkdir(exist_ok=True)
    (folder / "script.py").write_text(SCRIPT)
    launcher = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
    environment = {name: value for name, value in os.environ.items() if name not in launcher}
    options = f"--nnodes {agents} --node-rank {rank} --nproc-per-node {2 // agents} --rdzv-backend c10d"
    command = [
        *(sys.executable, "-m", "torch.distributed.run", *options.split()),
        *("--rdzv-endpoint", f"localhost:{port}", "--rdzv-id", "tests", "script.py", *flags.split()),
    ]
    return subprocess.Popen(
        command, cwd=folder, env=environment | {"OMP_NUM_THREADS": "1"}, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def train(folder: Path, agents: int, flags: str = "") -> dict[int, Any]:
    """Return what each of two processes reports, of so many agents, each with a folder of its own."""
    port = free_port()
    more = f"{FLAGS} --num-nodes {agents} --devices {2 // agents} --out run {flags}"
    started = [agent(folder / str(rank), agents, rank, port, more) for rank in range(agents)]
    for process in started:
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, out + err
    reports = folder.glob("*/rank*.json")
    return {int(path.stem.removeprefix("rank")): json.loads(path.read_text()) for path in reports}


@pytest.fixture(scope="module")
def on_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, Any]]:
    folder = tmp_path_factory.mktemp("two")
    return folder, train(folder, agents=2)


@pytest.mark.slow
def test_two_machines_end_with_the_same_weights_and_the_first_one_keeps_the_run(on_two: tuple[Path, Any]) -> None:
    folder, reports = on_two
    assert reports[0] == reports[1]
    assert (folder / "0" / "run" / "last.ckpt").is_file()
    assert not (folder / "1" / "run").exists()


@pytest.mark.slow
def test_two_machines_train_as_two_processes_of_one(on_two: tuple[Path, Any], tmp_path: Path) -> None:
    assert train(tmp_path, agents=1) == on_two[1]


@pytest.mark.slow
def test_two_machines_share_out_the_weights(on_two: tuple[Path, Any], tmp_path: Path) -> None:
    # Another order of a weight's memory rounds otherwise, and few bits make something else of it.
    sharded = train(tmp_path, agents=2, flags="--strategy fsdp")[0]["history"][0]["train/loss"]
    assert sharded == pytest.approx(on_two[1][0]["history"][0]["train/loss"], abs=0.1)


def alone(tmp_path: Path, flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bitorch.cli", *FLAGS.split(), *flags.split(), "--out", str(tmp_path / "run")],
        env=os.environ | {"OMP_NUM_THREADS": "1", "MASTER_PORT": str(free_port())} | variables, text=True,
        capture_output=True, timeout=120,
    )  # fmt: skip


@pytest.mark.slow
def test_machines_that_do_not_meet_are_a_sentence(tmp_path: Path) -> None:
    done = alone(tmp_path, "--num-nodes 2 --timeout 2", MASTER_ADDR="127.0.0.1", NODE_RANK="0")
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == 2
    assert len(errors) == 1
    assert errors[0].startswith("error: the 2 processes of the run have not met at 127.0.0.1:")
    assert "within 2 s (timeout): Timed out after" in errors[0]
    assert errors[0].endswith("by torchrun with one --rdzv-endpoint that all of them reach")
    assert "Traceback" not in done.stderr


def test_what_torchrun_has_started_must_be_what_the_run_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from bitorch.train.meeting import check_launched

    check_launched(3, 5)  # without torchrun
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "tests")
    monkeypatch.setenv("WORLD_SIZE", "4")
    check_launched(2, 2)
    with pytest.raises(
        ValueError, match=r"^devices × num_nodes must be 4, as torchrun has started 4 processes, got 1 × 2"
    ):
        check_launched(1, 2)
