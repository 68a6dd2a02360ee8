"""`bitorch init`: what it sees in folders of every format, and that `bitorch train` takes what it writes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bitorch.cli import main
from bitorch.commands.arguments import parse_train
from bitorch.commands.fitting_settings import settings_text
from bitorch.commands.folder_look import FolderLook, look, shard_patterns
from bitorch.models import build
from bitorch.train import Settings, read_settings
from picture_files import (
    TEXTURES,
    write_cifar10_binary,
    write_cifar10_python,
    write_cifar100,
    write_classes,
    write_imagenet,
    write_picture_folder,
    write_shards,
    write_svhn,
)


def write_mnist(folder: Path) -> None:
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, 20, 28, 28) + bytes(20 * 784))
        labels = bytes(index % 10 for index in range(20))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 20) + labels)


def init(folder: Path, out: Path) -> Settings:
    """Run the command, and return what `bitorch train` makes of the file."""
    assert main(["init", str(folder), "--out", str(out)]) == 0
    return parse_train(["--config", str(out)])


def error_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    return printed.err.removeprefix("error: ").strip()


FORMATS: dict[str, tuple[Callable[[Path], None], dict[str, object]]] = {
    "one level": (
        lambda folder: write_classes(folder, 6, 40),
        {"data": "images", "image_size": 32, "val_share": 0.2, "model": "resnet-20", "flip": True},
    ),
    "two levels": (
        lambda folder: write_picture_folder(folder, 5, 2, 32),
        {"data": "images", "image_size": 0, "model": "resnet-20", "batch_size": 8, "shift": 2},
    ),
    "large": (
        lambda folder: write_picture_folder(folder, 2, 2, 240),
        {"data": "images", "image_size": 224, "crop_share": 0.875, "model": "resnet-18", "crop_scale": (0.35, 1.0)},
    ),
    "mnist": (write_mnist, {"data": "mnist", "model": "lenet-28", "flip": False, "shift": 1}),
    "cifar10": (lambda folder: write_cifar10_python(folder, 2, 2), {"data": "cifar10", "model": "resnet-20"}),
    "cifar10 binary": (lambda folder: write_cifar10_binary(folder, 2, 2), {"data": "cifar10", "flip": True}),
    "cifar100": (lambda folder: write_cifar100(folder, 4, 4, binary=False), {"data": "cifar100"}),
    "svhn": (lambda folder: write_svhn(folder, 6, 6), {"data": "svhn", "flip": False}),
    "imagenet": (lambda folder: write_imagenet(folder, 3, 3, flat=True), {"data": "imagenet", "image_size": 32}),
    "shards": (
        lambda folder: write_shards(folder, 12, 3),
        {"data": "webdataset", "shards": "train-{0000..0002}.tar", "val_shards": None},
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format(name: str, tmp_path: Path) -> None:
    write, expected = FORMATS[name]
    folder = tmp_path / "my data"
    folder.mkdir() if name not in ("mnist",) else None
    write(folder)
    settings = init(folder, tmp_path / "settings.yaml")
    assert {key: getattr(settings, key) for key in expected} == expected
    assert settings.folder == folder.resolve()
    found = look(folder)
    side = settings.image_size if settings.image_size else found.middle
    images = torch.rand(2, found.channels, side, side)  # what the net gets
    assert build(settings.model, found.channels, len(found.classes))(images).shape == (2, len(found.classes))


def test_train_takes_the_file_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With fewer epochs, as it would take a minute."""
    write_picture_folder(tmp_path / "textures", 16, 4, 32)
    init(tmp_path / "textures", tmp_path / "textures.yaml")
    printed = capsys.readouterr().out
    assert f"train with\n  bitorch train --config {tmp_path / 'textures.yaml'}" in printed
    arguments = ["--epochs", "1", "--workers", "0", "--width", "0.25", "--accelerator", "cpu"]
    out = ["--out", str(tmp_path / "run")]
    assert main(["train", "--config", str(tmp_path / "textures.yaml"), *arguments, *out]) == 0
    assert (tmp_path / "run" / "best.ckpt").is_file()


