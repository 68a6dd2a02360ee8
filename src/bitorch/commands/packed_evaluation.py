"""How good a packed net is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from ..data import DataOptions, Dataset, load, loader
from ..deployment.deployed_net import DeployedNet
from ..deployment.runtime.packed_model import PackedModel
from ..known_names import PICTURE_DATA
from ..own_code import is_own
from ..train import Settings
from ..train.measured import measured
from ..train.run_data import is_structured
from ..train.run_task import run_task
from ..train.task import Task
from .packed_module import PackedModule
from .preprocessing import Preprocessing

_BATCH_SIZE = 256
_WORKERS = 2
#: What a file's provenance says of how images were read.
_DATA_SETTINGS = (
    "data", "image_size", "channels", "crop_share", "val_share", "split_seed", "extra", "shards", "val_shards", "fake",
)  # fmt: skip
_HEADER_BYTES = 8


@dataclass(frozen=True)
class PackedEvaluation:
    """Result on the test images of a data set; the fields are those of `bitorch.train.Evaluation`, but for `evaluated`.

    Attributes:
        checkpoint: the packed file.
        model, bits: None where the file does not say what it was made of.
    """

    checkpoint: str
    data: str
    model: str | None
    bits: tuple[int, int, int] | None
    images: int
    loss: float
    top1: float | None
    top5: float | None
    metric: str
    metrics: dict[str, float]


def is_packed(path: Path) -> bool:
    """Return whether a file is, or is called, a packed net, and not a checkpoint."""
    if path.name.endswith(".safetensors"):
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(_HEADER_BYTES + 1)[_HEADER_BYTES:] == b"{"


def evaluate_packed(
    path: str | Path,
    data: str | None = None,
    folder: str | Path | None = None,
    *,
    loss: str | None = None,
    metric: str | None = None,
) -> PackedEvaluation:
    """Evaluate a packed net on test images, or on samples of the user's own data.

    Args:
        path: the file.
        data, folder: as in Settings; None for data: the data set that the net was trained on.
        loss, metric: as in Settings, for the user's own data; None: those that the file names, or else those that
            outputs and labels ask for.

    Raises:
        OSError, ValueError: see `PackedModel.load` and `bitorch.data.load`; ValueError too for images of another shape
            or number of classes, and where neither the file nor an argument names the data.
    """
    packed = PackedModel.load(path)
    run = _run(packed)
    if data is None:
        if "data" not in run:
            raise ValueError(f"{path} does not say what its net was trained on; name the data set with --data")
        data = str(run["data"])
        if is_own(data):
            raise ValueError(f"{path} was trained on data of somebody's own, {data}; name the data with --data")
    dataset = load(data, folder, options=DataOptions() if is_own(data) else data_options(packed, data))
    if is_structured(dataset):
        task, found = _of_task(packed, dataset, run, loss, metric)
    elif loss is None and metric is None:
        mean, top1, top5 = score(packed, dataset)
        task = Task.classification(dataset.num_classes)
        found = {"loss": mean, "acc": top1, **({} if top5 is None else {"top5": top5})}
    else:
        raise ValueError(f"--loss and --metric are for data of your own, and {data} are images with a class each")
    return PackedEvaluation(
        checkpoint=str(path),
        data=data,
        model=str(run["model"]) if "model" in run else None,
        bits=_bits(run.get("bits")),
        images=len(dataset.test),
        loss=found["loss"],
        top1=found.get("acc"),
        top5=found.get("top5"),
        metric=task.best,
        metrics={name: value for name, value in found.items() if name != "loss"},
    )


def _of_task(
    packed: PackedModel, dataset: Dataset, run: dict[str, Any], loss: str | None, metric: str | None
) -> tuple[Task, dict[str, float]]:
    """Return the task of a packed net on the user's own data, and what was measured."""
    given = {"loss": loss, "metric": metric if loss is not None or metric is not None else run.get("metric")}
    given["loss"] = run.get("loss") if loss is None else loss
    # What a file names is no code to be run.
    names = {k: v for k, v in given.items() if isinstance(v, str) and not (is_own(v) and v not in (loss, metric))}
    ignore_index = run.get("ignore_index", Settings.ignore_index)
    settings = Settings.from_dict({**names, "ignore_index": ignore_index})
    model = PackedModule(packed)
    task = run_task(settings, dataset, model)
    batches = loader(dataset.test, min(_BATCH_SIZE, len(dataset.test)), shuffle=False)
    return task, measured(model, task, batches).means


