"""What a packed net sees in the pictures of a folder: their classes, and how many are right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .packed_prediction import Prediction
from .pictures_below import PicturesBelow

#: Pictures that are decoded while others are classified, and that are classified together.
_AT_ONCE = 64
#: Threads that decode: Pillow's decoders let others run.
_DECODERS = 4


@dataclass(frozen=True)
class Seen:
    """One picture.

    Attributes:
        path: of its file; index: in a .npy file that holds a batch, else None.
        label: its class as its folder is called; None where no folder around it is called like a class.
        line: what the net sees in it, as `Prediction.classify` gives it.
    """

    path: Path
    index: int | None
    label: str | None
    line: dict[str, Any]

    @property
    def predicted(self) -> str:
        """The name of the class that the net sees, or its number where the net has no names."""
        return str(self.line.get("label", self.line["class"]))


@dataclass
class Tally:
    """What came out of a folder so far.

    Attributes:
        names: of the net's classes: numbers where its file has none.
        pictures: that were classified; unreadable: that were not.
        predicted: how often each class was seen.
        confusion: how often a picture of the first class was seen as the second.
    """

    names: tuple[str, ...]
    pictures: int = 0
    unreadable: int = 0
    predicted: Counter[str] = field(default_factory=Counter)
    confusion: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, seen: Seen) -> None:
        """Count a picture."""
        self.pictures += 1
        self.predicted[seen.predicted] += 1
        if seen.label is not None:
            self.confusion[seen.label, seen.predicted] += 1

    @property
    def labelled(self) -> int:
        """How many pictures have a label."""
        return sum(self.confusion.values())

    @property
    def right(self) -> int:
        """How many pictures were seen as what they are."""
        return sum(count for (label, predicted), count in self.confusion.items() if label == predicted)


def classify_folder(
    prediction: Prediction,
    found: PicturesBelow,
    *,
    resize: bool,
    on_problem: Callable[[Exception], None],
) -> Iterator[list[Seen]]:
    """Yield what the net sees in each file of a folder, in their order; [] for one that cannot be read.

    Args:
        resize: as for `read_images`.
        on_problem: called with the error, which names it, for each file that cannot be read.
    """

    def read(path: Path) -> tuple[Tensor, bool] | Exception:
        try:
            return prediction.read(path, resize=resize)
        except (ValueError, OSError) as error:
            return error

    paths = iter(found.pictures)
    with ThreadPoolExecutor(_DECODERS) as pool:
        ahead = list(pool.map(read, chunk := list(islice(paths, _AT_ONCE))))
        while chunk:
            following = list(islice(paths, _AT_ONCE))
            waiting = pool.map(read, following)  # decoded while these are classified
            yield from _classified(prediction, found, list(zip(chunk, ahead, strict=True)), on_problem)
            chunk, ahead = following, list(waiting)


def _classified(
    prediction: Prediction,
    found: PicturesBelow,
    files: list[tuple[Path, tuple[Tensor, bool] | Exception]],
    on_problem: Callable[[Exception], None],
) -> Iterator[list[Seen]]:
    tensors = [content[0] for _, content in files if not isinstance(content, Exception)]
    lines = prediction.classify(torch.cat(tensors)) if tensors else iter(())
    for path, content in files:
        if isinstance(content, Exception):
            on_problem(content)
            yield []
            continue
        images, is_batch = content
        label = found.label_of(path, prediction.classes)
        own = enumerate(islice(lines, len(images)))
        yield [Seen(path, index if is_batch else None, label, line) for index, line in own]
