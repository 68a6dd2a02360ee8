"""Loaders of pictures and of data of one's own: the same batches for any number of workers, and behind any stop."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import random
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, WeightedRandomSampler

import bitorch
from bitorch.data import (
    DataOptions,
    EpochLoader,
    Images,
    Items,
    Normalization,
    PictureAugmentation,
    Stream,
    dataset_of,
    first_batch,
    load,
    loader,
    normalized,
)
from bitorch.models import LeNet8
from bitorch.train import Settings, fit, load_model, read_checkpoint
from picture_files import write_classes, write_picture_folder, write_shards

AUGMENTATION = PictureAugmentation((0.3, 1), (2, 9), (0.4, 0.4, 0.4, 0.1))


class Squares(Dataset[Any]):
    """n → a tensor with n and a random number of each library, and n²."""

    def __init__(self, count: int = 20, broken: int | None = None) -> None:
        self.count, self.broken = count, broken

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index == self.broken:
            raise KeyError(f"no {index}")
        numbers = [float(index), float(torch.rand(())), float(np.random.rand()), random.random()]  # noqa: NPY002
        return torch.tensor(numbers), index**2


class Counting(IterableDataset[Any]):
    """0, 1, 2, … with a random number of the epoch."""

    def __init__(self, count: int = 20, length: int | None = None, broken: int | None = None) -> None:
        self.count, self.length, self.broken, self.epoch = count, length, broken, -1

    def __len__(self) -> int:
        return self.count if self.length is None else self.length

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        for index in range(self.count):
            if index == self.broken:
                raise KeyError(f"no {index}")
            yield torch.tensor([float(index), float(self.epoch), random.random()]), index


def flat(batches: Any) -> list[Any]:
    return [tuple(part.tolist() for part in batch) for batch in batches]


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Splits of 20 samples or so of every kind that workers read."""
    folder = tmp_path_factory.mktemp("splits")
    write_classes(folder / "pictures", 8, size=16)
    write_shards(folder / "shards", 24, 3, size=16)
    options = DataOptions(workers=0, cache="off", shards=None)
    shards = DataOptions(workers=0, cache="off", shards="train-*.tar", shuffle_buffer=5)
    return {
        "pictures": load("images", folder / "pictures", options=options).train,
        "shards": load("webdataset", folder / "shards", options=shards).train,
        "tensors": load("fake", options=DataOptions(fake=(24, 2), image_size=12)).train,
        "items": Items(Squares()),
        "stream": Stream(Counting(), 20),
    }


KINDS = ("pictures", "shards", "tensors", "items", "stream")


def make(splits: dict[str, Any], kind: str, workers: int, *, shuffle: bool = True, batch_size: int = 3) -> EpochLoader:
    transform = AUGMENTATION if kind in KINDS[:3] else None
    return loader(splits[kind], batch_size, shuffle=shuffle, seed=5, workers=workers, transform=transform)


