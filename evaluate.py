"""Judge an inverter on sentences that it was not trained on. See `python evaluate.py --help`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vec2text.commandline import add_inverter_group, command_parser, complain, importing, warn_in_lines

if TYPE_CHECKING:
    import numpy as np

    from vec2text.evaluation import Decoded

PROGRAM = "evaluate.py"
EXAMPLES = """examples:
  python evaluate.py                                             the newest run, on the test sentences it put aside
  python evaluate.py --model runs/mine/inverter --texts my.txt --train-texts trained-on.txt --output report.json
  python evaluate.py --refine 5 --candidates 4 --limit 200       with refinement, on 200 sentences spread over the file
  python evaluate.py --judge path/to/sentence-transformer        similarity by an independent encoder as well
  python evaluate.py --noise 0.01,0.05,0.1 --quantize int8,binary --truncate 256,128
                                                                 what leaks from vectors as stores keep them, and
                                                                 what keeping them so costs a search (recall@10)

A table goes to standard output; --output also writes it as JSON, and a figure beside it (.png). Every number has its
95% interval (bootstrap over sentences) and stands beside two baselines: the nearest training sentence, which is what
mere retrieval brings, and the zero vector, which is what the GPT writes when it is told nothing. With --refine it also
shows the mean confidence, and the reliability error: its mean distance to the share that is exact (10 bins).

Sentences that the inverter was trained on would flatter it: they are left out and counted, where they are known. They
are those of --train-texts or, of an inverter that lies in its run's folder, the run's own.

