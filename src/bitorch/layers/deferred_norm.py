"""What a BatchNorm gives before it is computed: the quantizer behind it may do that on its way to codes.

A `DeferredNorm` is handed on like the tensor that it stands for. Modules that know it hand it on in turn, changed by
what they do, or compute with it what it would have become; for whatever else is done with it, it becomes that tensor.
A function of somebody's own, `torch.autograd.Function.apply`, sees the BatchNorm's input in its place; so that no wrong
gradient comes of it, backward through there is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.utils._pytree import tree_map

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Normalization(NamedTuple):
    """A BatchNorm by the batch's statistics, and what follows it.

    Attributes:
        y: its input, float32 [N, C, H, W], channels last in memory.
        mean, variance: y's, the latter biased, float64 [C].
        gamma, beta: float32 [C], or None for ones and zeros.
        eps: is added to the variance.
        channels_last: whether the input was in this layout from the start.
        pool: whether a max-pooling over windows of 2×2 follows.
        positive: whether a ReLU follows.
    """

    y: Tensor
    mean: Tensor
    variance: Tensor
    gamma: Tensor | None
    beta: Tensor | None
    eps: float
    channels_last: bool
    pool: bool = False
    positive: bool = False

    def computed(self) -> Tensor:
        """Return what PyTorch computes."""
        x = F.batch_norm(self.y, None, None, self.gamma, self.beta, True, 0.0, self.eps)
        if self.pool:
            x = F.max_pool2d(x, 2)
        if self.positive:
            x = F.relu(x)
        return x if self.channels_last else x.contiguous()


class _Guarded(Function):
    """y, whose gradient must not come this way."""

    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        return y.detach()

    @staticmethod
    def backward(ctx: Any, output_gradient: Tensor) -> Tensor:
        raise RuntimeError(
            "a torch.autograd.Function got the input of a BatchNorm in place of its output, as fuse_training_ had "
            "joined that with a layer behind it; call bitorch.unfuse_training_(model), or give the function x.clone()"
        )


class DeferredNorm(Tensor):
    """Stands for what a BatchNorm gives, and becomes it when asked for anything."""

    _normalization: Normalization
    _version_of_input: int
    _value: Tensor | None

    @classmethod
    def of(cls, normalization: Normalization) -> DeferredNorm:
        y = normalization.y
        deferred: DeferredNorm = _Guarded.apply(y).as_subclass(cls)
        deferred._normalization, deferred._value, deferred._version_of_input = normalization, None, y._version
        return deferred

    def unspent(self) -> Normalization | None:
        """Return what is to be computed; None where it has been, so that it may be other numbers by now.

        Raises:
            RuntimeError: the BatchNorm's input was changed in place since.
        """
        if self._value is not None:
            return None
        self._check_input()
        return self._normalization

    def followed_by(self, *, pool: bool = False, positive: bool = False) -> Tensor:
        """Return this behind a max-pooling or a ReLU, the value where it has been computed already.

        In either order these are the same, also in their gradients: where the largest of a window is not above 0, none
        passes.
        """
        of = self.unspent()
        if of is None or (pool and of.pool):
            x = self.value()
            x = F.max_pool2d(x, 2) if pool else x
            return F.relu(x) if positive else x
        return DeferredNorm.of(of._replace(pool=of.pool or pool, positive=of.positive or positive))

    def value(self) -> Tensor:
        """Return the tensor that this stands for, computed once.

        Raises:
            RuntimeError: the BatchNorm's input was changed in place since.
        """
        if self._value is None:
            self._check_input()
            self._value = self._normalization.computed()
        return self._value

    def _check_input(self) -> None:
        if self._normalization.y._version != self._version_of_input:
            raise RuntimeError(
                "the input of a BatchNorm was changed in place before its output was used, which fuse_training_ has "
                "joined with the layer behind it; change a copy, or call bitorch.unfuse_training_(model)"
            )

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        args, kwargs = tree_map(_computed, (args, {} if kwargs is None else kwargs))
        return func(*args, **kwargs)


def _computed(x: Any) -> Any:
    return x.value() if isinstance(x, DeferredNorm) else x
