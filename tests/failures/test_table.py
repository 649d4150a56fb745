"""Every row of the table is true, and the page in the docs is written from it."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from places import PLACES
from table import REST, Row, page

ROWS = [(place, row) for place in PLACES for row in place.rows]
ABOUT = {"env.json", "log.jsonl", "stages.json", "timing.jsonl"}  # what a run that goes on writes of itself anew
PAGE = Path(__file__).parents[2] / "docs" / "failures.md"


def parametrised():
    for place, row in ROWS:
        marks = [pytest.mark.xfail(strict=True, reason=row.wish)] if row.wish else []
        if row.as_user and os.geteuid() == 0:
            marks.append(pytest.mark.skip(reason="root may read and write everything"))
        yield pytest.param(row, id=f"{place.key}: {row.wrong}", marks=marks)


def snapshot(folder):
    """Every file with its content, every link with its target, every folder."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        found[name] = os.readlink(path) if path.is_symlink() else path.read_bytes() if os.path.isfile(path) else None
    return found


def pattern_of(says):
    """The message as a pattern; ``…`` stands for anything."""
    return ".*".join(re.escape(part) for part in says.split(REST))


def check(row, scene, command):
    """Do what a row says and compare all that can be seen of it."""
    row.arrange(scene)
    before = snapshot(scene.folder)
    code, out, err = command(shlex.split(row.command))
    *notes, last = err.splitlines()
    assert code == 2
    assert re.fullmatch("error: " + pattern_of(row.says), last), last
    assert row.after_notes or notes == []
    assert not any(re.search("Traceback|Warning|Error", note) for note in notes)
    assert bool(out) == row.prints
    after = snapshot(scene.folder)
    kept = [name for name in before if not (row.leaves and name.rpartition("/")[2] in ABOUT)]
    assert {name: after.get(name) for name in kept} == {name: before[name] for name in kept}
    new = [name for name in after if name not in before]
    assert [name for name in new if name.partition("/")[0] not in row.leaves] == []
    assert [name for name in new if name.endswith((".part", ".partial", ".tmp"))] == []


@pytest.mark.parametrize("row", list(parametrised()))
def test_the_user_sees_what_the_table_says_and_loses_nothing(row, scene, command):
    check(row, scene, command)


def spoiling(change):
    """A failure that on its way changes the user's folder."""

    def arrange(scene):
        scene.text("mine.txt", "old")

        def why(path):
            change(scene)
            return ""

        scene.patch.setattr("forktail.data.open._why", why)

    return arrange


SAYS = next(row.says for place, row in ROWS if row.command == "fit nowhere")


@pytest.mark.parametrize(
    ("arrange", "says"),
    [
        (lambda scene: None, "something else"),
        (spoiling(lambda scene: scene.text("mine.txt", "new")), SAYS),
        (spoiling(lambda scene: (scene.folder / "mine.txt").unlink()), SAYS),
        (spoiling(lambda scene: scene.text("runs/x/.a.txt.part", "")), SAYS),
        (spoiling(lambda scene: print("a line")), SAYS),  # noqa: T201
    ],
    ids=["message", "changed", "lost", "half-written", "printed"],
)
def test_the_test_above_can_fail(scene, command, arrange, says):
    check(Row("nothing is spoilt", "fit nowhere", spoiling(lambda scene: None), SAYS), scene, command)
    with pytest.raises(AssertionError):
        check(Row("", "fit nowhere", arrange, says), scene, command)


def test_every_message_says_more_than_what_was_found():
    for place, row in ROWS:
        assert "; " in row.says, f"{place.key}: {row.wrong}"
        assert "\n" not in row.says
        assert not re.search(r"\b(Errno|Traceback|None)\b", row.says), row.says


def test_no_row_stands_twice():
    names = [(place.key, row.wrong) for place, row in ROWS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("arguments", [["fit", "nowhere"], ["evaluate", "a\udcff"]])
def test_a_real_process_says_the_same(tmp_path, arguments):
    """Nothing of Python's own (warnings, the end of the interpreter) comes on top; a terminal may know ASCII alone."""
    command = [sys.executable, "-c", "from forktail.cli import main; main()", *arguments]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict", "OMP_NUM_THREADS": "1"}
    found = subprocess.run(command, capture_output=True, cwd=tmp_path, env=environment, check=False)
    assert (found.returncode, found.stdout) == (2, b"")
    assert found.stderr.startswith(b"error: ")
    assert found.stderr.count(b"\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_page_in_the_docs_is_that_of_the_table():
    assert PAGE.read_text(encoding="utf-8") == page(PLACES), "write it again: python tests/failures"


def test_the_command_on_the_page_writes_it(tmp_path):
    copied = tmp_path / "tests" / "failures"
    copied.mkdir(parents=True)
    for module in Path(__file__).parent.glob("*.py"):
        (copied / module.name).write_bytes(module.read_bytes())
    (tmp_path / "docs").mkdir()
    subprocess.run([sys.executable, "tests/failures"], cwd=tmp_path, check=True)
    assert (tmp_path / "docs" / "failures.md").read_bytes() == PAGE.read_bytes()
