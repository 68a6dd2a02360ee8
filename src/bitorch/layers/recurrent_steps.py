"""What recurrent layers compute between their products: steps, and the way of a state through sequences.

Sequences are rows of one matrix, as in torch.nn.utils.rnn.PackedSequence: first the first step of every sequence, then
the second of those that have one, and so on, the longest sequence first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

#: Of each sequence: h [batch, hidden]; of an LSTM also c.
State = tuple[Tensor, ...]
#: From what comes of the input's product [rows, gates], that of h, and the state, to the state after the step.
Step = Callable[[Tensor, Tensor, State], State]


def rnn_tanh(of_input: Tensor, of_hidden: Tensor, state: State) -> State:
    """h' = tanh(i + h)."""
    return (torch.tanh(of_input + of_hidden),)


def rnn_relu(of_input: Tensor, of_hidden: Tensor, state: State) -> State:
    """h' = max(i + h, 0)."""
    return (torch.relu(of_input + of_hidden),)


def gru(of_input: Tensor, of_hidden: Tensor, state: State) -> State:
    """r = σ(i_r + h_r), z = σ(i_z + h_z), n = tanh(i_n + r·h_n), h' = n + z·(h − n)."""
    i_r, i_z, i_n = of_input.chunk(3, -1)
    h_r, h_z, h_n = of_hidden.chunk(3, -1)
    r, z = torch.sigmoid(i_r + h_r), torch.sigmoid(i_z + h_z)
    n = torch.tanh(i_n + r * h_n)
    return (n + z * (state[0] - n),)


def lstm(of_input: Tensor, of_hidden: Tensor, state: State) -> State:
    """i, f, g, o of the sums, all σ but g = tanh; c' = f·c + i·g, h' = o·tanh(c')."""
    i, f, g, o = (of_input + of_hidden).chunk(4, -1)
    c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


#: By `nn.RNNBase.mode`.
STEPS: dict[str, Step] = {"RNN_TANH": rnn_tanh, "RNN_RELU": rnn_relu, "GRU": gru, "LSTM": lstm}


def run(
    step: Callable[[Tensor, State], State], rows: Tensor, sizes: Sequence[int], state: State
) -> tuple[Tensor, State]:
    """Return h after each step, in the order of the rows, and the last state of each sequence.

    Args:
        step: from the rows of one step, and the state of as many sequences, to the state after it.
        rows: what comes of the inputs, [Σ sizes, gates].
        sizes: how many sequences have each of the steps; none more than the one before.
        state: at the beginning, of sizes[0] sequences.
    """
    ended: list[State] = []  # the shortest first
    outputs = []
    for part in rows.split(list(sizes)):
        count = len(part)
        if count < len(state[0]):
            ended.append(tuple(one[count:] for one in state))
            state = tuple(one[:count] for one in state)
        state = step(part, state)
        outputs.append(state[0])
    return torch.cat(outputs), _joined([state, *reversed(ended)])


def run_backwards(
    step: Callable[[Tensor, State], State], rows: Tensor, sizes: Sequence[int], state: State
) -> tuple[Tensor, State]:
    """As `run`, from the last step of each sequence to its first."""
    current = tuple(one[:0] for one in state)
    outputs = []
    for part in reversed(rows.split(list(sizes))):
        begun = len(current[0])
        if len(part) > begun:
            new = tuple(one[begun : len(part)] for one in state)
            current = new if begun == 0 else _joined([current, new])
        current = step(part, current)
        outputs.append(current[0])
    return torch.cat(outputs[::-1]), current


def _joined(states: Sequence[State]) -> State:
    return states[0] if len(states) == 1 else tuple(torch.cat(parts) for parts in zip(*states, strict=True))