def _bits(value: object) -> tuple[int, int, int] | None:
    """Return what a file says of the bits, None where it is not those of weights, activations and gradients."""
    if isinstance(value, list) and len(value) == 3 and all(type(bits) is int for bits in value):
        return value[0], value[1], value[2]
    return None


def score(packed: PackedModel, dataset: Dataset) -> tuple[float, float, float | None]:
    """Return mean cross-entropy, top-1 and, with more than 5 classes, top-5 accuracy on test images.

    Raises:
        ValueError: the images are not those that the net takes, or it does not give one score for each class.
    """
    check_images(packed, dataset)
    mean = MeanMetric()
    accuracy = {
        k: MulticlassAccuracy(dataset.num_classes, top_k=k, average="micro", validate_args=False)
        for k in (1, 5)
        if k < dataset.num_classes
    }
    for x, labels in loader(dataset.test, min(_BATCH_SIZE, len(dataset.test)), shuffle=False, workers=_WORKERS):
        scores = scores_of(packed, x)
        mean.update(F.cross_entropy(scores, labels), weight=len(labels))
        for metric in accuracy.values():
            metric.update(scores, labels)
    top5 = float(accuracy[5].compute()) if 5 in accuracy else None
    return float(mean.compute()), float(accuracy[1].compute()), top5


def check_images(packed: DeployedNet, dataset: Dataset) -> None:
    """Raise ValueError unless a net takes the images of a data set, and gives one score for each of their classes."""
    preprocessing = Preprocessing.of(packed)
    expected, found = (preprocessing.channels, *preprocessing.size), dataset.input_shape
    if expected != found:
        raise ValueError(f"the net takes images {list(expected)} [C, H, W], the data set has {list(found)}")
    shapes = [spec.shape for spec in packed.outputs]
    if shapes != [(dataset.num_classes,)]:
        raise ValueError(f"the data set has {dataset.num_classes} classes, but the net gives {shapes} for an image")


def data_options(packed: PackedModel, data: str) -> DataOptions:
    """Return how images are read for a packed net: as in its run, and pictures are of its classes, size and channels.

    Raises:
        ValueError: the file's provenance says what no run has.
    """
    run, preprocessing = _run(packed), Preprocessing.of(packed)
    options = Settings.from_dict({name: run[name] for name in _DATA_SETTINGS if name in run}).data_options
    height, width = preprocessing.size
    if data not in PICTURE_DATA or height != width or preprocessing.channels not in (1, 3):
        return options
    names = packed.class_names if data == "images" else None
    return dataclasses.replace(
        options,
        image_size=height,
        channels="1" if preprocessing.channels == 1 else "3",
        crop_share=1.0 if preprocessing.crop_share is None else preprocessing.crop_share,
        class_names=None if names is None else tuple(names),
    )


def scores_of(packed: PackedModel, images: Tensor) -> Tensor:
    """Return the result for uint8 images [N, C, H, W] of the size that the file's preprocessing names."""
    result = packed(Preprocessing.of(packed).inputs(images, packed.inputs[0].dtype))
    assert isinstance(result, Tensor)  # of a net with one output
    return result


def _run(packed: PackedModel) -> dict[str, Any]:
    """What the provenance says of the training, {} if nothing."""
    run = {} if packed.provenance is None else packed.provenance.get("run", {})
    return run if isinstance(run, dict) else {}
