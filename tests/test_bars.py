"""Bars are seen on a terminal, and nowhere else."""

import sys

from vec2text.bars import bar


def test_a_bar_moves_on_a_terminal_and_goes(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    with bar("refining") as show:
        show(0.25)
    assert "refining" in capsys.readouterr().err


def test_nothing_is_shown_where_there_is_no_terminal(capsys):
    with bar("refining") as show:
        show(0.25)
    assert capsys.readouterr() == ("", "")
