"""Recurrent layers whose matrices are low-bit: LSTM, GRU and RNN."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ..quantizations import Quantization
from .composed import Composed, PartLinear, copied
from .qlinear import QLinear
from .recurrent_steps import STEPS, State, run, run_backwards
from .register import q_linear_registry
from .weight_sources import is_in, load_parametrization


class QGates(PartLinear):
    """A product of a recurrent layer: a QLinear whose weight and bias are parameters of that layer.

    Attributes:
        weight, bias: the layer's `weight_NAME` [out_features, in_features] and `bias_NAME`, which may be missing.
    """

    _registry = q_linear_registry

    def __init__(self, layer: nn.Module, name: str, **quantization: Any) -> None:
        nn.Module.__init__(self)  # not nn.Linear's, which makes parameters
        self._layer = (layer,)  # in a tuple, so that it is no submodule
        self._of = name
        self.out_features, self.in_features = getattr(layer, self.weight_name).shape
        self._set_quantization(**quantization)

    @property
    def weight_name(self) -> str:
        """The layer's parameter that is the weight."""
        return f"weight_{self._of}"

    @property
    def weight(self) -> Tensor:  # type: ignore[override]  # a Parameter of the layer
        weight: Tensor = getattr(self._layer[0], self.weight_name)
        return weight

    @property
    def bias(self) -> Tensor | None:  # type: ignore[override]  # a Parameter of the layer
        return getattr(self._layer[0], f"bias_{self._of}", None)

    def _weight_place(self) -> tuple[nn.Module, str]:
        return self._layer[0], self.weight_name

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Recurrent(Composed):
    """What the recurrent layers and their cells share: parts with the names of their weights, less `weight_`."""

    hidden_size: int

    def __init__(
        self,
        *arguments: Any,
        input_quantization: Quantization | str | None = None,
        weight_quantization: Quantization | str | None = None,
        gradient_cancellation_threshold: float | None = None,
        gradient_quantization: Quantization | None = None,
        exact: bool = True,
        **named: Any,
    ) -> None:
        super().__init__(*arguments, **named)
        quantization = {
            "input_quantization": input_quantization,
            "weight_quantization": weight_quantization,
            "gradient_quantization": gradient_quantization,
            "gradient_cancellation_threshold": gradient_cancellation_threshold,
            "exact": exact,
        }
        copies = ({key: copied(value) for key, value in quantization.items()} for _ in self._matrices())
        self._set_quantization(dict(zip(self._matrices(), copies, strict=True)))

    def _matrices(self) -> list[str]:
        """Return the names of the parts."""
        raise NotImplementedError(f"{type(self).__name__} does not define _matrices()")

    @property
    def _quantized_names(self) -> frozenset[str]:  # type: ignore[override]  # other layers have other parts
        return frozenset(self._matrices())

    def _set_quantization(self, projections: Mapping[str, Mapping[str, Any]]) -> None:
        """Make low-bit parts.

        Args:
            projections: the quantization arguments of each.
        """
        for name in self._matrices():
            self.add_module(name, QGates(self, name, **projections[name]))

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        """Load the weights; the parts, which are loaded after this, are not shown the keys of theirs."""
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)
        assign = bool(local_metadata.get("assign_to_params_buffers", False))
        for name in self._matrices():
            part = self.get_submodule(name)
            if isinstance(part, QGates) and is_in(state_dict, self, part.weight_name, prefix):
                load_parametrization(self, part.weight_name, state_dict, prefix, assign)
                part._initialize_without_steps(state_dict, f"{prefix}{name}.")

    def projections(self) -> dict[str, QLinear]:
        return {name: self.get_submodule(name) for name in self._matrices()}  # type: ignore[misc]  # they are such

    def _shown(self) -> Collection[str]:
        return [f"{kind}_{name}" for name in self._matrices() for kind in ("weight", "bias")]

    def reset_parameters(self) -> None:
        """Draw new weights and biases, as nn.RNNBase does; quantizers stay."""
        bound = self.hidden_size**-0.5 if self.hidden_size > 0 else 0.0
        for parameter in self._parameters.values():
            if parameter is not None:
                nn.init.uniform_(parameter, -bound, bound)

    def _reading_once(self, name: str) -> Callable[[Tensor], Tensor]:
        """Return a part as a function for many calls, which reads its weight once."""
        part = self.get_submodule(name)
        return part.reading_once() if isinstance(part, QGates) else part


