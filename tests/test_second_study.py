"""The pages of the second study say what its scripts print."""

import runpy
import sys
from pathlib import Path

import pytest

STUDY = Path(__file__).parents[1] / "docs/study"


@pytest.mark.parametrize("script", ["second.py", "votes.py"])
def test_its_blocks_are_what_the_scripts_print(script, monkeypatch, capsys):
    monkeypatch.syspath_prepend(STUDY)
    monkeypatch.setattr(sys, "argv", [script])
    runpy.run_path(str(STUDY / script), run_name="__main__")
    printed = capsys.readouterr().out.strip()
    assert len(printed.splitlines()) > 3
    assert printed in (STUDY / "second.md").read_text()


def test_the_picture_can_be_drawn(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(STUDY)
    import forest

    file = tmp_path / "forest.png"
    forest.draw(file)
    assert file.stat().st_size > 10_000
    drawn = {row.comparison for row in forest.rows() if isinstance(row, forest.Row)} - {None}
    assert set((STUDY / "second").glob("*.json")) == drawn
