"""Float weights from elsewhere: a safetensors file, or a PyTorch file with a state dict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from ..checking.non_finite import is_finite
from ..differences import differences, shortened
from ..state_dict_file import read_state_dict


def load_weights_file(
    model: nn.Module, path: Path, num_classes: int, *, new_head: bool = False, sum_channels: bool = False
) -> None:
    """Copy a file's weights into a float model, all of them, strictly.

    Args:
        path: *.safetensors, or a PyTorch file that holds a state dict, alone or under "state_dict", "model_state_dict"
            or "model". No code in it is run.
        num_classes: of the model.
        new_head: leave out weights of a head for another number of classes; the model keeps its own, new ones.
        sum_channels: sum the weights of a first convolution for 3 channels over them, where the model's has 1. It then
            computes of a grey image what it computed of one with that image in all three.

    Raises:
        FileNotFoundError: no such file. ImportError: a safetensors file without the package.
        ValueError: no such file format; other keys or shapes than the model's, which the message lists; NaN or
            infinity.
    """
    state = read_state_dict(path)
    wanted = model.state_dict()
    head = _other_head(wanted, state, num_classes)
    if head and new_head:
        state = {name: wanted[name] if name in head else tensor for name, tensor in state.items()}
        head = {}
    stem = _colour_stem(wanted, state)
    if stem and sum_channels:
        state = {**state, stem: state[stem].sum(dim=1, keepdim=True)}
        stem = ""
    broken = [name for name, tensor in state.items() if name in wanted and not is_finite(tensor)]
    if broken:
        raise ValueError(f"the weights {path} are not finite in {shortened(broken)}; take a file from before that")
    # PyTorch's loader makes up for this one, which older files lack.
    counted = {name for name in wanted if name.endswith("num_batches_tracked") and name not in state}
    found = differences({name: tensor for name, tensor in wanted.items() if name not in counted}, state)
    if found:
        hint = _hint_at_wrapper(wanted, state)
        if stem:
            hint += (
                f". {stem}: the file's is for 3 channels, the data have 1; with --sum-channels it is summed over them"
            )
        if head:
            names, classes = ", ".join(head), next(iter(head.values()))
            hint += (
                f". {names}: the file's head has {classes} classes, the data {num_classes}; with --new-head it is left "
                "out, and a new one is trained"
            )
        raise ValueError(f"the weights {path} do not fit the model {type(model).__name__}: {found}{hint}")
    model.load_state_dict({**{name: wanted[name] for name in counted}, **state})


def _colour_stem(wanted: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> str:
    """Return the weight of the one convolution for 3 channels in the file and 1 here; "" for none or several."""
    stems = [
        name
        for name, tensor in wanted.items()
        if name in got and tensor.dim() == got[name].dim() == 4 and tensor.shape[1] == 1 and got[name].shape[1] == 3
        and tensor.shape[0] == got[name].shape[0] and tensor.shape[2:] == got[name].shape[2:]
    ]  # fmt: skip
    return stems[0] if len(stems) == 1 else ""


def _hint_at_wrapper(wanted: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> str:
    """Return what to do about weights of DistributedDataParallel, torch.compile and the like: "" if they are none."""
    wrapper = next(iter(got)).partition(".")[0]
    if {f"{wrapper}.{name}" for name in wanted} != set(got):
        return ""
    return f". The names are right but that all its keys begin with '{wrapper}.': save model.{wrapper}.state_dict()"


def _other_head(wanted: Mapping[str, Tensor], got: Mapping[str, Tensor], num_classes: int) -> dict[str, int]:
    """Return the names that differ in nothing but the number of classes, each with the file's; {} if there are several.

    They are those of the last layer: tensors whose first axis, and no other, is num_classes here and another there.
    """
    head = {
        name: got[name].shape[0]
        for name, tensor in wanted.items()
        if name in got and tensor.dim() > 0 and got[name].dim() == tensor.dim()
        and tensor.shape[0] == num_classes != got[name].shape[0] and tensor.shape[1:] == got[name].shape[1:]
    }  # fmt: skip
    layers = {name.rpartition(".")[0] for name in head}
    return head if len(layers) == 1 else {}
