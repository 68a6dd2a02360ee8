"""What can be said of a model and an example before anything is run."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ...in_place import check_module
from ...layers import QConv1d_NoAct, QConv2d_NoAct, QConv3d_NoAct
from ...layers.bembedding import BEmbedding
from ...layers.low_bit import LowBit
from ...layers.own_mode import REMEDY, displaced
from ...layers.weight_sources import computed_names, refresh
from ...quantizations.ranges import RangeQuantization
from ..graph.graph import Graph
from .calls_to_nodes import check_size
from .problems import PARTIAL, Problem, Refusal

_SHOWN = 5
#: What embeddings take.
_INDICES = (torch.int32, torch.int64)


def check_types(model: object, example: Sequence[object]) -> None:
    """Raise TypeError unless there is a module, and an example of tensors."""
    check_module(model)
    if not example:
        raise TypeError("an example is missing: pass the tensors that the model's forward takes, for example one batch")
    for index, tensor in enumerate(example):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"example {index} must be a tensor, got {type(tensor).__name__}; {_instead(tensor)}")
        if tensor.is_nested:
            raise TypeError(f"example {index} is a nested tensor; pad it to one size: torch.nested.to_padded_tensor")


def _instead(example: object) -> str:
    """What to pass for an example that is no tensor."""
    if isinstance(example, Mapping):
        keys = list(example)[:2]
        named = ", ".join(f"batch[{key!r}]" for key in keys) + (", …" if len(example) > 2 else "")
        return f"pass its tensors one by one, in the order of forward's parameters: {named}"
    if isinstance(example, (tuple, list)) and all(isinstance(item, Tensor) for item in example) and example:
        return "pass its tensors one by one: (model, *example)"
    return "torch.as_tensor makes one"


def why_not_run(model: nn.Module, example: Sequence[Tensor]) -> Iterator[Problem]:
    """Yield what keeps a model from being run on its example here."""
    yield from _model_cannot_run(model)
    has_embeddings = any(isinstance(module, nn.Embedding | nn.EmbeddingBag | BEmbedding) for module in model.modules())
    for index, tensor in enumerate(example):
        name = f"example {index}" if len(example) > 1 else "example"
        yield from _example_is_wrong(name, tensor, may_be_indices=has_embeddings)
    batches = {tensor.shape[0] for tensor in example if tensor.dim() > 0}
    if len(batches) > 1:
        yield Problem(
            "example", "", f"the inputs have batches of {sorted(batches)}", "Give as many images in each input"
        )


def _model_cannot_run(model: nn.Module) -> Iterator[Problem]:
    modules = [(name if name else "the model", module) for name, module in model.named_modules()]
    scripted = [name for name, module in modules if isinstance(module, torch.jit.ScriptModule)]
    if scripted:
        yield Problem(
            scripted[0], "", f"scripted modules cannot be looked into ({some(scripted)})", "Pass the Python module"
        )
        return
    others = displaced(model)
    if others:
        yield Problem("", "", others, REMEDY)
    tensors = [*model.named_parameters(), *model.named_buffers()]
    lazy = [name for name, tensor in tensors if is_lazy(tensor)]
    if lazy:
        yield Problem(lazy[0], "", f"{some(lazy)} have no shape yet", "Run one batch through the model first")
    tensors = [(name, tensor) for name, tensor in tensors if not is_lazy(tensor)]
    elsewhere = [name for name, tensor in tensors if tensor.device.type != "cpu"]
    if elsewhere:
        device = dict(tensors)[elsewhere[0]].device
        remedy = "Load its weights first" if device.type == "meta" else "Move the model: model.cpu()"
        yield Problem(elsewhere[0], "", f"{some(elsewhere)} are on {device}", remedy)
    other = [name for name, tensor in tensors if tensor.is_floating_point() and tensor.dtype != torch.float32]
    other += [name for name, tensor in tensors if tensor.is_complex()]
    if other:
        dtype = dict(tensors)[other[0]].dtype
        yield Problem(other[0], "", f"{some(other)} are {dtype}", "Convert the model to float32: model.float()")


def indices_remain(example: Sequence[Tensor], graph: Graph) -> Iterator[Problem]:
    """Yield the inputs that are indices which no embedding reads."""
    readers = graph.readers()
    for index, (tensor, node) in enumerate(zip(example, graph.inputs, strict=True)):
        if tensor.dtype in _INDICES and not readers[node.name]:
            name = f"example {index}" if len(example) > 1 else "example"
            what = f"the {name} is {tensor.dtype}, and no embedding reads it; others are deployed with float32 inputs"
            yield Problem(name, "", what, f"Pass x.float(), {PARTIAL}")


def _example_is_wrong(name: str, tensor: Tensor, *, may_be_indices: bool) -> Iterator[Problem]:
    if tensor.dtype != torch.float32 and not (may_be_indices and tensor.dtype in _INDICES):
        remedy = "Pass real numbers" if tensor.is_complex() else "Pass x.float()"
        if tensor.is_quantized:
            remedy = "Pass x.dequantize()"
        elif tensor.dtype == torch.uint8:
            remedy = "Pass pixels/255, as bitorch.data.to_float does; with pixels=True the packed model takes uint8"
        yield Problem(name, "", f"the {name} is {tensor.dtype}, but a model is deployed with float32 inputs", remedy)
    if tensor.device.type != "cpu":
        remedy = "Pass one with numbers, as torch.rand gives" if tensor.is_meta else "Pass x.cpu()"
        yield Problem(name, "", f"the {name} is on {tensor.device}", remedy)
    if tensor.layout != torch.strided:
        yield Problem(name, "", f"the {name} is {tensor.layout}", "Pass x.to_dense()")
    if tensor.dim() < 2:
        one = "x.unsqueeze(0)" if tensor.dim() == 1 else "x.reshape(1, 1)"
        yield Problem(name, "", f"the {name} has shape {list(tensor.shape)}", f"Pass a batch, of one: {one}")
    elif tensor.shape[0] == 0:
        yield Problem(
            name, "", f"the {name} is an empty batch, of shape {list(tensor.shape)}", "Pass one image or more"
        )
    else:
        try:
            check_size(tensor.shape[1:])
        except Refusal as refusal:
            yield Problem(name, "", f"the {name} cannot be deployed: {refusal.what}", refusal.remedy)


def faults(model: nn.Module) -> Iterator[Problem]:
    """Yield what is wrong with a model that can be run."""
    training = in_training_mode(model)
    if training:
        yield Problem("", "", f"the model is in training mode ({some(training)})", "Call model.eval() first")
    for path, _ in model.named_modules():
        if any(unicodedata.category(character) == "Cc" for character in path.rpartition(".")[2]):
            yield Problem(path, repr(path), "its name has control characters, which a file cannot hold", "Rename it")
    unset = {id(tensor) for tensor in _unset_ranges(model)}  # NaN until then, and the run on the example tells it
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if id(tensor) not in unset and tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            yield Problem(
                name, "", f"{name} has values that are NaN or infinite", "Load a checkpoint from before it diverged"
            )
    yield from _computed_faults(model)


def no_low_bit(model: nn.Module) -> Iterator[Problem]:
    """Yield why a model without layers that multiply codes by codes is none for the runtime."""
    layers = dict(model.named_modules())
    if any(isinstance(layer, LowBit) for layer in layers.values()):
        return
    reading_floats = [
        path for path, layer in layers.items() if isinstance(layer, QConv1d_NoAct | QConv2d_NoAct | QConv3d_NoAct)
    ]
    if reading_floats:
        yield Problem(
            reading_floats[0],
            "",
            f"its low-bit weights are multiplied by floats ({some(reading_floats)}), and the runtime's by codes",
            "Use QConv1d, QConv2d or QConv3d, which quantize what they read, in place of the layers named _NoAct",
        )
        return
    yield Problem("", "", "the model has no low-bit layer", "Convert it with bitorch.quantize_ and train")


def _computed_faults(model: nn.Module) -> Iterator[Problem]:
    """Yield the weights that hooks compute and that are not finite, as weight_norm's of numbers that are all 0."""
    for path, module in model.named_modules():
        for name in computed_names(module):
            refresh(module, name)
            if not bool(getattr(module, name).isfinite().all()):
                where = f"{path}.{name}" if path else name
                yield Problem(
                    where,
                    "",
                    f"{where}, which a hook computes, has values that are NaN or infinite",
                    "Set what it is computed from anew: weight_norm and spectral_norm divide by a norm, 0 of zeros",
                )


def in_training_mode(model: nn.Module) -> list[str]:
    """Return the modules that are, but for mere containers of others: a slice of an nn.Sequential begins so."""
    containers = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
    named = {path: module for path, module in model.named_modules() if module.training}
    does = {path for path, module in named.items() if type(module) not in containers or not any(module.children())}
    return [path if path else "the model" for path in named if does]


def _unset_ranges(model: nn.Module) -> Iterator[Tensor]:
    for module in model.modules():
        if isinstance(module, RangeQuantization) and not module.is_set:
            yield from (*module.parameters(), *module.buffers())


def some(names: Iterable[str]) -> str:
    """The first few names."""
    names = list(names)
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
