"""Is a packed net its checkpoint? Compared on a whole test set."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from ..conversion.layer_configs import Configs
from ..data import Dataset, Split, load, loader
from ..deployment.deployed_net import DeployedNet
from ..deployment.runtime.same_network import as_floats
from ..deployment.runtime.verification import Verification
from ..models.own import GivenNet
from ..outputs import logits_of
from ..train import read_checkpoint
from ..train.evaluation import data_of, evaluation_options, task_of
from ..train.run_data import is_structured, picture_shape
from ..train.task import Task
from ..train.trained import load_trained
from .compared_nets import compared_batches, load_net
from .example_shapes import example_shapes
from .packed_evaluation import check_images
from .preprocessing import Preprocessing
from .task_verification import TaskComparison

_WORKERS = 2


@dataclass(frozen=True)
class PackedVerification:
    """What was found on the test images of a data set. True if nothing differs.

    Attributes:
        checkpoint, net: the files.
        data, images: what they were compared on, and how many those are.
        verification: of all images together.
        batch: how many images were compared at a time, the last time perhaps fewer.
        first_batch: the index of the first image of the first batch in which something differs, None if nothing does.
        checkpoint_top1, net_top1: accuracy in [0, 1]; None where there are no classes.
        checkpoint_metrics, net_metrics: the task's metrics by name, of the user's own data.
        other_predictions: indices of the images for which the two predict different classes.
        largest_score_difference: between the two.
    """

    checkpoint: str
    net: str
    data: str
    images: int
    verification: Verification
    batch: int
    first_batch: int | None
    checkpoint_top1: float | None
    net_top1: float | None
    other_predictions: tuple[int, ...]
    largest_score_difference: float
    checkpoint_metrics: dict[str, float] = field(default_factory=dict)
    net_metrics: dict[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.verification) and not self.other_predictions


def verify_packed(
    checkpoint: str | Path,
    net: str | Path,
    data: str | None = None,
    folder: str | Path | None = None,
    batch: int = 100,
    *,
    model: GivenNet | str | None = None,
    config: Configs | None = None,
) -> PackedVerification:
    """Compare a packed net with the model of its checkpoint, tensor by tensor, on all test images.

    Args:
        checkpoint, net: the files.
        data, folder: as in Settings; None for both: the data of the run.
        batch: images that are compared at a time.
        model, config: see `load_model`, for a checkpoint of a Trainer of one's own.

    Raises:
        OSError, ValueError: see `load_model`, `PackedModel.load`, `bitorch.data.load` and `verify`; ValueError too for
            images of another shape or number of classes, and a batch below 1.
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    packed = load_net(net)
    read = read_checkpoint(checkpoint, any_module=model is not None)
    data, folder = data_of(read, data, folder)
    # What the run's padding does, the packed file's preprocessing says.
    dataset = load(data, folder, options=dataclasses.replace(evaluation_options(read, data), pad_to=0))
    if is_structured(dataset):
        trained = load_trained(read, model, config=config, input_shape=picture_shape(dataset))
        task = task_of(read, dataset, trained.model)
        return _verify_batches(str(checkpoint), str(net), trained.model, packed, dataset, task, batch)
    images = dataset.test
    check_images(packed, dataset)
    shape = example_shapes(packed)[0] if read.input_shape is None else read.input_shape
    trained = load_trained(read, model, config=config, input_shape=shape, num_classes=dataset.num_classes)
    found = _Found(trained.model, packed, images, batch)
    verifications = found.verify()
    return PackedVerification(
        checkpoint=str(checkpoint),
        net=str(net),
        data=data,
        images=len(images),
        verification=type(verifications[0]).of_batches(verifications),
        batch=batch,
        first_batch=next(
            (batch * index for index, v in enumerate(verifications) if v.first_difference is not None), None
        ),
        checkpoint_top1=found.correct[0] / len(images),
        net_top1=found.correct[1] / len(images),
        other_predictions=tuple(found.other_predictions),
        largest_score_difference=found.largest_score_difference,
    )


def _verify_batches(
    checkpoint: str, net: str, model: nn.Module, packed: DeployedNet, dataset: Dataset, task: Task, batch: int
) -> PackedVerification:
    """Compare on batches of the user's own data."""
    batches = loader(dataset.test, min(batch, len(dataset.test)), shuffle=False)
    found = TaskComparison(model, packed, task, batches)
    verifications = found.verify()
    metrics = found.metrics
    return PackedVerification(
        checkpoint=checkpoint,
        net=net,
        data=dataset.name,
        images=found.samples,
        verification=type(verifications[0]).of_batches(verifications),
        batch=batch,
        first_batch=next(
            (batch * index for index, v in enumerate(verifications) if v.first_difference is not None), None
        ),
        checkpoint_top1=metrics[0].get("acc"),
        net_top1=metrics[1].get("acc"),
        other_predictions=tuple(found.other_predictions),
        largest_score_difference=found.largest_difference,
        checkpoint_metrics=metrics[0],
        net_metrics=metrics[1],
    )


class _Found:
    """What is counted on the way."""

    def __init__(self, model: nn.Module, packed: DeployedNet, images: Split, batch: int) -> None:
        self.model, self.packed, self.images, self.batch = model, packed, images, batch
        self.preprocessing = Preprocessing.of(packed)
        self.correct = [0, 0]
        self.other_predictions: list[int] = []
        self.largest_score_difference = 0.0

    def verify(self) -> list[Verification]:
        """Return what was found for each batch; a bar on a terminal says how far it is."""
        batches = track(
            compared_batches(self.model, self.packed, self._inputs()),
            "comparing",
            total=-(-len(self.images) // self.batch),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        return list(batches)

    def _inputs(self) -> Iterator[tuple[Tensor]]:
        """Yield batch by batch what the packed net takes, and count predictions on the way."""
        start = 0
        batches = loader(self.images, min(self.batch, len(self.images)), shuffle=False, workers=_WORKERS)
        for chosen, labels in batches:
            x = self.preprocessing.inputs(chosen, self.packed.inputs[0].dtype)
            self._predict(start, x, labels)
            start += len(x)
            yield (x,)

    def _predict(self, start: int, x: Tensor, labels: Tensor) -> None:
        with torch.inference_mode():
            scores = logits_of(self.model(as_floats(x)))
        packed_scores = self.packed(x)
        assert isinstance(packed_scores, Tensor)  # check_images has seen that there is one output
        largest = float((scores - packed_scores).abs().max())
        self.largest_score_difference = max(self.largest_score_difference, largest)
        predictions = scores.argmax(1), packed_scores.argmax(1)
        for index, predicted in enumerate(predictions):
            self.correct[index] += int((predicted == labels).sum())
        others = (predictions[0] != predictions[1]).nonzero().flatten()
        self.other_predictions.extend((start + others).tolist())
