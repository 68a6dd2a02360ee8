"""The pictures of docs/gallery.md, drawn by the commands and snippets that stand above them. `make gallery` runs this.

A picture of a command is what it prints, as a terminal shows it; a command that writes a page is shown by that page in
Chromium; a snippet leaves what is drawn in `figure`.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from rich.console import Console
from rich.text import Text

from bitorch.atomic_file import write_and_rename
from bitorch.cli import main as bitorch
from recipe import run

_DOCS = Path(__file__).parent.parent / "docs"
_BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```\n(?:\n!\[[^\]]*\]\(gallery/([\w.-]+)\))?", re.DOTALL | re.MULTILINE)
#: Screens may have twice the pixels of a page.
_DPI = 200
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_WINDOW = (1400, 880)
#: Columns of the terminal: a page of the site shows about as many.
_COLUMNS = 100


@dataclass(frozen=True)
class Options:
    """Draw the pictures of the gallery."""

    page: Path = _DOCS / "gallery.md"
    """The page."""
    out: Path = _DOCS / "gallery"
    """Folder of the pictures."""


@dataclass(frozen=True)
class Block:
    """A command or snippet of the page, and the file of the picture below it, "" if there is none."""

    language: str
    text: str
    picture: str


def blocks(page: str) -> list[Block]:
    """Return the commands and snippets of a page, in their order."""
    return [Block(language, text, picture) for language, text, picture in _BLOCK.findall(page)]


def main(options: Options) -> None:
    mpl.use("agg")
    found = blocks(options.page.read_text(encoding="utf-8"))
    out = options.out.resolve()
    out.mkdir(exist_ok=True)
    for old in {path.name for path in out.iterdir()} - {block.picture for block in found}:
        (out / old).unlink()
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            draw(found, out)
        finally:
            os.chdir(before)


def draw(found: list[Block], out: Path) -> None:
    """Run the blocks of a page in the current folder, and draw the pictures that stand below them into another one."""
    namespace: dict[str, object] = {"__name__": "gallery"}
    for block in found:
        if block.language == "python":
            exec(compile(block.text, "gallery.md", "exec"), namespace)
            if block.picture:
                draw_figure(namespace["figure"], out / block.picture)
            continue
        printed = list(run_commands(block.text))
        if block.picture.endswith(".svg"):
            draw_terminal(printed, out / block.picture)
        elif block.picture:
            draw_page(next(Path().glob("*.html")), out / block.picture)


def run_commands(text: str) -> Iterator[tuple[str, str]]:
    """Run commands, and yield each with what it prints.

    Raises:
        RuntimeError: a command failed.
    """
    os.environ["COLUMNS"] = str(_COLUMNS)
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] != ["bitorch"]:
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = bitorch(words[1:])
        if code != 0:
            raise RuntimeError(f"{line} ended with {code}: {printed.getvalue()}")
        yield line, printed.getvalue()


def draw_terminal(printed: list[tuple[str, str]], path: Path) -> None:
    """Write what commands have printed as an SVG that looks like a terminal, and loads nothing."""
    console = Console(record=True, width=_COLUMNS, file=io.StringIO())
    for number, (line, text) in enumerate(printed):
        console.print(Text(("\n" if number else "") + f"$ {line}", style="bold"))
        console.print(Text(text.rstrip()))
    svg = re.sub(r"@font-face \{.*?\}", "", console.export_svg(title="bitorch", unique_id="gallery"), flags=re.DOTALL)
    svg = "\n".join(line.rstrip() for line in svg.splitlines() if line.strip()) + "\n"
    write_and_rename(path, lambda file: file.write(svg.encode()))


def draw_figure(figure: object, path: Path) -> None:
    """Write a figure of matplotlib as a PNG."""
    if not isinstance(figure, Figure):
        raise TypeError(f"the snippet above {path.name} must leave a Figure in `figure`, got {figure!r}")
    write_and_rename(path, lambda file: figure.savefig(file, format="png", dpi=_DPI))


def draw_page(page: Path, path: Path) -> None:
    """Write what Chromium shows of a page as a PNG.

    Raises:
        FileNotFoundError: there is no Chromium.
    """
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        raise FileNotFoundError("a picture of a page needs Chromium: apt-get install chromium")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
    size = f"--window-size={_WINDOW[0]},{_WINDOW[1]}"
    command = [browser, *options, size, f"--screenshot={path}", page.resolve().as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


if __name__ == "__main__":
    run(main, Options)