class _Layer(Recurrent, nn.RNNBase):
    """A recurrent layer; documented at QLSTM."""

    def _matrices(self) -> list[str]:
        return [name.removeprefix("weight_") for name in self._flat_weights_names if name.startswith("weight_")]

    def _set_quantization(self, projections: Mapping[str, Mapping[str, Any]]) -> None:
        self._flat_weights = list(self._flat_weights)  # not that of the float layer
        super()._set_quantization(projections)

    def _as_float(self) -> nn.Module:
        new = super()._as_float()
        assert isinstance(new, nn.RNNBase)
        new._init_flat_weights()
        return new

    @property
    def _states(self) -> tuple[int, ...]:
        """How many numbers h has, and of an LSTM c."""
        hidden = self.proj_size if self.proj_size > 0 else self.hidden_size
        return (hidden, self.hidden_size) if self.mode == "LSTM" else (hidden,)

    def forward(self, input: Tensor | PackedSequence, hx: Any = None) -> tuple[Any, Any]:
        """Return the outputs and the last state, with the arguments and shapes of the float layer.

        Raises:
            ValueError: shapes that do not fit, a sequence without steps. TypeError: an input that is no tensor of
                floats and no PackedSequence, a state that is none.
        """
        if isinstance(input, PackedSequence):
            return self._packed(input, hx)
        if not isinstance(input, Tensor):
            raise TypeError(
                f"{type(self).__name__}: the input must be a tensor or a PackedSequence, got {type(input).__name__}"
            )
        if input.dim() not in (2, 3) or input.shape[-1] != self.input_size:
            shape = "[batch, length, {}]" if self.batch_first else "[length, batch, {}]"
            raise ValueError(
                f"{type(self).__name__}: the input must have the shape {shape.format(self.input_size)}, or the same "
                f"without batch, got {list(input.shape)}"
            )
        is_batched = input.dim() == 3
        x = input.transpose(0, 1) if is_batched and self.batch_first else input
        x = x if is_batched else x.unsqueeze(1)
        length, batch = x.shape[:2]
        if length == 0:
            raise ValueError(f"{type(self).__name__}: the sequence has no steps, and so no last state")
        state = self._initial(hx, x, batch, is_batched=is_batched)
        y, last = self._computed(x.flatten(0, 1), [batch] * length, state)
        y = y.unflatten(0, (length, batch))
        if not is_batched:
            return y.squeeze(1), self._returned(tuple(one.squeeze(1) for one in last))
        return y.transpose(0, 1) if self.batch_first else y, self._returned(last)

    def _packed(self, input: PackedSequence, hx: Any) -> tuple[PackedSequence, Any]:
        data, sizes, order, back = input
        if data.dim() != 2 or data.shape[1] != self.input_size:
            raise ValueError(
                f"{type(self).__name__}: the data of a PackedSequence must have the shape [steps, {self.input_size}], "
                f"got {list(data.shape)}"
            )
        counts = sizes.tolist()
        state = self._initial(hx, data, counts[0], is_batched=True)
        if hx is not None and order is not None:
            state = tuple(one.index_select(1, order) for one in state)
        y, last = self._computed(data, counts, state)
        if back is not None:
            last = tuple(one.index_select(1, back) for one in last)
        return PackedSequence(y, sizes, order, back), self._returned(last)

    def _initial(self, hx: Any, x: Tensor, batch: int, *, is_batched: bool) -> State:
        """Return the state at the beginning, [layers · directions, batch, numbers] each: zeros where none is given."""
        count = self.num_layers * (2 if self.bidirectional else 1)
        if hx is None:
            return tuple(x.new_zeros(count, batch, numbers) for numbers in self._states)
        given = tuple(hx) if self.mode == "LSTM" and isinstance(hx, tuple | list) else (hx,)
        if len(given) != len(self._states) or not all(isinstance(one, Tensor) for one in given):
            what = "a pair of tensors, h and c" if self.mode == "LSTM" else "a tensor"
            raise TypeError(f"{type(self).__name__}: the state must be {what}, got {type(hx).__name__}")
        for one, numbers in zip(given, self._states, strict=True):
            wanted = [count, batch, numbers] if is_batched else [count, numbers]
            if list(one.shape) != wanted:
                raise ValueError(f"{type(self).__name__}: a state must have the shape {wanted}, got {list(one.shape)}")
        return given if is_batched else tuple(one.unsqueeze(1) for one in given)

    def _returned(self, state: State) -> Any:
        return state if self.mode == "LSTM" else state[0]

    def _computed(self, x: Tensor, sizes: list[int], state: State) -> tuple[Tensor, State]:
        """Return the outputs [rows, numbers · directions] of the last layer, and the last states of all."""
        last: list[State] = []
        for layer in range(self.num_layers):
            outputs = []
            for suffix in ("", "_reverse") if self.bidirectional else ("",):
                initial = tuple(one[len(last)] for one in state)
                y, ended = self._direction(f"l{layer}{suffix}", x, sizes, initial, is_backwards=bool(suffix))
                outputs.append(y)
                last.append(ended)
            x = outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)
            if self.dropout > 0 and layer < self.num_layers - 1:
                x = F.dropout(x, self.dropout, self.training)
        return x, tuple(torch.stack(parts) for parts in zip(*last, strict=True))

    def _direction(
        self, name: str, x: Tensor, sizes: list[int], state: State, *, is_backwards: bool
    ) -> tuple[Tensor, State]:
        of_hidden, step = self._reading_once(f"hh_{name}"), STEPS[self.mode]
        project = self._reading_once(f"hr_{name}") if self.proj_size > 0 else None

        def advance(of_input: Tensor, state: State) -> State:
            h, *rest = step(of_input, of_hidden(state[0]), state)
            return (h if project is None else project(h), *rest)

        return (run_backwards if is_backwards else run)(advance, self.get_submodule(f"ih_{name}")(x), sizes, state)


