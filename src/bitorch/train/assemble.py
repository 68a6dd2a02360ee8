"""What a run is made of: its data, its task and its model, low-bit and with the weights that it starts from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..calibration.calibrate import Calibration, calibrate
from ..conversion.rules import Rule
from ..conversion.rules_file import load_rules
from ..conversion.table import Conversion
from ..data import Dataset, EpochLoader, PictureAugmentation, loader, normalized
from ..known_names import GIVEN_PREFIX, is_given
from ..models.own import GivenNet
from ..outputs import logits_of
from ..own_code import OwnCode, is_own, users_line
from ..quantizations import RangeQuantization
from .already_low_bit import common_bits, make_low_bit
from .checkpoint import Checkpoint, check_builds, load_weights, read_checkpoint
from .hardware import check_hardware
from .net_source import NetSource, given_source, named_source
from .run_data import first_call, floats, is_structured, picture_shape, run_data
from .run_task import check_augmentation, run_task
from .settings import Settings
from .task import Task
from .teacher import Teacher, load_teacher
from .trainable import check_distils
from .trained import check_same_layers, of_this_net
from .warm_start import WarmStart
from .weights_file import load_weights_file

#: A resumed run keeps these: weights, optimizer state or place in the epoch belong to them.
_KEPT_ON_RESUME = (
    "data", "pad_to", "model", "width", "bits", "first", "last", "exact", "optimizer", "momentum", "nesterov", "eps",
    "weight_decay", "seed", "batch_size", "processes", "distil_weight", "distil_temperature", "range", "learned_by",
    "weights_method", "activations", "weight_scale", "group_size", "scale", "sign", "pad_value", "gradients", "rules",
    "warm_start", "warm_start_epochs", "image_size", "channels", "crop_share", "mean", "std", "val_share", "split_seed",
    "extra", "shards", "val_shards", "shuffle_buffer", "fake", "loss", "metric", "ignore_index",
)  # fmt: skip


@dataclass(frozen=True)
class Parts:
    """Data, the model that fits them, how it was converted, and the one that it learns from, if there is one.

    `own_bits` are those that most low-bit layers had when the model came with some, None of one that came float.
    """

    dataset: Dataset
    task: Task
    source: NetSource
    model: nn.Module
    conversion: Conversion
    calibration: Calibration | None
    teacher: Teacher | None
    rules: list[Rule] | None
    own_bits: tuple[int, int, int] | None


def assemble(
    settings: Settings, *, of: Path | None = None, model: GivenNet | None = None, data: Dataset | None = None
) -> Parts:
    """Load the images and build the model, without writing anything.

    Args:
        settings: of the run.
        of: a checkpoint that the settings come from; its rules count then, and not what their file has become.
        model, data: in place of those that the settings name.

    Raises:
        ValueError, TypeError: the model does not fit the data, a checkpoint or weights the settings, or the settings
            the machine.
        FileNotFoundError, OSError: missing data, checkpoint or weights. ImportError: a package that is not installed.
    """
    check_hardware(settings.accelerator, settings.devices)
    dataset = run_data(settings) if data is None else data
    if settings.batch_size * settings.processes > len(dataset.train):
        raise ValueError(
            f"batch_size must be at most {len(dataset.train) // settings.processes}, because there are "
            f"{len(dataset.train)} training images for {settings.processes} processes, got {settings.batch_size}"
        )
    places = (settings.resume, settings.init, of)
    checkpoints = {
        path: read_checkpoint(path, any_module=path in (settings.init, of))
        for path in dict.fromkeys(places)
        if path is not None
    }
    starts = [checkpoints[path] for path in (settings.resume, settings.init) if path is not None]
    for checkpoint in starts:
        check_builds(checkpoint)
    rules = _rules(settings, next((checkpoints[path] for path in (of, settings.resume) if path is not None), None))
    if model is None:
        source = named_source(settings.model, settings.width, seed=settings.seed)
    else:
        source = given_source(model, settings.width)
    net = _float_model(settings, dataset, source)
    task = run_task(settings, dataset, net)
    check_augmentation(settings, dataset, task)
    own_bits = common_bits(net)
    conversion = make_low_bit(net, settings, rules)
    net = normalized(net, dataset.normalization)
    _check_trainable(net, settings)
    start = warm_start(settings)
    if start is not None:
        start.check(net)
    if of is not None:
        check_same_layers(net, checkpoints[of])
    for checkpoint in starts:
        _load_start(net, settings, checkpoint, source)
    teacher = None if settings.distil is None else _teacher(settings.distil, settings, dataset, task)
    if settings.resume is not None:
        _check_same_files(checkpoints[settings.resume], dataset)
        _check_same_teacher(checkpoints[settings.resume], teacher)
    calibration = _calibration(net, dataset, settings)
    return Parts(dataset, task, source, net, conversion, calibration, teacher, rules, own_bits)


def warm_start(settings: Settings) -> WarmStart | None:
    """Return the warm start that the settings ask for."""
    if settings.warm_start is None:
        return None
    if settings.warm_start == "activations-first":
        return WarmStart.activations_first(settings.warm_start_epochs)
    return WarmStart.fewer_bits(settings.warm_start_epochs)


def _rules(settings: Settings, checkpoint: Checkpoint | None) -> list[Rule] | None:
    """Return the rules of the run: of their file, or of the checkpoint that it goes on from, if it has that file's."""
    if settings.rules is None:
        return None
    if checkpoint is not None and checkpoint.settings is not None and checkpoint.settings.rules == settings.rules:
        return checkpoint.rules
    return load_rules(settings.rules)


