"""Files with nets as users write them, small enough to train in a test."""

from __future__ import annotations

from typing import Any

import pytest

from bitorch.cli import main

#: A function that takes what it names, a class, a module, one that is low-bit already, and wrong ones.
NETS = '''
import torch
from torch import nn


class Net(nn.Module):
    """Two convolutions, and logits under a name."""

    def __init__(self, num_classes=10, channels=1, width=4, named=False):
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1, stride=2)
        self.norm = nn.BatchNorm2d(width)
        self.body = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.last_norm = nn.BatchNorm2d(2 * width)
        self.head = nn.Linear(2 * width * 16, num_classes)
        self.named = named

    def forward(self, x):
        x = self.norm(self.stem(x)).relu()
        x = self.last_norm(self.body(x)).relu()
        logits = self.head(x.flatten(1))
        return {"logits": logits} if self.named else logits


def net(num_classes, channels, image_size):
    assert image_size == (8, 8)
    return Net(num_classes, channels)


def named(num_classes):
    return Net(num_classes, named=True)


def low_bit(num_classes):
    import bitorch

    made = Net(num_classes)
    bitorch.quantize_(made, bitorch.LowBitConfig(2, 4, 32))
    return made


ready = Net()
kept = Net()


def the_same():
    return kept


def nothing(num_classes):
    Net(num_classes)


def raises():
    return Net(width=undefined)


def needs(num_classes, depth):
    return Net(num_classes)


def other_classes():
    return Net(7)


def other_channels():
    return Net(channels=3)


def lazy():
    return nn.Sequential(
        nn.LazyConv2d(8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.LazyConv2d(8, 3), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Flatten(), nn.LazyLinear(10),
    )


lazy_module = lazy()


class NoParameters(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10]


class Raises(Net):
    def forward(self, x):
        y = super().forward(x)
        return y[:, self.missing]


class Nothing(Net):
    def forward(self, x):
        super().forward(x)
'''


def command_runner(capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that runs a command line and returns what it printed: errors, if another code than 0 is due."""

    def run(*arguments: object, code: int = 0) -> str:
        found = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert found == code, out + err
        return out if code == 0 else err

    return run
