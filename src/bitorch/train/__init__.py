"""Training on Lightning: settings in, checkpoints and a result out; and a module for your own Trainer.

from bitorch.train import Settings, fit
result = fit(Settings(data="digits", model="lenet-8", bits=(1, 2, 6), epochs=30))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..torchvision_operators import import_torchvision_if_installed
from .settings import Settings as Settings

# Lightning imports torchmetrics, which imports torchvision where it is installed and fails with one that does not fit.
import_torchvision_if_installed()

if TYPE_CHECKING:
    from .checkpoint import Checkpoint as Checkpoint
    from .checkpoint import read_checkpoint as read_checkpoint
    from .checkpoint_io import AtomicCheckpointIO as AtomicCheckpointIO
    from .classifier import Classifier as Classifier
    from .distillation import Distillation as Distillation
    from .evaluation import Evaluation as Evaluation
    from .evaluation import evaluate as evaluate
    from .guard import NonFiniteError as NonFiniteError
    from .quantization_schedule import QuantizationSchedule as QuantizationSchedule
    from .run import Result as Result
    from .run import Run as Run
    from .run import fit as fit
    from .run import prepare as prepare
    from .schedule import Schedule as Schedule
    from .settings_file import read_settings as read_settings
    from .stopping import Interrupted as Interrupted
    from .task import Task as Task
    from .trainable import Trainable as Trainable
    from .trained import load_model as load_model
    from .warm_start import Stage as Stage
    from .warm_start import WarmStart as WarmStart

# Lightning takes seconds to import, which `bitorch train --help` and a mistyped flag need not wait for.
_HOMES = {
    "AtomicCheckpointIO": "checkpoint_io",
    "Checkpoint": "checkpoint",
    "Classifier": "classifier",
    "Distillation": "distillation",
    "Evaluation": "evaluation",
    "Interrupted": "stopping",
    "NonFiniteError": "guard",
    "QuantizationSchedule": "quantization_schedule",
    "Result": "run",
    "Run": "run",
    "Schedule": "schedule",
    "Stage": "warm_start",
    "Task": "task",
    "Trainable": "trainable",
    "WarmStart": "warm_start",
    "evaluate": "evaluation",
    "fit": "run",
    "load_model": "trained",
    "prepare": "run",
    "read_checkpoint": "checkpoint",
    "read_settings": "settings_file",
}
_EXTRA = ("lightning", "tensorboard", "torchmetrics", "rich", "yaml")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _EXTRA:
            raise
        raise ImportError(
            f'{__name__}.{name} needs {error.name}: pip install ".[train]" in a checkout of bitorch', name=error.name
        ) from error
