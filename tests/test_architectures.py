"""Networks of timm and torchvision: conversion, strict loading, three steps of training, deployment."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import architectures_trial
from architectures import ARCHITECTURES, BITS, chosen
from architectures_table import page, row
from architectures_trial import STEPS, Architecture, Bits, Trial, attempt

TINY_VIT = Architecture(
    "timm:vit_tiny_patch16_224",
    32,
    options={"img_size": 32, "patch_size": 8, "depth": 1, "embed_dim": 48, "num_heads": 3},
)


def check(architecture: Architecture, trial: Trial) -> None:
    assert len(trial.losses) == STEPS
    assert len(trial.low_bit) > len(trial.float_layers)
    assert trial.is_whole, trial.problems
    assert trial.verification is not None
    assert sum(c.elements for c in trial.verification.comparisons if c.exact) > 1_000
    assert trial.deployed_bytes < trial.float_bytes


@pytest.mark.slow
@pytest.mark.parametrize("bits", BITS, ids=lambda bits: "W{}A{}G{}".format(*bits))
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)
def test_every_architecture(architecture: Architecture, bits: Bits) -> None:
    check(architecture, attempt(architecture, bits))


@pytest.mark.parametrize(
    ("architecture", "bits"),
    [
        (Architecture("torchvision:squeezenet1_1", 40), (1, 2, 6)),
        (Architecture("torchvision:shufflenet_v2_x0_5", 32), (2, 2, 32)),
        (TINY_VIT, (4, 4, 32)),
    ],
    ids=lambda value: value.name if isinstance(value, Architecture) else None,
)
def test_some_architectures(architecture: Architecture, bits: Bits) -> None:
    check(architecture, attempt(architecture, bits))


def test_there_are_at_least_twelve_and_the_well_known_ones() -> None:
    names = " ".join(architecture.name for architecture in ARCHITECTURES)
    assert len(set(names.split())) == len(ARCHITECTURES) >= 12
    for family in ("resnet", "vgg", "densenet", "mobilenet_v2", "efficientnet", "shufflenet", "squeezenet", "regnet"):
        assert family in names
    assert "convnext" in names
    assert "vit" in names


class Sorting(nn.Module):
    """A net that is no single program."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.Linear(32, 16))
        self.last = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.last(self.net(x).sort(1)[0])
        return y


def test_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architectures_trial, "build_external", lambda name, classes, **options: Sorting())
    sorting = Architecture("timm:sorting", 8)
    trials = dict.fromkeys(BITS, attempt(sorting, (1, 2, 6)))
    cells = row(sorting, trials)
    assert cells[:2] == ("sorting", "timm")
    assert cells[8] == "partially: `sort`"
    lines = page([(sorting, trials)]).splitlines()
    assert len({line.count("|") for line in lines if line.startswith("| ") and "8×8" in line}) == 1
    assert any("sort cannot be deployed" in line and "1 packed" in line for line in lines)


def test_unknown_names() -> None:
    assert [a.name for a in chosen(["timm:vgg11_bn"])] == ["timm:vgg11_bn"]
    with pytest.raises(ValueError, match="unknown names vgg, lenet; there are torchvision:resnet18, "):
        chosen(["vgg", "lenet"])


def test_what_is_not_finite_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.Linear(32, 16), nn.Linear(16, 10))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.net(x) * float("inf")
            return y

    monkeypatch.setattr(architectures_trial, "build_external", lambda name, classes, **options: Broken())
    with pytest.raises(RuntimeError, match="the loss of step 0 is not finite"):
        attempt(replace(TINY_VIT, side=8), (1, 2, 6))
