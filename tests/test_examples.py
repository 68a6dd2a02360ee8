"""The examples of docs/examples.md, each run small: trained a little, deployed whole, verified, its table printed."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

import bitorch
import shapes_unet
import super_resolution
import volumes
from example import Budget, Outcome

SMALL = Budget(steps=3, batch=4, test=6)


def printed() -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, width=120), text


def check(outcome: Outcome, text: str, operations: set[str], path: Path) -> None:
    """The packed net scores as the trained one does, has these operations, and its file holds it."""
    assert outcome.scores[1] == outcome.scores[2]
    assert operations <= {one["op"] for one in outcome.packed.operations()}
    assert "float, PyTorch" in text
    assert "verified on 6 examples: equal" in text
    assert bitorch.PackedModel.load(path).nbytes == outcome.packed.nbytes


def test_unet_on_shapes(tmp_path: Path) -> None:
    console, text = printed()
    path = tmp_path / "net.bit.safetensors"
    outcome = shapes_unet.main(shapes_unet.Options(budget=SMALL, out=path), console)
    check(outcome, text.getvalue(), {"conv_transpose", "concat", "max_pool"}, path)


def test_super_resolution(tmp_path: Path) -> None:
    console, text = printed()
    path = tmp_path / "net.bit.safetensors"
    outcome = super_resolution.main(super_resolution.Options(budget=SMALL, out=path), console)
    check(outcome, text.getvalue(), {"resize", "conv2d", "add"}, path)
    assert "bicubic alone: " in text.getvalue()


def test_volumes(tmp_path: Path) -> None:
    console, text = printed()
    path = tmp_path / "net.bit.safetensors"
    outcome = volumes.main(volumes.Options(budget=SMALL, out=path), console)
    check(outcome, text.getvalue(), {"conv2d", "max_pool"}, path)
    assert any(len(one.get("kernel_size", ())) == 3 for one in outcome.packed.program()[0])


def test_figures() -> None:
    """A perfect result has the best of each figure, and classes that nobody names the worst."""
    generator = torch.Generator().manual_seed(0)
    _, labels = shapes_unet.shapes(5, generator)
    scores = nn.functional.one_hot(labels, 4).movedim(-1, 1).float()
    assert shapes_unet.iou(scores, labels) == 1.0
    assert shapes_unet.iou(scores[:, [3, 0, 1, 2]], labels) < 0.2
    small, large = super_resolution.pictures(3, generator)
    assert small.shape == (3, 1, 16, 16)
    assert super_resolution.psnr(large + 0.1, large) == pytest.approx(20.0, abs=1e-3)
    bodies, classes = volumes.volumes(6, generator)
    assert bodies.shape == (6, 1, 16, 16, 16)
    assert volumes.accuracy(nn.functional.one_hot(classes, 4).float(), classes) == 1.0


@pytest.mark.slow
def test_what_is_learned() -> None:
    console, _ = printed()
    unet = shapes_unet.main(shapes_unet.Options(), console)
    assert float(unet.scores[2]) > 0.7
    larger = super_resolution.main(super_resolution.Options(), console)
    pictures, truth = super_resolution.pictures(128, torch.Generator().manual_seed(1))
    assert float(larger.scores[2].split()[0]) > super_resolution.psnr(super_resolution.bicubic(pictures), truth) + 1
    bodies = volumes.main(volumes.Options(), console)
    assert float(bodies.scores[2].rstrip("%")) > 85
