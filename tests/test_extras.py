"""A package that not everyone needs is imported when it is there, and named with what installs it when it is not."""

import sys

import pytest

from vec2text.extras import extra


def test_what_is_installed_is_imported():
    import numpy.linalg

    assert extra("numpy.linalg", "anything") is numpy.linalg


def test_what_is_not_installed_is_one_line_that_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "gensim", None)
    with pytest.raises(ValueError, match=r"gensim.*: install it with `pip install 'vec2text-gpt\[words\]'`$"):
        extra("gensim", "words")
