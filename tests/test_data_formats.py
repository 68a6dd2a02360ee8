"""Data sets as they are published: where their files are found, what is read, and what is said of wrong ones."""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitorch.data import DataOptions, ImageFiles, Images, cifar, detect, load, loader, svhn
from bitorch.data.plain_pickle import read_plain_pickle
from bitorch.data.tar_index import tar_members
from bitorch.data.webdataset import shard_paths
from picture_files import (
    encoded,
    texture,
    textures,
    write_cifar10_binary,
    write_cifar10_python,
    write_cifar100,
    write_imagenet,
    write_shards,
    write_svhn,
)

OPTIONS = DataOptions(workers=0)


def first_images(count: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(textures(count, seed=seed)[0].transpose(0, 3, 1, 2).copy())


class TestCifar:
    @pytest.mark.parametrize("below", ["", "cifar-10-batches-py", "data/cifar-10-batches-py"])
    @pytest.mark.parametrize("write", [write_cifar10_python, write_cifar10_binary])
    def test_cifar10(self, tmp_path: Path, write: Callable[[Path, int, int], None], below: str) -> None:
        write(tmp_path / below, 4, 5)
        data = cifar(tmp_path, "cifar10")
        assert (len(data.train), len(data.test)) == (20, 5)
        assert torch.equal(data.train.images[4:8], first_images(4, seed=2))
        assert torch.equal(data.test.images, first_images(5, seed=9))
        assert data.test.labels.tolist() == [0, 1, 2, 0, 1]
        assert data.class_names is not None
        assert (len(data.class_names), data.class_names[0]) == (
            10,
            "airplane" if write is write_cifar10_python else "class0",
        )
        assert detect(tmp_path) == "cifar10"

    @pytest.mark.parametrize("binary", [False, True])
    def test_cifar100_has_its_fine_labels(self, tmp_path: Path, binary: bool) -> None:
        write_cifar100(tmp_path / "cifar-100", 6, 3, binary=binary)
        data = cifar(tmp_path, "cifar100")
        assert data.train.labels.tolist() == [0, 33, 66] * 2
        assert torch.equal(data.test.images, first_images(3, seed=9))
        assert data.class_names == tuple(f"fine{i}" for i in range(100))
        assert detect(tmp_path) == "cifar100"

    def test_pickles_of_python_3(self, tmp_path: Path) -> None:
        for protocol in range(2, 6):
            rows, labels = textures(4)
            content = {"data": rows.reshape(4, -1), "labels": labels.tolist()}
            (tmp_path / "x").write_bytes(pickle.dumps(content, protocol))
            found = read_plain_pickle(tmp_path / "x")
            data = found.get("data", found.get(b"data"))
            assert np.array_equal(data, content["data"])

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"has no cifar10: neither data_batch_1, .* nor data_batch_1.bin"):
            cifar(tmp_path, "cifar10")
        write_cifar10_python(tmp_path, 3, 3)
        (tmp_path / "data_batch_3").unlink()
        with pytest.raises(FileNotFoundError, match=r"has no cifar10"):
            cifar(tmp_path, "cifar10")

    def test_the_other_one(self, tmp_path: Path) -> None:
        write_cifar100(tmp_path, 3, 3, binary=False)
        with pytest.raises(FileNotFoundError, match=r"looks like cifar100: say --data cifar100"):
            load("cifar10", tmp_path)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "no pickle file of numbers"),
            (pickle.dumps([1, 2]), "is no file of CIFAR: it has no 'data'"),
            (pickle.dumps({b"data": 3, b"labels": []}), r"must hold data as uint8 \[N, 3072\]"),
            (pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}), "one label for each of its 2"),
            (pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]}), "labels from 10 to 10, beyond"),
        ],
    )
    def test_broken_pickles(self, tmp_path: Path, content: bytes, message: str) -> None:
        write_cifar10_python(tmp_path, 3, 3)
        (tmp_path / "data_batch_2").write_bytes(content)
        with pytest.raises(ValueError, match=rf"data_batch_2.*{message}"):
            cifar(tmp_path, "cifar10")

    def test_broken_binary(self, tmp_path: Path) -> None:
        write_cifar10_binary(tmp_path, 3, 3)
        (tmp_path / "test_batch.bin").write_bytes(bytes(3072))
        with pytest.raises(ValueError, match=r"test_batch\.bin must hold rows of 3073 bytes, and has 3072"):
            cifar(tmp_path, "cifar10")
        (tmp_path / "test_batch.bin").write_bytes(b"\x0a" + bytes(3072))
        with pytest.raises(ValueError, match=r"labels from 10 to 10, beyond its 10 classes"):
            cifar(tmp_path, "cifar10")


