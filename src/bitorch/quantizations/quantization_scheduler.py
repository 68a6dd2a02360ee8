"""Quantizers that change from one into the next over a training, and what puts them into a model and moves them."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any, ClassVar

from torch import Tensor, nn

from ..errors_of_both import NoStepsError, ProcedureError, ScheduleError
from .base import Quantization
from .bits import FLOAT_BITS
from .gradients import GradientQuantization


class ScheduledQuantizer(Quantization):
    """A place in a model for a schedule: the identity, until a `Quantization_Scheduler` puts one of its kinds there.

    The kinds, `MixLinearScheduling` and `StepScheduling`, give values of the quantizers, of which the factor says how
    far the schedule is. Layers compute on values meanwhile, so they are neither exact nor can they be packed;
    `Quantization_Scheduler.finish` puts the last quantizer in the place when the training has come to it.

    The quantizers are copies, and submodules: they follow `train`, `eval`, `to` and `deepcopy`, and what they learn is
    among the parameters and in the state_dict. How far the schedule is, is not: see the scheduler's state.

    Args:
        quantizations: in their order; modules of any kind from a tensor to one of its shape. None: the identity.
        steps: how often `step` is called until the last one is reached.

    Attributes:
        quantizations: nn.ModuleList of the copies.
        bit_width: of the last one; 32 if there is none, or it has no bits.
        steps, step_count: how many there are, and were made.
        factor: how far it is, 0 … 1; it can be set.

    Raises:
        TypeError: what is no module. ValueError: negative steps.
    """

    name = "scheduled_quantizer"
    bit_width = FLOAT_BITS
    no_grid = "is scheduled, until Quantization_Scheduler.finish(model) has put the last quantizer there"

    def __init__(self, quantizations: Sequence[nn.Module] = (), steps: int = 0) -> None:
        super().__init__()
        _check_modules(quantizations)
        if steps < 0:
            raise ScheduleError(f"steps must be at least 0, got {steps}")
        self.quantizations = nn.ModuleList(copy.deepcopy(list(quantizations)))
        self.bit_width = _bits_of(self.last)
        self.steps = steps
        self.step_count = 0
        self.factor = 0.0

    @property
    def last(self) -> nn.Module | None:
        """The quantizer that the schedule ends with; None if there is none."""
        return self.quantizations[-1] if len(self.quantizations) > 0 else None

    @property
    def unsigned(self) -> bool:  # type: ignore[override]  # a class attribute of those that are always the same
        """That of the last quantizer, so that borders are filled from the start as at the end."""
        return isinstance(self.last, Quantization) and self.last.unsigned

    @property
    def _is_set(self) -> bool:  # type: ignore[override]  # likewise
        learned = [q for q in self._quantizers() if any(True for _ in (*q.parameters(), *q.buffers()))]
        return len(learned) > 0 and all(q._is_set for q in learned)

    def _quantizers(self) -> list[Quantization]:
        return [module for module in self.quantizations if isinstance(module, Quantization)]

    def step(self) -> None:
        """Go one step further; ValueError, a ZeroDivisionError too, without steps."""
        if self.steps == 0:
            raise NoStepsError(f"{type(self).__name__} has no steps to make; give it steps of at least 1")
        self.step_count += 1
        self.factor = min(self.step_count / self.steps, 1.0)

    def initialize_(self, weight: Tensor) -> None:
        for quantizer in self._quantizers():
            quantizer.initialize_(weight)

    def arguments(self) -> dict[str, Any]:
        return {"quantizations": list(self.quantizations), "steps": self.steps}

    def quantize(self, x: Tensor) -> Tensor:
        """Return x."""
        return x

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self.quantizations)}, steps={self.steps}, factor={self.factor:g})"


class MixLinearScheduling(ScheduledQuantizer):
    """From each quantizer to the next in a straight line; see `ScheduledQuantizer` for the arguments.

    With q quantizers, p = factor·(q − 1) and i = ⌊p⌋ the value is (1 − p + i)·Q_i(x) + (p − i)·Q_{i+1}(x): at the start
    that of the first one, at the end that of the last one.
    """

    name = "__mixlinarscheduling__"

    def quantize(self, x: Tensor) -> Tensor:
        """Return the mixture for x, in its dtype."""
        if len(self.quantizations) == 0:
            return x
        position = self.factor * (len(self.quantizations) - 1)
        index = math.floor(position)
        share = position - index
        value: Tensor = self.quantizations[index](x)
        if share > 0:
            value = (1 - share) * value + share * self.quantizations[index + 1](x)
        return value.to(x.dtype)


class StepScheduling(ScheduledQuantizer):
    """One quantizer after the other, each for as long; see `ScheduledQuantizer` for the arguments.

    With q quantizers it is the one at min(⌊factor·q⌋, q − 1).
    """

    name = "__stepscheduling__"

    def quantize(self, x: Tensor) -> Tensor:
        """Return what the quantizer that it is the turn of makes of x."""
        count = len(self.quantizations)
        if count == 0:
            return x
        value: Tensor = self.quantizations[min(math.floor(self.factor * count), count - 1)](x)
        return value.to(x.dtype)


class Quantization_Scheduler(nn.Module):
    """Puts scheduled quantizers into a model, one for each of its quantizers, and moves all of them together.

        scheduler = Quantization_Scheduler(model, steps, [Identity(), Sign()], "mix_linear", True)
        ...                         # behind each batch or epoch:
        scheduler.step()
        ...                         # after the training:
        scheduler.finish(model)

    It is no part of the model. Its own state_dict says how far it is, so save it as that of a learning rate schedule.

    Args:
        model: changed in place.
        steps: until the last quantizer is reached, at least 1.
        quantizations: at least one module; each place gets copies. One that learns from the weight, such as WeightLSQ,
            does so when it is put there; a range of activations, such as that of InputLSQ, must be set before.
        scheduling_procedure: "mix_linear" or "step", see `procedure_classes`.
        schedule_all_quantizations: False replaces instances of ScheduledQuantizer alone; True all quantizers of weights
            and of activations. Those of gradients stay.
        exclude_layers: classes; modules of exactly these are passed over, with all that is inside.

    Attributes:
        scheduled_quantizer: the class for the procedure.
        scheduled_quantizer_instances: those in the model.
        factor: how far they are, 0 … 1; it can be set.

    Raises:
        ValueError: steps below 1 or no quantizations (an AssertionError, too, as in BITorch), an unknown procedure (a
            KeyError, too). TypeError: what is no module.
    """

    procedure_classes: ClassVar[Mapping[str, type[ScheduledQuantizer]]] = MappingProxyType(
        {"mix_linear": MixLinearScheduling, "step": StepScheduling}
    )

    def __init__(
        self,
        model: nn.Module,
        steps: int,
        quantizations: Sequence[nn.Module],
        scheduling_procedure: str,
        schedule_all_quantizations: bool = False,
        exclude_layers: Sequence[type[nn.Module]] = (),
    ) -> None:
        super().__init__()
        if steps < 1:
            raise ScheduleError(f"steps must be at least 1, got {steps}")
        if len(quantizations) == 0:
            raise ScheduleError(
                "quantizations is empty; give the quantizers to go through, such as [Identity(), Sign()]"
            )
        _check_modules(quantizations)
        self.quantizations = list(quantizations)
        self.steps = steps
        self.scheduled_quantizer = self.get_scheduled_quantizer(scheduling_procedure)
        self.scheduled_quantizer_instances: list[ScheduledQuantizer] = []
        self._step_count = 0
        self._factor = 0.0
        self.replace_quantizations(model, exclude_layers, schedule_all_quantizations)

    def get_scheduled_quantizer(self, procedure: str) -> type[ScheduledQuantizer]:
        """Return the class of scheduled quantizers for a procedure."""
        if procedure not in self.procedure_classes:
            known = ", ".join(map(repr, self.procedure_classes))
            raise ProcedureError(f"scheduling_procedure must be one of {known}, got {procedure!r}")
        return self.procedure_classes[procedure]

    def replace_quantizations(
        self,
        model: nn.Module,
        exclude_layers: Sequence[type[nn.Module]] = (),
        replace_all_quantizations: bool = False,
    ) -> None:
        """Put new scheduled quantizers into a model; see the class for the arguments. One without any warns."""
        places = list(_places(model, tuple(exclude_layers), is_all=replace_all_quantizations))
        before = [(owner, name, getattr(owner, name)) for owner, name in places]
        made: list[ScheduledQuantizer] = []
        try:
            for owner, name in places:
                made.append(self._scheduled(owner))
                setattr(owner, name, made[-1])
        except (ValueError, TypeError, AttributeError):  # a layer cannot compute with these
            for owner, name, quantizer in before:
                setattr(owner, name, quantizer)
            raise
        self.scheduled_quantizer_instances += made
        if not places:
            remedy = "" if replace_all_quantizations else "; schedule_all_quantizations=True takes every quantizer"
            warnings.warn(f"the model has no quantizer to schedule{remedy}", stacklevel=3)

    def _scheduled(self, owner: nn.Module) -> ScheduledQuantizer:
        """Return a new scheduled quantizer for a place in a module, in its mode, on its device, as far as all are."""
        quantizer = self.scheduled_quantizer(self.quantizations, self.steps)
        quantizer.step_count, quantizer.factor = self._step_count, self._factor
        tensor = next(chain(owner.parameters(), owner.buffers()), None)
        if tensor is not None:
            quantizer.to(tensor.device)
        return quantizer.train(owner.training)

    @property
    def factor(self) -> float:
        """How far the scheduled quantizers are, 0 … 1; it can be set."""
        return self._factor

    @factor.setter
    def factor(self, value: float) -> None:
        if not 0 <= value <= 1:
            raise ValueError(f"factor must be from 0 to 1, got {value}")
        self._factor = value
        for quantizer in self.scheduled_quantizer_instances:
            quantizer.factor = value

    def step(self) -> None:
        """Go one step further, all together."""
        self._move_to(self._step_count + 1)

    def _move_to(self, step_count: int) -> None:
        self._step_count = step_count
        self.factor = min(step_count / self.steps, 1.0)
        for quantizer in self.scheduled_quantizer_instances:
            quantizer.step_count = step_count

    def finish(self, model: nn.Module) -> None:
        """Put the last quantizer in the place of each scheduled one, so that layers compute on its codes again.

        What it has learned comes along. Where the last one is any other module, the scheduled one stays.

        Raises:
            ValueError: the schedule has not come to its end; factor = 1 takes it there.
        """
        if self._factor < 1:
            raise ValueError(
                f"the schedule has come to {self._factor:.0%}, and its last quantizer is not in force yet; make all "
                f"{self.steps} steps, or set factor = 1"
            )
        for owner, name in list(_places(model, (), is_all=False)):
            last = getattr(owner, name).last
            if isinstance(last, Quantization):
                setattr(owner, name, last)
        self.scheduled_quantizer_instances.clear()

    def get_extra_state(self) -> dict[str, float]:
        """Return how far the schedule is, for the state_dict."""
        return {"step_count": self._step_count, "factor": self._factor}

    def set_extra_state(self, state: Mapping[str, float]) -> None:
        """Go to where a state_dict says."""
        self._move_to(int(state["step_count"]))
        self.factor = state["factor"]


def _places(model: nn.Module, exclude: tuple[type[nn.Module], ...], *, is_all: bool) -> Iterator[tuple[nn.Module, str]]:
    """Yield the module and attribute of each quantizer that is to be replaced, those inside of others left out."""
    seen = {id(model)}
    waiting = [model]
    while waiting:
        module = waiting.pop()
        has_input = _has_input_place(module, is_all)
        if has_input:
            yield module, "input_quantization"
        for name, child in module.named_children():
            if has_input and name == "activation":
                continue
            if _is_place(child, is_all):
                yield module, name
            elif type(child) not in exclude and id(child) not in seen and not isinstance(child, Quantization):
                seen.add(id(child))
                waiting.append(child)


def _has_input_place(module: nn.Module, is_all: bool) -> bool:
    """Say whether a layer takes another quantizer for `activation` itself, so that its borders follow."""
    attribute, activation = getattr(type(module), "input_quantization", None), getattr(module, "activation", None)
    if not isinstance(attribute, property) or not isinstance(activation, nn.Module):
        return False
    quantizer = getattr(module, "input_quantization")  # noqa: B009 - of modules that have it
    return _is_place(quantizer, is_all) and any(quantizer is part for part in activation.modules())


def _is_place(module: object, is_all: bool) -> bool:
    kinds = Quantization if is_all else ScheduledQuantizer
    return isinstance(module, kinds) and not isinstance(module, GradientQuantization)


def _check_modules(quantizations: Sequence[nn.Module]) -> None:
    for index, one in enumerate(quantizations):
        if not isinstance(one, nn.Module):
            hint = f"; did you mean {one.__name__}()?" if isinstance(one, type) else ""
            raise TypeError(f"quantizations[{index}] must be a quantizer or another module, got {one!r}{hint}")


def _bits_of(module: nn.Module | None) -> int:
    return module.bit_width if isinstance(module, Quantization) else FLOAT_BITS
