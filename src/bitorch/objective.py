"""Which loss a model has on labels, and how many of them it meets.

| outputs, floating point | labels | loss | right is |
|---|---|---|---|
| [B, C, …], C ≥ 2 | integers [B, …], classes | cross-entropy over dim 1; −100 is left out | the largest output |
| [B, …, C], C ≥ 2 | integers [B, …], classes | cross-entropy over the last dimension | the largest output |
| one column: [B], [B, 1], [B, 1, …] | as many numbers, all 0 or 1 | binary cross-entropy with logits | the sign |
| one column | other floats | mean squared error | – |
| [B, C, …], C ≥ 2 | floats of that shape, ≥ 0, sums over dim 1 are 1 | cross-entropy with soft labels | the largest |
| [B, C, …], C ≥ 2 | of that shape, all 0 or 1 (multi-label) | binary cross-entropy with logits | the sign |
| [B, C, …], C ≥ 2 | other floats of that shape | mean squared error | – |

Anything else is an error that asks for a loss. A loss that is passed comes first, then the one that the model has
returned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .batches import Batch
from .containers import tensors_in
from .outputs import logits_of, own_loss

#: A function of outputs and labels, or of outputs alone where there are no labels, to one number.
Loss = Callable[..., Tensor]

_IGNORED = -100  # PyTorch's own default
_SUM = 1e-3  # soft labels sum to 1 up to this

MSE, BCE, CROSS_ENTROPY = "mean squared error", "binary cross-entropy with logits", "cross-entropy"


@dataclass(frozen=True)
class Objective:
    """How a model is judged.

    Attributes:
        name: of the loss, in words.
        loss: from whole output and labels to the mean loss, a tensor of one number.
        right: from the same to a bool tensor, one for each label that counts; None where no label is right or wrong.
        is_of_table: neither the user's nor the model's own; it knows of logits only.
    """

    name: str
    loss: Callable[[Any, Any], Tensor]
    right: Callable[[Any, Any], Tensor] | None
    is_of_table: bool = True


def check_loss(loss: object) -> None:
    """Raise a TypeError unless `loss` is None or a function."""
    if isinstance(loss, type):
        raise TypeError(f"loss is the class {loss.__name__}; pass an instance, {loss.__name__}()")
    if loss is not None and not callable(loss):
        raise TypeError(
            f"loss must be a function of outputs and labels, such as torch.nn.functional.mse_loss, got {loss!r}"
        )


def objective(output: object, batches: Sequence[Batch], loss: Loss | None) -> Objective | None:
    """Return how a model is judged; None without a loss and without labels.

    Args:
        output: what the model has returned for the first batch.
        batches: all of one data set: whether labels are 0 and 1 is said of all of them.
        loss: that of the user.

    Raises:
        TypeError: no logits in the output; labels that are no tensor.
        ValueError: labels that do not fit the outputs in any way of the table.
    """
    got_labels = batches[0].labels_name is not None
    labels = [batch.labels for batch in batches]
    if loss is not None:
        return Objective(_name(loss), _users(loss), _right_of_classes(output, labels), is_of_table=False)
    if own_loss(output, got_labels=got_labels) is not None:
        return Objective(
            "the model's own", _own, _right_beside_own(output, batches[0].labels, labels), is_of_table=False
        )
    if all(label is None for label in labels):
        return None
    return _by_table(logits_of(output), [_labels(label) for label in labels])


def _logits(output: object) -> Tensor:
    """Return the logits, as float32 where they have fewer bits: a loss of half precision overflows."""
    z = logits_of(output)
    return z.float() if z.dtype in (torch.float16, torch.bfloat16) else z


def _labels(labels: object) -> Tensor:
    found = tensors_in(labels)
    if len(found) != 1:
        raise TypeError(
            f"labels must be a tensor, got {type(labels).__name__}; pass loss=, a function of outputs and labels"
        )
    return found[0]


def _name(loss: Loss) -> str:
    while isinstance(loss, partial):
        loss = loss.func
    name = getattr(loss, "__name__", type(loss).__name__)
    return "the one that was passed" if name == "<lambda>" else str(name)


def _users(loss: Loss) -> Callable[[Any, Any], Tensor]:
    def value(output: Any, labels: Any) -> Tensor:
        found = loss(output) if labels is None else loss(output, labels)
        if not isinstance(found, Tensor) or found.numel() != 1:
            raise TypeError(f"loss must return a tensor of one number, got {found!r}")
        return found

    return value


def _own(output: Any, labels: Any) -> Tensor:
    found = own_loss(output, got_labels=True)
    assert found is not None  # as of the first batch
    return found


def _right_of_classes(output: object, labels: Sequence[object]) -> Callable[[Any, Any], Tensor] | None:
    """Return what is right beside a loss that is not of the table: only where labels are plainly classes."""
    if not all(isinstance(label, Tensor) and not label.is_floating_point() for label in labels):
        return None
    try:
        return _by_table(logits_of(output), [_labels(label) for label in labels]).right
    except (TypeError, ValueError):  # no rule fits; the loss is known all the same
        return None


def _right_beside_own(output: object, label: object, labels: Sequence[object]) -> Callable[[Any, Any], Tensor] | None:
    """Return what is right beside the model's own loss: of the next token, where that is what the loss is of."""
    right = _right_of_classes(output, labels)
    if right is None or not isinstance(label, Tensor) or not _is_of_next(output, label):
        return right

    def of_next(output: Any, label: Any) -> Tensor:
        target = _labels(label)[:, 1:].long()
        return (logits_of(output)[:, :-1].argmax(-1) == target)[target != _IGNORED]

    return of_next


