"""Reports and their figures: nothing in them that the metrics do not say, and nothing that is no number."""

import json
import struct

import numpy as np
import pytest

from vec2text import metrics
from vec2text.figures import figure
from vec2text.intervals import Interval
from vec2text.report import METRICS, Changed, EvaluationReport, Round, measure

LONG = " ".join(f"word{number}" for number in range(30)) + "."
REFERENCES = ["Yes, please.", "We met Tom in Dublin.", "At 10:30 the train to Cork left late today again.", LONG] * 6
FOUND = ["Yes, please.", "We met Ann in Dublin.", "At 10:30 the bus to Cork left late again today.", LONG.upper()] * 6
SIMILARITIES = {"similarity": np.linspace(0.2, 1, 24), "judge_similarity": np.full(24, 0.5)}
CONFIDENCES = np.tile([0.8, 0.3, 0.3, 0.3], 6)  # of the first text of four, the only one that is exact, and the others


@pytest.fixture(scope="module")
def measured():
    return measure(REFERENCES, FOUND, SIMILARITIES, CONFIDENCES, resamples=50)


def test_every_value_is_that_of_its_metric(measured):
    words = metrics.word_overlaps(REFERENCES, FOUND).mean(0)
    expected = {
        "exact_match": 0.25,
        "exact_letters": 0.5,
        "bleu": metrics.corpus_bleu(REFERENCES, FOUND),
        "sentence_bleu": metrics.sentence_bleu(metrics.bleu_counts(REFERENCES, FOUND)).mean(),
        "chrf": metrics.corpus_chrf(REFERENCES, FOUND),
        "rouge_l": metrics.rouge_l(REFERENCES, FOUND).mean(),
        "token_precision": words[0],
        "token_recall": words[1],
        "token_f1": words[2],
        "number_recall": 1.0,
        "name_recall": 2 / 3,  # Tom, Dublin, Cork
        "similarity": 0.6,
        "judge_similarity": 0.5,
        "confidence": 0.425,
    }
    assert {name: found.value for name, found in measured.metrics.items()} == pytest.approx(expected)
    assert list(measured.metrics) == list(METRICS)
    assert measured.reliability_error == pytest.approx((0.2 + 3 * 0.3) / 4)
    assert measure(REFERENCES, FOUND, {}, resamples=2).reliability_error is None


def test_bins_hold_every_sentence_once_and_say_what_the_whole_says(measured):
    assert {words: found.sentences for words, found in measured.by_length.items()} == {
        "1-4": 6, "5-8": 6, "9-12": 6, "25+": 6,
    }  # fmt: skip
    for name in ("exact_match", "token_f1", "similarity"):
        parts = [found.sentences * found.metrics[name].value for found in measured.by_length.values()]
        assert sum(parts) / 24 == pytest.approx(measured.metrics[name].value)
    alone = measure([LONG] * 6, [LONG.upper()] * 6, {}, resamples=50)
    assert measured.by_length["25+"].metrics["bleu"] == alone.metrics["bleu"]


@pytest.mark.parametrize(
    ("words", "name"),
    [(1, "1-4"), (4, "1-4"), (5, "5-8"), (8, "5-8"), (9, "9-12"), (12, "9-12"), (13, "13-16"), (16, "13-16"),
     (17, "17-24"), (24, "17-24"), (25, "25+"), (99, "25+")],
)  # fmt: skip
def test_the_bounds_of_the_bins(words, name):
    assert list(measure(["a " * words], ["a"], {}, resamples=2).by_length) == [name]


def test_what_has_no_value_is_left_out(measured):
    assert "number_recall" not in measured.by_length["1-4"].metrics
    assert "number_recall" in measured.by_length["9-12"].metrics
    assert "similarity" not in measure(["a"], ["a"], {}, resamples=2).metrics