class QLSTM(_Layer, nn.LSTM):
    """An LSTM whose matrices multiply integer codes; gates, states and what stands between stay float.

    A drop-in for nn.LSTM with the same parameters, state_dict keys, arguments and results: layers, directions,
    batch_first, proj_size, dropout, packed sequences and initial states. Each matrix is a part, a QLinear with
    quantizers of its own: `ih_l0` of the inputs, `hh_l0` of the hidden states, `hr_l0` of a projection, with
    `_reverse` behind the name in the other direction, which have `weight_ih_l0`, `bias_ih_l0` and so on for weight and
    bias. A weight is quantized once for all steps. Gradient quantizers take each step of each sequence for a sample.

    Hidden states lie between −1 and 1: a quantizer whose range begins at 0 sees half of them.

    Args:
        input_size … dtype: as nn.LSTM.
        input_quantization: of each part: a name, or a Quantization instance of which each gets a copy; None takes
            `layers.config.config`'s.
        weight_quantization: as input_quantization.
        gradient_cancellation_threshold: see QActivation.
        gradient_quantization: Quantization instance such as GradientDoReFa(6), applied to the gradient of the output of
            each part, each with a copy.
        exact: see QLinear.

    Raises:
        ValueError: an unknown name, or more inputs than exact sums allow. TypeError: what is no Quantization.
    """

    _float_class = nn.LSTM


class QGRU(_Layer, nn.GRU):
    """A GRU with low-bit matrices, for nn.GRU; see QLSTM."""

    _float_class = nn.GRU


class QRNN(_Layer, nn.RNN):
    """A recurrent layer with tanh or ReLU and low-bit matrices, for nn.RNN; see QLSTM."""

    _float_class = nn.RNN
