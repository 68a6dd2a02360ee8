"""The record of a run: history, metrics.csv, and the checkpoints last.ckpt and best.ckpt."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint

from .files import link_atomically, write_atomically
from .lost_folder import check_folder
from .warm_start import AT_TARGET

Row = dict[str, float]
BEST_NAME = "best.ckpt"


def is_at_target(row: Row) -> bool:
    """Return whether an epoch's layers had the bits that they have at the end."""
    return row.get(AT_TARGET, 1.0) == 1.0


def is_better(value: float, than: float, larger_is_better: bool) -> bool:
    """Return whether a value is better than another one; any number is better than NaN."""
    if math.isnan(than):
        return not math.isnan(value)
    return value > than if larger_is_better else value < than


def best_of(history: Sequence[Row], column: str, larger_is_better: bool) -> float:
    """Return the best value of a column in the epochs whose layers had their own bits."""
    best = math.nan
    for row in history:
        if is_at_target(row) and is_better(row[column], best, larger_is_better):
            best = row[column]
    return best


class RunStopped(BaseException):
    """Ends Trainer.fit after the checkpoint for a stop request was written. As KeyboardInterrupt, not an Exception."""


class RunRecorder(Checkpoint):
    """Keeps one row per epoch, and after each epoch writes metrics.csv and last.ckpt; best.ckpt if it is the best.

    Epochs of a warm start, whose layers have other bits than at the end, are never the best.

    Lightning's ModelCheckpoint and CSVLogger do most of this, but a resumed CSVLogger deletes the rows from before, and
    ModelCheckpoint stores absolute paths, forgets the best when the folder was moved, and writes each file separately.

    Args:
        folder: of the run.
        on_epoch: called on the first process with each new row.
        is_stop_requested: asked after each step; if true on any process, all stop, with a checkpoint: RunStopped.
        best: the column of the history that says which epoch is the best.
        larger_is_better: whether that is the one with the largest value.
    """

    def __init__(
        self,
        folder: Path,
        on_epoch: Callable[[Row], None],
        is_stop_requested: Callable[[], bool],
        *,
        best: str = "val/acc",
        larger_is_better: bool = True,
    ) -> None:
        self.folder = folder
        self.history: list[Row] = []
        self._on_epoch = on_epoch
        self._is_stop_requested = is_stop_requested
        self._best, self._larger_is_better = best, larger_is_better
        self._started = 0.0
        self._seconds = 0.0
        self._steps = 0
        self._had_folder = False

    @property
    def last_path(self) -> Path:
        """The checkpoint to resume from."""
        return self.folder / "last.ckpt"

    @property
    def best_path(self) -> Path:
        """The checkpoint of the best epoch; of the first of them if there are several."""
        return self.folder / BEST_NAME

    def state_dict(self) -> dict[str, Any]:
        """Return the history, for the checkpoint."""
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the history of a checkpoint."""
        self.history = list(state_dict["history"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock: in an epoch that is resumed in the middle, on_train_epoch_start is not called."""
        self._had_folder = trainer.is_global_zero and self.folder.is_dir()  # other processes may have another folder
        self._restart_clock()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._restart_clock()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the step; write a checkpoint and stop if that was requested."""
        self._seconds = time.perf_counter() - self._started
        self._steps += 1
        self._check_folder()
        # After an epoch's last batch the epoch is finished first: its validation belongs to it.
        if not trainer.is_last_batch and self._shall_stop(trainer):
            trainer.save_checkpoint(self.last_path)
            raise RunStopped

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the epoch. Lightning calls Checkpoint callbacks after the module, so its metrics are there."""
        row = self._row(trainer)
        is_best = is_at_target(row) and self._is_best(row)
        self.history.append(row)
        self._check_folder()  # or the checkpoint would make a new one, without the rest of the run
        trainer.save_checkpoint(self.last_path)
        if trainer.is_global_zero:
            if is_best:
                link_atomically(self.last_path, self.best_path)
            self._write_csv()
            self._on_epoch(row)
        # After the last epoch there is nothing left to stop.
        if row["epoch"] != trainer.max_epochs and self._shall_stop(trainer):
            raise RunStopped

    def _is_best(self, row: Row) -> bool:
        earlier = [past for past in self.history if is_at_target(past)]
        return not earlier or is_better(
            row[self._best], best_of(earlier, self._best, self._larger_is_better), self._larger_is_better
        )

    def _check_folder(self) -> None:
        if self._had_folder:
            check_folder(self.folder)

    def _restart_clock(self) -> None:
        self._seconds, self._steps = 0.0, 0
        self._started = time.perf_counter()

    def _shall_stop(self, trainer: pl.Trainer) -> bool:
        if trainer.world_size == 1:
            return self._is_stop_requested()
        # A signal reaches the processes at different steps, or only one of them.
        return bool(trainer.strategy.reduce_boolean_decision(self._is_stop_requested(), all=False))

    def _row(self, trainer: pl.Trainer) -> Row:
        row: Row = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        row.update({name: value.item() for name, value in trainer.callback_metrics.items()})
        # Of an epoch that was resumed in the middle, only the steps since then.
        row["seconds_per_step"] = self._seconds / self._steps
        return row

    def _write_csv(self) -> None:
        text = io.StringIO(newline="")
        columns = dict.fromkeys(name for row in self.history for name in row)  # a checkpoint's rows may have others
        writer = csv.DictWriter(text, list(columns))
        writer.writeheader()
        writer.writerows(self.history)
        write_atomically(self.folder / "metrics.csv", lambda file: file.write(text.getvalue().encode()))
