"""Functions of single numbers, each one sequence of float32 operations, which all round; `fused` does so once."""

from __future__ import annotations

import numpy as np

from . import function_tables
from .basics import Floats
from .function_tables import number
from .stages import fused_multiply_add


def fused(x: Floats, multiply: Floats | np.float32, offset: Floats | np.float32) -> Floats:
    """x·multiply + offset, rounded once."""
    factors, terms = (np.broadcast_to(np.asarray(part, np.float32), x.shape) for part in (multiply, offset))
    return fused_multiply_add(x, factors, terms)


def horner(x: Floats, *coefficients: str, start: Floats | None = None) -> Floats:
    """A polynomial, the coefficient of the highest power first; behind `start`, if there is one."""
    p = np.broadcast_to(number(coefficients[0]), x.shape) if start is None else start
    for digits in coefficients[1:] if start is None else coefficients:
        p = fused(p, x, number(digits))
    return p


def _limited(x: Floats, low: float = -np.inf, high: float = np.inf) -> Floats:
    """x, but not below `low` or above `high`; NaN stays."""
    y: Floats = np.where(x < np.float32(low), np.float32(low), x)
    return np.where(y > np.float32(high), np.float32(high), y)


_LN2_HIGH, _LN2_LOW = number("0x1.62e4p-1"), number("0x1.7f7d1cp-20")
#: Added to a small number, it leaves the nearest integer; 127 is there for compiled code, where it is an exponent.
_ROUND = np.float32(1.5 * 2**23 + 127)


def whole_part(t: Floats) -> Floats:
    """K, the integer next to t/ln 2."""
    k: Floats = fused(t, number("0x1.715476p+0"), _ROUND) - _ROUND
    return k


def rest(t: Floats, k: Floats) -> Floats:
    """r = t − k·ln 2."""
    return fused(k, -_LN2_LOW, fused(k, -_LN2_HIGH, t))


def _rest_of_minus(t: Floats, k: Floats) -> Floats:
    """r of −t, k being that of t."""
    return fused(k, _LN2_LOW, fused(k, _LN2_HIGH, -t))


def small_exponential(r: Floats) -> Floats:
    """e^r − 1 for |r| ≤ 0.3468."""
    p = horner(r, "0x1.6d6dbap-10", "0x1.123ac2p-7", "0x1.5554ccp-5", "0x1.555490p-3", "0x1p-1")
    return fused(p, r * r, r)


def times_power(x: Floats, k: Floats) -> Floats:
    """x·2^k, rounded once."""
    whole = np.nan_to_num(k, nan=0.0, posinf=600, neginf=-600).clip(-600, 600).astype(np.int32)
    y: Floats = np.ldexp(x, whole)
    return y


def _power(k: Floats) -> Floats:
    """2^k, but not less than 2^−126."""
    return times_power(np.ones_like(k), np.where(k < -126, np.float32(-126), k))


def exp(x: Floats) -> Floats:
    """e^x."""
    t = _limited(x, -200, 200)
    k = whole_part(t)
    return times_power(small_exponential(rest(t, k)) + np.float32(1), k)


def _exp_minus_one(t: Floats) -> Floats:
    """e^t − 1 for t ≤ 0."""
    t = _limited(t, low=-40)
    k = whole_part(t)
    scale = _power(k)
    return fused(scale, small_exponential(rest(t, k)), scale - np.float32(1))


def _negative_part(x: Floats) -> Floats:
    return np.where(x > 0, np.float32(0), x)


def leaky_relu(x: Floats, slope: Floats) -> Floats:
    """x > 0 ? x : x·slope, a slope per channel."""
    y: Floats = np.where(x > 0, x, x * slope)
    return y


def elu(x: Floats, slope: Floats) -> Floats:
    """x > 0 ? x : slope·(e^x − 1), a slope per channel."""
    y: Floats = np.where(x > 0, x, _exp_minus_one(_negative_part(x)) * slope)
    return y


def selu(x: Floats) -> Floats:
    """x > 0 ? 1.0507…·x : 1.7581…·(e^x − 1), the constants of the paper."""
    y: Floats = np.where(
        x > 0, x * number("0x1.0cfabep+0"), _exp_minus_one(_negative_part(x)) * number("0x1.c212ccp+0")
    )
    return y


def celu(x: Floats, alpha: float) -> Floats:
    """x > 0 ? x : alpha·(e^(x·(1/alpha)) − 1)."""
    alpha_ = np.float32(alpha)
    scaled = x * np.float32(1 / np.float64(alpha_))
    y: Floats = np.where(x > 0, x, _exp_minus_one(_negative_part(scaled)) * alpha_)
    return y


def hardsigmoid(x: Floats) -> Floats:
    """clip(x + 3, 0, 6) / 6; NaN stays NaN."""
    y: Floats = np.clip(x + np.float32(3), np.float32(0), np.float32(6)) / np.float32(6)
    return y


