import numpy as np
from conftest import read_jsonl

from vec2text.runlog import RunLog


def test_rows_after_the_step_gone_on_from_are_dropped_and_half_rows_too(tmp_path):
    log = RunLog(tmp_path, 0)
    for step in (1, 2, 3):
        log.metrics(step, {"loss": float(step)})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    RunLog(tmp_path, 2).close()
    assert [row["step"] for row in read_jsonl(tmp_path / "metrics.jsonl")] == [1, 2]


def test_texts_that_look_like_markup_or_tables_are_shown_as_they_are(tmp_path, capsys):
    log = RunLog(tmp_path, 0)
    log.samples(1, ["[bold]a[/bold] | b", "c"], ["", "line\u2028feed\ttab"], np.array([0.5, 1.0]))
    log.projector(1, np.eye(2, dtype=np.float32), ["a | b", "c"], ["", "x\ty"])
    log.close()
    assert "[bold]a[/bold] | b" in capsys.readouterr().out
    assert read_jsonl(tmp_path / "samples.jsonl")[0]["samples"][0]["reconstruction"] == ""
    rows = next((tmp_path / "tensorboard").rglob("metadata.tsv")).read_text().splitlines()
    assert [len(row.split("\t")) for row in rows] == [2, 2, 2]


def test_a_silent_log_writes_nothing(tmp_path, capsys):
    log = RunLog(tmp_path, 0, silent=True)
    log.say("word")
    log.metrics(1, {"loss": 1.0})
    log.samples(1, ["a"], ["b"], np.array([0.5]))
    log.close()
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []


def test_without_a_terminal_progress_is_a_line_now_and_then(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("vec2text.runlog._QUIET_SECONDS", -1)
    log = RunLog(tmp_path, 0)
    log.progress(0.25, "step 10")
    log.close()
    assert "25%  step 10" in capsys.readouterr().out
