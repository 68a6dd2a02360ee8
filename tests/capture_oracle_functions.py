"""Functions of floats for the oracle of capture, in float64 and written without bitorch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Wide = NDArray[np.float64]
Settings = Mapping[str, Any]


def _selu(x: Wide, settings: Settings) -> Wide:
    alpha, scale = 1.6732632423543772, 1.0507009873554805
    return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _celu(x: Wide, settings: Settings) -> Wide:
    alpha = settings["alpha"]
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha))


def _softplus(x: Wide, settings: Settings) -> Wide:
    scaled = x * settings["beta"]
    small = np.log1p(np.exp(np.minimum(scaled, settings["threshold"]))) / settings["beta"]
    return np.where(scaled > settings["threshold"], x, small)


def _softshrink(x: Wide, settings: Settings) -> Wide:
    bound = settings["lambda"]
    return np.where(x > bound, x - bound, np.where(x < -bound, x + bound, x * 0))


#: By the kind of the node: of its input and its settings.
FUNCTIONS: Mapping[str, Callable[[Wide, Settings], Wide]] = {
    "selu": _selu,
    "celu": _celu,
    "softplus": _softplus,
    "softshrink": _softshrink,
    "hardshrink": lambda x, s: np.where(np.abs(x) > s["lambda"], x, x * 0),
    "threshold": lambda x, s: np.where(x > s["threshold"], x, s["value"]),
    "mish": lambda x, s: x * np.tanh(np.logaddexp(0, x)),
    "logsigmoid": lambda x, s: -np.logaddexp(0, -x),
    "softsign": lambda x, s: x / (1 + np.abs(x)),
    "erf": lambda x, s: np.vectorize(math.erf, otypes=[np.float64])(x),
    "exp": lambda x, s: np.exp(x),
    "log": lambda x, s: np.log(x),
    "sqrt": lambda x, s: np.sqrt(x),
    "rsqrt": lambda x, s: 1 / np.sqrt(x),
    "reciprocal": lambda x, s: 1 / x,
    "abs": lambda x, s: np.abs(x),
    "sign": lambda x, s: np.sign(x),
}
