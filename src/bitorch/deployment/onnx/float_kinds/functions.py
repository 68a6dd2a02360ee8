"""Functions of each number that have an exponential or its like, whose last bits are free."""

from __future__ import annotations

import math

from .call import Call


def elu(call: Call) -> str:
    """alpha·(exp(x) − 1) below 0, of one alpha or one for each channel."""
    alpha = call.setting("alpha")
    if bool((alpha == alpha.flatten()[0]).all()):
        return call.last("Elu", call.x, alpha=float(alpha.flatten()[0]))
    # Elu gives −1 at least, and PRelu takes what is below 0 times alpha.
    return call.last("PRelu", call.op("Elu", call.x, alpha=1.0), call.per_channel("alpha"))


def celu(call: Call) -> str:
    return call.last("Celu", call.x, alpha=float(call.setting("alpha")))


def logsigmoid(call: Call) -> str:
    """−ln(1 + exp(−x))."""
    return call.last("Neg", call.op("Softplus", call.op("Neg", call.x)))


def softplus(call: Call) -> str:
    """ln(1 + exp(beta·x))/beta, and x where beta·x is above the threshold."""
    beta = float(call.setting("beta"))
    scaled = call.x if beta == 1 else call.op("Mul", call.x, call.number("beta", beta))
    curve = call.op("Softplus", scaled)
    if beta != 1:
        curve = call.op("Div", curve, call.number("beta", beta))
    is_above = call.op("Greater", scaled, call.number("threshold", call.setting("threshold")))
    return call.last("Where", is_above, call.x, curve)


def mish(call: Call) -> str:
    return call.last("Mul", call.x, call.op("Tanh", call.op("Softplus", call.x)))


def silu(call: Call) -> str:
    return call.last("Mul", call.x, call.op("Sigmoid", call.x))


def gelu(call: Call) -> str:
    """x·(1 + erf(x/√2))/2."""
    root = call.op("Erf", call.op("Div", call.x, call.number("root", math.sqrt(2))))
    return _half_of(call, root)


def gelu_tanh(call: Call) -> str:
    """x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2."""
    cube = call.op("Mul", call.op("Mul", call.x, call.x), call.x)
    inner = call.op("Add", call.x, call.op("Mul", cube, call.number("cubic", 0.044715)))
    return _half_of(call, call.op("Tanh", call.op("Mul", inner, call.number("root", math.sqrt(2 / math.pi)))))


def _half_of(call: Call, curve: str) -> str:
    """x/2·(1 + curve), which huge numbers have room in."""
    half = call.op("Mul", call.x, call.number("half", 0.5))
    return call.last("Mul", half, call.op("Add", curve, call.number("one", 1)))
