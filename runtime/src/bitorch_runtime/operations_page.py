"""The page of reference of operations, from their rows: ``python -m bitorch_runtime.operations_page`` prints it."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from bitorch_runtime.operation_keys import MOST_CHANNELS, MOST_EXTENT
from bitorch_runtime.operation_row import Key, Op
from bitorch_runtime.operations import OPERATIONS

_HEAD = """# Operations of a program

A [`Program`](runtime.md#a-network) is a list of operations, each a dict with its name, `op`, and the keys below, and
a dict of the arrays that keys name. In a [packed file](format.md) the list is JSON. Sizes are those of one image; a
batch, of any size, comes before them. A key that an operation does not have is refused, and so is one that is
missing, wrong in type or out of its range: the error says which operation, which key, its value and the rule.

A tensor is [rows …, C]: channels at each place of its row axes, of which there may be any number up to seven, such as
height and width of images [H, W, C], the length of signals [L, C], tokens [T, F]. It is `float32`, `int32` (the exact
sums of a layer, or places, which can only leave the program), or *codes* of 1 to 8 bits: integers q, 0 ≤ q ≤ n, n =
2^bits − 1. Row axes of 1 in front of all others say nothing: a vector of F features is an image [1, 1, F], a signal an
image of one row. Only windows (convolutions, pools, padding) know how many row axes there are, one to three: their
keys have a number for each. Everything else sees rows × channels. Tensors have names; each is given once, and before
it is read. In the tables C are the channels of the input, N those of the result.

```python
from bitorch_runtime.operations import OPERATIONS

row = OPERATIONS["max_pool"]
print(row.reads, row.gives, row.arrays)                     # ('input',) ('output',) ()
print(row["dilation"].default, row["dilation"].form)
# [1, 1] [vertical, horizontal]; of one axis or of three as many numbers
```

This page is made of that table: `make docs-operations` writes it anew.

"""

_STAGES = """## What follows a sum

The sums of a layer, D or y, go through the steps that its keys name, in this order: `multiply` and `offset`,
`norm_multiply` and `norm_offset`, `residual`, `relu`. Each rounds to float32 as its key says; no other multiplication
and addition are fused. Low-bit layers need `multiply` and `offset` for all of it, float layers do not. One or more of
D (`int32`), y (`float32`) and q (`codes`) leave. `affine` has the same steps.

## Codes

With `thresholds`, one row for each channel, q is the number of thresholds t[j] with D ≥ t[j] (int32) or y ≥ t[j]
(float32), or ≤ in the channels that `descending` says. They never fall with j, or never rise in those channels. A
float32 threshold that no number reaches, not even an infinite one, is NaN, and then all behind it are. Without
thresholds q = round(n·clip(y, 0, 1)), half to even. NaN gives code 0.

"""

_EXACT = """## What is exact

An operation whose row says "exact" gives what `bitorch_runtime.reference` gives, bit for bit, on every CPU and with
any number of threads. The others, and why:

"""


def page() -> str:
    """Return the page as Markdown."""
    families: dict[str, list[Op]] = {}
    for row in OPERATIONS.values():
        families.setdefault(row.family, []).append(row)
    parts = [_HEAD, _overview(), _STAGES, _EXACT, _exceptions()]
    for family, rows in families.items():
        parts.append(f"## {family}\n\n")
        parts.extend(map(_section, rows))
    return "".join(parts).rstrip("\n") + "\n"


def _overview() -> str:
    rows = [
        (f"[`{row.name}`](#{row.name})", _values(row, needed), _values(row, row.gives), _is_exact(row), row.formula)
        for row in OPERATIONS.values()
        for needed in [[key for key in row.reads if row[key].default is None]]
    ]
    return _table(("operation", "reads", "gives", "exact", "computes"), rows)


def _values(row: Op, keys: Iterable[str]) -> str:
    values = dict.fromkeys(value for key in keys for value in row[key].values)
    return ", ".join(values)


def _is_exact(row: Op) -> str:
    if row.inexact:
        return "no"
    free = [f"`{choice.value}`" for key in row.keys for choice in key.choices if choice.inexact]
    return f"not {', '.join(free)}" if free else "exact"


def _exceptions() -> str:
    reasons: dict[str, list[str]] = {}
    for row in OPERATIONS.values():
        if row.inexact:
            reasons.setdefault(row.inexact, []).append(f"`{row.name}`")
        for choice in (choice for key in row.keys for choice in key.choices if choice.inexact):
            reasons.setdefault(choice.inexact, []).append(f"`{row.name}` with `{choice.value}`")
    return "".join(f"- {', '.join(names)}: {reason}\n" for reason, names in reasons.items()) + "\n"


def _section(row: Op) -> str:
    formula = f"\n`{row.formula}`\n" if row.formula else ""
    groups = [", ".join(f"`{key}`" for key in keys) for keys in row.one_of]
    rules = "".join(f"One or more of {keys} must be there.\n" for keys in groups)
    table = _table(("key", "value", "without it", "says"), [_line(key) for key in row.keys])
    return f"### {row.name}\n\n{row.doc}\n{formula}\n{table}{rules}" + ("\n" if rules else "")


def _line(key: Key) -> tuple[str, str, str, str]:
    missing = "needed" if key.default is None else key.default
    texts = [key.doc, *(f"`{one.value}`: {one.doc}" for one in key.choices if one.doc)]
    beside = f"only beside `{key.beside}`" if key.beside else ""
    return f"`{key.name}`", _value(key), missing, "; ".join(text for text in (*texts, beside) if text)


def _value(key: Key) -> str:
    what = {"reads": "reads ", "gives": "gives ", "array": "array ", "setting": ""}[key.role] + key.form
    if key.choices:
        return f"{what} {', '.join(f'`{choice.value}`' for choice in key.choices)}"
    if key.low is None:
        return what
    each = ", each " if key.form.startswith(("[", "a list")) else ", "
    return f"{what}{each}" + (f"{key.low} or more" if key.high is None else f"{key.low} … {_number(key.high)}")


def _number(value: int) -> str:
    return {MOST_EXTENT: "2^20", MOST_CHANNELS: "2^24"}.get(value, str(value))


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
