"""Is a packed net its checkpoint, for any task? Compared on all test samples."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from ..batches import Batch, read_batch
from ..containers import tensors_in
from ..data.epoch_loader import EpochLoader
from ..deployment.deploy import pixels_of
from ..deployment.deployed_net import DeployedNet
from ..deployment.runtime.verification import Verification
from ..outputs import logits_of
from ..train.task import Task
from .compared_nets import compared_batches
from .packed_module import PackedModule


class TaskComparison:
    """What is counted while batches go through a model and its packed net.

    Attributes:
        metrics: of the model and of the packed net, by name.
        samples: how many were compared.
        other_predictions: samples for which the two predict something else; none where outputs are numbers.
        largest_difference: between their outputs.
    """

    def __init__(self, model: nn.Module, packed: DeployedNet, task: Task, loader: EpochLoader) -> None:
        self._model, self._packed, self._task, self._loader = model, packed, task, loader
        self._module = PackedModule(packed)
        self._metrics = [{name: make() for name, make in task.metrics.items()} for _ in range(2)]
        self.samples = 0
        self.other_predictions: list[int] = []
        self.largest_difference = 0.0

    @property
    def metrics(self) -> tuple[dict[str, float], dict[str, float]]:
        """Of the model and of the packed net, by name."""
        model, net = ({name: float(m.compute()) for name, m in metrics.items()} for metrics in self._metrics)
        return model, net

    def verify(self) -> list[Verification]:
        """Return what was found for each batch; a bar on a terminal says how far it is."""
        batches = track(
            compared_batches(self._model, self._packed, self._inputs()),
            "comparing",
            total=len(self._loader),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        return list(batches)

    def _inputs(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield batch by batch what the packed net takes, and count on the way."""
        for index, item in enumerate(self._loader):
            batch = read_batch(item, self._model, f"test batch {index}", pixels=True)
            self._count(batch)
            inputs = batch.in_order(self._model, batch.where)
            yield tuple(
                pixels_of(x) if spec.dtype == torch.uint8 else x
                for spec, x in zip(self._packed.inputs, inputs, strict=True)
            )

    def _count(self, batch: Batch) -> None:
        with torch.inference_mode():
            inputs = batch.in_order(self._model, batch.where)
            outputs: list[Any] = [self._model(*inputs), self._module(*inputs)]
            for output, metrics in zip(outputs, self._metrics, strict=True):
                self._task.check(output, batch.labels, batch.where)
                self._task.update(metrics, output, batch.labels, batch.where)
            for ours, theirs in zip(tensors_in(outputs[0]), tensors_in(outputs[1]), strict=False):
                if ours.is_floating_point() and ours.shape == theirs.shape:
                    self.largest_difference = max(self.largest_difference, float((ours - theirs).abs().max()))
            if self._task.prediction in ("classes", "labels", "pixels"):
                self._compare(*(_predicted(self._task, output) for output in outputs))
        self.samples += len(batch)

    def _compare(self, model: Tensor, net: Tensor) -> None:
        others = (model != net).reshape(len(model), -1).any(1).nonzero().flatten()
        self.other_predictions.extend((self.samples + others).tolist())


def _predicted(task: Task, output: Any) -> Tensor:
    z = logits_of(output)
    return z > 0 if task.prediction == "labels" else z.argmax(1)
