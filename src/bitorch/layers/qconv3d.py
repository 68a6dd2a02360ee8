"""BITorch's import path of the 3-dimensional convolutions."""

from .qconv import QConv3d as QConv3d
from .qconv import QConv3d_NoAct as QConv3d_NoAct
from .qconv import QConv3dBase as QConv3dBase
from .register import QConv3dImplementation as QConv3dImplementation