class TestPlainPickle:
    def test_no_code_is_run(self, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> tuple[Any, ...]:
                return os.mkdir, (str(tmp_path / "made"),)

        for evil in (Evil(), {b"data": Evil()}):
            (tmp_path / "x").write_bytes(pickle.dumps(evil))
            with pytest.raises(ValueError, match=r"it names (posix|nt)\.mkdir, which is not run"):
                read_plain_pickle(tmp_path / "x")
        assert not (tmp_path / "made").exists()

    @pytest.mark.parametrize("value", [np.array([{}], object), np.dtype("O"), np.array(["text"])])
    def test_arrays_of_other_things(self, tmp_path: Path, value: object) -> None:
        (tmp_path / "x").write_bytes(pickle.dumps(value, protocol=2))
        with pytest.raises(ValueError, match=r"is no pickle file of numbers"):
            read_plain_pickle(tmp_path / "x")

    @settings(deadline=None)
    @given(place=st.integers(0, 400), value=st.integers(0, 255))
    def test_damaged_bytes_give_values_or_an_error(
        self, tmp_path_factory: pytest.TempPathFactory, place: int, value: int
    ) -> None:
        path = tmp_path_factory.mktemp("pickle") / "x"
        data = bytearray(pickle.dumps({b"data": np.arange(12, dtype=np.uint8).reshape(3, 4), b"labels": [1, 2]}, 2))
        data[place % len(data)] = value
        path.write_bytes(data)
        with contextlib.suppress(ValueError):
            read_plain_pickle(path)


class TestSvhn:
    def test_label_10_is_the_digit_0(self, tmp_path: Path) -> None:
        write_svhn(tmp_path / "format2", 6, 3, 4)
        data = svhn(tmp_path)
        assert data.train.labels.tolist() == [0, 1, 2, 0, 1, 2]
        assert torch.equal(data.train.images, first_images(6, seed=1))
        assert data.class_names == tuple("0123456789")
        assert detect(tmp_path) == "svhn"
        more = load("svhn", tmp_path, options=DataOptions(extra=True))
        assert len(more.train) == 10
        assert torch.equal(more.train.images[6:], first_images(4, seed=5))

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"has no svhn: train_32x32\.mat and test_32x32\.mat"):
            svhn(tmp_path)
        write_svhn(tmp_path, 3, 3)
        with pytest.raises(FileNotFoundError, match=r"has no extra_32x32\.mat, which --extra"):
            svhn(tmp_path, extra=True)
        with pytest.raises(ValueError, match='extra is for data "svhn", and not for "digits"'):
            load("digits", options=DataOptions(extra=True))

    @pytest.mark.parametrize("damage", ["empty", "text", "cut", "flip", "names", "labels", "shape"])
    def test_broken(self, tmp_path: Path, damage: str) -> None:
        from scipy.io import savemat

        write_svhn(tmp_path, 6, 3)
        path = tmp_path / "train_32x32.mat"
        data = bytearray(path.read_bytes())
        if damage in ("empty", "text", "cut"):
            path.write_bytes({"empty": b"", "text": b"x" * 400, "cut": bytes(data[: len(data) // 2])}[damage])
        elif damage == "flip":
            data[300] ^= 0xFF
            path.write_bytes(data)
        else:
            images, labels = np.zeros((32, 32, 3, 4), np.uint8), np.full((4, 1), 11 if damage == "labels" else 1)
            content = {"X": images if damage != "shape" else images[:30], "y": labels}
            savemat(path, {"Z": images} if damage == "names" else content)
        with pytest.raises(ValueError, match=r"train_32x32"):
            svhn(tmp_path)


class TestImagenet:
    OPTIONS = DataOptions(workers=0, image_size=32, crop_share=0.875)

    def test_folders(self, tmp_path: Path) -> None:
        write_imagenet(tmp_path, 4, 2, flat=False)
        data = load("imagenet", tmp_path, options=self.OPTIONS)
        assert (len(data.train), len(data.test)) == (12, 6)
        assert data.class_names == ("n01440764", "n02123045", "n07753592")
        assert detect(tmp_path) == "imagenet"
        (tmp_path / "LOC_synset_mapping.txt").write_text("n01440764 tench, Tinca tinca\nn02123045 cat, tabby\n")
        assert load("imagenet", tmp_path, options=self.OPTIONS).class_names == ("tench", "cat", "n07753592")
        assert len(load("images", tmp_path, options=self.OPTIONS).train) == 12

    def test_flat_validation_pictures_by_the_development_kit(self, tmp_path: Path) -> None:
        write_imagenet(tmp_path, 4, 2, flat=True)
        data = load("imagenet", tmp_path, options=self.OPTIONS)
        assert isinstance(data.test, Images)
        assert data.test.labels.tolist() == [0, 1, 2, 0, 1, 2]
        assert data.class_names == ("tench", "tabby", "banana")

    def test_names_of_two_classes(self, tmp_path: Path) -> None:
        write_imagenet(tmp_path, 2, 1, flat=False)
        (tmp_path / "LOC_synset_mapping.txt").write_text("n01440764 crane\nn02123045 crane, bird\nn07753592 x\n")
        names = load("imagenet", tmp_path, options=self.OPTIONS).class_names
        assert names == ("crane (n01440764)", "crane (n02123045)", "x")

    def test_problems(self, tmp_path: Path) -> None:
        write_imagenet(tmp_path, 2, 2, flat=True)
        with pytest.raises(ValueError, match=r"differ in size.*--image-size"):
            load("imagenet", tmp_path, options=OPTIONS)
        truth = tmp_path / "ILSVRC2012_devkit_t12" / "data" / "ILSVRC2012_validation_ground_truth.txt"
        truth.write_text("1\n2\n")
        with pytest.raises(ValueError, match=r"has 2 lines, but .*val has 6 pictures"):
            load("imagenet", tmp_path, options=self.OPTIONS)
        truth.write_text("9\n" * 6)
        with pytest.raises(ValueError, match=r"has classes 9, which train has no folder of"):
            load("imagenet", tmp_path, options=self.OPTIONS)
        truth.unlink()
        with pytest.raises(FileNotFoundError, match=r"development kit's meta\.mat and ILSVRC2012_validation_gro"):
            load("imagenet", tmp_path, options=self.OPTIONS)
        with pytest.raises(FileNotFoundError, match=r"must have the folders train and val"):
            load("imagenet", tmp_path / "val", options=self.OPTIONS)


def test_mnist_is_found_below(tmp_path: Path) -> None:
    place = tmp_path / "MNIST" / "raw"
    place.mkdir(parents=True)
    images, labels = bytes((0, 0, 8, 3)) + b"\0\0\0\2" * 3 + bytes(8), bytes((0, 0, 8, 1)) + b"\0\0\0\2" + bytes(2)
    for part in ("train", "t10k"):
        (place / f"{part}-images-idx3-ubyte").write_bytes(images)
        (place / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    assert len(load("mnist", tmp_path).train) == 2
    assert detect(tmp_path) == "mnist"


def test_fake() -> None:
    options = DataOptions(fake=(50, 4), image_size=12, channels="1")
    first, again = load("fake", options=options), load("fake", options=options)
    assert (len(first.train), len(first.test), first.input_shape, first.num_classes) == (40, 10, (1, 12, 12), 4)
    assert torch.equal(first.train.images, again.train.images)
    with pytest.raises(ValueError, match=r"take more than 8 GiB"):
        load("fake", options=DataOptions(fake=(10**6, 2), image_size=512))
    with pytest.raises(ValueError, match=r"is made up and takes no folder"):
        load("fake", "x")


def test_images_in_memory_in_another_size_and_with_other_channels() -> None:
    plain, large = load("digits"), load("digits", options=DataOptions(image_size=16, channels="3"))
    assert large.input_shape == (3, 16, 16)
    assert torch.equal(large.train.labels, plain.train.labels)
    assert torch.equal(load("digits", options=DataOptions(channels="3")).test.images[:, :1], plain.test.images)


class TestWebDataset:
    def options(self, **options: Any) -> DataOptions:
        return DataOptions(**{"workers": 0, "shards": "train-{0000..0003}.tar", **options})

    @pytest.mark.parametrize("cache", ["auto", "off"])
    def test_contents(self, tmp_path: Path, cache: str) -> None:
        write_shards(tmp_path, 20, 4)
        write_shards(tmp_path, 6, 1, prefix="val", seed=1)
        (tmp_path / "classes.txt").write_text("a\nb\nc\n")
        data = load("webdataset", tmp_path, options=self.options(val_shards="val-*.tar", cache=cache))
        assert (len(data.train), len(data.test)) == (20, 6)
        assert data.class_names == ("a", "b", "c")
        labels = torch.cat([y for _, y in loader(data.train, 4, shuffle=False)])
        assert labels.tolist() == [index % 3 for shard in range(4) for index in range(shard, 20, 4)]
        assert detect(tmp_path) == "webdataset"

    def test_split_by_key(self, tmp_path: Path) -> None:
        write_shards(tmp_path, 60, 4)
        data = load("webdataset", tmp_path, options=self.options(val_share=0.25))
        assert len(data.train) + len(data.test) == 60
        assert 5 <= len(data.test) <= 25

    def test_the_order_is_that_of_a_buffer_over_shards(self, tmp_path: Path) -> None:
        write_shards(tmp_path, 400, 4, size=8)

        def files(cache: str) -> ImageFiles:
            options = self.options(cache=cache, shuffle_buffer=20, val_share=0.05)
            part = load("webdataset", tmp_path, options=options).train
            assert isinstance(part, ImageFiles)
            return part

        cached, read = files("auto"), files("off")
        order, other = (part.shuffled(torch.Generator().manual_seed(1)) for part in (cached, read))
        assert torch.equal(order, other)
        assert sorted(order.tolist()) == list(range(len(read)))
        assert not torch.equal(order, read.shuffled(torch.Generator().manual_seed(2)))
        # One shard after the other, each begun at most a buffer early.
        assert read.shard_of is not None
        shards = read.shard_of[order]
        first = sorted(int((shards == shard).nonzero()[0]) for shard in range(4))
        assert all(later > earlier + 60 for earlier, later in itertools.pairwise(first))

    def test_patterns(self, tmp_path: Path) -> None:
        for name in ("a-00.tar", "a-01.tar", "b-00.tar"):
            (tmp_path / name).touch()
        assert [p.name for p in shard_paths(tmp_path, "a-{00..01}.tar")] == ["a-00.tar", "a-01.tar"]
        assert [p.name for p in shard_paths(tmp_path, "*-00.tar")] == ["a-00.tar", "b-00.tar"]
        with pytest.raises(FileNotFoundError, match=r"2 of 4 shards are not there: .*a-02\.tar"):
            shard_paths(tmp_path, "a-{00..03}.tar")
        with pytest.raises(ValueError, match=r"\{3\.\.1\} must rise"):
            shard_paths(tmp_path, "a-{3..1}.tar")
        with pytest.raises(ValueError, match=r"to at most 1,000,000 files"):
            shard_paths(tmp_path, "{0..99999}-{0..99999}.tar")
        with pytest.raises(FileNotFoundError, match=r"has no files c-"):
            shard_paths(tmp_path, "c-*.tar")
        with pytest.raises(ValueError, match=r"needs its shards"):
            load("webdataset", tmp_path)

    @pytest.mark.parametrize(
        ("files", "message"),
        [
            ([("a.jpg", None)], r"the sample of a\.jpg has no class"),
            ([("a.cls", b"1")], "has 0 pictures"),
            ([("a.jpg", None), ("a.png", None), ("a.cls", b"1")], "has 2 pictures"),
            ([("a.jpg", None), ("a.cls", b"dog")], "cls must hold a class, got b'dog'"),
            ([("a.jpg", None), ("a.cls", b"-1")], "a whole number from 0 on, got -1"),
            ([("a.jpg", None), ("a.json", b"{}")], "a whole number from 0 on, got None"),
            ([], "no tar file|hold no samples"),
        ],
    )
    def test_wrong_samples(self, tmp_path: Path, files: list[tuple[str, bytes | None]], message: str) -> None:
        with tarfile.open(tmp_path / "train-0.tar", "w") as tar:
            for name, data in files:
                content = encoded(texture(0, 8, 0)) if data is None else data
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        with pytest.raises(ValueError, match=message):
            load("webdataset", tmp_path, options=self.options(shards="train-0.tar"))


class TestTar:
    @pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    def test_members(self, tmp_path: Path, form: int) -> None:
        files = {"a.txt": b"1", f"folder/{'long' * 20}.bin": bytes(1000), "é.txt": b"", f"{'x' * 90}/{'y' * 90}": b"zz"}
        path = tmp_path / "x.tar"
        with tarfile.open(path, "w", format=form) as tar:
            folder = tarfile.TarInfo("folder")
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                info.mtime = 1.5 if form == tarfile.PAX_FORMAT else 1
                tar.addfile(info, io.BytesIO(data))
        content = path.read_bytes()
        found = {os.fsdecode(m.name): content[m.place : m.place + m.size] for m in tar_members(path)}
        assert found == files

    @pytest.mark.parametrize("kept", [0, 100, 700, 1300])
    def test_truncated(self, tmp_path: Path, kept: int) -> None:
        write_shards(tmp_path, 4, 1)
        path = tmp_path / "train-0000.tar"
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(ValueError, match=r"is no tar file, or a damaged one|is truncated"):
            list(tar_members(path))

    def test_compressed(self, tmp_path: Path) -> None:
        (tmp_path / "x.tar.gz").write_bytes(gzip.compress(bytes(1024)))
        with pytest.raises(ValueError, match=r"is compressed; .* unpack it to a plain .tar"):
            list(tar_members(tmp_path / "x.tar.gz"))

    @given(place=st.integers(0, 511), value=st.integers(0, 255))
    def test_damaged_headers(self, tmp_path_factory: pytest.TempPathFactory, place: int, value: int) -> None:
        path = tmp_path_factory.mktemp("tar") / "x.tar"
        with tarfile.open(path, "w") as tar:
            tar.addfile(tarfile.TarInfo("a"))
        data = bytearray(path.read_bytes())
        data[place] = value
        path.write_bytes(data)
        with contextlib.suppress(ValueError):
            list(tar_members(path))
