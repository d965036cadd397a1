"""Scaling: memory and time as training sentences and inverted vectors become many.

Sentences are cleaned, encoded (by an encoder of random vectors, so that what is measured is ours), tokenised and
batched; vectors are inverted by generate.py itself with a GPT so small that reading and writing count. Each size runs
in a process of its own. Printed is the anonymous memory (what cannot be dropped; the pages of memory-mapped files can)
at its peak, in all and less that of the same process before it began; and the slope: by which power of the size time
has grown since the row above. 1 is linear.
"""

import argparse
import itertools
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

SENTENCES = (10_000, 100_000, 1_000_000)
VECTORS = (1_000, 10_000, 100_000, 1_000_000)
SENTENCE_DIMENSION = 384
VECTOR_DIMENSION = 64
FLAT_FROM = 10_000
"""Memory should stay the same from this many on."""
MAX_TOKENS = 4
"""Of the texts that the small GPT writes."""


def anonymous_memory() -> int:
    """Bytes of this process's anonymous resident memory."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon"))) * 1024


class Watch:
    """What goes on within takes so long and so much memory."""

    def __enter__(self) -> "Watch":
        self.before = self.peak = anonymous_memory()
        self._running = True
        self._watcher = threading.Thread(target=self._look, daemon=True)
        self._watcher.start()
        self._start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds = time.perf_counter() - self._start
        self._running = False
        self._watcher.join()

    def _look(self) -> None:
        while self._running:
            self.peak = max(self.peak, anonymous_memory())
            time.sleep(0.02)

    def found(self, count: int) -> dict[str, float]:
        """As a row."""
        memory = {"peak MiB": self.peak / 2**20, "extra MiB": (self.peak - self.before) / 2**20}
        return {"count": count, **memory, "seconds": self.seconds}


def measure_sentences(count: int) -> dict[str, float]:
    """So many training sentences, from the file to batches."""
    import numpy as np

    from vec2text.batches import Examples
    from vec2text.cache import encode_corpus
    from vec2text.config import DataConfig, DecoderConfig
    from vec2text.corpus import build_corpus
    from vec2text.decoders import load_decoder
    from vec2text.fingerprint import Fingerprint

    class RandomEncoder:
        """Vectors that cost nothing, so that only the corpus is measured."""

        name, dimension = "random", SENTENCE_DIMENSION

        def encode(self, texts: list[str]) -> np.ndarray:
            shape = (len(texts), SENTENCE_DIMENSION)
            return np.random.default_rng(len(texts[0])).standard_normal(shape).astype(np.float32)

    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "sentences.txt"
        with path.open("w") as file:
            for i in range(count):
                file.write(f"Sentence number {i} of this file says that {i % 97} birds sat in tree {i % 1013} today.\n")
        encoder = RandomEncoder()
        sizes = {"hidden_size": 64, "layers": 1, "heads": 1, "vocabulary_size": 1000, "dropout": 0.0}
        with path.open() as file:
            _, tokenizer = load_decoder(DecoderConfig("scratch", **sizes), itertools.islice(file, 1000), 80)
        fingerprint = Fingerprint.of(encoder)
        list(build_corpus(DataConfig([str(path)], limit=1000, cache=place)).texts)  # imports done, pools made
        with Watch() as watch:
            corpus = build_corpus(DataConfig([str(path)], cache=place))
            vectors = encode_corpus(corpus, encoder, place, fingerprint)
            examples = Examples(corpus, corpus.rows("train"), vectors, tokenizer, 64)
            plan = examples.plan(8, 4096, 0, 0)
            for members in plan[:200]:
                examples.batch(members)
    return watch.found(count)


def measure_vectors(count: int) -> dict[str, float]:
    """So many vectors through generate.py, from one file to another."""
    import numpy as np
    import torch

    import generate
    from vec2text.config import DecoderConfig, EncoderConfig, ProjectionConfig
    from vec2text.decoders import load_decoder
    from vec2text.fingerprint import Fingerprint
    from vec2text.inverter import Inverter

    def write(path: Path, rows: int) -> None:
        """Random vectors, a part at a time."""
        array = np.lib.format.open_memmap(path, "w+", np.float32, (rows, VECTOR_DIMENSION))
        for start in range(0, rows, 10_000):
            part = array[start : start + 10_000]
            part[:] = np.random.default_rng(start).standard_normal(part.shape)

    def invert(path: Path) -> None:
        arguments = ["--model", str(model), "--vector", str(path), "--max-new-tokens", str(MAX_TOKENS)]
        sys.argv = ["generate.py", *arguments, "--output", str(path.with_suffix(".txt"))]
        if generate.main():
            raise RuntimeError("generate.py failed")

    with tempfile.TemporaryDirectory() as place:
        model, few, many = (Path(place) / name for name in ("inverter", "few.npy", "many.npy"))
        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "layers": 1, "heads": 1, "vocabulary_size": 300, "dropout": 0.0}
        decoder, tokenizer = load_decoder(DecoderConfig("scratch", **sizes), ["A few words."], 16)
        space = Fingerprint(EncoderConfig("random", "object"), VECTOR_DIMENSION, False, VECTOR_DIMENSION**0.5, ())
        Inverter.build(ProjectionConfig("mlp", 2), decoder, tokenizer, space, MAX_TOKENS).save_pretrained(model)
        write(few, min(count, 600))
        write(many, count)
        invert(few)  # imports done, pools made
        with Watch() as watch:
            invert(many)
        with many.with_suffix(".txt").open() as file:
            assert sum(1 for _ in file) == count, "not a line for each vector"
    return watch.found(count)


KINDS = {"sentences": measure_sentences, "vectors": measure_vectors}


def apart(kind: str, count: int) -> dict[str, Any]:
    """A row, measured in a fresh process."""
    command = [sys.executable, __file__, "--one", kind, str(count)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def slope(row: dict[str, float], before: dict[str, float]) -> float:
    """The power of the size by which time has grown."""
    return math.log(row["seconds"] / before["seconds"]) / math.log(row["count"] / before["count"])


def main(arguments: list[str] | None = None) -> None:
    """Measure every size, print a table of each kind, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sentences", type=int, nargs="*", default=SENTENCES, help="numbers of training sentences")
    parser.add_argument("--vectors", type=int, nargs="*", default=VECTORS, help="numbers of vectors to invert")
    parser.add_argument("--output", default="runs/scaling", metavar="STEM", help="write STEM.json")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        kind, count = options.one
        print(json.dumps(KINDS[kind](int(count))))
        return
    report: dict[str, list[dict[str, Any]]] = {}
    for kind in KINDS:
        rows = report[kind] = []
        sizes = sorted(getattr(options, kind))
        heads = ("a second", "peak memory", "of that its own", "slope of time")
        print(f"{kind:>12}{''.join(head.rjust(18) for head in heads)}", flush=True)
        for size in sizes:
            row = apart(kind, size)
            row |= {"rate": size / row["seconds"], "slope": slope(row, rows[-1]) if rows else None}
            rows.append(row)
            memory = [f"{row[name]:,.0f} MiB" for name in ("peak MiB", "extra MiB")]
            cells = (f"{row['rate']:,.0f}", *memory, "" if row["slope"] is None else f"{row['slope']:.2f}")
            print(f"{size:>12,}{''.join(cell.rjust(18) for cell in cells)}", flush=True)
        from_10k = [row for row in rows if row["count"] >= FLAT_FROM]
        if len(from_10k) > 1:
            first, last = from_10k[0], from_10k[-1]
            growth = last["peak MiB"] / first["peak MiB"]
            print(f"peak memory from {first['count']:,} to {last['count']:,}: x {growth:.3f}")
        print()
    Path(options.output).parent.mkdir(parents=True, exist_ok=True)
    Path(f"{options.output}.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
