"""Models inside of what wraps them: torch.compile, DataParallel and the like."""

from __future__ import annotations

import sys

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model that a wrapper computes with, through any number of them; a model without one is returned.

    Wrappers are what torch.compile returns, nn.DataParallel, nn.parallel.DistributedDataParallel, and the averaged
    models of torch.optim.swa_utils. Names of layers are those of the model, without the wrapper's prefix.
    """
    seen = model
    while (inner := _inside(seen)) is not None:
        seen = inner
    return seen


def unwrapped_to_change(model: nn.Module, function: str) -> nn.Module:
    """Return the model that `function` changes in place, of a wrapper what it wraps.

    Raises:
        ValueError: it is in DistributedDataParallel, which keeps the parameters that it was made with in step, and no
            others.
    """
    seen = model
    while (inner := _inside(seen)) is not None:
        if isinstance(seen, DistributedDataParallel):
            raise ValueError(
                f"the model is wrapped in DistributedDataParallel, which would not learn of new parameters; call "
                f"{function} on the model itself, and wrap it then"
            )
        seen = inner
    return seen


def _inside(model: nn.Module) -> nn.Module | None:
    """Return what a wrapper wraps; None if it is none."""
    inner = None
    if isinstance(model, (DataParallel, DistributedDataParallel, *_averaged())):
        inner = model.module
    elif _is_made_by_compile(model):
        inner = model._orig_mod
    return inner if isinstance(inner, nn.Module) else None


def _averaged() -> tuple[type[nn.Module], ...]:
    """The class of averaged models, if it was imported: else there is none."""
    swa_utils = sys.modules.get("torch.optim.swa_utils")
    return () if swa_utils is None else (swa_utils.AveragedModel,)


def is_compiled(module: nn.Module) -> bool:
    """Say whether torch.compile computes a module: it made it, or `module.compile()` was called."""
    return _is_made_by_compile(module) or module.__dict__.get("_compiled_call_impl") is not None


def _is_made_by_compile(model: nn.Module) -> bool:
    """Say whether torch.compile made it; importing the class takes seconds, and without it there is none."""
    eval_frame = sys.modules.get("torch._dynamo.eval_frame")
    return eval_frame is not None and isinstance(model, eval_frame.OptimizedModule)
