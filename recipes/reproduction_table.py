"""The table of a recipe: what was measured, and beside it what papers report, as Markdown and as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitorch.atomic_file import write_text
from bitorch.train import Settings
from bitorch.train.recorder import best_of
from bitorch.train.sweep import Outcome, read_outcome
from literature import Bits, Method, Reported, Start, reported

_HEADER = ("net", "method", "W", "A", "G", "start", "width", "seed", "epochs", "last", "best", "reported")
#: Those of text; numbers stand at the right.
_LEFT = ("net", "method", "start", "reported")
_NOTES = """
Top-1 accuracy on the official test or validation images: after the last epoch, and the best after any. "epochs" are
those of the run, of the paper's. Sources marked "as remembered" were not compared with the paper's text.
"""


@dataclass(frozen=True)
class Line:
    """What a run was.

    Attributes:
        net, method, bits, start: which line of the papers' tables it is.
        width: factor on the channels; papers' numbers are of 1.
        seed: of the run.
        epochs, epochs_of_paper: that it has had, and that it has in the paper.
    """

    net: str
    method: Method
    bits: Bits
    start: Start
    width: float
    seed: int
    epochs: int
    epochs_of_paper: int

    @property
    def reported(self) -> tuple[Reported, ...]:
        """What papers report of it; of another width, nothing."""
        return reported(self.net, self.method, self.bits, self.start) if self.width == 1 else ()


def write_tables(title: str, out: Path, line_of: Callable[[Settings], Line]) -> None:
    """Write results.md and results.json of all runs below a folder that are done.

    Raises:
        ValueError: a run is damaged, or line_of does not know it.
    """
    runs = [(name, line_of(outcome.settings), outcome) for name, outcome in _finished(out)]
    write_text(out / "results.md", _markdown(title, runs))
    write_text(out / "results.json", json.dumps([_entry(*run) for run in runs], indent=1) + "\n")


def _finished(out: Path) -> Iterator[tuple[str, Outcome]]:
    for folder in sorted(path for path in out.iterdir() if path.is_dir()):
        outcome = read_outcome(folder)
        if outcome is not None:
            yield folder.name, outcome


def _best(outcome: Outcome) -> float:
    return best_of(outcome.history, "val/acc", larger_is_better=True)


def _entry(name: str, line: Line, outcome: Outcome) -> dict[str, Any]:
    return {
        "run": name,
        **dataclasses.asdict(line),
        "last": outcome.accuracy,
        "best": _best(outcome),
        "last_top5": outcome.history[-1].get("val/top5"),
        "reported": [
            {"accuracy": number.accuracy, **dataclasses.asdict(number.source)} for number in line.reported
        ],
    }  # fmt: skip


def _markdown(title: str, runs: Sequence[tuple[str, Line, Outcome]]) -> str:
    rule = "|" + "|".join("---" if name in _LEFT else "---:" for name in _HEADER) + "|"
    lines = [_joined(_HEADER), rule, *(_joined(_cells(line, outcome)) for _, line, outcome in runs)]
    return f"# {title}\n{_NOTES}\n" + "\n".join(lines) + "\n"


def _cells(line: Line, outcome: Outcome) -> tuple[str, ...]:
    numbers = [f"{number.accuracy:.1%}, {number.source}" for number in line.reported]
    return (
        line.net,
        line.method,
        *map(str, line.bits),
        line.start,
        f"{line.width:g}",
        str(line.seed),
        f"{line.epochs} of {line.epochs_of_paper}",
        f"{outcome.accuracy:.2%}",
        f"{_best(outcome):.2%}",
        "; ".join(numbers) if numbers else "–",
    )


def _joined(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
