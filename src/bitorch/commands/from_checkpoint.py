"""A checkpoint of the trainer as a packed net."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..conversion.layer_configs import Configs
from ..conversion.rules_file import entries_of
from ..data import DataOptions, Dataset, load, to_float
from ..deployment.any_size import Sizes
from ..deployment.deploy import deploy, pixels_of
from ..deployment.runtime.packed_model import PackedModel
from ..deployment.runtime.verification import Verification, verify
from ..known_names import PICTURE_DATA
from ..models.own import GivenNet
from ..outputs import logits_of
from ..own_code import is_own
from ..train import Checkpoint
from ..train.evaluation import data_of
from ..train.run_data import first_call, first_inputs, is_structured
from ..train.trained import Trained, load_trained
from .preprocessing import Preprocessing

#: Data sets whose class k is called k.
_CLASS_NAMES = {"digits": tuple("0123456789")}
#: Of the settings, what says how the net is built and with what it was trained. Not where: files are given away.
_SETTINGS = (
    "model", "width", "data", "pad_to", "epochs", "seed", "loss", "metric", "ignore_index", "image_size", "channels",
    "crop_share", "mean", "std", "val_share", "split_seed", "extra", "shards", "val_shards", "fake",
)  # fmt: skip
#: And these, unless rules say it.
_BITS = (
    "bits", "first", "last", "range", "learned_by", "weights_method", "activations", "weight_scale", "group_size",
    "scale", "sign", "pad_value", "gradients",
)  # fmt: skip
_TRIED_IMAGES = 16


@dataclass(frozen=True)
class Deployed:
    """A checkpoint's model, what that is called, and its packed net, which were compared."""

    checkpoint: Checkpoint
    name: str
    model: nn.Module
    packed: PackedModel
    verification: Verification


@dataclass(frozen=True)
class Prepared:
    """A checkpoint's model, and all that a file of it is made of.

    Attributes:
        trained: the checkpoint and its model.
        example: inputs as the model takes them, of one image.
        tried: inputs as the file takes them, which it is compared on.
        pixels: the file takes uint8 pixels.
        class_names, preprocessing, provenance: what the file is to say.
    """

    trained: Trained
    example: tuple[Tensor, ...]
    tried: tuple[Tensor, ...]
    pixels: bool
    class_names: tuple[str, ...] | None
    preprocessing: dict[str, Any] | None
    provenance: dict[str, Any]


def deploy_checkpoint(path: str | Path, *, sizes: Sizes | None = None, **options: Any) -> Deployed:
    """Deploy a checkpoint, with its class names, preprocessing and provenance, and verify it on random images.

    The net of a run on data of the user's own is deployed for inputs like the first test samples, and verified on them.

    Args:
        path: the checkpoint.
        sizes: as of `bitorch.deploy`.
        options: as of `prepared`.

    Raises:
        FileNotFoundError, ValueError: see `prepared` and `bitorch.deploy`.
        DeploymentError: see `bitorch.deploy`.
    """
    made = prepared(path, **options)
    net = made.trained.model
    packed = deploy(
        net,
        *made.example,
        pixels=made.pixels,
        sizes=sizes,
        class_names=made.class_names,
        preprocessing=made.preprocessing,
        provenance=made.provenance,
    )
    verification = verify(net, packed, *made.tried)
    return Deployed(made.trained.checkpoint, made.trained.source.name, net, packed, verification)


