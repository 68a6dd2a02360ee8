"""What `fuse_training_` makes of a BatchNorm, and of a max-pooling and a ReLU behind it.

They have the parameters, buffers and settings that they had, and compute what they did. In training a BatchNorm whose
output goes to a quantizer may leave its work to the layer there: it updates its statistics, and gives a `DeferredNorm`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from ..operators.norm_product import channel_moments
from .deferred_norm import DeferredNorm, Normalization
from .integer_kernels import is_traced
from .norm_product import static_norm_obstacle
from .watched import is_watched

if TYPE_CHECKING:
    from .qconv import QConv2d


class Followers(NamedTuple):
    """The modules behind a BatchNorm up to the layer that does its work."""

    between: tuple[nn.Module, ...]
    layer: QConv2d


class FusedMaxPool2d(nn.MaxPool2d):
    """nn.MaxPool2d over windows of 2×2 that hands on what a BatchNorm has left to the layer behind."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the largest numbers of the windows of input [N, C, H, W]."""
        if type(input) is DeferredNorm:
            return input.followed_by(pool=True)
        pooled: Tensor = super().forward(input)
        return pooled


class FusedReLU(nn.ReLU):
    """nn.ReLU that hands on what a BatchNorm has left to the layer behind."""

    def forward(self, input: Tensor) -> Tensor:
        """Return max(input, 0)."""
        return input.followed_by(positive=True) if type(input) is DeferredNorm else super().forward(input)


class FusedBatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d that leaves its work to the layer behind, where it normalizes by the batch and that layer can."""

    _followers: Followers

    def forward(self, input: Tensor) -> Tensor:
        """Return input [N, C, H, W], normalized."""
        if not self._defers(input):
            return super().forward(input)
        y = input.contiguous(memory_format=torch.channels_last)
        mean, variance = channel_moments(y.detach())
        self._update_statistics(mean, variance, y.numel() // y.shape[1])
        is_channels_last = input.is_contiguous(memory_format=torch.channels_last)
        return DeferredNorm.of(Normalization(y, mean, variance, self.weight, self.bias, self.eps, is_channels_last))

    def _defers(self, x: Tensor) -> bool:
        """Say whether the layer behind may get x itself."""
        if torch.compiler.is_compiling() or is_traced() or not self.training:
            return False
        layer = self._followers.layer
        tensors = [x, *(t for t in (self.weight, self.bias, self.running_mean) if t is not None)]
        return (
            layer.training
            and x.dim() == 4
            and x.shape[1] == self.num_features
            and x.numel() > self.num_features  # one number of each is an error of PyTorch's
            and all(t.is_cpu and t.dtype == torch.float32 for t in tensors)
            and not (x.is_inference() or torch.is_autocast_enabled("cpu"))
            and not is_watched(self, *self._followers.between, layer)
            and static_norm_obstacle(layer) is None
        )

    @torch.no_grad()
    def _update_statistics(self, mean: Tensor, variance: Tensor, pixels: int) -> None:
        """Do what nn.BatchNorm2d does with the statistics of a batch."""
        if not self.track_running_stats:
            return
        assert self.num_batches_tracked is not None  # they are tracked
        self.num_batches_tracked.add_(1)
        share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        unbiased = variance * (pixels / (pixels - 1))
        for running, of_batch in ((self.running_mean, mean), (self.running_var, unbiased)):
            if running is not None:
                running.copy_(running.double().lerp_(of_batch, share))
