"""SVHN: table 1 of DoReFa-Net (arXiv 1606.06160), any net and any row, on the official files, measured beside reported.

The paper names Adam, 40×40 pixels and the nets. The number of epochs, the size of a batch, the halved learning rate and
Adam's epsilon are those of its authors' training code, as remembered; its changes of brightness and contrast are left
out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bitorch.data.finding import place_of
from courses import Course
from literature import FLOAT, TABLE1, Bits
from recipe import run
from reproduction import Options, Plan, Row, reproduce

_COURSE = Course(
    epochs=200, batch_size=128, fields={"optimizer": "adam", "lr": 1e-3, "eps": 1e-5}, milestones=(100,), gamma=0.5
)
_TRAIN_IMAGES, _EXTRA_IMAGES = 73_257, 531_131
_FILES = ("train_32x32.mat", "test_32x32.mat")
_EXTRA = "extra_32x32.mat"


@dataclass(frozen=True, kw_only=True)
class SVHNOptions(Options):
    """Train rows of DoReFa-Net's table 1 on SVHN."""

    nets: tuple[Literal["A", "B", "C", "D"], ...] = ("A", "B", "C", "D")
    """Nets of the paper; B, C and D have 1/2, 1/4 and 1/8 of A's channels."""
    bits: tuple[Bits, ...] = tuple(TABLE1)
    """Rows: bits of weights, activations and gradients, three numbers for each: 1 1 4 1 2 4; 32 32 32 is the float net.
    Default: all of the table."""
    extra: bool = True
    """Train on extra_32x32.mat, too."""
    out: Path = Path("runs/paper-svhn")
    """Folder of the runs and of the table."""


def main(options: SVHNOptions) -> None:
    reproduce(plan(options), options, options.out)


def plan(options: SVHNOptions) -> Plan:
    files = (*_FILES, _EXTRA) if options.extra else _FILES
    return Plan(
        title="SVHN: DoReFa-Net's table 1",
        rows=[
            Row(f"svhn-{net.lower()}", "float" if bits == FLOAT else "dorefa", bits)
            for net in options.nets
            for bits in options.bits
        ],
        course=lambda row: _COURSE,
        data={"data": "svhn", "image_size": 40, "extra": options.extra},
        missing=lambda folder: "" if place_of(folder, files) is not None else " and ".join(files),
        where=(
            f"{', '.join(files)} (the cropped digits) are had from http://ufldl.stanford.edu/housenumbers/; put them "
            "into one folder and name it with --folder; --no-extra does without extra_32x32.mat"
        ),
        images=_TRAIN_IMAGES + (_EXTRA_IMAGES if options.extra else 0),
        side=40,
        classes=10,
    )


if __name__ == "__main__":
    run(main, SVHNOptions)
