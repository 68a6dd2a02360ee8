"""One pass of a model in evaluation, its low-bit layers on packed weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ...operators.packed_programs import runtime
from .evaluation_choice import EvaluationChoice, check_evaluation
from .evaluation_forms import EvaluationForms
from .evaluation_layer import LayerInPass
from .evaluation_obstacles import low_bit_layers, obstacles


class EvaluationPass:
    """Packed forms of a model's low-bit layers, for the batches of one pass in eval mode.

    A layer is packed at its first call, and checked at each further one: where anything that its packed form is made of
    has changed, or somebody wants gradients or watches its quantizers, it computes by itself. All other modules stay
    what and where they are, with their hooks. So the numbers are those of the model, bit for bit; a zero may have the
    other sign. What has been packed goes with this object.

    Args:
        model: on any device; it is not changed.
        choice: see `EvaluationChoice`.
        batches: how often the model will be called with inputs like the first ones; math.inf where nobody knows.

    Raises:
        ValueError: no such choice; "packed", and a layer cannot be packed, which some calls see.
    """

    def __init__(self, model: nn.Module, choice: EvaluationChoice = "auto", *, batches: float = math.inf) -> None:
        layers, found = low_bit_layers(model), obstacles(model, check_evaluation(choice))
        self._layers = [LayerInPass(name, layers[name], choice, batches, why) for name, why in found.items()]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Have the layers compute on packed weights in calls of the model inside, on as many threads as PyTorch's."""
        layers = [one for one in self._layers if one.is_in_question and "forward" not in vars(one.layer)]
        if not layers:
            yield
            return
        threads = runtime().get_num_threads()
        runtime().set_num_threads(torch.get_num_threads())
        for one in layers:
            vars(one.layer)["forward"] = one.forward
        try:
            yield
        finally:
            for one in layers:
                del vars(one.layer)["forward"]
            runtime().set_num_threads(threads)

    @property
    def forms(self) -> EvaluationForms:
        """What the layers compute with, after the calls so far."""
        return EvaluationForms(tuple(one.form for one in self._layers))
