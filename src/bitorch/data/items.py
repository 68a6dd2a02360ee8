"""Data sets of the user's own: any torch data set, in batches of any structure."""

from __future__ import annotations

import inspect
import pickle
import random
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import default_collate

from ..input_error import InputError
from ..own_code import users_line
from .epoch_loader import EpochLoader, epoch_generator
from .picture_augmentation import sample_random
from .pictures import to_pixels
from .workers import Workers

Collate = Callable[[list[Any]], Any]


@dataclass(frozen=True, eq=False)
class Items:
    """Samples by number: a map-style torch data set, or anything with len() and [index].

    Args:
        dataset: of the samples; Pillow's pictures in them become uint8 [3, H, W], or [1, H, W] if they are grey.
        collate: from a list of samples to a batch.
        shape: of an input, [C, H, W] or another one; None where inputs are no single tensor.
        num_classes: None where labels are no classes.
        sampler: gives the numbers of an epoch's samples, in their order; None: all of them.
        name: for messages.
    """

    dataset: Any
    collate: Collate = default_collate
    shape: tuple[int, ...] | None = None
    num_classes: int | None = None
    sampler: Any = None
    name: str = "the data"

    def __len__(self) -> int:
        return len(self.dataset if self.sampler is None else self.sampler)


@dataclass(frozen=True, eq=False)
class Stream:
    """Samples one after the other: an iterable torch data set.

    Args:
        dataset: gives the samples of an epoch, the same ones in the same order for the same random numbers. One with
            `set_epoch` is told the epoch.
        length: how many samples an epoch has.
        collate, shape, num_classes, name: as of `Items`.
    """

    dataset: Any
    length: int
    collate: Collate = default_collate
    shape: tuple[int, ...] | None = None
    num_classes: int | None = None
    name: str = "the data"

    def __len__(self) -> int:
        return self.length


class ItemLoader(EpochLoader):
    """Iterates over batches of `Items` or a `Stream`, with the promises of `EpochLoader`.

    Random numbers that a sample draws from torch's, NumPy's or Python's global generators are a function of seed, epoch
    and its number; in a stream, of seed, epoch and all samples before it. A stream is read by one worker process, or by
    the training process; each of several training processes reads all of it and keeps its part, and a resumed run reads
    up to where it stopped.

    Args:
        items: at least batch_size of them.
        batch_size, shuffle, seed, drop_last: as of `EpochLoader`; a stream has its own order.
        workers: processes that read.

    Raises:
        TypeError, ValueError: as `EpochLoader`. In use: InputError with the user's file and line, the sample's number
            and the error as its cause, where the data set raises one.
    """

    def __init__(
        self,
        items: Items | Stream,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int = 0,
        drop_last: bool = False,
        workers: int = 0,
    ) -> None:
        super().__init__(len(items), batch_size, shuffle=shuffle, seed=seed, drop_last=drop_last)
        self.items = items
        if isinstance(items, Stream):
            self._workers: Workers[tuple[int, list[int]], Any] = Workers(_StreamBatches(items, seed), min(workers, 1))
        else:
            self._workers = Workers(_ItemBatches(items, seed), workers)

    def _order(self, epoch: int) -> Tensor:
        if isinstance(self.items, Stream):
            return torch.arange(self.count)
        if self.items.sampler is None or not self.shuffle:
            return super()._order(epoch)
        generator = epoch_generator(self.seed, epoch)
        own = getattr(self.items.sampler, "generator", None)
        if isinstance(own, torch.Generator):
            own.manual_seed(generator.initial_seed())
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(generator.initial_seed())
            return torch.tensor([int(index) for index in self.items.sampler], dtype=torch.int64)

    def _batches(self, epoch: int, chosen: Sequence[Tensor]) -> Iterator[Any]:
        for batch in self._workers([(epoch, part.tolist()) for part in chosen]):
            if isinstance(batch, _Failure):
                where = f"{batch.where}: " if batch.where else ""
                raise InputError(
                    f"{self.items.name}: {where}{batch.text} ({batch.what} of epoch {epoch + 1})"
                ) from batch.error
            yield batch


@dataclass(frozen=True)
class _Failure:
    """What a data set raised, in whichever process."""

    where: str
    text: str
    what: str
    error: Exception

    @classmethod
    def of(cls, error: Exception, dataset: object, what: str) -> _Failure:
        """Return it; an error that cannot go from process to process stands as its text."""
        text = " ".join(f"{type(error).__name__}: {error}".split())[:400]
        where = users_line(error, _folder_of(dataset)) or _last_line(error)
        try:
            pickle.loads(pickle.dumps(error))
            kept = error
        except Exception:  # pickling code of the user's, which may raise anything
            kept = RuntimeError("".join(traceback.format_exception(error)))
        return cls(where, text, what, kept)