def _calibration(model: nn.Module, dataset: Dataset, settings: Settings) -> Calibration | None:
    """Calibrate on training batches if there is a range that no checkpoint has brought."""
    quantizers = [module for module in model.modules() if isinstance(module, RangeQuantization)]
    if not any(quantizer.max_code is not None and not quantizer.is_set for quantizer in quantizers):
        return None
    return calibrate(model, _calibration_batches(dataset, settings))


def _teacher(path: Path, settings: Settings, dataset: Dataset, task: Task) -> Teacher:
    check_distils(task)
    return load_teacher(path, dataset, task.outputs, settings.distil_model)


def _calibration_batches(dataset: Dataset, settings: Settings) -> Iterator[Any]:
    """Yield the first training batches, pictures as floats and not augmented."""
    for batch in islice(_loader(dataset, settings, None), settings.calibration_batches):
        yield floats(batch)


def _float_model(settings: Settings, dataset: Dataset, source: NetSource) -> nn.Module:
    """Build the float model, with weights from elsewhere if there are some."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)
        model = source.build(picture_shape(dataset), dataset.train.num_classes)
    # The layout that convolutions are fastest in, on CPUs and GPUs alike.
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # its overloads lack the memory format
    if is_structured(dataset):
        _check_takes_batches(model, dataset, settings, source)
    else:
        _check_model_fits(model, dataset, settings, source)
    if settings.batch_size == 1 and any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in model.modules()):
        raise ValueError(
            f"batch_size must be at least 2, because model {settings.model} has batch normalization, which needs "
            "several images to normalize over, got 1"
        )
    if settings.weights is not None:
        load_weights_file(
            model,
            settings.weights,
            dataset.num_classes,
            new_head=settings.new_head,
            sum_channels=settings.sum_channels,
        )
    return model


def train_loader(dataset: Dataset, settings: Settings) -> EpochLoader:
    """Return the training batches, whose order is a function of seed and epoch."""
    return _loader(dataset, settings, settings.picture_augmentation)


def test_loader(dataset: Dataset, settings: Settings) -> EpochLoader:
    """Return batches of the test images, in their order."""
    batch_size = min(2 * settings.batch_size, len(dataset.test))
    return loader(dataset.test, batch_size, shuffle=False, workers=settings.workers)


def _loader(dataset: Dataset, settings: Settings, transform: PictureAugmentation | None) -> EpochLoader:
    return loader(
        dataset.train,
        settings.batch_size,
        shuffle=True,
        seed=settings.seed,
        drop_last=True,
        workers=settings.workers,
        transform=transform,
    )


def _check_model_fits(model: nn.Module, dataset: Dataset, settings: Settings, source: NetSource) -> None:
    """Raise ValueError if the model cannot take the images, by showing it two blank ones."""
    shape = dataset.input_shape
    try:
        with torch.no_grad():
            output: object = model.eval()(torch.zeros(2, *shape))
    except Exception as error:  # code of the user may raise anything, and it is told, not swallowed
        if not _is_about_images(error, source):
            raise
        size = "×".join(map(str, shape))
        wanted = getattr(model, "image_size", 0)
        fits = isinstance(wanted, int) and wanted > max(shape[1:])
        hint = f". With --pad-to {wanted} the images are padded to that size" if fits else ""
        line = users_line(error, source.given.folder) if isinstance(source.given, OwnCode) else ""
        told = f"{line}: {type(error).__name__}: {error}" if line else error
        raise ValueError(
            f"model {settings.model} cannot take the {size} images of {settings.data}: {told}{hint}"
        ) from (None if source.given is None else error)
    finally:
        model.train()
    logits = logits_of(output, f"model {settings.model} must return logits, alone or under 'logits'")
    if logits.shape != (2, dataset.num_classes):
        raise ValueError(
            f"model {settings.model} returns {list(logits.shape)} for a batch of 2 images, "
            f"expected [2, {dataset.num_classes}]"
        )


def _check_takes_batches(model: nn.Module, dataset: Dataset, settings: Settings, source: NetSource) -> None:
    """Raise ValueError or TypeError if the model cannot be called with batches of the user's own data set."""
    batch = first_call(dataset, model, settings.batch_size)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            batch.copied().run(model.eval())
        except ValueError as error:
            cause = error if error.__cause__ is None else error.__cause__
            line = users_line(cause, source.given.folder) if isinstance(source.given, OwnCode) else ""
            where = f" ({line})" if line else ""
            raise ValueError(
                f"model {settings.model} cannot take batches of {settings.data}: {error}{where}"
            ) from cause
        finally:
            model.train()


