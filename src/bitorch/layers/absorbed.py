"""A ReLU that does nothing any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from typing_extensions import Self


class AbsorbedReLU(nn.Module):
    """Stands where a ReLU stood whose output only reaches a quantizer that clips to [0, 1] and so does its work.

    Keeps the place in its nn.Sequential, so that the indices of the other modules (and state_dict keys) stay.
    """

    #: Of the ReLU, for the day when it comes back.
    inplace = False

    @classmethod
    def _sharing(cls, relu: nn.Module) -> Self:
        """Return an AbsorbedReLU with a ReLU's hooks and settings."""
        new = cls()
        new.__dict__.update(relu.__dict__)
        return new

    def _as_float(self) -> nn.ReLU:
        """Return the ReLU with this module's hooks and settings."""
        relu = nn.ReLU(self.inplace)
        relu.__dict__.update(self.__dict__)
        return relu

    def forward(self, x: Tensor) -> Tensor:
        """Return x."""
        return x
