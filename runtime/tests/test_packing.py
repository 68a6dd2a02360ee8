"""The canonical order of packed weights: golden bytes, and round trips."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitorch_runtime import pack_weights, reference, unpack_weights
from test_objects import DEFAULT_BUILD

Array = np.ndarray[Any, Any]

#: (bits, weight codes, bytes)
GOLDEN = [
    (1, [1, -1, -1, 1, 1, 1, -1, -1, 1], "3901"),  # m = 1 0 0 1 1 1 0 0 | 1
    (2, [-3, -1, 1, 3, 3], "e403"),  # m = 0 1 2 3 | 3
    (3, [3, -1, 7], "dd01"),  # m = 5 3 7: 5 + 3·2^3 + 7·2^6 = 0x1dd
    (4, [-15, 15, 13], "f00e"),  # m = 0 15 | 14
    (5, [31, -31, 1], "1f40"),  # m = 31 0 16: 31 + 16·2^10 = 0x401f
    (6, [63, -63, 1, -1], "3f007e"),  # m = 63 0 32 31: 63 + 32·2^12 + 31·2^18 = 0x7e003f
    (7, [127, 1], "7f20"),  # m = 127 64: 127 + 64·2^7 = 0x207f
    (8, [-255, 255, 1, -1], "00ff807f"),
]


@pytest.mark.parametrize("pack", [pack_weights, reference.pack_weights])
@pytest.mark.parametrize(("bits", "codes", "packed"), GOLDEN)
def test_golden_bytes(pack: Any, bits: int, codes: list[int], packed: str) -> None:
    result = pack(np.array([codes]), bits)
    assert result.dtype == np.uint8
    assert result.tobytes().hex() == packed


@pytest.mark.parametrize("pack", [pack_weights, reference.pack_weights])
def test_rows_start_at_bytes_and_the_last_index_is_fastest(pack: Any) -> None:
    # [out_channels, kernel_h, kernel_w, in_channels/groups] = [2, 1, 2, 3] for the reference.
    codes = np.array([[[[1, -1, -1], [-1, -1, 1]]], [[[-1, 1, -1], [1, 1, -1]]]])
    ordered = codes if pack is reference.pack_weights else codes.transpose(0, 3, 1, 2)
    assert pack(ordered, 1).tolist() == [[0b100001], [0b011010]]


def odd_codes(rng: np.random.Generator, bits: int, *shape: int) -> Array:
    n = 2**bits - 1
    codes: Array = 2 * rng.integers(0, n + 1, shape) - n
    return codes


@settings(max_examples=200, deadline=None)
@given(
    bits=st.integers(1, 8),
    shape=st.one_of(
        st.tuples(st.integers(1, 9), st.integers(1, 70)),
        st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 4), st.integers(1, 4)),
    ),
    dtype=st.sampled_from([np.int16, np.int32, np.int64]),
    seed=st.integers(0, 2**32 - 1),
)
def test_round_trips(bits: int, shape: tuple[int, ...], dtype: Any, seed: int) -> None:
    codes = odd_codes(np.random.default_rng(seed), bits, *shape)
    packed = pack_weights(codes.astype(dtype), bits)
    assert packed.shape == (shape[0], -(-int(np.prod(shape[1:])) * bits // 8))
    np.testing.assert_array_equal(unpack_weights(packed, bits, shape), codes)
    canonical = codes.transpose(0, 2, 3, 1) if len(shape) == 4 else codes
    np.testing.assert_array_equal(packed, reference.pack_weights(canonical, bits))
    np.testing.assert_array_equal(reference.unpack_weights(packed, bits, canonical.shape[1:]), canonical)


def test_rows_and_hashes_in_cpp() -> None:
    """SHA-256 on every implementation, and packed rows bit by bit: csrc/tools/check_packed.cpp."""
    check = Path(os.environ.get("BITORCH_RUNTIME_BUILD", DEFAULT_BUILD)) / "check_packed"
    done = subprocess.run([check], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("packed: hashes and rows are right")
