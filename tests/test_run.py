import json

import pytest

from forktail.errors import InputError
from forktail.run import Run, write_atomically


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path):
    write_atomically(tmp_path / "a/b.txt", "old")
    write_atomically(tmp_path / "a/b.txt", lambda path: path.write_text("new"))
    assert (tmp_path / "a/b.txt").read_text() == "new"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"]


def test_json_keeps_unicode_and_refuses_what_json_cannot_say(tmp_path):
    run = Run(tmp_path)
    run.write_json("metrics.json", {"класс": None})
    assert run.metrics == {"класс": None}
    assert "класс" in (tmp_path / "metrics.json").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="JSON compliant"):
        run.write_json("metrics.json", {"nll": float("nan")})
    assert run.metrics == {"класс": None}


def test_lines_are_appended_and_rewritten(tmp_path):
    run = Run(tmp_path / "new")
    run.append_line("timing.jsonl", {"a": 1})
    run.append_line("timing.jsonl", {"a": 2})
    assert [json.loads(line)["a"] for line in (run.path / "timing.jsonl").read_text().splitlines()] == [1, 2]
    run.write_lines("timing.jsonl", [{"a": 3}])
    assert (run.path / "timing.jsonl").read_text() == '{"a": 3}\n'


def test_a_missing_or_damaged_file_is_one_clear_line(tmp_path):
    with pytest.raises(InputError, match=r"metrics\.json: No such file or directory; expected a finished run"):
        Run(tmp_path).metrics  # noqa: B018
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(InputError, match=r"metrics\.json: not valid JSON"):
        Run(tmp_path).metrics  # noqa: B018


def test_a_run_is_finished_when_its_metrics_are_written(tmp_path):
    run = Run(tmp_path)
    assert not run.finished
    run.write_json("metrics.json", {})
    assert run.finished
