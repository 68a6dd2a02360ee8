"""One training for integer_training.py, in float, in bfloat16 or with few bits, and what it leaves in a file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitorch import LowBitConfig, fuse_training_, quantize_
from bitorch.atomic_file import write_and_rename
from bitorch.data import BatchLoader, Dataset, Images, to_float
from bitorch.layers.integer_kernels import Kernels

_TEST_BATCH = 500


@dataclass(frozen=True)
class Way:
    """How a net is trained.

    Attributes:
        bits: of weights, activations and gradients; None in float.
        kernels: what low-bit layers compute with: "float" simulates, "auto" takes integers.
        bf16: under autocast to bfloat16.
        fused: with `bitorch.fuse_training_`.
    """

    bits: tuple[int, int, int] | None = None
    kernels: Kernels = "auto"
    bf16: bool = False
    fused: bool = False


@dataclass(frozen=True)
class Task:
    """What is learned, and how.

    Attributes:
        build: makes the float net.
        target: the accuracy that the time to it is of.
    """

    data: Dataset[Images]
    build: Callable[[], nn.Module]
    epochs: int
    batch_size: int
    lr: float
    target: float


@dataclass(frozen=True)
class Run:
    """What became of a training.

    Attributes:
        losses: of every step.
        seconds: of every epoch, without validation.
        accuracies: on the test images, after every epoch.
    """

    losses: list[float]
    seconds: list[float]
    accuracies: list[float]

    @property
    def accuracy(self) -> float:
        return self.accuracies[-1]

    def seconds_to(self, accuracy: float) -> float | None:
        """Return the seconds of training after which the accuracy was reached, None if it never was."""
        for epoch, reached in enumerate(self.accuracies):
            if reached >= accuracy:
                return sum(self.seconds[: epoch + 1])
        return None


def train(task: Task, way: Way, seed: int) -> Run:
    """Train a net from scratch with Adam and a cosine to 0. The seed is that of weights, order and gradients' noise."""
    torch.manual_seed(seed)
    model = task.build().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # it lacks memory formats
    if way.bits is not None:
        # Safe in these nets, where nothing but the next layer reads a ReLU's output.
        quantize_(model, LowBitConfig(*way.bits, kernels=way.kernels, absorb_relu=True))
    if way.fused:
        fuse_training_(model)
    batches = BatchLoader(task.data.train, task.batch_size, shuffle=True, seed=seed, drop_last=True)
    optimizer = torch.optim.Adam(model.parameters(), task.lr, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, task.epochs * len(batches))
    run = Run([], [], [])
    for _ in range(task.epochs):
        start = time.perf_counter()
        losses = []
        for images, labels in batches:
            losses.append(_step(model, optimizer, images, labels, bf16=way.bf16))
            schedule.step()
        run.seconds.append(time.perf_counter() - start)
        run.losses.extend(torch.stack(losses).tolist())
        run.accuracies.append(accuracy(model, task.data.test, bf16=way.bf16))
    return run


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, *, bf16: bool) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = F.cross_entropy(model(to_float(images)), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def accuracy(model: nn.Module, images: Images, *, bf16: bool) -> float:
    """Return the share of images whose label is the largest logit; the model is in training mode again then."""
    model.eval()
    right = 0
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        for some, labels in zip(images.images.split(_TEST_BATCH), images.labels.split(_TEST_BATCH), strict=True):
            right += int((model(to_float(some)).argmax(1) == labels).sum())
    model.train()
    return right / len(images)


def trained(path: Path, task: Task, way: Way, seed: int, threads: int) -> Run:
    """Return the run that the file has; without it, train and write it.

    Raises:
        ValueError: the file has a run with other settings.
    """
    settings = _settings(task, way, seed, threads)
    if path.is_file():
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["settings"] != settings:
            raise ValueError(f"{path} has a run with other settings; choose another folder, or delete it to train anew")
        return Run(**content["run"])
    run = train(task, way, seed)
    text = json.dumps({"settings": settings, "run": asdict(run)}, indent=1)
    write_and_rename(path, lambda file: file.write(text.encode()))
    return run


def _settings(task: Task, way: Way, seed: int, threads: int) -> dict[str, Any]:
    """Return what a run depends on, as JSON has it."""
    return {
        "images": len(task.data.train),
        "epochs": task.epochs,
        "batch_size": task.batch_size,
        "lr": task.lr,
        **asdict(way),
        "bits": None if way.bits is None else list(way.bits),
        "seed": seed,
        "threads": threads,
    }
