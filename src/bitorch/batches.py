"""How a batch, as loaders give it, becomes the arguments of a model and labels.

| batch | call |
|---|---|
| tensor x | model(x) |
| (x, y), also as a list | model(x), labels y |
| ((u, v), y) | model(u, v), labels y |
| (u, v, y), where forward needs two inputs | the same: first what it needs, then labels; what follows is not read |
| ({"u": u, "v": v}, y) | model(u=u, v=v), labels y |
| {"u": u, "v": v, "labels": y} | model(u=u, v=v), labels y |

A dict may be any mapping, or a dataclass; a named tuple is one if it has labels or forward knows all its names, and
else a tuple. Labels of a dict are under "labels", "label", "targets" or "target". A forward that has a parameter of
such a name gets the labels, too, and may return a loss. Other entries that forward does not take are left out if they
hold no tensor, such as file names; tensors that it does not take are an error, except that one tensor alone is the
input of a forward with one. A tuple of inputs is one argument where forward takes only one.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from .containers import fields_of, is_container, tensors_in, with_tensors
from .data import to_float
from .wrappers import unwrapped

#: Names of labels, of which the first counts.
LABELS = ("labels", "label", "targets", "target")
#: What one input alone may be besides floating point: indices of an embedding.
_INDICES = (torch.int32, torch.int64)


@dataclass(frozen=True)
class Batch:
    """The call of a model.

    Attributes:
        args, kwargs: the inputs.
        labels: None without; else a tensor, or anything that holds tensors.
        labels_name: the parameter by which the model gets the labels, None if it does not.
        where: what the batch is called in messages.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    labels: Any = None
    labels_name: str | None = None
    where: str = "the batch"

    def call(self, model: nn.Module) -> Any:
        """Return what the model returns."""
        named = {} if self.labels_name is None else {self.labels_name: self.labels}
        return model(*self.args, **self.kwargs, **named)

    def run(self, model: nn.Module) -> Any:
        """Return what the model returns; ValueError, with the cause chained, if its forward fails."""
        try:
            return self.call(model)
        except Exception as error:  # code of the user may raise anything, and it is told, not swallowed
            shapes = ", ".join(str(list(tensor.shape)) for tensor in self.tensors())
            raise ValueError(
                f"the model's forward fails on {self.where}, of shape {shapes}: {type(error).__name__}: {error}"
            ) from error

    def tensors(self) -> list[Tensor]:
        """Return the tensors among the inputs."""
        return tensors_in((self.args, self.kwargs))

    def __len__(self) -> int:
        """Return the number of samples: the length of the first tensor, 1 if it has none."""
        first = self.tensors()[0]
        return len(first) if first.dim() else 1

    def to(self, device: torch.device) -> Batch:
        """Return the same on a device."""
        return self.mapped(lambda tensor: tensor.to(device))

    def mapped(self, change: Any) -> Batch:
        """Return the same with all tensors changed, labels among them."""
        args, kwargs, labels = with_tensors((self.args, dict(self.kwargs), self.labels), change)
        return replace(self, args=args, kwargs=kwargs, labels=labels)

    def copied(self) -> Batch:
        """Return the same with copies of all tensors, for a model that changes its input in place."""
        return self.mapped(torch.clone)

    def in_order(self, model: nn.Module, where: str) -> tuple[Tensor, ...]:
        """Return the inputs as they are passed by position, as deployment takes them.

        Raises:
            TypeError: an input that is no tensor.
            ValueError: one that can be passed by name only, or behind another one that is not given.
        """
        inputs, named = self.positional(model)
        if named:
            raise ValueError(
                f"{where} passes {_quoted(named)} by name; for deployment all inputs must be tensors that can be "
                f"passed by position"
            )
        for value in inputs:
            if not isinstance(value, Tensor):
                raise TypeError(f"{where} has an input that is a {type(value).__name__}; deployment takes tensors only")
        return tuple(inputs)

    def positional(self, model: nn.Module) -> tuple[list[Any], dict[str, Any]]:
        """Return the inputs that can be passed by position, in order, and those that cannot, by name."""
        named = {name: value for name, value in self.kwargs.items() if value is not None}
        inputs = list(self.args)
        for name in Forward.of(model).inputs[len(inputs) :]:
            if name not in named:
                break
            inputs.append(named.pop(name))
        return inputs, named


