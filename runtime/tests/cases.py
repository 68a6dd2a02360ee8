"""Random programs with random inputs, and what they must give.

A case is built operation by operation and evaluated by the reference as it grows, so that thresholds can be drawn from
the numbers that they are compared with: equality is where a comparison goes wrong. Everything follows from the seed.

Floats whose sums do not depend on the order of summation are called dyadic: small multiples of 1/16. A tensor that
depends on other sums of float layers, or on exponentials, is inexact; it is compared with a tolerance, and never
becomes codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from bitorch_runtime import reference
from case_builder import CHANNELS, MOST_MACS, Array, Builder, Case, Known
from case_layers import float_layer, follow_with_layer, low_bit_layer, window_layer
from case_moves import concat_rows, pad, permute, reshape, resize, take
from case_stages import (
    any_residual,
    any_weight_codes,
    code_results,
    code_stage,
    finish_layer,
    float_keys,
    is_tame,
    meaning_arguments,
    meaning_keys,
    norm_keys,
)
from case_volumes import adaptive_max_pool, volume
from case_volumes import pool as pool_of_all_keys
from open_size_cases import open_case

__all__ = ["Array", "Case", "large_case", "random_case"]

SIDES = (1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 17)
BATCHES = (0, 1, 1, 2, 3, 5, 9)


def affine(b: Builder, name: str) -> None:
    """Append an affine of the floats `name`, of any of its parts."""
    x, known = b.tensors[name].values, b.known[name]
    channels = x.shape[3]
    operation: dict[str, Any] = {"op": "affine", "input": name}
    if b.chance(0.3):
        divide = b.rng.uniform(0.3, 6, channels) * b.rng.choice([-1, 1], channels)
        if known.exact and b.chance(0.2):
            divide[b.rng.integers(channels)] = b.choose((0.0, -0.0, np.inf, np.nan, 1e-40, 2.0))
        operation["divide"] = b.array("divide", divide.astype(np.float32))
    if b.chance(0.4):
        operation |= norm_keys(b, channels, known.exact)
    residual = any_residual(b, x.shape) if b.chance(0.3) else None
    if residual is not None:
        operation["residual"] = residual
    if b.chance(0.4):
        operation["low"] = float(b.choose((0.0, -0.25, 0.1)))
    if b.chance(0.4):
        operation["high"] = float(b.choose((1.0, 6.0, 0.7)))
    if len(operation) == 2 or b.chance(0.5):
        operation |= float_keys(b, x)
    trial = reference.apply({**operation, "float32": "y"}, b.tensors, b.arrays)["y"].values
    code_results(b, operation, trial, known.exact and (residual is None or b.known[residual].exact))


def addition(b: Builder, name: str) -> None:
    """Append the sum of the floats `name` and others of its shape, perhaps itself, or repeated along axes."""
    other = any_residual(b, b.tensors[name].values.shape) if b.chance(0.5) else _repeated(b, name)
    assert other is not None
    operation: dict[str, Any] = {"op": "add", "inputs": [name, other] if b.chance(0.7) else [other, name]}
    if b.chance(0.5):
        operation["relu"] = b.chance(0.7)
    trial = reference.apply({**operation, "float32": "y"}, b.tensors, b.arrays)["y"].values
    code_results(b, operation, trial, b.known[name].exact and b.known[other].exact)


def quantize(b: Builder, name: str) -> None:
    """Append a quantize of the floats `name`: of their shares of 0 to 1, by thresholds, or rounded to integers."""
    if b.chance(0.3):
        bits = int(b.rng.integers(1, 9))
        keys = {"bits": bits, "zero_point": int(b.rng.integers(0, 2**bits))}
    else:
        keys = code_stage(b, b.tensors[name].values, None)
    b.add({"op": "quantize", "input": name, "output": b.fresh(), **keys}, output=Known(keys["bits"]))


def lookup(b: Builder, name: str) -> None:
    """Append a lookup of the codes `name`."""
    bits, out_bits = b.known[name].bits, int(b.rng.integers(1, 9))
    assert bits is not None
    shape = (2**bits,) if b.chance(0.5) else (b.shape(name)[2], 2**bits)
    table = b.array("table", b.rng.integers(0, 2**out_bits, shape).astype(np.uint8))
    operation = {"op": "lookup", "input": name, "output": b.fresh(), "bits": out_bits, "table": table}
    b.add(operation, output=Known(out_bits))


def dequantize(b: Builder, name: str) -> None:
    """Append a dequantize of the codes `name`."""
    operation: dict[str, Any] = {"op": "dequantize", "input": name, "output": b.fresh()}
    bits = b.known[name].bits
    assert bits is not None
    if b.chance(0.3):
        dyadic = b.chance(0.5)
        shape = (2**bits,) if b.chance(0.5) else (b.shape(name)[2], 2**bits)
        values = b.rng.integers(-24, 25, shape) / 16 if dyadic else b.rng.normal(0, 1, shape)
        b.add({**operation, "table": b.array("table", values.astype(np.float32))}, output=Known(dyadic=dyadic))
        return
    sign = bits == 1 and b.chance(0.5)
    if sign or b.chance(0.3):
        operation["sign"] = sign
    if b.chance(0.4):
        operation["scale"] = float(b.choose((0.25, 0.1, 1.7)))
    dyadic = bits == 1 and operation.get("scale", 0.25) == 0.25
    b.add(operation, output=Known(dyadic=dyadic))


def pool(b: Builder, name: str) -> None:
    """Append a max_pool, avg_pool, global_avg_pool or adaptive_avg_pool."""
    known, (height, width, _) = b.known[name], b.shape(name)
    op = b.choose(("max_pool", "max_pool", "avg_pool", "global_avg_pool"))
    operation: dict[str, Any] = {"op": op, "input": name, "output": b.fresh()}
    if op == "global_avg_pool" and known.bits is None and b.chance(0.5):
        pixels = [int(b.choose((1, 2, 3, extent, 2 * extent))) for extent in (height, width)]
        b.add({**operation, "op": "adaptive_avg_pool", "output_size": pixels}, output=Known(exact=known.exact))
        return
    if op != "global_avg_pool":
        kernel = [int(b.choose((1, 2, 2, 3, 3, 4))) for _ in range(2)]
        padding = [int(b.rng.integers(0, k)) for k in (*kernel, *kernel)] if b.chance(0.5) else [0, 0, 0, 0]
        dilation = [int(b.choose((1, 2, 2, 3))) for _ in kernel] if op == "max_pool" and b.chance(0.6) else [1, 1]
        for axis, size in enumerate((height, width)):
            fits = (size + padding[axis] + padding[axis + 2] - 1) // dilation[axis] + 1
            kernel[axis] = min(kernel[axis], fits)
            padding[axis] = min(padding[axis], kernel[axis] - 1)
            padding[axis + 2] = min(padding[axis + 2], kernel[axis] - 1)
            fits = (size + padding[axis] + padding[axis + 2] - 1) // dilation[axis] + 1
            if kernel[axis] > fits:
                kernel[axis], padding[axis], padding[axis + 2] = 1, 0, 0
        operation |= {
            "kernel_size": kernel,
            "stride": [int(b.choose((1, 2, 2, 3))) for _ in kernel],
            "padding": padding,
        }
        if dilation != [1, 1]:
            operation["dilation"] = dilation
    if op == "avg_pool":
        operation["count_include_pad"] = b.chance(0.5)
    if op != "max_pool" and known.bits is not None and b.chance(0.4):
        operation["scale"] = float(b.choose((0.25, 0.1, 1.0)))
    result = Known(exact=known.exact)
    if op == "max_pool":
        result = Known(known.bits, False, known.exact, known.dyadic)
    b.add(operation, output=result)


def concat(b: Builder, name: str) -> None:
    """Append a concat of `name` and others like it, perhaps itself."""
    height, width, _ = b.shape(name)
    bits = b.known[name].bits
    options = [
        other
        for other in b.names(codes=bits is not None)
        if b.shape(other)[:2] == (height, width) and b.known[other].bits == bits
    ]
    parts = [name, *(b.choose(options) for _ in range(b.choose((1, 1, 2))))]
    b.rng.shuffle(parts)
    known = [b.known[part] for part in parts]
    result = Known(bits, False, all(k.exact for k in known), all(k.dyadic for k in known))
    b.add({"op": "concat", "inputs": parts, "output": b.fresh()}, output=result)


def flatten(b: Builder, name: str) -> None:
    """Append a flatten."""
    known = b.known[name]
    operation = {"op": "flatten", "input": name, "output": b.fresh(), "order": b.choose(("chw", "hwc"))}
    b.add(operation, output=Known(known.bits, False, known.exact, known.dyadic))


def activation(b: Builder, name: str) -> None:
    """Append an activation of the floats `name`."""
    known = b.known[name]
    smooth = ["sigmoid", "logsigmoid", "tanh", "silu", "mish", "gelu", "gelu_tanh", "erf", "selu"]
    inexact = ["elu", "celu", "softplus", *smooth]
    plain = ["hardswish", "hardsigmoid", "softsign", "abs", "softshrink"]
    options = [*plain, *inexact] if is_tame(b, name) else []
    if known.exact:  # they jump, so that last bits count
        options += ["sign", "threshold", "hardshrink"]
    function = b.choose(["leaky_relu", *options])
    operation: dict[str, Any] = {"op": "activation", "input": name, "output": b.fresh(), "function": function}
    exact, dyadic = known.exact and function not in inexact, False
    if function in ("leaky_relu", "elu"):
        channels = b.shape(name)[2]
        dyadic = function == "leaky_relu" and known.dyadic and b.chance(0.5)
        slope = b.rng.integers(-1, 2, channels) if dyadic else b.rng.normal(0, 0.5, channels)
        operation["slope"] = b.array("slope", slope.astype(np.float32))
    numbers = {"celu": ["alpha"], "softplus": ["beta", "threshold"], "threshold": ["threshold", "value"]}
    for key in numbers.get(function, ["lambda"] if function.endswith("shrink") else []):
        operation[key] = float(np.float32(b.rng.uniform(0.1, 2.0)))
    b.add(operation, output=Known(exact=exact, dyadic=dyadic))


def softmax(b: Builder, name: str) -> None:
    """Append a softmax of the floats `name`."""
    operation: dict[str, Any] = {"op": "softmax", "input": name, "output": b.fresh()}
    if b.chance(0.6):
        operation["log"] = b.chance(0.7)
    b.add(operation, output=Known(exact=False))


def normalize(b: Builder, name: str) -> None:
    """Append a normalisation of the floats `name`, which are exact."""
    height, width, channels = b.shape(name)
    rows = int(b.choose((0, 0, 0, 1, 2, 7)))
    operation: dict[str, Any] = {"op": "normalize", "input": name, "by": b.choose(("deviation", "deviation", "norm"))}
    operation |= {"eps": float(b.choose((1e-5, 1e-6, 1e-12, 0, 1)))} | ({"rows": rows} if rows > 0 else {})
    if b.chance(0.2):
        operation["by"] = "root_mean_square"
    if b.chance(0.3):
        operation["groups"] = b.choose([g for g in range(1, channels + 1) if channels % g == 0])
    places = 1 if rows == 0 else width if rows == 1 else height * width
    for key in ("weight", "bias"):
        if b.chance(0.6):
            shape = (places, channels) if b.chance(0.3) else (channels,)
            operation[key] = b.array(key, b.rng.normal(0.5, 0.5, shape).astype(np.float32))
    trial = reference.apply({**operation, "float32": "y"}, b.tensors, b.arrays)["y"].values
    code_results(b, operation, trial, True)


def reduction(b: Builder, name: str) -> None:
    """Append a reduction of the codes or exact floats `name`."""
    known = b.known[name]
    adding, extreme, placing = ["sum", "mean"], ["amax", "amin"], ["argmax", "argmin"]
    function = b.choose([*adding, *extreme, *placing, *(["norm", "var", "std"] if known.bits is None else [])])
    axes = (
        [b.choose((0, -1, -2))] if function in placing else b.choose(([0], [-1], [-2], [0, -1], [-2, -1], [-1, 0, -2]))
    )
    operation: dict[str, Any] = {"op": "reduce", "input": name, "output": b.fresh(), "function": function}
    operation["axes"] = axes
    if function in ("var", "std") and b.chance(0.5):
        operation["correction"] = b.choose((0, 1, 2))
    if function in adding and known.bits is not None and b.chance(0.5):
        operation["scale"] = 0.3
    bits = known.bits if function in extreme else None
    b.add(operation, output=Known(bits, integers=function in placing))


def _repeated(b: Builder, name: str) -> str:
    """Floats of the shape of `name`, or with one place along some of its axes: a mean of it, channels, a constant."""
    height, width, channels = b.shape(name)
    style = b.choose(("like", "gate", "constant", "select"))
    made, exact = b.fresh(), b.known[name].exact
    if style == "gate":
        b.add({"op": "global_avg_pool", "input": name, "output": made}, output=Known(exact=exact))
    elif style == "select":
        channel = b.array("channels", np.array([b.rng.integers(channels)], np.int32))
        b.add({"op": "select", "input": name, "output": made, "channels": channel}, output=Known(exact=exact))
    elif style == "constant":
        shape = [b.choose((1, size)) for size in (height, width, channels)]
        numbers = b.rng.normal(0, 2, shape)
        if exact and b.chance(0.3):
            numbers.flat[b.rng.integers(numbers.size)] = b.choose((0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40))
        values = b.array("values", numbers.astype(np.float32))
        b.add({"op": "constant", "output": made, "values": values}, output=Known())
    options = [
        other
        for other in b.names(codes=False)
        if all(size in (1, whole) for size, whole in zip(b.shape(other), (height, width, channels), strict=True))
        and is_tame(b, name, other)
    ]
    if not options:  # beside numbers so large that even they themselves are too much
        nothing = b.fresh()
        b.add(
            {"op": "constant", "output": nothing, "values": b.array("nothing", np.zeros((1, 1, 1), np.float32))},
            output=Known(),
        )
        return nothing
    return options[-1] if b.chance(0.5) else b.choose(options)


def pair(b: Builder, name: str) -> None:
    """Append a function of the floats `name` and of others, in either order, each perhaps repeated along axes."""
    exact = b.known[name].exact
    functions = ["sub", "mul", "minimum", "maximum", *["div", "where"] * exact]
    function = b.choose(functions)
    others = [_repeated(b, name) for _ in range(2 if function == "where" else 1)]
    if function in ("div", "where") and not all(b.known[other].exact for other in others):
        function, others = "mul", others[:1]
    inputs = [name, others[0]] if b.chance(0.7) else [others[0], name]
    operation: dict[str, Any] = {"op": function, "inputs": inputs, "output": b.fresh()}
    if function == "where":
        operation["condition"] = others[1]
    b.add(operation, output=Known(exact=exact and all(b.known[other].exact for other in others)))


def select(b: Builder, name: str) -> None:
    """Append a select: a slice, a channel shuffle, or any channels in any order."""
    known, channels = b.known[name], b.shape(name)[2]
    style = b.choose(("slice", "slice", "shuffle", "any"))
    if style == "slice":
        step = b.choose((1, 1, 8)) if channels >= 8 else 1
        first = int(b.rng.integers(0, (channels - 1) // step + 1)) * step
        chosen = np.arange(first, channels if b.chance(0.5) else int(b.rng.integers(first + 1, channels + 1)))
    elif style == "shuffle":
        groups = b.choose([g for g in range(1, channels + 1) if channels % g == 0])
        chosen = np.arange(channels).reshape(groups, -1).T.ravel()
    else:
        chosen = b.rng.integers(0, channels, int(b.rng.integers(1, min(channels, 200) + 9)))
    channel_array = b.array("channels", chosen.astype(np.int32))
    operation = {"op": "select", "input": name, "output": b.fresh(), "channels": channel_array}
    b.add(operation, output=Known(known.bits, False, known.exact, known.dyadic))
    follow_with_layer(b, operation["output"])


def _matrix(b: Builder, name: str, turned: int) -> tuple[int, int]:
    """Rows and columns of the matrices of a tensor."""
    _, width, channels = b.shape(name)
    return (channels, width) if turned else (width, channels)


def _meets(b: Builder, name: str, other: str) -> bool:
    return b.shape(other)[0] in (1, b.shape(name)[0]) or b.shape(name)[0] == 1


def product(b: Builder, name: str) -> None:
    """Append a matmul of floats, or a matmul_codes, of `name` and a tensor that fits, perhaps itself."""
    bits = b.known[name].bits
    found = [
        (pair, turned)
        for other in b.names(codes=bits is not None)
        for pair in ((name, other), (other, name))
        for turned in ((0, 0), (0, 1), (1, 0), (1, 1))
        if _matrix(b, pair[0], turned[0])[1] == _matrix(b, pair[1], turned[1])[0]
        and _meets(b, *pair)
        and (bits is not None or is_tame(b, *pair))
    ]
    found = [(pair, turned) for pair, turned in found if _product_size(b, pair, turned) <= b.most_macs]
    if not found:
        return flatten(b, name)
    pair, turned = b.choose(found) if len(found) > 1 else found[0]
    operation: dict[str, Any] = {"inputs": list(pair), **({"transposed": list(turned)} if any(turned) else {})}
    if bits is None:
        scale = {"scale": float(b.choose((0.5, -0.25, 0.125)))} if b.chance(0.5) else {}
        return b.add({"op": "matmul", **operation, **scale, "output": b.fresh()}, output=Known(exact=False))
    widths = [b.known[one].bits or 0 for one in pair]
    signs = [int(width == 1 and b.chance(0.5)) for width in widths]
    zeros = [0 if sign else int(b.rng.integers(0, 2**width)) for width, sign in zip(widths, signs, strict=True)]
    operation |= {"zero_points": zeros} if b.chance(0.7) else {}
    operation |= {"signs": signs} if any(signs) else {}
    if any(signs) and "zero_points" not in operation:
        operation["zero_points"] = [0, 0]
    style = b.choose(("int32", "float32", "both"))
    leaves: dict[str, Known] = {}
    if style != "float32":
        operation["int32"] = b.fresh()
        leaves["int32"] = Known(integers=True)
    if style != "int32":
        operation |= {"float32": f"t{len(b.known) + len(leaves)}", "scale": float(b.choose((0.1, 0.01, 1.0)))}
        leaves["float32"] = Known()
    return b.add({"op": "matmul_codes", **operation}, **leaves)


def _product_size(b: Builder, pair: Sequence[str], turned: Sequence[int]) -> int:
    (rows, depth), (_, columns) = (_matrix(b, one, turn) for one, turn in zip(pair, turned, strict=True))
    return max(b.batch, 1) * max(b.shape(pair[0])[0], b.shape(pair[1])[0]) * rows * columns * max(depth, 8)


def attention(b: Builder, name: str) -> None:
    """Append an attention with the floats `name` as queries, and what fits as keys, values and bias."""
    height, width, channels = b.shape(name)

    def fits(one: str, rows: int | None, wanted: int | None) -> bool:
        own_height, own_width, own = b.shape(one)
        is_shape = rows in (None, own_width) and wanted in (None, own)
        return is_shape and height % own_height == 0 and is_tame(b, one)

    floats = b.names(codes=False)
    key = b.choose([name, *(one for one in floats if fits(one, None, channels))])
    keys = b.shape(key)[1]
    value = b.choose([key, *(one for one in floats if fits(one, keys, None))])
    inputs = [name, key, value]
    biases = [
        one
        for one in floats
        if b.shape(one)[2] == keys and b.shape(one)[0] in (1, height) and b.shape(one)[1] in (1, width)
    ]
    biases = [one for one in biases if is_tame(b, one)]
    if biases and b.chance(0.7):
        inputs.append(b.choose(biases))
    operation: dict[str, Any] = {"op": "attention", "inputs": inputs, "output": b.fresh()}
    operation |= {"scale": float(b.choose((0.125, 0.5, 1.0)))} if b.chance(0.8) else {}
    operation |= {"causal": b.chance(0.7)} if b.chance(0.5) else {}
    b.add(operation, output=Known(exact=False))


# Programs


def _grow(b: Builder) -> None:
    """Append a random operation to a random tensor, the latest ones most often."""
    names = b.names()
    name = names[-1] if b.chance(0.7) else b.choose(names)
    known = b.known[name]
    vector = b.shape(name)[:2] == (1, 1)
    options = ["pool", "concat", "select"]
    if b.shape(name)[0] * b.shape(name)[1] * b.shape(name)[2] < 3000:
        options += ["flatten", "pad", "window", "window", "volume", "volume", "pool_of_all_keys"]
        options += ["adaptive_max", "reshape", "permute", "take", "resize", "concat_rows"]
    if known.bits is not None:
        options += ["conv", "conv", "conv", "conv", "lookup", "dequantize", "product"] + ["linear"] * 4 * vector
    else:
        options += ["affine", "add", "conv_float", "activation"] + ["softmax", "pair", "pair"] * is_tame(b, name)
        small = b.shape(name)[0] * b.shape(name)[1] ** 2 * (b.shape(name)[2] + 8) * max(b.batch, 1) < b.most_macs
        options += ["product", "attention"] * (is_tame(b, name) and small)
        options += ["linear_float"] * 2 * vector + ["quantize"] * 4 * known.exact
    options += ["normalize"] * 2 * (known.exact and known.bits is None) + ["reduce"] * known.exact
    options += ["signal"] * (b.shape(name)[0] == 1)
    if b.shape(name)[2] > 300:
        options = [option for option in options if option not in ("concat", "pad", "window", "volume")]
    option = b.choose(options)
    if option in ("conv", "linear"):
        low_bit_layer(b, "conv2d" if option == "conv" else "linear", name)
    elif option in ("conv_float", "linear_float"):
        float_layer(b, "conv2d_float" if option == "conv_float" else option, name)
    else:
        grow: dict[str, Callable[[Builder, str], None]] = {
            "pool": pool,
            "concat": concat,
            "flatten": flatten,
            "lookup": lookup,
            "dequantize": dequantize,
        }
        grow |= {"product": product, "attention": attention}
        grow |= {"affine": affine, "add": addition, "quantize": quantize}
        grow |= {"activation": activation, "softmax": softmax, "pair": pair, "select": select, "pad": pad}
        grow |= {"normalize": normalize, "reduce": reduction, "window": window_layer, "volume": volume}
        grow |= {"signal": partial(window_layer, axes=1)}
        grow |= {"reshape": reshape, "permute": permute, "take": take, "resize": resize, "concat_rows": concat_rows}
        grow |= {"adaptive_max": adaptive_max_pool, "pool_of_all_keys": pool_of_all_keys}
        grow[option](b, name)


def _image(b: Builder, most: int = 40_000, sides: Sequence[int] = SIDES) -> list[int]:
    """A random [C, H, W] whose batch has at most that many values."""
    channels, height, width = (int(b.choose(sizes)) for sizes in (CHANNELS, sides, sides))
    while max(b.batch, 1) * channels * height * width > most:
        height, width = max(height // 2, 1), max(width // 2, 1)
        b.batch = max(b.batch // 2, 1) if b.batch > 0 else 0
        channels = channels // 2 if height * width == 1 and b.batch <= 1 else channels
    return [channels, height, width]


def _builder(rng: np.random.Generator) -> Builder:
    return Builder(rng, int(BATCHES[rng.integers(len(BATCHES))]))


def single_layer(rng: np.random.Generator, weight_bits: int | None = None, activation_bits: int | None = None) -> Case:
    """One conv2d or linear layer of codes, with whatever may follow it."""
    b = _builder(rng)
    bits = int(rng.integers(1, 9)) if activation_bits is None else activation_bits
    weight_bits = int(rng.integers(1, 9)) if weight_bits is None else weight_bits
    if b.chance(0.15):
        name = b.codes_input([int(b.choose((*CHANNELS, 200, 257, 1000)))], bits)
        low_bit_layer(b, "linear", name, weight_bits)
    else:
        shape = _image(b)
        name = b.codes_input(shape, bits)
        if b.chance(0.15):  # something to add
            b.float_input([int(b.choose(CHANNELS)), *shape[1:]])
        low_bit_layer(b, "conv2d", name, weight_bits)
    return b.finish()


def chain(rng: np.random.Generator) -> Case:
    """Any operations in any order, on one to three inputs."""
    b = _builder(rng)
    return _chain(b, _image(b, most=15_000))


def _chain(b: Builder, shape: list[int]) -> Case:
    for _ in range(int(b.choose((1, 1, 2, 3)))):
        if b.chance(0.5):
            b.codes_input(shape, int(b.choose((1, 2, 2, 3, 4, 8))))
        else:
            b.float_input(shape if b.chance(0.9) else [shape[0]])
        if b.chance(0.3):
            shape = [int(b.choose(CHANNELS)), *shape[1:]]
    for _ in range(int(b.rng.integers(1, 9))):
        _grow(b)
    return b.finish()


def residual_net(rng: np.random.Generator) -> Case:
    """Pre-activation blocks of one width: quantize, conv, quantize in its epilogue, conv, add the shortcut."""
    b = _builder(rng)
    channels = int(b.choose((3, 8, 16, 17, 32, 40, 64)))
    side = int(b.choose((1, 4, 7, 8)))
    stream = b.float_input([channels, side, side])
    for _ in range(int(b.choose((1, 2, 3)))):
        bits, out_bits, weight_bits = (int(b.choose((1, 1, 2, 2, 3, 4))) for _ in range(3))
        codes = b.fresh()
        b.add({"op": "quantize", "input": stream, "output": codes, "bits": bits}, output=Known(bits))
        for half in (0, 1):
            operation: dict[str, Any] = {"op": "conv2d", "input": codes, "weight_bits": weight_bits, "groups": 1}
            operation |= meaning_keys(b, bits if half == 0 else out_bits)
            grid = operation.get("weight_grid", "odd")
            weight = any_weight_codes(b, (channels, 3, 3, channels), weight_bits, grid)
            d = reference.conv2d_codes(
                b.tensors[codes].values, weight, padding=(1, 1, 1, 1), **meaning_arguments(operation)
            )
            operation |= {"out_channels": channels, "kernel_size": [3, 3], "stride": [1, 1], "dilation": [1, 1]}
            operation |= {"padding": [1, 1, 1, 1], **float_keys(b, d)}
            operation["weight"] = b.array("weight", reference.pack_weights(weight, weight_bits, grid))
            if b.chance(0.35):
                operation |= norm_keys(b, channels, exact=True)
            result = b.fresh()
            if half == 0:
                b.add({**operation, "codes": result, "bits": out_bits}, codes=Known(out_bits))
                codes = result
            else:
                b.add({**operation, "residual": stream, "float32": result}, float32=Known())
                stream = result
    if b.chance(0.5):
        b.add({"op": "global_avg_pool", "input": stream, "output": b.fresh()}, output=Known())
    return b.finish()


def bound(rng: np.random.Generator) -> Case:
    """A layer whose sums reach ±K·c·n_a, c the largest weight code, up to the largest K that int32 allows."""
    b = _builder(rng)
    b.batch = min(b.batch, 2)
    weight_bits, bits = int(rng.integers(1, 9)), int(rng.integers(1, 9))
    grid, n = str(b.choose(("odd", "signed"))), reference.levels(bits)
    step, lowest = reference.code_line(weight_bits, grid)
    most = (2**31 - 1) // (-lowest * n)
    inputs = int(min(most, b.choose((129, 4000, 33025, 150_001))))  # the last: more than 16 bits can count
    outputs = int(b.choose((1, 2, 33))) if inputs <= 33025 else 2
    ends = np.array([lowest, lowest + step * reference.levels(weight_bits)])
    row = ends[b.rng.integers(0, 2, (outputs, 1))]
    weight = np.broadcast_to(row, (outputs, inputs))
    code, zero_point = b.choose(((n, 0), (n, 0), (n, n), (0, n), (n, n // 2), (0, n // 2)))
    name = b.add_input([inputs], bits, np.full((b.batch, inputs), code, np.uint8))
    operation = {"op": "linear", "input": name, "weight_bits": weight_bits, "out_channels": outputs}
    operation |= {"weight_grid": grid, "zero_point": zero_point}
    operation["weight"] = b.array("weight", reference.pack_weights(weight, weight_bits, grid))
    if bits == 1 and code == 1 and zero_point == 0:
        operation["sign_activations"] = b.chance(0.5)  # code 1 is +1 then: the sums are the same
    d = np.broadcast_to(row.T * inputs * (code - zero_point), (b.batch, 1, 1, outputs))
    finish_layer(b, operation, d, Known(), low_bit=True)
    return b.finish()


def any_size(rng: np.random.Generator) -> Case:
    """A program whose sizes are open, at one of them."""
    operations, arrays, x = open_case(rng)
    expected = reference.run(operations, arrays, x)
    assert isinstance(expected, dict)  # it has two outputs
    return Case(operations, arrays, [x], {name: np.ascontiguousarray(y) for name, y in expected.items()}, {})


def indexed(rng: np.random.Generator) -> Case:
    """Rows of a table, of floats or of packed codes, and a layer on them."""
    b = _builder(rng)
    rows, channels, bits = (int(b.choose(options)) for options in ((1, 2, 33, 300), CHANNELS, range(1, 9)))
    shape = [int(b.choose(SIDES)) for _ in range(int(b.choose((1, 1, 2))))]
    name, dtype = b.fresh(), str(b.choose(("int32", "int64")))
    port = {"op": "input", "output": name, "dtype": dtype, "below": rows, "shape": [1, *shape], "order": "nhwc"}
    b.inputs.append(rng.integers(0, rows, (b.batch, *shape, 1)).astype(dtype))
    b.operations.append(port)
    b.tensors[name], b.known[name] = reference.read_input(port, b.inputs[0]), Known(integers=True)
    embedding: dict[str, Any] = {"op": "embedding", "input": name, "output": b.fresh()}
    if b.chance(0.4):
        embedding["table"] = b.array("table", rng.normal(size=(rows, channels)).astype(np.float32))
    else:
        grid = str(b.choose(("odd", "signed")))
        step, lowest = reference.code_line(bits, grid)
        codes = lowest + step * rng.integers(0, 2**bits, (rows, channels))
        scale = rng.normal(size=rows if b.chance(0.5) else 1).astype(np.float32)
        embedding |= {"table": b.array("table", reference.pack_weights(codes, bits, grid)), "weight_bits": bits}
        embedding |= {"channels": channels, "weight_grid": grid, "scale": b.array("scale", scale)}
        if b.chance(0.4):
            embedding["levels"] = b.array("levels", rng.normal(size=2**bits).astype(np.float32))
    b.add(embedding, output=Known())
    quantized = b.fresh()
    b.add({"op": "quantize", "input": embedding["output"], "output": quantized, "bits": bits}, output=Known(bits))
    return b.finish()


def large_case(seed: int) -> Case:
    """The large case of a seed: enough work that several threads share each operation, along pixels and channels."""
    rng = np.random.default_rng(seed)
    b = Builder(rng, int(rng.integers(1, 5)), most_macs=20 * MOST_MACS)
    shape = _image(b, most=120_000, sides=(9, 14, 17, 28, 32, 56))
    if seed % 2 == 1:
        return _chain(b, shape)
    name = b.codes_input(shape, int(b.choose((1, 1, 2, 2, 3, 4, 8))))
    low_bit_layer(b, "conv2d", name)
    return b.finish()


def random_case(seed: int) -> Case:
    """The case of a seed: half of them single layers, the rest whole programs.

    Any 128 seeds in a row, from a multiple of 128 on, have a single layer for each pair of bit widths.
    """
    rng = np.random.default_rng(seed)
    group, kind = divmod(seed, 16)
    if kind < 8:
        return single_layer(rng, weight_bits=1 + kind, activation_bits=1 + group % 8)
    if kind < 14:
        return chain(rng)
    if kind == 14:
        return residual_net(rng)
    return bound(rng) if group % 2 == 0 else any_size(rng) if group % 4 == 1 else indexed(rng)
