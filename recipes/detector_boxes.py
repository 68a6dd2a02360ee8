"""What stands behind a detector, in NumPy: boxes of a grid of numbers, non-maximum suppression, mean average precision.

The packed net gives the grid; none of this needs PyTorch.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

#: Pixels between cells of the grid.
STRIDE = 8
#: Boxes of one class that share more are one object, and a found box is right that shares as much with a true one.
_SHARED = 0.5
#: What is less sure is no box.
_LEAST_SCORE = 0.02


def decode(grid: Floats, classes: int) -> Floats:
    """Turn what the net gives for one picture into boxes, the surest first, of which none is left that repeats another.

    Args:
        grid: [classes + 5, H, W]: of each cell the scores of the classes, the logit of an object in it, how far the
            object's centre is from the cell's in cells, to the right and downwards, and the logarithms of its width and
            height in cells.
        classes: how many there are.

    Returns:
        [N, 6]: class, left, top, right, bottom in pixels, and score.
    """
    cells = grid.reshape(len(grid), -1).T.astype(np.float64)  # [H·W, classes + 5]
    rows, columns = np.divmod(np.arange(len(cells)), grid.shape[2])
    likely = np.exp(cells[:, :classes] - cells[:, :classes].max(1, keepdims=True))
    likely /= likely.sum(1, keepdims=True)
    score = likely.max(1) / (1 + np.exp(-cells[:, classes]))
    centre = np.stack([columns, rows], 1) + 0.5 + cells[:, classes + 1 : classes + 3]
    half = np.exp(np.clip(cells[:, classes + 3 :], -8, 8)) / 2
    kind = likely.argmax(1)[:, None]
    boxes = np.concatenate([kind, (centre - half) * STRIDE, (centre + half) * STRIDE, score[:, None]], 1)
    return suppress(boxes[score > _LEAST_SCORE].astype(np.float32))


def suppress(boxes: Floats) -> Floats:
    """Keep the surest of the boxes [N, 6] of one class that share much: non-maximum suppression."""
    left = boxes[np.argsort(-boxes[:, 5], kind="stable")]
    kept = []
    while len(left):
        first, left = left[0], left[1:]
        kept.append(first)
        left = left[(left[:, 0] != first[0]) | (shared(first[1:5], left[:, 1:5]) <= _SHARED)]
    return np.stack(kept) if kept else boxes[:0]


def shared(box: Floats, others: Floats) -> Floats:
    """Intersection over union of a box [4] with each of the others [N, 4]: [N]."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = sides.clip(0).prod(1)
    union = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - common
    ratio: Floats = common / union
    return ratio


def mean_average_precision(found: list[Floats], truth: list[Floats], classes: int) -> float:
    """mAP@0.5: the mean over the classes of the area below the curve of precision over recall.

    Args:
        found: of each picture what `decode` gives, [N, 6].
        truth: of each picture class, left, top, right and bottom, [M, 5].
        classes: how many there are; one without any true box does not count.

    Raises:
        ValueError: no picture has a box.
    """
    areas = []
    for kind in range(classes):
        true_of_kind = [boxes[boxes[:, 0] == kind] for boxes in truth]
        total = sum(map(len, true_of_kind))
        if total:
            of_kind = [boxes[boxes[:, 0] == kind] for boxes in found]
            areas.append(_area(*_hits(of_kind, true_of_kind), total))
    if not areas:
        raise ValueError("no picture has a true box, so there is no precision to average")
    return float(np.mean(areas))


def _hits(found: list[Floats], truth: list[Floats]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Scores of all found boxes of a class, and whether each is the first and surest on a true box."""
    scores: list[float] = []
    hits: list[bool] = []
    for boxes, true_boxes in zip(found, truth, strict=True):
        free = np.ones(len(true_boxes), bool)
        for box in boxes:  # the surest first
            ratios = shared(box[1:5], true_boxes[:, 1:5]) * free
            hit = bool(len(ratios)) and bool(ratios.max() >= _SHARED)
            if hit:
                free[ratios.argmax()] = False
            scores.append(float(box[5]))
            hits.append(hit)
    return np.array(scores, np.float32), np.array(hits, bool)


def _area(scores: Floats, hits: npt.NDArray[np.bool_], total: int) -> float:
    right = np.cumsum(hits[np.argsort(-scores, kind="stable")])
    precision = right / np.arange(1, len(right) + 1)
    best_behind = np.maximum.accumulate(precision[::-1])[::-1]
    recall = np.concatenate([[0.0], right / total])
    return float((np.diff(recall) * best_behind).sum())
