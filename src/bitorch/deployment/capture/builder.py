"""From a tape to a graph: follows each tensor from call to call."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..graph.graph import Graph, Node
from ..graph.output_names import unused
from . import movement, rearrange
from .folding import PLAIN, Fold, fold_of
from .problems import (
    PARTIAL,
    Problem,
    ReadsValues,
    Refusal,
    Silent,
)
from .replay import Result, function_name, replay
from .tape import (
    Call,
    tensors_in,
    version,
)

#: Whose modules compute one thing, so that its node has the module's name.
_KNOWN_MODULES = ("torch.nn.modules.", "bitorch.layers.", "bitorch.quantizations.")


#: What tells that a tensor is another one's memory, number by number.
_PLACE: tuple[Callable[[Tensor], object], ...] = (
    Tensor.data_ptr, Tensor.stride, lambda tensor: (tensor.shape, tensor.dtype),
)  # fmt: skip


@dataclass(frozen=True)
class Value:
    """What is known of a tensor that depends on the input.

    Attributes:
        tensor: itself; the reference keeps its id from being used again.
        node: whose value it is,
        positions: after a movement, see movement.py; None where there was none.
        version: of the tensor, when this was true.
        call: that made it; None for inputs.
        refusal: why it cannot be read.
        was_moved: by a movement that is a node by now.
        only_leaves: they are integers, which nothing but an output can read.
        origin: of a moved tensor, what was known of the one that it was made of, and the last movement alone, as a
            function of positions.
    """

    tensor: Tensor
    node: str
    version: int
    call: Call | None = None
    positions: Tensor | None = None
    refusal: Refusal | None = None
    was_moved: bool = False
    only_leaves: bool = False
    origin: tuple[Value, Callable[[Tensor], Tensor]] | None = None


def _as_it_is(positions: Tensor) -> Tensor:
    return positions


@dataclass
class Builder:
    """Nodes and problems so far.

    Args:
        batch: of the example that the tape was made of.
    """

    batch: int
    nodes: dict[str, Node] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    values: dict[int, Value] = field(default_factory=dict)
    #: Constants that no recorded call made, in the order in which calls read them, and the first call that did.
    strangers: list[tuple[Tensor, Call]] = field(default_factory=list)
    #: By the name of an unsupported node, why it is one.
    refused: dict[str, Problem] = field(default_factory=dict)
    _made: dict[int, Tensor] = field(default_factory=dict)
    #: Of constants that calls made, by id: the call, which result it is, and its version then.
    _makers: dict[int, tuple[Call, int, int]] = field(default_factory=dict)
    #: By shape and numbers, the nodes of constants.
    _constants: dict[tuple[tuple[int, ...], bytes], str] = field(default_factory=dict)
    #: By node and positions: the node that has the numbers there.
    _moved: dict[tuple[str, tuple[int, ...], bytes], str] = field(default_factory=dict)

    def constant(self, call: Call, value: Tensor, name: str) -> str:
        """Return a node of a tensor [C, *rows] that is the same for every image: one for all that are equal.

        Args:
            value: float32 of its own memory.
            name: what it is called unless there is such a node.
        """
        key = tuple(value.shape), value.numpy(force=True).tobytes()
        if key not in self._constants:
            shape, settings = tuple(value.shape), {"value": value}
            self._constants[key] = self.add(call, "constant", (), shape, lambda: value.unsqueeze(0), name, settings)
        return self._constants[key]

    def input(self, name: str, tensor: Tensor, at: int) -> None:
        """Add an input node, and follow the tensor, which has this version, from now on."""
        name = self.unused(name)
        dtype = str(tensor.dtype).removeprefix("torch.")
        shape, settings = tuple(tensor.shape[1:]), {"pixels": False, "dtype": dtype}
        self.nodes[name] = Node(name, "input", (), shape, _not_called, settings, f"input {name!r}")
        self.values[id(tensor)] = Value(tensor, name, at)

    def unused(self, name: str) -> str:
        """Return the name, or with "@2", "@3", … behind it."""
        return unused(name, self.nodes)

    def varies(self, tensor: object) -> bool:
        """Say whether an argument is a tensor that depends on the input."""
        return isinstance(tensor, Tensor) and id(tensor) in self.values

    def only_leaves(self, tensor: Tensor) -> bool:
        """Say whether a tensor is one of integers, which nothing but an output can read."""
        return self.varies(tensor) and self.values[id(tensor)].only_leaves

    def name_of(self, call: Call) -> str:
        """Return the module's path for what a module of PyTorch does itself, else path and function."""
        path, module = call.place.path, call.place.module
        if call.function is module:
            return path if path else type(module).__name__.lower()
        function = function_name(call.function)
        is_known = type(module).__module__.startswith(_KNOWN_MODULES) and path != ""
        if is_known and not (function == "pad" and hasattr(module, "kernel_size")):
            return path
        return f"{path}.{function}" if path else function

    def add(self, call: Call, kind: str, inputs: tuple[str, ...], shape: tuple[int, ...], function: Any, name: str,
            settings: Mapping[str, Any]) -> str:  # fmt: skip
        """Add a node and return its name."""
        name = self.unused(name)
        self.nodes[name] = Node(name, kind, inputs, shape, function, settings, str(call.place), call.place.path)
        return name

    def channel_axis(self, tensor: Tensor) -> int:
        """Return the axis of a tensor that its node has as channels, if they have one to themselves: else 1."""
        value = self.values[id(tensor)]
        if value.positions is None or value.refusal is not None:
            return 1
        shape = self.nodes[value.node].shape
        try:
            return rearrange.channel_axis(movement.of_one_image(value.positions, self.batch, shape), shape)
        except Refusal:
            return 1  # it is told where the tensor is read

    def innermost_axis(self, tensor: Tensor) -> int:
        """Return the axis of a tensor whose neighbours are neighbouring channels of its node: they lie side by side.

        That of heads' channels, too, of which `channel_axis` knows none; where there is none, that.
        """
        value = self.values[id(tensor)]
        if value.positions is None or value.refusal is not None:
            return 1
        step, first = math.prod(self.nodes[value.node].shape[1:]), value.positions[:1]
        for axis in range(first.dim() - 1, 0, -1):
            if first.shape[axis] > 1 and bool((first.diff(dim=axis) == step).all()):
                return axis
        return self.channel_axis(tensor)

    def fold(self, tensor: Tensor) -> Fold | None:
        """Return where the batch is in a tensor; None where that is not known."""
        value = self.values[id(tensor)]
        if value.refusal is not None:
            return None
        if value.positions is None:
            return PLAIN
        return fold_of(value.positions, self.batch, math.prod(self.nodes[value.node].shape))

    def view(self, tensor: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Follow what a function makes of a tensor by moving its numbers, and return it."""
        value = self.values[id(tensor)]
        positions = value.positions
        if positions is None:
            positions = movement.start(self.batch, tuple(tensor.shape[1:]))
        moved = function(tensor.detach())
        self.values[id(moved)] = replace(value, tensor=moved, positions=function(positions), origin=(value, function))
        return moved

    def has_channels(self, tensor: Tensor) -> bool:
        """Say whether a tensor is a node's value as it is, and the node knows its channels, as inputs do not."""
        value = self.values[id(tensor)]
        return value.positions is None and self.nodes[value.node].kind != "input"

    def was_moved(self, tensor: Tensor) -> bool:
        """Say whether a tensor has the numbers of its node at other places."""
        value = self.values[id(tensor)]
        return value.positions is not None or value.was_moved

    def read(self, tensor: Tensor, at: int, channels: int = 1) -> str:
        """Return the name of the node whose value a tensor has.

        Args:
            at: the version that it has where it is read.
            channels: the axis of the tensor that the node is to have as channels, in front of all others.

        Raises:
            Refusal: there is no such node.
        """
        value = self._readable(tensor, at)
        if value.positions is None and channels == 1:
            return value.node
        settled = self._settled(value, lambda x: x.movedim(channels, 1) if channels != 1 else x)
        if channels == 1 == self.channel_axis(tensor):
            self.values[id(tensor)] = replace(settled, was_moved=True)
        return settled.node

    def read_indices(self, tensor: Tensor, at: int) -> str:
        """Return the name of the input whose indices a tensor is.

        Args:
            at: as of `read`.

        Raises:
            Refusal: it is none, as it is.
        """
        value = self._readable(tensor, at, indices=True)
        if self._is_of_indices(value) and value.positions is None and tensor.dtype in (torch.int32, torch.int64):
            return value.node
        raise Refusal(
            "its indices are computed", f"Give the indices themselves as an input of int32 or int64, {PARTIAL}"
        )

    def _is_of_indices(self, value: Value) -> bool:
        node = self.nodes[value.node]
        return node.kind == "input" and node.settings["dtype"] != "float32"

    def _readable(self, tensor: Tensor, at: int, *, indices: bool = False) -> Value:
        value = self.values[id(tensor)]
        if self._is_of_indices(value) and not indices:
            dtype = self.nodes[value.node].settings["dtype"]
            raise Refusal(
                f"it computes with input {value.node!r}, which is {dtype}: only embeddings take indices",
                f"Pass x.float(), {PARTIAL}",
            )
        if value.refusal is not None:
            raise value.refusal
        if value.version != at:
            raise Refusal(
                "it reads a tensor that was changed in place through another view of its memory",
                "Write the change without the trailing underscore, or inplace=False, or clone the tensor first",
            )
        return value

    def version_before_write(self, tensor: Tensor, at: int, written: object) -> int:
        """Return the version that a tensor is read at where a part of it is written.

        It is an earlier one where nothing has changed since but that part, through a view of it that is written now, as
        x[:, 0] += 1 does.
        """
        value, part = self.values[id(tensor)], self.values.get(id(written))
        is_view = part is not None and part.version == at and part.tensor._base is not None
        is_own = is_view and part is not None and part.tensor.untyped_storage().data_ptr() == _memory(tensor)
        return at - 1 if is_own and value.version == at - 1 else at

    def read_moved(self, tensor: Tensor, at: int, move: Callable[[Tensor], Tensor]) -> str:
        """Return the name of the node whose value is a movement of a tensor, [batch, C, *rows].

        Args:
            at: as of `read`, and so is what is raised.
            move: what it does to the tensor, of whatever numbers.
        """
        value = self._readable(tensor, at)
        if value.positions is None:
            positions = self._positions(value)
            if _same(move(positions), positions):
                return value.node
        return self._settled(value, move).node

    def nearest(self, tensor: Tensor, at: int) -> str:
        """Return the node that `read` returns; where that refuses, one that PyTorch can compute, if need be."""
        value = self.values[id(tensor)]
        try:
            return self.read(tensor, at)
        except Refusal:
            if value.positions is None or value.call is None:
                return value.node
        shape = self.nodes[value.node].shape
        try:
            first = movement.of_one_image(value.positions, self.batch, shape)
        except Refusal:
            return value.node
        name, moved = self.name_of(value.call), tuple(first.shape)
        return self.add(value.call, "unsupported", (value.node,), moved, movement.Gather(first), name, {})

    def before(
        self, tensor: Tensor, call: Call, undo: Callable[[Tensor, tuple[int, ...]], Tensor | None]
    ) -> str | None:
        """Return the node that a movement started from, or one that stands for what `undo` gives for its positions.

        None where there was no movement, or none that `undo` knows, or nodes have for all steps at once.
        """
        value = self.values[id(tensor)]
        if value.positions is None or value.refusal is not None or value.version != call.before[id(tensor)]:
            return None
        shape = self.nodes[value.node].shape
        positions = undo(value.positions, shape)
        if positions is None:
            return None
        try:
            return self._settled(replace(value, positions=positions, origin=None)).node
        except Refusal:
            return None  # it may be readable step by step

    def _settled(self, value: Value, arrange: Callable[[Tensor], Tensor] = _as_it_is) -> Value:
        """Add the nodes that a movement means, of all steps at once or, where that is nothing, one after the other.

        Args:
            arrange: what is done to the positions behind it.
        """
        at, name = self.nodes[value.node], value.node
        positions = arrange(self._positions(value))
        key = name, tuple(positions.shape), positions.numpy(force=True).tobytes()
        if key in self._moved:
            return replace(value, node=self._moved[key], positions=None, origin=None)
        call = value.call
        try:
            first = movement.of_one_image(positions, self.batch, at.shape)
            try:
                moves = movement.moves(first, at.shape)
            except Refusal:
                last_step = self._from_last_step(value)
                if last_step is not None:
                    return self._settled(last_step, arrange)
                moves = movement.in_any_order(first, at.shape)
        except Refusal as refusal:
            by = "" if call is None else f", by {function_name(call.function)} in {call.place}"
            raise Refusal(f"{refusal.what}{by}", refusal.remedy) from None
        for move in moves:
            as_called = f"{name}.{move.kind}" if call is None or value.positions is None else self.name_of(call)
            place, module = (at.place, at.module) if call is None else (str(call.place), call.place.path)
            inputs, name = (name,), self.unused(as_called)
            self.nodes[name] = Node(name, move.kind, inputs, move.shape, move.function, move.settings, place, module)
        self._moved[key] = name
        return replace(value, node=name, positions=None, origin=None)

    def _positions(self, value: Value) -> Tensor:
        shape = self.nodes[value.node].shape
        return movement.start(self.batch, shape) if value.positions is None else value.positions

    def _from_last_step(self, value: Value) -> Value | None:
        """Return what is known of a tensor where what its last movement began with is a node; None of the first one."""
        if value.origin is None or value.origin[0].positions is None:
            return None
        origin, function = value.origin
        positions, shape = self._positions(origin), self.nodes[origin.node].shape
        fold = fold_of(positions, self.batch, math.prod(shape))
        if fold is None:
            return None
        images = movement.of_one_image(fold.unfolded(positions), self.batch, shape)
        channels = rearrange.channel_axis(images, shape)
        node = self._settled(origin, lambda x: fold.unfolded(x).movedim(channels, 1)).node
        start = movement.start(self.batch, self.nodes[node].shape).movedim(1, channels)
        return replace(value, node=node, positions=function(fold.folded(start)), origin=None)

    def record_strangers(self, call: Call) -> None:
        """Remember constants whose origin is unknown, and results of calls on constants."""
        for tensor in call.tensors:
            if id(tensor) not in self.values and id(tensor) not in self._made:
                self._made[id(tensor)] = tensor
                self.strangers.append((tensor, call))

    def constants(self, call: Call) -> None:
        """Take the results of a call as constants."""
        for index, tensor in enumerate(tensors_in(call.result)):
            if id(tensor) not in self.values:
                self._made[id(tensor)] = tensor
                if not call.changed:
                    self._makers[id(tensor)] = call, index, call.after[id(tensor)]

    def as_made(self, tensor: Tensor, at: int) -> Tensor | None:
        """Return what a constant was that a call made and nothing changed up to this version; None: not known."""
        call, index, made = self._makers.get(id(tensor), (None, 0, -1))
        if call is None or made != at:
            return None
        return Result(replay(call, {}, ()), index)()

    def moved(self, call: Call, function: Callable[..., Any]) -> None:
        """Take the results of a call that only moves numbers.

        Args:
            function: does to positions what the call does to values.
        """
        source = call.args[0]
        value = self.values[id(source)]
        if value.refusal is not None or value.version != call.before[id(source)] or self._is_of_indices(value):
            self.read(source, call.before[id(source)])
        positions = value.positions
        if positions is None:
            positions = movement.start(self.batch, tuple(source.shape[1:]))
        positions = positions.contiguous()  # which any view is one of
        result = function(positions, *call.args[1:], **call.kwargs)
        if value.positions is None and isinstance(result, Tensor) and _same(result, positions):
            self._laid_out_anew(call, value)
            return
        for index, (tensor, where) in enumerate(zip(tensors_in(call.result), tensors_in(result), strict=True)):
            origin = value, _one_of(function, call, index)
            self.values[id(tensor)] = Value(tensor, value.node, call.after[id(tensor)], call, where, origin=origin)

    def leaves_indices(self, call: Call) -> bool:
        """Take a call that gives an input of indices in the shape that it has, as view(-1, length); say whether."""
        results = list(tensors_in(call.result))
        source = call.args[0] if call.args else None
        value = self.values.get(id(source))
        if (
            value is None
            or not isinstance(source, Tensor)
            or len(results) != 1
            or call.changed
            or not self._is_of_indices(value)
        ):
            return False
        result = results[0]
        if value.version != call.before[id(source)] or value.refusal is not None or value.positions is not None:
            return False
        if any(of(result) != of(source) for of in _PLACE):  # in another order, as flip gives them
            return False
        self.values[id(result)] = replace(value, tensor=result, version=call.after[id(result)], call=call)
        return True

    def _laid_out_anew(self, call: Call, value: Value) -> None:
        """Take a call that leaves all numbers where they were; if not in memory, on which PyTorch's sums depend."""
        name = value.node
        if call.result.stride() != call.args[0].stride():
            function = replay(call, {id(call.args[0]): name}, (name,))
            name = self.add(call, "identity", (name,), tuple(call.result.shape[1:]), function, self.name_of(call), {})
        self.values[id(call.result)] = Value(call.result, name, call.after[id(call.result)], call)

    def bind(
        self,
        call: Call,
        name: str,
        channels: int = 1,
        placed: Callable[[Tensor], Tensor] | None = None,
        fold: Fold = PLAIN,
        *,
        only_leaves: bool = False,
    ) -> None:
        """Let the results of a call stand for a node; tensors that the call changed too, and views of them no more.

        Args:
            channels: the axis of the first result, with the batch in front, that the node has as channels.
            placed: what moves the node's numbers, [batch, C, *rows], to where the first result has them; None where
                `channels` says it.
            fold: how the results are folded.
            only_leaves: they are integers.
        """
        positions = None
        if placed is not None or channels != 1 or not fold.is_plain:
            start = movement.start(self.batch, self.nodes[name].shape)
            positions = fold.folded(start.movedim(1, channels) if placed is None else placed(start))
        changed = call.changed
        for tensor in changed:
            self._spare_others(tensor, call)
        refusal = Refusal("it reads a second result of a function", f"Use the first result only, {PARTIAL}")
        for index, tensor in enumerate(tensors_in(call.result)):
            self.values[id(tensor)] = Value(
                tensor,
                name,
                call.after[id(tensor)],
                call,
                positions,
                refusal=None if index == 0 else refusal,
                only_leaves=only_leaves,
            )

    def _spare_others(self, changed: Tensor, call: Call) -> None:
        """Views that share a version with a changed tensor, but none of its numbers, stay as they were."""
        before, after = call.before[id(changed)], call.after[id(changed)]
        memory = changed.untyped_storage().data_ptr()
        for key, value in self.values.items():
            other = value.tensor
            if other is changed or value.version != before or other.untyped_storage().data_ptr() != memory:
                continue
            if not _overlap(changed, other):
                self.values[key] = replace(value, version=after)

    def unsupported(self, call: Call, refusal: Refusal) -> None:
        """Take a call that has no counterpart: a problem, and nodes that PyTorch can compute."""
        names = {id(t): self.nearest(t, call.before[id(t)]) for t in call.tensors if self.varies(t)}
        inputs = tuple(dict.fromkeys(names.values()))
        name = self.unused(self.name_of(call))
        problem = None
        reads = [self.values[id(t)].refusal for t in call.tensors if self.varies(t)]
        is_known = isinstance(refusal, Silent) or any(isinstance(reason, Silent) for reason in reads)
        if not is_known or isinstance(refusal, ReadsValues):
            problem = Problem(name, str(call.place), refusal.what, refusal.remedy)
            self.problems.append(problem)
        results = list(tensors_in(call.result))
        written = [t for t in call.changed if not any(t is result for result in results)]
        for index, tensor in enumerate([*results, *written]):
            function = Result(replay(call, names, inputs, written), index)
            node = self.add(call, "unsupported", inputs, tuple(tensor.shape[1:]), function, name, {})
            is_image = tensor.dim() > 0 and tensor.shape[0] == self.batch
            follows = is_image and tensor.dtype == torch.float32
            silence = None if follows else Silent()
            self.values[id(tensor)] = Value(tensor, node, call.after[id(tensor)], call, refusal=silence)
            if problem is not None:
                self.refused[node] = problem

    def output(self, tensor: Tensor) -> str:
        """Return the node of a tensor that the model returned.

        Raises:
            Refusal: there is none.
        """
        value = self.values.get(id(tensor))
        if value is None:
            raise Refusal("it does not depend on the input", "Return what is computed from the images, or leave it out")
        return value.node if isinstance(value.refusal, Silent) else self.read(tensor, version(tensor))

    def place_of(self, tensor: Tensor) -> str:
        """Return where a tensor was made; "" for an input or a constant."""
        value = self.values.get(id(tensor))
        return "" if value is None or value.call is None else str(value.call.place)

    def graph(self, outputs: Iterable[str]) -> Graph:
        """Return the graph, of what outputs need."""
        return Graph(tuple(self.nodes.values()), tuple(outputs)).pruned()


def _one_of(function: Callable[..., Any], call: Call, index: int) -> Callable[[Tensor], Tensor]:
    """One of the tensors that a call of one argument and others makes, as a function of that argument."""
    return lambda x: list(tensors_in(function(x.contiguous(), *call.args[1:], **call.kwargs)))[index]


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def _overlap(one: Tensor, other: Tensor) -> bool:
    """Say whether two views of one memory share numbers."""
    count = one.untyped_storage().nbytes() // one.element_size()
    places = torch.arange(count)
    taken = torch.zeros(count, dtype=torch.bool)
    taken[places.as_strided(one.size(), one.stride(), one.storage_offset())] = True
    return bool(taken[places.as_strided(other.size(), other.stride(), other.storage_offset())].any())


def _not_called(*_: Tensor) -> Tensor:
    raise AssertionError("an input is given, not computed")
