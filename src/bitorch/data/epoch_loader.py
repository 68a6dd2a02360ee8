"""What every loader here promises: whose sample comes when, and how a pass goes on in the middle."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Tensor


class EpochLoader(ABC):
    """Iterates over batches of numbered samples.

    The order of epoch e is a permutation that depends on seed and e alone. `set_epoch` chooses the epoch; a pass that
    reaches its end moves on to the next by itself.

    Where torch.distributed is initialized, the processes share each epoch's order, and all make equally many batches.
    Training (shuffle or drop_last) gives each of them equally many samples and leaves out the rest: batch i of all
    together is batch i of a single process with as many times the batch size. Evaluation uses every sample once.

    `state_dict` counts the batches handed out, so it belongs to the moment after a training step; a loader that
    restores it goes on with the next batch of the same order. A Lightning Trainer saves and restores it with its
    checkpoints, hands out one batch for each step without looking ahead, and sets the epoch.

    Args:
        count: samples, at least batch_size.
        batch_size: samples per batch and process.
        shuffle: a new random order for each epoch; otherwise the order of the samples.
        seed: the order's seed.
        drop_last: leave out a last batch that would be smaller.

    Raises:
        TypeError, ValueError: no samples, a batch size outside 1…count, arguments of another type. In use: more
            processes than samples, or no whole batch for each of them.
    """

    #: Lightning reads it where there is a `sampler`. The loader makes its batches itself.
    batch_sampler: ClassVar[None] = None

    def __init__(self, count: int, batch_size: int, *, shuffle: bool, seed: int = 0, drop_last: bool = False) -> None:
        check_int("batch_size", batch_size)
        check_int("seed", seed)
        if count == 0:
            raise ValueError("images is empty: there is nothing to load")
        if not 1 <= batch_size <= count:
            raise ValueError(f"batch_size must be in 1…{count}, the number of images, got {batch_size}")
        self.count = count
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self._epoch = 0
        self._batches_done = 0
        self._next_start = 0  # the first batch of the next pass; only after load_state_dict not 0

    @property
    def sampler(self) -> EpochLoader:
        """The loader itself: Lightning calls `set_epoch` on a loader's sampler, not on the loader."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass. The epoch that a restored loader is in the middle of goes on.

        Raises:
            TypeError, ValueError: epoch is not an int of at least 0.
        """
        check_int("epoch", epoch, minimum=0)
        if epoch != self._epoch:
            self._epoch, self._batches_done, self._next_start = epoch, 0, 0

    def __len__(self) -> int:
        """Return the number of batches of a whole pass in this process, also in the middle of an epoch."""
        return len(self._ends())

    def __iter__(self) -> Iterator[Any]:
        # A generator, so nothing below runs before the first batch is asked for: Lightning makes an iterator first, and
        # sets the epoch then.
        epoch, start = self._epoch, self._next_start
        self._batches_done, self._next_start = start, 0
        ends = self._ends()
        rank, world_size = rank_and_world_size()
        mine = self._order(epoch)[rank::world_size]
        chosen = [mine[ends[index - 1] if index else 0 : ends[index]] for index in range(start, len(ends))]
        for index, batch in enumerate(self._batches(epoch, chosen), start):
            self._batches_done = index + 1
            yield batch
        self._epoch, self._batches_done = epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of its batches that were handed out."""
        return {"epoch": self._epoch, "batch": self._batches_done}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Let the next pass go on after the batches that the state counts.

        Raises:
            TypeError, ValueError: state is not one of `state_dict`, or counts more batches than there are.
        """
        if set(state) != {"epoch", "batch"}:
            raise ValueError(f"the state of a {type(self).__name__} has the keys epoch and batch, got {sorted(state)}")
        check_int("epoch", state["epoch"], minimum=0)
        check_int("batch", state["batch"], minimum=0)
        if state["batch"] > len(self):
            raise ValueError(
                f"the state is after batch {state['batch']} of an epoch, but an epoch has {len(self)} batches; "
                "load it with the data, batch size and number of processes that it was saved with"
            )
        self._epoch = state["epoch"]
        self._batches_done = self._next_start = state["batch"]

    @abstractmethod
    def _batches(self, epoch: int, chosen: Sequence[Tensor]) -> Iterator[Any]:
        """Yield a batch for each of these int64 tensors of sample numbers."""

    def _order(self, epoch: int) -> Tensor:
        """Return the order of all samples in an epoch, int64 [N]."""
        if not self.shuffle:
            return torch.arange(self.count)
        return torch.randperm(self.count, generator=epoch_generator(self.seed, epoch))

    def _ends(self) -> list[int]:
        """Return the ends of this process's batches in its share of the order."""
        rank, world_size = rank_and_world_size()
        least = self.count // world_size
        most = -(-self.count // world_size)
        if least == 0:
            raise ValueError(f"{self.count} images cannot be shared out to {world_size} processes")
        if self.drop_last:
            count = least // self.batch_size
            if count == 0:
                raise ValueError(
                    f"each of {world_size} processes has {least} images, less than one batch of {self.batch_size}; "
                    "choose a smaller batch_size or drop_last=False"
                )
            return [(index + 1) * self.batch_size for index in range(count)]
        if self.shuffle:
            share = most = least
        else:
            share = len(range(rank, self.count, world_size))
        # Every process must make equally many batches: DistributedDataParallel broadcasts buffers in each forward, in
        # evaluation too. A share that has no sample left for the last batch keeps one back from the batch before.
        count = min(-(-most // self.batch_size), least)
        return [min((index + 1) * self.batch_size, share - (count - 1 - index)) for index in range(count - 1)] + [share]


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Return a generator that depends on seed and epoch alone."""
    # Hashed, because with a sum epoch 1 of seed 0 would be epoch 0 of seed 1.
    digest = hashlib.sha256(f"{seed}, {epoch}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))


def rank_and_world_size() -> tuple[int, int]:
    """Return this process's number and how many train together."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def check_int(name: str, value: int, minimum: int | None = None) -> None:
    """Raise a TypeError or ValueError that names the argument unless it is an int of at least the minimum."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {value!r}")
    if minimum is not None and value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")
