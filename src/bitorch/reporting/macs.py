"""How many multiply-adds each part of a model does for one image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from ..layers import QLinear
from ..layers.low_bit import WeightQuantized
from ..running import hooked

_aten = torch.ops.aten
#: What belongs to no part, such as the products of an attention that is written out.
REST = None


def count_macs(model: nn.Module, parts: Mapping[str, nn.Module], image: Sequence[Tensor]) -> dict[str | None, int]:
    """Run a model on one image and count its convolutions and matrix products, attention's among them.

    Each belongs to the innermost part that is being called, or to `REST`. A low-bit layer counts once, however many
    passes its exact sums take here. Padding counts like pixels.
    """
    counter = _Counter()
    was_fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one operator that hides all of attention
    try:
        with hooked(parts, counter.enter, counter.leave), sdpa_kernel(SDPBackend.MATH), counter, torch.no_grad():
            model(*(x.clone() for x in image))
    finally:
        torch.backends.mha.set_fastpath_enabled(was_fast)
    return counter.macs


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs: dict[str | None, int] = {}
        self._inside: list[tuple[str, bool]] = []  # names, and whether their own formula counts them

    def enter(self, name: str, part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._inside.append((name, _has_formula(part)))
        if _has_formula(part):
            self._input = args[0] if args else next(iter(kwargs.values()))

    def leave(self, name: str, part: nn.Module, result: object) -> None:
        self._inside.pop()
        if _has_formula(part) and isinstance(result, Tensor):
            self._add(name, _macs_of(part, self._input, result))

    def _add(self, name: str | None, macs: int) -> None:
        self.macs[name] = self.macs.get(name, 0) + macs

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **({} if kwargs is None else kwargs))
        name, is_counted = self._inside[-1] if self._inside else (REST, False)
        if not is_counted:
            macs = _macs_of_call(func, args, result)
            if macs:
                self._add(name, macs)
        return result


def _has_formula(part: nn.Module) -> bool:
    is_known = isinstance(part, (nn.Linear, nn.modules.conv._ConvNd))
    return isinstance(part, WeightQuantized) and is_known


def _macs_of(part: nn.Module, x: Tensor, y: Tensor) -> int:
    """A transposed convolution multiplies each input, the others make each output, with one slice of the weight."""
    weight = part._quantizer_weight() if isinstance(part, QLinear) else part.weight
    assert isinstance(weight, Tensor)  # of a linear layer or convolution
    tensor = x if isinstance(part, nn.modules.conv._ConvTransposeNd) else y
    return tensor.numel() * weight[0].numel()


def _macs_of_call(func: Any, args: tuple[Any, ...], result: Any) -> int:
    operator = func.overloadpacket
    if operator in (_aten.convolution, _aten._convolution, _aten.convolution_overrideable):
        x, weight, transposed = args[0], args[1], args[6]
        return int((x if transposed else result).numel() * weight[0].numel())
    if operator in (_aten.mm, _aten.bmm, _aten.mv, _aten.dot):
        return int(result.numel() * args[0].shape[-1])
    if operator in (_aten.addmm, _aten.baddbmm, _aten.addmv, _aten.addbmm):
        batch = args[1].shape[0] if operator is _aten.addbmm else 1
        return int(batch * result.numel() * args[1].shape[-1])
    if operator is _aten.linear:
        return int(result.numel() * args[1].shape[-1])
    if operator is _aten.mkldnn_rnn_layer:  # x [time, batch, features]; the weights of input and state
        return int(args[0].shape[0] * args[0].shape[1] * (args[1].numel() + args[2].numel()))
    return 0
