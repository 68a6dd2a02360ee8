"""Folders of pictures: how they are laid out, what is left out, and what is said of those that cannot be used."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from bitorch.data import DataOptions, ImageFiles, Images, PictureAugmentation, detect, load, loader
from bitorch.data.picture_folder import ScanProgress, scan
from picture_files import encoded, texture, write_classes, write_picture_folder

OPTIONS = DataOptions(workers=0)


def read(folder: Path, **options: object) -> Images | ImageFiles:
    return load("images", folder, options=DataOptions(workers=0, **options)).train  # type: ignore[arg-type,return-value]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_picture_folder(tmp_path / "set", 4, 2, form="PNG")
    return tmp_path / "set"


class TestLayout:
    def test_train_and_val(self, folder: Path) -> None:
        data = load("images", folder, options=OPTIONS)
        assert data.name == "set"
        assert data.class_names == ("columns", "dots", "rows")
        assert data.input_shape == (3, 32, 32)
        assert (len(data.train), len(data.test)) == (12, 6)
        assert isinstance(data.train, Images)
        assert data.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
        expected = np.asarray(Image.open(folder / "train" / "dots" / "00001.png")).transpose(2, 0, 1)
        assert np.array_equal(data.train.images[5].numpy(), expected)

    @pytest.mark.parametrize("name", ["test", "valid", "Validation", "testing"])
    def test_other_names_of_the_test_part(self, folder: Path, name: str) -> None:
        (folder / "val").rename(folder / name)
        assert len(load("images", folder, options=OPTIONS).test) == 6

    def test_val_comes_before_test(self, folder: Path) -> None:
        shutil.copytree(folder / "train", folder / "test")
        assert len(load("images", folder, options=OPTIONS).test) == 6

    def test_train_alone_is_split(self, folder: Path) -> None:
        shutil.rmtree(folder / "val")
        data = load("images", folder, options=DataOptions(workers=0, val_share=0.25))
        assert (len(data.train), len(data.test)) == (9, 3)

    def test_one_level_is_split_alike_in_every_run(self, tmp_path: Path) -> None:
        write_classes(tmp_path, 10)
        first, again, other = (
            load("images", tmp_path, options=DataOptions(workers=0, val_share=0.3, split_seed=seed))
            for seed in (0, 0, 1)
        )
        assert (len(first.train), len(first.test)) == (21, 9)
        assert isinstance(first.test, Images)
        assert first.test.labels.bincount().tolist() == [3, 3, 3]
        assert first.fingerprint == again.fingerprint != other.fingerprint

    def test_a_split_hardly_changes_when_pictures_are_added(self, tmp_path: Path) -> None:
        write_classes(tmp_path, 20)

        def test_part() -> object:
            return load("images", tmp_path, options=DataOptions(workers=0, cache="off")).test

        def names(split: object) -> set[str]:
            assert isinstance(split, ImageFiles)
            return {split.source.name(i) for i in range(len(split))}

        before = names(test_part())
        write_classes(tmp_path, 21)
        assert len(before - names(test_part())) <= 3

    def test_folders_in_a_class_folder(self, folder: Path) -> None:
        (folder / "train" / "dots" / "more").mkdir()
        (folder / "train" / "dots" / "00000.png").rename(folder / "train" / "dots" / "more" / "x.png")
        assert len(read(folder)) == 12

    def test_a_link_to_a_folder_above_ends(self, folder: Path) -> None:
        (folder / "train" / "dots" / "loop").symlink_to(folder / "train" / "dots")
        assert len(read(folder)) == 12

    @pytest.mark.parametrize("name", ["two words", "été", "日本", "%s\\n"])
    def test_names_of_classes(self, folder: Path, name: str) -> None:
        for part in ("train", "val"):
            (folder / part / "dots").rename(folder / part / name)
        data = load("images", folder, options=OPTIONS)
        assert data.class_names is not None
        assert name in data.class_names

    def test_a_name_that_is_no_text(self, folder: Path) -> None:
        os.rename(folder / "train" / "dots" / "00000.png", os.fsencode(folder / "train" / "dots") + b"/\xff.png")
        assert len(read(folder)) == 12

    def test_one_name_in_two_encodings_of_unicode_is_one_class(self, folder: Path) -> None:
        (folder / "train" / "dots").rename(folder / "train" / unicodedata.normalize("NFC", "été"))
        (folder / "val" / "dots").rename(folder / "val" / unicodedata.normalize("NFD", "été"))
        assert "été" in (load("images", folder, options=OPTIONS).class_names or ())

    def test_hidden_and_other_files_are_left_out_and_said(self, folder: Path) -> None:
        (folder / "train" / ".cache").mkdir()
        (folder / "train" / "dots" / ".DS_Store").touch()
        (folder / "train" / "dots" / "notes.txt").touch()
        (folder / "train" / "rows" / "Thumbs.db").touch()
        data = load("images", folder, options=OPTIONS)
        assert data.class_names == ("columns", "dots", "rows")
        assert any("no pictures: 1 .txt, 1 .db" in note for note in data.notes)
        assert any(".cache" in note and ".DS_Store" in note for note in data.notes)

    def test_own_order_of_classes(self, folder: Path) -> None:
        options = DataOptions(workers=0, class_names=("rows", "dots", "columns"))
        data = load("images", folder, options=options)
        assert data.class_names == ("rows", "dots", "columns")
        assert isinstance(data.train, Images)
        assert data.train.labels.tolist() == [2] * 4 + [1] * 4 + [0] * 4


class TestBadFolders:
    def message(self, folder: Path, **options: object) -> str:
        with pytest.raises((ValueError, OSError)) as error:
            read(folder, **options)
        return str(error.value)

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r'data "images" needs the folder .* name it with --folder'):
            load("images")
        with pytest.raises(NotADirectoryError, match="is not a folder; it must hold train/CLASS"):
            load("images", tmp_path / "no")

    def test_pictures_without_class_folders(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(encoded(texture(0, 8, 0), "PNG"))
        assert "has 1 pictures (a.png), but no class folders" in self.message(tmp_path)

    def test_nothing(self, tmp_path: Path) -> None:
        assert "has no class folders" in self.message(tmp_path)

    def test_an_empty_class(self, folder: Path) -> None:
        (folder / "train" / "empty").mkdir()
        assert f"class folder {folder / 'train' / 'empty'} has no pictures" in self.message(folder)

    def test_one_class(self, tmp_path: Path) -> None:
        write_classes(tmp_path, 3, names=("cat",))
        assert "has one class only, 'cat'" in self.message(tmp_path)

    def test_classes_that_differ_in_case_only(self, folder: Path) -> None:
        shutil.copytree(folder / "train" / "dots", folder / "train" / "Dots")
        assert "'Dots' and 'dots'" in self.message(folder)
        assert "differ in case only" in self.message(folder)

    def test_classes_that_differ_in_their_encoding_only(self, folder: Path) -> None:
        for name in (unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")):
            shutil.copytree(folder / "train" / "dots", folder / "train" / name)
        assert "in how their letters are encoded only" in self.message(folder)

    def test_a_class_of_test_pictures_that_training_does_not_have(self, folder: Path) -> None:
        (folder / "val" / "dots").rename(folder / "val" / "dotz")
        assert "'dotz' is none of the 3 classes" in self.message(folder)

    def test_test_pictures_alone(self, folder: Path) -> None:
        shutil.rmtree(folder / "train")
        assert "has val, but no train folder beside it" in self.message(folder)

    def test_sizes_that_differ(self, folder: Path) -> None:
        (folder / "val" / "dots" / "00001.png").write_bytes(encoded(texture(0, 30, 0), "PNG"))
        message = self.message(folder)
        assert "differ in size" in message
        assert "00001.png is 30×30" in message
        assert "--image-size" in message
        assert len(read(folder, image_size=32)) == 12

    def test_colours_in_tests_of_grey_training(self, folder: Path) -> None:
        for path in (folder / "train").rglob("*.png"):
            Image.open(path).convert("L").save(path)
        assert "all grey, and some test pictures have colours" in self.message(folder)
        assert load("images", folder, options=DataOptions(workers=0, channels="1")).input_shape == (1, 32, 32)
        assert load("images", folder, options=DataOptions(workers=0, channels="3")).input_shape == (3, 32, 32)
        for path in (folder / "val").rglob("*.png"):
            Image.open(path).convert("L").save(path)
        assert load("images", folder, options=OPTIONS).input_shape == (1, 32, 32)

    def test_grey_tests_of_training_in_colours(self, folder: Path) -> None:
        for path in (folder / "val").rglob("*.png"):
            Image.open(path).convert("L").save(path)
        assert load("images", folder, options=OPTIONS).input_shape == (3, 32, 32)

    def test_padding(self, folder: Path) -> None:
        assert "pad_to is for images in memory" in self.message(folder, pad_to=40)

    def test_another_format(self, folder: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"looks like images: say --data images"):
            load("cifar10", folder)


class TestBrokenPictures:
    @pytest.fixture
    def broken(self, folder: Path) -> Path:
        path = folder / "train" / "dots" / "00002.png"
        path.write_bytes(path.read_bytes()[:-40])
        (folder / "train" / "rows" / "00000.png").write_bytes(b"no picture")
        return folder

    @pytest.mark.parametrize("cache", ["auto", "off"])
    @pytest.mark.parametrize("workers", [0, 2])
    def test_an_error_before_training(self, broken: Path, cache: str, workers: int) -> None:
        with pytest.raises(ValueError, match=r"2 pictures are broken: .*00002\.png is .*--broken skip"):
            load("images", broken, options=DataOptions(workers=workers, cache=cache))  # type: ignore[arg-type]

    @pytest.mark.parametrize("cache", ["auto", "off"])
    def test_left_out(self, broken: Path, cache: str) -> None:
        data = load("images", broken, options=DataOptions(workers=0, cache=cache, broken="skip"))  # type: ignore[arg-type]
        assert len(data.train) == 10
        assert any("left out, because they are broken" in note and "00002.png" in note for note in data.notes)
        assert sum(len(labels) for _, labels in loader(data.train, 4, shuffle=False)) == 10

    def test_a_class_of_which_nothing_is_left(self, folder: Path) -> None:
        for path in (folder / "train" / "dots").iterdir():
            path.write_bytes(b"")
        with pytest.raises(ValueError, match="has no whole training pictures of the classes dots"):
            read(folder, broken="skip")

    def damaged_later(self, folder: Path, broken: str) -> ImageFiles:
        files = read(folder, cache="off", broken=broken)
        assert isinstance(files, ImageFiles)
        (folder / "train" / "dots" / "00002.png").write_bytes(b"gone")
        return files

    @pytest.mark.parametrize("workers", [0, 2])
    def test_found_in_training(self, folder: Path, workers: int) -> None:
        batches = loader(self.damaged_later(folder, "error"), 4, shuffle=False, workers=workers)
        with pytest.raises(ValueError, match=r"dots/00002\.png is .*\(found in epoch 1\).*--broken skip"):
            list(batches)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_left_out_of_its_batch(self, folder: Path, workers: int) -> None:
        batches = loader(self.damaged_later(folder, "skip"), 4, shuffle=False, workers=workers)
        with pytest.warns(UserWarning, match=r"left out of its batch: .*00002\.png"):
            assert [len(labels) for _, labels in batches] == [4, 3, 4]

    def test_kinds_are_said(self, folder: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (32, 32)).save(folder / "train" / "dots" / "a.png", exif=exif)
        Image.new("RGBA", (32, 32)).save(folder / "train" / "dots" / "b.png")
        Image.new("CMYK", (32, 32)).save(folder / "train" / "dots" / "c.jpg")
        Image.fromarray(np.zeros((32, 32), np.uint16)).save(folder / "train" / "dots" / "d.png")
        frames = [Image.new("RGB", (32, 32), (v, 0, 0)) for v in (0, 200)]
        frames[0].save(folder / "train" / "dots" / "e.gif", save_all=True, append_images=frames[1:])
        (note,) = load("images", folder, options=OPTIONS).notes
        for said in ("1 turned as", "1 with transparency", "1 with printing inks", "1 of 16 bits", "1 animated"):
            assert said in note


class TestCache:
    def test_memory_and_files_give_the_same_batches(self, folder: Path) -> None:
        """Also where training pictures are cropped, and so kept at their own size."""
        for transform in (None, PictureAugmentation((0.2, 1), (2, 9))):
            caches: tuple[Literal["auto", "off"], ...] = ("auto", "off")
            options = [
                DataOptions(workers=0, cache=cache, image_size=24, keeps_size=transform is not None) for cache in caches
            ]
            batches = [
                list(loader(load("images", folder, options=o).train, 5, shuffle=True, seed=3, transform=transform))
                for o in options
            ]
            for (x, y), (other_x, other_y) in zip(*batches, strict=True):
                assert torch.equal(x, other_x)
                assert torch.equal(y, other_y)

    def test_no_more_than_its_share_of_memory(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pixels = 3 * 32 * 32
        for free, kinds in (
            (18 * pixels, (ImageFiles, Images)),
            (24 * pixels, (Images, ImageFiles)),
            (40 * pixels, (Images, Images)),
        ):
            monkeypatch.setattr("bitorch.data.picture_sets.free_bytes", lambda free=free: free)
            data = load("images", folder, options=OPTIONS)
            assert (type(data.train), type(data.test)) == kinds


def test_progress(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    write_classes(tmp_path, 40)
    monkeypatch.setattr("bitorch.data.picture_folder._SAY_EVERY", 10)
    monkeypatch.setattr("bitorch.data.picture_folder._LINE_SECONDS", 0.0)
    assert len(scan(tmp_path).labels) == 120
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"looking through {tmp_path}: 10 pictures"
    assert len(lines) == 12
    progress = ScanProgress(tmp_path)
    monkeypatch.setattr(progress, "_is_terminal", True)
    progress._said = -1e9
    progress.say(1234)
    progress.done()
    assert capsys.readouterr().err == f"looking through {tmp_path}: 1,234 pictures\r\n"


def test_detect(tmp_path: Path, folder: Path) -> None:
    assert detect(folder) == "images"
    assert detect(tmp_path / "no") is None
    (tmp_path / "empty").mkdir()
    assert detect(tmp_path / "empty") is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": -1}, "image_size must be 0 or from 1 to 4096, got -1"),
        ({"crop_share": 0}, "crop_share must be above 0 and at most 1"),
        ({"val_share": 1.0}, "val_share must be above 0 and below 1"),
        ({"workers": -1}, "workers must be from 0 to 256"),
        ({"shuffle_buffer": 0}, "shuffle_buffer must be at least 1"),
        ({"fake": (3, 2)}, "fake must be images and classes"),
        ({"mean": (0.5,)}, "mean and std belong together"),
        ({"mean": (0.5,), "std": (0.0,)}, "std must be above 0"),
        ({"mean": (0.5, 0.5), "std": (0.1,)}, "mean and std must have as many numbers"),
    ],
)
def test_wrong_options(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataOptions(**fields)  # type: ignore[arg-type]
