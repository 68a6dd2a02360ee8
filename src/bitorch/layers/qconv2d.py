"""BITorch's import path of the 2-dimensional convolutions."""

from .qconv import QConv2d as QConv2d
from .qconv import QConv2d_NoAct as QConv2d_NoAct
from .qconv import QConv2dBase as QConv2dBase
from .register import QConv2dImplementation as QConv2dImplementation
