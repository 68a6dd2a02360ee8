"""`bitorch predict`: what a packed net sees in images, and in the pictures of a folder."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ..atomic_file import write_text
from .console import print_error
from .options import parse
from .places import check_place

if TYPE_CHECKING:
    from .folder_prediction import Seen, Tally
    from .packed_prediction import Prediction
    from .pictures_below import PicturesBelow


@dataclass(frozen=True)
class _Arguments:
    """Classify images with a packed net: one line of JSON for each, in their order; of a folder a summary.

    Keys: file, index (in a .npy file that holds a batch), class (counted from 0), label (its name, where the net's file
    has names), probability (softmax of the scores) and scores; with --top also top, a list of the best classes.
    Of a folder every picture below it is classified. Where folders are called like the net's classes, what they say is
    compared with what the net sees: accuracy, and which classes are confused.
    Exit code 0: all classified; 2: wrong arguments, or images that cannot be read; the others are classified.
    """

    net: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="NET")]
    """Packed file, written by bitorch deploy."""
    images: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGE|FOLDER …")]
    """PNG, JPEG and what else Pillow reads, or .npy: uint8 or floats in [0, 1], one image or a batch. Or folders."""
    resize: bool = False
    """Resize images of another size bilinearly, instead of refusing them."""
    top: int | None = None
    """Also list so many of the best classes, with their probabilities."""
    csv: Path | None = None
    """Write a line for each picture to this file: file, index, label (as its folder is called), class, predicted,
    probability and right."""
    confusions: Path | None = None
    """Write how often pictures of each class were seen as each class to this CSV file."""
    json: bool = False
    """Print a line of JSON for each picture of folders, too, and their summaries on stderr."""


def run(arguments: list[str]) -> int:
    """Print a line for each image, and a summary for each folder."""
    options = parse(_Arguments, arguments, "bitorch predict")
    try:
        _check_places(options)
        _check_files(options.images)
        # Only here: PyTorch takes seconds to import, for which --help and a wrong flag need not wait.
        from .packed_prediction import Prediction
        from .pictures_below import pictures_below

        folders = {path: pictures_below(path) for path in options.images if path.is_dir()}
        command = _Command(options, Prediction(options.net, options.top))
    except (ValueError, TypeError, OSError) as error:
        return print_error(error)
    for path in options.images:
        if path in folders:
            command.classify_folder(folders[path])
        else:
            command.classify_file(path)
    try:
        command.write_tables()
    except OSError as error:
        return print_error(error)
    return command.code


class _Command:
    """What one call of the command prints and writes.

    Attributes:
        code: the exit code so far.
    """

    def __init__(self, options: _Arguments, prediction: Prediction) -> None:
        from .folder_prediction import Tally
        from .prediction_tables import CsvLines

        self.code = 0
        self._options, self._prediction = options, prediction
        self._text = io.StringIO()
        self._lines = CsvLines(self._text)
        self._all = Tally(prediction.classes)

    def classify_file(self, path: Path) -> None:
        """Print a line for each image of a file."""
        from .folder_prediction import Seen

        try:
            for line in self._prediction.lines(path, resize=self._options.resize):
                print(json.dumps(line, ensure_ascii=False))
                self._lines.write(Seen(path, line.get("index"), None, line))
        except (ValueError, OSError) as error:
            self._say(error)

    def classify_folder(self, found: PicturesBelow) -> None:
        """Classify the pictures of a folder, and print the summary."""
        from rich.console import Console
        from rich.progress import track

        from .folder_prediction import Tally, classify_folder
        from .prediction_tables import summary

        tally = Tally(self._prediction.classes)
        files = classify_folder(self._prediction, found, resize=self._options.resize, on_problem=self._say)
        console, quiet = Console(stderr=True), not sys.stderr.isatty()
        count = len(found.pictures)
        for file in track(files, "classifying", count, console=console, transient=True, disable=quiet):
            tally.unreadable += not file
            for seen in file:
                self._add(seen, tally)
        print(summary(tally, found), file=sys.stderr if self._options.json else sys.stdout)

    def write_tables(self) -> None:
        """Write the CSV files that were asked for; OSError if one cannot be written."""
        from .prediction_tables import confusions_csv

        if self._options.csv is not None:
            write_text(self._options.csv, self._text.getvalue())
        if self._options.confusions is not None:
            write_text(self._options.confusions, confusions_csv(self._all))

    def _add(self, seen: Seen, tally: Tally) -> None:
        for counts in (tally, self._all):
            counts.add(seen)
        self._lines.write(seen)
        if self._options.json:
            index = {} if seen.index is None else {"index": seen.index}
            line = {"file": str(seen.path), **index, "folder": seen.label, **seen.line}
            print(json.dumps(line, ensure_ascii=False))

    def _say(self, error: Exception) -> None:
        self.code = print_error(error)


def _check_places(options: _Arguments) -> None:
    for flag, path in (("--csv", options.csv), ("--confusions", options.confusions)):
        if path is not None:
            check_place(flag, path, f"{flag[2:]}.csv")


def _check_files(paths: tuple[Path, ...]) -> None:
    """Raise an error unless all images are there, so that a typing error does not show after an hour."""
    if not paths:
        raise ValueError("name at least one image file, or a folder of pictures")
    for path in paths:
        if not path.is_file() and not path.is_dir():
            raise FileNotFoundError(f"there is no image file or folder {path}")
