"""Products of two tensors, and attention. Float sums are in float64 here, rounded once; those of codes are exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .basics import Floats, Integers
from .convolutions import codes_mean


def with_leading_axes(tensors: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Tensors [B, *rows, C] with ones in front of their rows, so that all have as many axes."""
    most = max(x.ndim for x in tensors)
    return [x.reshape(len(x), *[1] * (most - x.ndim), *x.shape[1:]) for x in tensors]


def matmul(a: NDArray[Any], b: NDArray[Any], transposed: Sequence[int] = (0, 0), scale: float = 1.0) -> Floats:
    """scale·Σ a·b, float32 [B, *rows, M, N].

    Args:
        a: [B, *rows, M, K]; b: [B, *rows, K, N]; axes of rows are equal, or 1.
        transposed: whether a's, and b's, last two axes are the other way round.
    """
    a, b = (x.astype(np.float64) for x in with_leading_axes((a, b)))
    a, b = (x.swapaxes(-1, -2) if turned else x for x, turned in zip((a, b), transposed, strict=True))
    product: NDArray[np.float64] = np.matmul(a, b) * np.float32(scale)
    return product.astype(np.float32)


def linear_weight_only(x: Floats, codes: Integers, scale: Floats, bias: Floats | None = None) -> Floats:
    """Σ_g scale·Σ c·x + bias, float32 [B, *rows, N].

    Args:
        x: [B, *rows, F].
        codes: [N, F].
        scale: [N, G], of groups of F/G inputs in a row.
        bias: [N]; None: nothing is added.
    """
    weight = codes * np.repeat(scale.astype(np.float64), codes.shape[1] // scale.shape[1], axis=1)
    y = x.astype(np.float64) @ weight.T
    sums: Floats = (y if bias is None else y + bias).astype(np.float32)
    return sums


def linear_groups(
    q: NDArray[Any],
    codes: Integers,
    scale: Floats,
    bias: Floats | None = None,
    sign_activations: bool = False,
    zero_point: int = 0,
) -> Floats:
    """Σ_g scale·D + bias, D = Σ c·(q − zero_point) of group g, float32 [B, *rows, N].

    D are exact, and rounded once; each product and each sum of float32 is rounded, groups being added in their order.

    Args:
        q: [B, *rows, F].
        codes: [N, F].
        scale: [N, G], of groups of F/G inputs in a row.
        bias: [N]; None: nothing is added.
        sign_activations: codes 0 and 1 mean −1 and +1.
        zero_point: the code that means 0.
    """
    groups = scale.shape[1]
    meant = codes_mean(q, sign_activations, zero_point).reshape(*q.shape[:-1], groups, -1)
    d = np.einsum("...gk,ngk->...gn", meant, codes.reshape(len(codes), groups, -1).astype(np.int64))
    parts = d.astype(np.float32) * scale.T
    y: Floats = parts[..., 0, :]
    for g in range(1, groups):
        y = y + parts[..., g, :]
    return y if bias is None else y + bias


def matmul_codes(
    q: NDArray[Any],
    r: NDArray[Any],
    transposed: Sequence[int] = (0, 0),
    zero_points: Sequence[int] = (0, 0),
    signs: Sequence[int] = (0, 0),
) -> Integers:
    """D = Σ (q − zero point)·(r − zero point), int64 [B, *rows, M, N], of codes as `matmul` has its matrices.

    Args:
        signs: 1: that tensor's codes, 0 and 1, stand for −1 and 1.
    """
    codes = with_leading_axes((q.astype(np.int64), r.astype(np.int64)))
    numbers = [2 * x - 1 if sign else x - zero for x, zero, sign in zip(codes, zero_points, signs, strict=True)]
    one, two = (x.swapaxes(-1, -2) if turned else x for x, turned in zip(numbers, transposed, strict=True))
    d: Integers = np.matmul(one, two)
    return d


def attention(
    query: NDArray[Any],
    key: NDArray[Any],
    value: NDArray[Any],
    bias: NDArray[Any] | None = None,
    scale: float = 1.0,
    causal: bool = False,
) -> Floats:
    """softmax(scale·q·k + bias)·v, float32 [B, *heads, T, E]; where all scores of a query are −∞, zeros.

    Args:
        query: [B, *heads, T, D]; key: [B, *heads, S, D]; value: [B, *heads, S, E]. The last axis of heads of query may
            be a multiple of theirs.
        bias: [B, *heads, T or 1, S].
        causal: query t sees keys 0 … t.
    """
    q, k, v = (x.astype(np.float64) for x in with_leading_axes((query, key, value)))
    k, v = (_for_groups(x, q.shape[-3]) for x in (k, v))
    scores = np.matmul(q, k.swapaxes(-1, -2)) * np.float32(scale)
    if bias is not None:
        scores, added = with_leading_axes((scores, bias.astype(np.float64)))
        scores = scores + added
    if causal:
        scores = np.where(np.tri(*scores.shape[-2:]) > 0, scores, -np.inf)
    largest = scores.max(-1, keepdims=True, initial=-np.inf)
    exponentials = np.exp(scores - np.where(largest == -np.inf, 0, largest))
    sums = exponentials.sum(-1, keepdims=True)
    exponentials, v = with_leading_axes((exponentials / np.where(sums == 0, 1, sums), v))
    means: NDArray[np.float64] = np.matmul(exponentials, v)
    return means.astype(np.float32)


def _for_groups(x: NDArray[Any], heads: int) -> NDArray[Any]:
    """Keys or values [B, *heads, S, D] as many as there are heads of queries, where these share them."""
    own = x.shape[-3] if x.ndim > 3 else 1
    return x.repeat(heads // own, axis=-3) if 1 < own < heads else x
