"""What a checkpoint holds, and whether it fits."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..conversion.rules import Rule
from ..conversion.rules_file import rules_from
from ..data import normalized
from ..differences import differences
from ..models import build, is_named
from ..quantizations import Quantization
from ..quantizations.bits import FLOAT_BITS
from ..state_dict_file import state_dict_of
from ..tensor_file import load_tensor_file, why_no_plain_tensor
from .content import Part
from .settings import Settings
from .trainable import CHECKPOINT_KEY

_PREFIX = "model."
#: What no data set has: so that sizes that a damaged file claims are refused before memory is asked for.
_MOST_CLASSES, _MOST_PIXELS = 10**7, 2**16


@dataclass(frozen=True)
class Checkpoint:
    """A training checkpoint as read from its file.

    Attributes:
        path: the file.
        settings: of the run, None if it was trained from Python without any.
        input_shape: of one image, [C, H, W]; None like settings.
        num_classes: width of the outputs; None where only an own loss knows it.
        state_dict: of the model, without prefix, on the CPU; of any module as it stands there.
        epoch: epochs that were finished.
        step: optimizer steps that were made.
        history: one row per finished epoch.
        bits: of each low-bit layer when it was written, [weight, activation, gradient]; in a warm start others than at
            the end.
        rules: that the model was converted by, None if the settings have its bits.
        teacher: fingerprint of the net that the run learns from, None if it learns from the labels alone.
        class_names: one for each class, None where the data set has none.
        data_fingerprint: what tells the files of its data set from others, None where their name says it.
        model_sha256: of the source of a model of the user's own; None of architectures with a name, and where there is
            no source.
        of_any_module: whether another module than a Trainable wrote it, so that its tensors are all that is known.
    """

    path: Path
    settings: Settings | None
    input_shape: tuple[int, int, int] | None
    num_classes: int | None
    state_dict: dict[str, Tensor]
    epoch: int
    step: int
    history: tuple[dict[str, float], ...]
    bits: dict[str, list[int]]
    rules: list[Rule] | None
    teacher: str | None
    model_sha256: str | None
    class_names: tuple[str, ...] | None = None
    data_fingerprint: str | None = None
    of_any_module: bool = False

    def __str__(self) -> str:
        if self.settings is None:
            return str(self.path)
        return f"{self.path} ({self.settings.model}, {self.settings.bits_text})"


def read_checkpoint(path: str | Path, *, any_module: bool = False) -> Checkpoint:
    """Read a checkpoint that `fit`, or a Trainer with a Classifier, has written. No code in the file is run.

    Args:
        path: the file.
        any_module: read also that of a Trainer with any other module, and a file with a state dict alone.

    Raises:
        FileNotFoundError: no such file. IsADirectoryError: a run's folder.
        ValueError: not such a checkpoint, a damaged one, or one with settings that this version does not know.
    """
    path = Path(path)
    content = _read(path)
    if any_module and not (isinstance(content.value, Mapping) and CHECKPOINT_KEY in content.value):
        return _of_any_module(path, content)
    _check_of_classifier(path, content)
    with naming(path):
        return _checkpoint(path, content)


def read_content(path: Path) -> Part:
    """Return all that a checkpoint holds, with the parts that every one of a Classifier has; errors as above."""
    content = _read(path)
    _check_of_classifier(path, content)
    return content


def _read(path: Path) -> Part:
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a checkpoint in it, such as {path / 'best.ckpt'}")
    if not path.exists():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    if not path.is_file():
        raise ValueError(f"{path} is not a checkpoint: it is no ordinary file")
    return Part(load_tensor_file(path, "not a checkpoint"), "")


def _check_of_classifier(path: Path, content: Part) -> None:
    if not isinstance(content.value, Mapping) or CHECKPOINT_KEY not in content.value:
        raise ValueError(
            f"{path} is a PyTorch file, but not a checkpoint of bitorch's Classifier; of one with the weights of your "
            "own model, name what makes it with --model FILE.py:NAME, where that is an option"
        )


def _of_any_module(path: Path, content: Part) -> Checkpoint:
    """Return what there is to know of a checkpoint of another module, or of a state dict alone: its tensors."""
    state = state_dict_of(content.value, path)
    for name, tensor in state.items():
        if why := why_no_plain_tensor(tensor):
            raise ValueError(f"{path} holds no weights that can be copied: {name}: {why}")
    return Checkpoint(
        path=path,
        settings=None,
        input_shape=None,
        num_classes=None,
        state_dict=state,
        epoch=0,
        step=0,
        history=(),
        bits={},
        rules=None,
        teacher=None,
        model_sha256=None,
        of_any_module=True,
    )


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn a ValueError about what a checkpoint holds into one that names the file and says what to do."""
    try:
        yield
    except ValueError as error:
        why = " ".join(str(error).split())  # a value in it, such as a tensor, may take several lines
        raise ValueError(
            f"{path} is not a whole checkpoint: {why}. Take another one, such as last.ckpt or best.ckpt beside it"
        ) from None