def test_what_the_file_says(tmp_path: Path) -> None:
    write_picture_folder(tmp_path / "textures", 3, 2, 40)
    write_classes(tmp_path / "textures" / "train", 4, 60, form="PNG")
    text = settings_text(look(tmp_path / "textures"))
    assert text.startswith(
        "# Settings for images in textures, as bitorch init found it:\n#   3 classes: columns, dots, "
    )
    assert "#   21 images to train, 6 to test, in colour, 40×40 to 60×60 pixels\n" in text
    assert "\n# Leave damaged pictures out?\n# broken: skip\n" in text
    for line in text.splitlines():
        assert line == "" or line.startswith("#") or ": " in line
    settings = [line for line in text.split("\n\n") if not line.startswith("# Settings")]
    assert all(block.startswith("# ") for block in settings)  # each has a comment


def test_pictures_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    write_picture_folder(tmp_path / "data", 4, 2, 32)
    (tmp_path / "data" / "train" / "dots" / "broken.jpg").write_bytes(b"no picture")
    found = look(tmp_path / "data")
    assert found.broken == 1
    assert "\nbroken: skip\n" in settings_text(found)
    assert "1 of those that were opened cannot be read" in settings_text(found)


def test_grey_pictures(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "grey" / name).mkdir(parents=True)
        for index in range(3):
            pixels = np.full((28, 28), 40 * index, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "grey" / name / f"{index}.png")
    settings = init(tmp_path / "grey", tmp_path / "grey.yaml")
    assert (settings.model, settings.channels, settings.image_size) == ("lenet-28", "1", 0)


def test_a_file_that_is_there_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_classes(tmp_path / "data", 2)
    (tmp_path / "x.yaml").write_text("epochs: 3\n")
    message = error_of(["init", str(tmp_path / "data"), "-o", str(tmp_path / "x.yaml")], capsys)
    assert message == f"{tmp_path / 'x.yaml'} is there already; name another file with --out, or remove it"
    assert read_settings(tmp_path / "x.yaml") == {"epochs": 3}


def test_the_name_of_the_folder_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_classes(tmp_path / "Meine Bilder", 3)
    monkeypatch.chdir(tmp_path)
    assert main(["init", "Meine Bilder"]) == 0
    assert read_settings(tmp_path / "Meine Bilder.yaml")["folder"] == str(tmp_path / "Meine Bilder")


def test_user_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "one").mkdir()
    write_classes(tmp_path / "one", 2, names=TEXTURES[:1])
    write_classes(tmp_path / "bare", 2)
    (tmp_path / "bare" / "nothing").mkdir()
    (tmp_path / "text.txt").write_text("")
    (tmp_path / "broken" / "a").mkdir(parents=True)
    (tmp_path / "broken" / "b").mkdir(parents=True)
    for name in ("a", "b"):
        (tmp_path / "broken" / name / "x.jpg").write_bytes(b"")
    for folder, message in (
        ("missing", "there is no folder"),
        ("text.txt", "is a file; name the folder that the data set is in"),
        ("empty", "looks like no data set that is known here: it may hold train/CLASS/* with val/CLASS/*"),
        ("one", "has one class only, 'dots'"),
        ("bare", "nothing has no pictures; put some there or remove it"),
        ("broken", "none of the 2 pictures of"),
    ):
        assert message in error_of(["init", str(tmp_path / folder), "-o", str(tmp_path / "out.yaml")], capsys)
    assert not (tmp_path / "out.yaml").exists()


def test_patterns_of_shards() -> None:
    assert shard_patterns(["train-0001.tar", "train-0000.tar", "val-7.tar"]) == [
        "train-{0000..0001}.tar",
        "val-{7..7}.tar",
    ]
    assert shard_patterns(["a-000.tar", "a-002.tar", "rest.tar"]) == ["a-*.tar", "rest.tar"]


def test_shards_that_could_be_anything(tmp_path: Path) -> None:
    write_shards(tmp_path, 6, 2)
    write_shards(tmp_path, 6, 2, prefix="more")
    with pytest.raises(ValueError, match="which of them are to train on cannot be seen"):
        look(tmp_path)


def test_training_is_neither_endless_nor_a_step(tmp_path: Path) -> None:
    def fitting(train: int) -> dict[str, object]:
        sizes = ((32, 32), (32, 32))
        found = FolderLook("cifar10", tmp_path, ("a", "b"), 3, train, 10, sizes, 32)
        (tmp_path / "s.yaml").write_text(settings_text(found))
        return read_settings(tmp_path / "s.yaml")

    for train, epochs, batch in ((50, 100, 8), (1500, 100, 64), (50_000, 40, 128), (1_281_167, 10, 128)):
        fields = fitting(train)
        assert (fields["epochs"], fields["batch_size"]) == (epochs, batch)
