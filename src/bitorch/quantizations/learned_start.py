"""Weight quantizers whose parameters start by the weight and then learn: where they start, and if that still fits."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from .base import Quantization, as_internal
from .bits import FLOAT_BITS

#: A step that nothing has trained no longer fits if its squared error exceeds so much of a new start's, and a bit.
_UNTRAINED = (1.5, 0.01)
#: The same of a trained one, which may well be somewhere else: only if it is beyond doubt.
_TRAINED = (3.0, 0.1)


class LearnedStart(Quantization):
    """Base of weight quantizers whose Parameters are started by the weight, and trained from there on.

    It knows whether anything has changed the Parameters since they started. As long as nothing has, a new start loses
    nothing, and `renew_` makes one where the weight has become another one.
    """

    _is_set = False
    #: The Parameters as they started, on the CPU; None once they came out of a state_dict, as trained ones do.
    _started: tuple[Tensor, ...] | None = None

    @property
    def _is_held(self) -> bool:
        """Whether training keeps the levels near the weight, so that far away from it they are wrong."""
        return False

    def _start(self, weight: Tensor) -> bool:
        """Set the Parameters by the weight [C_out, …], float32 or float64; return whether it was possible."""
        raise NotImplementedError(f"{type(self).__name__} does not define _start(weight)")

    def initialize_(self, weight: Tensor) -> None:
        """Start the Parameters, in place, by the weight [C_out, …]; one on the meta device changes nothing."""
        if weight.device.type == "meta":
            return
        w = as_internal(weight.detach(), type(self).__name__)
        self._check_weight(w)
        if self._start(w):
            self._is_set = True
            self._remember_start()

    def _check_weight(self, weight: Tensor) -> None:
        """Raise a ValueError for a weight that does not fit the Parameters."""

    def _remember_start(self) -> None:
        self._started = tuple(parameter.detach().cpu().clone() for parameter in self.parameters(recurse=False))

    @property
    def is_untrained(self) -> bool:
        """Whether the Parameters are where they started."""
        if self._started is None:
            return False
        now = [parameter.detach().cpu() for parameter in self.parameters(recurse=False)]
        return all(torch.equal(one, start.to(one.dtype)) for one, start in zip(now, self._started, strict=True))

    def _loaded(self) -> None:
        self._is_set = all(bool(parameter.isfinite().all()) for parameter in self.parameters())
        self._started = None

    @torch.no_grad()
    def misfit(self, weight: Tensor) -> tuple[float, float] | None:
        """Return the squared errors of the quantized weight, now and with a new start, if now it does not fit.

        Both are relative to the squared weight, and of the step that fits worst, where there are several. None if all
        fit, or there is nothing to tell by: no grid of few bits, an empty weight, all zeros, NaN or infinity.
        """
        w = as_internal(weight.detach(), type(self).__name__)
        if not self._is_set or self.bit_width == FLOAT_BITS or w.numel() == 0 or not bool(w.isfinite().all()):
            return None
        is_untrained = self.is_untrained
        if not is_untrained and not self._is_held:
            return None
        fresh = copy.deepcopy(self)
        fresh.initialize_(w)
        now, new = self._errors(w), fresh._errors(w)
        factor, margin = _UNTRAINED if is_untrained else _TRAINED
        excess = now - (factor * new + margin)
        worst = int(excess.argmax())
        return (float(now[worst]), float(new[worst])) if float(excess[worst]) > 0 else None

    def _errors(self, weight: Tensor) -> Tensor:
        """Return Σ(ŵ − w)²/Σw² of all weights that share parameters, at least one; 0 where those are all 0."""
        w = weight.double()
        rows = self._rows(w)
        size = rows.abs().amax(1, keepdim=True)
        size = torch.where(size == 0, 1, size)  # so that no square overflows
        squared = (rows / size).square().sum(1)
        difference = (self._rows(self.quantize(weight).double()) - rows).div_(size).square_().sum(1)
        return torch.where(squared == 0, 0, difference / torch.where(squared == 0, 1, squared))

    def _rows(self, weight: Tensor) -> Tensor:
        """Return the weight as [groups, weights that share parameters]."""
        return weight.reshape(1, -1)

    def renew_(self, weight: Tensor) -> bool:
        """Start anew if nothing has trained the Parameters, and they do not fit the weight; return whether."""
        if not self.is_untrained or self.misfit(weight) is None:
            return False
        self.initialize_(weight)
        return True
