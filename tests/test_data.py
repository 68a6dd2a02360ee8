"""Data sets, batches of them, and augmentation."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import sys
import tracemalloc
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from bitorch.data import (
    DATA_NAMES,
    Augmentation,
    BatchLoader,
    Dataset,
    Images,
    digits,
    load,
    mnist_folder,
    random_flip,
    random_pad_crop,
    random_shift,
    read_idx,
    to_float,
)
from bitorch.quantizations import InputDoReFa

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def numbered(count: int, num_classes: int = 2) -> Images:
    """Return 1×1 images whose only pixel is their index."""
    pixels = torch.arange(count, dtype=torch.uint8).view(count, 1, 1, 1)
    return Images(pixels, torch.arange(count) % num_classes, num_classes)


def indices(loader: BatchLoader) -> list[list[int]]:
    """Return one pass over `numbered` images as lists of their indices."""
    return [images.flatten().tolist() for images, _ in loader]


def joined(lists: Iterable[list[int]]) -> list[int]:
    return list(chain.from_iterable(lists))


def idx(*sizes: int, data: bytes) -> bytes:
    return bytes((0, 0, 8, len(sizes))) + b"".join(size.to_bytes(4, "big") for size in sizes) + data


class TestImages:
    def test_length(self) -> None:
        assert len(numbered(7)) == 7
        assert len(Images(torch.zeros(0, 1, 2, 2, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64), 2)) == 0

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"images": torch.zeros(4, 1, 2, 2)}, TypeError, r"images must be torch.uint8, got torch.float32"),
            ({"labels": torch.zeros(4, dtype=torch.int32)}, TypeError, r"labels must be torch.int64, got torch.int32"),
            ({"labels": [0, 1, 2, 3]}, TypeError, r"labels must be a tensor, got list"),
            ({"num_classes": 3.0}, TypeError, r"num_classes must be an int, got 3.0"),
            ({"num_classes": True}, TypeError, r"num_classes must be an int, got True"),
            ({"images": torch.zeros(4, 2, 2, dtype=torch.uint8)}, ValueError, r"shape \[N, C, H, W\], got \[4, 2, 2\]"),
            ({"images": torch.zeros(4, 0, 2, 2, dtype=torch.uint8)}, ValueError, r"at least one channel"),
            ({"labels": torch.zeros(4, 1, dtype=torch.int64)}, ValueError, r"labels must have shape \[N\]"),
            ({"labels": torch.zeros(3, dtype=torch.int64)}, ValueError, r"one label for each image, got 4 and 3"),
            ({"num_classes": 1}, ValueError, r"num_classes must be at least 2, got 1"),
            ({"labels": torch.tensor([0, 1, 3, 0])}, ValueError, r"labels must be in 0…2 \(num_classes - 1\), got 0…3"),
            ({"labels": torch.tensor([0, -1, 2, 0])}, ValueError, r"labels must be in 0…2 .*got -1…2"),
        ],
    )
    def test_invalid(self, change: dict[str, Any], error: type[Exception], message: str) -> None:
        valid: dict[str, Any] = {
            "images": torch.zeros(4, 1, 2, 2, dtype=torch.uint8),
            "labels": torch.tensor([0, 1, 2, 0]),
            "num_classes": 3,
        }
        Images(**valid)
        with pytest.raises(error, match=message):
            Images(**{**valid, **change})

    def test_dataset_has_one_image_shape_and_one_number_of_classes(self) -> None:
        other_shape = Images(torch.zeros(1, 1, 1, 2, dtype=torch.uint8), torch.tensor([0]), 2)
        with pytest.raises(ValueError, match=r"some: training images are \(1, 1, 1\) .* test images \(1, 1, 2\)"):
            Dataset("some", numbered(2), other_shape)
        with pytest.raises(ValueError, match="some: 2 classes in training, but 3 in test"):
            Dataset("some", numbered(3), numbered(3, num_classes=3))

    def test_to_float_is_exact_for_an_8_bit_first_layer(self) -> None:
        pixels = torch.arange(256, dtype=torch.uint8)
        x = to_float(pixels)
        assert x.dtype == torch.float32
        assert (x.min().item(), x.max().item()) == (0.0, 1.0)
        assert x.tolist() == [torch.tensor(q / 255, dtype=torch.float64).float().item() for q in range(256)]
        assert torch.equal(InputDoReFa(8)(x), x)
        with pytest.raises(TypeError, match=r"images must be uint8, got torch.float32"):
            to_float(x)


class TestDigits:
    def test_shapes_and_range(self) -> None:
        data = digits()
        assert data.name == "digits"
        for part, count in ((data.train, 1437), (data.test, 360)):
            assert part.images.shape == (count, 1, 8, 8)
            assert part.num_classes == 10
            assert (part.images.min().item(), part.images.max().item()) == (0, 255)

    def test_pixels_are_scikit_learns(self) -> None:
        from sklearn.datasets import load_digits

        data = digits()
        ours = torch.cat([data.train.images, data.test.images]).view(-1, 64)
        assert set(ours.flatten().tolist()) == {round(v * 255 / 16) for v in range(17)}
        labels = torch.cat([data.train.labels, data.test.labels])
        source = load_digits()
        ours_sorted = sorted(zip((ours * (16 / 255)).round().long().tolist(), labels.tolist(), strict=True))
        assert ours_sorted == sorted(zip(source.data.astype(int).tolist(), source.target.tolist(), strict=True))

    def test_split_is_stratified(self) -> None:
        data = digits()
        totals = data.train.labels.bincount() + data.test.labels.bincount()
        assert ((data.test.labels.bincount() - totals * 360 / 1797).abs() < 1).all()

    def test_split_never_changes(self) -> None:
        torch.manual_seed(1)
        labels = [tuple(part.labels.tolist()) for part in (digits().train, digits().test)]
        digest = hashlib.sha256(bytes(labels[0] + labels[1])).hexdigest()
        assert digest == "7146b904ca72fc0fa0050f7a1702d957a86433e9bf676969b7be2569181b6b99"

    def test_without_scikit_learn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
        with pytest.raises(ImportError, match=r'scikit-learn: pip install "\.\[train\]" in a checkout of bitorch'):
            digits()


class TestReadIdx:
    @given(
        sizes=st.lists(st.integers(1, 5), min_size=1, max_size=5),
        seed=st.integers(0, 2**31),
        compressed=st.booleans(),
    )
    def test_round_trip(
        self, tmp_path_factory: pytest.TempPathFactory, sizes: list[int], seed: int, compressed: bool
    ) -> None:
        values = torch.randint(256, sizes, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
        content = idx(*sizes, data=bytes(values.flatten().tolist()))
        path = tmp_path_factory.mktemp("idx") / "file"
        path.write_bytes(gzip.compress(content) if compressed else content)
        assert torch.equal(read_idx(path), values)

    @given(
        content=st.binary(max_size=40), prefix=st.sampled_from([b"", b"\x1f\x8b", b"\x00\x00\x08", b"\x00\x00\x08\x01"])
    )
    def test_any_bytes_give_a_tensor_or_a_value_error(
        self, tmp_path_factory: pytest.TempPathFactory, content: bytes, prefix: bytes
    ) -> None:
        path = tmp_path_factory.mktemp("idx") / "file"
        path.write_bytes(prefix + content)
        with contextlib.suppress(ValueError):
            assert read_idx(path).dtype == torch.uint8

    @pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", r"is not an IDX file of bytes: .* got nothing"),
            (b"\x00\x00", r"is not an IDX file of bytes: .* got 00 00"),
            (b"\x89PNG\r\n", r"is not an IDX file of bytes: .* got 89 50 4e 47"),
            (b"\x00\x00\x0d\x01" + bytes(8), r"is not an IDX file of bytes: .* got 00 00 0d 01"),  # float32
            (b"\x00\x00\x08\x00", r"is not an IDX file of bytes"),  # no dimension
            (b"\x00\x00\x08\x03" + bytes(5), r"truncated: expected a header of 16 bytes for 3 dimensions, got 9"),
            (idx(2, 0, data=b""), r"holds no data: its header gives the sizes \[2, 0\]"),
            (idx(2, 3, data=b"12345"), r"is truncated: .* \[2, 3\], so expected 18 bytes, got 17"),
            (idx(2, 3, data=b"1234567"), r"has trailing bytes: .* so expected 18 bytes, got 19"),
            (idx(2**32 - 1, 2**32 - 1, data=b"123"), r"is truncated: .* expected 18446744065119617037 bytes, got 15"),
        ],
    )
    def test_broken(self, tmp_path: Path, pack: Callable[[bytes], bytes], content: bytes, message: str) -> None:
        path = tmp_path / "file"
        path.write_bytes(pack(content))
        with pytest.raises(ValueError, match=message):
            read_idx(path)

    @pytest.mark.parametrize("change", ["cut", "flip"])
    def test_corrupt_gzip(self, tmp_path: Path, change: str) -> None:
        content = bytearray(gzip.compress(idx(1000, data=os.urandom(1000))))
        if change == "cut":
            del content[-20:]
        else:
            content[-6] ^= 1  # in the checksum
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(ValueError, match=r"file is a corrupt or truncated gzip file: "):
            read_idx(tmp_path / "file")

    @pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
    def test_a_huge_claim_allocates_nothing(self, tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
        (tmp_path / "file").write_bytes(pack(idx(1 << 30, data=b"123")))
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match="is truncated"):
                read_idx(tmp_path / "file")
            assert tracemalloc.get_traced_memory()[1] < 1 << 22
        finally:
            tracemalloc.stop()


class TestMnistFolder:
    @staticmethod
    def write(folder: Path, **changes: bytes) -> None:
        """Write 3 training and 2 test images of 2×5 pixels with labels up to 4; changes by train/t10k_images/labels."""
        files = {
            "train_images": idx(3, 2, 5, data=bytes(range(30))),
            "train_labels": idx(3, data=bytes((4, 0, 1))),
            "t10k_images": idx(2, 2, 5, data=bytes(range(100, 120))),
            "t10k_labels": idx(2, data=bytes((3, 2))),
            **changes,
        }
        for name, content in zip(NAMES, files.values(), strict=True):
            (folder / name).write_bytes(content)

    def test_contents(self, tmp_path: Path) -> None:
        folder = tmp_path / "kuzushiji"
        folder.mkdir()
        self.write(folder)
        (folder / NAMES[0]).rename(folder / "plain")
        (folder / f"{NAMES[0]}.gz").write_bytes(gzip.compress((folder / "plain").read_bytes()))
        data = mnist_folder(str(folder))
        assert data.name == "kuzushiji"
        assert data.train.num_classes == data.test.num_classes == 5
        assert torch.equal(data.train.images, torch.arange(30, dtype=torch.uint8).view(3, 1, 2, 5))
        assert torch.equal(data.test.images, torch.arange(100, 120, dtype=torch.uint8).view(2, 1, 2, 5))
        assert data.train.labels.tolist() == [4, 0, 1]
        assert data.test.labels.tolist() == [3, 2]

    def test_at_least_two_classes(self, tmp_path: Path) -> None:
        self.write(tmp_path, train_labels=idx(3, data=bytes(3)), t10k_labels=idx(2, data=bytes(2)))
        assert mnist_folder(tmp_path).train.num_classes == 2

    def test_missing_files_are_all_named(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        for name in NAMES[1:3]:
            (tmp_path / name).unlink()
        with pytest.raises(FileNotFoundError, match="lacks 2 of 4 files, put them there") as error:
            mnist_folder(tmp_path)
        assert str(tmp_path) in str(error.value)
        for name in NAMES:
            assert (f"{name} or {name}.gz" in str(error.value)) == (name in NAMES[1:3])

    def test_not_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for path in (tmp_path / "file", tmp_path / "missing"):
            with pytest.raises(NotADirectoryError, match=f"is not a folder; it must hold {NAMES[0]}.*plain or .gz"):
                mnist_folder(path)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {"train_labels": idx(2, data=bytes(2))},
                r"train-images-idx3-ubyte holds 3 images, but .*train-lab.* 2 labels",
            ),
            (
                {"t10k_images": idx(2, data=bytes(2))},
                r"t10k-images.* must hold images in 3 dimension\(s\), got sizes \[2\]",
            ),
            ({"t10k_labels": idx(2, 1, data=bytes(2))}, r"t10k-labels.* must hold labels in 1 dimension"),
            (
                {"t10k_images": idx(2, 1, 1, data=bytes(2))},
                r"training images are \(1, 2, 5\) .* test images \(1, 1, 1\)",
            ),
            ({"train_images": b"<html>"}, r"train-images-idx3-ubyte is not an IDX file"),
        ],
    )
    def test_broken(self, tmp_path: Path, changes: dict[str, bytes], message: str) -> None:
        self.write(tmp_path, **changes)
        with pytest.raises(ValueError, match=message):
            mnist_folder(tmp_path)


class TestLoad:
    def test_names(self, tmp_path: Path) -> None:
        TestMnistFolder.write(tmp_path)
        assert [len(load(name, folder).train) for name, folder in (("digits", None), ("mnist", tmp_path))] == [1437, 3]
        assert DATA_NAMES[:2] == ("digits", "mnist")

    @pytest.mark.parametrize(
        ("name", "folder", "message"),
        [
            ("mnist", None, 'data "mnist" needs the folder'),
            ("digits", Path("there"), "takes no folder, got 'there'"),
            ("cifar", None, r"data must be one of digits, mnist, .* got 'cifar'; did you mean cifar10\?"),
        ],
    )
    def test_wrong(self, name: str, folder: Path | None, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            load(name, folder)

    @pytest.mark.parametrize(("pad_to", "before", "after"), [(8, 0, 0), (9, 0, 1), (40, 16, 16)])
    def test_padding(self, pad_to: int, before: int, after: int) -> None:
        plain, padded = load("digits"), load("digits", pad_to=pad_to)
        for part, larger in ((plain.train, padded.train), (plain.test, padded.test)):
            assert larger.images.dtype == torch.uint8
            assert torch.equal(larger.images, nn.functional.pad(part.images, (before, after) * 2))
            assert torch.equal(larger.labels, part.labels)
            assert larger.num_classes == part.num_classes

    def test_padding_makes_squares(self, tmp_path: Path) -> None:
        TestMnistFolder.write(tmp_path)  # 2×5
        data = load("mnist", tmp_path, pad_to=6)
        assert data.test.images.shape == (2, 1, 6, 6)
        assert torch.equal(data.test.images[:, :, 2:4, :5], load("mnist", tmp_path).test.images)
        assert data.test.images.long().sum() == load("mnist", tmp_path).test.images.long().sum()

    @pytest.mark.parametrize("pad_to", [-1, 4])
    def test_padding_that_is_too_small(self, tmp_path: Path, pad_to: int) -> None:
        TestMnistFolder.write(tmp_path)
        with pytest.raises(ValueError, match=f"pad_to must be 0, or at least 5, because .* are 2×5, got {pad_to}"):
            load("mnist", tmp_path, pad_to=pad_to)

    def test_padding_is_an_int(self) -> None:
        with pytest.raises(TypeError, match=r"pad_to must be an int, got 9\.0"):
            load("digits", pad_to=9.0)  # type: ignore[call-overload]


class TestAugmentation:
    @given(
        batch=st.integers(0, 5),
        channels=st.integers(1, 3),
        height=st.integers(1, 6),
        width=st.integers(1, 6),
        data=st.data(),
    )
    def test_shift_moves_each_image_by_one_offset(
        self, batch: int, channels: int, height: int, width: int, data: st.DataObject
    ) -> None:
        pixels = data.draw(st.integers(0, min(height, width) - 1))
        x = torch.rand(batch, channels, height, width) + 1
        y = random_shift(x, pixels)
        assert y.shape == x.shape
        padded = torch.nn.functional.pad(x, (pixels,) * 4)
        for image, shifted in zip(padded, y, strict=True):
            assert any(
                torch.equal(image[:, top : top + height, left : left + width], shifted)
                for top in range(2 * pixels + 1)
                for left in range(2 * pixels + 1)
            )

    def test_shift_is_uniform_and_independent(self) -> None:
        torch.manual_seed(0)
        x = torch.zeros(9000, 1, 5, 5)
        x[:, :, 2, 2] = 1
        counts = random_shift(x, 1).sum(0)[0]
        assert counts.sum() == 9000  # no image lost
        assert (counts[1:4, 1:4] - 1000).abs().max() < 150  # five standard deviations
        assert counts[0].sum() == counts[-1].sum() == 0

    def test_flip(self) -> None:
        torch.manual_seed(0)
        x = torch.rand(2000, 2, 3, 4)
        y = random_flip(x)
        is_same = (y == x).flatten(1).all(1)
        is_flipped = (y == x.flip(-1)).flatten(1).all(1)
        assert (is_same ^ is_flipped).all()
        assert 880 < is_flipped.sum() < 1120  # five standard deviations

    def test_pad_crop_is_shift(self) -> None:
        x = torch.rand(8, 1, 6, 6)
        results = []
        for function in (random_shift, random_pad_crop):
            torch.manual_seed(3)
            results.append(function(x, 2))
        assert torch.equal(*results)

    @pytest.mark.parametrize("augmentation", [Augmentation(shift=2), Augmentation(flip=True), Augmentation(pad_crop=2)])
    def test_seed_reproduces(self, augmentation: Augmentation) -> None:
        x = torch.rand(16, 1, 6, 6)

        def run(seed: int) -> Tensor:
            torch.manual_seed(seed)
            return augmentation(x)

        assert torch.equal(run(1), run(1))
        assert not torch.equal(run(1), run(2))
        assert not torch.equal(run(1), x)

    def test_all_off_draws_nothing(self) -> None:
        x = torch.rand(4, 1, 3, 3)
        state = torch.get_rng_state()
        assert Augmentation()(x) is x
        assert random_shift(x, 0) is x
        assert torch.equal(torch.get_rng_state(), state)

    def test_both_parts_are_applied(self) -> None:
        x = torch.arange(1.0, 17.0).view(1, 1, 4, 4).repeat(200, 1, 1, 1)
        y = Augmentation(shift=1, flip=True)(x)
        first_row_descends = (y[:, 0, 2, 1] > y[:, 0, 2, 2]).sum()
        assert 50 < first_row_descends < 150
        assert 50 < (y == 0).flatten(1).any(1).sum() < 200

    @pytest.mark.parametrize(
        ("call", "error", "message"),
        [
            (lambda: random_shift(torch.zeros(1, 1, 3, 4), 3), ValueError, "less than the image's .* 3×4, got 3"),
            (lambda: random_shift(torch.zeros(1, 1, 3, 4), -1), ValueError, "pixels must be at least 0, got -1"),
            (lambda: random_shift(torch.zeros(1, 3, 4), 1), ValueError, r"shape \[B, C, H, W\], got \[1, 3, 4\]"),
            (lambda: random_flip(torch.zeros(1, 1, 3, 4, dtype=torch.uint8)), TypeError, r"float .*got torch.uint8"),
            (lambda: Augmentation(shift=-1), ValueError, "shift must be at least 0, got -1"),
            (lambda: Augmentation(pad_crop=1.0), TypeError, r"pad_crop must be an int, got 1.0"),  # type: ignore[arg-type]
            (lambda: Augmentation(flip=1), TypeError, "flip must be a bool, got 1"),  # type: ignore[arg-type]
            (lambda: Augmentation(shift=1, pad_crop=1), ValueError, "shift=1 and pad_crop=1 are the same operation"),
        ],
    )
    def test_invalid(self, call: Callable[[], object], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            call()


def share(monkeypatch: pytest.MonkeyPatch, rank: int, world_size: int) -> None:
    """Let torch.distributed look as if this were one of several processes."""
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda: rank)
    monkeypatch.setattr(dist, "get_world_size", lambda: world_size)


class TestBatchLoader:
    def test_batches(self) -> None:
        loader = BatchLoader(numbered(7), 3, shuffle=False)
        batches = list(loader)
        assert len(loader) == len(batches) == 3
        assert indices(loader) == [[0, 1, 2], [3, 4, 5], [6]]
        for images, labels in batches:
            assert images.dtype == torch.uint8
            assert images.shape[1:] == (1, 1, 1)
            assert torch.equal(labels, images.flatten().long() % 2)

    def test_drop_last(self) -> None:
        assert indices(BatchLoader(numbered(7), 3, shuffle=False, drop_last=True)) == [[0, 1, 2], [3, 4, 5]]
        assert indices(BatchLoader(numbered(6), 3, shuffle=False, drop_last=True)) == [[0, 1, 2], [3, 4, 5]]

    def test_shuffle_keeps_labels_and_uses_every_sample_once(self) -> None:
        images, labels = (torch.cat(parts) for parts in zip(*BatchLoader(numbered(50), 8, shuffle=True), strict=True))
        assert sorted(images.flatten().tolist()) == list(range(50))
        assert images.flatten().tolist() != list(range(50))
        assert torch.equal(labels, images.flatten().long() % 2)

    def test_order_is_a_function_of_seed_and_epoch(self) -> None:
        orders = {}
        for seed in (0, 1):
            for epoch in (2, 0, 1):
                torch.manual_seed(epoch)
                loader = BatchLoader(numbered(20), 4, shuffle=True, seed=seed)
                loader.set_epoch(epoch)
                torch.rand(3)
                orders[seed, epoch] = indices(loader)
                again = BatchLoader(numbered(20), 4, shuffle=True, seed=seed)
                again.set_epoch(epoch)
                assert indices(again) == orders[seed, epoch]
        assert (
            len({str(order) for order in orders.values()}) == 6
        )  # also epoch 1 of seed 0 and epoch 0 of seed 1 differ

    def test_order_never_changes(self) -> None:
        loader = BatchLoader(numbered(10), 10, shuffle=True, seed=5)
        loader.set_epoch(3)
        assert indices(loader) == [[2, 9, 8, 5, 1, 0, 6, 7, 4, 3]]

    def test_global_generator_is_left_alone(self) -> None:
        state = torch.get_rng_state()
        list(BatchLoader(numbered(20), 4, shuffle=True))
        assert torch.equal(torch.get_rng_state(), state)

    def test_each_pass_is_the_next_epoch(self) -> None:
        loader = BatchLoader(numbered(20), 4, shuffle=True)
        passes = [indices(loader) for _ in range(3)]
        assert loader.state_dict() == {"epoch": 3, "batch": 0}
        for epoch, order in enumerate(passes):
            loader.set_epoch(epoch)
            assert indices(loader) == order
        assert passes[0] != passes[1] != passes[2]

    def test_a_broken_off_pass_starts_again(self) -> None:
        loader = BatchLoader(numbered(20), 4, shuffle=True)
        expected = [next(iter(loader))[0].flatten().tolist() for _ in range(2)]
        assert expected[0] == expected[1]
        assert indices(loader)[0] == expected[0]

    def test_epoch_set_after_the_iterator_was_made(self) -> None:
        loader = BatchLoader(numbered(20), 4, shuffle=True)
        iterator = iter(loader)
        loader.set_epoch(4)
        late = [images.flatten().tolist() for images, _ in iterator]
        loader.set_epoch(4)
        assert indices(loader) == late

    @pytest.mark.parametrize("shuffle", [True, False])
    @pytest.mark.parametrize("done", range(6))
    def test_restored_loader_goes_on(self, shuffle: bool, done: int) -> None:
        loader = BatchLoader(numbered(18), 4, shuffle=shuffle)
        loader.set_epoch(2)
        iterator = iter(loader)
        for _ in range(done):
            next(iterator)
        state = loader.state_dict()
        rest = [images.flatten().tolist() for images, _ in iterator]

        restored = BatchLoader(numbered(18), 4, shuffle=shuffle)
        restored.load_state_dict(state)
        restored.set_epoch(state["epoch"])  # as trainers do at the start of each epoch
        assert restored.state_dict() == state
        assert len(restored) == 5
        assert indices(restored) == rest
        assert indices(restored) == indices(loader)  # the epoch after it, in full

    def test_another_epoch_drops_the_restored_position(self) -> None:
        loader = BatchLoader(numbered(18), 4, shuffle=False)
        loader.load_state_dict({"epoch": 1, "batch": 3})
        loader.set_epoch(2)
        assert loader.state_dict() == {"epoch": 2, "batch": 0}
        assert len(indices(loader)) == 5

    @pytest.mark.parametrize(
        ("state", "error", "message"),
        [
            ({"epoch": 0}, ValueError, r"has the keys epoch and batch, got \['epoch'\]"),
            ({"epoch": 0, "batch": 6}, ValueError, "after batch 6 of an epoch, but an epoch has 5 batches"),
            ({"epoch": -1, "batch": 0}, ValueError, "epoch must be at least 0, got -1"),
            ({"epoch": 0, "batch": 1.0}, TypeError, r"batch must be an int, got 1.0"),
        ],
    )
    def test_invalid_state(self, state: dict[str, Any], error: type[Exception], message: str) -> None:
        loader = BatchLoader(numbered(18), 4, shuffle=True)
        with pytest.raises(error, match=message):
            loader.load_state_dict(state)
        assert loader.state_dict() == {"epoch": 0, "batch": 0}

    @pytest.mark.parametrize(
        ("count", "arguments", "error", "message"),
        [
            (0, {"batch_size": 1}, ValueError, "images is empty"),
            (5, {"batch_size": 0}, ValueError, "batch_size must be in 1…5, the number of images, got 0"),
            (5, {"batch_size": -1}, ValueError, "batch_size must be in 1…5"),
            (5, {"batch_size": 6}, ValueError, "batch_size must be in 1…5, the number of images, got 6"),
            (5, {"batch_size": 2.0}, TypeError, r"batch_size must be an int, got 2.0"),
            (5, {"batch_size": 2, "seed": "1"}, TypeError, "seed must be an int, got '1'"),
        ],
    )
    def test_invalid(self, count: int, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            BatchLoader(numbered(count), shuffle=True, **arguments)

    def test_invalid_epoch(self) -> None:
        with pytest.raises(ValueError, match="epoch must be at least 0, got -1"):
            BatchLoader(numbered(5), 2, shuffle=True).set_epoch(-1)

    @given(
        count=st.integers(1, 60),
        batch_size=st.integers(1, 20),
        world_size=st.integers(1, 5),
        shuffle=st.booleans(),
        drop_last=st.booleans(),
    )
    def test_shares(self, count: int, batch_size: int, world_size: int, shuffle: bool, drop_last: bool) -> None:
        batch_size = min(batch_size, count)
        least = count // world_size

        def shares() -> list[list[list[int]]]:
            result = []
            for rank in range(world_size):
                with pytest.MonkeyPatch.context() as monkeypatch:
                    share(monkeypatch, rank, world_size)
                    loader = BatchLoader(numbered(count), batch_size, shuffle=shuffle, drop_last=drop_last)
                    result.append(indices(loader))
                    assert len(loader) == len(result[-1])
            return result

        if least == 0:
            with pytest.raises(ValueError, match=f"{count} images cannot be shared out to {world_size} processes"):
                shares()
            return
        if drop_last and least < batch_size:
            with pytest.raises(
                ValueError, match=f"each of {world_size} processes has {least} images, less than one batch"
            ):
                shares()
            return
        batches = shares()
        samples = [joined(share) for share in batches]
        used = joined(samples)
        assert len(set(used)) == len(used)
        assert len({len(share) for share in batches}) == 1
        # One sample more than batch_size only where it is 1 and a process would else make a batch more than others.
        assert {len(batch) for share in batches for batch in share} <= set(range(1, max(batch_size, 2) + 1))
        if shuffle or drop_last:
            whole = least // batch_size * batch_size
            assert {len(share) for share in samples} == {whole if drop_last else least}
            together = [set(joined(parts)) for parts in zip(*batches, strict=True)]
            single = BatchLoader(numbered(count), min(batch_size * world_size, count), shuffle=shuffle)
            assert all(ours <= set(theirs) for ours, theirs in zip(together, indices(single), strict=False))
        else:
            assert sorted(used) == list(range(count))

    def test_real_processes(self, tmp_path: Path) -> None:
        spawn(run_process, args=(2, tmp_path), nprocs=2)
        train, evaluation = zip(*(torch.load(tmp_path / f"{rank}.pt") for rank in range(2)), strict=True)
        single = BatchLoader(numbered(19), 6, shuffle=True, seed=1)
        assert [sorted(a + b) for a, b in zip(*train, strict=True)] == [sorted(batch) for batch in indices(single)[:3]]
        assert sorted(joined(chain(*evaluation))) == list(range(19))
        assert [len(batch) for batch in evaluation[0]] == [3, 3, 3, 1]
        assert [len(batch) for batch in evaluation[1]] == [3, 3, 2, 1]


def run_process(rank: int, world_size: int, folder: Path) -> None:
    """Write what one of several processes sees of training and evaluation data."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size)
    loaders = [BatchLoader(numbered(19), 3, shuffle=shuffle, seed=1) for shuffle in (True, False)]
    torch.save([indices(loader) for loader in loaders], folder / f"{rank}.pt")
    dist.destroy_process_group()


