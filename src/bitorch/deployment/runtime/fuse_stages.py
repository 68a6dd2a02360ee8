"""The pass that decides which nodes become one operation: a sum, and what the runtime computes in the same breath.

The runtime's convolutions end in stages: multiply and add, a BatchNorm of one rounding, a residual, ReLU, codes. A
group is a node that begins an operation, its anchor, and the nodes that are its stages. A node may be a stage if
nothing else reads what is between.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..graph.graph import Graph, Node
from ..passes.quantizer_codes import is_rounding

#: Stages of an affine operation in their order; one of an add is a residual, the others may begin one. What else is
#: elementwise is an operation of its own.
_AFFINE_ORDER = (("divide",), ("times",), ("plus",), ("batch_norm",), ("add",), ("relu", "clamp"))
AFFINE = frozenset(kind for kinds in _AFFINE_ORDER for kind in kinds) - {"add"}


@dataclass
class Group:
    """One operation to be.

    Attributes:
        anchor: the node that begins it.
        stages: elementwise nodes, and at most one add, in the order of computation.
        codes: the node whose codes leave, or None.
        value: the name of the float tensor after all stages.
        keeps_value: whether it leaves, too.
    """

    anchor: Node
    stages: list[Node] = field(default_factory=list)
    codes: Node | None = None
    keeps_value: bool = True

    @property
    def value(self) -> str:
        return self.stages[-1].name if self.stages else self.anchor.name

    @property
    def nodes(self) -> list[Node]:
        return [self.anchor, *self.stages, *([] if self.codes is None else [self.codes])]

    def stage(self, kind: str) -> Node | None:
        """The stage of that kind, if there is one."""
        return next((node for node in self.stages if node.kind == kind), None)


def group(graph: Graph) -> list[Group]:
    """Return the operations to be, each behind those that it reads."""
    grouping = _Grouping(graph)
    sums = [node for node in graph if node.row.weighs]
    rest = [node for node in graph if not node.row.weighs and node.kind != "input"]
    for node in (*sums, *rest):
        if node.name not in grouping.owner:
            grouping.add(node)
    return _ordered(grouping.groups, grouping.owner, graph)


class _Grouping:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.readers = graph.readers()
        self.groups: list[Group] = []
        self.owner: dict[str, Group] = {}  # by node name

    def add(self, anchor: Node) -> None:
        group = Group(anchor)
        self._claim(group, anchor)
        if anchor.kind == "product":
            self._take_integer_codes(group)
        for kinds in _stage_order(anchor):
            self._take_stage(group, kinds)
        if anchor.row.weighs or anchor.kind in ("add", "normalize") or anchor.kind in AFFINE:
            self._take_codes(group)
        self.groups.append(group)

    def _claim(self, group: Group, node: Node) -> None:
        self.owner[node.name] = group

    def _free(self, name: str) -> list[Node]:
        return [node for node in self.readers[name] if node.name not in self.owner]

    def _take_integer_codes(self, group: Group) -> None:
        for node in self._free(group.anchor.name):
            if node.kind == "thresholds":
                group.codes = node
                self._claim(group, node)

    def _take_stage(self, group: Group, kinds: Iterable[str]) -> None:
        """Take the one node that reads the group's value, if it is of one of these kinds."""
        if group.value in self.graph.outputs:
            return
        following = self.readers[group.value]
        if group.value == group.anchor.name and group.anchor.kind == "product":
            following = [node for node in following if node.kind != "thresholds"]
        if len(following) != 1 or following[0].kind not in kinds or following[0].name in self.owner:
            return
        node = following[0]
        if node.kind == "add" and not self._residual_is_ready(group, node):
            return
        group.stages.append(node)
        self._claim(group, node)

    def _residual_is_ready(self, group: Group, add: Node) -> bool:
        """Whether the other number can be computed without this group."""
        other = [name for name in add.inputs if name != group.value]
        if len(other) != 1:
            return False  # x + x
        if any(self.graph[name].shape != add.shape for name in add.inputs):
            return False  # one is repeated along axes
        return not self._depends(other[0], {node.name for node in group.nodes})

    def _depends(self, name: str, on: set[str]) -> bool:
        """Whether a node, or one that it depends on, is among `on`.

        A node of a group depends on all that its group reads: two layers whose sums take each other's codes would be
        a cycle, since the codes of D leave with the sum that is behind them.
        """
        open_names, seen = [name], {name}
        while open_names:
            at = open_names.pop()
            if at in on:
                return True
            nodes = self.owner[at].nodes if at in self.owner else [self.graph[at]]
            new = {i for node in nodes for i in node.inputs} - seen
            seen |= new
            open_names.extend(new)
        return False

    def _take_codes(self, group: Group) -> None:
        """Take one quantizer of the float value, where there are no codes of D; what is left decides what leaves."""
        value = group.value
        is_float = value != group.anchor.name or group.anchor.kind != "product"
        if is_float and group.codes is None:
            free = (node for node in self._free(value) if node.kind in ("codes", "thresholds"))
            first = next((node for node in free if not is_rounding(node)), None)
            if first is not None:
                group.codes = first
                self._claim(group, first)
        group.keeps_value = value in self.graph.outputs or any(
            self.owner.get(node.name) is not group for node in self.readers[value]
        )


def _stage_order(anchor: Node) -> Sequence[tuple[str, ...]]:
    """The kinds of nodes that may follow an anchor in its operation, stage by stage."""
    if anchor.kind == "product":
        return ("scale",), ("plus",), ("batch_norm",), ("add",), ("relu",)
    if anchor.kind == "code_matmul":
        return (("scale",),)
    if anchor.row.weighs:
        return ("batch_norm",), ("add",), ("relu",)
    if anchor.kind == "add":
        return (("relu",),)
    if anchor.kind not in AFFINE:
        return ()
    position = next(i for i, kinds in enumerate(_AFFINE_ORDER) if anchor.kind in kinds)
    return _AFFINE_ORDER[position + 1 :]


def _ordered(groups: list[Group], owner: dict[str, Group], graph: Graph) -> list[Group]:
    """Put every group behind those that it reads, as early as the graph had it."""
    position = {node.name: i for i, node in enumerate(graph)}
    waiting = sorted(groups, key=lambda g: position[g.anchor.name], reverse=True)  # a stack: the last one comes first
    done: set[int] = set()
    result: list[Group] = []
    while waiting:
        group = waiting[-1]
        reads = (owner[name] for node in group.nodes for name in node.inputs if name in owner)
        missing = [other for other in reads if other is not group and id(other) not in done]
        if missing and id(group) not in done:
            waiting.extend(reversed(missing))
            continue
        waiting.pop()
        if id(group) not in done:
            done.add(id(group))
            result.append(group)
    return result
