"""`bitorch predict`: what a packed net sees in images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor

from ..deployment.runtime.packed_model import PackedModel
from .console import print_error
from .image_files import read_images
from .options import parse
from .preprocessing import Preprocessing

_BATCH_SIZE = 256


@dataclass(frozen=True)
class _Arguments:
    """Classify images with a packed net: one line of JSON for each, in their order.

    Keys: file, index (in a .npy file that holds a batch), class (counted from 0), label (its name, where the net's file
    has names), probability (softmax of the scores) and scores; with --top also top, a list of the best classes.
    Exit code 0: all classified; 2: wrong arguments, or images that cannot be read; the others are classified.
    """

    net: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="NET")]
    """Packed file, written by bitorch deploy."""
    images: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGE …")]
    """PNG, JPEG and what else Pillow reads, or .npy: uint8 or floats in [0, 1], one image or a batch."""
    resize: bool = False
    """Resize images of another size bilinearly, instead of refusing them."""
    top: int | None = None
    """Also list so many of the best classes, with their probabilities."""


def run(arguments: list[str]) -> int:
    """Print a line for each image."""
    options = parse(_Arguments, arguments, "bitorch predict")
    try:
        _check_files(options.images)
        packed = PackedModel.load(options.net)
        preprocessing = Preprocessing.of(packed)
        _check_scores(packed, options.top)
    except (ValueError, TypeError, OSError) as error:
        return print_error(error)
    pixels = packed.inputs[0].dtype == torch.uint8
    code = 0
    for path in options.images:
        try:
            images, is_batch = read_images(path, preprocessing, pixels=pixels, resize=options.resize)
        except (ValueError, OSError) as error:
            code = print_error(error)
            continue
        for index, line in enumerate(_lines(packed, images, options.top)):
            print(json.dumps({"file": str(path), **({"index": index} if is_batch else {}), **line}, ensure_ascii=False))
    return code


def _check_files(paths: tuple[Path, ...]) -> None:
    """Raise an error unless all images are there, so that a typing error does not show after an hour."""
    if not paths:
        raise ValueError("name at least one image file")
    for path in paths:
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder; name the images in it, e.g. {path}/*.png")
        if not path.is_file():
            raise FileNotFoundError(f"there is no image file {path}")


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
    from bitorch_runtime.operations import given_names

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
