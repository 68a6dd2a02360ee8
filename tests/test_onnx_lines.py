"""Lines in the place of thresholds: what is proved on both sides of each is so for every integer in reach."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from bitorch.deployment.onnx.lines import Lines, Staircases, is_proved, proved_float_lines, proved_lines
from bitorch.deployment.runtime.threshold_search import float_staircase


def staircases(seed: int, levels: int, reach: int, *, channels: int = 8, worth: int = 1) -> Staircases:
    """Thresholds of quantizers behind scales and offsets, some falling, some constant, some that a ReLU cuts off."""
    rng = np.random.default_rng(seed)
    spacing = rng.uniform(0.05, 0.8, (channels, 1)) * reach / levels
    first = rng.normal(0, reach / 4, (channels, 1))
    thresholds = np.ceil(first + spacing * np.arange(levels)).astype(np.int64)
    if seed % 3 == 0:
        thresholds[0] = -reach - 1  # the highest code, whatever D is
        thresholds[1] = reach + 1
    falls = rng.random(channels) < 0.4
    return Staircases(np.where(falls[:, None], -thresholds, thresholds), falls, -reach, reach, worth).trimmed()


def counted(one: Staircases) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """The codes of every D in reach, by counting, [C, 2·reach + 1]."""
    rows = []
    for thresholds, falls in zip(one.thresholds.tolist(), one.descending.tolist(), strict=True):
        reached = [sum(d <= t if falls else d >= t for t in thresholds) for d in range(one.low, one.high + 1)]
        rows.append([one.worth * (one.base + count) for count in reached])
    return np.array(rows)


def every(one: Staircases) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.broadcast_to(np.arange(one.low, one.high + 1), (len(one.descending), one.high - one.low + 1))


def quantized(lines: Lines, d: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> np.ndarray[tuple[int, ...], Any]:
    """The formula of QLinearConv."""
    total = (lines.factor[:, None] * d + lines.bias[:, None]).astype(np.float32)
    codes: np.ndarray[tuple[int, ...], Any] = np.clip(np.rint(total * lines.scale[:, None]) + lines.zero, 0, 255)
    return codes


@pytest.mark.parametrize(("levels", "most", "worth"), [(1, 127, 1), (1, 127, 2), (3, 42, 1), (7, 30, 1), (15, 8, 1)])
@pytest.mark.parametrize("seed", range(6))
def test_a_line_gives_the_codes_of_every_sum(levels: int, most: int, worth: int, seed: int) -> None:
    one = staircases(seed, levels, 700, worth=worth)
    expected = counted(one)
    lines = proved_lines(one, most)
    assert lines is not None
    assert (quantized(lines, every(one)).clip(*one.ends) == expected).all()
    assert (np.abs(lines.factor) <= most).all()
    floats = proved_float_lines(one)
    assert floats is not None
    moved = every(one).astype(np.float32) + floats.offset[:, None]
    found = np.clip(np.rint(moved / floats.step[:, None]), 0, 255).clip(*one.ends)  # that of QuantizeLinear
    assert (found == expected).all()


@pytest.mark.parametrize("seed", range(2))
def test_fifteen_thresholds_of_many_channels_have_lines_through_a_code_far_off(seed: int) -> None:
    """As of a layer of 4 bits behind batch normalisation: between its thresholds there is next to no room."""
    rng, reach, channels = np.random.default_rng(seed), 30_000, 256
    slope = rng.uniform(0.2, 2, (channels, 1)) * 15 / reach * rng.choice([-1, 1], (channels, 1))
    exact = (np.arange(1, 16) - 0.5 - rng.uniform(0, 15, (channels, 1))) / slope
    falls = slope[:, 0] < 0
    thresholds = np.where(falls[:, None], np.floor(exact), np.ceil(exact)).astype(np.int64)
    one = Staircases(thresholds, falls, -reach, reach)
    lines = proved_lines(one, 1)
    assert lines is not None
    assert lines.zero > 0
    for channel, (row, is_falling) in enumerate(zip(thresholds, falls, strict=True)):
        d = np.arange(-reach, reach + 1)
        expected = 15 - np.searchsorted(row[::-1], d) if is_falling else np.searchsorted(row, d, "right")
        alone = Lines(lines.factor[[channel]], lines.bias[[channel]], lines.scale[[channel]], lines.zero)
        assert (quantized(alone, d[None])[0].clip(0, 15) == expected).all()


def test_what_no_line_gives_is_not_proved() -> None:
    bent = Staircases(np.array([[-40, -39, 30]]), np.array([False]), -100, 100)
    assert proved_lines(bent, 127) is None
    assert proved_float_lines(bent) is None


def test_a_line_that_is_wrong_at_one_sum_is_not_proved() -> None:
    one = staircases(1, 3, 500)
    lines = proved_lines(one, 40)
    assert lines is not None
    assert is_proved(lines, one).all()
    for channel in range(len(one.descending)):
        met = (one.thresholds[channel] > one.low) & (one.thresholds[channel] < one.high)
        if met.any():
            moved = one.thresholds.copy()
            moved[channel, met.argmax()] += -1 if one.descending[channel] else 1
            other = Staircases(moved, one.descending, one.low, one.high, one.worth, one.base)
            assert not is_proved(lines, other)[channel]


def test_a_relu_in_front_of_a_zero_point_leaves_a_line_that_begins_higher() -> None:
    one = Staircases(np.array([[-999, -999, -5, 2, 9]]), np.array([False]), -50, 50).trimmed()
    assert (one.base, one.ends) == (2, (2, 5))
    assert proved_lines(one, 20) is not None


@pytest.mark.parametrize("bits", range(2, 9))
def test_unit_quantizers_round_as_quantize_linear_does(bits: int) -> None:
    """On both sides of where codes change; every step keeps order, so everywhere."""
    n = 2**bits - 1
    found = float_staircase(lambda x: x.clamp(0, 1).mul(n).round(), (1,), n).thresholds[0].numpy()
    at = np.concatenate([found, np.nextafter(found, np.float32(-np.inf)), np.array([-3, 0, 1, 7, 1e30], np.float32)])
    expected = np.rint(np.clip(at, 0, 1) * np.float32(n))
    step = np.float32(1) / np.float32(3) if bits == 2 else np.float32(1)
    number = at if bits == 2 else at * np.float32(n)
    assert (np.clip(np.rint(number / step), 0, n) == expected).all()
