"""How an operator of the library gets its kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.library import Library


def register(library: Library, name: str, kernel: Callable[..., Any], fake: Callable[..., Any]) -> None:
    """Give `bitorch::name`, which the library has defined, a kernel for CPUs, and one that knows shapes alone.

    It is not differentiable: nothing is recorded, and results require no gradient. What needs gradients calls it in a
    torch.autograd.Function.
    """
    library.impl(name, kernel, "CPU")
    library.impl(name, torch.library.fallthrough_kernel, "Autograd")
    torch.library.register_fake(f"bitorch::{name}", fake, lib=library)
