"""Running a model and leaving it as it was; and looking on while it runs."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

Enter = Callable[[str, nn.Module, tuple[Any, ...], dict[str, Any]], None]
Leave = Callable[[str, nn.Module, object], None]


@contextmanager
def hooked(parts: Mapping[str, nn.Module], enter: Enter, leave: Leave | None = None) -> Iterator[None]:
    """Call `enter` with name, module and arguments before each call of a part, and `leave` with its result behind it.

    The hooks are the last before a part's forward, and the first behind it.
    """

    def before(name: str) -> Callable[..., None]:
        return lambda module, args, kwargs: enter(name, module, args, kwargs)

    def after(name: str, leave: Leave) -> Callable[..., None]:
        return lambda module, args, result: leave(name, module, result)

    with ExitStack() as stack:
        for name, part in parts.items():
            stack.callback(part.register_forward_pre_hook(before(name), with_kwargs=True).remove)
            if leave is not None:
                stack.callback(part.register_forward_hook(after(name, leave), prepend=True).remove)
        yield


@contextmanager
def quietly(device: torch.device) -> Iterator[None]:
    """Differentiate nothing inside, and leave the random generators as they were."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.inference_mode(False), torch.no_grad():
        yield


@contextmanager
def as_it_was(model: nn.Module) -> Iterator[None]:
    """Run the model in eval mode inside, and leave its modes and buffers and all random generators as they were."""
    modes = [(module, module.training, dict(module._buffers)) for module in model.modules()]
    values = [
        (buffer, None if buffer.is_inference() else buffer._version, buffer.clone()) for buffer in model.buffers()
    ]
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.callback(random.setstate, random.getstate())
        if "numpy" in sys.modules:  # else no model uses its generator
            numpy = sys.modules["numpy"]
            stack.callback(numpy.random.set_state, numpy.random.get_state())
        if "torch._dynamo" in sys.modules:  # else nothing can be compiled, and importing it takes seconds
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        try:
            for module, _, _ in modes:
                module.training = False
            yield
        finally:
            for module, mode, buffers in modes:
                module.training = mode
                module._buffers.clear()
                module._buffers.update(buffers)
            for buffer, was, value in values:
                if buffer.is_inference() or buffer._version != was:
                    buffer.copy_(value)
