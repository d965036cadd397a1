"""Metrics between references and reconstructions: pure functions, all at the level of text.

Knows no model and no encoder.

A metric of a whole corpus is one number; one of single sentences is an array (N,); one that is summed before it is
divided, as BLEU is, gives what is summed for each sentence, (N, K), so that any set of sentences can be judged.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vec2text.sentences import letters

_NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*")
_LETTERS = re.compile(r"[^\W\d_]+")
_WORD = re.compile(r"[^\W_]+")
_I = "I"  # capitalised wherever it stands, in English, and no name


# -- BLEU and chrF, by sacrebleu -------------------------------------------------------------------------------------


def corpus_bleu(references: Sequence[str], reconstructions: Sequence[str]) -> float:
    """Corpus BLEU of sacrebleu with its defaults (13a tokens, mixed case), 0 to 100."""
    import sacrebleu  # wanted only here: it reads files on import

    _check_pairs(references, reconstructions)
    return float(sacrebleu.corpus_bleu(list(reconstructions), [list(references)]).score)


def corpus_chrf(references: Sequence[str], reconstructions: Sequence[str]) -> float:
    """Corpus chrF2 of sacrebleu with its defaults (character 1- to 6-grams, no words), 0 to 100."""
    import sacrebleu

    _check_pairs(references, reconstructions)
    return float(sacrebleu.corpus_chrf(list(reconstructions), [list(references)]).score)


def bleu_counts(references: Sequence[str], reconstructions: Sequence[str]) -> np.ndarray:
    """What corpus BLEU sums over the sentences (lengths, matching and all n-grams): (N, 10)."""
    return _counts(_bleu(), references, reconstructions)


def chrf_counts(references: Sequence[str], reconstructions: Sequence[str]) -> np.ndarray:
    """What corpus chrF sums over the sentences (n-grams of both texts, matching ones, for each n): (N, 18)."""
    return _counts(_chrf(), references, reconstructions)


def bleu_of(sums: np.ndarray) -> np.ndarray:
    """Corpus BLEU of sums of `bleu_counts`: (R, 10) -> (R,)."""
    return _scores(_bleu(), sums)


def chrf_of(sums: np.ndarray) -> np.ndarray:
    """Corpus chrF of sums of `chrf_counts`: (R, 18) -> (R,)."""
    return _scores(_chrf(), sums)


def sentence_bleu(counts: np.ndarray) -> np.ndarray:
    """BLEU of each sentence, given `bleu_counts`: (N, 10) -> (N,), 0 to 100.

    As sacrebleu's sentence_bleu: smoothed, and in a text of fewer than four tokens only the n-grams that it can have.
    """
    return _scores(_bleu(effective_order=True), counts)


def signatures() -> dict[str, str]:
    """How BLEU and chrF are computed, in sacrebleu's own short form."""
    found = {}
    for name, metric in (("bleu", _bleu()), ("sentence_bleu", _bleu(effective_order=True)), ("chrf", _chrf())):
        metric.corpus_score(["a"], [["a"]])  # sacrebleu counts the references before it signs
        found[name] = str(metric.get_signature())
    return found


def _bleu(**options: Any) -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(**options)


def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


def _counts(metric: Any, references: Sequence[str], reconstructions: Sequence[str]) -> np.ndarray:
    # This method and the next are what sacrebleu's own bootstrap is made of; it has no public ones for it.
    _check_pairs(references, reconstructions)
    return np.array(metric._extract_corpus_statistics(list(reconstructions), [list(references)]), np.int64)


def _scores(metric: Any, sums: np.ndarray) -> np.ndarray:
    return np.array([metric._compute_score_from_stats(row).score for row in sums.tolist()], np.float64)


# -- whole sentences -------------------------------------------------------------------------------------------------


def exact_matches(references: Sequence[str], reconstructions: Sequence[str]) -> np.ndarray:
    """Which reconstructions are the reference to the letter: (N,) bool."""
    return _pairwise(lambda a, b: a == b, references, reconstructions)


def letter_matches(references: Sequence[str], reconstructions: Sequence[str]) -> np.ndarray:
    """Which reconstructions are the reference but for case, punctuation and spaces: (N,) bool."""
    return _pairwise(lambda a, b: letters(a) == letters(b), references, reconstructions)


def exact_match(references: Sequence[str], reconstructions: Sequence[str]) -> float:
    """Share of reconstructions that are the reference to the letter, 0 to 1."""
    return float(exact_matches(references, reconstructions).mean())


def reliability_error(confidences: np.ndarray, exact: np.ndarray, bins: int = 10) -> float:
    """How far confidences are from the share that is exact: the expected calibration error, 0 to 1.

    Confidences are sorted into bins of equal width between 0 and 1; the error is the mean over the bins, each with
    the weight of the sentences in it, of the distance between its mean confidence and its share of exact texts. M. P.
    Naeini, G. F. Cooper and M. Hauskrecht, Obtaining well calibrated probabilities using Bayesian binning, AAAI 2015;
    C. Guo et al., On calibration of modern neural networks, ICML 2017, https://arxiv.org/abs/1706.04599, equation 3.
    With few sentences chance alone keeps it above 0.

    Args:
        confidences: (N,) 0 to 1.
        exact: (N,) bool.
        bins: how many.
    """
    if len(confidences) != len(exact) or not len(exact):
        raise ValueError(f"{len(confidences)} confidences for {len(exact)} sentences: expected as many, at least one")
    places = np.minimum((np.asarray(confidences) * bins).astype(int), bins - 1)
    gaps = np.bincount(places, np.asarray(confidences) - np.asarray(exact), bins)  # sums over the sentences of a bin
    return float(np.abs(gaps).sum() / len(exact))