def _is_about_images(error: Exception, source: NetSource) -> bool:
    """Whether an error of a net says that it does not take the images; in code of the user's own every error may."""
    return source.given is not None or isinstance(error, RuntimeError | ValueError | AssertionError)  # timm asserts


def _check_trainable(model: nn.Module, settings: Settings) -> None:
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(
            f"model {settings.model} has no parameter that requires a gradient, so there is nothing to train"
        )


def _load_start(model: nn.Module, settings: Settings, checkpoint: Checkpoint, source: NetSource) -> None:
    """Load the weights that the run starts from; ValueError if they, or a resumed run's settings, do not fit."""
    path = checkpoint.path
    load_weights(model, of_this_net(model, checkpoint))
    if settings.resume is None:
        return
    if checkpoint.settings is None:
        raise ValueError(f"the checkpoint {path} was not written by `fit`; use init to start from its weights")
    for name in _KEPT_ON_RESUME:
        before, now = getattr(checkpoint.settings, name), getattr(settings, name)
        if before == now or (name == "model" and source.given is not None and _is_own(before)):
            continue
        raise ValueError(
            f"{name} is {now!r}, but the run of {path} has {before!r} and keeps it when it is resumed; to start a "
            "new run from its weights use init instead of resume"
        )
    # A file that has changed is asked about before it is run; what is passed in Python is looked at here.
    before, now = checkpoint.model_sha256, source.sha256
    if source.is_passed and before is not None and now is not None and before != now:
        raise ValueError(
            f"the source of {settings.model.removeprefix(GIVEN_PREFIX)} has changed since the run of {path}, which "
            "keeps its model when it is resumed; to start a new run from its weights use init instead of resume"
        )
    if checkpoint.epoch >= settings.epochs:
        raise ValueError(f"the run of {path} has finished its {checkpoint.epoch} epochs; to go on, raise epochs")


def _check_same_files(checkpoint: Checkpoint, dataset: Dataset) -> None:
    """Raise ValueError if the files of the data set are others than those of a checkpoint's run."""
    before, path = checkpoint.data_fingerprint, checkpoint.path
    if checkpoint.settings is not None and is_own(checkpoint.settings.data):
        return  # of which the user has said that it is this one, if it has changed
    if before is not None and dataset.fingerprint is not None and before != dataset.fingerprint:
        raise ValueError(
            f"the files of {dataset.name} are others, or have other names, than when the run of {path} began, so its "
            "order of samples cannot go on; bring them back, or start a new run from its weights with init"
        )


def _is_own(model: str) -> bool:
    """Whether a model of that name may stand under another one, as a file that was moved."""
    return is_own(model) or is_given(model)


def _check_same_teacher(checkpoint: Checkpoint, teacher: Teacher | None) -> None:
    """Raise ValueError if the run of a checkpoint had another teacher, or one where there is none now."""
    before, path = checkpoint.teacher, checkpoint.path
    if before == (None if teacher is None else teacher.fingerprint):
        return
    if before is None:
        reason = "had no teacher, and distil is given"
    elif teacher is None:
        reason = "had a teacher, and distil is not given"
    else:
        reason = f"had a teacher with other weights than distil: {teacher.path}"
    raise ValueError(f"the run of {path} {reason}; a run keeps its teacher when it is resumed")
