"""Defaults for quantizers that are built without arguments, as BITorch has them."""

from __future__ import annotations

from ..config_base import Config


class QuantizationConfig(Config):
    """What an argument of None means. Read when a quantizer is built; changing it later changes no existing one."""

    name = "quantization_config"

    #: Bits of InputDoReFa and WeightDoReFa.
    dorefa_bits: int = 1
    #: Steepness β of SwishSign.
    beta: float = 5.0


config = QuantizationConfig()
