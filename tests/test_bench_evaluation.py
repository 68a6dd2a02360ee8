"""The benchmark of evaluation times both ways, and stops where the packed layers give other numbers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def evaluation(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    pytest.importorskip("bitorch_runtime")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import evaluation

    yield evaluation
    sys.modules.pop("evaluation", None)


def test_passes_are_timed(evaluation: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    evaluation.main(evaluation.Options(nets=("lenet-28",), batches=(1, 4), images=16, rounds=1))
    table = capsys.readouterr().out
    assert table.count("lenet-28") == 2
    assert "W1A2" in table


def test_other_numbers_are_an_error(evaluation: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    timed = evaluation.timed
    monkeypatch.setattr(evaluation, "timed", lambda *a: (t := timed(*a), (t[0], t[1] + (a[3] == "auto"), t[2]))[1])
    with pytest.raises(SystemExit, match="lenet-28, batches of 4: the packed layers give other numbers"):
        evaluation.measured("lenet-28", evaluation.Options(images=4, rounds=1), 4)
