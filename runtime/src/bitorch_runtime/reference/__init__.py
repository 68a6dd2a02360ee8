"""What a program computes, in plain NumPy: the definition that the compiled kernels are tested against.

Everything here is written to be read. Integers are int64 and exact; floats are float32, and each `*`, `+` and `/` on
them rounds once, in the order written. The compiled program gives the same numbers bit for bit, with three exceptions:
where float convolutions and linear layers sum, the order of summation is free; softmax is computed in float64 and may
round the other way; and where the largest number of a max-pool's window is zero, −0 may be 0 and 0 may be −0.

Tensors are [batch, *rows, channels], of any number of row axes: images [batch, height, width, channels], signals
[batch, length, channels], tokens [batch, tokens, features]. A feature vector is an image of one pixel, [batch, 1, 1,
features]. Row axes of 1 in front of all others say nothing. Only windows (convolutions, pools, padding) know how many
row axes there are, one or two; below, x of these is [B, H, W, C], and one row axis is an image of one row.
Codes of k bits are the integers 0 … n, n = 2^k − 1. Weight codes of k bits are the odd integers −n, −n+2, … n, or on
the signed grid −2^(k−1) … 2^(k−1) − 1.
Padding is (top, left, bottom, right); kernel_size, stride and dilation are (vertical, horizontal).
"""

from bitorch_runtime.reference.applying import APPLY as APPLY
from bitorch_runtime.reference.applying import apply as apply
from bitorch_runtime.reference.basics import Floats as Floats
from bitorch_runtime.reference.basics import Integers as Integers
from bitorch_runtime.reference.basics import Operation as Operation
from bitorch_runtime.reference.basics import levels as levels
from bitorch_runtime.reference.codes import dequantize as dequantize
from bitorch_runtime.reference.codes import lookup as lookup
from bitorch_runtime.reference.codes import table_entries as table_entries
from bitorch_runtime.reference.convolutions import conv2d_codes as conv2d_codes
from bitorch_runtime.reference.convolutions import conv2d_float as conv2d_float
from bitorch_runtime.reference.functions import elu as elu
from bitorch_runtime.reference.functions import gelu as gelu
from bitorch_runtime.reference.functions import gelu_tanh as gelu_tanh
from bitorch_runtime.reference.functions import hardsigmoid as hardsigmoid
from bitorch_runtime.reference.functions import hardswish as hardswish
from bitorch_runtime.reference.functions import leaky_relu as leaky_relu
from bitorch_runtime.reference.functions import sigmoid as sigmoid
from bitorch_runtime.reference.functions import silu as silu
from bitorch_runtime.reference.functions import softmax as softmax
from bitorch_runtime.reference.functions import tanh as tanh
from bitorch_runtime.reference.packed_weights import code_line as code_line
from bitorch_runtime.reference.packed_weights import pack_weights as pack_weights
from bitorch_runtime.reference.packed_weights import unpack_weights as unpack_weights
from bitorch_runtime.reference.pools import adaptive_avg_pool as adaptive_avg_pool
from bitorch_runtime.reference.pools import avg_pool as avg_pool
from bitorch_runtime.reference.pools import global_avg_pool as global_avg_pool
from bitorch_runtime.reference.pools import max_pool as max_pool
from bitorch_runtime.reference.programs import read_input as read_input
from bitorch_runtime.reference.programs import run as run
from bitorch_runtime.reference.programs import write_output as write_output
from bitorch_runtime.reference.rows import as_one_row as as_one_row
from bitorch_runtime.reference.rows import concat as concat
from bitorch_runtime.reference.rows import flatten as flatten
from bitorch_runtime.reference.rows import permute as permute
from bitorch_runtime.reference.rows import reshape as reshape
from bitorch_runtime.reference.rows import take as take
from bitorch_runtime.reference.rows import with_rows as with_rows
from bitorch_runtime.reference.rows import without_leading_ones as without_leading_ones
from bitorch_runtime.reference.stages import apply_thresholds as apply_thresholds
from bitorch_runtime.reference.stages import at_least as at_least
from bitorch_runtime.reference.stages import at_most as at_most
from bitorch_runtime.reference.stages import float_stage as float_stage
from bitorch_runtime.reference.stages import fused_multiply_add as fused_multiply_add
from bitorch_runtime.reference.stages import relu as relu
from bitorch_runtime.reference.stages import unit_quantize as unit_quantize
from bitorch_runtime.reference.tensor import Apply as Apply
from bitorch_runtime.reference.tensor import Arrays as Arrays
from bitorch_runtime.reference.tensor import Tensor as Tensor
from bitorch_runtime.reference.tensor import Tensors as Tensors
from bitorch_runtime.reference.tensor import apply_float_stage as apply_float_stage
from bitorch_runtime.reference.sliding import as_image as as_image
from bitorch_runtime.reference.sliding import as_signal as as_signal
from bitorch_runtime.reference.sliding import output_size as output_size
from bitorch_runtime.reference.sliding import pad as pad
from bitorch_runtime.reference.sliding import two_axes as two_axes
from bitorch_runtime.reference.sliding import windows as windows
