"""Zeros that a model starts with by design, told apart from what is dead.

The last BatchNorm of a residual block, the second matrix of a low-rank adapter, a head, the convolution around a
ControlNet or the gate of ReZero often start at 0: then what stands before them gets no gradient, and what comes behind
them sees nothing but zeros, until the first step has changed them. Whether it does is tried out on the copy: parameters
that are all zero and have a gradient get other values, and what is still found then is dead.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn
from torch.nn import Parameter

from ..quantizations import Quantization
from .findings import Finding, What

#: What zeros at the start can cause.
_CAUSED: frozenset[What] = frozenset(
    {
        "dead activations",
        "activations at one level",
        "ReLU before a sign",
        "no normalization",
        "collapsed range",
        "weights at one level",
        "zero gradient",
    }
)
#: Parts of the names of parameters that are added: they may be zero for good.
_ADDED = ("bias", "shift")
_SHOWN = 3


def told_apart(model: nn.Module, found: Sequence[Finding], again: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Return findings, of which those that only zeros at the start cause are notes.

    Args:
        model: a copy, after a backward pass; its parameters are changed.
        found: in that pass.
        again: makes another pass, forward and backward, and returns what is found then.
    """
    causes: dict[tuple[str, str], str] = {}
    suspects = {(finding.layer, finding.what) for finding in found if finding.what in _CAUSED and not finding.is_note}
    woken: dict[str, Parameter] = {}
    while suspects:
        new = {name: p for name, p in _starting(model).items() if name not in woken}
        if not new:
            break
        for parameter in new.values():
            _wake(parameter)
        woken |= new
        lasting = suspects & {(finding.layer, finding.what) for finding in again()}
        causes |= dict.fromkeys(suspects - lasting, _spelled(list(new)))
        suspects = lasting
    return [
        _at_the_start(finding, causes[finding.layer, finding.what])
        if (finding.layer, finding.what) in causes and not finding.is_note
        else finding
        for finding in found
    ]


def _starting(model: nn.Module) -> dict[str, Parameter]:
    """Return the parameters that are all zero and that the next step changes, by name; none that is merely added."""
    of_quantizers = {id(p) for m in model.modules() if isinstance(m, Quantization) for p in m.parameters()}
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
        and parameter.numel() > 0
        and id(parameter) not in of_quantizers
        and not any(part in name.rpartition(".")[2] for part in _ADDED)
        and not parameter.detach().any()
        and parameter.grad is not None
        and bool(parameter.grad.any())
    }


@torch.no_grad()
def _wake(parameter: Parameter) -> None:
    """Give a gate or the weight of a normalization ones, and a matrix random numbers, as large as layers start with."""
    if parameter.dim() < 2 or parameter.numel() == 1:
        parameter.fill_(1)
        return
    inputs = parameter.numel() // parameter.shape[0]
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(parameter.shape, generator=generator) / math.sqrt(max(1, inputs))
    parameter.copy_(numbers)


def _spelled(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{shown}{more} {'is' if len(names) == 1 else 'are'}"


def _at_the_start(finding: Finding, cause: str) -> Finding:
    detail = f"{finding.detail}, as {cause} still all zero"
    remedy = "nothing, if that is meant: the first steps change those zeros, and then this layer works"
    return dataclasses.replace(finding, detail=detail, remedy=remedy, is_note=True)
