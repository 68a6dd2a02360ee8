"""Nets for controllers, trained for a minute or two in all on one core, and deployed with what they are compared on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

import bitorch
from bitorch import LowBitConfig, PackedModel
from bitorch.data import digits, load, to_float
from bitorch.models import LeNet8, LeNet28, SVHNNet
from controller_runs import Array
from keywords import ConvNet
from keywords_tones import clips

Ends = Literal["8 bits", "float"]
#: Random images that the norms of a net see whose data set is not here.
_SEEN = 64


@dataclass(frozen=True)
class Plan:
    """How nets are made.

    Attributes:
        weight_bits, activation_bits: of the low-bit layers.
        ends: whether the first and last layer have 8 bits, or stay in float.
        fashion_mnist, svhn: folders of the data sets; None: random images, and weights as they are initialized.
        images: how many of Fashion-MNIST and SVHN are trained on.
        random: how many random images are compared.
    """

    weight_bits: int = 1
    activation_bits: int = 2
    ends: Ends = "8 bits"
    fashion_mnist: Path | None = None
    svhn: Path | None = None
    images: int = 10_000
    random: int = 360


@dataclass(frozen=True)
class Net:
    """A deployed net, and what it is run on.

    Attributes:
        name: of the net and its data.
        packed: the net.
        inputs: all of the test set, or random images.
        answers: the class of each; None for random images.
    """

    name: str
    packed: PackedModel
    inputs: Array
    answers: Array | None


def digits_net(plan: Plan, epochs: int = 20) -> Net:
    """Return LeNet on digits, with all test images."""
    data = digits()
    model = _in_few_bits(LeNet8(), plan)
    _train(model, data.train.images, data.train.labels, epochs)
    return _deployed("LeNet, digits", model, data.test.images, data.test.labels)


def fashion_net(plan: Plan, epochs: int = 2) -> Net:
    """Return LeNet on Fashion-MNIST, with all test images where the files are there."""
    return _of_images("LeNet, Fashion-MNIST", LeNet28(), plan, "mnist", plan.fashion_mnist, epochs)


def svhn_net(plan: Plan, epochs: int = 2) -> Net:
    """Return net D on SVHN, with all test images where the files are there."""
    return _of_images("SVHN net D", SVHNNet("D"), plan, "svhn", plan.svhn, epochs)


def keyword_net(plan: Plan, epochs: int = 6, sounds: int = 2000, tests: int = 1000) -> Net:
    """Return convolutions over synthetic words, whose inputs are floats; tested with other words by other voices."""
    given, words = clips(sounds, 0)
    heard, answers = clips(tests, 1)
    model = _in_few_bits(ConvNet(16), plan, learned=True)
    bitorch.calibrate(model, list(given[:200].split(50)))
    _train(model, given, words, epochs, batch_size=50)
    return _deployed("keywords", model, heard, answers)


#: In the order of the table.
NETS: tuple[Callable[[Plan], Net], ...] = (digits_net, fashion_net, svhn_net, keyword_net)


def _of_images(
    name: str, model: LeNet28 | SVHNNet, plan: Plan, data: Literal["mnist", "svhn"], folder: Path | None, epochs: int
) -> Net:
    """Train on a data set, whose images get a border where the net takes larger ones, or take random images."""
    _in_few_bits(model, plan)
    if folder is None:
        generator = torch.Generator().manual_seed(1)
        shape = (plan.random + _SEEN, model.in_channels, model.image_size, model.image_size)
        pixels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        with torch.no_grad():
            for batch in pixels[:_SEEN].split(_SEEN // 2):
                model(to_float(batch))
        return _deployed(f"{name}, not trained", model, pixels[_SEEN:], None)
    known = load(data, folder, pad_to=model.image_size)
    some = torch.randperm(len(known.train))[: plan.images]
    _train(model, known.train.images[some], known.train.labels[some], epochs)
    return _deployed(name, model, known.test.images, known.test.labels)


def _in_few_bits(model: nn.Module, plan: Plan, *, learned: bool = False) -> nn.Module:
    end: Literal["float", 8] = 8 if plan.ends == "8 bits" else "float"
    config = LowBitConfig(plan.weight_bits, plan.activation_bits, first=end, last=end)
    if learned:
        config = dataclasses.replace(config, range="learned", learned_by="lsq+")
    bitorch.quantize_(model, config)
    return model.train()


def _train(model: nn.Module, inputs: Tensor, labels: Tensor, epochs: int, batch_size: int = 100) -> None:
    """Train with Adam and a rate that falls to 0."""
    steps = epochs * -(-len(inputs) // batch_size)
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(inputs)).split(batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(_floats(inputs[batch])), labels[batch]).backward()
            optimizer.step()
            schedule.step()


def _floats(inputs: Tensor) -> Tensor:
    return to_float(inputs) if inputs.dtype == torch.uint8 else inputs


def _deployed(name: str, model: nn.Module, inputs: Tensor, answers: Tensor | None) -> Net:
    """Deploy a net: from pixels, where its inputs are some."""
    packed = bitorch.deploy(model.eval(), _floats(inputs[:2]), pixels=inputs.dtype == torch.uint8)
    return Net(name, packed, inputs.numpy(), None if answers is None else answers.numpy())
