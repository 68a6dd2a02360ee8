"""Defaults for layers that are built without quantizers, as BITorch has them."""

from __future__ import annotations

import copy

from ..config_base import Config
from ..errors_of_both import QuantizationArgumentError
from ..quantizations import Quantization, quantization_from_name


class LayerConfig(Config):
    """What an argument of None means. Read when a layer is built; changing it later changes no existing one."""

    name = "layer_config"

    #: Names of the quantizers, or instances.
    input_quantization: str | Quantization = "sign"
    weight_quantization: str | Quantization = "sign"
    #: Padding of layers whose activations are signed, in units of their values.
    padding_value: float = -1.0
    #: QActivation cancels gradients where |x| is larger; 0 switches that off.
    gradient_cancellation_threshold: float = 1.0
    #: Whether debug layers print and draw; read at every forward pass.
    debug_activated: bool = False
    #: Bits of Pact.
    pact_bits: int = 4

    def get_quantization_function(self, quantization: Quantization | str) -> Quantization:
        """Return a quantizer that is given as it is, shared and not copied, or a new one of that name.

        Raises:
            ValueError: an unknown name, or what is neither, a class among it; this one is a TypeError, too.
        """
        if not isinstance(quantization, Quantization | str):
            raise _no_quantizer(quantization, "quantization")
        return resolve_quantization(quantization, "", "quantization")


config = LayerConfig()


def resolve_quantization(
    quantization: Quantization | str | None, default: Quantization | str, argument: str
) -> Quantization:
    """Return the quantizer meant by an argument: an instance as it is (shared, not copied), a name's, or the default's.

    A default that is an instance is shared as well, unless it holds parameters or buffers: then each layer gets a copy.

    Raises:
        ValueError: a string that names no quantizer.
        TypeError: anything else, a class among it; a ValueError, too, as in BITorch.
    """
    if isinstance(quantization, Quantization):
        return quantization
    if quantization is None:
        return _default_quantization(default, argument)
    if isinstance(quantization, str):
        try:
            return quantization_from_name(quantization)()
        except ValueError as error:
            raise ValueError(f"{argument}: {error}") from None
    raise _no_quantizer(quantization, argument)


def _no_quantizer(value: object, argument: str) -> QuantizationArgumentError:
    hint = f"; did you mean {value.__name__}()?" if isinstance(value, type) else ""
    return QuantizationArgumentError(
        f"{argument} must be a Quantization instance or the name of one, got {value!r}{hint}"
    )


def _default_quantization(default: Quantization | str, argument: str) -> Quantization:
    if isinstance(default, Quantization):
        has_state = any(True for _ in (*default.parameters(), *default.buffers()))
        return copy.deepcopy(default) if has_state else default
    return resolve_quantization(default, "", f"the default of {argument}, in bitorch.layers.config.config,")
