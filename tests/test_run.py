import json

import pytest

from forktail.errors import InputError
from forktail.run import Run, only_writer


def test_json_keeps_unicode_and_refuses_what_json_cannot_say(tmp_path):
    run = Run(tmp_path)
    run.write_json("metrics.json", {"класс": None})
    assert run.metrics == {"класс": None}
    assert "класс" in (tmp_path / "metrics.json").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="JSON compliant"):
        run.write_json("metrics.json", {"nll": float("nan")})
    assert run.metrics == {"класс": None}


def test_lines_are_rewritten(tmp_path):
    run = Run(tmp_path / "new")
    run.write_lines("timing.jsonl", [{"a": 1}, {"a": 2}])
    assert [json.loads(line)["a"] for line in (run.path / "timing.jsonl").read_text().splitlines()] == [1, 2]
    run.write_lines("timing.jsonl", [{"a": 3}])
    assert (run.path / "timing.jsonl").read_text() == '{"a": 3}\n'


def test_a_missing_or_damaged_file_is_one_clear_line(tmp_path):
    with pytest.raises(InputError, match=r"metrics\.json: no such file or directory; expected a finished run"):
        Run(tmp_path).metrics  # noqa: B018
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(InputError, match=r"metrics\.json: not valid JSON"):
        Run(tmp_path).metrics  # noqa: B018


def test_a_run_is_finished_when_its_metrics_are_written(tmp_path):
    run = Run(tmp_path)
    assert not run.finished
    run.write_json("metrics.json", {})
    assert run.finished


@pytest.mark.parametrize("content", ["[]", "3", "null"])
def test_metrics_that_are_no_object_are_refused(tmp_path, content):
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(InputError, match=r"metrics\.json: a JSON \w+; expected a JSON object"):
        Run(tmp_path).metrics  # noqa: B018


def test_a_name_that_is_no_unicode_is_written_as_jsons_escape_and_comes_back(tmp_path):
    run = Run(tmp_path)
    run.write_json("env.json", {"notes": ["\udcff.png"]})
    assert rb"\udcff.png" in (tmp_path / "env.json").read_bytes()
    assert run.read_json("env.json") == {"notes": ["\udcff.png"]}


def fail_after_writing(folder, names):
    with only_writer(folder):
        for name in names:
            (folder / name).write_text("")
        raise InputError("refused")


def test_a_run_that_is_refused_before_its_first_stage_leaves_no_folder(tmp_path):
    with pytest.raises(InputError, match="refused"):
        fail_after_writing(tmp_path / "runs/a", ["recipe.toml", "env.json"])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_work_or_of_somebody_else_is_left(tmp_path):
    (tmp_path / "old").mkdir()
    for folder, names in (("new", ["recipe.toml", "stages.json"]), ("old", ["recipe.toml"])):
        with pytest.raises(InputError, match="refused"):
            fail_after_writing(tmp_path / folder, names)
        assert {path.name for path in (tmp_path / folder).iterdir()} == {".lock", *names}
        with only_writer(tmp_path / folder):  # and the lock was freed
            pass


def test_a_folder_that_cannot_be_locked_is_one_clear_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file: a file; expected a folder"), only_writer(tmp_path / "file"):
        pass

    def refuse(self, timeout):
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with pytest.raises(InputError, match=r"cannot be written \(permission denied\)"), only_writer(tmp_path):
        pass
