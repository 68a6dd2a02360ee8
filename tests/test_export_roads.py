"""The table of docs/export.md that says what is exact on which road."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("qonnx")

from export_roads import NETS, Net, cells, listed, row


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.parametrize("net", NETS, ids=lambda net: net.name)
@pytest.mark.one_in(3)
def test_the_table_says_what_becomes_of_a_net(net: Net, tmp_path: Path) -> None:
    """`python tests/export_roads.py` writes it again."""
    assert row(net, cells(net, tmp_path)) in listed()


def test_the_table_has_every_net() -> None:
    assert len(listed()) == len(NETS)
