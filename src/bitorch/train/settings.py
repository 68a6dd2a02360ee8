"""What a training run is made of: every choice a user has, with its default, its rule and its help text."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal, get_args

from ..config.low_bit_config import EndLayer, LowBitConfig
from ..config.quantizer_choice import (
    Gradients,
    LearnedBy,
    Range,
    Scale,
    SignGradient,
    Weights,
)
from ..data import Augmentation, DataOptions, PictureAugmentation
from ..deployment.partial.evaluation_choice import EvaluationChoice
from ..known_names import MAX_WIDTH, wrong_data, wrong_model
from ..layers.integer_kernels import Kernels
from ..models import is_named
from ..own_code import is_own
from ..quantizations import Quantization
from ..quantizations.bits import check_bits
from ..quantizations.range_fit import CalibrationMethod
from ..quantizations.spelling import named
from .distillation import Distillation
from .fields import convert_fields, plain, reject_unknown

EndBits = Literal["float", "8", "same"]
WeightScale = Literal["layer", "channel"]
WarmStartKind = Literal["activations-first", "bits"]
#: Losses that have a name here, and metrics that choose the best checkpoint.
LOSS_NAMES: tuple[str, ...] = ("auto", "cross-entropy", "bce", "mse", "pixels")
METRIC_NAMES: tuple[str, ...] = (
    "auto", "loss", "acc", "top5", "f1", "exact", "mae", "rmse", "miou", "pixel_acc",
)  # fmt: skip
#: More than any net here takes, and less than a mistyped number asks of the memory.
_MOST_PIXELS = 1024
#: What rules say, and so not these.
_SAID_BY_RULES = (
    "bits", "first", "last", "range", "learned_by", "weights_method", "activations", "weight_scale", "group_size",
    "scale", "sign", "pad_value", "gradients", "calibration", "percentile", "exact", "kernels",
)  # fmt: skip


# The string under each field is its help text on the command line.
@dataclass(frozen=True)
class Settings:
    """One training run. Everything is checked when it is built, so a Settings object is a valid one.

    Raises:
        ValueError, TypeError: naming the field, its value, the rule and the fix.
    """

    data: str = "digits"
    """Data set: digits (comes with scikit-learn, 8×8 pixels); from --folder: mnist (any of its family), cifar10,
    cifar100, svhn, imagenet, images (a folder of pictures for each class) or webdataset (with --shards); fake (made
    up); or a function of your own, FILE.py:NAME or PACKAGE.MODULE:NAME."""
    folder: Path | None = None
    """Folder that holds the files of the data set, as its archive unpacks."""
    image_size: int = 0
    """Bring pictures to this height and width: the shorter side is resized, the middle cut out. 0: as they are, all of
    one size."""
    channels: Literal["auto", "1", "3"] = "auto"
    """1: grey, 3: RGB, auto: grey where all training pictures are."""
    crop_share: float = 1.0
    """Share of the shorter side that is kept in evaluation; ImageNet's nets are used to 0.875."""
    pad_to: int = 0
    """Pad all images with zeros, centred, to this height and width; the svhn nets take 40. 0 is off."""
    mean: tuple[float, ...] | Literal["imagenet"] | None = None
    """The net normalizes images by this mean of pixels/255, a number for each channel; or imagenet, for its mean and
    deviation. Default: pixels/255 as they are."""
    std: tuple[float, ...] | None = None
    """And by this standard deviation."""
    val_share: float = 0.2
    """Share of each class that is kept for testing, where the folder has no val or test pictures."""
    split_seed: int = 0
    """Which pictures those are: a function of this seed and their names."""
    workers: int = 2
    """Processes that decode pictures. Their number changes no result."""
    cache: Literal["auto", "off"] = "auto"
    """auto: keep decoded pictures in memory where they take less than half of what is free; off: never."""
    broken: Literal["error", "skip"] = "error"
    """Damaged pictures are an error before training, or skip: left out and counted."""
    extra: bool = False
    """Train on SVHN's extra images, too."""
    shards: str | None = None
    """Tar files of a WebDataset in --folder: "train-{0000..0009}.tar"."""
    val_shards: str | None = None
    """Those for testing. Default: --val-share of the samples."""
    shuffle_buffer: int = 10_000
    """Samples of the shards of which the next one is drawn, in training."""
    fake: tuple[int, int] = (1000, 10)
    """Images and classes of the data set fake."""
    model: str = "lenet-8"
    """Architecture: svhn-a, svhn-b, svhn-c, svhn-d, lenet-28, lenet-8, resnet-20, resnet-18, mobilenet-v2 or
    alexnet; a net of the zoo, low-bit as it is built, such as resnet18v1; timm:NAME or torchvision:NAME, where the
    package is installed; or one of your own, FILE.py:NAME or PACKAGE.MODULE:NAME: a function or class that is called
    with num_classes, channels and image_size, those that it takes, or a module."""
    width: float = 1.0
    """Factor on the channels of a lenet, resnet, mobilenet or alexnet."""
    bits: tuple[int, int, int] = (1, 2, 6)
    """Bits of weights, activations and gradients: 1 to 8 each, or 32 for none. 32 32 32 trains the float twin."""
    first: EndBits = "float"
    """First layer: float (as the paper), 8 (8-bit weights and inputs) or same (as the others)."""
    last: EndBits = "float"
    """Last layer: float (as the paper), 8 (8-bit weights and inputs) or same (as the others)."""
    range: Range = "unit"
    """Where activations are clipped: unit at 0 and 1 (the paper), calibrated where a few batches have shown, learned
    from there on, or dynamic: nowhere, each row of a linear layer's input has a step of its own."""
    learned_by: LearnedBy = "lsq"
    """How a learned range learns: lsq (a step), lsq+ (a step and an offset) or pact (the upper end)."""
    weights_method: str | None = None
    """How weights become low-bit: dorefa, lsq (a learned step), absmax (up to the largest magnitude), twn, absmean or
    ttq (ternary, 2 bits), or a quantizer by its name. Default: lsq beside ranges learned by lsq or lsq+, else
    dorefa."""
    activations: str | None = None
    """A quantizer of activations by its name, in place of range, learned-by and sign: lsq, pact, calibrated, or one of
    your own, from a file that --quantizers names."""
    weight_scale: WeightScale = "layer"
    """One scale for a layer's weights, or one for each output channel."""
    group_size: int | None = None
    """A scale for each so many inputs of an output channel, such as 32, for weights-method absmax, absmean or twn. It
    must divide the inputs of every low-bit layer. Default: no groups."""
    scale: Scale = "free"
    """pow2: learned steps are powers of two, for weights-method lsq and a range learned by lsq or lsq+."""
    sign: SignGradient | None = None
    """Activations of ±1 in place of 0 and 1, with the gradient of sign, approxsign or rsign; for 1-bit activations."""
    pad_value: float = 0.0
    """What low-bit convolutions fill borders with: 0 as the float net, or -1 or 1, which need --sign."""
    gradients: Gradients = "dorefa"
    """How gradients become low-bit: dorefa (the paper), signed (a grid with a zero) or luq (powers of two)."""
    calibration: CalibrationMethod = "mse"
    """How calibration finds a range: mse (least squared error) or percentile (it holds that share of the inputs)."""
    percentile: float = 99.9
    """Share of the inputs in a range found by percentile, in percent."""
    calibration_batches: int = 8
    """Training batches that ranges are calibrated on, before training."""
    rules: Path | None = None
    """Which layers get what: a YAML or JSON file for bitorch.load_rules, in place of --bits and all of the above."""
    warm_start: WarmStartKind | None = None
    """Start with more bits: activations-first (float, then low-bit activations, then all) or bits (8, then 4, then
    those of each layer)."""
    warm_start_epochs: int = 0
    """Epochs before all layers have their own bits, at least 2 and below --epochs."""
    epochs: int = 30
    """Passes over the training images."""
    batch_size: int = 64
    """Images per step and process. What does not fill a batch is left out of that epoch."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam, or stochastic gradient descent with momentum."""
    lr: float = 1e-3
    """Learning rate, before the schedule."""
    momentum: float = 0.9
    """Momentum of sgd, at least 0 and below 1."""
    nesterov: bool = False
    """Nesterov momentum, for sgd."""
    eps: float = 1e-8
    """Adam's epsilon. The paper uses 1e-5."""
    weight_decay: float = 0.0
    """L2 penalty on all parameters."""
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    """Course of the learning rate: cosine to zero, step (times gamma at each milestone) or constant."""
    schedule_every: Literal["step", "epoch"] = "step"
    """Change the learning rate after every optimizer step or after every epoch."""
    milestones: tuple[int, ...] = ()
    """Epochs at which the step schedule multiplies the learning rate by gamma."""
    gamma: float = 0.1
    """Factor of the step schedule, above 0 and at most 1."""
    warmup_epochs: float = 0.0
    """Epochs in which the learning rate rises linearly from 0 to lr."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes, at least 0 and below 1."""
    loss: str = "auto"
    """What is trained for: cross-entropy (classes), bce (labels that each hold or not), mse (numbers), pixels (a class
    for each pixel), or FILE.py:NAME, a function of outputs and labels; auto is what outputs and labels ask for."""
    metric: str = "auto"
    """What chooses best.ckpt: acc or top5, f1 or exact (bce), mae or rmse (mse), miou or pixel_acc (pixels), loss, or
    FILE.py:NAME, a torchmetrics.Metric or a function of outputs and labels; auto is the first of the loss."""
    ignore_index: int = -100
    """Label of pixels that do not count in the loss pixels."""
    distil: Path | None = None
    """Learn from the outputs of this checkpoint's net, too: of the float twin, trained with --bits 32 32 32."""
    distil_model: str | None = None
    """What makes the net of --distil, FILE.py:NAME, where its own file has changed or is elsewhere."""
    distil_weight: float = 0.5
    """Share of the teacher's outputs in the loss, from 0 to 1; the labels have the rest."""
    distil_temperature: float = 4.0
    """Temperature that softens the outputs of teacher and student, above 0."""
    shift: int = 0
    """Augmentation: move each training image by up to this many pixels."""
    flip: bool = False
    """Augmentation: mirror half of the training images."""
    pad_crop: int = 0
    """Augmentation: pad each training image by this many pixels and crop at a random place."""
    crop_scale: tuple[float, float] | None = None
    """Augmentation: cut a random rectangle of this share of the area out of each picture and resize it: 0.08 1 for
    ImageNet."""
    color_jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Augmentation: change brightness, contrast, saturation and hue of each picture by up to so much: 0.4 0.4 0.4
    0.1."""
    randaugment: tuple[int, int] | None = None
    """Augmentation: so many random operations of RandAugment on each picture, at this magnitude from 0 to 30: 2 9."""
    seed: int = 0
    """Of the initial weights, the order of the images, augmentation, dropout and gradient noise."""
    precision: Literal["32", "bf16"] = "32"
    """32: float32. bf16: mixed precision; low-bit layers still compute exactly, unless --no-exact."""
    exact: bool = True
    """Low-bit layers compute exactly also under bf16. no-exact trades that for autocast's speed."""
    kernels: Kernels = "auto"
    """What low-bit layers compute with: auto takes integers by bitorch_runtime where it can, else floats; float;
    integer, an error where something is in the way."""
    evaluation: EvaluationChoice = "auto"
    """What low-bit layers compute with when the net is evaluated: auto takes packed weights by bitorch_runtime where
    it can and is faster; packed, an error where something is in the way; unpacked, what they train with. The numbers
    are the same."""
    fuse: bool = False
    """Compute BatchNorm, max-pooling, ReLU and quantizer in one pass with the low-bit convolution behind them, where
    that trains on integers; the same numbers to rounding."""
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    """Hardware to train on. auto takes a GPU if there is one."""
    devices: int = 1
    """Processes on this machine, one per GPU. On the CPU they split the batches between them."""
    num_nodes: int = 1
    """Machines. Start the same command on each with torchrun: torchrun --nnodes=2 --nproc-per-node=8
    --rdzv-backend=c10d --rdzv-endpoint=HOST:29500 -m bitorch.cli train --num-nodes 2 --devices 8 …"""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """What several processes share: ddp, the batches, and each has the whole net; or fsdp, weights, gradients and the
    optimizer's state, too, for nets that do not fit one device."""
    timeout: int = 1800
    """Seconds that processes wait for each other: until all have started, and until all have come as far."""
    deterministic: bool = True
    """Same settings, same machine: same weights, bit for bit. On a GPU this takes deterministic, slower operations."""
    out: Path | None = None
    """Folder of the run. Default: a new folder below runs/."""
    resume: Path | None = None
    """Continue the run of this checkpoint, with its settings unless other flags change them."""
    init: Path | None = None
    """Start from the weights of this checkpoint, e.g. of the float twin, with a new optimizer."""
    weights: Path | None = None
    """Start from float weights that come from elsewhere: a safetensors file, or a PyTorch file with a state dict."""
    new_head: bool = False
    """Leave out the last layer of --weights if it is for another number of classes, and train a new one."""
    sum_channels: bool = False
    """Sum the first layer of --weights over its three channels, for grey images."""

    def __post_init__(self) -> None:
        for name, value in convert_fields(type(self), dataclasses.asdict(self)).items():
            object.__setattr__(self, name, value)
        for bits, name in zip(self.bits, ("weights", "activations", "gradients"), strict=True):
            check_bits(bits, f"bits (of {name})")
        _check_ranges(self)
        _check_combinations(self)

    @property
    def config(self) -> LowBitConfig:
        """The bits and methods as `quantize_` takes them, where there are no rules."""
        ends: dict[EndBits, EndLayer] = {"float": "float", "8": 8, "same": "same"}
        return LowBitConfig(
            *self.bits,
            first=ends[self.first],
            last=ends[self.last],
            range=self.range,
            learned_by=self.learned_by,
            weights=self._weights,
            activations=None if self.activations is None else named(self.activations, "activations", self.bits[1], {}),
            weight_scale=self.weight_scale,
            group_size=self.group_size,
            scale=self.scale,
            sign=self.sign,
            pad_value=self.pad_value,
            gradients=self.gradients,
            calibration=self.calibration,
            percentile=self.percentile,
            exact=self.exact,
            kernels=self.kernels,
            absorb_relu=is_named(self.model),  # safe in ours: nothing but the next layer reads their ReLUs
        )

    @property
    def _weights(self) -> Weights | Quantization | None:
        method = self.weights_method
        if method is None or method in get_args(Weights):
            return method  # type: ignore[return-value]  # just checked
        return named(method, "weights_method", self.bits[0], {})

    @property
    def processes(self) -> int:
        """How many processes train together."""
        return self.devices * self.num_nodes

    @property
    def augmentation(self) -> Augmentation:
        """What is done to training images."""
        return Augmentation(shift=self.shift, flip=self.flip, pad_crop=self.pad_crop)

    @property
    def picture_augmentation(self) -> PictureAugmentation | None:
        """What worker processes do to training pictures, None if nothing."""
        augmentation = PictureAugmentation(self.crop_scale, self.randaugment, self.color_jitter)
        return augmentation if augmentation else None

    @property
    def data_options(self) -> DataOptions:
        """How the data set is read."""
        names = {field.name for field in dataclasses.fields(DataOptions)} & vars(self).keys()
        options = DataOptions(**{name: getattr(self, name) for name in names})
        return dataclasses.replace(options, keeps_size=self.crop_scale is not None, processes=self.devices)

    @property
    def distillation(self) -> Distillation:
        """The loss of a run with a teacher."""
        return Distillation(self.distil_weight, self.distil_temperature)

    @property
    def name(self) -> str:
        """What tells this run from others, as a file name: digits-lenet-8-w1a2g6-seed0."""
        weights, activations, gradients = self.bits
        bits = f"w{weights}a{activations}g{gradients}" if self.rules is None else self.rules.stem
        return f"{_file_name(self.data)}-{_file_name(self.model)}-{bits}-seed{self.seed}"

    @property
    def bits_text(self) -> str:
        """What the layers get, for people: "bits 1 2 6"."""
        return f"bits {' '.join(map(str, self.bits))}" if self.rules is None else f"rules {self.rules.name}"

    def without_places(self) -> Settings:
        """Return the settings without where the run is kept and where it starts from."""
        return dataclasses.replace(
            self, out=None, resume=None, init=None, weights=None, new_head=False, sum_channels=False
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as types that JSON and YAML have."""
        return {name: plain(value) for name, value in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Settings:
        """Return the settings of `to_dict`. Missing fields keep their defaults; an unknown one is a ValueError.

        Runs that were written before there was a pad_value, and have a sign, padded with -1, and get that.
        """
        reject_unknown(fields, [field.name for field in dataclasses.fields(cls)])
        if fields.get("sign") is not None and "pad_value" not in fields:
            return cls(**{**fields, "pad_value": -1.0})
        return cls(**fields)


def _check_ranges(settings: Settings) -> None:
    for problem in (wrong_data(settings.data), wrong_model(settings.model), _wrong_task(settings)):
        if problem:
            raise ValueError(problem)
    for name in ("epochs", "batch_size", "devices", "num_nodes", "timeout", "calibration_batches"):
        _check(settings, name, getattr(settings, name) >= 1, "at least 1")
    _check(settings, "pad_to", settings.pad_to <= _MOST_PIXELS, f"at most {_MOST_PIXELS}")
    _check(settings, "width", settings.width <= MAX_WIDTH, f"at most {MAX_WIDTH:g}")
    for name in ("pad_to", "shift", "pad_crop", "seed", "split_seed", "weight_decay", "warmup_epochs"):
        _check(settings, name, 0 <= getattr(settings, name) < math.inf, "at least 0")
    for name in ("lr", "eps", "width", "distil_temperature"):
        _check(settings, name, 0 < getattr(settings, name) < math.inf, "above 0")
    for name in ("momentum", "label_smoothing"):
        _check(settings, name, 0 <= getattr(settings, name) < 1, "at least 0 and below 1")
    if settings.distil_model is not None:
        _check(settings, "distil_model", settings.distil is not None, "left out without distil")
        if problem := wrong_model(settings.distil_model):
            raise ValueError(f"distil_{problem}")
    _check(settings, "distil_weight", 0 <= settings.distil_weight <= 1, "at least 0 and at most 1")
    _check(settings, "seed", settings.seed < 2**63, "below 2**63")
    _check(settings, "gamma", 0 < settings.gamma <= 1, "above 0 and at most 1")
    _check(settings, "warmup_epochs", settings.warmup_epochs < settings.epochs, f"below epochs ({settings.epochs})")


def _wrong_task(settings: Settings) -> str:
    """Return what is wrong with the names of a loss and a metric, "" if nothing is."""
    if settings.loss not in LOSS_NAMES and not is_own(settings.loss):
        near = difflib.get_close_matches(settings.loss.lower(), LOSS_NAMES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"loss must be one of {', '.join(LOSS_NAMES)}, or FILE.py:NAME of your own, got {settings.loss!r}{hint}"
    if settings.metric not in METRIC_NAMES and not is_own(settings.metric):
        near = difflib.get_close_matches(settings.metric.lower(), METRIC_NAMES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        names = ", ".join(METRIC_NAMES)
        return f"metric must be one of {names}, or FILE.py:NAME of your own, got {settings.metric!r}{hint}"
    return ""


def _check_combinations(settings: Settings) -> None:
    # They check themselves.
    _ = settings.augmentation, settings.config, settings.picture_augmentation, settings.data_options
    _check_rules(settings)
    _check_normalization(settings)
    _check_warm_start(settings)
    _check_strategy(settings)
    if settings.nesterov and (settings.optimizer != "sgd" or settings.momentum == 0):
        raise ValueError('nesterov needs optimizer="sgd" and a momentum above 0')
    if (settings.schedule == "step") != bool(settings.milestones):
        raise ValueError(
            f'milestones belong to schedule="step", which needs at least one; got schedule={settings.schedule!r} with '
            f"milestones={settings.milestones}"
        )
    ordered = sorted(set(settings.milestones))
    if list(settings.milestones) != ordered or not all(0 < epoch < settings.epochs for epoch in ordered):
        raise ValueError(
            f"milestones must rise, from 1 to at most epochs − 1 = {settings.epochs - 1}, got {settings.milestones}"
        )
    starts = [name for name in ("resume", "init", "weights") if getattr(settings, name) is not None]
    if len(starts) > 1:
        raise ValueError(
            f"{' and '.join(starts)} exclude each other: resume continues a run, init starts a new one from a "
            "checkpoint's weights, and weights from those of another program"
        )
    for name in ("new_head", "sum_channels"):
        if getattr(settings, name) and settings.weights is None and settings.resume is None:
            raise ValueError(f"{name} is about the weights of another program, and there are none; give weights, too")


def _check_normalization(settings: Settings) -> None:
    is_clipped = settings.rules is None and settings.first != "float" and settings.range == "unit"
    if settings.data_options.normalization is not None and is_clipped and settings.activations is None:
        raise ValueError(
            f"a low-bit first layer clips its inputs at 0 and 1, and mean and std make others; with first="
            f"{settings.first!r} leave mean and std out, or say range calibrated, learned or dynamic"
        )


def _check_rules(settings: Settings) -> None:
    if settings.rules is None:
        return
    defaults = {field.name: field.default for field in dataclasses.fields(Settings)}
    said = [name for name in _SAID_BY_RULES if getattr(settings, name) != defaults[name]]
    if said:
        raise ValueError(f"rules say what each layer gets, and so does {', '.join(said)}; leave one of them out")


def _check_warm_start(settings: Settings) -> None:
    kind, epochs = settings.warm_start, settings.warm_start_epochs
    if (kind is None) != (epochs == 0):
        raise ValueError(
            f"warm_start and warm_start_epochs belong together; got warm_start={kind!r} with warm_start_epochs={epochs}"
        )
    if kind is not None and not 2 <= epochs < settings.epochs:
        raise ValueError(
            f"warm_start_epochs must be at least 2, one for each stage, and below epochs ({settings.epochs}), so that "
            f"some are left for the bits that the layers are to have; got {epochs}"
        )


def _check_strategy(settings: Settings) -> None:
    if settings.strategy == "ddp":
        return
    if settings.processes == 1:
        raise ValueError(
            "strategy fsdp shares out the weights to several processes, and there is one; give devices or num_nodes "
            "above 1, or leave strategy out"
        )
    if settings.fuse:
        raise ValueError(
            "fuse computes a BatchNorm in the layer behind it, and strategy fsdp gathers each for itself; leave one of "
            "them out"
        )


def _file_name(text: str) -> str:
    """Return what a model or data set is called in the name of a run: of "nets/mine.py:make" mine-make."""
    place, colon, name = text.rpartition(":")
    return f"{PurePath(place).stem if place.endswith('.py') else place}-{name}" if colon else text


def _check(settings: Settings, name: str, is_met: bool, rule: str) -> None:
    if not is_met:
        raise ValueError(f"{name} must be {rule}, got {getattr(settings, name)!r}")