def test_the_seed_decides_the_intervals(measured):
    assert measure(REFERENCES, FOUND, SIMILARITIES, CONFIDENCES, resamples=50) == measured
    assert measure(REFERENCES, FOUND, SIMILARITIES, CONFIDENCES, resamples=50, seed=1) != measured


@pytest.fixture(scope="module")
def report(measured):
    recall = Interval(0.9, 0.85, 0.95)
    return EvaluationReport(
        model="runs/a/inverter",
        encoder="letters",
        judge=None,
        sentences=24,
        mean_words=12.345,
        left_out={"in training": 3, "by limit": 0},
        prefix_length=4,
        decoding="refined",
        rounds=2,
        candidates=4,
        queries=7.123,
        seconds=0.0123,
        results={"inverter": measured, "zero vector": measure(REFERENCES, ["a"] * 24, {}, resamples=50)},
        not_measured={"nearest training sentence": "nobody knows"},
        after_rounds=(Round(1, Interval(0.1, 0, 0.2), Interval(30, 20, 40)), Round(7, Interval(1, 1, 1), recall)),
        robustness={"int8": Changed(measured, recall, 7, 0.01), "noise 0.1": Changed(measured, None, 7, 0.01)},
        resamples=50,
    )


def refuse(constant):
    raise AssertionError(f"{constant} in JSON")


def test_a_report_is_json_without_nan_that_holds_everything(report):
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False), parse_constant=refuse)
    assert set(found) == set(EvaluationReport.__dataclass_fields__)
    assert found["results"]["inverter"]["exact_match"]["value"] == 0.25
    assert found["results"]["inverter"]["by_length"]["5-8"]["sentences"] == 6
    assert found["results"]["inverter"]["reliability_error"] == 0.275
    assert "reliability_error" not in found["results"]["zero vector"]
    assert found["robustness"]["int8"]["recall_at_10"] == {"value": 0.9, "low": 0.85, "high": 0.95}
    assert found["robustness"]["int8"]["bleu"] == found["results"]["inverter"]["bleu"]
    assert found["robustness"]["noise 0.1"]["recall_at_10"] is None
    assert [row["queries"] for row in found["after_rounds"]] == [1, 7]
    assert (found["mean_words"], found["queries"], found["seconds"]) == (12.3, 7.12, 0.0123)
    assert "tok:13a" in found["signatures"]["bleu"]


def test_the_table_says_what_was_done_and_what_was_not(report):
    text = str(report)
    assert "24 sentences of 12.3 words on average (left out: 3 in training)" in text
    assert "prefix length 4; refined, 4 candidates, 2 refinement rounds, 7.123 encoder queries" in text
    assert "not measured: nearest training sentence: nobody knows" in text
    assert "bleu: nrefs:1|case:mixed|eff:no|tok:13a" in text
    rows = {line.partition("  ")[0]: line for line in text.splitlines()}
    assert "25.0 [" in rows["exact match, %"]
    assert "42.5 [" in rows["confidence, mean, %"]
    assert rows["reliability error"].split()[2:] == ["0.275", "-"]
    assert rows["similarity"].rstrip().endswith("-")  # of the zero vector it was not measured
    assert rows["int8"].rstrip().endswith("90.0 [85.0, 95.0]")
    assert rows["noise 0.1"].rstrip().endswith("-")
    assert "by limit" not in text


def test_the_columns_of_a_table_stand_below_each_other(report):
    block = str(report).split("\n\n")[1].splitlines()
    assert len({len(line) for line in block}) == 1


def size(png):
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", png[16:24])


def test_a_figure_has_a_panel_for_what_was_measured(report):
    from dataclasses import replace

    four = size(figure(report))
    three = size(figure(replace(report, after_rounds=())))
    two = size(figure(replace(report, after_rounds=(), robustness={"noise 0.1": report.robustness["noise 0.1"]})))
    assert four[0] / 4 == three[0] / 3 == two[0] / 2
    assert figure(report) == figure(report)
