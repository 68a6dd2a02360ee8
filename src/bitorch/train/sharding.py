"""A model whose weights are shared out to the processes that train it, and whole again for a checkpoint.

Each process keeps a slice of every weight, of its gradient and of what the optimizer knows of it. A block of the model,
such as a residual block, gathers its weights when it is called and gives them back after, so layers and quantizers see
whole weights, and a device holds those of one block at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn import Parameter

from ..quantizations import Quantization

#: Containers that call what they hold, or whose holder does: they compute nothing by themselves.
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def shard_(model: nn.Module, mesh: DeviceMesh) -> None:
    """Share out a model's parameters to the processes of a mesh of one axis, in place. A model that is sharded stays.

    What quantizers learn stays whole on every process (see `whole_parameters`): that are single numbers, or one for
    each channel. It is moved to no device.

    Args:
        model: with the same parameters on every process.
        mesh: of the processes.

    Raises:
        ValueError: see `check_shardable`.
    """
    if is_sharded(model):
        return
    check_shardable(model)
    for parameter in model.parameters():
        # Slices of a weight whose channels stand last would be no slices of memory.
        parameter.data = parameter.data.contiguous()
    whole = whole_parameters(model)
    for block in [*_blocks(model, whole), model]:
        fully_shard(block, mesh=mesh, reshard_after_forward=True, ignored_params=whole)


def check_shardable(model: nn.Module) -> None:
    """Raise a ValueError if a parameter, other than those of quantizers, is a single number: it has no slices."""
    whole = whole_parameters(model)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 0 and parameter not in whole:
            raise ValueError(
                f"parameter {name} is a single number, which strategy fsdp cannot share out to processes; give it a "
                "dimension of 1, or take strategy ddp"
            )


def is_sharded(model: nn.Module) -> bool:
    """Return whether the model's weights are shared out to processes."""
    return isinstance(model, FSDPModule)


def class_of(module: nn.Module) -> type[nn.Module]:
    """Return a module's class, of one that gathers its weights by itself that which it was made as."""
    # fully_shard makes a class of two bases: FSDPModule and the module's own.
    return type(module).__mro__[2] if isinstance(module, FSDPModule) else type(module)


def whole_parameters(model: nn.Module) -> set[Parameter]:
    """Return the parameters that every process has whole: those of quantizers."""
    return {
        parameter
        for module in model.modules()
        if isinstance(module, Quantization)
        for parameter in module.parameters()
        if not isinstance(parameter, DTensor)
    }


def slices_and_others(parameters: Iterable[Parameter]) -> list[list[Parameter]]:
    """Return slices apart from what is none, as no optimizer's kernel takes both; without the empty one of the two."""
    slices: list[Parameter] = []
    others: list[Parameter] = []
    for parameter in parameters:
        (slices if isinstance(parameter, DTensor) else others).append(parameter)
    return [alike for alike in (slices, others) if alike]


def whole(tensor: Tensor) -> Tensor | None:
    """Return a whole tensor on the CPU, None on processes but the first. All processes must call it together."""
    gathered = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return gathered.detach().cpu() if dist.get_rank() == 0 else None


def sliced_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Return this process's slice of a whole tensor, which every process must have, where another one is a slice."""
    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


def _blocks(model: nn.Module, whole: set[Parameter]) -> Iterator[nn.Module]:
    """Yield the modules that gather their weights by themselves: what stands in a Sequential, a list or a dict.

    Others may be read by their parents instead of called, as attention reads its output projection, and so may those
    that have a parameter in common with another part: these belong to the model itself.
    """
    places = Counter(parameter for module in model.modules() for parameter in module._parameters.values())
    return _blocks_below(model, whole, {parameter for parameter, count in places.items() if count > 1})


def _blocks_below(module: nn.Module, whole: set[Parameter], shared: set[Parameter | None]) -> Iterator[nn.Module]:
    for child in module.children():
        parameters = set(child.parameters()) - whole
        if isinstance(module, _CONTAINERS) and not isinstance(child, _CONTAINERS) and shared.isdisjoint(parameters):
            if parameters:
                yield child
        else:
            yield from _blocks_below(child, whole, shared)
