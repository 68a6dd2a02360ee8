"""A call on the tape as a function of nodes' values, and what functions are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .folding import Folds
from .tape import Call, mapped, tensors_in


def replay(
    call: Call, names: Mapping[int, str], inputs: Sequence[str], written: Sequence[Tensor] = ()
) -> Callable[..., Any]:
    """Return a function of the values of `inputs` that makes the call again, and changes none of them in place.

    Args:
        names: of the nodes that tensors among the arguments have the values of, by id.
        written: arguments that the function returns behind the call's own results, as the call leaves them.
    """
    changed = {id(tensor) for tensor in call.changed}
    function = call.function.forward if isinstance(call.function, nn.Module) else call.function

    def again(*values: Tensor) -> Any:
        by_name = dict(zip(inputs, values, strict=True))
        clones: dict[int, Tensor] = {}

        def taken(argument: Any) -> Any:
            if not isinstance(argument, Tensor):
                return argument
            value = by_name[names[id(argument)]] if id(argument) in names else argument
            if id(argument) in changed:
                value = clones.setdefault(id(argument), value.clone())
            return value

        args, kwargs = mapped(call.args, taken), mapped(call.kwargs, taken)
        result = function(*args, **kwargs) if call.folds is None else _folded(function, call.folds, args, kwargs)
        return (result, *(clones[id(tensor)] for tensor in written)) if written else result

    return again


def _folded(function: Callable[..., Any], folds: Folds, args: Any, kwargs: Any) -> Any:
    """Call a function with unfolded arguments as the model has called it, and unfold what it returns."""
    tensors = list(tensors_in((args, kwargs)))
    varying = next(i for i, fold in enumerate(folds.tensors) if fold is not None and i not in folds.constants)
    batch, remaining = len(tensors[varying]), iter(range(len(tensors)))

    def given(argument: Any) -> Any:
        if not isinstance(argument, Tensor):
            return argument
        index = next(remaining)
        fold, x = folds.tensors[index], tensors[index]
        if fold is None:
            return argument
        return fold.folded(x[:1].expand(batch, *x.shape[1:]) if index in folds.constants else x)

    result = function(*mapped(folds.args, given), **mapped(folds.kwargs, given))
    return mapped(
        result, lambda item: folds.result.unfolded(item, tensors[varying]) if isinstance(item, Tensor) else item
    )


@dataclass(frozen=True)
class Result:
    """One tensor of what a function returns."""

    function: Callable[..., Any]
    index: int

    def __call__(self, *values: Tensor) -> Tensor:
        return list(tensors_in(self.function(*values)))[self.index]


def function_name(function: Any) -> str:
    """Return how a function is called in messages and names: "relu", also for relu_ and __rsub__'s like."""
    name = str(getattr(function, "__name__", type(function).__name__)).split(".")[0]
    if name == "__get__":
        name = str(function.__self__.__name__)
    return name.strip("_") if name.strip("_") else name
