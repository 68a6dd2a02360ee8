"""Whether a checkpoint has all that a run needs to go on as if it had not been stopped.

Lightning takes what is there: of an empty list of optimizer states, for example, it restores nothing and says nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from ..checking.non_finite import is_finite
from ..models import is_external
from ..quantizations import Quantization
from .bits_in_force import bring_into_force
from .checkpoint import epochs_finished, naming, read_checkpoint, read_content
from .classifier import CHECKPOINT_KEY
from .content import Part
from .progress import quiet_lightning
from .randomness import generator_states
from .settings import Settings
from .warm_start import METRICS

#: Of the optimizer's settings, what says how to compute or what a schedule changes, and not what.
_FREE = ("lr", "initial_lr", "params", "fused", "foreach")
#: And what the run's settings say.
_SET = ("betas", "eps", "weight_decay", "momentum", "nesterov")
_ROW = ("epoch", "step", "lr", "train/loss", "train/acc", "val/loss", "val/acc", "seconds_per_step")


def check_resumable(path: Path, model: nn.Module, optimizer: Optimizer, settings: Settings) -> None:
    """Raise a ValueError that names what a checkpoint lacks, or has wrongly, for a run to go on from it.

    Args:
        path: of a checkpoint whose weights fit the model.
        model: as the run trains it.
        optimizer: a new one of it, as the run makes it.
        settings: of the run.
    """
    content = read_content(path)
    with naming(path):
        _check_loops(content)
        bring_into_force(copy.deepcopy(model), read_checkpoint(path).bits)
        _check_optimizer(content, model, optimizer, settings)
        _check_history(content)
        _check_processes(content[CHECKPOINT_KEY]["ranks"], model, settings.processes)
        if settings.warm_start is not None:
            for _, bits in content["callbacks"]["WarmStart"]["target"].items():
                for part in bits.list(len(METRICS)):
                    part.integer(least=1, most=32)


def _check_loops(content: Part) -> None:
    with quiet_lightning():
        trainer = pl.Trainer(
            accelerator="cpu", devices=1, max_epochs=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
    content["epoch"].integer()
    content["global_step"].integer()
    content["pytorch-lightning_version"].text()
    _check_like(content["loops"]["fit_loop"], trainer.fit_loop.state_dict())
    for loader in content["loops"]["fit_loop"]["state_dict"]["combined_loader"].list(1):
        loader["epoch"].integer()
        loader["batch"].integer()


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
    if group["params"].value != wanted["params"]:
        raise ValueError(f"{group['params'].place} must be {len(wanted['params'])} numbers from 0 on")
    for name, value in wanted.items():
        if name in _FREE or (name not in _SET and group.get(name) is None):
            continue  # PyTorch gives fields that are younger than the file their defaults
        found = group[name].value
        if type(found) is not type(value) or found != value:
            raise group[name].error(repr(value))
    group["lr"].number()
    parameters = [p for g in optimizer.param_groups for p in g["params"]]
    known = _states(state["state"], len(parameters))
    for index, part in known.items():
        _check_state(part, parameters[index], settings)
    if content["global_step"].integer() > 0 and _keeps_state(settings):
        _check_all_there(state["state"].place, set(known), parameters, model, settings)


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
        if index not in known and id(parameter) not in idle and not is_external(settings.model)
    ]
    if missing or not known:
        raise ValueError(f"{place} lacks parameters {missing[:4] if missing else 'of any number'}")


def _check_history(content: Part) -> None:
    rows = content["callbacks"]["RunRecorder"]["history"].list()
    for row in rows:
        for name in _ROW:
            row[name].number()
        if row.mapping().keys() != rows[0].mapping().keys():
            raise ValueError(f"{row.place} has other columns than {rows[0].place}")
    if len(rows) != epochs_finished(content):
        raise ValueError(f"it has {len(rows)} rows of history after {epochs_finished(content)} epochs")


def _check_processes(part: Part, model: nn.Module, processes: int) -> None:
    ranks = part.list()
    if len(ranks) != processes:
        return  # which the Classifier refuses, with the reason
    generators = generator_states(model)
    for rank in ranks:
        _check_tensors(rank["generators"], generators)
        for metric, names in (("train_loss", ("mean_value", "weight")), ("train_accuracy", ("tp", "fp", "tn", "fn"))):
            found = rank[metric]
            if set(found.mapping()) != set(names):
                raise found.error(f"a mapping with {', '.join(names)}")
            for name in names:
                _single(found[name])


def _check_tensors(part: Part, wanted: Mapping[str, Tensor]) -> None:
    for name, tensor in part.items():
        if name in wanted:
            given = Part(tensor.value, tensor.place).tensor(wanted[name].shape)
            if given.dtype != torch.uint8:
                raise ValueError(f"{tensor.place} must be uint8, got {given.dtype}")


def _single(part: Part) -> None:
    if part.tensor().numel() > 1:
        raise part.error("a single number")
