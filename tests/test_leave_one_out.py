"""No pass can vanish unseen: without any one of them, the program of a golden net is another one."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import pytest

from bitorch.deployment.capture.capture import Capture, capture
from deployment_passes import Pass, lowered, passes
from golden_nets import GOLDEN, Golden

#: With all passes that there are: those that read pixels among them. Some stand there twice.
POSITIONS = [(i, step.__name__) for i, step in enumerate(passes(pixels=True))]
#: Quick ones first.
NETS = sorted(GOLDEN, key=lambda golden: (golden.net not in ("fork", "lenet-8", "resnet-18"), golden.net))


@functools.cache
def captured(golden: Golden) -> Capture:
    found = capture(golden.model(), *golden.example())
    found.check()
    return found


def program(golden: Golden, steps: Sequence[Pass]) -> Any:
    """Operations and the forms of arrays; or the kind of the error, where it is none."""
    try:
        found = lowered(captured(golden), steps)
    except ValueError as error:
        return type(error)
    return found.operations, {name: (array.dtype, array.shape) for name, array in found.arrays.items()}


@functools.cache
def whole_program(golden: Golden) -> Any:
    return program(golden, passes(pixels=golden.setting.pixels))


def differs(golden: Golden, left_out: int) -> bool:
    """Whether a net's program is another one without the pass at this position of POSITIONS."""
    steps, shift = passes(pixels=golden.setting.pixels), 0 if golden.setting.pixels else 1
    if left_out < shift:
        return False
    at = left_out - shift
    return bool(program(golden, [*steps[:at], *steps[at + 1 :]]) != whole_program(golden))


@pytest.mark.parametrize("position", POSITIONS, ids=lambda position: f"{position[0]}-{position[1]}")
def test_every_pass_matters(position: tuple[int, str]) -> None:
    assert any(differs(golden, position[0]) for golden in NETS), f"no golden net is another one without {position[1]}"
