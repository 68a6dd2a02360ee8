"""What a rule sees of one call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from . import movement
from .builder import Builder
from .problems import PARTIAL, Refusal
from .replay import Result, replay
from .tape import Call, tensors_in


@dataclass
class Reader:
    """What a rule of rules/by_function.py sees of one call: reads its arguments, and adds nodes.

    Nodes are [C, *rows] whatever the model's tensors are: a rule says which axis of a tensor are its channels.

    Attributes:
        channels_at: the axis of the call's result that the node added last has as channels.
    """

    builder: Builder
    call: Call
    channels_at: int = 1
    _names: dict[int, str] = field(default_factory=dict)
    _taken: dict[str, _Taken] = field(default_factory=dict)

    @property
    def result(self) -> Tensor:
        """The call's first result."""
        first: Tensor = next(tensors_in(self.call.result))
        return first

    def varies(self, value: object) -> bool:
        """Say whether an argument is a tensor that depends on the input."""
        return self.builder.varies(value)

    def channel_axis(self, tensor: Tensor) -> int:
        """Return the axis of an argument that its node has as channels already, so that reading it moves nothing."""
        return self.builder.channel_axis(tensor) if self.varies(tensor) else 1

    def read(self, tensor: Tensor, channels: int = 1) -> str:
        """Return the node of an argument.

        Args:
            channels: the axis of the tensor that the node is to have as channels: tensor.dim() - 1 of tokens
                [batch, *rows, C].
        """
        if not self.varies(tensor):
            raise Refusal(
                "it computes with a constant where the images' values should be",
                f"Give the images' values as its first argument, {PARTIAL}",
            )
        was_moved = self.builder.was_moved(tensor)
        name = self.builder.read(tensor, self.call.before[id(tensor)], channels)
        self._names[id(tensor)] = name
        if was_moved or channels != 1:
            self._taken[name] = _Taken(channels, tensor)
        return name

    def read_pixels(self, tensor: Tensor) -> tuple[str, Callable[..., Tensor] | None]:
        """Return the node of an image whose pixels may have been put into one row, and the call from there."""
        before = self.builder.before(tensor, self.call, movement.row_of_pixels)
        if before is None:
            return self.read(tensor), None
        again = replay(self.call, {id(tensor): before}, (before,))
        return before, lambda x: again(x.flatten(2))

    def read_gate(self, tensor: Tensor) -> str:
        """Return the node of a factor; of one that was spread over all pixels, before it was spread."""
        before = self.builder.before(tensor, self.call, movement.spread_over_pixels)
        return self.read(tensor) if before is None else before

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a node."""
        return self.builder.nodes[name].shape

    def add(
        self,
        kind: str,
        *inputs: str,
        function: Callable[..., Tensor] | None = None,
        shape: tuple[int, ...] | None = None,
        step: str = "",
        channels_at: int = 1,
        kept: tuple[int, ...] | None = None,
        **settings: Any,
    ) -> str:
        """Add a node and return its name.

        Args:
            inputs: names of nodes.
            function: of nodes' values, [batch, C, *rows]; None: the call itself, again.
            shape: None: of the call's result, its channels first.
            step: what an intermediate result is called, behind the call's own name.
            channels_at: the axis of the call's result that the node has as channels.
            kept: the shape of one image of the result where the node has axes of 1 that the result has not; then
                `channels_at` is one of these axes, and so is `shape` made.
        """
        self.channels_at = channels_at
        name = self.builder.name_of(self.call)
        return self.builder.add(
            self.call,
            kind,
            inputs,
            _along(tuple(self.result.shape[1:]) if kept is None else kept, channels_at) if shape is None else shape,
            self._again(inputs, channels_at, kept) if function is None else function,
            f"{name}.{step}" if step else name,
            settings,
        )

    def shape_along(self, channels: int) -> tuple[int, ...]:
        """Return the shape of one image of the call's result, with this axis of the result as channels in front."""
        return _along(tuple(self.result.shape[1:]), channels)

    def _again(self, inputs: tuple[str, ...], channels: int, kept: tuple[int, ...] | None) -> Callable[..., Any]:
        function = replay(self.call, self._names, inputs)
        if not isinstance(self.call.result, Tensor):
            function = Result(function, 0)
        taken = [self._taken.get(name) for name in inputs]
        if channels == 1 and kept is None and not any(taken):
            return function
        again = function

        def moved(*values: Tensor) -> Tensor:
            given = (v if how is None else how.as_called(v) for v, how in zip(values, taken, strict=True))
            result: Tensor = again(*given)
            result = result if kept is None else result.reshape(len(result), *kept)
            return result.movedim(channels, 1) if channels != 1 else result

        return moved


def _along(shape: tuple[int, ...], channels: int) -> tuple[int, ...]:
    """The shape of an image, with this axis of a batch of it as channels in front."""
    return (*shape[channels - 1 : channels], *shape[: channels - 1], *shape[channels:])


@dataclass(frozen=True)
class _Taken:
    """How a call takes a node: with its channels at this axis, and in memory as the tensor was that it took."""

    channels: int
    tensor: Tensor

    def as_called(self, value: Tensor) -> Tensor:
        """The call's argument, of a node's value: PyTorch rounds by how a tensor lies in memory."""
        moved = value.movedim(1, self.channels) if self.channels != 1 else value
        strides = self.tensor.stride()
        axes = range(moved.dim())
        order = [*axes] if self.tensor.is_contiguous() else sorted(axes, key=lambda axis: -strides[axis])
        dense = moved.permute(order)
        # By way of one dimension: the stride of a batch of 1 is free, and matrix products look at it all the same.
        return dense.flatten().view(dense.shape).permute([order.index(axis) for axis in axes])
