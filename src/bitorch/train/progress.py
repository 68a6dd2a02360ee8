"""What a run prints."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.utilities import rank_zero_only

from .warm_start import AT_TARGET, METRICS

_LIGHTNING_LOGGERS = ("lightning.pytorch", "lightning.fabric")
_BAR_REFRESH_STEPS = 10


def is_first_process() -> bool:
    """Return whether this process is the one that prints and writes, also before the processes have met."""
    return int(rank_zero_only.rank) == 0  # type: ignore[attr-defined]  # Lightning sets it on the function


def progress_bar() -> list[Callback]:
    """Return a progress bar if the output is a terminal, where a line can be rewritten; else none."""
    return [_EpochBar(refresh_rate=_BAR_REFRESH_STEPS)] if sys.stdout.isatty() else []


#: Metrics that are shares, from 0 to 1, and shown in per cent.
_SHARES = ("acc", "top5", "f1", "exact", "miou", "pixel_acc")


def epoch_line(row: dict[str, float], epochs: int, metric: str = "acc") -> str:
    """Return an epoch's row of the history as one line of text, with a metric beside the loss."""
    width = len(str(epochs))
    parts = [
        f"epoch {int(row['epoch']):{width}}/{epochs}",
        *(_losses(row, part, metric) for part in ("train", "val")),
        f"lr {row['lr']:.1e}",
    ]
    if AT_TARGET in row:
        parts.append(f"bits {' '.join(str(int(row[metric])) for metric in METRICS)}")
    return "  ".join(parts)


def _losses(row: dict[str, float], part: str, metric: str) -> str:
    loss, name = f"{part} loss {row[f'{part}/loss']:.3f}", f"{part}/{metric}"
    return loss if metric == "loss" or name not in row else f"{loss} {metric} {value_text(metric, row[name])}"


def value_text(metric: str, value: float) -> str:
    """Return a metric's value for people: shares in per cent."""
    return f"{value:.2%}" if metric in _SHARES else f"{value:.4g}"


class _EpochBar(RichProgressBar):
    """Counts epochs from 1, as our lines do, and leaves out the name of the log's folder."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        items = super().get_metrics(trainer, pl_module)
        items.pop("v_num", None)
        return items

    def _get_train_description(self, current_epoch: int) -> str:
        return f"epoch {current_epoch + 1}/{self.trainer.max_epochs}"


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's remarks on hardware, tips and stop reasons to itself inside; its warnings still come."""
    loggers = [logging.getLogger(name) for name in _LIGHTNING_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # Lightning's own use of a PyTorch name that PyTorch now deprecates.
        warnings.filterwarnings("ignore", message="`isinstance\\(treespec, LeafSpec\\)` is deprecated")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
