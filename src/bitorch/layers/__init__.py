"""Quantized layers: a PyTorch layer plus its quantizers."""

from .absorbed import AbsorbedReLU as AbsorbedReLU
from .qactivation import QActivation as QActivation
from .qattention import QMultiheadAttention as QMultiheadAttention
from .qconv1d import QConv1d as QConv1d
from .qconv1d import QConv1d_NoAct as QConv1d_NoAct
from .qconv1d import QConv1dBase as QConv1dBase
from .qconv2d import QConv2d as QConv2d
from .qconv2d import QConv2d_NoAct as QConv2d_NoAct
from .qconv2d import QConv2dBase as QConv2dBase
from .qconv3d import QConv3d as QConv3d
from .qconv3d import QConv3d_NoAct as QConv3d_NoAct
from .qconv3d import QConv3dBase as QConv3dBase
from .qconv_transpose import QConvTranspose1d as QConvTranspose1d
from .qconv_transpose import QConvTranspose2d as QConvTranspose2d
from .qconv_transpose import QConvTranspose3d as QConvTranspose3d
from .qembedding import QEmbedding as QEmbedding
from .qembedding import QEmbeddingBag as QEmbeddingBag
from .qlinear import QLinear as QLinear
from .qlinear import QLinearBase as QLinearBase
from .qrecurrent import QGRU as QGRU
from .qrecurrent import QLSTM as QLSTM
from .qrecurrent import QRNN as QRNN
from .qrecurrent_cells import QGRUCell as QGRUCell
from .qrecurrent_cells import QLSTMCell as QLSTMCell
from .qrecurrent_cells import QRNNCell as QRNNCell
from .rprelu import RPReLU as RPReLU