@dataclass(frozen=True)
class Forward:
    """What a model's forward takes.

    Attributes:
        inputs: names of the parameters that can be passed by position, up to one for labels.
        needed: those among them that have no default.
        labels: the parameter for labels, None without one.
        needs_labels: it stands behind the needed ones, and has no default either.
        by_name: all parameters that can be passed by name.
        needed_by_name: those that must be passed.
        any_position, any_name: *args, **kwargs.
    """

    inputs: tuple[str, ...]
    needed: tuple[str, ...]
    labels: str | None
    needs_labels: bool
    by_name: tuple[str, ...]
    needed_by_name: tuple[str, ...]
    any_position: bool
    any_name: bool

    @classmethod
    def of(cls, model: nn.Module) -> Forward:
        """Read the signature of a model, or of what is inside of torch.compile and DataParallel."""
        parameters = list(_parameters(model))
        kinds = inspect.Parameter
        by_position = [p for p in parameters if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
        by_name = [p for p in parameters if p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)]
        first_label = next((i for i, p in enumerate(by_position) if p.name in LABELS), len(by_position))
        inputs = by_position[:first_label]
        names = [p.name for p in by_name]
        return cls(
            inputs=tuple(p.name for p in inputs),
            needed=tuple(p.name for p in inputs if p.default is kinds.empty),
            labels=next((name for name in LABELS if name in names), None),
            needs_labels=first_label < len(by_position) and by_position[first_label].default is kinds.empty,
            by_name=tuple(names),
            needed_by_name=tuple(p.name for p in by_name if p.default is kinds.empty),
            any_position=any(p.kind is kinds.VAR_POSITIONAL for p in parameters),
            any_name=any(p.kind is kinds.VAR_KEYWORD for p in parameters),
        )

    def __str__(self) -> str:
        return f"forward({', '.join(self.by_name if self.by_name else self.inputs)})"


def _parameters(model: nn.Module) -> Sequence[inspect.Parameter]:
    model = unwrapped(model)
    if isinstance(model, torch.jit.ScriptModule):  # what is traced has no signature
        kinds = inspect.Parameter
        return [kinds("inputs", kinds.VAR_POSITIONAL), kinds("named", kinds.VAR_KEYWORD)]
    return list(inspect.signature(model.forward).parameters.values())


def read_batch(batch: object, model: nn.Module, where: str, *, pixels: bool = False) -> Batch:
    """Return how a model is called with a batch; see the table at the top of this file.

    Args:
        where: what the batch is called in messages.
        pixels: an input alone that is uint8 becomes float in [0, 1]; else it is an error.

    Raises:
        TypeError: no tensor and nothing of tensors; inputs of a dtype that no model takes.
        ValueError: inputs that forward needs are missing, or tensors too many; an empty batch; more tokens than
            positions, where the model has a config that says how many these are.
    """
    takes = Forward.of(model)
    fields = _named_fields(batch, takes)
    if isinstance(batch, Tensor):
        found = _of_sequence((batch,), takes, where)
    elif fields is not None:
        found = _of_fields(fields, None, takes, where)
    elif isinstance(batch, tuple | list):
        found = _of_sequence(batch, takes, where)
    else:
        raise _no_batch(batch, where)
    read = _checked(replace(found, where=where), pixels=pixels)
    _check_positions(read, model)
    return read


def _named_fields(value: object, takes: Forward) -> dict[str, Any] | None:
    """Return the fields of what is passed by names: of a named tuple only if they tell what they are."""
    fields = fields_of(value)
    if fields is None or not isinstance(value, tuple):
        return fields
    is_told = any(name in LABELS for name in fields) or all(name in takes.by_name for name in fields)
    return fields if is_told else None


def _of_sequence(items: Sequence[Any], takes: Forward, where: str) -> Batch:
    first = items[0] if items else None
    if not isinstance(first, Tensor) and not is_container(first):
        raise _no_batch(items, where)
    if not isinstance(first, Tensor):
        return _of_pair(first, items[1] if len(items) > 1 else None, takes, where)
    count = max(1, len(takes.needed))
    if takes.needs_labels and len(items) > count + 1:  # behind the label of its signature there is another one
        count += 1
    elif len(items) < count:
        given = f"{len(items)} input{'s' if len(items) > 1 else ''}"
        raise ValueError(f"{where} has {given}, but {takes} needs {count}")
    labels = items[count] if len(items) > count else None
    return Batch(tuple(items[:count]), {}, labels, _labels_name(takes, labels, count))


def _of_pair(inputs: Any, labels: Any, takes: Forward, where: str) -> Batch:
    """Return the call for several inputs and labels."""
    if not tensors_in(inputs):
        raise _no_batch(inputs, where)
    fields = _named_fields(inputs, takes)
    if fields is not None:
        return _of_fields(fields, labels, takes, where)
    if not isinstance(inputs, tuple | list):
        raise _no_batch(inputs, where)
    most = len(takes.needed) + 1 if takes.needs_labels and len(inputs) > len(takes.needed) else len(takes.inputs)
    if len(inputs) > most and not takes.any_position:
        return Batch((inputs,), {}, labels, _labels_name(takes, labels, 1))
    if len(inputs) < len(takes.needed):
        raise ValueError(f"{where} has {len(inputs)} inputs, but {takes} needs {len(takes.needed)}")
    return Batch(tuple(inputs), {}, labels, _labels_name(takes, labels, len(inputs)))


