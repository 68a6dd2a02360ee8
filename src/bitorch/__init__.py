"""bitorch: low-bit neural networks in PyTorch, computed exactly on integers.

Quantize a float model in place, train it as ever:

    config = bitorch.DoReFaConfig(weight_bits=1, activation_bits=2, gradient_bits=6)
    bitorch.quantize_(model, config)
"""

from .convert import Conversion as Conversion
from .convert import LayerConversion as LayerConversion
from .convert import quantize_ as quantize_
from .dorefa_config import DoReFaConfig as DoReFaConfig

__version__ = "0.1.0"