Vectors that were changed are brought to length 1 where the encoder's vectors have it, as an attacker would do. All
similarities are to the vector before it was changed. An inverter that was trained on vectors kept so (train.py
training.changed_share=0.5 training.quantize=[int8], ...) may bring back more: what is shown is the least that leaks.
Bad input ends with one line that says what was wrong, and exit code 2."""


def several(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """A reader of values between commas."""

    def read(text: str) -> list[Any]:
        return [kind(part.strip()) for part in text.split(",")]

    read.__name__ = f"list of {kind.__name__} values"  # argparse names it when a value is none
    return read


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser(PROGRAM, __doc__, EXAMPLES)
    add_inverter_group(parser, "what is judged", encoder="embeds the sentences")
    texts = parser.add_argument_group("sentences")
    texts.add_argument("--texts", metavar="FILE", help="one a line (default: the run's heldout.txt)")
    texts.add_argument("--train-texts", metavar="FILE", help="what it was trained on (default: the run's own)")
    texts.add_argument("--limit", type=int, metavar="N", help="at most N of the sentences, evenly spread")
    choice = parser.add_argument_group("decoding (greedy by default)")
    choice.add_argument("--num-beams", type=int, metavar="K", help="beam search with K beams")
    choice.add_argument("--refine", type=int, metavar="ROUNDS", help="re-embed what came back, and correct it")
    choice.add_argument(
        "--candidates",
        type=int,
        metavar="K",
        help="with --refine: branches a round, of plain inversion and each of the closest three if the inverter has "
        "learned to correct (default: 4); twice as many edits, again while they help",
    )
    choice.add_argument(
        "--no-polish",
        action="store_true",
        help="with --refine: do not end the last round with many edits more; 5 rounds of 4 are some 20 to 60 queries "
        "a sentence then, 100 for long texts; else up to some 200, and 450",
    )
    kept = parser.add_argument_group("vectors as stores keep them, each alone, between commas")
    several_of: Any = {"default": [], "metavar": "A,B,..."}
    kept.add_argument("--noise", type=several(float), **several_of, help="its length as a share of the vector's")
    kept.add_argument("--quantize", type=several(str), **several_of, help="int8 (a dimension's range), binary, fp16")
    kept.add_argument("--truncate", type=several(int), **several_of, help="how many of the first dimensions are kept")
    output = parser.add_argument_group("report")
    output.add_argument("--judge", metavar="NAME", help="another sentence-transformers model: a second similarity")
    output.add_argument("--seed", type=int, default=0, help="of the bootstrap and the noise (default: 0)")
    output.add_argument("--output", metavar="FILE.json", help="write the report, and the figure as FILE.png")
    options = parser.parse_args(arguments)
    refining = options.refine is not None
    for name, unfit in (("candidates", not refining), ("no_polish", not refining), ("num_beams", refining)):
        if unfit and getattr(options, name) not in (None, False):
            parser.no_effect(name, f"with{'' if refining else 'out'} --refine")
    if options.refine == 0 and options.candidates is not None:
        parser.no_effect("candidates", "with --refine 0, which tries none")
    if options.no_polish and options.refine < 2:
        parser.no_effect("no_polish", f"with --refine {options.refine}: only the last of several rounds is polished")
    parser.at_least(options, limit=1, refine=0, candidates=1, num_beams=1, seed=0)
    options.candidates = 4 if options.candidates is None else options.candidates
    options.num_beams = 1 if options.num_beams is None else options.num_beams
    if not all(0 < share < float("inf") for share in options.noise):
        parser.error(f"--noise is {','.join(map(str, options.noise))}; expected shares above 0")
    if options.output is not None:
        place = Path(options.output)
        taken = [name for name in (place, place.with_suffix(".png")) if name.is_dir()]
        if taken:
            parser.error(f"--output is {place}, but {taken[0]} is a folder: the report and its figure are files")
        if place.suffix != ".json" or not os.access(place.parent, os.W_OK):
            parser.error(f"--output is {place}; expected the name of a .json file, in a folder that can be written")
    return options


def decoding(options: argparse.Namespace, inverter: Any, encoder: Any) -> tuple[str, Callable[[np.ndarray], Decoded]]:
    """How texts are brought back from vectors, in words, and what does it."""
    from vec2text.evaluation import Decoded

    if options.refine is not None:
        from vec2text.bars import bar
        from vec2text.refinement import RefinementStopped, refine

        def refined(vectors: np.ndarray) -> Decoded:
            budget = {"rounds": options.refine, "candidates": options.candidates, "polish": not options.no_polish}
            try:
                with bar("refining") as show:
                    return Decoded.of(refine(inverter, encoder, vectors, **budget, show=show))
            except RefinementStopped as error:
                raise ValueError(f"{error}; half-refined texts are not judged, and nothing is written") from error

        return "refined without polish" if options.no_polish else "refined", refined
    words = f"{options.num_beams} beams" if options.num_beams > 1 else "greedy"
    return words, lambda vectors: Decoded(inverter.invert(vectors, num_beams=options.num_beams))


def run(options: argparse.Namespace) -> None:
    """Read, decode, measure, write and print."""
    with importing():
        from vec2text.sources import distinct_sentences, embed_all, read_sentences
        from vec2text.storage import default_inverter, find_folder, write_bytes_whole, write_text_whole

    model = find_folder(options.model) if options.model else default_inverter()
    kept = model.parent / "heldout.txt"
    if options.texts is None and not kept.is_file():
        raise ValueError(f"there is no {kept}, a run's own test sentences: check --model, or give --texts FILE")
    given, repeated = distinct_sentences(options.texts or str(kept))
    with importing():
        import numpy as np

        from vec2text.evaluation import Examiner, Known, held_out, independent, make_report
        from vec2text.inverter import Inverter
        from vec2text.robustness import changed
        from vec2text.runs import known_sentences

    inverter = Inverter.from_pretrained(model, device=options.device)
    space = inverter.fingerprint
    changes = {name: getattr(options, name) for name in ("noise", "quantize", "truncate", "seed")}
    changed(np.eye(2, space.dimension), **changes)  # what is wrong with them is said before the work
    encoder: Any = space.open_encoder(options.encoder, options.device)
    judge = independent(options.judge, space, options.device) if options.judge else None
    not_measured = {} if judge else {"similarity, other encoder": "no --judge was given"}
    known = None
    if options.train_texts is not None:
        learned = read_sentences(options.train_texts)
        known = Known(learned, np.arange(len(learned)), embed_all(encoder, learned))
    else:
        try:
            known = known_sentences(model.parent, encoder, space)
        except ValueError as error:
            reason = f"{error}; give --train-texts FILE"
            not_measured |= {"nearest training sentence": reason, "sentences that were in training": reason}
    if options.refine is not None and inverter.calibration is None:
        not_measured["confidence"] = "the inverter has not been calibrated; training it again does that at its end"
    texts, left_out = held_out(given, known, options.limit)
    vectors = embed_all(encoder, texts)
    spaces = {"similarity": (encoder, vectors)}
    if judge:
        spaces["judge_similarity"] = (judge, embed_all(judge, texts))
    words, decode = decoding(options, inverter, encoder)
    report = make_report(
        inverter,
        Examiner(texts, spaces, options.seed),
        vectors,
        decode,
        known=known,
        changed=changed(vectors, normalized=space.normalized, **changes),
        model=str(options.model or model),
        encoder=space.encoder.name,
        judge=options.judge,
        left_out={"repeated": repeated, **left_out},
        decoding=words,
        rounds=options.refine or 0,
        candidates=options.candidates if options.refine is not None else 1,
        not_measured=not_measured,
    )
    if options.output:
        from vec2text.figures import figure

        write_bytes_whole(Path(options.output).with_suffix(".png"), figure(report))
        content = json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        write_text_whole(Path(options.output), content + "\n")
    print(report)


def main() -> int:
    """Parse and run; files appear under their names only when they are whole."""
    options = parse()
    warn_in_lines(PROGRAM)
    try:
        run(options)
    except KeyboardInterrupt:
        complain(PROGRAM, "stopped; nothing is written")
        return 130
    except (ValueError, OSError, RuntimeError) as error:
        return complain(PROGRAM, error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
