"""Layers that compute on codes call no quantizer; where somebody watches one by hooks, it is called all the same."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from ..quantizations import Quantization
from ..quantizations.base import codes_of
from ..same_numbers import same_numbers


def is_watched(*modules: nn.Module) -> bool:
    """Say whether there are hooks that a call of one of the modules would run, those of all modules among them."""
    if (
        torch_module._global_forward_hooks
        or torch_module._global_forward_pre_hooks
        or torch_module._global_backward_hooks
        or torch_module._global_backward_pre_hooks
    ):
        return True
    for module in modules:
        if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks:
            return True
    return False


def codes_behind(value: Tensor, quantizer: Quantization, x: Tensor) -> Tensor | None:
    """Return the codes behind the value that a call gave for x, through which gradients reach the call and its hooks.

    None where the value is another one than the quantizer's: a hook has changed it, or x.
    """
    with torch.no_grad():
        expected = quantizer.quantize(x).to(value.dtype)
        if value.shape != expected.shape or not bool(same_numbers(value, expected).all()):
            return None
        codes = quantizer.codes(x)
    return codes_of(value, codes)
