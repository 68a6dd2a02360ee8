"""Whether a checkpoint has all that a run needs to go on as if it had not been stopped.

Lightning takes what is there: of an empty list of optimizer states, for example, it restores nothing and says nothing.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from ..checking.non_finite import is_finite
from ..models import is_named
from ..quantizations import Quantization
from ..quantizations.bits import FLOAT_BITS
from .bits_in_force import bits_in_force, bring_into_force
from .checkpoint import epochs_finished, naming, read_checkpoint, read_content
from .content import Part
from .progress import quiet_lightning
from .randomness import generator_states
from .settings import Settings
from .task import Task
from .trainable import CHECKPOINT_KEY, sums_of
from .warm_start import METRICS

#: Of the optimizer's settings, what says how to compute or what a schedule changes, and not what.
_FREE = ("lr", "initial_lr", "params", "fused", "foreach")
#: And what the run's settings say.
_SET = ("betas", "eps", "weight_decay", "momentum", "nesterov")
_ROW = ("epoch", "step", "lr", "train/loss", "val/loss", "seconds_per_step")


def check_resumable(
    path: Path, model: nn.Module, optimizer: Optimizer, settings: Settings, steps_per_epoch: int, task: Task
) -> None:
    """Raise a ValueError that names what a checkpoint lacks, or has wrongly, for a run to go on from it.

    Args:
        path: of a checkpoint whose weights fit the model.
        model: as the run trains it.
        optimizer: a new one of it, as the run makes it.
        settings: of the run.
        steps_per_epoch: of the run.
        task: of the run.
    """
    content = read_content(path)
    with naming(path):
        _check_loops(content, settings.epochs, steps_per_epoch)
        bring_into_force(copy.deepcopy(model), read_checkpoint(path).bits)
        _check_optimizer(content, model, optimizer, settings)
        _check_history(content, task)
        _check_processes(content[CHECKPOINT_KEY]["ranks"], model, settings.processes, sums_of(task))
        if settings.warm_start is not None:
            _check_warm_start(content["callbacks"]["WarmStart"]["target"], model)


def _check_loops(content: Part, epochs: int, steps_per_epoch: int) -> None:
    content["epoch"].integer()
    content["global_step"].integer()
    content["pytorch-lightning_version"].text()
    loop = content["loops"]["fit_loop"]
    _check_like(loop, _state_of_loops())
    for progress, most in ((loop["epoch_progress"], epochs), (loop["epoch_loop.batch_progress"], steps_per_epoch)):
        for _, count in progress["current"].items():
            count.integer(most=most)
    (loader,) = loop["state_dict"]["combined_loader"].list(1)
    loader["epoch"].integer(most=epochs)
    loader["batch"].integer(most=steps_per_epoch)


def _state_of_loops() -> Mapping[str, Any]:
    """Return what this version of Lightning keeps of its loops."""
    rank = rank_zero_only.rank  # type: ignore[attr-defined]  # Lightning sets it on the function
    with quiet_lightning(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are GPUs, too
        trainer = pl.Trainer(
            accelerator="cpu", devices=1, max_epochs=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
            plugins=[LightningEnvironment()],  # also where torchrun says that there are several processes
        )  # fmt: skip
        state: Mapping[str, Any] = trainer.fit_loop.state_dict()
    rank_zero_only.rank = rank  # type: ignore[attr-defined]
    return state


def _check_warm_start(target: Part, model: nn.Module) -> None:
    if set(target.mapping()) != set(bits_in_force(model)):
        raise target.error("the bits of every low-bit layer, and of no other")
    for _, bits in target.items():
        for part in bits.list(len(METRICS)):
            part.integer(least=1, most=FLOAT_BITS)


def _check_like(part: Part, wanted: object) -> None:
    """Raise a ValueError unless a part has what this version of Lightning writes, with numbers where it has some."""
    if isinstance(wanted, Mapping):
        for key, value in wanted.items():
            _check_like(part[key], value)
        if not wanted:
            part.mapping()
    elif isinstance(wanted, bool):
        if not isinstance(part.value, bool):
            raise part.error("true or false")
    elif isinstance(wanted, int):
        part.integer()


def _check_optimizer(content: Part, model: nn.Module, optimizer: Optimizer, settings: Settings) -> None:
    content["lr_schedulers"].list(0)
    (state,) = content["optimizer_states"].list(1)
    (wanted,) = optimizer.state_dict()["param_groups"]
    (group,) = state["param_groups"].list(1)
    if not _is_same(group["params"].value, wanted["params"]):
        raise ValueError(f"{group['params'].place} must be {len(wanted['params'])} numbers from 0 on")
    for name, value in wanted.items():
        if name in _FREE or (name not in _SET and group.get(name) is None):
            continue  # PyTorch gives fields that are younger than the file their defaults
        found = group[name].value
        if not _is_same(found, value):
            raise group[name].error(repr(value))
    group["lr"].number()
    parameters = [p for g in optimizer.param_groups for p in g["params"]]
    known = _states(state["state"], len(parameters))
    for index, part in known.items():
        _check_state(part, parameters[index], settings)
    if content["global_step"].integer() > 0 and _keeps_state(settings):
        _check_all_there(state["state"].place, set(known), parameters, model, settings)


def _is_same(found: object, wanted: object) -> bool:
    """Whether a value in a file is this one. It may be anything, such as a tensor, which has no one truth."""
    if type(found) is not type(wanted):
        return False
    if isinstance(wanted, list | tuple) and isinstance(found, list | tuple):
        return len(found) == len(wanted) and all(map(_is_same, found, wanted))
    return found == wanted


def _states(part: Part, count: int) -> dict[int, Part]:
    """What an optimizer knows of each parameter, by its number."""
    if not isinstance(part.value, Mapping) or not all(type(k) is int and 0 <= k < count for k in part.value):
        raise part.error(f"a mapping with numbers of parameters, 0 to {count - 1}, as keys")
    return {key: Part(value, f"{part.place}[{key}]") for key, value in part.value.items()}


def _check_state(part: Part, parameter: Parameter, settings: Settings) -> None:
    if settings.optimizer == "adam":
        part["step"].tensor(())
        names = ["exp_avg", "exp_avg_sq"]
    else:
        names = ["momentum_buffer"] if _keeps_state(settings) else []
    for name in names:
        moment = part[name].tensor(parameter.shape)
        if not moment.is_floating_point() or not is_finite(moment):
            raise ValueError(f"{part[name].place} is not made of finite numbers")


def _keeps_state(settings: Settings) -> bool:
    return settings.optimizer == "adam" or settings.momentum > 0


def _check_all_there(
    place: str, known: set[int], parameters: list[Parameter], model: nn.Module, settings: Settings
) -> None:
    """Raise a ValueError if a parameter's state is missing, but of those that may have had no gradient yet."""
    idle = {id(p) for module in model.modules() if isinstance(module, Quantization) for p in module.parameters()}
    missing = [
        index
        for index, parameter in enumerate(parameters)
        if index not in known and id(parameter) not in idle and is_named(settings.model)
    ]
    if missing or not known:
        raise ValueError(f"{place} lacks parameters {missing[:4] if missing else 'of any number'}")


