"""Extras: packages that not everyone needs, imported when they are asked for.

Knows nothing of what they do.
"""

from __future__ import annotations

import importlib
from types import ModuleType


def extra(module: str, extra: str) -> ModuleType:
    """A module of a package that not everyone needs.

    Args:
        module: its name.
        extra: what `pip install 'vec2text-gpt[...]'` calls the package.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"{error}: install it with `pip install 'vec2text-gpt[{extra}]'`") from error
