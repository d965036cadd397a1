"""Memory of the corpus room: 10,000, 100,000 and 1,000,000 sentences are cleaned, encoded, tokenised and batched.

Each size runs in a process of its own, with an encoder of random vectors, so that what is measured is ours. Printed is
the anonymous memory (what cannot be dropped; the pages of memory-mapped files can) at its peak, less that of the same
process before it began.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SIZES = (10_000, 100_000, 1_000_000)
DIMENSION = 384


def anonymous_memory() -> int:
    """Bytes of this process's anonymous resident memory."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon"))) * 1024


def measure(count: int) -> dict[str, float]:
    """Peak extra memory and seconds for `count` sentences."""
    import numpy as np

    from vec2text.batches import Examples
    from vec2text.cache import encode_corpus
    from vec2text.config import DataConfig, DecoderConfig
    from vec2text.corpus import build_corpus
    from vec2text.decoders import load_decoder
    from vec2text.fingerprint import Fingerprint

    class RandomEncoder:
        """Vectors that cost nothing, so that only the corpus is measured."""

        name, dimension = "random", DIMENSION

        def encode(self, texts: list[str]) -> np.ndarray:
            return np.random.default_rng(len(texts[0])).standard_normal((len(texts), DIMENSION)).astype(np.float32)

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
        before = peak = anonymous_memory()
        running = True

        def watch() -> None:
            nonlocal peak
            while running:
                peak = max(peak, anonymous_memory())
                time.sleep(0.02)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        start = time.perf_counter()
        corpus = build_corpus(DataConfig([str(path)], cache=place))
        vectors = encode_corpus(corpus, encoder, place, fingerprint)
        examples = Examples(corpus, corpus.rows("train"), vectors, tokenizer, 64)
        plan = examples.plan(8, 4096, 0, 0)
        for members in plan[:200]:
            examples.batch(members)
        seconds = time.perf_counter() - start
        running = False
        watcher.join()
    return {"sentences": count, "extra MiB": (peak - before) / 2**20, "seconds": seconds}


def main() -> None:
    """Measure every size in a fresh process and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of sentences")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one)))
        return
    rows = []
    for size in options.sizes:
        done = subprocess.run(
            [sys.executable, __file__, "--one", str(size)], capture_output=True, text=True, check=True
        )
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    print(f"{'sentences':>12}{'extra memory':>16}{'time, of the first row':>26}")
    for row in rows:
        ratio = row["seconds"] / rows[0]["seconds"]
        print(f"{row['sentences']:>12,}{row['extra MiB']:>12.0f} MiB{ratio:>25.1f}x")


if __name__ == "__main__":
    main()
