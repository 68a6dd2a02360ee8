"""The low-bit form of Conv1D of transformers: a linear layer whose parameter is [in_features, out_features]."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from ..quantizations import Quantization
from .integer_kernels import Kernels
from .qlinear import QLinear
from .register import q_linear_registry

_HOME = "transformers.pytorch_utils"


def is_transposed_linear(kind: type[nn.Module]) -> bool:
    """Return whether a class is Conv1D of transformers, which is not imported for that."""
    return kind is getattr(sys.modules.get(_HOME), "Conv1D", None)


def conv1d() -> type[nn.Module]:
    """Return Conv1D of transformers; ImportError where that is not installed."""
    try:
        found: type[nn.Module] = import_module(_HOME).Conv1D
    except ModuleNotFoundError:
        raise ImportError('Conv1D is of the package transformers: pip install "bitorch-lowbit[hf]"') from None
    return found


class _FloatClass:
    """Conv1D of transformers, looked up when asked for: where there is such a layer it has been imported."""

    def __get__(self, instance: object, owner: type) -> Any:
        try:
            return sys.modules[_HOME].Conv1D
        except KeyError:
            raise AttributeError("transformers is not imported, which has Conv1D, the float form") from None


class QTransposedLinear(QLinear):
    """y = x_q·w_q + b, computed on the integer codes and scaled once: a QLinear with the weight of `Conv1D`.

    What `quantize_` makes of Conv1D of transformers, as in GPT-2: the same parameters, of the same shapes, weight
    [in_features, out_features] and bias [out_features]. The weight quantizer, `weight_codes()` and `weight_scale()`
    have the output channel first, as at QLinear: [out_features, in_features].

    Args:
        nf, nx: numbers of outputs and inputs, as Conv1D has them.
        input_quantization … kernels: as QLinear.

    Raises:
        ValueError, TypeError: as QLinear.
    """

    _float_class = _FloatClass()
    _registry = q_linear_registry

    def __init__(
        self,
        nf: int,
        nx: int,
        *,
        input_quantization: Quantization | str | None = None,
        gradient_cancellation_threshold: float | None = None,
        weight_quantization: Quantization | str | None = None,
        gradient_quantization: Quantization | None = None,
        exact: bool = True,
        kernels: Kernels = "auto",
    ) -> None:
        nn.Module.__init__(self)  # not nn.Linear's, whose weight has the other shape
        self.nf, self.nx = nf, nx
        self.weight = nn.Parameter(torch.empty(nx, nf))
        self.bias = nn.Parameter(torch.zeros(nf))
        nn.init.normal_(self.weight, std=0.02)
        self._set_quantization(
            input_quantization=input_quantization,
            weight_quantization=weight_quantization,
            gradient_quantization=gradient_quantization,
            gradient_cancellation_threshold=gradient_cancellation_threshold,
            exact=exact,
            kernels=kernels,
        )

    @property
    def in_features(self) -> int:  # type: ignore[override]  # nn.Linear keeps a number
        return self.nx

    @property
    def out_features(self) -> int:  # type: ignore[override]  # likewise
        return self.nf

    def _quantizer_weight(self) -> Tensor:
        return self.weight.t()

    def _inputs_per_output(self) -> int:
        return self.nx
