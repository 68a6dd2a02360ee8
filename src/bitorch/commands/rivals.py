"""What a packed net is timed against: its float twin, here in PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..deployment.runtime.packed_model import PackedModel
from ..known_names import MAX_WIDTH, MODEL_NAMES
from ..model_copy import copied
from ..models import build

Call = Callable[[], object]


def float_twin(packed: PackedModel) -> nn.Module:
    """Return the float net that the packed one was quantized from, as its file says, with random weights.

    Raises:
        ValueError: the file does not say it.
    """
    provenance = {} if packed.provenance is None else packed.provenance
    run, shape, classes = (provenance.get(key) for key in ("run", "input_shape", "num_classes"))
    if not (isinstance(run, dict) and run.get("model") in MODEL_NAMES and isinstance(shape, list) and classes):
        raise ValueError("the file does not say how its net is built; those that `bitorch deploy` writes do")
    width = run.get("width", 1.0)
    # The file may say anything: what it says is built, and so must be of the size of the net in it.
    takes, gives = [list(spec.shape) for spec in packed.inputs], [list(spec.shape) for spec in packed.outputs]
    if (takes, gives) != ([shape], [[classes]]) or type(width) not in (int, float) or not 0 < width <= MAX_WIDTH:
        raise ValueError("what the file says of how its net is built does not fit the net")
    with torch.random.fork_rng(devices=[]):
        return build(run["model"], shape[0], classes, width).eval()


def in_pytorch(twin: nn.Module, images: Tensor) -> dict[str, Call]:
    """Return calls of the twin on float images, in both memory layouts: which is faster depends on the net."""
    layouts = {"": torch.contiguous_format, ", channels_last": torch.channels_last}
    return {f"PyTorch float32{name}": _pytorch_call(twin, images, layout) for name, layout in layouts.items()}


def _pytorch_call(twin: nn.Module, images: Tensor, layout: torch.memory_format) -> Call:
    # A copy of its own, as parameters have one layout; the overloads of `to` lack the memory format.
    model: nn.Module = copied(twin).to(memory_format=layout)  # type: ignore[call-overload]
    x = images.to(memory_format=layout)

    def call() -> Tensor:
        with torch.inference_mode():
            result: Tensor = model(x)
        return result

    return call
