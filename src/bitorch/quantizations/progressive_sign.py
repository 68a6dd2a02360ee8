"""A hardtanh that steepens into the sign over the training."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any

from torch import Tensor

from ..config_base import Config
from ..errors_of_both import ScaleWithoutEffectError
from .base import STE, as_internal
from .own_arguments import arguments_of
from .sign import SignFunction
from .sign_grid import SignGrid

#: The least width of the ramp, where T comes to 1.
EPSILON = 1e-7


class ProgressiveSignConfig(Config):
    """Defaults of ProgressiveSign. The scale is read at every forward pass of a quantizer with global scaling."""

    name = "progressive_sign_config"

    progressive_sign_scale: float = 0.0
    progressive_sign_alpha: float = 4.0
    progressive_sign_beta: float = 10.0


config = ProgressiveSignConfig()


class ProgressiveSignFunctionTrain(STE):
    """hardtanh(x / max(1 − T, 1e-7)) forward, g backward."""

    @staticmethod
    def forward(ctx: Any, input_tensor: Tensor, temperature: float) -> Tensor:  # type: ignore[override]  # STE with an option
        return (input_tensor / max(1 - temperature, EPSILON)).clamp(-1, 1)

    @staticmethod
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, None]:
        return output_gradient, None


class ProgressiveSign(SignGrid):
    """Forward in training: hardtanh(x / max(1 − T, 1e-7)) with T = transform(current_scale), so T = 0 is the plain
    hardtanh and T → 1 the sign. In eval mode: sign⁺(x).

    Backward: g. Codes ±1 and scale 1 in eval mode; in training the values lie on no grid. At 0: 0 in training, +1 in
    eval. NaN stays NaN.

    Setting `scale_factor`, or `scale` as in BITorch, to a number ends global scaling: it is the number in use then.
    What `scale` gives stays the method of all quantizers.

    Args:
        use_global_scaling: take the scale from `bitorch.quantizations.progressive_sign.config`, at every forward pass.
        initial_scale: the quantizer's own scale, 0…1; only without global scaling. None takes the config's.
        custom_transform: maps the scale to T instead of `default_transform`.
        alpha, beta: of `default_transform`; None takes the config's.

    Raises:
        ValueError: initial_scale together with global scaling, which would ignore it. It is a RuntimeWarning, too,
            as in BITorch.
    """

    name = "progressive_sign"

    def __init__(
        self,
        use_global_scaling: bool = True,
        initial_scale: float | None = None,
        custom_transform: Callable[[float], float] | None = None,
        alpha: float | None = None,
        beta: float | None = None,
    ) -> None:
        super().__init__()
        if use_global_scaling and initial_scale is not None:
            raise ScaleWithoutEffectError(
                f"initial_scale={initial_scale} has no effect with use_global_scaling=True; pass "
                "use_global_scaling=False, or set progressive_sign.config.progressive_sign_scale"
            )
        self.scale_factor = config.progressive_sign_scale if initial_scale is None else initial_scale
        self.global_scaling = use_global_scaling
        self.custom_transform = custom_transform
        self.alpha = config.progressive_sign_alpha if alpha is None else alpha
        self.beta = config.progressive_sign_beta if beta is None else beta

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("scale", "scale_factor") and isinstance(value, Real):
            super().__setattr__("scale_factor", float(value))
            self.global_scaling = False  # a number that was set is the one in use
        else:
            super().__setattr__(name, value)

    @property
    def current_scale(self) -> float:
        """The global scale with global scaling, else the quantizer's own."""
        return config.progressive_sign_scale if self.global_scaling else self.scale_factor

    @staticmethod
    def default_transform(scale: float, alpha: float | None = None, beta: float | None = None) -> float:
        """Return T = 1 − alpha^(−beta·scale); None takes the config's alpha and beta."""
        a = config.progressive_sign_alpha if alpha is None else alpha
        b = config.progressive_sign_beta if beta is None else beta
        return float(1 - a ** (-b * scale))

    def transform(self, scale: float) -> float:
        """Return T for a scale, by the custom transform if there is one."""
        if self.custom_transform is not None:
            return self.custom_transform(scale)
        return self.default_transform(scale, self.alpha, self.beta)

    @property
    def max_code(self) -> int | None:
        return None if self.training else 1

    def codes(self, x: Tensor) -> Tensor:
        if self.training:
            raise TypeError("ProgressiveSign has no fixed grid in training, so it has no codes; call .eval() first")
        codes: Tensor = SignFunction.apply(as_internal(x, "ProgressiveSign"))
        return codes

    def quantize(self, x: Tensor) -> Tensor:
        """Quantize a float tensor of any shape; see the class for the formula."""
        if not self.training:
            return super().quantize(x)
        temperature = self.transform(self.current_scale)
        value: Tensor = ProgressiveSignFunctionTrain.apply(as_internal(x, "ProgressiveSign"), temperature)
        return value.to(x.dtype)

    def arguments(self) -> dict[str, Any]:
        own = None if self.global_scaling else self.scale_factor
        return arguments_of(self, use_global_scaling=self.global_scaling, initial_scale=own)

    def extra_repr(self) -> str:
        return f"global_scaling={self.global_scaling}, scale={self.current_scale}"
