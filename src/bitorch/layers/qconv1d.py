"""BITorch's import path of the 1-dimensional convolutions."""

from .qconv import QConv1d as QConv1d
from .qconv import QConv1d_NoAct as QConv1d_NoAct
from .qconv import QConv1dBase as QConv1dBase
from .register import QConv1dImplementation as QConv1dImplementation