def hardswish(x: Floats) -> Floats:
    """x·clip(x + 3, 0, 6) / 6, multiplied first."""
    y: Floats = x * np.clip(x + np.float32(3), np.float32(0), np.float32(6)) / np.float32(6)
    return y


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + e^−x) = 2^k / (2^k + e^−r)."""
    t = _limited(x, -200, 30)
    k = whole_part(t)
    total = _power(k) + (small_exponential(_rest_of_minus(t, k)) + np.float32(1))
    return times_power(np.float32(1) / total, k)


def silu(x: Floats) -> Floats:
    """x / (1 + e^−x)."""
    t = _limited(x, high=30)
    k = whole_part(_limited(t, low=-1e30))
    total = _power(k) + (small_exponential(_rest_of_minus(t, k)) + np.float32(1))
    return times_power(x / total, k)


def tanh(x: Floats) -> Floats:
    """E / (2 + E) with the sign of x, E = e^−2|x| − 1."""
    minus = _exp_minus_one(np.abs(x) * np.float32(-2))
    y: Floats = np.copysign(minus / (minus + np.float32(2)), x)
    return y


def _log_of_one_plus(w: Floats) -> Floats:
    """ln(1 + w) for 0 ≤ w ≤ 1."""
    p = horner(
        w,
        *("-0x1.b164fep-9", "0x1.4a249ep-6", "-0x1.d78b46p-5", "0x1.b50b32p-4", "-0x1.3a597ap-3"),
        *("0x1.93510cp-3", "-0x1.ff249ep-3", "0x1.554dd4p-2", "-0x1.ffffd2p-2"),
    )
    return fused(p, w * w, w)


#: Up to there functions with a table are polynomials.
_NEAR = np.float32(3.4375)


def _by_table(x: Floats, steps: int, table: Floats) -> Floats:
    """The polynomial of the step in which each |x| ≤ 3.4375 lies, of which `steps` lie between two whole numbers."""
    x = np.where(np.abs(x) <= _NEAR, x, np.float32(0))
    step = np.rint(x * np.float32(steps))
    d = fused(step, np.float32(-1 / steps), x)
    rows = table[:, step.astype(np.int64) % 8]
    p: Floats = rows[0]
    for row in rows[1:]:
        p = fused(p, d, row)
    return p


def _softplus_of_one(x: Floats) -> Floats:
    """ln(1 + e^x), far from 0 as max(x, 0) + ln(1 + e^−|x|)."""
    t = _limited(-np.abs(x), low=-200)
    k = whole_part(t)
    power = times_power(small_exponential(rest(t, k)) + np.float32(1), k)
    far = np.where(x > 0, x, np.float32(0)) + _log_of_one_plus(power)
    return np.where(np.abs(x) <= _NEAR, _by_table(x, 1, function_tables.SOFTPLUS), far)


def softplus(x: Floats, beta: float, threshold: float) -> Floats:
    """x·beta > threshold ? x : ln(1 + e^(x·beta)) / beta."""
    scaled = x * np.float32(beta)
    y: Floats = np.where(scaled > np.float32(threshold), x, _softplus_of_one(scaled) / np.float32(beta))
    return y


def logsigmoid(x: Floats) -> Floats:
    """−ln(1 + e^−x)."""
    return -_softplus_of_one(-x)


def mish(x: Floats) -> Floats:
    """x·tanh(ln(1 + e^x)), far from 0 x·e^x·(1 − e^x·(e^x + 1)/n) or x − x·2/n, n = e^x·(e^x + 2) + 2."""
    limited = _limited(x, low=-200)
    ended = _limited(limited, high=30)
    k = whole_part(ended)
    tail, scale = small_exponential(rest(ended, k)), _power(k)
    power = fused(scale, tail, scale)
    n = fused(power, power + np.float32(2), np.float32(2))
    part = np.where(x > 0, np.float32(2), power * (power + np.float32(1))) / n
    below = times_power(fused(limited, tail - fused(part, tail, part), limited), k)
    far = np.where(x > 0, fused(-part, ended, x), below)
    far = np.where(x == -np.inf, np.float32(np.nan), far)
    return np.where(np.abs(x) <= _NEAR, x * _by_table(x, 1, function_tables.MISH), far)


def erf(x: Floats) -> Floats:
    """1 − e^(−a·g(a)), a = |x|, with the sign of x."""
    a = _limited(np.abs(x), high=4)
    g = horner(
        a,
        *("0x1.5cf44ep-15", "-0x1.968174p-12", "0x1.4d3386p-10", "0x1.75f1aep-13", "-0x1.3c3d74p-6"),
        *("0x1.a51948p-4", "0x1.45f2bcp-1", "0x1.20dd76p+0"),
    )
    y: Floats = np.copysign(_exp_minus_one(fused(-a, g, a * number("0x1.f7ac92p-25"))), x)
    return y


def _with_tail(x: Floats, table: Floats) -> Floats:
    """max(x, 0) − a·tail(a), a = |x|, the tail by a table."""
    a = np.abs(x)
    y: Floats = np.where(x > 0, x, np.float32(0)) - a * _by_table(a, 2, table)
    return y


def _gelu_far(x: Floats) -> Floats:
    """max(x, 0) − h(|x|), h(a) = e^(−a²/2)·(1 − s(a))/√2π, s = n/d, the square with its low part."""
    scale = number("0x1.988454p-2")
    a = _limited(np.abs(x), high=14.5)
    square = a * a
    t, low = square * np.float32(-0.5), fused(a, a, -square) * np.float32(-0.5)
    k = whole_part(t)
    tail = small_exponential(rest(t, k) + low)
    n = horner(a, "0x1.95c664p-6", "0x1.6230f8p-3", "0x1.31fbb6p-1", "0x1.000cf8p+0")
    d = horner(a, "0x1.95cddap-6", "0x1.61f7b8p-3", "0x1.594074p-1", "0x1.7d9708p+0", "0x1.da2a14p+0", "0x1p+0")
    s = n / d
    h = times_power(fused(tail - fused(s, tail, s), scale, np.broadcast_to(scale, x.shape)), k)
    y: Floats = np.where(x > 0, x, x * np.float32(0)) - h
    return y


def gelu(x: Floats) -> Floats:
    """x·Φ(x) = max(x, 0) − h(|x|), h(a) = a·(1 − Φ(a))."""
    return np.where(np.abs(x) <= _NEAR, _with_tail(x, function_tables.GELU), _gelu_far(x))


def gelu_tanh(x: Floats) -> Floats:
    """x·(1 + tanh(z/2))/2 = x/(1 + e^−z), z = √(8/π)·(x + 0.044715·x³), with a low part of z."""
    one, three = number("0x1.98846p+0"), number("0x1.244p-4")
    limited = _limited(x, low=-11)
    a = _limited(limited, high=11)
    square = a * a
    factor = fused(square, three, one)
    lost = fused(square, three, one - factor)
    low = fused(fused(a, a, -square), three, number("-0x1.985794p-21"))
    factor_low = lost + fused(square, number("0x1.3ca936p-18"), low)
    z = a * factor
    z_low = fused(a, factor_low, fused(a, factor, -z))
    t = _limited(z, high=30)
    k = whole_part(t)
    total = _power(k) + (small_exponential(_rest_of_minus(t, k) - z_low) + np.float32(1))
    far = np.where(x == -np.inf, np.float32(np.nan), times_power(limited / total, k))
    return np.where(np.abs(x) <= _NEAR, _with_tail(x, function_tables.GELU_TANH), far)


def log(x: Floats) -> Floats:
    """k·ln 2 + ln m, x = m·2^k with m between √½ and √2."""
    first = np.uint32(0x3F3504F3)  # √½
    is_subnormal = x < np.float32(2.0**-126)
    bits = np.where(is_subnormal, x * np.float32(2.0**24), x).view(np.uint32) - first
    exponent = bits.view(np.int32) >> 23
    k = exponent.astype(np.float32) - np.where(is_subnormal, np.float32(24), np.float32(0))
    f = ((bits & np.uint32(0x7FFFFF)) + first).view(np.float32) - np.float32(1)
    p = horner(
        f,
        *("-0x1.38c2a6p-4", "0x1.055ce8p-3", "-0x1.0d82a4p-3", "0x1.22d96ep-3", "-0x1.547288p-3"),
        *("0x1.99a01ap-3", "-0x1.000226p-2", "0x1.555554p-2", "-0x1p-1"),
    )
    y = fused(k, _LN2_HIGH, f + fused(p, f * f, k * _LN2_LOW))
    end = np.where(x == 0, np.float32(-np.inf), np.where(x == np.inf, np.float32(np.inf), np.float32(np.nan)))
    return np.where((x > 0) & (x < np.inf), y, end)


def sqrt(x: Floats) -> Floats:
    """√x."""
    y: Floats = np.sqrt(x)
    return y


def rsqrt(x: Floats) -> Floats:
    """1 / √x, two roundings."""
    y: Floats = np.float32(1) / np.sqrt(x)
    return y


def reciprocal(x: Floats) -> Floats:
    """1 / x."""
    y: Floats = np.float32(1) / x
    return y


def absolute(x: Floats) -> Floats:
    """|x|."""
    y: Floats = np.abs(x)
    return y


def sign(x: Floats) -> Floats:
    """−1, 0 or 1; 0 of NaN."""
    y: Floats = np.where(x > 0, np.float32(1), np.where(x < 0, np.float32(-1), np.float32(0)))
    return y


def softsign(x: Floats) -> Floats:
    """x / (1 + |x|)."""
    y: Floats = x / (np.abs(x) + np.float32(1))
    return y


def threshold(x: Floats, threshold: float, value: float) -> Floats:
    """x ≤ threshold ? value : x; NaN stays."""
    return np.where(x <= np.float32(threshold), np.float32(value), x)


def hardshrink(x: Floats, lambd: float) -> Floats:
    """0 from −lambd to lambd, else x."""
    return np.where((x >= -np.float32(lambd)) & (x <= np.float32(lambd)), np.float32(0), x)


def softshrink(x: Floats, lambd: float) -> Floats:
    """x − lambd above lambd, x + lambd below −lambd, 0 between them."""
    part = np.float32(lambd)
    y: Floats = np.where(x > part, x - part, np.where(x < -part, x + part, x * np.float32(0)))
    return y