#: torch's and Lightning's own quarrel about `LeafSpec`.
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
class TestLightningTrainer:
    """What a Trainer makes of the loader. 20 images in batches of 4 make 5 steps per epoch."""

    def fit(self, folder: Path, checkpoint: Path | None = None, **options: Any) -> list[tuple[int, int, list[int]]]:
        """Train, saving after each step and each epoch, and return epoch, batch number and indices of all steps."""
        import lightning.pytorch as pl

        class Save(pl.Callback):
            def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
                self.save(trainer, "step")

            def on_train_epoch_end(self, trainer: pl.Trainer, *_: object) -> None:
                self.save(trainer, "epoch")

            def on_validation_end(self, trainer: pl.Trainer, *_: object) -> None:
                if not trainer.sanity_checking:
                    self.save(trainer, "validation")

            def save(self, trainer: pl.Trainer, when: str) -> None:
                trainer.save_checkpoint(folder / when / f"{trainer.global_step}.ckpt")

        class Net(pl.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(1, 2)
                self.seen: list[tuple[int, int, list[int]]] = []

            def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
                images, labels = batch
                self.seen.append((self.current_epoch, batch_idx, images.flatten().tolist()))
                return nn.functional.cross_entropy(self.layer(to_float(images).flatten(1)), labels)

            def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
                pass

            def configure_optimizers(self) -> torch.optim.Optimizer:
                return torch.optim.SGD(self.parameters(), 0.01)

        net = Net()
        trainer = pl.Trainer(
            accelerator="cpu",
            callbacks=[Save()],
            enable_checkpointing=False,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **options,
        )
        train, val = (BatchLoader(numbered(20), 4, shuffle=shuffle, seed=3) for shuffle in (True, False))
        trainer.fit(net, train, val, ckpt_path=checkpoint)
        return net.seen

    @pytest.mark.parametrize(
        ("options", "whens"),
        [
            ({"max_epochs": 3}, ("step", "epoch", "validation")),
            ({"max_epochs": 3, "val_check_interval": 2}, ("step", "epoch", "validation")),
            ({"max_epochs": 3, "limit_train_batches": 3}, ("step", "epoch", "validation")),
            # Not "epoch": there Lightning 2.6 counts the finished epoch twice, and so sets the one after the next.
            ({"max_epochs": -1, "max_steps": 15}, ("step", "validation")),
        ],
        ids=["epochs", "validation inside", "part of the batches", "steps"],
    )
    def test_resumed_training_sees_what_uninterrupted_training_sees(
        self, tmp_path: Path, options: dict[str, Any], whens: tuple[str, ...]
    ) -> None:
        full = self.fit(tmp_path / "full", **options)
        loader = BatchLoader(numbered(20), 4, shuffle=True, seed=3)
        limit = options.get("limit_train_batches", 5)
        expected = [(epoch, i, batch) for epoch in range(3) for i, batch in enumerate(indices(loader)) if i < limit]
        assert full == expected
        for when in whens:
            paths = sorted((tmp_path / "full" / when).iterdir())
            assert len(paths) >= 3
            for path in paths:
                steps_done = int(path.stem)
                assert self.fit(tmp_path / f"{when}-{steps_done}", path, **options) == full[steps_done:], path
