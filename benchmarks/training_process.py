"""Processes of training.py: one for each contestant, which train one step at a time in turn."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

Answer = dict[str, float]


@dataclass
class Process:
    """A contestant's process, and what it has answered."""

    name: str
    process: subprocess.Popen[str]
    steps: list[Answer] = field(default_factory=list)
    kinds: Answer = field(default_factory=dict)
    memory: Answer = field(default_factory=dict)

    def step(self) -> Answer:
        """Make a training step; return its seconds and loss."""
        return self._ask("step")

    def profile(self) -> None:
        """Have it say where a step's time goes."""
        self.kinds = self._ask("profile")

    def finish(self) -> None:
        """End the process, which answers with the bytes it took."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.memory = self._answer()
        self.process.wait()

    def stop(self) -> None:
        """End the process, if it still runs, without an answer, and close what leads to it."""
        with self.process:
            self.process.kill()

    def _ask(self, what: str) -> Answer:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Answer:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of {self.name} ended with exit status {self.process.wait()}")
        answer: Answer = json.loads(line)
        return answer


def start(name: str, python: str, net: str, batch: int, threads: int) -> Process:
    worker = Path(__file__).with_name("training_worker.py")
    process = subprocess.Popen(
        [python, str(worker), name, net, str(batch), str(threads)],
        env={**os.environ, "KINETO_LOG_LEVEL": "99"},  # or PyTorch's profiler writes lines among ours
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return Process(name, process)


def race(processes: list[Process], warmup: int, rounds: int) -> None:
    """Make steps in turn, so that a drift of the machine meets all alike.

    Raises:
        RuntimeError: a process ended, or a net does not train.
    """
    for round_ in range(warmup + rounds):
        for each in processes:
            step = each.step()
            if not 0 <= step["loss"] < 100:
                raise RuntimeError(f"{each.name} does not train: its loss is {step['loss']}")
            if round_ >= warmup:
                each.steps.append(step)
