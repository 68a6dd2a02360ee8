"""Chains of a BatchNorm, a max-pooling, a ReLU and a low-bit convolution in a model, as `torch.fx` sees it."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import fx, nn

from ..layers import QConv2d
from ..layers.absorbed import AbsorbedReLU
from ..layers.few_channels import FewChannelsConv2d
from ..layers.fused_norm import FusedBatchNorm2d, FusedMaxPool2d, FusedReLU
from ..layers.low_bit import Converted
from ..layers.norm_product import static_norm_obstacle
from ..quantizations import Quantization

_NORMS = (nn.BatchNorm2d, FusedBatchNorm2d)
_RELUS = (nn.ReLU, FusedReLU)
_POOLS = (nn.MaxPool2d, FusedMaxPool2d)


#: Why there is no chain before a convolution, where it is not known what stands there.
UNSEEN = "it stands in a module that cannot be traced"


class Chain(NamedTuple):
    """What stands in front of a low-bit convolution.

    Attributes:
        layer: the convolution's name.
        names, modules: from the BatchNorm on to the convolution; empty where there is no chain.
        why: there is none; "" where there is.
    """

    layer: str
    names: tuple[str, ...]
    modules: tuple[nn.Module, ...]
    why: str


class Untraceable(NamedTuple):
    """A module whose forward torch.fx cannot follow, and why: a sentence that names the line."""

    name: str
    why: str


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(
            m,
            Converted | Quantization | AbsorbedReLU | FusedBatchNorm2d | FusedMaxPool2d | FusedReLU | FewChannelsConv2d,
        ) or (super().is_leaf_module(m, module_qualified_name))


def chains_of(model: nn.Module) -> Iterator[Chain | Untraceable]:
    """Yield a chain, or why there is none, for each low-bit convolution; parts of what is untraceable by themselves."""
    yield from _chains_within(model, "")


def _chains_within(module: nn.Module, prefix: str) -> Iterator[Chain | Untraceable]:
    if not any(isinstance(part, QConv2d) for part in module.modules()):
        return
    if type(module) is QConv2d:
        yield Chain(prefix, (), (), UNSEEN)
        return
    if not isinstance(module, nn.ModuleList | nn.ModuleDict):
        try:
            graph = _Tracer().trace(module)
        except Exception as error:  # a forward of somebody's, called with proxies, may raise anything
            yield Untraceable(prefix, _line_of(error))
        else:
            yield from _chains_in(graph, module, prefix)
            return
    for name, part in module.named_children():
        yield from _chains_within(part, f"{prefix}.{name}" if prefix else name)


def _line_of(error: Exception) -> str:
    """Return which line of whoever wrote the forward cannot be traced, and why."""
    torch_folder = str(Path(torch.__file__).parent)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "torch/fx" not in frame.filename]
    own = [f for f in frames if not f.filename.startswith(torch_folder) and f.filename != __file__]
    message = str(error).partition("\n")[0]
    return f"{own[-1].filename}:{own[-1].lineno}: {own[-1].line}: {message}" if own else message


def _chains_in(graph: fx.Graph, root: nn.Module, prefix: str) -> Iterator[Chain]:
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        if node.op == "call_module" and isinstance(root.get_submodule(node.target), QConv2d):
            nodes, why = _nodes_of_chain(node, root, calls)
            names = tuple(f"{prefix}.{n.target}" if prefix else str(n.target) for n in nodes)
            modules = tuple(root.get_submodule(str(n.target)) for n in nodes)
            name = f"{prefix}.{node.target}" if prefix else str(node.target)
            yield Chain(name, () if why else names, () if why else modules, why)


def _nodes_of_chain(node: fx.Node, root: nn.Module, calls: Counter[object]) -> tuple[list[fx.Node], str]:
    """Return the nodes from the BatchNorm to a convolution, and why they are none; "" where they are."""
    layer = root.get_submodule(str(node.target))
    assert isinstance(layer, QConv2d)
    why = static_norm_obstacle(layer)
    if why is not None:
        return [], why
    nodes, relus, pools = [node], 0, 0
    while True:
        source = nodes[0].args[0] if nodes[0].args else None
        if not isinstance(source, fx.Node) or source.op != "call_module":
            return [], f"its input comes from {_named(source)}, which is no module"
        module = root.get_submodule(str(source.target))
        relus += type(module) in (*_RELUS, AbsorbedReLU)
        pools += type(module) in _POOLS
        why = _why_not(source, module, calls, relus, pools)
        if why:
            return [], why
        nodes.insert(0, source)
        if type(module) in _NORMS:
            return nodes, ""


def _why_not(node: fx.Node, module: nn.Module, calls: Counter[object], relus: int, pools: int) -> str:
    name = f"{type(module).__name__} {node.target!r}"
    if type(module) not in (*_NORMS, *_RELUS, *_POOLS, AbsorbedReLU):
        return f"its input comes from {name}; a BatchNorm2d, MaxPool2d(2) and ReLU may stand before it"
    if type(module) in _POOLS and not _pools_by_two(module):
        return f"{name} is no max-pooling of windows of 2×2, two apart"
    if relus > 1 or pools > 1:
        return f"{name} is the second of its kind"
    if len(node.users) > 1:
        return f"what {name} gives is used more than once"
    if type(module) in _NORMS and calls[node.target] > 1:  # others hold nothing, and serve several as one
        return f"{name} is called more than once"
    if "forward" in module.__dict__:
        return f"{name} has a forward of its own"
    return ""


def _pools_by_two(pool: nn.Module) -> bool:
    assert isinstance(pool, nn.MaxPool2d)
    sizes = pool.kernel_size, pool.stride
    return (
        all(size in (2, (2, 2)) for size in sizes)
        and pool.padding in (0, (0, 0))
        and pool.dilation in (1, (1, 1))
        and not (pool.return_indices or pool.ceil_mode)
    )


def _named(source: object) -> str:
    if not isinstance(source, fx.Node):
        return "a constant"
    if source.op == "placeholder":
        return f"{source.target!r}, an argument"
    function = source.target if isinstance(source.target, str) else getattr(source.target, "__name__", source.target)
    return f"{function}()"
