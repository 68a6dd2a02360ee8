"""The gallery shows what its commands and snippets make."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import gallery

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "gallery.md"


def test_each_picture_stands_below_what_draws_it_and_is_small() -> None:
    text = PAGE.read_text(encoding="utf-8")
    blocks = gallery.blocks(text)
    shown = [block.picture for block in blocks if block.picture]
    assert shown == re.findall(r"\]\(gallery/(.+?)\)", text)
    assert sorted(shown) == sorted(path.name for path in (DOCS / "gallery").iterdir())
    assert len(blocks) == len(re.findall(r"^```\w+$", text, re.MULTILINE))
    assert max(path.stat().st_size for path in (DOCS / "gallery").iterdir()) < 300_000


def test_pictures_of_terminals_say_their_commands_and_load_nothing() -> None:
    blocks = gallery.blocks(PAGE.read_text(encoding="utf-8"))
    for block in blocks:
        if block.picture.endswith(".svg"):
            svg = (DOCS / "gallery" / block.picture).read_text(encoding="utf-8")
            assert "url(http" not in svg
            words = re.sub(r"&#160;|\s", " ", re.sub(r"<[^>]*>", "", svg))
            assert all(line.split(" -o")[0].replace("  ", " ") in words for line in block.text.splitlines())


def test_a_terminal_is_drawn_as_it_printed(tmp_path: Path) -> None:
    gallery.draw_terminal([("bitorch a", "one [1, 2]\n"), ("bitorch b", "two <3>\n")], tmp_path / "terminal.svg")
    svg = (tmp_path / "terminal.svg").read_text(encoding="utf-8")
    for text in ("$&#160;bitorch&#160;a", "one&#160;[1,&#160;2]", "$&#160;bitorch&#160;b", "two&#160;&lt;3&gt;"):
        assert text in svg
    assert "font-face" not in svg


def test_a_command_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError, match=r"^bitorch eval none\.ckpt ended with 2"):
        list(gallery.run_commands("bitorch eval none.ckpt\n"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning's own use of a PyTorch name
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_the_page_draws_its_pictures(tmp_path: Path) -> None:
    if not any(map(shutil.which, gallery._BROWSERS)):
        pytest.skip("there is no Chromium")
    gallery.main(gallery.Options(out=tmp_path / "pictures"))
    drawn = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert drawn == {path.name for path in (DOCS / "gallery").iterdir()}
