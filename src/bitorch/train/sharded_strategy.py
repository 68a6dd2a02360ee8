"""How Lightning trains a model whose weights are shared out to the processes.

Its FSDPStrategy takes GPUs alone, and checkpoints of its ModelParallelStrategy go past the CheckpointIO. This one is a
ModelParallelStrategy on any device, whose checkpoints are those of a single process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn import Parameter
from torch.optim import Optimizer

from .sharding import shard_, sliced_like, whole


class Sharded(ModelParallelStrategy):
    """Trains a `Trainable` with its weights shared out to all processes, on CPUs as on GPUs.

    Gradients are averaged, and buffers are those of the first process, as DistributedDataParallel has it. Checkpoints
    hold whole tensors, in the order and under the keys of a run in one process.

    Args:
        timeout: how long processes wait for each other.
    """

    def __init__(self, timeout: timedelta) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False, timeout=timeout)

    @property
    def lightning_restore_optimizer(self) -> bool:
        """True: Lightning hands the states of a checkpoint to `load_optimizer_state_dict`."""
        return True

    def connect(self, model: pl.LightningModule) -> None:
        """Have the weights shared out where Lightning asks for the layers.

        The hook is the instance's: callbacks treat models whose class has it as if they were always shared out.
        """
        super().connect(model)
        model.__dict__["configure_model"] = partial(_share_out, model)

    def teardown(self) -> None:
        """Leave the model without the hook."""
        _module_of(self).__dict__.pop("configure_model", None)
        super().teardown()

    def setup_environment(self) -> None:
        """Meet the other processes, and share out to all of them."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Take the buffers of the first process, and make the step."""
        _take_from_first(_module_of(self).buffers())
        return super().training_step(*args, **kwargs)

    def on_validation_start(self) -> None:
        """Take the buffers of the first process, such as running statistics: it writes the checkpoint."""
        _take_from_first(_module_of(self).buffers())
        super().on_validation_start()

    def post_backward(self, closure_loss: Tensor) -> None:
        """Average the gradients of what every process has whole; those of slices are averaged already."""
        learned = [p for p in _module_of(self).parameters() if not isinstance(p, DTensor)]
        gradients = [parameter.grad for parameter in learned if parameter.grad is not None]
        for together in _by_dtype(gradients):
            flat = torch.cat([gradient.reshape(-1) for gradient in together])
            dist.all_reduce(flat)
            _put_back(flat.div_(dist.get_world_size()), together)
        super().post_backward(closure_loss)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return whole tensors on the first process; all processes must call it together."""
        return {key: whole(value) for key, value in _module_of(self).state_dict().items()}

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return an optimizer's state as of one process, whole on the first; all processes must call it together."""
        if isinstance(optimizer, LightningOptimizer):
            optimizer = optimizer.optimizer
        parameters = _optimized(_module_of(self), optimizer)
        states = {
            index: {name: whole(value) if isinstance(value, Tensor) else value for name, value in state.items()}
            for index, parameter in enumerate(parameters)
            if (state := optimizer.state.get(parameter))
        }
        settings = {name: value for name, value in optimizer.param_groups[0].items() if name != "params"}
        return {"state": states, "param_groups": [{**settings, "params": list(range(len(parameters)))}]}

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Return what a checkpoint holds, read by the CheckpointIO on every process."""
        return self.checkpoint_io.load_checkpoint(checkpoint_path)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Load this process's slices of a checkpoint's weights."""
        module = _module_of(self)
        now = module.state_dict()
        given = {
            key: sliced_like(value, now[key]) if key in now else value
            for key, value in checkpoint["state_dict"].items()
        }
        module.load_state_dict(given, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Load this process's slices of what a checkpoint knows of the optimizer."""
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            places = {parameter: index for index, parameter in enumerate(_optimized(_module_of(self), optimizer))}
            (settings,) = saved["param_groups"]
            ordered = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            states = {
                index: {name: _slice(value, parameter) for name, value in state.items()}
                for index, parameter in enumerate(ordered)
                if (state := saved["state"].get(places[parameter])) is not None
            }
            groups = [{**settings, "params": numbers["params"]} for numbers in optimizer.state_dict()["param_groups"]]
            optimizer.load_state_dict({"state": states, "param_groups": groups})


def _share_out(module: pl.LightningModule) -> None:
    mesh, model = module.device_mesh, module.model
    assert isinstance(model, nn.Module)  # it is a Trainable
    if mesh is not None:
        shard_(model, mesh["data_parallel"])


def _module_of(strategy: Sharded) -> pl.LightningModule:
    module = strategy.lightning_module
    assert module is not None  # as hooks are called with one
    return module


def _optimized(module: pl.LightningModule, optimizer: Optimizer) -> list[Parameter]:
    """Return the parameters of an optimizer in the order of the module, which is that of a single process."""
    own = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    return [parameter for parameter in module.parameters() if parameter in own]


def _slice(value: object, parameter: Parameter) -> object:
    return sliced_like(value, parameter) if isinstance(value, Tensor) else value


def _take_from_first(buffers: Iterable[Tensor]) -> None:
    """Give every process the first one's buffers, in place."""
    for together in _by_dtype(buffers):
        flat = torch.cat([buffer.detach().reshape(-1) for buffer in together])
        dist.broadcast(flat, src=0)
        _put_back(flat, together)


def _by_dtype(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """Return the tensors in lists of one dtype, so that each takes one call of torch.distributed."""
    found: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        found.setdefault(tensor.dtype, []).append(tensor)
    return list(found.values())


def _put_back(flat: Tensor, tensors: Iterable[Tensor]) -> None:
    """Copy what stands in a row back into tensors, in place."""
    tensors = list(tensors)
    with torch.no_grad():
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view(tensor.shape))
