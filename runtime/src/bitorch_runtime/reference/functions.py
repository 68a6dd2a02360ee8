"""Activation functions, each one sequence of float32 operations."""

from __future__ import annotations

import numpy as np

from .basics import Floats


def leaky_relu(x: Floats, slope: Floats) -> Floats:
    """x > 0 ? x : x·slope, a slope per channel."""
    y: Floats = np.where(x > 0, x, x * slope)
    return y


def _float(digits: str) -> np.float32:
    """The float32 of hexadecimal digits."""
    value: np.float32 = np.float32(float.fromhex(digits))
    return value


def _split_exponential(t: Floats, bias: int = 127, low: Floats | None = None) -> tuple[Floats, Floats]:
    """(scale, tail) of e^t·2^(bias − 127) = scale·(1 + tail), the scale a power of two; what overflows is arbitrary.

    With `low`, small beside t, it is e^(t + low).
    """
    f = np.float32
    shift = _float("0x1.8p23") + f(bias)  # added to a small number, it leaves the nearest integer in the low bits
    shifted = (t if low is None else t + low) * _float("0x1.715476p+0") + shift
    k = shifted - shift
    r = t - k * _float("0x1.62e4p-1") - k * _float("0x1.7f7d1cp-20")
    r = r if low is None else r + low
    p = r * _float("0x1.6d6dbap-10") + _float("0x1.123ac2p-7")
    for coefficient in ("0x1.5554ccp-5", "0x1.555490p-3", "0x1p-1"):
        p = p * r + _float(coefficient)
    scale = (shifted.view(np.uint32) << np.uint32(23)).view(np.float32)
    return scale, r * r * p + r


def _over_one_plus_exp_of_minus(x: Floats, numerator: Floats) -> Floats:
    """numerator / (1 + e^−x), for x < 0 with 2^−32 times the denominator, so that it is finite."""
    f = np.float32
    negative = x < 0
    factor = np.where(negative, f(2.0**-32), f(1))
    t = -x
    below, above = _split_exponential(t, 127), _split_exponential(t, 127 - 32)
    scale, tail = (np.where(negative, large, small) for small, large in zip(below, above, strict=True))
    power = scale + scale * tail
    power = np.where(t > 110, f(np.inf), power)
    power = np.where(t < -87, f(0), power)
    y: Floats = numerator / (factor + power) * factor
    return y


def elu(x: Floats, slope: Floats) -> Floats:
    """x > 0 ? x : slope·(e^x − 1), a slope per channel."""
    f = np.float32
    t = np.where(x < -40, f(-40), x)
    t = np.where(t > 0, f(0), t)
    scale, tail = _split_exponential(t)
    y: Floats = np.where(x > 0, x, ((scale - f(1)) + scale * tail) * slope)
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
    """1 / (1 + e^−x)."""
    return _over_one_plus_exp_of_minus(x, np.ones_like(x))


def tanh(x: Floats) -> Floats:
    """tanh(x): 1 − 2/(e^2|x| + 1) from 0.625 on, an odd polynomial below, and the sign of x."""
    f = np.float32
    a = np.abs(x)
    t = np.where(a + a > 20, f(20), a + a)
    scale, tail = _split_exponential(t)
    far = f(1) - f(2) / (scale + scale * tail + f(1))
    square = a * a
    p = square * _float("-0x1.768fbep-8") + _float("0x1.52503ap-6")
    for coefficient in ("-0x1.b84338p-5", "0x1.110760p-3", "-0x1.555534p-2"):
        p = p * square + _float(coefficient)
    y: Floats = np.copysign(np.where(a < f(0.625), a * square * p + a, far), x)
    return y


def silu(x: Floats) -> Floats:
    """x / (1 + e^−x)."""
    return _over_one_plus_exp_of_minus(x, x)


def _upper_half(x: Floats) -> Floats:
    """x without the lower half of its digits: its square is exact."""
    half: Floats = (x.view(np.uint32) & np.uint32(0xFFFFF000)).view(np.float32)
    return half


