"""Speed: training, decoding, embedding, refinement and start-up, each against what people would do otherwise.

Every figure stands beside another that was measured in turn with it, in this process or in processes started from it;
what counts is their ratio, of which the median over the rounds and the least and greatest are given. Where there is a
GPU, all is measured on it too. Without --model the GPT has random weights, and every text --max-tokens tokens: real
texts end at different times, so give a trained inverter for figures that tell how fast it is in use.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here may wait for a network

import numpy as np
import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from peaks import Floor, Reading, square, step_products, training_operations
from rivals import OriginalTraining, TrainerTraining, as_others_open_it, generate, original_decoding, published_encoder
from turns import Line, compare, in_turn, rate, synchronize, table

from vec2text.batches import Batch, Data, Examples
from vec2text.cache import Vectors, encode_corpus
from vec2text.config import DataConfig, DecoderConfig, EncoderConfig, ProjectionConfig, TrainingConfig
from vec2text.corpus import Corpus, build_corpus
from vec2text.decoders import load_decoder
from vec2text.encoders import Encoder, encode_checked, load_encoder
from vec2text.fingerprint import Fingerprint
from vec2text.hardware import bf16
from vec2text.inverter import Inverter
from vec2text.refinement import refine
from vec2text.sources import read_sentences
from vec2text.training import fit
from vec2text.vectors import unit

ROOT = Path(__file__).resolve().parent.parent
DIMENSION = 384
"""Of the vectors of a GPT with random weights."""
SHARD = 2048
"""Vectors in one piece of what stands in for a cache."""
QUICK = {
    "width": 32, "layers": 1, "vocabulary": 300, "limit": 200, "batch_tokens": 256, "steps": 2, "sorted_steps": 2,
    "warm_steps": 1,
    "rounds": 2, "least": 0.0, "counts": [1, 3], "max_tokens": 4, "original": 2, "embedded": 40, "refined": 2,
    "square": 64, "memory": 1,
}  # fmt: skip
"""Sizes with which every line of code is run and nothing is measured."""


class Bench:
    """What the rows share: the inverter, sentences, vectors and the hardware's peaks.

    Args:
        options: the command line.
        device: `cpu` or `cuda`.
        folder: for what is written on the way.
    """

    def __init__(self, options: argparse.Namespace, device: str, folder: Path) -> None:
        self.options, self.device, self.folder = options, device, folder
        self.bf16 = bf16("auto", device)
        self.dtype = torch.bfloat16 if self.bf16 else torch.float32
        self.square = square(options.square, self.dtype, device)

    def in_turn(self, contenders: dict[str, Callable[[], float]], *, warm: bool = True) -> dict[str, list[float]]:
        """The rates of contenders, round by round."""
        return in_turn(contenders, self.options.rounds, warm=warm)

    def rate(self, work: Callable[[], Any], amount: float) -> float:
        """How much is done a second."""
        return rate(work, amount, self.device, self.options.least)

    @cached_property
    def corpus(self) -> Corpus:
        """Sentences, with enough for validation that training can begin."""
        options = self.options
        cache = str(self.folder / "corpus")
        return build_corpus(DataConfig([options.texts], limit=options.limit, cache=cache, validation=0.05, test=0.05))

    @cached_property
    def model(self) -> Path:
        """The folder of the inverter: the one that was named, or a new one with random weights."""
        options = self.options
        if options.model:
            return Path(options.model)
        torch.manual_seed(0)
        sizes = {"hidden_size": options.width, "layers": options.layers, "heads": max(1, options.width // 64)}
        config = DecoderConfig("scratch", vocabulary_size=options.vocabulary, dropout=0.0, **sizes)
        decoder, tokenizer = load_decoder(config, self.corpus.texts, 64 + options.prefix)
        if len(tokenizer) < options.vocabulary:  # the sentences hold too little for so many
            decoder.resize_token_embeddings(options.vocabulary)
        space = Fingerprint(EncoderConfig(), DIMENSION, True, 1.0, ())
        Inverter.build(ProjectionConfig("mlp", options.prefix), decoder, tokenizer, space, 64).save_pretrained(
            self.folder / "inverter"
        )
        return self.folder / "inverter"

    def inverter(self, precision: str = "fp32") -> Inverter:
        """A copy of the inverter of one's own."""
        return Inverter.from_pretrained(self.model, device=self.device, precision=precision)

    @cached_property
    def max_tokens(self) -> int | None:
        """Of the texts that are written; None: the trained inverter's own limit."""
        return None if self.options.model and not self.options.quick else self.options.max_tokens

    @cached_property
    def given(self) -> np.ndarray:
        """Vectors (N, D) that are inverted: a file's, some sentences', or for random weights random ones."""
        options, fingerprint = self.options, self.inverter().fingerprint
        if options.vectors:
            return np.load(options.vectors).astype(np.float32)
        if options.model:  # on random vectors a trained inverter writes what no text is like
            encoder = fingerprint.open_encoder(None, self.device)
            texts = read_sentences(options.heldout or options.texts)[:1024]
            return encode_checked(encoder, texts, fingerprint.dimension)
        return unit(np.random.default_rng(0).standard_normal((1024, fingerprint.dimension)).astype(np.float32))

    def vectors(self, count: int) -> np.ndarray:
        """So many of them (count, D), again from the first where there are fewer."""
        return np.resize(self.given, (count, self.given.shape[1]))

    def hardware(self) -> str:
        """What this is measured on."""
        reached = f"{'bf16' if self.bf16 else 'fp32'} products at {self.square.rate(self.options.least) / 1e12:.2g}"
        if self.device == "cpu":
            return f"cpu, {torch.get_num_threads()} cores, {reached} TFLOP/s"
        return f"{torch.cuda.get_device_name()}, {reached} TFLOP/s"

    def describe(self) -> str:
        """The GPT in words."""
        if self.options.model:
            return f"trained inverter {self.model.name} in {self.model.resolve().parent.name}"
        sizes = self.options
        return (
            f"random weights, width {sizes.width}, {sizes.layers} layers, vocabulary {sizes.vocabulary}, "
            f"prefix {sizes.prefix}"
        )