@pytest.mark.parametrize("kind", KINDS)
class TestPromises:
    def test_any_number_of_workers_gives_the_same_batches(self, splits: dict[str, Any], kind: str) -> None:
        several = [make(splits, kind, workers) for workers in (0, 1, 3)]
        epochs = [[flat(batches) for batches in several] for _ in range(2)]
        for first, *others in epochs:
            assert all(other == first for other in others)
        assert epochs[0][0] != epochs[1][0]

    @pytest.mark.parametrize("workers", [0, 2])
    def test_a_restored_loader_goes_on(self, splits: dict[str, Any], kind: str, workers: int) -> None:
        whole = make(splits, kind, workers)
        epochs = [flat(whole), flat(whole)]
        stopped = make(splits, kind, workers)
        list(stopped)
        head = flat(itertools.islice(stopped, 2))
        restored = make(splits, kind, workers)
        restored.load_state_dict(stopped.state_dict())
        assert head + flat(restored) == epochs[1]
        again = make(splits, kind, workers)
        again.set_epoch(1)
        assert flat(again) == epochs[1]

    def test_a_pass_that_was_left_is_begun_anew(self, splits: dict[str, Any], kind: str) -> None:
        batches = make(splits, kind, 2)
        first = flat(itertools.islice(batches, 1))
        batches.set_epoch(1)
        batches.set_epoch(0)
        assert flat(batches)[:1] == first

    def test_processes_share_the_samples(
        self, splits: dict[str, Any], kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Batch i of two processes together is batch i of one with twice the batch size."""
        single = flat(make(splits, kind, 0, batch_size=6))
        parts = []
        for rank in range(2):
            monkeypatch.setattr("bitorch.data.epoch_loader.rank_and_world_size", lambda rank=rank: (rank, 2))
            parts.append(flat(make(splits, kind, 0)))
        monkeypatch.undo()
        together = [
            [sorted([*a, *b], key=str) for a, b in zip(one, other, strict=True)]
            for one, other in zip(*parts, strict=True)
        ]
        expected = [[sorted(part, key=str) for part in batch] for batch in single]
        assert together == expected[: len(together)]

    def test_the_random_numbers_of_training_stay(self, splits: dict[str, Any], kind: str) -> None:
        states = torch.get_rng_state(), random.getstate()
        for workers in (0, 2):
            list(make(splits, kind, workers))
        assert torch.equal(torch.get_rng_state(), states[0])
        assert random.getstate() == states[1]


def test_processes_end_when_told_where_a_collector_finds_their_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch waits five seconds for each that does not, and then kills it."""
    killed: list[BaseProcess] = []

    def kill(process: BaseProcess) -> None:
        killed.append(process)
        process.kill()

    monkeypatch.setattr(BaseProcess, "terminate", kill)
    before = multiprocessing.active_children()
    cycle: list[Any] = [loader(Items(Squares()), 5, shuffle=False, workers=2)]
    cycle.append(cycle)
    assert len(list(cycle[0])) == 4
    workers = [process for process in multiprocessing.active_children() if process not in before]
    assert len(workers) == 2
    del cycle
    gc.collect()
    assert not killed
    assert not any(process.is_alive() for process in workers)


class TestOwnData:
    @pytest.mark.parametrize("workers", [0, 2])
    def test_errors_name_line_and_sample(self, workers: int) -> None:
        for split, shuffle in (
            (Items(Squares(broken=7), name="train of data x"), False),
            (Stream(Counting(broken=7), 20), False),
        ):
            with pytest.raises(
                ValueError, match=r"test_data_loaders\.py:\d+, in .*KeyError: 'no 7' \(sample 7 of epoch 1\)"
            ) as error:
                list(loader(split, 4, shuffle=shuffle, workers=workers))
            assert isinstance(error.value.__cause__, KeyError)

    @pytest.mark.parametrize("workers", [0, 1])
    def test_a_stream_that_is_shorter_than_it_says(self, workers: int) -> None:
        with pytest.raises(ValueError, match="ended after 10 samples of an epoch, and its length is 12"):
            list(loader(Stream(Counting(10), 12), 4, shuffle=False, workers=workers))

    def test_samples_that_do_not_fit_together(self) -> None:
        ragged = Items([(torch.zeros(index + 1), 0) for index in range(4)])
        with pytest.raises(ValueError, match=r"RuntimeError: stack expects.*the batch of samples 0, … 1 of epoch 1"):
            list(loader(ragged, 2, shuffle=False))

    def test_batches_of_any_structure(self) -> None:
        samples = [{"u": torch.full((2,), float(i)), "v": (i, "name")} for i in range(4)]
        batch = first_batch(Items(samples), 4)
        assert batch["u"].shape == (4, 2)
        assert batch["v"][0].tolist() == [0, 1, 2, 3]

    def test_parts_of_every_kind(self) -> None:
        numbers = TensorDataset(torch.rand(6, 4), torch.arange(6))
        collate: Callable[[list[Any]], Any] = lambda samples: (torch.stack([x for x, _ in samples]), None)  # noqa: E731
        sampler = WeightedRandomSampler([0.0, 1.0, 1.0, 1.0, 0.0, 0.0], 5)
        made = {
            "pair": (numbers, numbers),
            "loaders": (DataLoader(numbers, 2, shuffle=True, collate_fn=collate), DataLoader(numbers, 2)),
            "sampler": (DataLoader(numbers, 2, sampler=sampler), numbers),
            "streams": {
                "train": Counting(),
                "val": iter_of(5),
                "val_length": 5,
                "num_classes": 400,
                "input_shape": (3,),
            },
            "images": load("digits"),
            "images pair": (load("digits").train, load("digits").test),
        }
        found = {name: dataset_of(data, name, DataOptions()) for name, data in made.items()}
        assert found["pair"].input_shape == (4,)
        assert len(found["sampler"].train) == 5
        batches = loader(found["sampler"].train, 5, shuffle=True, seed=1)
        first, second = (y for _, y in list(batches) + list(batches))
        assert set(first.tolist()) <= {1, 2, 3}
        assert first.tolist() != second.tolist()
        assert first_batch(found["loaders"].train, 2)[1] is None
        assert found["streams"].num_classes == 400
        assert isinstance(found["images pair"].train, Images)
        with pytest.raises(ValueError, match="pair does not say how many classes"):
            _ = found["pair"].num_classes

    @pytest.mark.parametrize(
        ("made", "message"),
        [
            (3, r"must be \(train, val\)|must give \(train, val\)"),
            ({"train": Squares()}, "a dict must have train and val"),
            (
                {"train": Squares(), "val": Squares(), "tset": 1},
                "a dict must have train and val, and may have class_names",
            ),
            ((3, 4), "train of data x must be a torch Dataset, a DataLoader or Images, got int"),
            ((Squares(0), Squares()), "train of data x has no samples"),
            ((DataLoader(Squares(), batch_size=None), Squares()), "makes batches of its own"),
            ({"train": Squares(), "val": Squares(), "num_classes": 0}, "num_classes must be a whole number from 1 on"),
        ],
    )
    def test_wrong(self, made: Any, message: str) -> None:
        with pytest.raises((ValueError, TypeError), match=message):
            dataset_of(made, "x", DataOptions())

    def test_a_stream_without_a_length(self) -> None:
        with pytest.raises(ValueError, match=r"does not say how many samples an epoch has.*train_length"):
            dataset_of((Endless(), Squares()), "x", DataOptions())

    def test_a_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        path = tmp_path / "mine.py"
        path.write_text(
            "import torch\nfrom torch.utils.data import TensorDataset\n"
            "def make(image_size):\n"
            "    x = torch.randint(0, 256, (12, 1, image_size, image_size), dtype=torch.uint8)\n"
            "    part = TensorDataset(x, torch.arange(12) % 3)\n"
            "    return {'train': part, 'val': part, 'class_names': ['a', 'b', 'c']}\n"
            "def broken():\n    return 1 / 0\n"
        )
        data = load(f"{path}:make", options=DataOptions(image_size=8))
        assert data.input_shape == (1, 8, 8)
        assert data.class_names == ("a", "b", "c")
        assert data.fingerprint is not None
        with pytest.raises(ValueError, match=r"mine\.py:8, in broken: return 1 / 0: ZeroDivisionError"):
            load(f"{path}:broken")


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return itertools.count()


def iter_of(count: int) -> Any:
    """Return an iterable of samples without a length."""

    class Some(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            return iter([(torch.zeros(3), 0)] * count)

    return Some()


class TestNormalization:
    @pytest.mark.parametrize("first", ["float", 8])
    def test_deployed_nets_read_pixels_and_compute_the_same(self, first: Any) -> None:
        """Every pixel value in every channel; borders of convolutions are zeros behind the normalization."""
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 5),
        )  # fmt: skip
        bitorch.quantize_(net, bitorch.LowBitConfig(2, 2, first=first, range="calibrated"))
        model = normalized(net, Normalization((0.485, 0.456, 0.4), (0.2, 0.3, 0.25)))
        bitorch.calibrate(model, [torch.rand(8, 3, 8, 8)])
        pixels = torch.arange(256, dtype=torch.uint8).view(4, 1, 8, 8).repeat(1, 3, 1, 1)
        pixels = torch.cat([pixels, pixels.flip(1, 2), torch.randint(256, (8, 3, 8, 8), dtype=torch.uint8)])
        packed = bitorch.deploy(model.eval(), torch.rand(1, 3, 8, 8), pixels=True)
        assert packed.inputs[0].dtype == torch.uint8
        assert bitorch.verify(model, packed, pixels)
        operations, _ = packed.program()
        assert "normalize" not in " ".join(str(operation) for operation in operations if operation["op"] == "affine")

    def test_a_model_without_any_stays_itself(self) -> None:
        net = LeNet8(1, 10)
        assert normalized(net, None) is net
        assert not any("normalize" in key for key in normalized(net, Normalization((0.5,), (0.5,))).state_dict())


