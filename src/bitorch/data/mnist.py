"""The MNIST family from a folder."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from .finding import place_of
from .idx import read_idx
from .images import Dataset, Images

#: Images and labels of each part, by the names under which all of the family are published.
_TRAIN_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
_TEST_FILES = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def mnist_folder(folder: str | Path) -> Dataset[Images]:
    """Read MNIST, Fashion-MNIST, KMNIST or another data set in the same four IDX files; nothing is downloaded.

    Each file may be plain or end in .gz; where both are there, the plain one is read. The files may be up to two
    folders below, as MNIST/raw. Images become uint8 [N, 1, H, W]. The number of classes is the largest label plus 1, at
    least 2. The data set is named after the folder.

    Raises:
        NotADirectoryError: folder is not one.
        FileNotFoundError: files are missing; all of them are named.
        ValueError: a file is broken, images and labels differ in number, or the parts in image size.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(
            f"{folder} is not a folder; it must hold {', '.join(_TRAIN_FILES + _TEST_FILES)}, each plain or .gz"
        )
    place = mnist_place(folder)
    paths = _find(folder if place is None else place)
    train_images, train_labels = _read_part(*paths[:2])
    test_images, test_labels = _read_part(*paths[2:])
    num_classes = max(2, 1 + int(max(train_labels.max(), test_labels.max())))
    return Dataset(
        folder.resolve().name,
        Images(train_images, train_labels, num_classes),
        Images(test_images, test_labels, num_classes),
    )


def mnist_place(folder: Path) -> Path | None:
    """Return where the four files are, plain or packed: in the folder or up to two below it; None if they are not."""
    return place_of(folder, [(name, f"{name}.gz") for name in _TRAIN_FILES + _TEST_FILES])


def _find(folder: Path) -> list[Path]:
    """Return the paths of the four files, or raise with the names of all that are missing."""
    found, missing = [], []
    for name in _TRAIN_FILES + _TEST_FILES:
        path = next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
        if path is None:
            missing.append(f"{name} or {name}.gz")
        else:
            found.append(path)
    if missing:
        raise FileNotFoundError(f"{folder} lacks {len(missing)} of 4 files, put them there: {'; '.join(missing)}")
    return found


def _read_part(image_path: Path, label_path: Path) -> tuple[Tensor, Tensor]:
    """Return uint8 [N, 1, H, W] and int64 [N]."""
    images, labels = read_idx(image_path), read_idx(label_path)
    for path, tensor, what, rank in ((image_path, images, "images", 3), (label_path, labels, "labels", 1)):
        if tensor.dim() != rank:
            raise ValueError(f"{path} must hold {what} in {rank} dimension(s), got sizes {list(tensor.shape)}")
    if len(images) != len(labels):
        raise ValueError(f"{image_path} holds {len(images)} images, but {label_path} {len(labels)} labels")
    return images.unsqueeze(1), labels.long()
