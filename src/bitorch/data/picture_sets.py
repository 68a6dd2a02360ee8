"""From lists of picture files to a data set: what they are, which shape they get, and whether they fit into memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from .finding import check_folder
from .image_files import CACHE_SHARE, ImageFiles, decoded_in_memory, fingerprint, free_bytes, in_memory
from .images import Dataset, Images
from .looking import Looks, look_at_all, shown
from .options import DataOptions
from .picture_folder import Scan, parts_of, scan, split_by_name
from .sources import FileSource, TarSource

_PARTS = ("training", "test")


@dataclass(frozen=True)
class Listed:
    """Pictures and the class of each, not yet looked at."""

    source: FileSource
    labels: NDArray[np.int64]

    def chosen(self, indices: NDArray[np.int64]) -> Listed:
        """Return these of them."""
        return Listed(self.source.chosen(indices), self.labels[indices])


def picture_folder(folder: str | Path | None, options: DataOptions) -> Dataset:
    """Read a folder of pictures: F/train/CLASS/* with F/val or F/test, or CLASS/* alone, which is split.

    Args:
        folder: F.
        options: see `DataOptions`.

    Raises:
        ValueError: no such folders, fewer than two classes, an empty class, names that differ in case only, broken
            pictures, pictures of several sizes without an image_size, colours in grey data.
        OSError: the folder, or a picture in it, cannot be read.
    """
    folder = check_folder(folder, "images", "train/CLASS/* and val/CLASS/*, or CLASS/*")
    train_folder, test_folder = parts_of(folder)
    if train_folder is None and test_folder is not None:
        raise ValueError(f"{folder} has {test_folder.name}, but no train folder beside it")
    whole = scan(train_folder if train_folder is not None else folder, options.class_names)
    check_classes(folder, whole.class_names)
    scans = [whole]
    train = Listed(whole.source, whole.labels)
    if test_folder is None:
        train_part, test_part = split_by_name(whole, options.val_share, options.split_seed)
        train, test = train.chosen(train_part), train.chosen(test_part)
    else:
        scans.append(scan(test_folder, whole.class_names))
        test = Listed(scans[1].source, scans[1].labels)
    notes = [line for scanned in scans for line in _scan_notes(scanned)]
    return picture_dataset(folder.resolve().name, (train, test), whole.class_names, options, notes)


def picture_dataset(
    name: str,
    parts: tuple[Listed, Listed],
    class_names: Sequence[str],
    options: DataOptions,
    notes: Sequence[str] = (),
) -> Dataset:
    """Look at listed pictures, and make the data set of them; see `picture_folder` for arguments and errors."""
    if options.pad_to:
        raise ValueError(
            f"pad_to is for images in memory; bring pictures to a size with image_size, got {options.pad_to}"
        )
    looks = [look_at_all(part.source, options.workers, what) for part, what in zip(parts, _PARTS, strict=True)]
    broken = [problem for look in looks for problem in look.broken]
    if broken and options.broken == "error":
        count = "1 picture is" if len(broken) == 1 else f"{len(broken):,} pictures are"
        raise ValueError(f"{count} broken: {shown(broken)}; mend or remove, or leave out with --broken skip")
    kept = [part.chosen(look.kept) for part, look in zip(parts, looks, strict=True)]
    for part, what in zip(kept, _PARTS, strict=True):
        if len(part.labels) == 0:
            raise ValueError(f"{name} has no {what} pictures")
    if options.class_names is None:  # a net that is evaluated may know more
        _check_all_classes(name, kept[0], class_names)
    shape = (_channels(name, looks, options), *_size(name, kept, looks, options))
    files = [_files(part, shape, len(class_names), options) for part in kept]
    said = [*notes, *(line for look, what in zip(looks, _PARTS, strict=True) for line in look.notes(what))]
    train, test = _cached(files, looks, options)
    return Dataset(
        name,
        train,
        test,
        tuple(class_names),
        options.normalization,
        fingerprint(files, (len(train), len(test))),
        tuple(said),
    )


def check_classes(folder: Path, names: Sequence[str]) -> None:
    """Raise a ValueError unless there are two classes."""
    if len(names) < 2:
        raise ValueError(f"{folder} has one class only, {names[0]!r}; a classifier needs at least two class folders")


def _check_all_classes(name: str, train: Listed, class_names: Sequence[str]) -> None:
    counts = np.bincount(train.labels, minlength=len(class_names))
    empty = [class_names[int(label)] for label in np.flatnonzero(counts == 0)]
    if empty:
        raise ValueError(f"{name} has no whole training pictures of the classes {shown(empty)}")


def _channels(name: str, looks: Sequence[Looks], options: DataOptions) -> int:
    if options.channels != "auto":
        return int(options.channels)
    if not looks[0].is_grey:
        return 3
    if not looks[1].is_grey:
        raise ValueError(
            f"the training pictures of {name} are all grey, and some test pictures have colours; read all as grey "
            "with --channels 1, or as RGB with --channels 3"
        )
    return 1


def _size(name: str, parts: Sequence[Listed], looks: Sequence[Looks], options: DataOptions) -> tuple[int, int]:
    if options.image_size:
        return options.image_size, options.image_size
    first = looks[0].sizes[0]
    for part, look in zip(parts, looks, strict=True):
        others = np.flatnonzero((look.sizes != first).any(1))
        if len(others):
            other = look.sizes[others[0]]
            raise ValueError(
                f"the pictures of {name} differ in size: {parts[0].source.name(0)} is {first[0]}×{first[1]} "
                f"(height×width), {part.source.name(int(others[0]))} is {other[0]}×{other[1]}; say which size the net "
                "gets with --image-size"
            )
    return int(first[0]), int(first[1])


def _files(part: Listed, shape: tuple[int, int, int], classes: int, options: DataOptions) -> ImageFiles:
    return ImageFiles(
        part.source,
        torch.from_numpy(part.labels),
        classes,
        shape,
        options.crop_share,
        options.broken,
        least=decoded_at(shape[1:], options.crop_share),
        shard_of=torch.from_numpy(part.source.members[:, 0]) if isinstance(part.source, TarSource) else None,
        shuffle_buffer=options.shuffle_buffer,
    )


def decoded_at(size: tuple[int, int], crop_share: float) -> int:
    """Return the height and width at which a JPEG may be decoded so that it is still made smaller to fit."""
    return -int(-max(size) // crop_share)


def _cached(
    files: Sequence[ImageFiles], looks: Sequence[Looks], options: DataOptions
) -> tuple[Images | ImageFiles, Images | ImageFiles]:
    """Return both splits, in memory if they fit into it."""
    train, test = files
    sizes = torch.from_numpy(looks[0].sizes)
    if options.keeps_size:
        train = dataclasses.replace(train, least=0)  # small crops need all pixels
    if options.cache == "off":
        return train, test
    budget = int(CACHE_SHARE * free_bytes()) // options.processes
    pixels = int(np.prod(train.shape))
    needed = int(sizes.prod(1).sum()) * train.shape[0] if options.keeps_size else len(train) * pixels
    cached: list[Images | ImageFiles] = [train, test]
    if needed <= budget:
        doing = "reading training pictures into memory"
        if options.keeps_size:
            cached[0] = decoded_in_memory(train, sizes, options.workers, doing)
        else:
            cached[0] = in_memory(train, options.workers, doing)
        budget -= needed
    if len(test) * pixels <= budget:
        cached[1] = in_memory(test, options.workers, "reading test pictures into memory")
    return cached[0], cached[1]


def _scan_notes(scanned: Scan) -> list[str]:
    lines = []
    if scanned.left_out:
        endings = [
            f"{count:,} {suffix if suffix else 'without an ending'}" for suffix, count in scanned.left_out.most_common()
        ]
        lines.append(f"left out files that are no pictures: {shown(endings)}")
    if scanned.hidden:
        lines.append(f"left out hidden files and folders: {shown(sorted(set(scanned.hidden)))}")
    return lines
