"""Runs of the model on several batches, and what they must have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...same_numbers import same_numbers
from ..graph.graph import Graph, Node
from .builder import Builder
from .problems import PARTIAL, Problem
from .returned import Returned, returned
from .rules.low_bit import is_whole
from .tape import Call, recording, version

_VARIES = "it is not the same for every batch: it depends on the batch's size, on values, or on random numbers"
_FIXED = (
    "Compute the same for every image and every batch: x.flatten(1), x.view(x.shape[0], -1), no batch size and no "
    f"random numbers in what is computed, {PARTIAL}"
)


class CannotRun(Exception):  # noqa: N818 - it never leaves this package: it becomes a Problem
    """The model cannot be run as it must be."""

    def __init__(self, what: str, remedy: str, cause: Exception | None = None) -> None:
        super().__init__(what)
        self.problem = Problem("", "", what, remedy, cause)


@dataclass(frozen=True)
class Run:
    """One run of the model.

    Attributes:
        what: the inputs are, for messages.
        inputs: as they were before the run.
        given: the tensors that the model was given, and the version of each then. It may have changed them in place.
        returned: what it returned.
        calls: what was recorded.
    """

    what: str
    inputs: tuple[Tensor, ...]
    given: tuple[tuple[Tensor, int], ...]
    returned: Returned
    calls: list[Call]

    @property
    def outputs(self) -> list[tuple[str, Tensor]]:
        """Names and tensors of what it returned."""
        return list(zip(self.returned.names, self.returned.tensors, strict=True))


def batch_of(x: Tensor, size: int) -> Tensor:
    """Return a batch of images that are like those of an example, and differ from each other."""
    x = x.detach().as_subclass(Tensor)
    images = [x[index % len(x)] for index in range(size)]
    changed = [_changed(image, index) if index >= len(x) else image for index, image in enumerate(images)]
    return torch.stack(changed)


def _changed(image: Tensor, index: int) -> Tensor:
    flipped = image.flip(-1)
    return flipped * (1 - index / 8) if image.is_floating_point() else flipped


def run(
    model: nn.Module,
    inputs: Sequence[Tensor],
    what: str,
    remedy: str,
    *,
    recorded: bool = False,
    whose: str = "the model's forward",
) -> Run:
    """Run the model.

    Args:
        what: the inputs are, and `remedy`: against its failing on them; `whose`: forward it is; for messages.

    Raises:
        CannotRun: its forward raises, or returns no tensors.
    """
    given = tuple(x.clone() for x in inputs)
    versions = tuple((x, version(x)) for x in given)
    tape = None
    try:
        with ExitStack() as stack:
            stack.enter_context(_in_steps())
            if recorded:
                tape = stack.enter_context(recording(model, is_whole))
            result = model(*given)
    except Exception as error:  # code of the user may raise anything, and it is told, not swallowed
        raise CannotRun(
            f"{whose} fails on {what}, of shape {_shapes(inputs)}: {type(error).__name__}: {error}",
            remedy,
            error,
        ) from error
    try:
        found = returned(result)
    except ValueError as error:
        raise CannotRun(str(error), "Return tensors", error) from None
    return Run(what, tuple(inputs), versions, found, [] if tape is None else tape.calls)


@contextmanager
def _in_steps() -> Iterator[None]:
    """Have nn.MultiheadAttention and its like compute as in training, not by one operator with roundings of its own."""
    was_enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_enabled)


def run_or_raise(
    model: nn.Module, inputs: Sequence[Tensor], what: str, remedy: str, *, whose: str = "the model's forward"
) -> Returned:
    """Run the model without gradients, and return what it returned.

    Args:
        what, remedy, whose: as of `run`.

    Raises:
        ValueError: its forward raises, or returns no tensors.
    """
    try:
        with torch.no_grad():
            return run(model, inputs, what, remedy, whose=whose).returned
    except CannotRun as failed:
        raise ValueError(str(failed.problem)) from failed.problem.cause


def differences(two: Builder, three: Builder, problems: Sequence[Problem]) -> Iterator[Problem]:
    """Yield the first thing that the model does for one batch and not for another one.

    Args:
        problems: of the second batch. The first one has none.
    """
    for problem in problems:
        yield Problem(problem.name, problem.place, f"for a batch of another size {problem.what}", problem.remedy)
        return
    for (stranger, call), (other, _) in zip(two.strangers, three.strangers, strict=False):
        if not _equal(stranger, other):
            yield Problem(
                two.name_of(call),
                str(call.place),
                "it reads a tensor that was computed out of sight, in an autograd.Function or a compiled extension",
                "Compute it with functions of PyTorch, or a quantizer of bitorch",
            )
            return
    for node, other_node in zip(two.nodes.values(), three.nodes.values(), strict=False):
        if not _same(node, other_node):
            yield Problem(node.name, node.place, _VARIES, _FIXED)
            return
    if len(two.nodes) != len(three.nodes) or len(two.strangers) != len(three.strangers):
        yield Problem("", "", f"the forward: {_VARIES}", _FIXED)


def _same(one: Node, other: Node) -> bool:
    is_same = (one.name, one.kind, one.inputs, one.shape) == (other.name, other.kind, other.inputs, other.shape)
    return (
        is_same
        and one.settings.keys() == other.settings.keys()
        and all(_equal(value, other.settings[key]) for key, value in one.settings.items())
    )


def _equal(one: object, other: object) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        same_kind = one.shape == other.shape and one.dtype == other.dtype
        return one is other or (same_kind and bool(same_numbers(one, other).all()))
    return one is other or one == other


def disagreements(model: nn.Module, graph: Graph, runs: Sequence[Run]) -> Iterator[Problem]:
    """Yield where the graph does not give what the model gave."""
    names = [name for name, _ in runs[0].outputs]
    for trial in runs:
        if [name for name, _ in trial.outputs] != names:
            yield Problem("", "", f"for {trial.what} the model returns other outputs than for {runs[0].what}", _FIXED)
            return
        try:
            values = graph.replay(trial.inputs)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            what = f"for {trial.what} its functions fail with what they were given for another batch: {error}"
            yield Problem("", "", what, _FIXED, error)
            return
        for (name, own), node in zip(trial.outputs, graph.outputs, strict=True):
            if _equal(own, values[node]):
                continue
            again = dict(run(model, trial.inputs, trial.what, _FIXED).outputs)
            if not _equal(own, again[name]):
                yield Problem(
                    name, "", "the model gives other values for the same images", "Leave out what is random in forward"
                )
            elif own.shape != values[node].shape:
                yield Problem(
                    name,
                    "",
                    f"for {trial.what} the model gives {list(own.shape)}, where other batches ask for "
                    f"{list(values[node].shape)}",
                    "Name the dimensions in squeeze and view: x.flatten(1), not x.squeeze()",
                )
            else:
                yield Problem(
                    name,
                    "",
                    f"for {trial.what} the model gives other numbers than the functions that it was seen to call",
                    "Compute the same for every batch, with no .data or other ways around PyTorch's functions, "
                    f"{PARTIAL}",
                )
            return


def _shapes(inputs: Sequence[Tensor]) -> str:
    return ", ".join(str(list(x.shape)) for x in inputs)
