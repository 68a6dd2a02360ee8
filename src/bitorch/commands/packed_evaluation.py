"""How good a packed net is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from ..data import BatchLoader, Images, load
from ..deployment.runtime.packed_model import PackedModel
from .preprocessing import Preprocessing

_BATCH_SIZE = 256
_HEADER_BYTES = 8


@dataclass(frozen=True)
class PackedEvaluation:
    """Result on the test images of a data set; the fields are those of `bitorch.train.Evaluation`.

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
    top1: float
    top5: float | None


def is_packed(path: Path) -> bool:
    """Return whether a file is, or is called, a packed net, and not a checkpoint."""
    if path.name.endswith(".safetensors"):
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(_HEADER_BYTES + 1)[_HEADER_BYTES:] == b"{"


def evaluate_packed(path: str | Path, data: str | None = None, folder: str | Path | None = None) -> PackedEvaluation:
    """Evaluate a packed net on test images.

    Args:
        path: the file.
        data, folder: as in Settings; None for data: the data set that the net was trained on.

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
    images = load(data, folder).test
    loss, top1, top5 = score(packed, images)
    return PackedEvaluation(
        checkpoint=str(path),
        data=data,
        model=str(run["model"]) if "model" in run else None,
        bits=_bits(run.get("bits")),
        images=len(images),
        loss=loss,
        top1=top1,
        top5=top5,
    )


def _bits(value: object) -> tuple[int, int, int] | None:
    """Return what a file says of the bits, None where it is not those of weights, activations and gradients."""
    if isinstance(value, list) and len(value) == 3 and all(type(bits) is int for bits in value):
        return value[0], value[1], value[2]
    return None


def score(packed: PackedModel, images: Images) -> tuple[float, float, float | None]:
    """Return mean cross-entropy, top-1 and, with more than 5 classes, top-5 accuracy.

    Raises:
        ValueError: the images are not those that the net takes, or it does not give one score for each class.
    """
    check_images(packed, images)
    mean = MeanMetric()
    accuracy = {
        k: MulticlassAccuracy(images.num_classes, top_k=k, average="micro", validate_args=False)
        for k in (1, 5)
        if k < images.num_classes
    }
    for x, labels in BatchLoader(images, min(_BATCH_SIZE, len(images)), shuffle=False):
        scores = scores_of(packed, x)
        mean.update(F.cross_entropy(scores, labels), weight=len(labels))
        for metric in accuracy.values():
            metric.update(scores, labels)
    top5 = float(accuracy[5].compute()) if 5 in accuracy else None
    return float(mean.compute()), float(accuracy[1].compute()), top5


def check_images(packed: PackedModel, images: Images) -> None:
    """Raise ValueError unless a net takes these images, and gives one score for each of their classes."""
    preprocessing = Preprocessing.of(packed)
    expected, found = (preprocessing.channels, *preprocessing.size), tuple(images.images.shape[1:])
    if expected != found:
        raise ValueError(f"the net takes images {list(expected)} [C, H, W], the data set has {list(found)}")
    shapes = [spec.shape for spec in packed.outputs]
    if shapes != [(images.num_classes,)]:
        raise ValueError(f"the data set has {images.num_classes} classes, but the net gives {shapes} for an image")


def scores_of(packed: PackedModel, images: Tensor) -> Tensor:
    """Return the result for uint8 images [N, C, H, W] of the size that the file's preprocessing names."""
    result = packed(Preprocessing.of(packed).inputs(images, packed.inputs[0].dtype))
    assert isinstance(result, Tensor)  # of a net with one output
    return result


def _run(packed: PackedModel) -> dict[str, Any]:
    """What the provenance says of the training, {} if nothing."""
    run = {} if packed.provenance is None else packed.provenance.get("run", {})
    return run if isinstance(run, dict) else {}
