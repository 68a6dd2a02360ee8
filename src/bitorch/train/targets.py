"""Labels that are not those of a task, named before they make a loss NaN or stop a GPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..input_error import InputError
from ..outputs import logits_of


def column(x: Tensor) -> Tensor:
    """Return [B, …] of one column [B, 1, …], else x."""
    return x.squeeze(1) if x.dim() > 1 and x.shape[1] == 1 else x


def check_classes(output: Any, target: Any, where: str, *, num_classes: int) -> None:
    """Raise an InputError unless labels are classes, int [B], each in 0…num_classes-1."""
    y = _tensor(target, where)
    z = logits_of(output)
    if _is_integer(y) and z.dim() == 2 and z.shape[1] == num_classes and y.shape == z.shape[:1]:
        _check_inside(y, where, num_classes, "")
        return
    raise InputError(
        f"{where}: the labels must be integers [{len(z) if z.dim() else 1}], one class for each output, and the "
        f"outputs [batch, {num_classes}], got {_kind(y)} labels {list(y.shape)} and outputs {list(z.shape)}"
    )


def check_pixels(output: Any, target: Any, where: str, *, num_classes: int, ignore_index: int) -> None:
    """Raise an InputError unless labels are classes, int [B, …], each in 0…num_classes-1 or ignore_index."""
    y = _tensor(target, where)
    z = logits_of(output)
    is_shaped = z.dim() > 2 and z.shape[1] == num_classes and y.shape == z.shape[:1] + z.shape[2:]
    if not (_is_integer(y) and is_shaped):
        fits = [*z.shape[:1], *z.shape[2:]] if z.dim() > 2 else "[batch, H, W]"
        raise InputError(
            f"{where}: the labels must be integers {fits}, a class for each pixel of outputs "
            f"[batch, {num_classes}, H, W], got {_kind(y)} labels {list(y.shape)} and outputs {list(z.shape)}"
        )
    counts = y != ignore_index
    if not bool(counts.all()):
        y = torch.where(counts, y, torch.zeros_like(y))
    _check_inside(y, where, num_classes, f"; the label of pixels that do not count is {ignore_index} (--ignore-index)")


def check_labels(output: Any, target: Any, where: str) -> None:
    """Raise an InputError unless each label is 0 or 1, and there is one for each output."""
    y = _of_the_outputs_shape(output, target, where, "0 or 1")
    wrong = (y != 0) & (y != 1) if y.dtype != torch.bool else torch.zeros_like(y)
    _refuse(wrong, y, where, "is neither 0 nor 1, which multi-label training takes")


def check_numbers(output: Any, target: Any, where: str) -> None:
    """Raise an InputError unless each label is a finite number, and there is one for each output."""
    y = _of_the_outputs_shape(output, target, where, "a number")
    if y.is_floating_point():
        _refuse(~y.isfinite(), y, where, "is not finite")


def _of_the_outputs_shape(output: Any, target: Any, where: str, what: str) -> Tensor:
    y, z = _tensor(target, where), logits_of(output)
    if column(y).shape != column(z).shape:
        raise InputError(
            f"{where}: the labels must be {what} for each output, in the shape of the outputs {list(z.shape)}, got "
            f"{_kind(y)} labels {list(y.shape)}"
        )
    return y


def _tensor(target: Any, where: str) -> Tensor:
    if not isinstance(target, Tensor):
        raise InputError(
            f"{where}: the labels must be a tensor, got {type(target).__name__}; labels of another kind need a loss of "
            "your own"
        )
    return target


def _is_integer(y: Tensor) -> bool:
    return not y.is_floating_point() and not y.is_complex() and y.dtype != torch.bool


def are_classes(y: Tensor, z: Tensor) -> bool:
    """Return whether labels are shaped as classes of outputs [B, C, …], C ≥ 2, whatever their numbers."""
    return _is_integer(y) and z.dim() > 1 and z.shape[1] > 1 and y.shape == z.shape[:1] + z.shape[2:]


def _kind(y: Tensor) -> str:
    return str(y.dtype).removeprefix("torch.")


def _check_inside(y: Tensor, where: str, num_classes: int, more: str) -> None:
    if not y.numel():
        return
    low, high = y.aminmax()
    if bool((low >= 0) & (high < num_classes)):
        return
    _refuse((y < 0) | (y >= num_classes), y, where, f"is outside the classes 0…{num_classes - 1}{more}")


def _refuse(wrong: Tensor, y: Tensor, where: str, why: str) -> None:
    """Raise an InputError that names the first wrong label and its place, if there is one."""
    if not bool(wrong.any()):
        return
    first = wrong.nonzero()[0].tolist()
    value = y[tuple(first)].item()
    inside = f" at {first[1:]}" if len(first) > 1 else ""
    count = int(wrong.sum())
    more = f"; {count} labels of this batch are so" if count > 1 else ""
    raise InputError(f"{where}, sample {first[0]}{inside}: label {value} {why}{more}")