def _checkpoint(path: Path, content: Part) -> Checkpoint:
    own = content[CHECKPOINT_KEY]
    info = own["info"]
    settings, shape, rules, teacher = (info.get(name) for name in ("settings", "input_shape", "rules", "teacher"))
    class_names, data_fingerprint = info.get("class_names"), info.get("data_fingerprint")
    sha256 = info.get("model_sha256")
    recorder = None if (callbacks := content.get("callbacks")) is None else callbacks.get("RunRecorder")
    bits = own.get("bits")
    checkpoint = Checkpoint(
        path=path,
        settings=None if settings is None else settings.plain(_settings),
        input_shape=None if shape is None else _input_shape(shape),
        num_classes=_outputs(own),
        state_dict={
            name.removeprefix(_PREFIX): part.tensor()
            for name, part in content["state_dict"].items()
            if name.startswith(_PREFIX)
        },
        epoch=epochs_finished(content),
        step=content["global_step"].integer(),
        history=() if recorder is None else tuple(_row(row) for row in recorder["history"].list()),
        bits={} if bits is None else {name: _bits(part) for name, part in bits.items()},
        rules=None if rules is None or rules.value is None else rules.plain(rules_from),
        teacher=None if teacher is None or teacher.value is None else teacher.text(),
        class_names=None if class_names is None else tuple(name.text() for name in class_names.list()),
        data_fingerprint=None if data_fingerprint is None else data_fingerprint.text(),
        model_sha256=None if sha256 is None or sha256.value is None else sha256.text(),
    )
    _check_consistent(checkpoint)
    return checkpoint


def _settings(fields: object) -> Settings:
    if not isinstance(fields, Mapping):
        raise ValueError(f"must be a mapping, got {type(fields).__name__}")
    return Settings.from_dict(fields)


def _input_shape(part: Part) -> tuple[int, int, int]:
    channels, height, width = (item.integer(least=1, most=_MOST_PIXELS) for item in part.list(3))
    return channels, height, width


def _outputs(own: Part) -> int | None:
    """Return the width of the outputs: classes, labels or values; None where only an own loss knows."""
    part, task = own["num_classes"], own.get("task")
    is_of_classes = task is None or task["best"].text() in ("acc", "top5", "miou", "pixel_acc")
    if part.value is None and not is_of_classes:
        return None
    return part.integer(least=2 if is_of_classes else 1, most=_MOST_CLASSES)


def _bits(part: Part) -> list[int]:
    return [item.integer(least=1, most=FLOAT_BITS) for item in part.list(3)]


def _row(part: Part) -> dict[str, float]:
    return {name: value.number() for name, value in part.items()}


def _check_consistent(checkpoint: Checkpoint) -> None:
    """Raise a ValueError where settings and class names are not those of the images."""
    if checkpoint.class_names is not None and len(checkpoint.class_names) != checkpoint.num_classes:
        raise ValueError(f"it has {len(checkpoint.class_names)} class names for {checkpoint.num_classes} classes")
    settings, shape = checkpoint.settings, checkpoint.input_shape
    if settings is not None and shape is not None and settings.pad_to and shape[1:] != (settings.pad_to,) * 2:
        raise ValueError(f"its settings pad images to {settings.pad_to}, and its images are {list(shape)}")


def check_builds(checkpoint: Checkpoint) -> None:
    """Raise a ValueError unless a checkpoint's own weights fit the net that its settings describe.

    Without memory for the net: settings may describe one of any size.
    """
    settings, shape, got = checkpoint.settings, checkpoint.input_shape, checkpoint.state_dict
    if settings is None or shape is None or checkpoint.num_classes is None:
        return
    with naming(checkpoint.path):
        largest = max((size for tensor in got.values() for size in tensor.shape), default=0)
        if max(shape[0], checkpoint.num_classes) > largest:
            raise ValueError(f"no weight is for {shape[0]} channels and {checkpoint.num_classes} classes")
        if not is_named(settings.model):  # not all others can be built without memory, and one's own code is not run
            return
        try:
            with torch.device("meta"), torch.random.fork_rng(devices=[]), torch.no_grad():
                net = build(settings.model, shape[0], checkpoint.num_classes, settings.width)
                model = normalized(net, settings.data_options.normalization).eval()
                if found := differences(model.state_dict(), {key: t for key, t in got.items() if key in _keys(model)}):
                    raise ValueError(f"its weights are not of the model {settings.model}: {found}")
                model(torch.zeros(2, *shape))
        except (RuntimeError, OverflowError, TypeError) as error:
            raise ValueError(f"its model {settings.model} cannot be built for images {list(shape)}: {error}") from None


def _keys(model: nn.Module) -> Container[str]:
    return model.state_dict().keys()


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


def epochs_finished(content: Part) -> int:
    """Return how many epochs a checkpoint's run has finished."""
    return content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"].integer()