# -- words -----------------------------------------------------------------------------------------------------------


def word_overlaps(references: Sequence[str], reconstructions: Sequence[str]) -> np.ndarray:
    """Precision, recall and F1 of each sentence's lower-cased words, each counted as often as it occurs: (N, 3).

    Words are what stands between spaces, with its punctuation. All three are 0 where a text is empty.
    """

    def overlap(reference: str, reconstruction: str) -> tuple[float, float, float]:
        expected, found = Counter(reference.lower().split()), Counter(reconstruction.lower().split())
        common = (expected & found).total()
        if not common:
            return 0.0, 0.0, 0.0
        return common / found.total(), common / expected.total(), 2 * common / (expected.total() + found.total())

    return _pairwise(overlap, references, reconstructions)


def token_f1(references: Sequence[str], reconstructions: Sequence[str]) -> float:
    """Mean over sentences of the F1 of lower-cased words, each counted as often as it occurs, 0 to 1."""
    return float(word_overlaps(references, reconstructions)[:, 2].mean())


def rouge_l(references: Sequence[str], reconstructions: Sequence[str]) -> np.ndarray:
    """ROUGE-L F1 of each sentence: of the longest words that both have in the same order: (N,), 0 to 1.

    C.-Y. Lin, ROUGE: a package for automatic evaluation of summaries, 2004, https://aclanthology.org/W04-1013. Words
    are lower-cased runs of letters and digits of any script: rouge-score, whose answers these are in English, drops
    all but a to z.
    """

    def score(reference: str, reconstruction: str) -> float:
        expected, found = _WORD.findall(reference.lower()), _WORD.findall(reconstruction.lower())
        common = _common_subsequence(expected, found)
        return 2 * common / (len(expected) + len(found)) if common else 0.0

    return _pairwise(score, references, reconstructions)


def _common_subsequence(a: list[str], b: list[str]) -> int:
    """The length of the longest sequence of words that both have, with gaps."""
    row = [0] * (len(b) + 1)  # for the words of `a` so far and each beginning of `b`
    for word in a:
        former, row = row, [0]
        for place, other in enumerate(b):
            row.append(former[place] + 1 if word == other else max(row[place], former[place + 1]))
    return row[-1]


def number_counts(references: Sequence[str], reconstructions: Sequence[str]) -> np.ndarray:
    """How many of a reference's numbers came back, and how many it has: (N, 2). Their recall is the quotient of sums.

    A number is written in digits, with what may stand between them: 7, 3.50, 10:30, 1/2. It came back when the same
    digits did, each as often as it occurs.
    """
    return _pairwise(
        lambda a, b: _recalled(Counter(_NUMBER.findall(a)), Counter(_NUMBER.findall(b))), references, reconstructions
    )


def name_counts(references: Sequence[str], reconstructions: Sequence[str]) -> np.ndarray:
    """How many of a reference's names and capitalised words came back, and how many it has: (N, 2).

    Counted is every run of letters with a capital in it, but for `I`, and for a first word with no capital after its
    first letter, which any sentence begins with: in `Tom told NASA that I'm in O'Hare` NASA, O and Hare. It came back
    when the same word, in the same case, stands anywhere in the reconstruction, each as often as it occurs.
    """

    def count(reference: str, reconstruction: str) -> tuple[int, int]:
        words = enumerate(_LETTERS.findall(reference))
        counted = [word for place, word in words if word != _I and _capital(word if place else word[1:])]
        return _recalled(Counter(counted), Counter(_LETTERS.findall(reconstruction)))

    return _pairwise(count, references, reconstructions)


def _capital(word: str) -> bool:
    return any(letter.isupper() for letter in word)


def _recalled(expected: Counter[str], found: Counter[str]) -> tuple[int, int]:
    return (expected & found).total(), expected.total()


# -- vectors ---------------------------------------------------------------------------------------------------------


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of each pair of rows of (N, D) arrays: (N,); 0 where a row is all zeros."""
    products = np.einsum("nd,nd->n", a, b)
    return products / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)


def _pairwise(metric: Callable[[str, str], Any], references: Sequence[str], reconstructions: Sequence[str]) -> Any:
    """What a metric says of each pair, as an array (N, ...)."""
    _check_pairs(references, reconstructions)
    return np.array([metric(a, b) for a, b in zip(references, reconstructions, strict=True)])


def _check_pairs(references: Sequence[str], reconstructions: Sequence[str]) -> None:
    if len(references) != len(reconstructions) or not references:
        raise ValueError(f"{len(references)} references and {len(reconstructions)} reconstructions: expected as many")
