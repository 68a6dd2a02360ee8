"""Defaults for layers that are built without quantizers, as BITorch has them."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from ..quantizations import Quantization, quantization_from_name


@dataclass
class LayerConfig:
    """What an argument of None means. Read when a layer is built; changing it later changes no existing one."""

    #: Names of the quantizers, or instances.
    input_quantization: str | Quantization = "sign"
    weight_quantization: str | Quantization = "sign"
    #: Padding of layers whose activations are signed, in units of their values.
    padding_value: float = -1.0
    #: QActivation cancels gradients where |x| is larger; 0 switches that off.
    gradient_cancellation_threshold: float = 1.0


config = LayerConfig()


def resolve_quantization(
    quantization: Quantization | str | None, default: Quantization | str, argument: str
) -> Quantization:
    """Return the quantizer meant by an argument: an instance as it is (shared, not copied), a name's, or the default's.

    A default that is an instance is shared as well, unless it holds parameters or buffers: then each layer gets a copy.

    Raises:
        ValueError: a string that names no quantizer.
        TypeError: anything else, a class among it.
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
    hint = f"; did you mean {quantization.__name__}()?" if isinstance(quantization, type) else ""
    raise TypeError(f"{argument} must be a Quantization instance or the name of one, got {quantization!r}{hint}")


def _default_quantization(default: Quantization | str, argument: str) -> Quantization:
    if isinstance(default, Quantization):
        has_state = any(True for _ in (*default.parameters(), *default.buffers()))
        return copy.deepcopy(default) if has_state else default
    return resolve_quantization(default, "", f"the default of {argument}, in bitorch.layers.config.config,")
