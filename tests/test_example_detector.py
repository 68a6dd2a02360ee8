"""The example of a detector: what stands behind the net, and all of it run small, at two sizes from one file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

import bitorch
import detector
from detector_boxes import Floats, decode, mean_average_precision, suppress
from detector_shapes import CLASSES, NOTHING, _box, _inside, scenes
from example import Budget


def logits_of(rows: torch.Tensor, cells: int) -> Floats:
    """The grid of a net that is sure of the shapes of one scene and of nothing else."""
    grid = np.zeros((8, cells, cells), np.float32)
    grid[3] = -20
    for kind, *box in rows[rows[:, 0] != NOTHING].tolist():
        x, y = (box[0] + box[2]) / 16, (box[1] + box[3]) / 16
        cell = (slice(None), int(y), int(x))
        grid[cell][int(kind)] = 20
        grid[cell][3:] = (
            20,
            x - int(x) - 0.5,
            y - int(y) - 0.5,
            np.log((box[2] - box[0]) / 8),
            np.log((box[3] - box[1]) / 8),
        )
    return grid


@pytest.mark.parametrize("side", [64, 96])
def test_a_sure_net_finds_all(side: int) -> None:
    picture, rows = scenes(side, 12, torch.Generator().manual_seed(0))
    assert picture.shape == (12, 3, side, side)
    assert 0 <= float(picture.min()) < float(picture.max()) <= 1
    present = rows[rows[..., 0] != NOTHING]
    assert set(present[:, 0].tolist()) == {0.0, 1.0, 2.0}
    assert float(present[:, 1:].min()) >= 0
    assert float(present[:, 1:].max()) <= side
    grid = torch.from_numpy(np.stack([logits_of(one, side // 8) for one in rows]))
    assert detector.precision(grid, rows) == 1.0
    assert float(detector.detection_loss(grid, rows)) < 1e-3
    of_other_scenes = grid.roll(1, 0)
    assert detector.precision(of_other_scenes, rows) < 0.3
    assert float(detector.detection_loss(of_other_scenes, rows)) > 5


def test_boxes_are_tight() -> None:
    """Pixels that differ from the ground reach to each side of a box, and not beyond it."""
    kind = torch.tensor([0, 1, 2])
    centre, radius = torch.full((2, 3), 16.0), torch.full((3,), 9.0)
    y, x = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(32) + 0.5, indexing="ij")
    inside = _inside(kind, (y - 16).expand(3, -1, -1), (x - 16).expand(3, -1, -1), radius.view(3, 1, 1))
    for shape, box in zip(inside, _box(kind, centre, radius), strict=True):
        rows, columns = shape.nonzero(as_tuple=True)
        edges = torch.tensor([int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1])
        torch.testing.assert_close(edges.float(), box, atol=1.01, rtol=0)


def test_boxes_that_repeat_are_left_out() -> None:
    boxes = np.array(
        [[0, 0, 0, 10, 10, 0.5], [0, 1, 0, 11, 10, 0.9], [1, 0, 0, 10, 10, 0.4], [0, 8, 0, 18, 10, 0.3]], np.float32
    )
    np.testing.assert_array_equal(suppress(boxes), boxes[[1, 2, 3]])
    assert suppress(boxes[:0]).shape == (0, 6)
    assert decode(np.full((8, 3, 3), -20, np.float32), 3).shape == (0, 6)


def test_mean_average_precision_by_hand() -> None:
    """Right at 0.9, wrong at 0.8, right at 0.7, of three true boxes: (1 + 2/3)/3. The other class is perfect."""
    truth = np.array([[0, 0, 0, 8, 8], [0, 20, 20, 28, 28], [0, 40, 40, 48, 48], [1, 0, 0, 8, 8]], np.float32)
    found = np.array(
        [[0, 0, 0, 8, 8, 0.9], [0, 0, 0, 8, 8.1, 0.8], [0, 20, 20, 28, 27, 0.7], [1, 0, 0, 8, 8, 0.1]], np.float32
    )
    assert mean_average_precision([found], [truth], 3) == pytest.approx((5 / 9 + 1) / 2)
    assert mean_average_precision([found[:0]], [truth], 3) == 0
    with pytest.raises(ValueError, match="no picture has a true box"):
        mean_average_precision([found], [truth[:0]], 3)


def test_one_file_serves_both_sizes(tmp_path: Path) -> None:
    text = io.StringIO()
    path = tmp_path / "net.bit.safetensors"
    options = detector.Options(budget=Budget(steps=3, batch=4, test=6), out=path)
    packed, scores = detector.main(options, Console(file=text, width=120))
    for of_nets in scores.values():
        _, low_bit, packed_one = of_nets.values()
        assert low_bit == packed_one
    assert text.getvalue().count("verified on 6 examples: equal") == 2
    loaded = bitorch.PackedModel.load(path)
    assert loaded.nbytes == packed.nbytes
    for side in (64, 96):
        x, _ = scenes(side, 2, torch.Generator().manual_seed(5))
        grid = loaded(x)
        assert isinstance(grid, torch.Tensor)
        assert grid.shape == (2, len(CLASSES) + 5, side // 8, side // 8)
        torch.testing.assert_close(grid, packed(x), rtol=0, atol=0)


@pytest.mark.slow
def test_shapes_are_found() -> None:
    _, scores = detector.main(detector.Options(), Console(file=io.StringIO()))
    for of_nets in scores.values():
        floats, low_bit, packed = of_nets.values()
        assert float(floats) > 0.85
        assert float(low_bit) > 0.75
        assert low_bit == packed
