"""Data sets in the official formats, made small: textures that a net learns in a minute, in files as published."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: Classes of textures.
TEXTURES = ("dots", "rows", "columns")
_WNIDS = ("n01440764", "n02123045", "n07753592")


def texture(kind: int, size: int, seed: int, channels: int = 3) -> NDArray[np.uint8]:
    """Return uint8 [size, size, channels]: dots, rows or columns at a random phase and colour, with noise."""
    random = np.random.default_rng(seed)
    period, phase = 6, random.integers(6)
    rows, columns = np.mgrid[:size, :size] + phase
    patterns = [(rows % period < 3) & (columns % period < 3), rows % period < 3, columns % period < 3]
    on, off = random.integers(120, 256, channels), random.integers(0, 80, channels)
    image = np.where(patterns[kind % 3][..., None], on, off) + random.normal(0, 15, (size, size, channels))
    return np.clip(image, 0, 255).astype(np.uint8)


def textures(count: int, size: int = 32, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images [count, size, size, 3] and labels 0, 1, 2, 0, …"""
    labels = np.arange(count) % 3
    return np.stack([texture(int(label), size, seed * 1_000_003 + i) for i, label in enumerate(labels)]), labels


def encoded(image: NDArray[np.uint8], form: str = "JPEG") -> bytes:
    """Return a picture file's bytes."""
    stream = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(stream, form, quality=95)
    return stream.getvalue()


def write_classes(
    folder: Path, per_class: int, size: int = 32, names: Sequence[str] = TEXTURES, seed: int = 0, form: str = "JPEG"
) -> None:
    """Write folder/CLASS/000.jpg, … for each class."""
    for kind, name in enumerate(names):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(per_class):
            data = encoded(texture(kind, size, seed * 1_000_003 + 3 * index + kind), form)
            (folder / name / f"{index:05}.{'jpg' if form == 'JPEG' else 'png'}").write_bytes(data)


def write_picture_folder(folder: Path, train: int, val: int, size: int = 32, **options: Any) -> None:
    """Write folder/train and folder/val, with so many pictures of each class."""
    write_classes(folder / "train", train, size, **options)
    write_classes(folder / "val", val, size, seed=1, **options)


def _cifar_rows(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images, labels = textures(count, seed=seed)
    return images.transpose(0, 3, 1, 2).reshape(count, -1), labels


def write_cifar10_python(folder: Path, per_batch: int, test: int) -> None:
    """Write the pickle files of cifar-10-batches-py."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [(f"data_batch_{i}", per_batch, i) for i in range(1, 6)] + [("test_batch", test, 9)]
    for name, count, seed in parts:
        rows, labels = _cifar_rows(count, seed)
        content = {b"batch_label": name.encode(), b"labels": labels.tolist(), b"data": rows, b"filenames": []}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    names = [b"airplane", b"automobile", b"bird", b"cat", b"deer", b"dog", b"frog", b"horse", b"ship", b"truck"]
    meta = {b"num_cases_per_batch": per_batch, b"label_names": names, b"num_vis": 3072}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))


def write_cifar10_binary(folder: Path, per_batch: int, test: int) -> None:
    """Write the files of cifar-10-batches-bin."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [(f"data_batch_{i}.bin", per_batch, i) for i in range(1, 6)] + [("test_batch.bin", test, 9)]
    for name, count, seed in parts:
        rows, labels = _cifar_rows(count, seed)
        (folder / name).write_bytes(np.concatenate([labels[:, None].astype(np.uint8), rows], 1).tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(f"class{i}" for i in range(10)) + "\n\n")


def write_cifar100(folder: Path, train: int, test: int, *, binary: bool) -> None:
    """Write the files of cifar-100-python or cifar-100-binary."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count, seed in (("train", train, 1), ("test", test, 9)):
        rows, labels = _cifar_rows(count, seed)
        fine, coarse = labels * 33, labels
        if binary:
            columns = np.stack([coarse, fine], 1).astype(np.uint8)
            (folder / f"{name}.bin").write_bytes(np.concatenate([columns, rows], 1).tobytes())
        else:
            content = {b"fine_labels": fine.tolist(), b"coarse_labels": coarse.tolist(), b"data": rows}
            (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    names = [f"fine{i}" for i in range(100)]
    if binary:
        (folder / "fine_label_names.txt").write_text("\n".join(names) + "\n")
    else:
        (folder / "meta").write_bytes(pickle.dumps({b"fine_label_names": [n.encode() for n in names]}, protocol=2))


def write_svhn(folder: Path, train: int, test: int, extra: int = 0) -> None:
    """Write train_32x32.mat, test_32x32.mat and, if there are some, extra_32x32.mat; class 0 is written as 10."""
    from scipy.io import savemat

    folder.mkdir(parents=True, exist_ok=True)
    for name, count, seed in (("train", train, 1), ("test", test, 9), ("extra", extra, 5)):
        if count:
            images, labels = textures(count, seed=seed)
            y = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
            savemat(folder / f"{name}_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": y}, do_compression=True)


def write_imagenet(folder: Path, train: int, val: int, size: int = 48, *, flat: bool) -> None:
    """Write train/WNID/WNID_i.JPEG and val, in folders, or flat with the development kit beside."""
    for kind, wnid in enumerate(_WNIDS):
        for part, count in (("train", train), *(() if flat else (("val", val),))):
            (folder / part / wnid).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                seed = 3 * index + kind + (0 if part == "train" else 7_000_003)
                path = folder / part / wnid / f"{wnid}_{index}.JPEG"
                path.write_bytes(encoded(texture(kind, size + index % 3, seed)))
    if flat:
        _write_flat_val(folder, 3 * val, size)


def _write_flat_val(folder: Path, count: int, size: int) -> None:
    from scipy.io import savemat

    (folder / "val").mkdir(parents=True)
    kit = folder / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    for index in range(count):
        path = folder / "val" / f"ILSVRC2012_val_{index + 1:08}.JPEG"
        path.write_bytes(encoded(texture(index % 3, size, 7_000_003 + index)))
    # Numbers of the kit, which are not in the order of the WNIDs.
    ids = (3, 1, 2)
    truth = "".join(f"{ids[index % 3]}\n" for index in range(count))
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text(truth)
    words = ("tench, Tinca tinca", "tabby, tabby cat", "banana")
    rows = sorted(zip(ids, _WNIDS, words, strict=True))
    synsets = np.zeros((3, 1), dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")])
    for row, values in zip(synsets, rows, strict=True):
        row[0] = values
    savemat(kit / "meta.mat", {"synsets": synsets})


def write_shards(folder: Path, count: int, shards: int, size: int = 32, prefix: str = "train", seed: int = 0) -> None:
    """Write prefix-0000.tar, … with KEY.jpg and KEY.cls, or KEY.json every third time."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        with tarfile.open(folder / f"{prefix}-{shard:04}.tar", "w") as tar:
            for index in range(shard, count, shards):
                data = encoded(texture(index % 3, size, seed * 1_000_003 + index))
                label = ("json", json.dumps({"label": index % 3}).encode())
                _add(tar, [(f"{index:06}.jpg", data)])
                _add(tar, [(f"{index:06}.{label[0]}", label[1])] if index % 9 < 3 else [
                    (f"{index:06}.cls", str(index % 3).encode())
                ])  # fmt: skip


def _add(tar: tarfile.TarFile, files: Iterable[tuple[str, bytes]]) -> None:
    for name, data in files:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
