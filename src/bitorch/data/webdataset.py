"""WebDataset: pictures and their classes in tar files, the shards."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .images import Dataset
from .names import NamesBuilder
from .options import DataOptions
from .picture_folder import ScanProgress
from .picture_sets import Listed, picture_dataset
from .pictures import picture_suffixes
from .sources import TarSource
from .tar_index import Member, tar_members

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_SHARDS = 1_000_000
_MOST_LABEL_BYTES = 1 << 20
_CLASSES = "classes.txt"
_SAY_EVERY = 1000


def shard_paths(folder: str | Path | None, pattern: str) -> list[Path]:
    """Return the tar files of a pattern such as "train-{0000..0009}.tar", or "train-*.tar", below a folder.

    Raises:
        ValueError: a range that falls, or too many files.
        FileNotFoundError: missing files, the first of which are named.
    """
    base = Path() if folder is None else Path(folder)
    texts = [pattern]
    count = 1
    for found in _RANGE.finditer(pattern):
        count *= max(int(found.group(2)) - int(found.group(1)) + 1, 0)
        if not 1 <= count <= _MOST_SHARDS:
            raise ValueError(
                f"shards {pattern!r}: {found.group()} must rise, and all ranges together to at most {_MOST_SHARDS:,} "
                "files"
            )
    while any(map(_RANGE.search, texts)):
        texts = [text for item in texts for text in _expanded(item)]
    paths = [base / text for text in texts]
    if "*" in pattern or "?" in pattern:
        paths = sorted(path for text in texts for path in base.glob(text))
        if not paths:
            raise FileNotFoundError(f"{base} has no files {pattern}")
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"{len(missing)} of {len(paths)} shards are not there: {', '.join(missing[:5])}")
    return paths


def _expanded(text: str) -> list[str]:
    """Return the texts that the first {0000..0009} of a text stands for."""
    found = _RANGE.search(text)
    if found is None:
        return [text]
    first, last = found.groups()
    numbers = range(int(first), int(last) + 1)
    return [f"{text[: found.start()]}{number:0{len(first)}}{text[found.end() :]}" for number in numbers]


def webdataset(folder: str | Path | None, options: DataOptions) -> Dataset:
    """Read shards whose samples have a picture, and their class as KEY.cls, or as "label" or "cls" of KEY.json.

    Without `options.val_shards` a share of each class is for testing, chosen by key. Class names are the lines of
    classes.txt beside the first shard, if it is there.

    Raises:
        ValueError, FileNotFoundError: missing or damaged shards; samples without a picture or class; and as
            `picture_folder`.
    """
    if options.shards is None:
        raise ValueError('data "webdataset" needs its shards, such as --shards "train-{0000..0009}.tar"')
    paths = shard_paths(folder, options.shards)
    train = index_shards(paths)
    if options.val_shards is not None:
        test = index_shards(shard_paths(folder, options.val_shards))
    else:
        train, test = _split(train, options)
    classes = 1 + max(int(part.labels.max(initial=0)) for part in (train, test))
    names = _class_names(paths[0].parent / _CLASSES, classes)
    return picture_dataset("webdataset", (train, test), names, options)


def index_shards(paths: Sequence[Path]) -> Listed:
    """Return the pictures of shards and their classes.

    Raises:
        ValueError: a damaged shard; a sample without a picture or class, or with two pictures.
    """
    index = _Index(paths)
    for number, path in enumerate(paths):
        index.add(number, path)
    if not index.labels:
        raise ValueError(f"{paths[0]} and the other shards hold no samples")
    members = np.array(index.members, np.int64).reshape(-1, 3)
    return Listed(TarSource(paths, members, index.names.names()), np.array(index.labels, np.int64))


class _Index:
    def __init__(self, paths: Sequence[Path]) -> None:
        self.members: list[tuple[int, int, int]] = []
        self.labels: list[int] = []
        self.names = NamesBuilder()
        self._progress = ScanProgress(paths[0].parent)

    def add(self, number: int, path: Path) -> None:
        """Add the samples of a shard: members that follow each other and have one key."""
        sample: dict[str, Member] = {}
        key = None
        with path.open("rb") as file:
            for member in tar_members(path):
                folder, _, base = os.fsdecode(member.name).rpartition("/")
                if base.startswith("."):
                    continue
                stem, _, ending = base.partition(".")
                if (folder, stem) != key and sample:
                    self._sample(number, path, file.fileno(), sample)
                    sample = {}
                key = (folder, stem)
                sample[ending.lower()] = member
            if sample:
                self._sample(number, path, file.fileno(), sample)

    def _sample(self, number: int, path: Path, file: int, sample: dict[str, Member]) -> None:
        first = os.fsdecode(next(iter(sample.values())).name)
        pictures = [m for ending, m in sample.items() if f".{ending.rpartition('.')[2]}" in picture_suffixes()]
        if len(pictures) != 1:
            raise ValueError(f"{path}: the sample of {first} has {len(pictures)} pictures, and must have one")
        self.labels.append(_label(f"{path}: the sample of {first}", file, sample))
        self.members.append((number, pictures[0].place, pictures[0].size))
        self.names.append(pictures[0].name)
        if len(self.labels) % _SAY_EVERY == 0:
            self._progress.say(len(self.labels))


def _label(what: str, file: int, sample: dict[str, Member]) -> int:
    for ending in ("cls", "json"):
        if ending not in sample:
            continue
        member = sample[ending]
        if member.size > _MOST_LABEL_BYTES:
            raise ValueError(f"{what}: {ending} has {member.size} bytes")
        text = os.pread(file, member.size, member.place)
        try:
            value = json.loads(text)
        except ValueError:
            raise ValueError(f"{what}: {ending} must hold a class, got {text[:20]!r}") from None
        if isinstance(value, dict):
            value = next((value[name] for name in ("label", "cls") if name in value), None)
        if type(value) is not int or value < 0:
            raise ValueError(f"{what}: {ending} must hold a class, a whole number from 0 on, got {str(value)[:20]}")
        return value
    raise ValueError(f"{what} has no class: KEY.cls, or KEY.json with a label; it has {', '.join(sample)}")


def _split(listed: Listed, options: DataOptions) -> tuple[Listed, Listed]:
    assert isinstance(listed.source, TarSource)  # as `index_shards` makes it
    names, seed = listed.source.names, options.split_seed
    draws = [
        int.from_bytes(hashlib.blake2b(b"%d " % seed + names[i], digest_size=8).digest(), "big") / 2**64
        for i in range(len(names))
    ]
    is_test = np.array(draws) < options.val_share
    return listed.chosen(np.flatnonzero(~is_test)), listed.chosen(np.flatnonzero(is_test))


def _class_names(path: Path, classes: int) -> tuple[str, ...]:
    if not path.is_file():
        return tuple(map(str, range(classes)))
    names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    if len(names) < classes:
        raise ValueError(f"{path} has {len(names)} class names, but there are labels up to {classes - 1}")
    return names
