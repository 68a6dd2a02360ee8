"""ImageNet: AlexNet as in DoReFa-Net's table 2, and ResNet-18 by DoReFa, PACT and LSQ, measured beside reported.

AlexNet and ResNet-18 by DoReFa and PACT are trained as in PACT's paper (arXiv 1805.06085), which takes DoReFa-Net's
(1606.06160) for AlexNet; LSQ as in its own (1902.08153). Schedules are as remembered. Training pictures are random
rectangles of 8 to 100 % of the area, mirrored; the first paper cuts 224×224 of 256×256 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bitorch.data.finding import place_of
from bitorch.data.imagenet import is_imagenet
from bitorch.data.picture_folder import class_folders, parts_of
from courses import SGD, Course, lsq_course
from literature import FLOAT, TABLE2, Bits, Method
from recipe import run
from reproduction import Options, Plan, Row, reproduce

_ALEXNET = Course(
    epochs=100,
    batch_size=128,
    fields={"optimizer": "adam", "lr": 1e-4, "eps": 1e-5, "weight_decay": 5e-6},
    milestones=(56, 64),
    gamma=0.2,
)
_RESNET18 = Course(110, 256, {**SGD, "lr": 0.1, "weight_decay": 1e-4}, milestones=(30, 60, 85, 95))
_SIDE = 224
_KIT = ("meta.mat", "ILSVRC2012_validation_ground_truth.txt")


@dataclass(frozen=True, kw_only=True)
class ImageNetOptions(Options):
    """Train AlexNet or ResNet-18 on ImageNet by several methods at several bits."""

    net: Literal["alexnet", "resnet-18"] = "alexnet"
    """alexnet: DoReFa-Net's table 2; resnet-18: the tables of PACT and LSQ."""
    methods: tuple[Method, ...] = ()
    """How weights and activations become low-bit; float is the net without. Default: float and dorefa for alexnet,
    all four for resnet-18."""
    bits: tuple[Bits, ...] = ()
    """Bits of weights, activations and gradients, three numbers for each row: 1 2 6 2 2 32. Default: those of table 2,
    or 2, 3 and 4 bits with float gradients."""
    width: float = 1.0
    """Factor on the channels; reported numbers are of 1."""
    shards: str | None = None
    """Read tar files of a WebDataset in --folder instead of folders: "imagenet-train-{0000..1023}.tar"."""
    val_shards: str | None = None
    """And these for validation."""
    out: Path = Path("runs/paper-imagenet")
    """Folder of the runs and of the table."""


def main(options: ImageNetOptions) -> None:
    if (options.shards is None) != (options.val_shards is None):
        raise ValueError(
            f"shards and val_shards belong together, got {options.shards!r} and {options.val_shards!r}; the official "
            "validation pictures are what accuracies are measured on"
        )
    reproduce(plan(options), options, options.out)


def plan(options: ImageNetOptions) -> Plan:
    return Plan(
        title="ImageNet: " + ("DoReFa-Net's table 2" if options.net == "alexnet" else "ResNet-18 by method and bits"),
        rows=rows(options),
        course=course,
        data={**_data(options), "image_size": _SIDE, "crop_share": 0.875, "crop_scale": (0.08, 1.0), "flip": True},
        missing=missing if options.shards is None else lambda folder: "",
        where=(
            "ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz are had from "
            "https://image-net.org/download-images with an account there; unpack each n….tar of the first into "
            "FOLDER/train/n…, the second into FOLDER/val and the third into FOLDER, and name that with --folder"
        ),
        images=1_281_167,
        side=_SIDE,
        classes=1000,
        width=options.width,
    )


def rows(options: ImageNetOptions) -> list[Row]:
    is_alexnet = options.net == "alexnet"
    methods: tuple[Method, ...] = ("float", "dorefa") if is_alexnet else ("float", "dorefa", "pact", "lsq")
    table = dict.fromkeys(bits for bits, _ in TABLE2) if is_alexnet else ((2, 2, 32), (3, 3, 32), (4, 4, 32))
    chosen = options.methods if options.methods else methods
    all_bits = [bits for bits in (options.bits if options.bits else table) if bits != FLOAT]
    floats = [Row(options.net, "float", FLOAT)] if "float" in chosen else []
    return [*floats, *(Row(options.net, method, bits) for method in chosen if method != "float" for bits in all_bits)]


def course(row: Row) -> Course:
    if row.net == "alexnet":
        return _ALEXNET
    return lsq_course(90, 256, row.bits) if row.method == "lsq" else _RESNET18


def missing(folder: Path) -> str:
    """Return what a folder lacks of train/SYNSET and val, the latter in folders, or flat with the development kit."""
    if not is_imagenet(folder):
        return "train/n…, one folder for each synset"
    _, val = parts_of(folder)
    if val is None:
        return "val"
    lacks = [name for name in _KIT if place_of(folder, (name,)) is None]
    return "" if class_folders(val) or not lacks else f"{' and '.join(lacks)} for the pictures in val"


def _data(options: ImageNetOptions) -> dict[str, Any]:
    if options.shards is None:
        return {"data": "imagenet"}
    return {"data": "webdataset", "shards": options.shards, "val_shards": options.val_shards}


if __name__ == "__main__":
    run(main, ImageNetOptions)
