"""Looking at what comes to activation quantizers while a model runs in float."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ..layers.low_bit import LowBit
from ..quantizations import Identity, Quantization, RangeQuantization
from ..quantizations.base import as_internal

#: Numbers that are kept of one batch, and looked at in all, for one quantizer.
_PER_BATCH, _IN_ALL = 2**14, 2**16


class Seen:
    """Some of the inputs of a quantizer, and their extremes."""

    def __init__(self) -> None:
        self.samples: list[Tensor] = []
        self.low, self.high = float("inf"), float("-inf")
        self.finite = True
        self._generator = torch.Generator().manual_seed(0)

    def add(self, x: Tensor) -> None:
        if x.numel() == 0:
            return
        flat = x.detach().flatten().float()
        self.low, self.high = min(self.low, float(flat.min())), max(self.high, float(flat.max()))
        self.finite = self.finite and bool(flat.isfinite().all())  # a sample might miss the only NaN
        self.samples.append(_some(flat, _PER_BATCH, self._generator).cpu())

    def all(self) -> Tensor:
        samples = _some(torch.cat(self.samples), _IN_ALL, self._generator)
        if bool(samples.any()) or self.low == self.high == 0:
            return samples
        return torch.cat([samples, torch.tensor([self.low, self.high])])  # the few that are not 0 were not drawn


def _some(x: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return at most `count` of the numbers x [n], drawn at random."""
    if x.numel() <= count:
        return x.clone()
    return x[torch.randint(x.numel(), (count,), generator=generator).to(x.device)]


class _Recorder(Quantization):
    """Stands for a quantizer while its inputs are looked at; without a grid, so its layer computes in float."""

    unsigned = True

    def __init__(self, quantizer: RangeQuantization, seen: Seen) -> None:
        super().__init__()
        self._relu = quantizer.clips_negative
        self._quantizer = type(quantizer).__name__
        self._seen = seen

    def quantize(self, x: Tensor) -> Tensor:
        self._seen.add(as_internal(x, self._quantizer))
        return F.relu(x) if self._relu else x


@contextmanager
def recording(model: nn.Module, seen: dict[RangeQuantization, Seen]) -> Iterator[nn.Module]:
    """Put recorders in the places of the quantizers, and take their layers' weights as they are; give what to run."""
    recorders = {quantizer: _Recorder(quantizer, found) for quantizer, found in seen.items()}
    with ExitStack() as stack:
        for module in list(model.modules()):
            if isinstance(module, LowBit) and any(isinstance(m, RangeQuantization) for m in module.modules()):
                _swap(stack, module, "weight_quantization", Identity())
            for name, child in list(module._modules.items()):
                if isinstance(child, RangeQuantization):
                    _swap(stack, module, name, recorders[child])
        yield recorders[model] if isinstance(model, RangeQuantization) else model


def _swap(stack: ExitStack, parent: nn.Module, name: str, new: nn.Module) -> None:
    stack.callback(parent._modules.__setitem__, name, parent._modules[name])
    parent._modules[name] = new


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode, except that a norm that has seen nothing normalizes by what comes.

    It would pass that on, whatever its size, where training is going to normalize it.
    """
    training = [module for module in model.modules() if module.training]
    new = [module for module in model.modules() if isinstance(module, _NormBase) and _has_seen_nothing(module)]
    model.eval()
    with ExitStack() as stack:
        for module in training:
            stack.callback(setattr, module, "training", True)
        for norm in new:
            stack.callback(setattr, norm, "track_running_stats", norm.track_running_stats)
            norm.track_running_stats = False  # which an InstanceNorm asks, where a BatchNorm looks for the buffers
            for name in ("running_mean", "running_var"):
                stack.callback(norm._buffers.__setitem__, name, norm._buffers[name])
                norm._buffers[name] = None
        yield


def _has_seen_nothing(norm: _NormBase) -> bool:
    """Whether a BatchNorm, or another norm with running statistics, has the mean 0 and variance 1 that it began with.

    Its counter of batches says nothing: it is 0 beside trained statistics that came without it, as those of old files.
    """
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        return False
    return bool((mean == 0).all()) and bool((variance == 1).all())
