"""What a folder of data holds: the format, the classes, how many images of which sizes."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data import load
from ..data.detection import detect
from ..data.picture_folder import TEST_NAMES, parts_of, scan
from ..data.picture_sets import check_classes
from ..data.pictures import Kind, PictureError, look_at
from ..data.sources import FileSource
from ..data.webdataset import index_shards, shard_paths

#: Pictures that are opened: enough to see their sizes, and done in a second.
_OPENED = 300
_NUMBERED = re.compile(r"(.*?)(\d+)\.tar")
_KNOWN = (
    "train/CLASS/* with val/CLASS/*, or CLASS/* (images); tar files of a WebDataset; or the files of mnist, cifar10, "
    "cifar100, svhn or imagenet, as their archives unpack"
)


@dataclass(frozen=True)
class FolderLook:
    """What there is to train on.

    Attributes:
        data: the format, as --data names it.
        folder: absolute.
        classes: their names; numbers where the format has none.
        channels: 1 (grey) or 3.
        train, test: how many images; test None where the training images are to be split.
        sizes: height and width of the smallest and of the largest image that were looked at.
        middle: the median of their shorter sides.
        broken: how many of those looked at cannot be read.
        shards, val_shards: of a WebDataset.
    """

    data: str
    folder: Path
    classes: tuple[str, ...]
    channels: int
    train: int
    test: int | None
    sizes: tuple[tuple[int, int], tuple[int, int]]
    middle: int
    broken: int = 0
    shards: str | None = None
    val_shards: str | None = None

    @property
    def are_alike(self) -> bool:
        """Say whether all images that were looked at have one size."""
        return self.sizes[0] == self.sizes[1]

    @property
    def are_files(self) -> bool:
        """Say whether the images are picture files, of any size."""
        return self.data in ("images", "imagenet", "webdataset")


def look(folder: Path) -> FolderLook:
    """Look into a folder of data.

    Raises:
        OSError: there is no such folder, or it cannot be read.
        ValueError: it holds nothing that is known, or no classes; see `bitorch.data.load`.
    """
    if not folder.exists():
        raise FileNotFoundError(f"there is no folder {folder}")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; name the folder that the data set is in")
    data = detect(folder)
    if data is None:
        raise ValueError(f"{folder} looks like no data set that is known here: it may hold {_KNOWN}")
    place = folder.resolve()
    if data == "webdataset":
        return _of_shards(place)
    return _of_pictures(place, data) if data in ("images", "imagenet") else _in_memory(place, data)


def _in_memory(folder: Path, data: str) -> FolderLook:
    found = load(data, folder)
    channels, height, width = found.input_shape
    names = found.class_names
    classes = tuple(map(str, range(found.num_classes))) if names is None else names
    sizes = ((height, width), (height, width))
    return FolderLook(data, folder, classes, channels, len(found.train), len(found.test), sizes, min(height, width))


def _of_pictures(folder: Path, data: str) -> FolderLook:
    train, test = parts_of(folder)
    if train is None and test is not None:
        raise ValueError(f"{folder} has {test.name}, but no train folder beside it")
    found = scan(folder if train is None else train)
    check_classes(folder, found.class_names)
    count = None if test is None else _files_below(test)
    return _of_source(folder, data, found.class_names, found.source, count)


def _files_below(folder: Path) -> int:
    return sum(not name.startswith(".") for _, _, names in os.walk(folder) for name in names)


def _of_shards(folder: Path) -> FolderLook:
    patterns = shard_patterns([path.name for path in folder.glob("*.tar")])
    tests = [pattern for pattern in patterns if pattern.lower().startswith(TEST_NAMES)]
    trains = [pattern for pattern in patterns if pattern not in tests]
    if len(trains) != 1 or len(tests) > 1:
        raise ValueError(
            f"{folder} has the tar files {', '.join(patterns)}, and which of them are to train on cannot be seen; "
            "train with --data webdataset --shards and --val-shards"
        )
    shards, val_shards = trains[0], tests[0] if tests else None
    listed = index_shards(shard_paths(folder, shards))
    count = None if val_shards is None else len(index_shards(shard_paths(folder, val_shards)).labels)
    classes = tuple(map(str, range(1 + int(listed.labels.max()))))
    found = _of_source(folder, "webdataset", classes, listed.source, count)
    return FolderLook(**{**vars(found), "shards": shards, "val_shards": val_shards})


def shard_patterns(names: Sequence[str]) -> list[str]:
    """Return patterns such as "train-{0000..0009}.tar" that stand for tar files; "*" where numbers are missing."""
    groups: dict[tuple[str, int], list[int]] = {}
    single = []
    for name in sorted(names):
        match = _NUMBERED.fullmatch(name)
        if match is None:
            single.append(name)
        else:
            groups.setdefault((match[1], len(match[2])), []).append(int(match[2]))
    patterns = []
    for (prefix, digits), numbers in groups.items():
        first, last = min(numbers), max(numbers)
        whole = len(numbers) == last - first + 1
        patterns.append(f"{prefix}{{{first:0{digits}}..{last:0{digits}}}}.tar" if whole else f"{prefix}*.tar")
    return [*patterns, *single]


def _of_source(folder: Path, data: str, classes: tuple[str, ...], source: FileSource, test: int | None) -> FolderLook:
    kinds, broken = _kinds(source)
    if not kinds:
        raise ValueError(f"none of the {broken} pictures of {folder} that were looked at can be read")
    sizes = sorted(((kind.height, kind.width) for kind in kinds), key=lambda size: (size[0] * size[1], size))
    middle = int(np.median([min(size) for size in sizes]))
    is_grey = all(kind.grey for kind in kinds)
    return FolderLook(
        data, folder, classes, 1 if is_grey else 3, len(source), test, (sizes[0], sizes[-1]), middle, broken
    )


def _kinds(source: FileSource) -> tuple[list[Kind], int]:
    """What some pictures are, evenly chosen of all, and how many of them cannot be read."""
    kinds: list[Kind] = []
    problems: Counter[str] = Counter()
    for index in np.unique(np.linspace(0, len(source) - 1, _OPENED).round().astype(int)).tolist():
        try:
            with source.stream(index) as stream:
                kinds.append(look_at(stream))
        except PictureError as error:
            problems[str(error)] += 1
    return kinds, problems.total()
