"""What a run of `layers.py` found, and how it is kept: JSON for programs, CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
import statistics
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from bitorch.atomic_file import write_and_rename
from layers_cases import Layer
from layers_timing import Samples


@dataclass(frozen=True)
class Row:
    """One contestant at one layer. A sample is the fastest of a few calls; seconds are the median over all rounds."""

    layer: str
    macs: int
    contestant: str
    kernel: str
    seconds: float | None
    """Of the layer alone; None where it takes no longer than an almost empty call."""
    least: float | None
    """The smallest sample instead of the median."""
    call: float
    """Of the whole Python call."""

    @property
    def rate(self) -> float | None:
        """Multiply-adds a second."""
        return None if self.seconds is None else self.macs / self.seconds


@dataclass(frozen=True)
class Results:
    machine: dict[str, str]
    """What the header says, in its order."""
    threads: int
    rows: list[Row]

    def layers(self) -> list[str]:
        return list(dict.fromkeys(row.layer for row in self.rows))

    def of(self, layer: str) -> dict[str, Row]:
        """The layer's rows by contestant."""
        return {row.contestant: row for row in self.rows if row.layer == layer}


def measured(layer: Layer, samples: Samples, empty: Samples | None) -> Row:
    """
    Args:
        empty: the same contestant at a layer of next to nothing, in the same rounds. Where the contestant cannot time
            the layer from inside, the least that such a call takes is subtracted.
    """
    timed, overhead = samples.call, 0.0 if empty is None else min(empty.call)
    if samples.inside:
        timed, overhead = samples.inside, 0.0
    seconds, least = statistics.median(timed) - overhead, min(timed) - overhead
    return Row(
        layer.name,
        layer.macs,
        samples.contestant.name,
        samples.contestant.kernel,
        seconds if seconds > 0 else None,
        least if least > 0 else None,
        statistics.median(samples.call),
    )


def to_json(results: Results) -> str:
    return json.dumps(asdict(results), indent=1, ensure_ascii=False) + "\n"


def from_json(text: str) -> Results:
    data = json.loads(text)
    return Results(data["machine"], data["threads"], [Row(**row) for row in data["rows"]])


def to_csv(results: Results) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["threads", *(field.name for field in fields(Row))], lineterminator="\n")
    writer.writeheader()
    for row in results.rows:
        writer.writerow({"threads": results.threads} | asdict(row))
    return text.getvalue()


def write(path: Path, content: str | bytes) -> None:
    """Write under a temporary name and rename: what is there stays whole whatever happens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_and_rename(path, lambda file: file.write(content.encode() if isinstance(content, str) else content))
