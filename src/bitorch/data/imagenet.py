"""ImageNet's ILSVRC: one folder for each synset, and the validation pictures in folders, or flat with their list."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from .finding import check_folder, place_of
from .images import Dataset
from .matlab import read_mat
from .names import NamesBuilder
from .options import DataOptions
from .picture_folder import class_folders, parts_of, scan
from .picture_sets import Listed, check_classes, picture_dataset
from .sources import FolderSource

_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_META = "meta.mat"
_SUFFIX = ".jpeg"
#: Names of classes beside the folders, as Kaggle's archive has them: "n01440764 tench, Tinca tinca".
_MAPPING = "LOC_synset_mapping.txt"


def is_imagenet(folder: Path) -> bool:
    """Return whether a folder has a train folder of synsets, such as n01440764."""
    train, _ = parts_of(folder)
    names = class_folders(train) if train is not None else []
    return len(names) >= 2 and all(len(name) == 9 and name[0] == "n" and name[1:].isdigit() for name in names)


def imagenet(folder: str | Path | None, options: DataOptions) -> Dataset:
    """Read train/SYNSET/* with val/SYNSET/*, or with val/*.JPEG and the development kit's list of their classes.

    The development kit (meta.mat and ILSVRC2012_validation_ground_truth.txt) may be anywhere in the folder, two folders
    deep. Classes are sorted by synset, as everywhere; their names are the first word of each, where the kit or
    LOC_synset_mapping.txt is there, else the synsets.

    Raises:
        NotADirectoryError, FileNotFoundError: no such folders, or flat validation pictures without their list.
        ValueError: as `picture_folder`, and a list that does not fit.
    """
    place = check_folder(folder, "imagenet", "train/SYNSET/* and val")
    train_folder, test_folder = parts_of(place)
    if train_folder is None or test_folder is None:
        raise FileNotFoundError(
            f"{place} must have the folders train and val; pictures alone are read by --data images"
        )
    whole = scan(train_folder)
    check_classes(place, whole.class_names)
    words = _words(place)
    if class_folders(test_folder):
        tested = scan(test_folder, whole.class_names)
        test = Listed(tested.source, tested.labels)
    else:
        test = _flat(place, test_folder, whole.class_names)
    train = Listed(whole.source, whole.labels)
    return picture_dataset("imagenet", (train, test), _class_names(whole.class_names, words), options)


def _flat(place: Path, folder: Path, synsets: tuple[str, ...]) -> Listed:
    """Validation pictures in order, the class of each by the development kit."""
    kit = _kit_place(place, _TRUTH)
    if kit is None or _kit_place(place, _META) is None:
        raise FileNotFoundError(
            f"{folder} has no folders of classes; for pictures in a row the development kit's {_META} and {_TRUTH} "
            f"must be below {place}"
        )
    builder = NamesBuilder()
    with os.scandir(folder) as entries:
        for name in sorted(entry.name for entry in entries if entry.name.lower().endswith(_SUFFIX)):
            builder.append(os.fsencode(name))
    truth = [line.strip() for line in (kit / _TRUTH).read_text().split("\n") if line.strip()]
    if len(truth) != len(builder):
        raise ValueError(f"{kit / _TRUTH} has {len(truth)} lines, but {folder} has {len(builder)} pictures")
    by_id = {str(number): synset for number, synset, _ in _meta(place)}
    label_of = {synset: label for label, synset in enumerate(synsets)}
    unknown = sorted({number for number in truth if by_id.get(number) not in label_of})
    if unknown:
        raise ValueError(f"{kit / _TRUTH} has classes {', '.join(unknown[:5])}, which train has no folder of")
    labels = np.array([label_of[by_id[number]] for number in truth], np.int64)
    return Listed(FolderSource(folder, builder.names()), labels)


def _kit_place(place: Path, name: str) -> Path | None:
    return place_of(place, (name,))


def _meta(place: Path) -> list[tuple[int, str, str]]:
    """Return number, synset and words of each class of the development kit."""
    kit = _kit_place(place, _META)
    assert kit is not None  # as the caller has seen
    path = kit / _META
    synsets: Any = read_mat(path, ("synsets",))["synsets"]
    if synsets.dtype.names is None or not {"ILSVRC2012_ID", "WNID", "words"} <= set(synsets.dtype.names):
        raise ValueError(f"{path} is not the development kit's: it has no ILSVRC2012_ID, WNID and words")
    return [
        (int(_single(row["ILSVRC2012_ID"])), str(_single(row["WNID"])), str(_single(row["words"])))
        for row in synsets.reshape(-1)
    ]


def _single(value: Any) -> Any:
    """Return what stands in MATLAB's arrays of one."""
    while isinstance(value, np.ndarray):
        value = value.reshape(-1)[0]
    return value


def _words(place: Path) -> dict[str, str]:
    """Return the words of each synset, {} where none are there."""
    if _kit_place(place, _META) is not None:
        return {synset: words for _, synset, words in _meta(place)}
    mapping = _kit_place(place, _MAPPING)
    if mapping is None:
        return {}
    lines = (mapping / _MAPPING).read_text(encoding="utf-8", errors="replace").split("\n")
    return {line.partition(" ")[0]: line.partition(" ")[2] for line in lines if " " in line}


def _class_names(synsets: tuple[str, ...], words: dict[str, str]) -> tuple[str, ...]:
    first = [words.get(synset, synset).split(",")[0].strip() for synset in synsets]
    count = Counter(first)
    return tuple(
        name if count[name] == 1 else f"{name} ({synset})" for name, synset in zip(first, synsets, strict=True)
    )
