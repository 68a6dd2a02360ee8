"""Settings that fit what a folder holds, each with its reason, as a settings file with comments."""

from __future__ import annotations

import math
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..train.settings import Settings
from .folder_look import FolderLook

#: Images that a run sees, as far as epochs allow: what nets of this size need to be near their best.
_SEEN = 2_000_000
_EPOCHS = (10, 100)
_BATCHES = (8, 128)
#: Steps of an epoch that a batch leaves at least.
_STEPS = 20
#: A mirrored digit is another one, or none.
_NOT_MIRRORED = ("mnist", "svhn")
#: Classes in a comment.
_SHOWN = 12


@dataclass(frozen=True)
class Line:
    """A setting of the file: what stands above it, and whether it stands there as a proposal only."""

    name: str
    value: Any
    comment: str
    is_proposal: bool = False


def settings_text(found: FolderLook) -> str:
    """Return a settings file for `bitorch train --config`: YAML with comments.

    Raises:
        ValueError: what fits the folder is no valid set of settings.
    """
    lines = _lines(found)
    Settings.from_dict({line.name: line.value for line in lines if not line.is_proposal})
    parts = [_head(found)]
    for line in lines:
        comment = "\n".join(f"# {text}" for text in line.comment.split("\n"))
        parts.append(f"{comment}\n{'# ' if line.is_proposal else ''}{line.name}: {_yaml(line.value)}")
    return "\n\n".join([*parts, "# All other settings: bitorch train --help-all\n"])


def _yaml(value: Any) -> str:
    """A value on one line: [1, 2, 6], true, a text in quotes where it needs them."""
    text = yaml.safe_dump(value, allow_unicode=True, default_flow_style=True, width=math.inf)
    return text.removesuffix("\n").removesuffix("\n...")


def _head(found: FolderLook) -> str:
    classes = ", ".join(found.classes[:_SHOWN]) + (f" … ({len(found.classes)})" if len(found.classes) > _SHOWN else "")
    (low, high), kind = found.sizes, "grey" if found.channels == 1 else "in colour"
    sizes = f"{low[0]}×{low[1]} pixels" if found.are_alike else f"{low[0]}×{low[1]} to {high[0]}×{high[1]} pixels"
    test = "none of their own to test" if found.test is None else f"{found.test:,} to test"
    broken = f", {found.broken} of those that were opened cannot be read" if found.broken else ""
    texts = [
        f"Settings for {found.data} in {found.folder.name}, as bitorch init found it:",
        f"  {len(found.classes)} classes: {classes}",
        f"  {found.train:,} images to train, {test}, {kind}, {sizes}{broken}",
        "Train with this file, and change what you like; flags on the command line count over it.",
    ]
    return "\n".join(f"# {text}" for text in texts)


def _lines(found: FolderLook) -> list[Line]:
    size = _image_size(found)
    side = size if size else found.middle
    train = found.train if found.test is not None else round(0.8 * found.train)
    batch = _batch_size(train)
    return [
        Line("data", found.data, "The format, and where it is."),
        Line("folder", str(found.folder), "Where the data set is."),
        *_shards(found),
        *_sizes(found, size),
        *_split(found),
        *_damaged(found),
        Line("model", _model(found, side), _model_comment(found, side)),
        Line("bits", [1, 2, 6], "Bits of weights, activations and gradients. [32, 32, 32] trains the float twin, to\n"
             "compare with, and to start from: init and distil take its checkpoint."),
        Line("epochs", _epochs(train), f"Passes over the training images: about {_SEEN // 1_000_000} million images in "
             f"all, from {_EPOCHS[0]} to {_EPOCHS[1]} passes."),
        Line("batch_size", batch, "Images of a step."),
        Line("lr", 2e-3 if batch >= 128 else 1e-3, "Learning rate at the start; it falls to 0 along a cosine."),
        *_augmentation(found, size),
        *([Line("workers", min(4, _cores()), "Processes that decode pictures.")] if found.are_files else []),
        Line("seed", 0, "Of weights, order and augmentation: the same seed gives the same net."),
    ]  # fmt: skip


def _shards(found: FolderLook) -> list[Line]:
    if found.shards is None:
        return []
    lines = [Line("shards", found.shards, "Tar files to train on.")]
    return [*lines, Line("val_shards", found.val_shards, "And to test on.")] if found.val_shards else lines


def _image_size(found: FolderLook) -> int:
    """Height and width that pictures are brought to; 0: as they are."""
    height, width = found.sizes[0]
    if not found.are_files or (found.are_alike and height == width and height in (8, 28, 32)):
        return 0
    return next((size for size in (224, 128, 64) if found.middle >= size), 32)


def _sizes(found: FolderLook, size: int) -> list[Line]:
    if not found.are_files:
        return []
    kept = "All are of this size already." if size == 0 else (
        "Pictures are brought to this height and width: the shorter side is resized, the middle cut out.\n"
        f"Half of those that were looked at have a shorter side of {found.middle} pixels or more."
    )  # fmt: skip
    share = [Line("crop_share", 0.875, "Share of the shorter side that is kept in evaluation, as of ImageNet's nets.")]
    return [
        Line("image_size", size, kept),
        Line("channels", str(found.channels), "1: grey, 3: colour."),
        *(share if size == 224 else []),
    ]


def _split(found: FolderLook) -> list[Line]:
    if found.test is not None:
        return []
    return [Line("val_share", 0.2, "Share of each class that is kept for testing, as there are no test pictures.")]


def _damaged(found: FolderLook) -> list[Line]:
    if not found.are_files:
        return []
    comment = "Damaged pictures are left out and counted." if found.broken else "Leave damaged pictures out?"
    return [Line("broken", "skip", comment, is_proposal=not found.broken)]


def _model(found: FolderLook, side: int) -> str:
    if found.channels == 1 and side in (8, 28):
        return {8: "lenet-8", 28: "lenet-28"}[side]
    return "resnet-18" if side >= 96 else "resnet-20"


def _model_comment(found: FolderLook, side: int) -> str:
    reasons = {
        "lenet-8": "A small net for grey images of 8×8 pixels.",
        "lenet-28": "A small net for grey images of 28×28 pixels.",
        "resnet-20": f"A small residual net, for images of about {side}×{side} pixels.",
        "resnet-18": f"ImageNet's residual net, for images of {side}×{side} pixels.",
    }
    return f"{reasons[_model(found, side)]} Others: bitorch train --help model"


def _batch_size(train: int) -> int:
    size = _BATCHES[1]
    while size > _BATCHES[0] and size * _STEPS > train:
        size //= 2
    return size


def _epochs(train: int) -> int:
    return min(max(round(_SEEN / train), _EPOCHS[0]), _EPOCHS[1])


def _augmentation(found: FolderLook, size: int) -> list[Line]:
    mirror = Line(
        "flip", True, "Mirror half of the training images. Leave it out where left and right matter, as in writing.",
        is_proposal=found.data in _NOT_MIRRORED or (found.channels == 1 and not found.are_files),
    )  # fmt: skip
    if found.are_files and size:
        crop = Line("crop_scale", [0.35, 1.0], "Train on a random part of each picture, of this share of its area.")
        return [mirror, crop]
    shift = Line("shift", 1 if found.middle < 32 else 2, "Move each training image by up to this many pixels.")
    return [mirror, shift]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def train_command(path: Path) -> str:
    """Return the command that trains with a settings file."""
    return f"bitorch train --config {shlex.quote(str(path))}"
