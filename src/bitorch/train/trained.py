"""The trained net of a checkpoint, low-bit as it was trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..conversion.layer_configs import Configs
from ..conversion.quantize import quantize_
from ..data import normalized
from ..differences import differences
from ..models.own import GivenNet
from ..quantizations import Quantization
from .bits_in_force import bits_in_force, bring_into_force
from .checkpoint import Checkpoint, check_builds, load_weights, naming, read_checkpoint
from .net_source import NetSource, given_source, recorded_source

_NAMES_SHOWN = 4


@dataclass(frozen=True)
class Trained:
    """A checkpoint and its net.

    Attributes:
        checkpoint: what the file holds.
        model: in eval mode, on the CPU.
        source: that made the net.
        input_shape: of one image, [C, H, W]; None where neither the checkpoint nor anybody else has said it.
    """

    checkpoint: Checkpoint
    model: nn.Module
    source: NetSource
    input_shape: tuple[int, int, int] | None


def load_model(
    path: str | Path,
    model: GivenNet | str | None = None,
    *,
    config: Configs | None = None,
    input_shape: Sequence[int] | None = None,
) -> nn.Module:
    """Return the trained model of a checkpoint, low-bit as it was trained, in eval mode, on the CPU.

    A checkpoint of `fit` says how its net is built. Where that is a file of the user's own, it is run only if he has
    run it here before, and it has not changed since. A checkpoint of a Trainer of one's own does not say it: then model
    is needed, and, if what it makes has no low-bit layers yet, config.

    Args:
        path: the file.
        model: what makes the net, in place of what the checkpoint says: a module, which is copied, a function or class
            that returns one, called with num_classes, channels and image_size, those that it takes, or a name as
            Settings.model.
        config: as `quantize_` takes it, for a checkpoint that does not say it.
        input_shape: of one image, [C, H, W], where the checkpoint does not say it and model asks for it.

    Raises:
        FileNotFoundError: no such checkpoint, or the file of its model is not there.
        ValueError: see `read_checkpoint`; a checkpoint that does not say how its net is built, or of a file that has
            changed or was not run here before; weights that do not fit the model; what the user's file raises.
        TypeError: model makes no module, or needs other arguments.
    """
    return load_trained(path, model, config=config, input_shape=input_shape).model


def load_trained(
    path: str | Path | Checkpoint,
    model: GivenNet | str | None = None,
    *,
    config: Configs | None = None,
    input_shape: Sequence[int] | None = None,
    num_classes: int | None = None,
    what: str = "model",
    option: str = "--model",
) -> Trained:
    """Return the net of a checkpoint with what the checkpoint says; as `load_model`.

    Args:
        path: the file, or what `read_checkpoint` made of it, with any_module where there is a model.
        model, config, input_shape: as there.
        num_classes: where the checkpoint does not say it.
        what: the net is, for messages.
        option: by which the user names what makes it.
    """
    checkpoint = path if isinstance(path, Checkpoint) else read_checkpoint(path, any_module=model is not None)
    shape = _shape(checkpoint, input_shape)
    classes = num_classes if checkpoint.num_classes is None else checkpoint.num_classes
    source = _source(checkpoint, model, what, option)
    if source.given is None:
        _check_known(checkpoint, source, shape, classes, option)
        if model is None:
            check_builds(checkpoint)
    with torch.random.fork_rng(devices=[]):  # the initial weights are thrown away, so they must not cost random numbers
        net = source.build(shape, classes)
    net = _made_low_bit(net, checkpoint, config)
    checkpoint = of_this_net(net, checkpoint)
    load_weights(net, checkpoint)
    return Trained(checkpoint, net.eval(), source, shape)


def _check_known(
    checkpoint: Checkpoint, source: NetSource, shape: tuple[int, int, int] | None, classes: int | None, option: str
) -> None:
    """Refuse to build an architecture by its name from a checkpoint that says too little."""
    if shape is not None and classes is not None:
        return
    missing = "the shape of its images" if shape is None else "the number of its classes"
    remedy = "pass input_shape=[C, H, W] (--input-shape C H W), or name" if shape is None else "name"
    raise ValueError(
        f"{checkpoint.path} does not say {missing}, which model {source.name} needs; {remedy} what makes the net with "
        f"{option} FILE.py:NAME"
    )


def _source(checkpoint: Checkpoint, model: GivenNet | str | None, what: str, option: str) -> NetSource:
    settings = checkpoint.settings
    width = 1.0 if settings is None else settings.width
    if model is not None:
        return given_source(model, width)
    if settings is None:
        raise ValueError(
            f"{checkpoint.path} does not say how its model is built; name what makes it with {option} FILE.py:NAME, in "
            "Python load_model(path, model=…)"
        )
    return recorded_source(
        settings.model, width, checkpoint.model_sha256, said_by=str(checkpoint.path), what=what, option=option
    )


def _shape(checkpoint: Checkpoint, given: Sequence[int] | None) -> tuple[int, int, int] | None:
    known = checkpoint.input_shape
    if given is None:
        return known
    if len(given) != 3 or not all(type(size) is int and size >= 1 for size in given):
        raise ValueError(f"input_shape must be three numbers, channels, height and width, got {tuple(given)}")
    channels, height, width = given
    if known is not None and known != (channels, height, width):
        raise ValueError(f"{checkpoint.path} is of images {known} [C, H, W], and input_shape is {tuple(given)}")
    return channels, height, width


def _made_low_bit(net: nn.Module, checkpoint: Checkpoint, config: Configs | None) -> nn.Module:
    """Quantize a net as the checkpoint says, or else as the config does. One that has low-bit layers keeps them.

    The result normalizes its inputs first, if the net of the checkpoint does.
    """
    settings, path = checkpoint.settings, checkpoint.path
    if settings is not None and config is not None:
        raise ValueError(f"{path} says which bits its layers have; leave bits and rules out")
    if bits_in_force(net):
        if config is not None:
            raise ValueError("the model has low-bit layers already, which stay as they are; leave bits and rules out")
    elif settings is not None:
        with naming(path):
            quantize_(net, settings.config if checkpoint.rules is None else checkpoint.rules)
    elif config is not None:
        quantize_(net, config)
    elif checkpoint.bits or checkpoint.of_any_module:
        layers = (
            f"has low-bit layers ({_told(checkpoint.bits)}) and" if checkpoint.bits else "may have low-bit layers and"
        )
        raise ValueError(
            f"{path} {layers} does not say how they compute; say it with --bits or --rules, in Python "
            "load_model(path, model=…, config=…), or let the model come with them; --bits 32 32 32 is float"
        )
    check_same_layers(net, checkpoint)
    if settings is not None:
        net = normalized(net, settings.data_options.normalization)
    with naming(path):
        bring_into_force(net, checkpoint.bits)
    return net


def check_same_layers(net: nn.Module, checkpoint: Checkpoint) -> None:
    """Raise a ValueError unless the layers that a checkpoint has bits of are the low-bit ones, with these bits."""
    if checkpoint.settings is not None or checkpoint.of_any_module:
        return
    now = {name: bits[:2] for name, bits in bits_in_force(net).items()}
    then = {name: (bits[0], bits[1]) for name, bits in checkpoint.bits.items()}
    names = {name for name, _ in net.named_modules()}
    if missing := {name: bits for name, bits in then.items() if name not in names}:
        raise ValueError(
            f"the checkpoint {checkpoint.path} does not fit the model {type(net).__name__}: it has the layers "
            f"{_told(missing)} (bits of weights and activations), and the model has no such layers"
        )
    if now != then:
        raise ValueError(
            f"the low-bit layers of the model, {_told(now)}, are not those of {checkpoint.path}, {_told(then)} (bits "
            "of weights and activations); give the bits or rules that it was trained with"
        )


def _told(bits: dict[str, list[int]] | dict[str, tuple[int, int]]) -> str:
    texts = [f"{name} {' '.join(map(str, values[:2]))}" for name, values in list(bits.items())[:_NAMES_SHOWN]]
    more = [f"{len(bits) - _NAMES_SHOWN} more"] if len(bits) > _NAMES_SHOWN else []
    return ", ".join([*texts, *more]) or "none"


def of_this_net(net: nn.Module, checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint of any module that holds a net, as with `self.model = net`, with the tensors of that net.

    One of a Trainable has them already, and stays as it is. What quantizers of the net hold may be missing.

    Raises:
        ValueError: it holds no such net, or several under other names than "model".
    """
    if not checkpoint.of_any_module:
        return checkpoint
    known, state = net.state_dict().keys(), checkpoint.state_dict
    of_quantizers = {
        f"{name}.{key}"
        for name, module in net.named_modules()
        if isinstance(module, Quantization)
        for key in module.state_dict()
    }
    wanted = [name for name in known if name not in of_quantizers]
    first = next(iter(wanted), "")
    prefixes = [key.removesuffix(first) for key in state if key == first or key.endswith(f".{first}")]
    held = {prefix: {key.removeprefix(prefix) for key in state if key.startswith(prefix)} for prefix in prefixes}
    whole = [prefix for prefix, names in held.items() if set(wanted) <= names <= set(known)]
    if "model." in whole:
        whole = ["model."]
    if len(whole) > 1:
        raise ValueError(
            f"{checkpoint.path} holds several nets like {type(net).__name__}, under {', '.join(whole)}; save the "
            "state dict of the one that is meant"
        )
    if not whole:
        prefix = next((prefix for prefix in prefixes if prefix), "")
        shown = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
        found = differences(net.state_dict(), shown)
        raise ValueError(f"the checkpoint {checkpoint.path} does not fit the model {type(net).__name__}: {found}")
    tensors = {name: state[whole[0] + name] for name in known if whole[0] + name in state}
    return dataclasses.replace(checkpoint, state_dict=tensors)
