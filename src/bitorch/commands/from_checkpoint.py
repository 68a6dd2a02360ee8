"""A checkpoint of the trainer as a packed net."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..conversion.rules_file import entries_of
from ..data import load, to_float
from ..deployment.deploy import deploy
from ..deployment.runtime.packed_model import PackedModel
from ..deployment.runtime.verification import Verification, verify
from ..known_names import PICTURE_DATA
from ..train import Checkpoint, Settings, load_model, read_checkpoint
from .preprocessing import Preprocessing

#: Data sets whose class k is called k.
_CLASS_NAMES = {"digits": tuple("0123456789")}
#: Of the settings, what says how the net is built and with what it was trained. Not where: files are given away.
_SETTINGS = (
    "model", "width", "data", "pad_to", "epochs", "seed", "image_size", "channels", "crop_share", "mean", "std",
    "val_share", "split_seed", "extra", "shards", "val_shards", "fake",
)  # fmt: skip
#: And these, unless rules say it.
_BITS = (
    "bits", "first", "last", "range", "learned_by", "weights_method", "activations", "weight_scale", "sign",
    "pad_value", "gradients",
)  # fmt: skip
_TRIED_IMAGES = 16


@dataclass(frozen=True)
class Deployed:
    """A checkpoint's model and its packed net, which were compared."""

    checkpoint: Checkpoint
    model: nn.Module
    packed: PackedModel
    verification: Verification


def deploy_checkpoint(path: str | Path, *, pixels: bool = True, image_size: tuple[int, int] | None = None) -> Deployed:
    """Deploy a checkpoint of `fit`, with its class names, preprocessing and provenance, and verify it on random images.

    Args:
        path: the checkpoint.
        pixels: the packed net takes uint8 pixels; False: floats, pixels/255.
        image_size: height and width of the images before they were padded; None: read from the run's data set.

    Raises:
        FileNotFoundError, ValueError: see `read_checkpoint`, `load_model` and `bitorch.deploy`; ValueError too for an
            image_size that does not fit, or that has to be given because the data set is not there.
        DeploymentError: see `bitorch.deploy`.
    """
    model = load_model(path)
    checkpoint = read_checkpoint(path)
    settings, shape = checkpoint.settings, checkpoint.input_shape
    assert settings is not None  # or load_model had raised
    assert shape is not None
    images = torch.randint(
        0, 256, (_TRIED_IMAGES, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    names = _CLASS_NAMES.get(settings.data) if checkpoint.class_names is None else checkpoint.class_names
    packed = deploy(
        model,
        to_float(images[:1]),
        pixels=pixels,
        class_names=names if names is not None and len(names) == checkpoint.num_classes else None,
        preprocessing=_preprocessing(settings, shape, image_size).to_dict(),
        provenance=_provenance(checkpoint, settings),
    )
    verification = verify(model, packed, images if pixels else to_float(images))
    return Deployed(checkpoint, model, packed, verification)


def _preprocessing(
    settings: Settings, shape: tuple[int, int, int], image_size: tuple[int, int] | None
) -> Preprocessing:
    """Return how images become inputs; pictures of any size are fitted where the run did so."""
    is_fitted = settings.data in PICTURE_DATA or settings.image_size > 0
    return Preprocessing.padded(
        shape, _image_size(settings, shape, image_size), settings.crop_share if is_fitted else None
    )


def _image_size(settings: Settings, shape: tuple[int, int, int], given: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of the images before they were padded."""
    height, width = shape[1:]
    if settings.pad_to == 0 or given is not None:
        size = (height, width) if given is None else given
    else:
        try:
            _, *sides = load(
                settings.data, settings.folder, options=dataclasses.replace(settings.data_options, pad_to=0)
            ).input_shape
        except OSError as error:
            raise ValueError(
                f"the run padded its images to {height}×{width}, and how large they were before cannot be read from "
                f"its data set ({error}); say it with --image-size HEIGHT WIDTH"
            ) from None
        size = (sides[0], sides[1])
    if not (1 <= size[0] <= height and 1 <= size[1] <= width) or (settings.pad_to == 0 and size != (height, width)):
        rule = "at least 1 and at most" if settings.pad_to else "as the run padded nothing,"
        raise ValueError(f"the images' size must be {rule} {height}×{width}, got {size[0]}×{size[1]}")
    return size


def _provenance(checkpoint: Checkpoint, settings: Settings) -> dict[str, Any]:
    fields = settings.to_dict()
    history = checkpoint.history
    if checkpoint.rules is None:
        layers = {name: fields[name] for name in _BITS}
    else:
        layers = {"rules": entries_of(checkpoint.rules)}
    return {
        "run": {**{name: fields[name] for name in _SETTINGS}, **layers},
        "input_shape": list(checkpoint.input_shape) if checkpoint.input_shape is not None else None,
        "num_classes": checkpoint.num_classes,
        "epoch": checkpoint.epoch,
        **({"accuracy": history[-1]["val/acc"]} if history else {}),
    }
