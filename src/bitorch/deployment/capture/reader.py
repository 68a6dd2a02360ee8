"""What a rule sees of one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ...same_numbers import same_numbers
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
        placed: what moves that node's numbers, [batch, C, *rows], to where the call's result has them; None where
            `channels_at` says it.
    """

    builder: Builder
    call: Call
    channels_at: int = 1
    placed: Callable[[Tensor], Tensor] | None = None
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

    def innermost_axis(self, tensor: Tensor) -> int:
        """Return the axis of an argument that lies without gaps in its node: reading it as channels is cheap."""
        return self.builder.innermost_axis(tensor) if self.varies(tensor) else tensor.dim() - 1

    def view(self, tensor: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Return what a function makes of an argument by moving its numbers: it can be read as the argument can."""
        view = self.builder.view(tensor, function)
        self.call = replace(self.call, before={**self.call.before, id(view): self.call.before[id(tensor)]})
        return view

    def as_called(self, tensor: Tensor) -> Tensor:
        """Return the argument as the model has it, where a view with the batch in front stands for it."""
        return tensor if self.call.folds is None else self.call.folds.given.get(id(tensor), tensor)

    def may_be_channels(self, tensor: Tensor, axis: int) -> bool:
        """Say whether an axis of an argument is the one that its node has as channels, or may as well be.

        Of an input, and of features in rows, it is not known which axis the model means: the last one may be.
        """
        found = self.channel_axis(tensor)
        is_known = found != 1 or self.builder.has_channels(tensor)
        return axis == found or (axis == tensor.dim() - 1 and not is_known)

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

    def operand(self, tensor: Tensor, move: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]) -> Operand:
        """Return the node of a movement of an argument, of which the call may have several of one node.

        Args:
            move: from the argument to [batch, C, *rows]; `back`: from there to the argument.
        """
        return Operand(self.builder.read_moved(tensor, self.call.before[id(tensor)], move), tensor, back)

    def again_with(self, operands: Sequence[Operand]) -> Callable[..., Any]:
        """Return the call itself as a function of the values of the operands' nodes."""
        places = [str(index) for index in range(len(operands))]
        names = {id(operand.tensor): place for operand, place in zip(operands, places, strict=True)}
        function = replay(self.call, names, places)
        return lambda *values: function(*(o.of_node(value) for o, value in zip(operands, values, strict=True)))

    def read_indices(self, tensor: Tensor) -> str:
        """Return the input node of an argument that is indices."""
        if not self.varies(tensor):
            raise Refusal("its table is read at fixed places only", f"Take these rows once, as a constant, {PARTIAL}")
        name = self.builder.read_indices(tensor, self.call.before[id(tensor)])
        self._names[id(tensor)] = name
        return name

    def read_pixels(self, tensor: Tensor) -> tuple[str, Callable[..., Tensor] | None]:
        """Return the node of an image whose pixels may have been put into one row, and the call from there."""
        before = self.builder.before(tensor, self.call, movement.row_of_pixels)
        if before is None:
            return self.read(tensor), None
        again = replay(self.call, {id(tensor): before}, (before,))
        return before, lambda x: again(x.flatten(2))

    def read_once(self, tensor: Tensor, channels: int, axes: Sequence[int]) -> str:
        """Return the node of an argument with one place along those of these axes where it is repeated.

        Its channels may be among them.
        """

        def undo(positions: Tensor, shape: tuple[int, ...]) -> Tensor:
            return movement.without_repetitions(positions, axes).movedim(channels, 1)

        before = self.builder.before(tensor, self.call, undo) if len(axes) > 0 else None
        return self.read(tensor, channels) if before is None else before

    def constant(self, value: float | Tensor, channels: int, axes: Sequence[int] = ()) -> str:
        """Return a node of a constant.

        Args:
            value: of as many dimensions as the call's result, or fewer.
            channels, axes: see `read_once`.
        """
        constant = torch.as_tensor(value).detach().to(torch.float32)
        constant = constant.reshape(*[1] * (self.result.dim() - constant.dim()), *constant.shape)
        if not bool(same_numbers(constant, constant[:1]).all()):
            raise Refusal(
                "it computes with a constant that differs from image to image",
                f"Use one constant for all images, of shape [1, …], {PARTIAL}",
            )
        for axis in axes:
            once = constant.narrow(axis, 0, 1)
            constant = once if bool(same_numbers(constant, once).all()) else constant
        name = f"{self.builder.name_of(self.call)}.constant"
        return self.builder.constant(self.call, constant.movedim(channels, 1)[0].contiguous().clone(), name)

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

    def read_written(self, tensor: Tensor, channels: int, written: object) -> str:
        """Return the node of a tensor, or of a constant, as it was before a part of it was written, by `written`."""
        at = self.call.before[id(tensor)]
        if self.varies(tensor):
            return self.builder.read(tensor, self.builder.version_before_write(tensor, at, written), channels)
        made = self.builder.as_made(tensor, at)
        if made is None:
            raise Refusal(
                "it writes into a tensor that was changed before, or that forward has not made",
                f"Write into a copy, x.clone() or torch.zeros, {PARTIAL}",
            )
        return self.constant(made, channels)

    def add_moves(self, name: str, first: Tensor) -> str:
        """Add what a movement of a node means, and return the last node's name.

        Args:
            first: positions within the node's image, int64 [*moved shape].
        """
        shape = self.shape(name)
        try:
            found = movement.moves(first, shape)
        except Refusal:
            found = movement.in_any_order(first, shape)
        for move in found:
            name = self.add(move.kind, name, function=move.function, shape=move.shape, **move.settings)
        return name

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
        return _lying_as(value.movedim(1, self.channels) if self.channels != 1 else value, self.tensor)


@dataclass(frozen=True)
class Operand:
    """An argument of a call that reads several.

    Attributes:
        name: of the node.
        tensor: the argument.
        back: from the value of the node to the argument.
    """

    name: str
    tensor: Tensor
    back: Callable[[Tensor], Tensor]

    def of_node(self, value: Tensor) -> Tensor:
        """The argument, of the node's value."""
        return _lying_as(self.back(value), self.tensor)


def _lying_as(value: Tensor, tensor: Tensor) -> Tensor:
    """The value in memory as a tensor of as many axes lies there: PyTorch rounds by that."""
    strides = tensor.stride()
    axes = range(value.dim())
    order = [*axes] if tensor.is_contiguous() else sorted(axes, key=lambda axis: -strides[axis])
    dense = value.permute(order)
    # By way of one dimension: the stride of a batch of 1 is free, and matrix products look at it all the same.
    return dense.flatten().view(dense.shape).permute([order.index(axis) for axis in axes])
