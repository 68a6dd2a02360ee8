"""Single steps of recurrent layers whose matrices are low-bit."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .qrecurrent import Recurrent
from .recurrent_steps import STEPS, State


class _Cell(Recurrent, nn.RNNCellBase):
    """A recurrent cell; documented at QLSTMCell."""

    hidden_size: int
    #: Tensors of the state.
    _count = 1

    @property
    def _mode(self) -> str:
        raise NotImplementedError(f"{type(self).__name__} does not define _mode")

    def _matrices(self) -> list[str]:
        return ["ih", "hh"]

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """Return the state after one step, with the arguments and shapes of the float cell.

        Raises:
            ValueError: shapes that do not fit. TypeError: a state that is none.
        """
        name = type(self).__name__
        if input.dim() not in (1, 2) or input.shape[-1] != self.input_size:
            raise ValueError(
                f"{name}: the input must have the shape [batch, {self.input_size}], or the same without batch, got "
                f"{list(input.shape)}"
            )
        is_batched = input.dim() == 2
        x = input if is_batched else input.unsqueeze(0)
        state = self._initial(hx, x, is_batched=is_batched)
        ih, hh = self.get_submodule("ih"), self.get_submodule("hh")
        state = STEPS[self._mode](ih(x), hh(state[0]), state)
        state = state if is_batched else tuple(one.squeeze(0) for one in state)
        return state if self._count > 1 else state[0]

    def _initial(self, hx: Any, x: Tensor, *, is_batched: bool) -> State:
        if hx is None:
            return (x.new_zeros(len(x), self.hidden_size),) * self._count
        given = tuple(hx) if self._count > 1 and isinstance(hx, tuple | list) else (hx,)
        name = type(self).__name__
        if len(given) != self._count or not all(isinstance(one, Tensor) for one in given):
            what = "a pair of tensors, h and c" if self._count > 1 else "a tensor"
            raise TypeError(f"{name}: the state must be {what}, got {type(hx).__name__}")
        wanted = [len(x), self.hidden_size] if is_batched else [self.hidden_size]
        for one in given:
            if list(one.shape) != wanted:
                raise ValueError(f"{name}: a state must have the shape {wanted}, got {list(one.shape)}")
        return given if is_batched else tuple(one.unsqueeze(0) for one in given)


class QLSTMCell(_Cell, nn.LSTMCell):
    """One step of an LSTM with low-bit matrices, its parts `ih` and `hh`.

    A drop-in for nn.LSTMCell with the same parameters, state_dict keys, arguments and results; quantizers as those of
    QLSTM. A cell is called at every step, and its weights are quantized every time; in eval mode their codes are kept.
    """

    _float_class = nn.LSTMCell
    _count = 2

    @property
    def _mode(self) -> str:
        return "LSTM"


class QGRUCell(_Cell, nn.GRUCell):
    """One step of a GRU, for nn.GRUCell; see QLSTMCell."""

    _float_class = nn.GRUCell

    @property
    def _mode(self) -> str:
        return "GRU"


class QRNNCell(_Cell, nn.RNNCell):
    """One step of a recurrent layer with tanh or ReLU, for nn.RNNCell; see QLSTMCell."""

    _float_class = nn.RNNCell

    @property
    def _mode(self) -> str:
        return f"RNN_{self.nonlinearity.upper()}"
