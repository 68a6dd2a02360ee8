"""Functions of each number, and of numbers at one place of several tensors."""

from __future__ import annotations

from . import shapes
from .kind import BOUND, FLAG, NUMBER, TENSOR, Kind, always, elementwise_kind, finite, nonzero, positive
from .shapes import Settings


def _joins(settings: Settings) -> bool:
    """Whether softplus ends so far up that what it jumps down by is lost in rounding."""
    return bool(settings["threshold"] >= 16)


def _jumps_up(settings: Settings) -> bool:
    return bool(settings["value"] <= settings["threshold"])


FUNCTIONS: tuple[Kind, ...] = (
    elementwise_kind(
        "batch_norm",
        "x·`multiply` + `offset`, [C], rounded once.",
        {"multiply": TENSOR, "offset": TENSOR},
        monotone=finite("multiply"),
        rising=positive("multiply"),
    ),
    elementwise_kind("relu", "max(x, 0).", monotone=always, rising=always),
    elementwise_kind(
        "clamp",
        "min(max(x, `low`), `high`); either may be None.",
        {"low": BOUND, "high": BOUND},
        monotone=always,
        rising=always,
    ),
    # −inf·0 and 0·inf are NaN, and behind that it goes on: so a slope of 0 is none.
    elementwise_kind(
        "leaky_relu",
        "x where it is above 0, else x·`slope`, [C].",
        {"slope": TENSOR},
        monotone=positive("slope"),
        rising=positive("slope"),
    ),
    # Of a library's exp it is not proven that rounding keeps its order.
    elementwise_kind(
        "elu",
        "x where it is above 0, else `alpha`·(exp(x) − 1), [C].",
        {"alpha": TENSOR},
        nearly_rising=positive("alpha"),
        exact=False,
    ),
    elementwise_kind(
        "selu", "s·x where x is above 0, else s·a·(exp(x) − 1), of fixed s and a.", nearly_rising=always, exact=False
    ),
    elementwise_kind(
        "celu",
        "x where it is above 0, else `alpha`·(exp(x/`alpha`) − 1), `alpha` above 0.",
        {"alpha": NUMBER},
        nearly_rising=always,
        exact=False,
    ),
    elementwise_kind("hardswish", "x·min(max(x + 3, 0), 6)/6. It falls below −1.5.", lowest=-0.3751),
    elementwise_kind("hardsigmoid", "min(max(x + 3, 0), 6)/6.", monotone=always, rising=always),
    elementwise_kind("sigmoid", "1/(1 + exp(−x)).", nearly_rising=always, exact=False),
    elementwise_kind("logsigmoid", "−ln(1 + exp(−x)).", nearly_rising=always, exact=False),
    elementwise_kind("tanh", "tanh(x).", nearly_rising=always, exact=False),
    elementwise_kind("erf", "2/√π·∫exp(−t²)dt from 0 to x.", nearly_rising=always, exact=False),
    elementwise_kind("exp", "exp(x).", nearly_rising=always, exact=False),
    elementwise_kind(
        "softplus",
        "ln(1 + exp(`beta`·x))/`beta`, `beta` above 0; x where `beta`·x is above `threshold`.",
        {"beta": NUMBER, "threshold": NUMBER},
        nearly_rising=_joins,
        exact=False,
    ),
    elementwise_kind("mish", "x·tanh(ln(1 + exp(x))). It falls below −1.19.", lowest=-0.3089, exact=False),
    elementwise_kind("silu", "x/(1 + exp(−x)). It falls below −1.28.", lowest=-0.2785, exact=False),
    elementwise_kind("gelu", "x·Φ(x). It falls below −0.75.", lowest=-0.17, exact=False, lost=2.0**-18),
    elementwise_kind(
        "gelu_tanh", "x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2.", lowest=-0.1701, exact=False, lost=2.0**-18
    ),
    # Each rounds a step at a time. They have NaN below 0, a pole, or rise but for their last bits.
    elementwise_kind("log", "ln(x).", exact=False),
    elementwise_kind("sqrt", "√x; a library's may be the other neighbour of it.", exact=False),
    elementwise_kind("rsqrt", "1/√x."),
    elementwise_kind("reciprocal", "1/x."),
    elementwise_kind("abs", "|x|."),
    elementwise_kind("softsign", "x/(1 + |x|)."),
    # Of NaN it is 0, which is not the lowest code: so it counts as one that may go any way.
    elementwise_kind("sign", "−1, 0 or 1."),
    elementwise_kind(
        "threshold",
        "x where it is above `threshold`, else `value`.",
        {"threshold": NUMBER, "value": NUMBER},
        monotone=_jumps_up,
        rising=_jumps_up,
    ),
    elementwise_kind(
        "hardshrink",
        "x, but 0 from −`lambda` to `lambda`.",
        {"lambda": NUMBER},
        monotone=always,
        rising=always,
    ),
    elementwise_kind(
        "softshrink",
        "x nearer to 0 by `lambda`, and 0 from −`lambda` to `lambda`.",
        {"lambda": NUMBER},
        monotone=always,
        rising=always,
    ),
    elementwise_kind("plus", "x + `constant`, [C].", {"constant": TENSOR}, monotone=always, rising=finite("constant")),
    elementwise_kind(
        "times",
        "x·`constant`, [C].",
        {"constant": TENSOR},
        monotone=finite("constant"),
        rising=positive("constant"),
    ),
    elementwise_kind(
        "divide",
        "x/`constant`, [C].",
        {"constant": TENSOR},
        monotone=nonzero("constant"),
        rising=positive("constant"),
    ),
    Kind("softmax", "Over channels. `log`: its logarithm.", settings={"log": FLAG}, shape=shapes.same, exact=False),
)
