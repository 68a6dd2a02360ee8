"""Classes of a module by name."""

from __future__ import annotations

from typing import Any

import pytest

from bitorch import quantizations
from bitorch.quantizations import Quantization, Sign, SwishSign
from bitorch.util import build_lookup_dictionary

NAMES = ["Sign", "SwishSign", "Quantization", "quantization_names", "NotThere"]


def test_by_superclass() -> None:
    """Strictly below; what is no class, and what is missing, is passed over."""
    found = build_lookup_dictionary(quantizations.__name__, NAMES, Quantization)
    assert found == {"sign": Sign, "swishsign": SwishSign}


def test_by_function_and_other_keys() -> None:
    def takes(value: Any) -> bool:
        return value is Sign or (callable(value) and not isinstance(value, type))

    found = build_lookup_dictionary(quantizations.__name__, NAMES, filter_fn=takes, key_fn=lambda x: x.__name__)
    assert found == {"Sign": Sign, "quantization_names": quantizations.quantization_names}


@pytest.mark.parametrize("kind", [ValueError, AssertionError])
def test_without_a_filter(kind: type[Exception]) -> None:
    with pytest.raises(kind, match="give filter_by_superclass, a class, or filter_fn"):
        build_lookup_dictionary(quantizations.__name__, NAMES)
