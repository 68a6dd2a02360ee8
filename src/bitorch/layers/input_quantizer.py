"""The quantizer in a layer's `activation`, which may be any module."""

from __future__ import annotations

from torch import Tensor, nn

from ..quantizations import Quantization
from ..quantizations.bits import FLOAT_BITS
from .qactivation import QActivation

#: As the class was made: somebody may replace them.
_FORWARD, _CANCEL_GRADIENT = QActivation.forward, QActivation.cancel_gradient


class ForeignActivation(Quantization):
    """Stands for a module that is no quantizer, so that nothing is known of its values. It is made when asked for."""

    bit_width = FLOAT_BITS

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._module = (module,)  # in a tuple, so that it is no submodule
        self.training = module.training
        self.no_grid = f"is a {type(module).__name__}, not a quantizer"

    def quantize(self, x: Tensor) -> Tensor:
        """Return what the module gives."""
        value: Tensor = self._module[0](x)
        return value

    def set_bits_(self, bits: int) -> None:
        if bits != self.bit_width:
            raise ValueError(
                f"the layer's activation {self.no_grid}, and has no bits to change; set layer.input_quantization first"
            )

    def __repr__(self) -> str:
        return repr(self._module[0])


def quantizer_of(activation: nn.Module) -> Quantization:
    """Return the quantizer in an activation; what stands for the module, where it has none."""
    function = activation.activation_function if isinstance(activation, QActivation) else activation
    return function if isinstance(function, Quantization) else ForeignActivation(function)


def gives_its_quantizers_values(activation: nn.Module) -> bool:
    """Say whether an activation gives what its quantizer gives: one with a forward of its own may not."""
    if not isinstance(activation, QActivation):
        return True
    cls, instance = type(activation), activation.__dict__
    return (
        cls.forward is _FORWARD
        and cls.__call__ is nn.Module.__call__  # as it is now: torch.export replaces it while it runs
        and cls.cancel_gradient is _CANCEL_GRADIENT
        and "forward" not in instance
        and "cancel_gradient" not in instance
    )


def before_quantizer(activation: nn.Module, x: Tensor) -> Tensor:
    """Return what an activation gives its quantizer for x."""
    return activation.cancel_gradient(x) if isinstance(activation, QActivation) else x
