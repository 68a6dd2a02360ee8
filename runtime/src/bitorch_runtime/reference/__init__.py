"""What a program computes, in plain NumPy: the definition that the compiled kernels are tested against.

Everything here is written to be read. Integers are int64 and exact; floats are float32, and each `*`, `+` and `/` on
them rounds once, in the order written; sums of normalisations and reductions are float64, in the order of `sums`. The
compiled program gives the same numbers bit for bit, with two exceptions: where float convolutions, linear layers,
matrix products and attention sum, the order of summation is free; and where the largest number of a max-pool's window
is zero, −0 may be 0 and 0 may be −0.

Tensors are [batch, *rows, channels], of any number of row axes: images [batch, height, width, channels], signals
[batch, length, channels], tokens [batch, tokens, features]. A feature vector is an image of one pixel, [batch, 1, 1,
features]. Row axes of 1 in front of all others say nothing. Only windows (convolutions, pools, padding) know how many
row axes there are: their settings have a number for each, outermost first.
Codes of k bits are the integers 0 … n, n = 2^k − 1. Weight codes of k bits are the odd integers −n, −n+2, … n, or on
the signed grid −2^(k−1) … 2^(k−1) − 1.
Padding is what stands before each axis, then what stands behind each: (top, left, bottom, right) of images.
"""

from .applying import APPLY as APPLY
from .applying import apply as apply
from .basics import Floats as Floats
from .basics import Integers as Integers
from .basics import Operation as Operation
from .basics import levels as levels
from .codes import dequantize as dequantize
from .codes import lookup as lookup
from .codes import table_entries as table_entries
from .convolutions import conv2d_codes as conv2d_codes
from .convolutions import conv2d_float as conv2d_float
from .convolutions import conv_transpose_codes as conv_transpose_codes
from .convolutions import conv_transpose_float as conv_transpose_float
from .functions import absolute as absolute
from .functions import celu as celu
from .functions import elu as elu
from .functions import erf as erf
from .functions import exp as exp
from .functions import gelu as gelu
from .functions import gelu_tanh as gelu_tanh
from .functions import hardshrink as hardshrink
from .functions import hardsigmoid as hardsigmoid
from .functions import hardswish as hardswish
from .functions import leaky_relu as leaky_relu
from .functions import log as log
from .functions import logsigmoid as logsigmoid
from .functions import mish as mish
from .functions import reciprocal as reciprocal
from .functions import rsqrt as rsqrt
from .functions import selu as selu
from .functions import sigmoid as sigmoid
from .functions import sign as sign
from .functions import silu as silu
from .functions import softplus as softplus
from .functions import softshrink as softshrink
from .functions import softsign as softsign
from .functions import sqrt as sqrt
from .functions import tanh as tanh
from .functions import threshold as threshold
from .matrices import attention as attention
from .matrices import matmul as matmul
from .matrices import matmul_codes as matmul_codes
from .norms import normalize as normalize
from .packed_weights import code_line as code_line
from .packed_weights import pack_weights as pack_weights
from .packed_weights import unpack_weights as unpack_weights
from .pools import adaptive_avg_pool as adaptive_avg_pool
from .pools import adaptive_max_pool as adaptive_max_pool
from .pools import avg_pool as avg_pool
from .pools import global_avg_pool as global_avg_pool
from .pools import max_pool as max_pool
from .programs import read_input as read_input
from .programs import run as run
from .programs import write_output as write_output
from .reductions import reduce as reduce
from .resizing import resize as resize
from .resizing import resize_nearest as resize_nearest
from .rows import as_one_row as as_one_row
from .rows import concat as concat
from .rows import flatten as flatten
from .rows import permute as permute
from .rows import reshape as reshape
from .rows import take as take
from .rows import with_rows as with_rows
from .rows import without_leading_ones as without_leading_ones
from .sliding import borders as borders
from .sliding import output_size as output_size
from .sliding import pad as pad
from .sliding import windows as windows
from .softmax import softmax as softmax
from .stages import apply_thresholds as apply_thresholds
from .stages import at_least as at_least
from .stages import at_most as at_most
from .stages import float_stage as float_stage
from .stages import fused_multiply_add as fused_multiply_add
from .stages import relu as relu
from .stages import unit_quantize as unit_quantize
from .tensor import Apply as Apply
from .tensor import Arrays as Arrays
from .tensor import Tensor as Tensor
from .tensor import Tensors as Tensors
from .tensor import apply_float_stage as apply_float_stage
