"""Whether the learned step of a weight fits the weight."""

from __future__ import annotations

from torch import Tensor

from ..layers.low_bit import WeightQuantized
from ..quantizations.learned_start import LearnedStart
from .findings import Finding


def stale_step(name: str, layer: WeightQuantized, weight: Tensor) -> Finding | None:
    """Return the finding of a layer whose step is that of another weight, as after `nn.init` or `.copy_`.

    Args:
        weight: of the layer, as its quantizer sees it.
    """
    quantizer = layer.weight_quantization
    errors = quantizer.misfit(weight) if isinstance(quantizer, LearnedStart) else None
    if errors is None:
        return None
    now, fresh = errors
    detail = f"its quantized weight has a squared error of {now:.0%}, which a new start of the step makes {fresh:.1%}"
    assert isinstance(quantizer, LearnedStart)  # as it has a misfit
    if quantizer.is_untrained:
        remedy = "the weight has changed since the step started: bitorch.calibrate(model, batches) starts it anew"
    else:
        remedy = (
            "if the weight was set anew after training, start the step anew: load the weight with load_state_dict, "
            "without the keys weight_quantization.*"
        )
    return Finding(name, "step does not fit the weight", now, detail, remedy)