def _polynomial(x: Floats, *coefficients: str) -> Floats:
    """By Horner, the highest power first, each step rounded."""
    p = x * _float(coefficients[0]) + _float(coefficients[1])
    for coefficient in coefficients[2:]:
        p = p * x + _float(coefficient)
    return p


def _gelu_far(a: Floats) -> Floats:
    """a·(1 − Φ(a)) = e^(−a²/2)·(1 − s(a))/√2π, s = n/d."""
    scale, high = _float("0x1.988454p-2"), _upper_half(a)
    power, tail = _split_exponential(
        high * high * _float("-0x1p-1"), 127 + 32, (a - high) * (a + high) * _float("-0x1p-1")
    )
    n = _polynomial(a, "0x1.95c664p-6", "0x1.6230f8p-3", "0x1.31fbb6p-1", "0x1.000cf8p+0")
    d = _polynomial(a, "0x1.95cddap-6", "0x1.61f7b8p-3", "0x1.594074p-1", "0x1.7d9708p+0", "0x1.da2a14p+0", "0x1p+0")
    s = n / d
    w = tail - (s + s * tail)
    return (w * scale + scale) * power * _float("0x1p-32")


def gelu(x: Floats) -> Floats:
    """x·Φ(x) = max(x, 0) − h(|x|), h(a) = a·(1 − Φ(a)): in three parts, to 0.5, to 0.885 and beyond."""
    f = np.float32
    a = np.where(np.abs(x) > f(14.5), f(14.5), np.abs(x))  # from there on h is 0
    square = a * a
    p = _polynomial(square, "-0x1.264caap-10", "0x1.4667d2p-7", "-0x1.105744p-4", "0x1.988452p-2")
    near = a * f(0.5) - square * p
    middle = _polynomial(
        a - _float("0x1.7ep-1"),
        *("0x1.524506p-10", "-0x1.7686d6p-6", "0x1.5710d6p-8", "0x1.08d7e0p-3"),
        *("-0x1.be6120p-3", "0x1.43e624p-9", "0x1.5c162ep-3"),
    )
    h = np.where(a < f(0.885), np.where(a < f(0.5), near, middle), _gelu_far(a))
    y: Floats = np.where(x > 0, x, x * f(0)) - h
    return y


def gelu_tanh(x: Floats) -> Floats:
    """x·(1 + tanh(z/2))/2 = x/(1 + e^−z), z = √(8/π)·(x + 0.044715·x³), in two parts, so that e^z is as exact as x."""
    f, one, three = np.float32, _float("0x1.98846p+0"), _float("0x1.244p-4")
    a = np.where(np.abs(x) > f(11), f(11), np.abs(x))
    high = _upper_half(a)
    rest = a - high
    square, square_low = high * high, rest * (a + high)
    square_high = (square.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
    product = square_high * three
    factor = product + one
    low = (square + square_low) * _float("0x1.3ca936p-18") + (square_low * three + _float("-0x1.985794p-21"))
    factor_low = (product - (factor - one)) + (square - square_high) * three + low
    factor_high = _upper_half(factor)
    z = high * factor_high
    z_low = high * (factor - factor_high) + (rest * factor + a * factor_low)
    negative = x < 0
    t, t_low = (np.where(negative, part, -part) for part in (z, z_low))
    below, above = _split_exponential(t, 127, t_low), _split_exponential(t, 127 - 32, t_low)
    scale, tail = (np.where(negative, large, small) for small, large in zip(below, above, strict=True))
    power = scale + scale * tail
    power = np.where(a > np.where(negative, f(10.85), f(9.5)), np.where(negative, f(np.inf), f(0)), power)
    factor = np.where(negative, f(2.0**-32), f(1))
    y: Floats = x / (factor + power) * factor
    return y


def softmax(x: Floats, log: bool = False) -> Floats:
    """e^x / Σ e^x over the channels of each pixel, or its natural logarithm."""
    shifted = x.astype(np.float64) - x.max(axis=-1, keepdims=True)
    total = np.exp(shifted).sum(axis=-1, keepdims=True)
    y: Floats = (shifted - np.log(total) if log else np.exp(shifted) / total).astype(np.float32)
    return y
