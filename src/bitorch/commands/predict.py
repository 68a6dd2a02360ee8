"""`bitorch predict`: what a packed net sees in images."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from .console import print_error
from .options import parse


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
    # Only here: PyTorch takes seconds to import, for which --help and a wrong flag need not wait.
    from .packed_prediction import Prediction

    try:
        _check_files(options.images)
        prediction = Prediction(options.net, options.top)
    except (ValueError, TypeError, OSError) as error:
        return print_error(error)
    code = 0
    for path in options.images:
        try:
            lines = prediction.lines(path, resize=options.resize)
        except (ValueError, OSError) as error:
            code = print_error(error)
            continue
        for line in lines:
            print(json.dumps(line, ensure_ascii=False))
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
