"""Folders of pictures, one for each class, and their list: made without opening a file."""

from __future__ import annotations

import hashlib
import os
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .names import NamesBuilder
from .pictures import picture_suffixes
from .sources import FolderSource

#: What parts of a data set are called, in lower case.
TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("val", "valid", "validation", "test", "testing")
_SAY_EVERY = 10_000
_LINE_SECONDS = 15.0
_SHOWN = 5


@dataclass
class Scan:
    """What is in a folder of class folders.

    Attributes:
        source: the pictures, sorted by class and then by name.
        labels: int64 [N], the class of each, a number in `class_names`.
        class_names: names of the class folders, sorted.
        left_out: how many files have an ending that is of no picture, by ending.
        hidden: names that begin with a dot, which are left out.
    """

    source: FolderSource
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    left_out: Counter[str] = field(default_factory=Counter)
    hidden: list[str] = field(default_factory=list)


def parts_of(folder: Path) -> tuple[Path | None, Path | None]:
    """Return the folders of training and test pictures in a folder, None where there is none."""
    by_name = {entry.name.lower(): Path(entry.path) for entry in _entries(folder) if entry.is_dir()}
    train, test = (
        next((by_name[name] for name in names if name in by_name), None) for names in (TRAIN_NAMES, TEST_NAMES)
    )
    return train, test


def class_folders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, but of hidden ones, sorted."""
    return sorted(entry.name for entry in _entries(folder) if entry.is_dir() and not entry.name.startswith("."))


def scan(folder: Path, class_names: Sequence[str] | None = None) -> Scan:
    """List the pictures of a folder that has one folder for each class; those may have folders in them.

    Args:
        folder: of the class folders.
        class_names: what the classes are, where another part of the data set has said it; None: the folders' names.

    Raises:
        ValueError: no class folders; a class without pictures; names that differ in case or in how their letters are
            encoded only; a folder that is none of the classes.
        OSError: a folder cannot be read.
    """
    found = class_folders(folder)
    if not found:
        raise ValueError(_no_classes(folder))
    _check_distinct(folder, found)
    names = tuple(unicodedata.normalize("NFC", name) for name in found) if class_names is None else tuple(class_names)
    label_of = {name: label for label, name in enumerate(names)}
    walk = _Walk(folder)
    labels: list[NDArray[np.int64]] = []
    for name in found:
        plain = unicodedata.normalize("NFC", name)
        if plain not in label_of:
            raise ValueError(f"{folder / name}: {plain!r} is none of the {len(names)} classes of the training pictures")
        before = len(walk.names)
        walk.walk(os.fsencode(name))
        if len(walk.names) == before and class_names is None:
            raise ValueError(f"class folder {folder / name} has no pictures; put some there or remove it")
        labels.append(np.full(len(walk.names) - before, label_of[plain]))
    walk.hidden += [entry.name for entry in _entries(folder) if entry.name.startswith(".")]
    walk.done()
    source = FolderSource(folder, walk.names.names())
    return Scan(source, np.concatenate(labels), names, walk.left_out, walk.hidden)


def split_by_name(scanned: Scan, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which pictures are to train and which to test: of each class that share, at least one and not the last.

    Which they are depends on seed and names alone, so it is the same in every run and on every machine, and hardly
    changes when pictures are added.
    """
    places = [
        int.from_bytes(hashlib.blake2b(b"%d " % seed + scanned.source.names[index], digest_size=8).digest(), "big")
        for index in range(len(scanned.labels))
    ]
    order = np.argsort(np.array(places, np.uint64), kind="stable")
    is_test = np.zeros(len(order), bool)
    for label in range(len(scanned.class_names)):
        mine = order[scanned.labels[order] == label]
        count = min(max(round(share * len(mine)), 1), len(mine) - 1)
        is_test[mine[: max(count, 0)]] = True
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


class ScanProgress:
    """Says on stderr how many files were found: in place on a terminal, else a line now and then."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._is_terminal = sys.stderr.isatty()
        self._said = time.monotonic()
        self._has_said = False

    def say(self, count: int) -> None:
        """Say the count, if it is time to."""
        now = time.monotonic()
        if now - self._said < (0.2 if self._is_terminal else _LINE_SECONDS):
            return
        self._said, self._has_said = now, True
        end = "\r" if self._is_terminal else "\n"
        print(f"looking through {self._folder}: {count:,} pictures", end=end, file=sys.stderr, flush=True)

    def done(self) -> None:
        """Leave the line of a terminal."""
        if self._has_said and self._is_terminal:
            print(file=sys.stderr)


class _Walk:
    def __init__(self, folder: Path) -> None:
        self._folder = os.fsencode(folder)
        self._suffixes = frozenset(os.fsencode(suffix) for suffix in picture_suffixes())
        self._progress = ScanProgress(folder)
        self._seen: set[tuple[int, int]] = set()
        self.names = NamesBuilder()
        self.left_out: Counter[str] = Counter()
        self.hidden: list[str] = []

    def walk(self, below: bytes) -> None:
        """Collect the pictures in a folder and in those in it, by name."""
        place = os.path.join(self._folder, below)
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in self._seen:  # a link to a folder above
            return
        self._seen.add((status.st_dev, status.st_ino))
        with os.scandir(place) as entries:
            files = sorted((entry.name, entry.is_dir()) for entry in entries)
        for name, is_folder in files:
            if name.startswith(b"."):
                self.hidden.append(os.fsdecode(os.path.join(below, name)))
            elif is_folder:
                self.walk(os.path.join(below, name))
            elif (suffix := os.path.splitext(name)[1].lower()) in self._suffixes:
                self.names.append(os.path.join(below, name))
                if len(self.names) % _SAY_EVERY == 0:
                    self._progress.say(len(self.names))
            else:
                self.left_out[os.fsdecode(suffix)] += 1

    def done(self) -> None:
        self._progress.done()


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)


def _check_distinct(folder: Path, names: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        plain = unicodedata.normalize("NFC", name).casefold()
        if plain in seen:
            how = (
                "in case"
                if unicodedata.normalize("NFC", name) != unicodedata.normalize("NFC", seen[plain])
                else ("in how their letters are encoded")
            )
            raise ValueError(
                f"the class folders {seen[plain]!r} and {name!r} in {folder} differ {how} only; rename one of them, "
                "or put their pictures together"
            )
        seen[plain] = name


def _no_classes(folder: Path) -> str:
    suffixes = picture_suffixes()
    files = [entry.name for entry in _entries(folder) if os.path.splitext(entry.name)[1].lower() in suffixes]
    if files:
        shown = ", ".join(sorted(files)[:_SHOWN])
        return f"{folder} has {len(files)} pictures ({shown}), but no class folders; put them into one folder a class"
    return f"{folder} has no class folders; it must hold one folder of pictures for each class"
