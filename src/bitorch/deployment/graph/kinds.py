"""The kinds of nodes: one row for each, with all that capture, passes and backends know of a kind.

A new kind is a row here, a rule of capture or a pass that makes it, and what each backend makes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, NoneType

from torch import Tensor

from . import shapes
from .shapes import Settings

#: What the value of a setting may be.
Types = tuple[type, ...]
Property = Callable[[Settings], bool]

_TENSOR: Types = (Tensor,)
_TENSOR_OR_NONE: Types = (Tensor, NoneType)
_INTS: Types = (tuple,)
_INT: Types = (int,)
_FLAG: Types = (bool,)
_TEXT: Types = (str,)
_BOUND: Types = (float, NoneType)

_WINDOW = {"kernel_size": _INTS, "stride": _INTS, "padding": _INTS}
_GEOMETRY = {**_WINDOW, "dilation": _INTS, "groups": _INT}
_CODES = {"bits": _INT, "sign": _FLAG}
_QUANTIZER = {
    "form": _TEXT,
    "bits": _INT,
    "divide": _TENSOR_OR_NONE,
    "plus": _TENSOR_OR_NONE,
    "zero_point": _INT,
    "code_scale": _TENSOR_OR_NONE,
    "keeps_nan": _FLAG,
}
_WEIGHT = {"weight": _TENSOR, "weight_bits": _INT, "weight_grid": _TEXT, "largest": _INTS}


def always(settings: Settings) -> bool:
    """Whatever the settings."""
    return True


def never(settings: Settings) -> bool:
    """Whatever the settings."""
    return False


@dataclass(frozen=True)
class Kind:
    """One kind of nodes.

    Attributes:
        name: as `Node.kind` has it.
        doc: what a node computes, and what its settings are.
        arity: how many nodes it reads; None: one or more.
        settings: of each, the types that it may have. Tuples hold whole numbers.
        geometry: further settings, of which a node has all or none.
        shape: whether its shape follows from its settings and the shapes that it reads.
        captured: whether capture makes it; the others are made by passes.
        elementwise: it computes each number of its result from one number, of the same channel.
        monotone: whether with these settings every channel rises or falls throughout, with the rounding of float32 too.
            It may make NaN of −inf or inf: at its ends, and nowhere between.
        nearly_rising: whether with these settings the function rises, and what a library computes may fall by its last
            bits, see `same_but_for_last_bits`.
        lowest: of a function that rises from 0 on, and that gives for x ≤ 0 numbers between this one and 0 only; it may
            make NaN of −inf. None of the others. What a library computes may fall by its last bits.
        rising: whether with these settings no channel falls anywhere or makes NaN, so that it commutes with a maximum.
            A factor of 0 makes NaN of infinities, which wins a maximum that the infinity, if it is −inf, would have
            lost.
        moves: each number of its result is one, or the largest, of those that it reads: so it commutes with what rises.
        keeps_channels: each number of its result is made of numbers of its own channel.
        weighs: it sums products with a weight.
        sums: its sum is one of floats, in an order that is free.
        exact: its value has the same bits wherever it is computed; False of free sums, and of a library's exp.
        lost: of what is not exact, how far a library's value may be from the true one beside its last bits, as
            PyTorch takes the tail of GELU from 1. Then huge numbers, too, become inf or NaN in some places of a tensor.
        makes_codes: of floats or of codes: there NaN ends.
    """

    name: str
    doc: str
    arity: int | None = 1
    settings: Mapping[str, Types] = field(default_factory=dict)
    geometry: Mapping[str, Types] = field(default_factory=dict)
    shape: shapes.Rule = shapes.anything
    captured: bool = True
    elementwise: bool = False
    monotone: Property = never
    nearly_rising: Property = never
    lowest: float | None = None
    rising: Property = never
    moves: bool = False
    keeps_channels: bool = False
    weighs: bool = False
    sums: bool = False
    exact: bool = True
    lost: float = 0.0
    makes_codes: bool = False


def _finite(key: str) -> Property:
    """Monotone: x·c or x + c with finite numbers."""
    return lambda settings: bool(settings[key].isfinite().all())


def _nonzero(key: str) -> Property:
    return lambda settings: bool((settings[key].isfinite() & (settings[key] != 0)).all())


def _positive(key: str) -> Property:
    return lambda settings: bool((settings[key].isfinite() & (settings[key] > 0)).all())


def _elementwise(
    name: str,
    doc: str,
    settings: Mapping[str, Types] | None = None,
    *,
    monotone: Property = never,
    nearly_rising: Property = never,
    lowest: float | None = None,
    rising: Property = never,
    exact: bool = True,
    lost: float = 0.0,
    captured: bool = True,
) -> Kind:
    return Kind(
        name,
        doc,
        settings={} if settings is None else settings,
        shape=shapes.same,
        elementwise=True,
        monotone=monotone,
        nearly_rising=nearly_rising,
        lowest=lowest,
        rising=rising,
        keeps_channels=True,
        exact=exact,
        lost=lost,
        captured=captured,
    )


_ROWS = (
    Kind("input", "An argument of the model. `pixels`: uint8 in place of floats.", arity=0, settings={"pixels": _FLAG}),
    Kind(
        "identity",
        "Another memory layout, padding by nothing, [F] as [F, 1, 1], [C, L] as [C, 1, L], [1] as a number, and back.",
        shape=shapes.as_many,
    ),
    Kind("unsupported", "What has no other kind; capture tells a problem then.", arity=None),
    Kind(
        "quantizer",
        "A QActivation or Quantization whose values go on as floats. `form`, `bits`: see quantizations.arithmetic; "
        "what comes before: `divide` and `plus`, [1] or [C], None for nothing; what codes stand for: "
        "(code − `zero_point`)·`code_scale`, 0-dim, None for the form's own values.",
        settings=_QUANTIZER,
        shape=shapes.same,
    ),
    Kind(
        "low_bit",
        "A QConv1d, QConv2d or QLinear. Settings of its input's quantizer, and `weight`, integers as float32 "
        "[C_out, …], of `weight_bits` on `weight_grid`; `largest` absolute codes of input and weight; `scale` [1] or "
        "[C_out], of both; `bias` or None. Of convolutions the geometry of conv, `padding_mode` and `pad_code`.",
        settings={**_QUANTIZER, **_WEIGHT, "scale": _TENSOR, "bias": _TENSOR_OR_NONE},
        geometry={**_GEOMETRY, "padding_mode": _TEXT, "pad_code": _INT},
        shape=shapes.weighted,
    ),
    Kind(
        "conv",
        "A float convolution, 1d or 2d. `weight` [C_out, C_in / groups, …], `bias` or None; `padding` before and after "
        "each dimension, outermost first.",
        settings={"weight": _TENSOR, "bias": _TENSOR_OR_NONE, **_GEOMETRY},
        shape=shapes.weighted,
        weighs=True,
        sums=True,
        exact=False,
    ),
    Kind(
        "linear",
        "A float linear layer, of the channels at each place of the rows. `weight` [F_out, F_in], `bias` or None.",
        settings={"weight": _TENSOR, "bias": _TENSOR_OR_NONE},
        shape=shapes.weighted,
        weighs=True,
        sums=True,
        exact=False,
    ),
    _elementwise(
        "batch_norm",
        "x·`multiply` + `offset`, [C], rounded once.",
        {"multiply": _TENSOR, "offset": _TENSOR},
        monotone=_finite("multiply"),
        rising=_positive("multiply"),
    ),
    _elementwise("relu", "max(x, 0).", monotone=always, rising=always),
    _elementwise(
        "clamp",
        "min(max(x, `low`), `high`); either may be None.",
        {"low": _BOUND, "high": _BOUND},
        monotone=always,
        rising=always,
    ),
    # −inf·0 and 0·inf are NaN, and behind that it goes on: so a slope of 0 is none.
    _elementwise(
        "leaky_relu",
        "x where it is above 0, else x·`slope`, [C].",
        {"slope": _TENSOR},
        monotone=_positive("slope"),
        rising=_positive("slope"),
    ),
    # Of a library's exp it is not proven that rounding keeps its order.
    _elementwise(
        "elu",
        "x where it is above 0, else `alpha`·(exp(x) − 1), [C].",
        {"alpha": _TENSOR},
        nearly_rising=_positive("alpha"),
        exact=False,
    ),
    _elementwise("hardswish", "x·min(max(x + 3, 0), 6)/6. It falls below −1.5.", lowest=-0.3751),
    _elementwise("hardsigmoid", "min(max(x + 3, 0), 6)/6.", monotone=always, rising=always),
    _elementwise("sigmoid", "1/(1 + exp(−x)).", nearly_rising=always, exact=False),
    _elementwise("tanh", "tanh(x).", nearly_rising=always, exact=False),
    _elementwise("silu", "x/(1 + exp(−x)). It falls below −1.28.", lowest=-0.2785, exact=False),
    _elementwise("gelu", "x·Φ(x). It falls below −0.75.", lowest=-0.17, exact=False, lost=2.0**-18),
    _elementwise("gelu_tanh", "x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2.", lowest=-0.1701, exact=False, lost=2.0**-18),
    _elementwise("plus", "x + `constant`, [C].", {"constant": _TENSOR}, monotone=always, rising=_finite("constant")),
    _elementwise(
        "times",
        "x·`constant`, [C].",
        {"constant": _TENSOR},
        monotone=_finite("constant"),
        rising=_positive("constant"),
    ),
    _elementwise(
        "divide",
        "x/`constant`, [C].",
        {"constant": _TENSOR},
        monotone=_nonzero("constant"),
        rising=_positive("constant"),
    ),
    Kind(
        "max_pool",
        "The largest number of a window; `padding` as of conv.",
        settings={**_WINDOW, "dilation": _INTS},
        shape=shapes.pooled,
        moves=True,
        keeps_channels=True,
    ),
    Kind(
        "avg_pool",
        "The mean of a window, row by row. `count_include_pad`: borders count.",
        settings={**_WINDOW, "count_include_pad": _FLAG},
        shape=shapes.pooled,
        keeps_channels=True,
    ),
    Kind(
        "global_avg_pool",
        "The mean over all rows, to [C], or with ones behind.",
        shape=shapes.one_pixel,
        keeps_channels=True,
        sums=True,
        exact=False,
    ),
    Kind(
        "adaptive_avg_pool",
        "Means of windows that cover the image, to `output_size` pixels.",
        settings={"output_size": _INTS},
        shape=shapes.resized,
        keeps_channels=True,
    ),
    Kind("add", "The sum of two tensors.", arity=2, shape=shapes.same),
    Kind("mul", "The product of two tensors, or of one with one number per channel.", arity=2, shape=shapes.gated),
    Kind(
        "concat",
        "Tensors one behind the other along `axis`: 0 of channels, 1 of the first row axis, and so on.",
        arity=None,
        settings={"axis": _INT},
        shape=shapes.joined,
        moves=True,
    ),
    Kind(
        "flatten",
        "To [F]: channel by channel, or, with `channels_last`, row by row.",
        settings={"channels_last": _FLAG},
        shape=shapes.flattened,
        moves=True,
    ),
    Kind(
        "select",
        "`channels`: for each of the result's the one that it is.",
        settings={"channels": _INTS},
        shape=shapes.chosen,
        moves=True,
    ),
    Kind(
        "take",
        "`indices` of a row axis, `axis` from 1 on: for each of the result's places the one that it is.",
        settings={"axis": _INT, "indices": _INTS},
        shape=shapes.taken,
        moves=True,
        keeps_channels=True,
    ),
    Kind("reshape", "The same numbers, rows first and channels last.", shape=shapes.as_many, moves=True),
    Kind(
        "permute",
        "Axis i of [C, *rows] is axis `axes`[i] of the input.",
        settings={"axes": _INTS},
        shape=shapes.permuted,
        moves=True,
    ),
    Kind(
        "pad",
        "Borders: `padding` as of conv, `channels` before and after; `mode` as of F.pad, and its `value`.",
        settings={"padding": _INTS, "channels": _INTS, "mode": _TEXT, "value": (float, int)},
        shape=shapes.padded,
    ),
    Kind("softmax", "Over channels. `log`: its logarithm.", settings={"log": _FLAG}, shape=shapes.same, exact=False),
    # From here on the kinds that passes make.
    Kind(
        "codes",
        "float32 to integer codes: `form`, `bits`, `zero_point`, see quantizations.arithmetic; `sign`: they are ±1; "
        "`keeps_nan`: NaN is NaN, else the lowest code.",
        settings={"form": _TEXT, "zero_point": _INT, "keeps_nan": _FLAG, **_CODES},
        shape=shapes.same,
        captured=False,
        makes_codes=True,
    ),
    Kind(
        "values",
        "Codes to floats: `table` of the values by code, [levels] or [C, levels]; None: code/(2^bits − 1), or ±1.",
        settings={**_CODES, "table": _TENSOR_OR_NONE},
        shape=shapes.same,
        captured=False,
    ),
    Kind(
        "product",
        "Codes to D = Σ c·(q − `zero_point`). The weight's settings of low_bit, and the geometry of conv, which a "
        "linear layer has not.",
        settings={**_WEIGHT, "sign": _FLAG, "zero_point": _INT},
        geometry=_GEOMETRY,
        shape=shapes.weighted,
        captured=False,
        weighs=True,
    ),
    _elementwise(
        "scale",
        "D·`scale`, [1] or [C]: D to float32.",
        {"scale": _TENSOR},
        monotone=_finite("scale"),
        rising=_positive("scale"),
        captured=False,
    ),
    # From here on those of the backend bitorch_runtime.
    Kind(
        "lookup",
        "Codes to codes: `table` [levels] or [C, levels] of what the program stores.",
        settings={**_CODES, "table": _TENSOR},
        shape=shapes.same,
        captured=False,
        makes_codes=True,
    ),
    Kind(
        "thresholds",
        "D or float32 to codes: how many of `thresholds` [C, n] are reached, from below, or from above where "
        "`descending` [C]; with a `table` [n + 1] or [C, n + 1], of D only, what it holds for that many.",
        settings={**_CODES, "thresholds": _TENSOR, "descending": _TENSOR, "table": _TENSOR_OR_NONE},
        shape=shapes.same,
        captured=False,
        makes_codes=True,
    ),
)

#: All kinds, by name.
KINDS: Mapping[str, Kind] = MappingProxyType({row.name: row for row in _ROWS})
#: Those of a graph as capture makes it of a model that can be deployed.
CAPTURED = frozenset(row.name for row in _ROWS if row.captured) - {"unsupported"}