# -- training ----------------------------------------------------------------------------------------------------


class _EnoughError(Exception):
    """All steps that are timed are done."""


class _Clocked(Examples):
    """Training examples that know when they were asked for: between two batches lies one step of fit(), whole.

    Args:
        steps: that are timed.
        warm: steps before these.
        device: that has to be waited for.
        *arguments: of Examples.
    """

    def __init__(self, steps: int, warm: int, device: str, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.steps, self.warm, self.device = steps, warm, device
        self.start_over()

    def start_over(self) -> None:
        """Forget what was timed."""
        self.timed: list[np.ndarray] = []
        """Lengths of the texts of each timed batch."""
        self.seconds, self._asked, self._start = 0.0, 0, 0.0

    def batch(self, members: np.ndarray) -> Batch:
        """The next batch; after the last one that counts there is none."""
        if self._asked == self.warm:
            synchronize(self.device)
            self._start = time.perf_counter()
        if self._asked == self.warm + self.steps:
            synchronize(self.device)
            self.seconds = time.perf_counter() - self._start
            raise _EnoughError
        if self._asked >= self.warm:
            self.timed.append(self.lengths[members])
        self._asked += 1
        return super().batch(members)


def training(bench: Bench) -> Iterator[Line]:
    """Text tokens a second of fit(), of the original loop and of Trainer; the share of the peak that fit() reaches."""
    options, device = bench.options, bench.device
    warm = options.warm_steps or (40 if bench.bf16 else 5)
    ours = bench.inverter()
    ours.correction = None  # plain inversion only
    original, trained = (as_others_open_it(bench.inverter()) for _ in range(2))
    corpus = bench.corpus
    every = bench.vectors(len(corpus.texts))
    vectors = Vectors(np.split(every, range(SHARD, len(every), SHARD)))
    prefix = ours.projection.config.prefix_length
    # The others read a text's end as well, and need a position for it.
    longest = min(ours.max_tokens, ours.decoder.config.max_position_embeddings - prefix - 1)
    rest = (vectors, ours.tokenizer, longest)
    clocked = _Clocked(options.steps, warm, device, corpus, corpus.rows("train"), *rest)
    others = [Examples(corpus, corpus.rows(name), *rest) for name in ("validation", "test")]
    data = Data(corpus, vectors, clocked, *others, encoder=None)
    config = TrainingConfig(
        steps=10**6, batch_tokens=options.batch_tokens, evaluate_every=10**6, sample_every=10**6, checkpoint_every=10**6
    )
    operations: list[float] = []

    def fitted() -> float:
        """Tokens a second."""
        clocked.start_over()
        fresh = bench.inverter()
        fresh.correction = None
        with tempfile.TemporaryDirectory(dir=bench.folder) as place, contextlib.ExitStack() as silent:
            silent.enter_context(contextlib.redirect_stdout(io.StringIO()))
            silent.enter_context(contextlib.suppress(_EnoughError))
            fit(fresh, data, config, Path(place))
        operations.append(sum(training_operations(ours, lengths) for lengths in clocked.timed) / clocked.seconds)
        return sum(float(lengths.sum()) + len(lengths) for lengths in clocked.timed) / clocked.seconds

    batches = [clocked.lengths[members] for members in clocked.plan(prefix, options.batch_tokens, config.seed, 0)]
    sentences = max(1, round(float(np.mean([len(batch) for batch in batches]))))
    ids = _token_ids(clocked)
    own = every[clocked.rows]
    loop = OriginalTraining(original, ids, own)
    folder = bench.folder / "trainer"
    trainer = TrainerTraining(trained, ids, own, batch=sentences, bf16=bench.bf16, folder=folder)
    default = TrainerTraining(trained, ids, own, batch=None, bf16=bench.bf16, folder=folder)
    products = step_products(ours, batches, bench.dtype, device)

    def looped() -> float:
        synchronize(device)
        start = time.perf_counter()
        tokens = loop.run(max(1, options.steps // 2))
        synchronize(device)
        return tokens / (time.perf_counter() - start)

    found = bench.in_turn(
        {
            "ours": fitted,
            "original": looped,
            "trainer": lambda: trainer.run(options.sorted_steps, warm),
            "default": lambda: default.run(options.sorted_steps, warm),
            "shapes": lambda: products.rate(options.least),
            "square": lambda: bench.square.rate(options.least),
        }
    )
    done = operations[-options.rounds :]
    what = f"batches of {sentences} sentences"
    padded = f"batch 16, padded to {loop.longest} tokens, fp32"
    yield compare("training", what, "original loop", "tokens/s", found["ours"], found["original"], padded)
    remark = f"{'bf16' if bench.bf16 else 'fp32'}, grouped by length, its default attention"
    for name, against in (("trainer", "Trainer, batches as large"), ("default", "Trainer, its batches of 8")):
        yield compare("training", what, against, "tokens/s", found["ours"], found[name], remark)
    for name, against in (("shapes", "peak of the model's shapes"), ("square", "peak of a square product")):
        peak = [reached / 1e12 for reached in found[name]]
        yield compare("training", what, against, "TFLOP/s", [reached / 1e12 for reached in done], peak)


def _token_ids(examples: Examples) -> list[np.ndarray]:
    """The token ids of each example."""
    rows = []
    for members in np.array_split(np.arange(len(examples)), max(1, len(examples) // 1000)):
        batch = Examples.batch(examples, members)
        rows += [ids[:length].numpy() for ids, length in zip(batch.ids, batch.lengths.tolist(), strict=True)]
    return rows


# -- decoding ----------------------------------------------------------------------------------------------------

MODES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "greedy": ({}, {"num_beams": 1, "do_sample": False}),
    "4 beams": ({"num_beams": 4}, {"num_beams": 4, "do_sample": False}),
    "sampling": (
        {"temperature": 0.7, "top_p": 0.9, "seed": 0},
        {"num_beams": 1, "do_sample": True, "temperature": 0.7, "top_p": 0.9, "top_k": 0},
    ),
}
"""How texts are chosen, in our words and in those of transformers."""


def decoding(bench: Bench) -> Iterator[Line]:
    """Sentences a second of invert(), of the original loop and of generate(); the share of what is possible at most."""
    inverter, plain = bench.inverter("bf16" if bench.bf16 else "fp32"), as_others_open_it(bench.inverter())
    reading = Reading(bench.options.memory << 20, bench.device)
    for count in bench.options.counts:
        for mode in MODES:
            yield from _decoded(bench, inverter, plain, reading, count, mode)
    yield from _agreement(bench, bench.inverter())


def _decoded(
    bench: Bench, inverter: Inverter, plain: Inverter, reading: Reading, count: int, mode: str
) -> Iterator[Line]:
    """So many vectors decoded in one way; `plain` is the inverter in fp32, as others open it."""
    options, (mine, theirs) = bench.options, MODES[mode]
    limit, size = bench.max_tokens or inverter.max_tokens, min(count, options.batch_size)
    vectors = bench.vectors(count)
    rows = torch.from_numpy(vectors)
    some = rows[: options.original]  # one at a time, so that more would take as much longer
    written: dict[str, list[str]] = {}
    other = as_others_open_it(inverter)

    def ours() -> None:
        written["ours"] = inverter.invert(vectors, max_tokens=limit, batch_size=size, **mine)

    def generated() -> None:
        written["theirs"] = generate(other, rows, limit, size, **theirs)

    contenders = {"ours": lambda: bench.rate(ours, count), "generate": lambda: bench.rate(generated, count)}
    if mode == "greedy":
        contenders["original"] = lambda: bench.rate(lambda: original_decoding(plain, some, limit), len(some))
    contenders["peak"] = lambda: bench.square.rate(options.least)
    contenders["bandwidth"] = lambda: reading.rate(options.least)
    found = bench.in_turn(contenders)
    what, unit = f"{count:,} vectors, {mode}", "sentences/s"
    same = np.mean([a == b for a, b in zip(written["ours"], written["theirs"], strict=True)])
    alike = "" if mode == "sampling" else f"the same text for {same:.0%}"
    yield compare("decoding", what, "generate", unit, found["ours"], found["generate"], alike)
    if mode == "greedy":
        timed = f"timed on {len(some)}, fp32"
        yield compare("decoding", what, "original loop", unit, found["ours"], found["original"], timed)
    floor = Floor(inverter, _lengths(inverter, written["ours"], limit), mine.get("num_beams", 1))
    peaks = zip(found["peak"], found["bandwidth"], strict=True)
    fastest = [count / floor.seconds(peak, bandwidth) for peak, bandwidth in peaks]
    speed = f"memory is read at {np.median(found['bandwidth']) / 1e9:.3g} GB/s"
    yield compare("decoding", what, "floor", unit, found["ours"], fastest, speed)


def _agreement(bench: Bench, plain: Inverter) -> Iterator[Line]:
    """In fp32, where nothing but the way of working differs: the share of greedy texts that are generate's."""
    vectors, limit = bench.vectors(64), bench.max_tokens or plain.max_tokens
    ours = plain.invert(vectors, max_tokens=limit)
    other = as_others_open_it(plain)
    theirs = generate(other, torch.from_numpy(vectors), limit, len(vectors), num_beams=1, do_sample=False)
    same = float(np.mean([a == b for a, b in zip(ours, theirs, strict=True)]))
    yield compare("decoding", f"{len(vectors)} vectors, greedy, fp32", "generate", "same texts", [same], [1.0])


def _lengths(inverter: Inverter, texts: list[str], limit: int) -> np.ndarray:
    """Tokens that were written for each text, its end included."""
    found = inverter.tokenizer(texts, add_special_tokens=False)["input_ids"]
    # Texts that random weights write are not of the tokens that a tokenizer makes of them.
    trained = bool(inverter.training_summary)
    return np.array([min(len(ids) + 1, limit) if trained else limit for ids in found])


# -- embedding ---------------------------------------------------------------------------------------------------


def embedding(bench: Bench) -> Iterator[Line]:
    """Sentences a second of the corpus's cache and of SentenceTransformer.encode with its defaults."""
    options, device = bench.options, bench.device
    published = published_encoder(options.encoder, device)
    place = str(bench.folder / "embedded")
    corpus = build_corpus(DataConfig([options.texts], limit=options.embedded, cache=place))
    texts = list(corpus.texts)
    made: dict[str, np.ndarray] = {}

    def cached(encoder: Encoder, fingerprint: Fingerprint, name: str) -> float:
        with tempfile.TemporaryDirectory(dir=bench.folder) as cache, contextlib.redirect_stderr(io.StringIO()):
            synchronize(device)
            start = time.perf_counter()
            vectors = encode_corpus(corpus, encoder, cache, fingerprint)
            seconds = time.perf_counter() - start
            made[name] = vectors[np.arange(len(texts))]
        return len(texts) / seconds

    def theirs() -> float:
        start = time.perf_counter()
        made["theirs"] = published.encode(texts, show_progress_bar=False)
        return len(texts) / (time.perf_counter() - start)

    # What an encoder of lower precision gives is not quite the same, so that one has to ask for it.
    encoders = {
        name: load_encoder(EncoderConfig(options.encoder, precision=name), device)
        for name in ("fp32", *(["bf16"] if bench.bf16 else []))
    }
    ours = {name: partial(cached, encoder, Fingerprint.of(encoder), name) for name, encoder in encoders.items()}
    found = bench.in_turn({**ours, "theirs": theirs})
    words = [len(text.split()) for text in texts]
    for name in encoders:
        products = (made[name] * made["theirs"]).sum(1)
        lengths = np.linalg.norm(made[name], axis=1) * np.linalg.norm(made["theirs"], axis=1)
        what = f"{len(texts):,} texts of {min(words)} to {max(words)} words, {name}"
        remark = f"least cosine of the two vectors of a text {float((products / lengths).min()):.5f}"
        against = "SentenceTransformer.encode"
        yield compare("embedding", what, against, "sentences/s", found[name], found["theirs"], remark)


# -- refinement --------------------------------------------------------------------------------------------------


def refinement(bench: Bench) -> Iterator[Line]:
    """Sentences a second of refinement and of one greedy pass, and what an exact sentence costs in encoder queries."""
    options = bench.options
    inverter = bench.inverter()
    encoder = inverter.fingerprint.open_encoder(None, bench.device)
    references = read_sentences(options.heldout)[: options.refined]
    vectors = encode_checked(encoder, references, inverter.fingerprint.dimension)
    remark = ""

    def refined() -> float:
        nonlocal remark
        start = time.perf_counter()
        found = refine(inverter, encoder, vectors)
        seconds = time.perf_counter() - start
        exact = sum(one.text == reference for one, reference in zip(found, references, strict=True))
        queries = sum(one.queries for one in found)
        cost = f"{queries / exact:.1f} queries each" if exact else "no exact text"
        remark = f"{exact} of {len(references)} exact, {queries / len(references):.1f} queries a sentence, {cost}"
        return len(references) / seconds

    def greedy() -> float:
        return bench.rate(lambda: inverter.invert(vectors), len(vectors))

    found = bench.in_turn({"refined": refined, "greedy": greedy})
    exact = np.mean([a == b for a, b in zip(inverter.invert(vectors), references, strict=True)])
    what = f"{len(references)} sentences, 5 rounds of 4 candidates"
    remark += f"; greedy {exact:.0%} exact"
    yield compare("refinement", what, "one greedy pass", "sentences/s", found["refined"], found["greedy"], remark)


# -- start-up ----------------------------------------------------------------------------------------------------


def startup(bench: Bench) -> Iterator[Line]:
    """From the command to its end: one vector's text, and the imports that it cannot do without."""
    one = bench.folder / "one.npy"
    np.save(one, bench.vectors(1))
    generating = ["generate.py", "--model", str(bench.model.resolve()), "--vector", str(one)]
    commands = {
        "generate.py": [*generating, "--max-new-tokens", str(bench.max_tokens)] if bench.max_tokens else generating,
        "import vec2text": ["-c", "import vec2text"],
        "import torch": ["-c", "import torch"],
        "bare python": ["-c", "pass"],
    }
    quick = bench.options.quick

    def starts(arguments: list[str]) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)
        return 1 / (time.perf_counter() - start)

    contenders = {name: lambda arguments=arguments: starts(arguments) for name, arguments in commands.items()}
    found = in_turn(contenders, 1 if quick else bench.options.rounds, warm=not quick)
    for ours in ("generate.py", "import vec2text"):
        for theirs in ("import torch", "bare python"):
            mine, other = (float(np.median(1 / np.array(found[name]))) for name in (ours, theirs))
            yield compare(
                "startup", ours, theirs, "starts/s", found[ours], found[theirs], f"{mine:.2f} s against {other:.2f} s"
            )


# -- the suite ---------------------------------------------------------------------------------------------------

ROWS: dict[str, Callable[[Bench], Iterator[Line]]] = {
    "training": training,
    "decoding": decoding,
    "embedding": embedding,
    "refinement": refinement,
    "startup": startup,
}


def measure(options: argparse.Namespace, device: str) -> dict[str, Any]:
    """The chosen rows on one device, printed as one table."""
    lines: list[Line] = []
    skipped: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as place:
        bench = Bench(options, device, Path(place))
        section: dict[str, Any] = {"device": bench.hardware(), "gpt": bench.describe()}
        for row in options.rows:
            if row == "refinement" and not (options.model and options.heldout):
                skipped[row] = "needs --model, a trained inverter, and --heldout, sentences that it has not seen"
                continue
            print(f"{row} ...", file=sys.stderr, flush=True)
            for line in ROWS[row](bench):
                print(f"  {line.what}, {line.against}: {line.ratio:.3g}", file=sys.stderr, flush=True)
                lines.append(line)
    print(f"{section['device']}\n{section['gpt']}\n\n{table(lines)}")
    for row, reason in skipped.items():
        print(f"{row}: {reason}")
    return {**section, "rows": [line.to_dict() for line in lines], "skipped": skipped}


def apart(arguments: list[str], device: str) -> dict[str, Any]:
    """The section of one device, measured by a process that sees no other."""
    with tempfile.TemporaryDirectory() as place:
        stem = Path(place) / "section"
        hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
        command = [sys.executable, __file__, *arguments, "--device", device, "--output", str(stem)]
        subprocess.run(command, check=True, env={**os.environ, **hidden})
        section: dict[str, Any] = json.loads(Path(f"{stem}.json").read_text())["sections"][0]
        return section


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"{', '.join(ROWS)} (default: all)")
    parser.add_argument("--output", default="runs/bench", metavar="STEM", help="write STEM.json (default: runs/bench)")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="only this one (default: all there are)")
    parser.add_argument("--rounds", type=int, default=3, help="in which all have their turn (default: 3)")
    parser.add_argument("--least", type=float, default=0.5, help="seconds that short things are repeated for")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: runs everything, measures nothing")
    data = parser.add_argument_group("data")
    data.add_argument("--texts", default=str(ROOT / "data" / "sentences.en.txt"), help="sentences, one a line")
    data.add_argument("--limit", type=int, default=20_000, help="sentences that are learned from")
    data.add_argument("--vectors", metavar="FILE.npy", help="that are inverted (default: of sentences, or random)")
    data.add_argument("--heldout", metavar="FILE", help="sentences for refinement that the inverter has not seen")
    data.add_argument("--encoder", default="all-MiniLM-L6-v2", help="of the row embedding: a sentence-transformer")
    gpt = parser.add_argument_group("GPT")
    gpt.add_argument("--model", metavar="FOLDER", help="a trained inverter (default: random weights)")
    gpt.add_argument("--width", type=int, default=448)
    gpt.add_argument("--layers", type=int, default=4)
    gpt.add_argument("--vocabulary", type=int, default=8192)
    gpt.add_argument("--prefix", type=int, default=4)
    sizes = parser.add_argument_group("sizes")
    sizes.add_argument("--batch-tokens", type=int, default=2048, help="positions a batch of training")
    sizes.add_argument("--steps", type=int, default=20, help="timed steps a turn of training")
    sizes.add_argument(  # which begins with the longest texts of each 50 batches
        "--sorted-steps", type=int, default=50, help="timed steps a turn of Trainer"
    )
    sizes.add_argument(  # in which products are compiled for most shapes of batches, as bf16 and GPUs want it
        "--warm-steps", type=int, help="steps before these, each turn (default: 5, with bf16 40)"
    )
    sizes.add_argument("--counts", type=int, nargs="*", default=[1, 8, 64, 256, 1024], help="vectors decoded")
    sizes.add_argument("--batch-size", type=int, default=256, help="vectors decoded at a time")
    sizes.add_argument("--max-tokens", type=int, default=12, help="of the texts that random weights write")
    sizes.add_argument("--original", type=int, default=16, help="vectors on which the original decoding is timed")
    sizes.add_argument("--embedded", type=int, default=8192, help="texts embedded")
    sizes.add_argument("--refined", type=int, default=64, help="sentences refined")
    sizes.add_argument("--square", type=int, default=4096, help="size of the square matrix product")
    sizes.add_argument("--memory", type=int, default=512, help="MiB that are read to measure bandwidth")
    if "--quick" in arguments:
        parser.set_defaults(**QUICK)
    options = parser.parse_args(arguments)
    options.rows = options.rows or list(ROWS)
    unknown = [row for row in options.rows if row not in ROWS]
    if unknown:
        parser.error(f"there is no row {', '.join(unknown)}; expected {', '.join(ROWS)}")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, write."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse(arguments)
    logging.basicConfig(level=logging.ERROR)
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    if torch.cuda.is_available() and options.device != "cuda":  # a process that could see a GPU would train on it
        devices = ("cpu", "cuda") if options.device is None else ("cpu",)
        sections = [apart(arguments, device) for device in devices]
    else:
        sections = [measure(options, options.device or "cpu")]
    report = {"sections": sections, "rounds": options.rounds, "torch": torch.__version__, "quick": options.quick}
    Path(options.output).parent.mkdir(parents=True, exist_ok=True)
    Path(f"{options.output}.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