def prepared(
    path: str | Path,
    *,
    pixels: bool = True,
    image_size: tuple[int, int] | None = None,
    model: GivenNet | str | None = None,
    config: Configs | None = None,
    input_shape: tuple[int, int, int] | None = None,
    data: str | None = None,
    folder: str | Path | None = None,
) -> Prepared:
    """Read a checkpoint, and say all that a file of its net is made of.

    Args:
        path: the checkpoint.
        pixels: the file takes uint8 pixels; False: floats, pixels/255.
        image_size: height and width of the images before they were padded; None: read from the run's data set.
        model, config, input_shape: see `load_model`, for a checkpoint of a Trainer of one's own.
        data, folder: as in Settings, of the user's own; None for both: those of the run.

    Raises:
        FileNotFoundError, ValueError: see `read_checkpoint` and `load_model`; ValueError too for an image_size that
            does not fit, or that has to be given because the data set is not there; and without an input_shape where
            the checkpoint does not say it.
    """
    trained = load_trained(path, model, config=config, input_shape=input_shape)
    if (samples := _own_samples(trained.checkpoint, data, folder)) is not None:
        return _prepared_for(trained, samples, pixels=pixels)
    checkpoint, shape = trained.checkpoint, trained.input_shape
    settings = checkpoint.settings
    if shape is None:
        raise ValueError(f"{path} does not say which images its model takes; say it with --input-shape C H W")
    images = torch.randint(
        0, 256, (_TRIED_IMAGES, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    classes = _num_classes(trained, to_float(images[:1]))
    names = checkpoint.class_names
    if names is None and settings is not None:
        names = _CLASS_NAMES.get(settings.data)
    return Prepared(
        trained,
        example=(to_float(images[:1]),),
        tried=(images if pixels else to_float(images),),
        pixels=pixels,
        class_names=tuple(names) if names is not None and len(names) == classes else None,
        preprocessing=_preprocessing(checkpoint, shape, image_size).to_dict(),
        provenance=_provenance(trained, shape, classes),
    )


def _own_samples(checkpoint: Checkpoint, data: str | None, folder: str | Path | None) -> Dataset | None:
    """Return the data that a run on data of the user's own was on; None of pictures, for which random ones will do."""
    settings = checkpoint.settings
    if data is None and (settings is None or not is_own(settings.data)):
        return None
    name, place = data_of(checkpoint, data, folder)
    if not is_own(name):
        raise ValueError(f"--data {name}: an example is read from data of your own only, FILE.py:NAME; leave it out")
    options = DataOptions() if settings is None else settings.data_options
    dataset = load(name, place, options=options)
    return dataset if is_structured(dataset) else None


def _prepared_for(trained: Trained, dataset: Dataset, *, pixels: bool) -> Prepared:
    """What a file for inputs like the first test samples is made of."""
    checkpoint, net = trained.checkpoint, trained.model
    call = first_call(dataset, net, _TRIED_IMAGES, part="test")
    inputs = call.in_order(net, call.where)
    given = first_inputs(dataset)
    pixels = pixels and len(inputs) == 1 and len(given) == 1 and given[0].dtype == torch.uint8
    return Prepared(
        trained,
        example=tuple(x[:1] for x in inputs),
        tried=tuple(pixels_of(x) if pixels else x for x in inputs),
        pixels=pixels,
        class_names=_names_of_scores(net, inputs, dataset),
        preprocessing=None,
        provenance=_provenance(trained, trained.input_shape, checkpoint.num_classes),
    )


def _names_of_scores(net: nn.Module, inputs: Sequence[Tensor], dataset: Dataset) -> tuple[str, ...] | None:
    """Return the data's class names where the net gives one score for each."""
    names = dataset.class_names
    if names is None:
        return None
    with torch.inference_mode():
        output = net(*inputs)
    try:
        return names if logits_of(output).shape[1:] == (len(names),) else None
    except TypeError:  # several outputs, of which none are the scores
        return None


def _num_classes(trained: Trained, example: Tensor) -> int:
    """Return the number of classes, of the net's logits where the checkpoint does not say it."""
    if trained.checkpoint.num_classes is not None:
        return trained.checkpoint.num_classes
    with torch.inference_mode():
        return logits_of(trained.model(example)).shape[-1]


def _preprocessing(
    checkpoint: Checkpoint, shape: tuple[int, int, int], image_size: tuple[int, int] | None
) -> Preprocessing:
    """Return how images become inputs; pictures of any size are fitted where the run did so."""
    settings = checkpoint.settings
    is_fitted = settings is not None and (settings.data in PICTURE_DATA or settings.image_size > 0)
    share = settings.crop_share if settings is not None and is_fitted else None
    return Preprocessing.padded(shape, _image_size(checkpoint, shape, image_size), share)


def _image_size(checkpoint: Checkpoint, shape: tuple[int, int, int], given: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of the images before they were padded."""
    settings = checkpoint.settings
    height, width = shape[1:]
    if settings is None or settings.pad_to == 0 or given is not None:
        size = (height, width) if given is None else given
    else:
        try:
            options = dataclasses.replace(settings.data_options, pad_to=0)
            _, *sides = load(*data_of(checkpoint, None, None), options=options).input_shape
        except OSError as error:
            raise ValueError(
                f"the run padded its images to {height}×{width}, and how large they were before cannot be read from "
                f"its data set ({error}); say it with --image-size HEIGHT WIDTH"
            ) from None
        size = (sides[0], sides[1])
    pads = settings is None or settings.pad_to != 0
    if not (1 <= size[0] <= height and 1 <= size[1] <= width) or (not pads and size != (height, width)):
        rule = "at least 1 and at most" if pads else "as the run padded nothing,"
        raise ValueError(f"the images' size must be {rule} {height}×{width}, got {size[0]}×{size[1]}")
    return size


def _provenance(trained: Trained, shape: tuple[int, int, int] | None, num_classes: int | None) -> dict[str, Any]:
    checkpoint = trained.checkpoint
    made = {"model": _without_place(trained.source.name), "model_sha256": trained.source.sha256}
    run: dict[str, Any] = {name: value for name, value in made.items() if value is not None}
    if checkpoint.settings is not None:
        fields = checkpoint.settings.to_dict()
        fields |= {name: _without_place(fields[name]) for name in ("data", "loss", "metric")}
        run = {**{name: fields[name] for name in _SETTINGS}, **run}
        if checkpoint.rules is None:
            run |= {name: fields[name] for name in _BITS}
        else:
            run["rules"] = entries_of(checkpoint.rules)
    history = checkpoint.history
    last = (
        {name.removeprefix("val/"): value for name, value in history[-1].items() if "val/" in name} if history else {}
    )
    return {
        "run": run,
        **({} if shape is None else {"input_shape": list(shape)}),
        **({} if num_classes is None else {"num_classes": num_classes}),
        **({} if checkpoint.of_any_module else {"epoch": checkpoint.epoch}),
        **({"accuracy": last["acc"]} if "acc" in last else {"metrics": last} if last else {}),
    }


def _without_place(name: str) -> str:
    """Return what a model is called, without the folder of the user's file."""
    if not is_own(name):
        return name
    place, _, function = name.rpartition(":")
    return f"{Path(place).name}:{function}"
