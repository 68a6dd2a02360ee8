"""What a checkpoint holds, and whether it fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..conversion.quantize import quantize_
from ..conversion.rules import Rule
from ..conversion.rules_file import rules_from
from ..models import build
from ..quantizations import Quantization
from .bits_in_force import bring_into_force
from .classifier import CHECKPOINT_KEY
from .differences import differences
from .settings import Settings
from .tensor_file import load_tensor_file

_PREFIX = "model."


@dataclass(frozen=True)
class Checkpoint:
    """A training checkpoint as read from its file.

    Attributes:
        path: the file.
        settings: of the run, None if it was trained from Python without any.
        input_shape: of one image, [C, H, W]; None like settings.
        num_classes: width of the logits.
        state_dict: of the model, without prefix, on the CPU.
        epoch: epochs that were finished.
        step: optimizer steps that were made.
        history: one row per finished epoch.
        bits: of each low-bit layer when it was written, [weight, activation, gradient]; in a warm start others than at
            the end.
        rules: that the model was converted by, None if the settings have its bits.
        teacher: fingerprint of the net that the run learns from, None if it learns from the labels alone.
    """

    path: Path
    settings: Settings | None
    input_shape: tuple[int, int, int] | None
    num_classes: int
    state_dict: dict[str, Tensor]
    epoch: int
    step: int
    history: tuple[dict[str, float], ...]
    bits: dict[str, list[int]]
    rules: list[Rule] | None
    teacher: str | None

    def __str__(self) -> str:
        if self.settings is None:
            return str(self.path)
        return f"{self.path} ({self.settings.model}, {self.settings.bits_text})"


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint that `fit`, or a Trainer with a Classifier, has written. No code in the file is run.

    Raises:
        FileNotFoundError: no such file. IsADirectoryError: a run's folder.
        ValueError: not such a checkpoint, or one with settings that this version does not know.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a checkpoint in it, such as {path / 'best.ckpt'}")
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    content = load_tensor_file(path, "not a checkpoint")
    if not isinstance(content, Mapping) or CHECKPOINT_KEY not in content:
        raise ValueError(f"{path} is a PyTorch file, but not a checkpoint of bitorch's Classifier")
    own = content[CHECKPOINT_KEY]
    info = own["info"]
    state = {name.removeprefix(_PREFIX): t for name, t in content["state_dict"].items() if name.startswith(_PREFIX)}
    recorder = content.get("callbacks", {}).get("RunRecorder", {})
    return Checkpoint(
        path=path,
        settings=Settings.from_dict(info["settings"]) if "settings" in info else None,
        input_shape=tuple(info["input_shape"]) if "input_shape" in info else None,
        num_classes=own["num_classes"],
        state_dict=state,
        epoch=_epochs_finished(content),
        step=content["global_step"],
        history=tuple(recorder.get("history", ())),
        bits=own.get("bits", {}),
        rules=rules_from(info["rules"]) if "rules" in info else None,
        teacher=info.get("teacher"),
    )


def load_model(path: str | Path) -> nn.Module:
    """Return the trained model of a checkpoint of `fit`, low-bit as it was trained, in eval mode, on the CPU.

    Raises:
        FileNotFoundError, ValueError: as `read_checkpoint`; ValueError too if it holds no model that has a name here.
    """
    checkpoint = read_checkpoint(path)
    if checkpoint.settings is None or checkpoint.input_shape is None:
        raise ValueError(
            f"{checkpoint.path} does not say how its model is built; build the model and load "
            "read_checkpoint(path).state_dict into it"
        )
    with torch.random.fork_rng(devices=[]):  # the initial weights are thrown away, so they must not cost random numbers
        model = build(
            checkpoint.settings.model, checkpoint.input_shape[0], checkpoint.num_classes, checkpoint.settings.width
        )
    quantize_(model, checkpoint.settings.config if checkpoint.rules is None else checkpoint.rules)
    bring_into_force(model, checkpoint.bits)
    load_weights(model, checkpoint)
    return model.eval()


def load_weights(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Copy a checkpoint's parameters and buffers into a model; ValueError says what differs if they do not fit.

    Ranges of quantizers that the checkpoint lacks, as that of a float net does, stay as they are.
    """
    got = checkpoint.state_dict
    optional = {
        f"{name}.{key}"
        for name, module in model.named_modules()
        if isinstance(module, Quantization) and not any(key.startswith(f"{name}.") for key in got)
        for key in module.state_dict()
    }
    found = differences({key: value for key, value in model.state_dict().items() if key not in optional}, got)
    if found:
        raise ValueError(f"the checkpoint {checkpoint} does not fit the model {type(model).__name__}: {found}")
    model.load_state_dict(checkpoint.state_dict)


def _epochs_finished(content: Mapping[str, Any]) -> int:
    return int(content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])
