"""Which shapes nodes may have, by those of what they read: the rules that rows of `kinds` name.

Each rule takes the settings of a node, the shapes of its inputs, and its own, all of one image without the batch:
(C, *rows), so (C, H, W), (C, L), (F,), or () of one number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Settings = Mapping[str, Any]
Shape = tuple[int, ...]
Rule = Callable[[Settings, Sequence[Shape], Shape], bool]


def anything(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """Nothing is known."""
    return True


def of_its_value(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """That of the setting `value`."""
    return shape == tuple(settings["value"].shape)


def same(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """That of every input."""
    return all(one == shape for one in inputs)


def as_many(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """Any with as many numbers."""
    return math.prod(inputs[0]) == math.prod(shape)


def flattened(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """(F,), as many as there are."""
    return shape == (math.prod(inputs[0]),)


def _transposed(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """What a transposed convolution makes of the rows, in any number of channels."""
    keys = ("kernel_size", "stride", "dilation", "padding", "output_padding")
    rows = zip(inputs[0][1:], *(settings[key] for key in keys), strict=True)
    return shape[1:] == tuple((size - 1) * s + d * (k - 1) + 1 - 2 * p + more for size, k, s, d, p, more in rows)


def windowed(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """That of a window's places, in any number of channels."""
    if "output_padding" in settings:
        return _transposed(settings, inputs, shape)
    kernel, strides, padding = (settings[key] for key in ("kernel_size", "stride", "padding"))
    dilation = settings.get("dilation", (1,) * len(kernel))
    beyond = settings.get("beyond", (0,) * len(kernel))
    before, after = padding[::2], tuple(a + more for a, more in zip(padding[1::2], beyond, strict=True))
    rows = zip(inputs[0][1:], kernel, strides, before, after, dilation, strict=True)
    return shape[1:] == tuple((size + b + a - d * (k - 1) - 1) // step + 1 for size, k, step, b, a, d in rows)


def pooled(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """`windowed`, in the channels of the input."""
    return shape[:1] == inputs[0][:1] and windowed(settings, inputs, shape)


def weighted(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """`windowed` of a convolution, the rows of a linear layer's input, in as many channels as its weight has."""
    if shape[:1] != settings["weight"].shape[:1]:
        return False
    return windowed(settings, inputs, shape) if "kernel_size" in settings else shape[1:] == inputs[0][1:]


def one_pixel(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """(C,), or with a 1 for each dimension of pixels."""
    return shape[:1] == inputs[0][:1] and len(shape) in (1, len(inputs[0])) and math.prod(shape[1:]) == 1


def resized(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """(C, *output_size)."""
    return shape == (*inputs[0][:1], *settings["output_size"])


def reduced(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """That of the input, with 1 for each of the axes."""
    axes = settings["axes"]
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(inputs[0]))
    return shape == kept and all(0 <= axis < len(kept) for axis in axes)


def together(shapes: Sequence[Shape]) -> Shape | None:
    """The shape of tensors that are repeated along axes of one place, rows counted from the last; None: there is none.

    Channels go with channels: [C] is [C, 1, 1] beside [C, H, W].
    """
    rank = max(map(len, shapes))
    full = [shape if rank == 0 else (*shape[:1], *[1] * (rank - max(1, len(shape))), *shape[1:]) for shape in shapes]
    full = [shape if shape or rank == 0 else (1,) * rank for shape in full]
    joined = tuple(map(max, zip(*full, strict=True)))
    fits = all(size in (1, whole) for shape in full for size, whole in zip(shape, joined, strict=True))
    return joined if fits else None


def broadcast(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """That of all inputs together."""
    return shape == together(inputs)


def joined(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """As long as all together along the axis, and otherwise as each."""
    axis = settings["axis"]
    others = [(*one[:axis], *one[axis + 1 :]) for one in (shape, *inputs)]
    return shape[axis] == sum(one[axis] for one in inputs) and all(one == others[0] for one in others)


def chosen(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """As many channels as are chosen."""
    return shape == (len(settings["channels"]), *inputs[0][1:])


def taken(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """As many places of a row axis as are taken."""
    axis = settings["axis"]
    return axis > 0 and shape == (*inputs[0][:axis], len(settings["indices"]), *inputs[0][axis + 1 :])


def embedded(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """As many channels as a row of the table has, at each place of the indices."""
    return shape == (settings["table"].shape[1], *inputs[0])


def permuted(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """That of the input, in another order."""
    axes = settings["axes"]
    return sorted(axes) == [*range(len(inputs[0]))] and shape == tuple(inputs[0][axis] for axis in axes)


def padded(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """That of the input, and what is added in front and behind."""
    widths = (*settings["channels"], *settings["padding"])
    rows = zip(inputs[0], widths[::2], widths[1::2], strict=True)
    return shape == tuple(size + before + after for size, before, after in rows)


def _matrix(shape: Shape, *, transposed: bool) -> tuple[Shape, int, int]:
    """Of (C, *rows): the axes in front of its matrix, and its rows and columns."""
    rows, columns = (shape[-1], shape[0]) if len(shape) > 1 else (1, shape[0])
    return shape[1:-1], *((columns, rows) if transposed else (rows, columns))


def _met(axes: Shape, others: Shape, *, groups: bool = False) -> Shape | None:
    """Axes in front of matrices where both have met, of which one may be 1; None if they do not fit.

    Args:
        groups: the last of the first ones may be a multiple of the others'.
    """
    count = max(len(axes), len(others))
    one, two = ((1,) * (count - len(given)) + given for given in (axes, others))
    if groups and count > 0 and one[-1] % two[-1] == 0:
        two = (*two[:-1], one[-1])
    fits = all(a == b or 1 in (a, b) for a, b in zip(one, two, strict=True))
    return tuple(map(max, zip(one, two, strict=True))) if fits else None


def multiplied(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """(N, *rows, M) of matrices [M, K] and [K, N]."""
    (one, m, k), (two, depth, n) = (
        _matrix(given, transposed=bool(turned)) for given, turned in zip(inputs, settings["transposed"], strict=True)
    )
    axes = _met(one, two)
    return k == depth and axes is not None and _with_rows(shape) == (n, *_without_ones((*axes, m)))


def _with_rows(shape: Shape) -> Shape:
    return (*shape[:1], *_without_ones(shape[1:]))


def _without_ones(rows: Shape) -> Shape:
    """Row axes without those of 1 in front of all others, which say nothing."""
    return next((rows[axis:] for axis, size in enumerate(rows) if size > 1), ())


def attended(settings: Settings, inputs: Sequence[Shape], shape: Shape) -> bool:
    """(E, *heads, T)."""
    if len(inputs) not in (3, 4):
        return False
    (axes, t, d), (of_keys, s, depth), (of_values, count, e) = (_matrix(one, transposed=False) for one in inputs[:3])
    met: Shape | None = axes
    for others in (of_keys, of_values):
        met = None if met is None else _met(met, others, groups=True)
    if len(inputs) == 4 and met is not None:
        of_bias, rows, columns = _matrix(inputs[3], transposed=False)
        met = _met(met, of_bias) if rows in (1, t) and columns == s else None
    fits = d == depth and s == count and met is not None
    return fits and met is not None and _with_rows(shape) == (e, *_without_ones((*met, t)))