def _folder_of(dataset: object) -> Path:
    try:
        return Path(inspect.getfile(type(dataset))).resolve().parent
    except (TypeError, OSError):
        return Path.cwd()


def _last_line(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}:{frame.lineno}, in {frame.name}"


class _ItemBatches:
    def __init__(self, items: Items, seed: int) -> None:
        self._items, self._seed = items, seed

    def __call__(self, key: tuple[int, list[int]]) -> Any:
        epoch, indices = key
        samples: list[Any] = []
        for index in indices:
            try:
                with _drawing(_Generators.seeded(self._seed, epoch, index)):
                    samples.append(_tensors(self._items.dataset[index]))
            except Exception as error:  # code of the user may raise anything, and it is told, not swallowed
                return _Failure.of(error, self._items.dataset, f"sample {index}")
        return _collated(self._items.collate, samples, self._items.dataset, f"samples {indices[0]}, … {indices[-1]}")


class _StreamBatches:
    """Keeps its place in the stream, as it is asked for one batch after the other."""

    def __init__(self, stream: Stream, seed: int) -> None:
        self._stream, self._seed = stream, seed
        self._epoch, self._place = -1, 0
        self._samples: Iterator[Any] = iter(())
        self._generators = _Generators.seeded(seed, 0, 0)

    def __call__(self, key: tuple[int, list[int]]) -> Any:
        epoch, indices = key
        dataset = self._stream.dataset
        try:
            is_begun = epoch == self._epoch and self._place <= indices[0]
            if not is_begun:
                self._epoch, self._place, self._generators = epoch, 0, _Generators.seeded(self._seed, epoch, 0)
            with _drawing(self._generators):
                if not is_begun:
                    if hasattr(dataset, "set_epoch"):
                        dataset.set_epoch(epoch)
                    self._samples = iter(dataset)
                samples = self._read(indices)
        except Exception as error:  # code of the user may raise anything, and it is told, not swallowed
            self._epoch = -1
            return _Failure.of(error, dataset, f"sample {self._place}")
        return _collated(self._stream.collate, samples, dataset, f"samples {indices[0]}, … {indices[-1]}")

    def _read(self, indices: list[int]) -> list[Any]:
        wanted = set(indices)
        samples: list[Any] = []
        while len(samples) < len(indices):
            try:
                sample = next(self._samples)
            except StopIteration:
                raise ValueError(
                    f"it ended after {self._place} samples of an epoch, and its length is {len(self._stream)}"
                ) from None
            if self._place in wanted:
                samples.append(_tensors(sample))
            self._place += 1
        return samples


class _Generators:
    """States of the global generators of torch, NumPy and Python."""

    def __init__(self) -> None:
        self.states = (torch.get_rng_state(), np.random.get_state(), random.getstate())  # noqa: NPY002 - that of users

    @classmethod
    def seeded(cls, seed: int, epoch: int, index: int) -> _Generators:
        """Return the states that depend on these numbers alone."""
        before = cls()
        drawn = sample_random(seed, epoch, index)
        torch.default_generator.manual_seed(drawn.getrandbits(63))
        np.random.seed(drawn.getrandbits(32))  # noqa: NPY002
        random.seed(drawn.getrandbits(63))
        result = cls()
        before.restore()
        return result

    def restore(self) -> None:
        """Bring them into force."""
        torch.set_rng_state(self.states[0])
        np.random.set_state(self.states[1])  # noqa: NPY002
        random.setstate(self.states[2])

    def keep(self) -> None:
        """Take those in force."""
        self.states = _Generators().states


@contextmanager
def _drawing(generators: _Generators) -> Iterator[None]:
    """Draw from these generators inside, and let them keep how far they got."""
    before = _Generators()
    generators.restore()
    try:
        yield
    finally:
        generators.keep()
        before.restore()


def _collated(collate: Collate, samples: list[Any], dataset: object, what: str) -> Any:
    try:
        return collate(samples)
    except Exception as error:  # the user's samples, or collate, may make it raise anything
        return _Failure.of(error, dataset, f"the batch of {what}")


def _tensors(sample: Any) -> Any:
    """Return a sample with Pillow's pictures as tensors."""
    if isinstance(sample, Image.Image):
        return to_pixels(sample.convert("L" if sample.mode in ("1", "L") else "RGB"))
    if isinstance(sample, tuple) and not hasattr(sample, "_fields"):
        return tuple(map(_tensors, sample))
    if isinstance(sample, list):
        return list(map(_tensors, sample))
    if isinstance(sample, dict):
        return {key: _tensors(value) for key, value in sample.items()}
    return sample
