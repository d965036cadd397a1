"""Bars are seen on a terminal, and nowhere else."""

import sys

from vec2text.bars import bar, only_downloads


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


def test_the_bars_of_transformers_are_away_for_a_while_and_those_of_downloads_stay():
    from huggingface_hub.utils import are_progress_bars_disabled
    from transformers.utils import logging

    assert logging.is_progress_bar_enabled()
    with only_downloads():
        assert not logging.is_progress_bar_enabled()
        assert not are_progress_bars_disabled()
    assert logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with only_downloads():
            assert are_progress_bars_disabled()
        assert not logging.is_progress_bar_enabled()  # whoever wants none gets none
    finally:
        logging.enable_progress_bar()
