"""What a packed net sees in the images of a file, as `bitorch predict` prints it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bitorch_runtime.operations import given_names

from ..deployment.runtime.packed_model import PackedModel
from .image_files import read_images
from .preprocessing import Preprocessing

_BATCH_SIZE = 256


class Prediction:
    """A packed net that classifies images, and how many of the best classes are told of each.

    Raises:
        ValueError, TypeError, OSError: no packed file, or a net that gives no scores of at least `top` classes.
    """

    def __init__(self, net: Path, top: int | None) -> None:
        self._packed, self._top = PackedModel.load(net), top
        self._preprocessing = Preprocessing.of(self._packed)
        _check_scores(self._packed, top)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the net's classes; their numbers where its file has no names."""
        names = self._packed.class_names
        return tuple(map(str, range(self._packed.outputs[0].shape[0])) if names is None else names)

    def lines(self, path: Path, *, resize: bool) -> Iterator[dict[str, Any]]:
        """Return what is printed of each image of a file; ValueError or OSError, at once, if it cannot be read."""
        images, is_batch = self.read(path, resize=resize)
        found = enumerate(self.classify(images))
        return ({"file": str(path), **({"index": index} if is_batch else {}), **line} for index, line in found)

    def read(self, path: Path, *, resize: bool) -> tuple[Tensor, bool]:
        """Return the images of a file as the net takes them, and whether they are a batch; errors as `lines`."""
        pixels = self._packed.inputs[0].dtype == torch.uint8
        return read_images(path, self._preprocessing, pixels=pixels, resize=resize)

    def classify(self, images: Tensor) -> Iterator[dict[str, Any]]:
        """Yield what is printed of each image of a tensor, without its file."""
        return _lines(self._packed, images, self._top)


def _check_scores(packed: PackedModel, top: int | None) -> None:
    """Raise a ValueError unless the net gives scores of at least `top` classes, and has a name for each or for none."""
    if len(packed.outputs) != 1 or len(packed.outputs[0].shape) != 1 or packed.outputs[0].dtype != torch.float32:
        raise ValueError(f"the net must give scores, float32 [batch, classes], but is a {packed!r}")
    (classes,) = packed.outputs[0].shape
    if packed.class_names is not None and len(packed.class_names) != classes:
        raise ValueError(f"the net gives {classes} scores, but its file has {len(packed.class_names)} class names")
    if top is not None and not 1 <= top <= classes:
        raise ValueError(f"--top {top}: must be from 1 to {classes}, the number of classes")


def _lines(packed: PackedModel, images: Tensor, top: int | None) -> Iterator[dict[str, Any]]:
    """Yield what is printed of each image."""
    # Softmax of the logarithms of probabilities gives them back, but of probabilities it does not.
    gives_probabilities = _last_operation(packed) == ("softmax", False)
    for start in range(0, len(images), _BATCH_SIZE):
        scores = packed(images[start : start + _BATCH_SIZE])
        assert isinstance(scores, Tensor)  # of a net with one output
        probabilities = scores.double() if gives_probabilities else scores.double().softmax(1)
        for row, chances in zip(scores, probabilities, strict=True):
            order = torch.sort(row, descending=True, stable=True).indices.tolist()
            found = [_class(packed, index, float(chances[index])) for index in order[: 1 if top is None else top]]
            line: dict[str, Any] = {**found[0], "scores": [_shortest(value) for value in row.numpy()]}
            yield line if top is None else {**line, "top": found}


def _last_operation(packed: PackedModel) -> tuple[str, bool]:
    """Return what computes the scores, and its key `log`."""
    operations, _ = packed.program()
    (name,) = (operation["input"] for operation in operations if operation["op"] == "output")
    last = next(operation for operation in operations if name in given_names(operation).values())
    return last["op"], bool(last.get("log", False))


def _class(packed: PackedModel, index: int, probability: float) -> dict[str, Any]:
    label = {} if packed.class_names is None else {"label": packed.class_names[index]}
    return {"class": index, **label, "probability": round(probability, 6)}


def _shortest(value: Any) -> float:
    """Return a float32 with no more digits than tell it from its neighbours."""
    return float(str(value))
