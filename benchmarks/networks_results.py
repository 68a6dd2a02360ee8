"""What was measured of whole networks, as JSON and as a page of Markdown."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass

from layers_timing import Samples
from networks_names import INT8, NO_AMX, OURS

EXPLANATION = """Written by the command below; what is compared is in [kernels.md](../kernels.md#whole-networks). Times
are milliseconds per image, the median of the samples; a number behind × says how many times faster than that engine
ours is: below 1 we are slower."""


@dataclass(frozen=True)
class Row:
    """One contestant at one network. A sample is the fastest of a few calls."""

    net: str
    threads: int
    batch: int
    contestant: str
    """Ours: "bitorch-runtime W1A2"."""
    kernel: str
    median: float
    """Seconds per image, over all samples."""
    least: float


@dataclass(frozen=True)
class Results:
    machine: dict[str, str]
    """What the header says, in its order."""
    rows: list[Row]

    def cases(self) -> list[tuple[str, int, int]]:
        """Networks, threads and batches, in the order of measuring."""
        return list(dict.fromkeys((row.net, row.threads, row.batch) for row in self.rows))

    def of(self, case: tuple[str, int, int]) -> dict[str, Row]:
        """The case's rows by contestant."""
        return {row.contestant: row for row in self.rows if (row.net, row.threads, row.batch) == case}


def measured(net: str, threads: int, batch: int, samples: Samples) -> Row:
    median, least = statistics.median(samples.call) / batch, min(samples.call) / batch
    return Row(net, threads, batch, samples.contestant.name, samples.contestant.kernel, median, least)


def to_json(results: Results) -> str:
    return json.dumps(asdict(results), indent=1, ensure_ascii=False) + "\n"


def from_json(text: str) -> Results:
    data = json.loads(text)
    return Results(data["machine"], [Row(**row) for row in data["rows"]])


def together(runs: list[Results]) -> Results:
    """Several runs on one machine, with what their headers say, each once."""
    machine = {key: "; ".join(dict.fromkeys(run.machine[key] for run in runs)) for key in runs[0].machine}
    return Results(machine, [row for run in runs for row in run.rows])


def markdown(results: Results) -> str:
    """The page docs/kernels.md points to."""
    machine = (
        f"- {key}: `{text}`" if key == "command" else f"- {key}: {text}" for key, text in results.machine.items()
    )
    parts = ["# Networks, measured", EXPLANATION, "\n".join(machine)]
    for threads, batch in dict.fromkeys((threads, batch) for _, threads, batch in results.cases()):
        title = "one thread" if threads == 1 else f"{threads} threads"
        cases = [case for case in results.cases() if case[1:] == (threads, batch)]
        parts += [f"## {title.capitalize()}, batch {batch}", _summary(results, cases)]
        parts += [_ratios(results, cases), _times(results, cases)]
    return "\n\n".join(parts) + "\n"


def ours(rows: dict[str, Row]) -> dict[str, Row]:
    """Our rows by their bits."""
    return {name.removeprefix(OURS + " "): row for name, row in rows.items() if name.startswith(OURS)}


def rivals(rows: dict[str, Row]) -> list[Row]:
    return [row for name, row in rows.items() if not name.startswith(OURS)]


def _summary(results: Results, cases: list[tuple[str, int, int]]) -> str:
    """Where ours is the faster one: for each int8 engine a line, with the pairs of bits in it."""
    lines = []
    for name in (*INT8, *(each + NO_AMX for each in INT8)):
        found: dict[str, list[float]] = {}
        for rows in (results.of(case) for case in cases if name in results.of(case)):
            for bits, row in ours(rows).items():
                found.setdefault(bits, []).append(rows[name].median / row.median)
        parts = [
            f"{bits} in {sum(each > 1 for each in ratios)} of {len(ratios)} ({statistics.geometric_mean(ratios):.2f}×)"
            for bits, ratios in found.items()
        ]
        if parts:
            lines.append(f"- {name}: {', '.join(parts)}")
    if not lines:
        return "No int8 engine took part."
    return "\n".join(["Networks in which ours is faster, and the geometric mean of the ratios:", "", *lines])


def _ratios(results: Results, cases: list[tuple[str, int, int]]) -> str:
    """For each network and pair of bits: ours, and how many times faster than the int8 engines."""
    names = [name for name in (*INT8, *(each + NO_AMX for each in INT8)) if any(name in results.of(c) for c in cases)]
    lines = []
    for case in cases:
        rows = results.of(case)
        for bits, row in ours(rows).items():
            ratios = [f"{rows[name].median / row.median:.2f}" if name in rows else "–" for name in names]
            lines.append([case[0], bits, f"{1e3 * row.median:.3f}", *ratios])
    return _table(["network", "bits", "ms", *(f"× {name}" for name in names)], lines)


def _times(results: Results, cases: list[tuple[str, int, int]]) -> str:
    """Milliseconds of the other engines."""
    names = list(dict.fromkeys(row.contestant for case in cases for row in rivals(results.of(case))))
    if not names:
        return "No other engine took part."
    lines = []
    for case in cases:
        rows = results.of(case)
        lines.append([case[0], *(f"{1e3 * rows[name].median:.3f}" if name in rows else "–" for name in names)])
    return _table(["network", *names], lines)


def _table(header: list[str], lines: list[list[str]]) -> str:
    rule = ["---" if name in ("network", "bits") else "---:" for name in header]
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, rule, *lines])
