"""A model, run and written down: its graph, and what stands in the way of deploying it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from ...running import as_it_was
from ...wrappers import unwrapped
from ..graph.graph import Graph
from .builder import Builder
from .calls_to_nodes import interpret
from .preconditions import (
    check_types,
    faults,
    indices_remain,
    no_low_bit,
    why_not_run,
)
from .problems import Problem, Refusal
from .runs import (
    CannotRun,
    Run,
    batch_of,
    differences,
    disagreements,
    run,
)
from .tape import version
from .tied import tied_weights

_TAKEN = (
    "Pass an example that the model takes: float32 [batch, channels, height, width], [batch, channels, length] or "
    "[batch, features], or int64 [batch, tokens] of indices"
)
_ANY_BATCH = (
    "Let forward take any batch (x.flatten(1), x.view(x.shape[0], -1)), and pass an example with a batch dimension"
)
_NO_GRAPH = Graph((), ())


@dataclass(frozen=True)
class Capture:
    """What `capture` found.

    Attributes:
        graph: of the model's computation; without nodes if the model could not be run. Calls that cannot be deployed
            are nodes of kind "unsupported".
        problems: all that was found; none if the graph can be deployed.
        output_names: of the graph's outputs, in order, see `Returned`.
        named: of each, whether the model names it.
        left_out: what the model returns beside tensors, which a program does not.
        tied: of modules that hold the weight of another one, the path of that, see `tied_weights`.
    """

    graph: Graph
    problems: tuple[Problem, ...]
    output_names: tuple[str, ...] = ()
    named: tuple[bool, ...] = ()
    left_out: tuple[str, ...] = ()
    tied: Mapping[str, str] = field(default_factory=dict)

    @property
    def tensor_names(self) -> tuple[str | None, ...]:
        """What the program's outputs are to be called: as the model calls them; None where it has no name."""
        pairs = zip(self.output_names, self.named, strict=True)
        return tuple(name if is_named else None for name, is_named in pairs)

    def check(self) -> None:
        """Raise ValueError, with all problems in it, if there are any."""
        if self.problems:
            causes = [problem.cause for problem in self.problems if problem.cause is not None]
            raise ValueError(listing(self.problems)) from (causes[0] if causes else None)


def listing(problems: Sequence[Problem]) -> str:
    """Return problems as a text, one a line."""
    head = "the model cannot be deployed:" if len(problems) == 1 else f"{len(problems)} things stand in the way:"
    return "\n".join([head, *(f"- {problem}" for problem in problems)])


def capture(model: nn.Module, *example: Tensor) -> Capture:
    """Run a model on an example and write down what it computes, as a graph that gives the same bits.

    Any forward can be captured that does the same for every image and every batch: control flow by shapes is fine,
    control flow by values is a problem. The model is run in eval mode, on the example and on batches made of it, to see
    that neither the batch nor the values change what it does. It is left as it was.

    Args:
        model: float32, on the CPU, in eval mode. Wrappers such as torch.compile and DataParallel are seen through.
        example: the arguments of its forward, float32 [batch, …], of any batch of at least one.

    Returns:
        The graph, and every problem that was found; nothing is raised because of a problem.

    Raises:
        TypeError: the model is no module, there is no example, or it is no tensor.
    """
    model = unwrapped(model)
    check_types(model, example)
    problems = list(why_not_run(model, example))
    if problems:
        return Capture(_NO_GRAPH, tuple(problems))
    problems = [*faults(model), *no_low_bit(model)]
    try:
        with as_it_was(model):
            found = _captured(model, example)
    except CannotRun as failed:
        return Capture(_NO_GRAPH, tuple(dict.fromkeys([*problems, failed.problem])))
    return replace(found, problems=tuple(dict.fromkeys([*problems, *found.problems])))


def _captured(model: nn.Module, example: Sequence[Tensor]) -> Capture:
    given = run(model, [x.detach().as_subclass(Tensor) for x in example], "the example", _TAKEN)
    two = run(model, [batch_of(x, 2) for x in example], "a batch of 2", _ANY_BATCH, recorded=True)
    builder, graph = _built(model, two)
    problems = _problems_in(builder, graph)
    try:
        three = run(model, [batch_of(x, 3) for x in example], "a batch of 3", _ANY_BATCH, recorded=True)
        one = run(model, [batch_of(x, 1) for x in example], "a batch of 1", _ANY_BATCH)
    except CannotRun as failed:
        problems.append(failed.problem)
    if not problems:
        other, other_graph = _built(model, three)
        problems = list(differences(builder, other, _problems_in(other, other_graph)))
    if not problems:
        problems = list(indices_remain(example, graph))
    if not problems:
        problems = list(disagreements(model, graph, (two, three, one, given)))
    made = two.returned
    return Capture(graph, tuple(problems), made.names, made.named, made.left_out, tied_weights(model))


def _built(model: nn.Module, recorded: Run) -> tuple[Builder, Graph]:
    """Return the nodes of a recorded run, and the graph of those that outputs need."""
    builder = Builder(recorded.inputs[0].shape[0])
    for name, (tensor, at) in zip(_input_names(model, len(recorded.given)), recorded.given, strict=True):
        builder.input(name, tensor, at)
    interpret(builder, recorded.calls)
    nodes = []
    for name, tensor in recorded.outputs:
        try:
            nodes.append(builder.output(tensor))
        except Refusal as refusal:
            place = builder.place_of(tensor)
            is_told = not place or place in refusal.what
            where = f"output {name!r}" if is_told else f"output {name!r}, of {place}"
            builder.problems.append(Problem(name, where, refusal.what, refusal.remedy))
            if builder.varies(tensor):
                nodes.append(builder.nearest(tensor, version(tensor)))
    return builder, builder.graph(nodes)


def _input_names(model: nn.Module, count: int) -> list[str]:
    """The names of forward's parameters, in the order in which a call fills them."""
    names = []
    try:
        parameters = list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):  # a function of C has none
        parameters = []
    for parameter in parameters:
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            break
        names.append(parameter.name)
    rest = range(len(names), count)
    return [*names, *(f"input_{index}" for index in rest)][:count]


def _problems_in(builder: Builder, graph: Graph) -> list[Problem]:
    """The problems, without those of calls that no output needs."""
    needed = {id(builder.refused[node.name]) for node in graph if node.name in builder.refused}
    refused = {id(problem) for problem in builder.refused.values()}
    return [problem for problem in builder.problems if id(problem) in needed or id(problem) not in refused]
