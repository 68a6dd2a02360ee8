"""Quantizers: float tensors to few-bit values, and the integer codes behind them."""

from .approx_sign import ApproxSign as ApproxSign
from .base import Quantization as Quantization
from .calibrated import InputCalibrated as InputCalibrated
from .dorefa import GradientDoReFa as GradientDoReFa
from .dorefa import InputDoReFa as InputDoReFa
from .dorefa import WeightDoReFa as WeightDoReFa
from .gradient_luq import GradientLUQ as GradientLUQ
from .gradient_signed import GradientSigned as GradientSigned
from .gradients import GradientQuantization as GradientQuantization
from .identity import Identity as Identity
from .lsq import InputLSQ as InputLSQ
from .names import quantization_from_name as quantization_from_name
from .names import quantization_names as quantization_names
from .names import quantizations_by_name as quantizations_by_name
from .names import register_custom_quantization as register_custom_quantization
from .pact import InputPACT as InputPACT
from .progressive_sign import ProgressiveSign as ProgressiveSign
from .ranges import RangeQuantization as RangeQuantization
from .rsign import RSign as RSign
from .sign import Sign as Sign
from .ste_heaviside import SteHeaviside as SteHeaviside
from .swish_sign import SwishSign as SwishSign
from .weight_lsq import WeightLSQ as WeightLSQ
from .weight_power_of_two import WeightPowerOfTwo as WeightPowerOfTwo
from .weight_ttq import WeightTTQ as WeightTTQ
from .weight_twn import WeightTWN as WeightTWN
