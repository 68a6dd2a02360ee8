"""The pictures of a folder as tables: accuracy and confusions as text, and everything as CSV."""

from __future__ import annotations

import csv
import difflib
import io
from collections import Counter
from collections.abc import Sequence
from typing import TextIO

from ..text_table import aligned, ruled
from .folder_prediction import Seen, Tally
from .pictures_below import PicturesBelow

#: More classes than this make a table that no terminal shows: the pairs that are confused most stand there instead.
_MOST_COLUMNS = 16
_MOST_PAIRS = 10
_MOST_FOLDERS = 5
_MOST_LETTERS = 12

CSV_COLUMNS = ("file", "index", "label", "class", "predicted", "probability", "right")


class CsvLines:
    """Writes a line for each picture."""

    def __init__(self, file: TextIO) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self._writer.writerow(CSV_COLUMNS)

    def write(self, seen: Seen) -> None:
        """Write a picture; cells without a value are empty."""
        label = "" if seen.label is None else seen.label
        right = "" if seen.label is None else int(seen.label == seen.predicted)
        index = "" if seen.index is None else seen.index
        line = seen.line
        self._writer.writerow([seen.path, index, label, line["class"], seen.predicted, line["probability"], right])


def summary(tally: Tally, found: PicturesBelow) -> str:
    """Return what came out of a folder as text: counts, accuracy, a table of confusions or of classes, and remarks."""
    counts = [f"{tally.pictures:,} picture{'s' if tally.pictures != 1 else ''}"]
    if tally.unreadable:
        counts.append(f"{tally.unreadable:,} that cannot be read")
    if found.others:
        counts.append(f"{found.others:,} other file{'s' if found.others != 1 else ''} left out")
    parts = [f"{found.root}: {', '.join(counts)}"]
    if tally.labelled:
        share = tally.right / tally.labelled
        parts.append(f"accuracy {share:.2%}: {tally.right:,} of {tally.labelled:,} are what their folders say")
        parts.append("\n" + _confusions(tally))
    elif tally.pictures:
        parts.append("\n" + _classes(tally))
    return "\n".join([*parts, *_remarks(tally, found)])


def _confusions(tally: Tally) -> str:
    seen = {name for pair in tally.confusion for name in pair}
    names = [name for name in tally.names if name in seen]
    return _matrix(tally, names) if len(names) <= _MOST_COLUMNS else _pairs(tally)


def _matrix(tally: Tally, names: Sequence[str]) -> str:
    """One row for each class, one column for what it was seen as; the last is the share that is right."""
    rows = [["", *map(_short, names), "right"]]
    for label in names:
        counts = [tally.confusion[label, name] for name in names]
        share = f"{tally.confusion[label, label] / sum(counts):.1%}" if any(counts) else ""
        rows.append([_short(label), *(str(count) if count else "·" for count in counts), share])
    lines = aligned(rows, right=range(1, len(names) + 2))
    return f"rows: what folders say; columns: what the net sees\n{ruled(lines)}"


def _pairs(tally: Tally) -> str:
    wrong = Counter({pair: count for pair, count in tally.confusion.items() if pair[0] != pair[1]})
    rows = [["folder says", "net sees", "pictures"]]
    rows += [[label, predicted, str(count)] for (label, predicted), count in wrong.most_common(_MOST_PAIRS)]
    return f"what is confused most\n{ruled(aligned(rows, right=[2]))}" if len(rows) > 1 else "nothing is confused"


def _classes(tally: Tally) -> str:
    rows = [["class", "pictures"], *([name, str(count)] for name, count in tally.predicted.most_common(_MOST_COLUMNS))]
    rest = len(tally.predicted) - _MOST_COLUMNS
    return ruled(aligned(rows, right=[1])) + (f"\nand {rest} classes more" if rest > 0 else "")


def _remarks(tally: Tally, found: PicturesBelow) -> list[str]:
    """Which folders are called by no class, as a typing error in one would go unseen."""
    folders = Counter(picture.parent.name for picture in found.pictures if found.label_of(picture, tally.names) is None)
    if not folders or not tally.labelled:
        return []
    texts = []
    for name, count in folders.most_common(_MOST_FOLDERS):
        near = difflib.get_close_matches(name.lower(), [other.lower() for other in tally.names], n=1)
        meant = next((other for other in tally.names if near and other.lower() == near[0]), None)
        hint = "" if meant is None else f"; is {meant} meant?"
        texts.append(f"no class is called {name} ({count:,} picture{'s' if count != 1 else ''} without a label{hint})")
    return ["", *texts]


def _short(name: str) -> str:
    return name if len(name) <= _MOST_LETTERS else f"{name[: _MOST_LETTERS - 1]}…"


def confusions_csv(tally: Tally) -> str:
    """Return the whole table of confusions: a row for each class, a column for what it was seen as."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["label", *tally.names])
    for label in tally.names:
        writer.writerow([label, *(tally.confusion[label, name] for name in tally.names)])
    return text.getvalue()
