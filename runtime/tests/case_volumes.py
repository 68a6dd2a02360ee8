"""Random operations along three axes of rows, and pools of every number of axes."""

from __future__ import annotations

import math
from typing import Any

from case_builder import Builder, Known
from case_layers import window_layer
from case_moves import MOST_NUMBERS, concat_rows, moved, pad, permute, reshape, resize, take
from case_stages import code_stage


def adaptive_max_pool(b: Builder, name: str) -> None:
    """Append an adaptive_max_pool of all axes."""
    rows = b.rows(name)
    size = [int(b.choose((1, 2, 3, side, 2 * side))) for side in rows]
    if math.prod(size) * b.tensors[name].values.shape[-1] > MOST_NUMBERS:
        size = [1] * len(rows)
    operation = {"op": "adaptive_max_pool", "input": name, "output": b.fresh(), "output_size": size}
    b.add(operation, output=moved(b.known[name]))


def _pool_window(b: Builder, name: str) -> dict[str, Any]:
    """Kernel, stride and padding of a pool; the padding is smaller than the kernel."""
    rows = b.rows(name)
    kernel = [int(b.rng.integers(1, min(side, 3) + 1)) for side in rows]
    padding = [int(b.rng.integers(0, k)) for k in (*kernel, *kernel)] if b.chance(0.5) else [0] * 2 * len(rows)
    return {"kernel_size": kernel, "stride": [int(b.choose((1, 2, 2, 3))) for _ in rows], "padding": padding}


def pool(b: Builder, name: str) -> None:
    """Append a pool of all axes: max_pool, avg_pool with all of its keys, or an adaptive one."""
    known, rows = b.known[name], b.rows(name)
    op = b.choose(("max_pool", "avg_pool", "avg_pool", "adaptive_max_pool", "adaptive_avg_pool"))
    if op == "adaptive_max_pool" or (op == "adaptive_avg_pool" and known.bits is not None):
        return adaptive_max_pool(b, name)
    operation: dict[str, Any] = {"op": op, "input": name, "output": b.fresh()}
    if op == "adaptive_avg_pool":
        size = [int(b.choose((1, 2, side))) for side in rows]
        return b.add({**operation, "output_size": size}, output=Known(exact=known.exact))
    operation |= _pool_window(b, name)
    if op == "max_pool":
        return b.add(operation, output=moved(known))
    kernel, after = operation["kernel_size"], operation["padding"][len(rows) :]
    operation["count_include_pad"] = b.chance(0.5)
    if b.chance(0.4):
        operation["beyond"] = [int(b.rng.integers(0, k - a)) for k, a in zip(kernel, after, strict=True)]
    if b.chance(0.3):
        operation["divisor"] = int(b.choose((1, 3, 4)))
    if known.bits is not None and b.chance(0.4):
        operation["scale"] = float(b.choose((0.25, 0.1, 1.0)))
    return b.add(operation, output=Known(exact=known.exact))


def _codes_of(b: Builder, name: str) -> None:
    """Append a quantize of exact floats, or movements of what is not."""
    known = b.known[name]
    if known.bits is not None or not known.exact:
        return permute(b, name)
    keys = code_stage(b, b.tensors[name].values, None)
    return b.add({"op": "quantize", "input": name, "output": b.fresh(), **keys}, output=Known(keys["bits"]))


def volume(b: Builder, name: str) -> None:
    """Append some operations along three axes of rows to `name`, and often an image of what they give."""
    if b.chance(0.3):
        pad(b, name, axes=3)
    if not b.names(axes=3) or b.chance(0.3):  # a pad of nothing adds no axis
        reshape(b, name, axes=3)
    for _ in range(int(b.choose((1, 2, 2, 3)))):
        volumes = b.names(axes=3)
        name = volumes[-1] if b.chance(0.8) else b.choose(volumes)
        if math.prod(b.tensors[name].values.shape[1:]) > MOST_NUMBERS:
            pool(b, name)
            continue
        options = ["layer"] * 4 + ["pool"] * 3 + ["pad", "take", "permute", "resize", "concat", "reshape", "codes"]
        option = b.choose(options)
        if option == "layer":
            window_layer(b, name, axes=3)
        elif option in ("pad", "reshape"):
            (pad if option == "pad" else reshape)(b, name, axes=3)
        else:
            moves = {"pool": pool, "take": take, "permute": permute, "resize": resize}
            (moves | {"concat": concat_rows, "codes": _codes_of})[option](b, name)
    if b.chance(0.6):
        reshape(b, b.names(axes=3)[-1])
