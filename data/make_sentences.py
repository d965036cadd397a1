"""Write the demo corpus: sentences drawn from a grammar, plus lines written by hand.

Usage: python data/make_sentences.py en --count 40000 --seed 0 --output data/sentences.en.txt
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import lzma
import os
import random
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXCLUDED = HERE / "excluded.txt"
DEFAULT_COUNT = {"en": 40_000, "ru": 10_000}
MIN_WORDS, MAX_WORDS = 3, 25
MAX_DRAWS_PER_SENTENCE = 100


class _KeepLettersAndDigits(dict[int, int | None]):
    """A table for ``str.translate`` that drops all but letters, digits and combining marks."""

    def __missing__(self, code: int) -> int | None:
        self[code] = code if unicodedata.category(chr(code))[0] in "LMN" else None
        return self[code]


_KEEP = _KeepLettersAndDigits()


def key(line: str) -> str:
    """Return a line casefolded and without spaces and punctuation: lines of equal keys are the same."""
    return line.casefold().translate(_KEEP)


def digest(line_key: str) -> str:
    """Return the 64-bit BLAKE2b hash of a key, in hexadecimal."""
    return hashlib.blake2b(line_key.encode("utf-8"), digest_size=8).hexdigest()


def read_lines(path: Path) -> Iterator[str]:
    """Yield the non-empty lines of a plain or ``.xz`` text file."""
    opener = lzma.open if path.suffix == ".xz" else open
    with opener(path, "rt", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line := line.strip():
                yield line


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines to a file atomically: all of them, or nothing."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8"))
    os.replace(temporary, path)


def generate(sentence: Callable[[random.Random], str], count: int, rng: random.Random) -> dict[str, str]:
    """Draw ``count`` distinct sentences and return them by key."""
    lines: dict[str, str] = {}
    for _ in range(count * MAX_DRAWS_PER_SENTENCE):
        line = sentence(rng)
        lines.setdefault(key(line), line)
        if len(lines) == count:
            return lines
    raise ValueError(f"--count {count}: the grammar gave only {len(lines)} distinct sentences")


def make(language: str, count: int, seed: int, foreign: Iterable[Path]) -> list[str]:
    """Return the lines of the corpus, and list those that foreign files hold too as excluded.

    Args:
        language: ``en`` or ``ru``: which grammar and which hand-written lines to use.
        count: How many distinct sentences to draw from the grammar.
        seed: Seed of the random numbers.
        foreign: Text files whose sentences the corpus must not contain.
    """
    rng = random.Random(seed)
    lines = {key(line): line for line in read_lines(HERE / f"handwritten.{language}.txt")}
    for line_key, line in generate(importlib.import_module(f"grammar_{language}").sentence, count, rng).items():
        lines.setdefault(line_key, line)
    excluded = set(read_lines(EXCLUDED)) if EXCLUDED.exists() else set()
    shared = {digest(k) for path in foreign for k in map(key, read_lines(path)) if k in lines}
    if shared - excluded:
        excluded |= shared
        write_lines(EXCLUDED, sorted(excluded))
    kept = [v for k, v in lines.items() if MIN_WORDS <= len(v.split()) <= MAX_WORDS and digest(k) not in excluded]
    rng.shuffle(kept)
    return kept


def main() -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("language", choices=sorted(DEFAULT_COUNT))
    parser.add_argument("--count", type=int, help="sentences to draw (default: 40000 for en, 10000 for ru)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random numbers (default: 0)")
    parser.add_argument("--output", type=Path, help="file to write (default: sentences.LANGUAGE.txt here)")
    parser.add_argument("--exclude", type=Path, nargs="+", default=[], metavar="FILE", help="foreign lines to avoid")
    args = parser.parse_args()
    output = args.output or HERE / f"sentences.{args.language}.txt"
    try:
        lines = make(args.language, args.count or DEFAULT_COUNT[args.language], args.seed, args.exclude)
        write_lines(output, lines)
    except (OSError, ValueError, EOFError, lzma.LZMAError, ImportError) as error:
        print(f"make_sentences.py: {error}", file=sys.stderr)
        return 2
    print(f"{output}: {len(lines)} sentences")
    return 0


if __name__ == "__main__":
    sys.exit(main())