def _check_history(content: Part, task: Task) -> None:
    rows = content["callbacks"]["RunRecorder"]["history"].list()
    for row in rows:
        for name in dict.fromkeys((*_ROW, task.key)):
            row[name].number()
        if row.mapping().keys() != rows[0].mapping().keys():
            raise ValueError(f"{row.place} has other columns than {rows[0].place}")
    if len(rows) != epochs_finished(content):
        raise ValueError(f"it has {len(rows)} rows of history after {epochs_finished(content)} epochs")


def _check_processes(part: Part, model: nn.Module, processes: int, sums: Mapping[str, Mapping[str, int]]) -> None:
    ranks = part.list()
    if len(ranks) != processes:
        raise ValueError(f"it is of {len(ranks)} processes, and this run has {processes}")
    generators = generator_states(model)
    for rank in ranks:
        _check_tensors(rank["generators"], generators)
        for metric, names in sums.items():
            found = rank[metric]
            if set(found.mapping()) != set(names):
                raise found.error(f"a mapping with {', '.join(names)}")
            for name, numbers in names.items():
                if found[name].tensor().numel() > numbers:
                    raise found[name].error("a single number" if numbers == 1 else f"{numbers} numbers")


def _check_tensors(part: Part, wanted: Mapping[str, Tensor]) -> None:
    if set(part.mapping()) != set(wanted):
        raise part.error(f"the states of the generators in {sorted(wanted) or 'no module'}")
    for name, state in part.items():
        if state.tensor(wanted[name].shape).dtype != torch.uint8:
            raise state.error("uint8")
