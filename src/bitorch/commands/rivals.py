"""What a packed net is timed against: its float twin, here in PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..conversion.restore import float_
from ..deployment.runtime.packed_model import PackedModel
from ..known_names import MAX_WIDTH, MODEL_NAMES, ZOO_NAMES
from ..layers.low_bit import LowBit
from ..model_copy import copied
from ..own_code import is_own
from ..train.net_source import named_source
from .example_shapes import example_shapes

Call = Callable[[], object]


def float_twin(packed: PackedModel, model: str | None = None) -> nn.Module:
    """Return the float net that the packed one was quantized from, with random weights.

    Args:
        packed: whose file says how it is built.
        model: what makes it, in place of what the file says; code of the user's own is run only if it is named here.

    Raises:
        ValueError: nobody says it, or what is said does not fit the net.
    """
    provenance = {} if packed.provenance is None else packed.provenance
    run, shape, classes = (provenance.get(key) for key in ("run", "input_shape", "num_classes"))
    name = run.get("model") if isinstance(run, dict) else None
    if model is None and isinstance(name, str) and is_own(name):
        raise ValueError(f"the net is made by {name}, and what a file names is not run; say it with --model {name}")
    is_known = model is not None or name in MODEL_NAMES or name in ZOO_NAMES
    if not (isinstance(run, dict) and is_known and isinstance(shape, list) and classes):
        raise ValueError("the file does not say how its net is built; those that `bitorch deploy` writes do")
    width = run.get("width", 1.0)
    # The file may say anything: what it says is built, and so must be of the size of the net in it.
    takes, gives = [*map(list, example_shapes(packed))], [list(spec.shape) for spec in packed.outputs]
    if (takes, gives) != ([shape], [[classes]]) or type(width) not in (int, float) or not 0 < width <= MAX_WIDTH:
        raise ValueError("what the file says of how its net is built does not fit the net")
    with torch.random.fork_rng(devices=[]):
        twin = named_source(run["model"] if model is None else model, width).build(shape, classes)
    if any(isinstance(module, LowBit) for module in twin.modules()):  # as it came
        float_(twin)
    return twin.eval()


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