def _labels_name(takes: Forward, labels: Any, inputs: int) -> str | None:
    """Return the parameter for labels, unless there are none or the inputs fill it."""
    return takes.labels if labels is not None and inputs <= len(takes.inputs) else None


def _of_fields(fields: Mapping[str, Any], labels: Any, takes: Forward, where: str) -> Batch:
    name = next((name for name in LABELS if fields.get(name) is not None), None)
    rest = {key: value for key, value in fields.items() if key != name}
    if labels is None and name is not None:
        labels = fields[name]
    inputs = {key: value for key, value in rest.items() if takes.any_name or key in takes.by_name}
    strange = {key: value for key, value in rest.items() if key not in inputs and tensors_in(value)}
    labels_name = None if labels is None else _name_for_labels(takes, name, inputs)
    if len(strange) == 1 and not tensors_in(inputs) and len(takes.needed) <= 1 and takes.inputs:
        return Batch(tuple(strange.values()), inputs, labels, labels_name)
    if strange:
        it = "it" if len(strange) == 1 else "them"
        raise ValueError(
            f"{where} has {_quoted(strange)}, which {takes} does not take; leave {it} out, or name the inputs as "
            "forward does. A forward that takes a whole dict is given ((batch,), labels)"
        )
    missing = [key for key in takes.needed_by_name if key not in inputs and key != labels_name]
    if missing:
        has = f"; it has {_quoted(fields)}" if fields else "; it is empty"
        raise ValueError(f"{where} lacks {_quoted(missing)}, which {takes} needs{has}")
    return Batch((), inputs, labels, labels_name)


def _name_for_labels(takes: Forward, name: str | None, inputs: Mapping[str, Any]) -> str | None:
    """Return the parameter for labels that stand under `name` in a dict, or beside it."""
    if name is not None and (name in takes.by_name or takes.any_name):
        return name
    return None if takes.labels in inputs else takes.labels


def _checked(batch: Batch, *, pixels: bool) -> Batch:
    """Return a batch whose tensors a model can take."""
    tensors = batch.tensors()
    if not tensors:
        raise TypeError(f"{batch.where} has no tensor among its inputs")
    is_one = len(tensors) == 1
    if pixels and is_one and tensors[0].dtype == torch.uint8:
        args, kwargs = with_tensors((batch.args, dict(batch.kwargs)), to_float)
        batch = replace(batch, args=args, kwargs=kwargs)
        tensors = batch.tensors()
    for tensor in tensors:
        is_taken = (
            tensor.is_floating_point() or tensor.dtype in _INDICES or (not is_one and tensor.dtype != torch.uint8)
        )
        if not is_taken:
            which = "is" if is_one else "has an input of"
            raise TypeError(
                f"{batch.where} {which} {tensor.dtype}; "
                "pass what the model takes, such as bitorch.data.to_float(pixels)"
            )
    if not tensors[0].numel():
        which = "its shape is" if is_one else "it has an input of shape"
        raise ValueError(
            f"{batch.where} is empty: {which} {list(tensors[0].shape)}; leave it out (an empty prompt, say), or fill it"
        )
    return batch


def _check_positions(batch: Batch, model: nn.Module) -> None:
    """Raise a ValueError for tokens beyond the positions that a model of transformers says it has."""
    config = getattr(unwrapped(model), "config", None)
    most = getattr(config, "max_position_embeddings", None)
    first = batch.kwargs.get("input_ids", batch.args[0] if batch.args else None)
    if not isinstance(most, int) or not isinstance(first, Tensor) or first.dim() != 2 or first.is_floating_point():
        return
    if first.shape[1] > most:
        raise ValueError(
            f"{batch.where} has sequences of {first.shape[1]} tokens, and the model has {most} positions "
            f"(config.max_position_embeddings); cut them, as tokenizer(…, truncation=True, max_length={most}) does"
        )


def _no_batch(value: object, where: str) -> TypeError:
    remedy = "torch.as_tensor makes a tensor of an array, and next(iter(loader)) is one batch of a loader"
    return TypeError(
        f"{where} must be a tensor, inputs and labels such as (x, y) or ((u, v), y), or a dict, got {spelled(value)}; "
        f"{remedy}"
    )


def spelled(value: object) -> str:
    """Return what a value is, in words: "a tuple of Tensor, str"."""
    if isinstance(value, tuple | list):
        kinds = ", ".join(type(item).__name__ for item in value)
        return f"a {type(value).__name__} of {kinds}" if value else f"an empty {type(value).__name__}"
    return type(value).__name__


def _quoted(names: Mapping[str, Any] | Sequence[str]) -> str:
    texts = [repr(name) for name in names]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
