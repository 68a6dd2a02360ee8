"""What a model returns: its logits and its own loss, in a tensor, dict, tuple, dataclass or the like of them."""

from __future__ import annotations

from torch import Tensor

from .containers import fields_of, named_tensors

#: Fields that are the logits, of which the first counts; "out" is that of torchvision's segmentation.
_LOGITS = ("logits", "out")


def logits_of(output: object, remedy: str = "pass loss=, a function of it and the labels") -> Tensor:
    """Return the output itself, its field "logits" or "out", or the only float tensor in it that is no scalar.

    Args:
        output: what a model has returned.
        remedy: against none or several, for messages.

    Raises:
        TypeError: there is none, or one of several.
    """
    fields = fields_of(output)
    for name in _LOGITS:
        found = None if fields is None else fields.get(name)
        if isinstance(found, Tensor) and found.is_floating_point():
            return found
    named = [(name, x) for name, x in named_tensors(output) if x.is_floating_point()]
    larger = [(name, x) for name, x in named if x.dim() > 0]
    if len(larger) == 1:
        return larger[0][1]
    if not larger and isinstance(output, Tensor) and named:
        return output
    kind = f"a {type(output).__name__}"
    if not larger:
        raise TypeError(f"the model returns {kind} without a floating-point tensor; {remedy}")
    texts = [f"{name!r} {list(x.shape)}" for name, x in larger]
    raise TypeError(
        f"the model returns {kind} with {', '.join(texts[:-1])} and {texts[-1]}, none of them 'logits'; {remedy}"
    )


def own_loss(output: object, *, got_labels: bool) -> Tensor | None:
    """Return the loss that a model has computed itself, None without one.

    It is the field "loss", a float of one number; of a plain tuple that a model has returned for labels, the only 0-dim
    float.
    """
    fields = fields_of(output)
    if fields is not None:
        loss = fields.get("loss")
        return loss if isinstance(loss, Tensor) and loss.is_floating_point() and loss.numel() == 1 else None
    if not got_labels:
        return None
    scalars = [x for _, x in named_tensors(output) if x.is_floating_point() and x.dim() == 0]
    return scalars[0] if len(scalars) == 1 else None