def _is_of_next(output: object, label: Tensor) -> bool:
    """Whether a loss is that of language models: logits [B, T, C] at t, and labels [B, T] at t + 1."""
    z, own = _logits(output).detach(), own_loss(output, got_labels=True)
    if own is None or z.dim() != 3 or label.shape != z.shape[:2] or label.shape[1] < 2:
        return False

    def is_mean_of(z: Tensor, y: Tensor) -> bool:
        mean = F.cross_entropy(z.flatten(0, 1), y.flatten().long(), ignore_index=_IGNORED)
        return bool(torch.isclose(own.detach().float(), mean, rtol=1e-3))

    return is_mean_of(z[:, :-1], label[:, 1:]) and not is_mean_of(z, label)


def _by_table(z: Tensor, labels: Sequence[Tensor]) -> Objective:
    y = labels[0]
    if not z.is_complex() and not y.is_complex() and z.dim() > 0:
        columns = _classes(z, y, labels)
        if columns is not None:
            return columns
        if _is_one_column(z) and _column(z).shape == _column(y).shape:
            return _numbers(labels, _column)
        if z.shape == y.shape:
            return _distributions() if _are_soft(labels) else _numbers(labels, lambda x: x)
    raise ValueError(
        f"outputs {list(z.shape)} and {_kind(y)} labels {list(y.shape)} do not say which loss; pass loss=, a function "
        f"of both{_hint(z, y)}"
    )


def _kind(y: Tensor) -> str:
    return str(y.dtype).removeprefix("torch.")


def _hint(z: Tensor, y: Tensor) -> str:
    if _is_integer(y) and _is_one_column(z) and _column(z).shape == _column(y).shape:
        return "; or, for a regression, labels.float()"
    if y.is_floating_point() and z.dim() > 1 and y.shape == z.shape[:1] + z.shape[2:]:
        return "; or, if labels are classes, labels.long()"
    if _is_integer(y) and y.dim() == z.dim() and y.shape[1:2] == (1,):
        return "; or pass labels.squeeze(1)"
    return ""


def _is_integer(y: Tensor) -> bool:
    return not y.is_floating_point() and not y.is_complex() and y.dtype != torch.bool


def _is_one_column(z: Tensor) -> bool:
    return z.dim() == 1 or z.shape[1] == 1


def _column(x: Tensor) -> Tensor:
    """Return [B, …] of one column [B, 1, …]."""
    return x.squeeze(1) if x.dim() > 1 and x.shape[1] == 1 else x


def _classes(z: Tensor, y: Tensor, labels: Sequence[Tensor]) -> Objective | None:
    """Return the cross-entropy if labels are the numbers of classes."""
    if not _is_integer(y) or z.dim() < 2:
        return None
    axis = 1 if z.shape[1] >= 2 and y.shape == z.shape[:1] + z.shape[2:] else -1
    if axis == -1 and not (z.dim() > 2 and z.shape[-1] >= 2 and y.shape == z.shape[:-1]):
        return None
    classes = z.shape[axis]
    for label in labels:
        used = label.long()
        used = used[used != _IGNORED]
        if used.numel() and not (int(used.min()) >= 0 and int(used.max()) < classes):
            raise ValueError(
                f"there are labels {int(used.min())}…{int(used.max())}, but the model has {classes} classes; "
                "labels that shall not count are −100, or pass loss="
            )

    def loss(output: Any, label: Any) -> Tensor:
        return F.cross_entropy(_logits(output).movedim(axis, 1), _labels(label).long(), ignore_index=_IGNORED)

    def right(output: Any, label: Any) -> Tensor:
        target = _labels(label).long()
        return (logits_of(output).argmax(axis) == target)[target != _IGNORED]

    return Objective(CROSS_ENTROPY if axis == 1 else f"{CROSS_ENTROPY} over the last dimension", loss, right)


def _are_binary(labels: Sequence[Tensor]) -> bool:
    return all(label.dtype == torch.bool or bool(((label == 0) | (label == 1)).all()) for label in labels)


def _are_soft(labels: Sequence[Tensor]) -> bool:
    """Whether labels are distributions over dim 1."""
    return all(
        label.is_floating_point() and bool((label >= 0).all()) and bool(((label.sum(1) - 1).abs() <= _SUM).all())
        for label in labels
    )


def _numbers(labels: Sequence[Tensor], shaped: Callable[[Tensor], Tensor]) -> Objective:
    """Return the loss of outputs and labels of one shape, number by number."""

    def both(output: Any, label: Any) -> tuple[Tensor, Tensor]:
        z = shaped(_logits(output))
        return z, shaped(_labels(label)).to(z.dtype)

    def right(output: Any, label: Any) -> Tensor:
        z, y = both(output, label)
        return (z > 0) == (y > 0)

    if _are_binary(labels):
        return Objective(BCE, lambda output, label: F.binary_cross_entropy_with_logits(*both(output, label)), right)
    if _is_integer(labels[0]):
        raise ValueError(
            f"{_kind(labels[0])} labels for one output each are no classes, and not all 0 or 1; pass loss=, or "
            "labels.float() for a regression"
        )
    return Objective(MSE, lambda output, label: F.mse_loss(*both(output, label)), None)


def _distributions() -> Objective:
    def loss(output: Any, label: Any) -> Tensor:
        z = _logits(output)
        return F.cross_entropy(z, _labels(label).to(z.dtype))

    def right(output: Any, label: Any) -> Tensor:
        return logits_of(output).argmax(1) == _labels(label).argmax(1)

    return Objective(f"{CROSS_ENTROPY} with soft labels", loss, right)