def pictures_of_8(folder: Path) -> Path:
    if not folder.exists():
        write_picture_folder(folder, 12, 4, size=8, form="PNG")
    return folder


def settings(tmp_path: Path, out: str, **fields: Any) -> Settings:
    values: dict[str, Any] = {
        "data": "images", "folder": pictures_of_8(tmp_path / "pictures"), "channels": "1", "model": "lenet-8",
        "epochs": 2, "batch_size": 6, "crop_scale": (0.4, 1.0), "randaugment": (1, 9),
        "color_jitter": (0.4, 0.4, 0.4, 0.1), "mean": (0.4,), "std": (0.3,), "flip": True, "workers": 0,
        "accelerator": "cpu", "out": tmp_path / out,
    }  # fmt: skip
    return Settings(**{**values, **fields})


class StopError(Exception):
    """What a run is stopped by."""


def test_an_interrupted_run_ends_as_one_that_was_not(tmp_path: Path) -> None:
    """Of pictures with augmentation, with other numbers of workers, cached or not."""
    whole = fit(settings(tmp_path, "whole"), show=False)
    first = fit(settings(tmp_path, "first", epochs=2, workers=2, cache="off"), show=False)

    def stop(row: Any) -> None:
        raise StopError

    with pytest.raises(StopError):
        fit(settings(tmp_path, "stopped"), on_epoch=stop, show=False)
    checkpoint = tmp_path / "stopped" / "last.ckpt"
    resumed = fit(settings(tmp_path, "resumed", resume=checkpoint, workers=2, cache="off"), show=False)
    weights = [load_model(result.last_checkpoint).state_dict() for result in (whole, first, resumed)]
    for name, value in weights[0].items():
        assert torch.equal(weights[1][name], value), name
        assert torch.equal(weights[2][name], value), name
    read = read_checkpoint(whole.last_checkpoint)
    assert read.class_names == ("columns", "dots", "rows")
    (tmp_path / "pictures" / "train" / "dots" / "00003.png").rename(tmp_path / "pictures" / "train" / "dots" / "x.png")
    with pytest.raises(ValueError, match="the files of pictures are others"):
        fit(settings(tmp_path, "other", resume=checkpoint), show=False)
    with pytest.raises(ValueError, match="mean is"):
        fit(settings(tmp_path, "other", resume=checkpoint, mean=(0.3,)), show=False)
