"""The recipe behind the results: its parts, and a short run of the whole."""

from __future__ import annotations

import copy

import pytest
import torch
from rich.console import Console

import allocation
from allocation_training import split, train
from bitorch.data import digits
from bitorch.models import LeNet8


def test_images_held_out_are_not_among_those_to_train_with() -> None:
    images = digits().train
    first, rest = split(images, 1000, 400)
    assert torch.equal(first.images, images.images[:1000])
    assert torch.equal(rest.labels, images.labels[-400:])
    with pytest.raises(ValueError, match="1200 images to train and 400 held out are more than the 1437"):
        split(images, 1200, 400)


def test_the_same_seed_trains_the_same_net() -> None:
    images, _ = split(digits().train, 128, 0)
    nets = [LeNet8()]
    nets.append(copy.deepcopy(nets[0]))
    for net in nets:
        train(net, images, epochs=1, lr=1e-3, seed=3)
    one, other = (net.state_dict() for net in nets)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_a_short_run() -> None:
    options = allocation.Options(width=4, images=128, held_out=32, start_epochs=1, epochs=1, activation_bits=(2,))
    start, uniform, mix = allocation.one_seed(options, digits(), 0, Console(quiet=True))
    assert mix.nbytes <= 0.95 * uniform.nbytes < uniform.nbytes < start.nbytes
    assert all(0 <= result.accuracy <= 1 for result in (start, uniform, mix))
    assert allocation.table("digits", [(start, uniform, mix)]).row_count == 3
