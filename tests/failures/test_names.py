"""Names of classes and files stay inert in all that is printed or written, and come back from it as they were."""

import csv
import io
import json
import os
import sys

import numpy as np
import pytest
from PIL import Image
from scene import pixels

from forktail import fitting
from forktail.cli.tables import print_predictions
from forktail.errors import InputError
from forktail.predictor import Prediction, read_spec

HOSTILE = (
    "[bold]markup[/bold]",
    "<script>alert(1)</script>",
    "two\nlines\rand\u2028more",
    "\x1b[31mred\x9b0m\x07",
    "\u202eright to left\u2066\u200f",
    'a,"quoted";b\tc',
    "=HYPERLINK(1)",
    "../up/\\down",
    "zero\u200bwidth\ufeff",
    "ünï 中 ابجد :cat:",
    "nul\0byte",
)


def refused(text):
    """Characters that may not reach a terminal."""
    return {c for c in text if not c.isprintable() and c != "\n"}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A run whose classes have such names, and pictures that are called so as far as a file system allows."""
    folder = tmp_path_factory.mktemp("hostile")
    labels = np.arange(3 * len(HOSTILE)) % len(HOSTILE)
    arrays = {"x": pixels(len(labels)), "y": np.array(HOSTILE)[labels]}
    np.savez(
        folder / "set.npz", x_train=arrays["x"], y_train=labels, x_test=arrays["x"], y_test=labels, classes=HOSTILE
    )
    settings = ["plan.epochs=1", "backbone.name=tiny", "backbone.weights=random"]
    fitting.fit(folder / "set.npz", "ce", settings=settings, out=folder / "run")
    (folder / "new").mkdir()
    for name in HOSTILE:
        if not set(name) & {"/", "\0"}:
            Image.new("L", (9, 9)).save(folder / "new" / f"{name}.png")
    return folder


def test_tables_show_every_name_on_its_line_and_no_control_character(hostile, command):
    for verb in (
        ["predict", hostile / "run", hostile / "new", "--top", "99"],
        ["evaluate", hostile / "run", "--by-class"],
    ):
        code, out, err = command([str(word) for word in verb])
        assert (code, err) == (0, "")
        assert refused(out) == set()
        for shown in (
            "[bold]markup[/bold]",
            r"two\nlines\rand\u2028more",
            r"\x1b[31mred\x9b0m\x07",
            r"\u202eright to left",
        ):
            assert any(shown in line for line in out.splitlines()), shown
    assert len(out.splitlines()) == 5 + len(HOSTILE)  # metrics, two lines about them, a header


@pytest.mark.parametrize(
    "arguments", [["predict", "RUN", "NEW", "--top", "99", "--format", "json"], ["evaluate", "RUN", "--json"]]
)
def test_json_is_inert_and_gives_the_names_back(hostile, command, arguments):
    places = {"RUN": str(hostile / "run"), "NEW": str(hostile / "new")}
    code, out, _ = command([places.get(word, word) for word in arguments])
    assert code == 0
    assert refused(out) == set()
    content = json.loads(out)
    classes = content["classes"] if arguments[0] == "evaluate" else content[0]["classes"]
    assert set(classes) == set(HOSTILE)
    if arguments[0] == "predict":
        names = {entry["picture"] for entry in content}
        assert names == {str(path) for path in (hostile / "new").iterdir()}


def test_csv_gives_the_names_back_and_is_escaped_on_a_terminal_alone(hostile, command, monkeypatch, capsys):
    _, out, _ = command(["predict", str(hostile / "run"), str(hostile / "new"), "--top", "99", "--format", "csv"])
    rows = list(csv.DictReader(io.StringIO(out, newline="")))
    assert {row["class"] for row in rows} == set(HOSTILE)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_predictions([Prediction(HOSTILE[3], (HOSTILE[4],), (1.0,))], "csv")
    assert capsys.readouterr().out.splitlines()[1] == r"\x1b[31mred\x9b0m\x07,1,\u202eright to left\u2066\u200f,1.0"


def test_the_run_keeps_the_names(hostile):
    assert read_spec(hostile / "run").classes == HOSTILE
    assert json.loads((hostile / "run/metrics.json").read_text(encoding="utf-8"))["classes"] == list(HOSTILE)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode there")
def test_a_left_out_picture_whose_name_is_no_unicode_is_noted_and_kept_in_the_record(scene, command):
    scene.classes("pictures", a=3, b=3)
    name = os.fsdecode(b"\xff\n.png")
    (scene.folder / "pictures/b" / name).write_text("no picture")
    fit = [
        "fit",
        "pictures",
        "--method",
        "ce",
        "--set",
        "plan.epochs=0",
        "--set",
        "data.unreadable=skip",
        "--out",
        "run",
    ]
    code, out, err = command(fit)
    assert code == 0, err
    assert r"\udcff\n.png (not a picture)" in err
    assert refused(out + err) == set()
    notes = json.loads((scene.folder / "run/env.json").read_text(encoding="utf-8"))["data"]["notes"]
    assert any(r"\udcff\n.png" in note for note in notes)


def test_an_error_with_such_a_name_is_one_inert_line(scene, command):
    for name in HOSTILE:
        if "\0" not in name:
            code, out, err = command(["fit", name])
            assert (code, out, err.count("\n")) == (2, "", 1)
            assert refused(err) == set()
            assert refused(str(InputError(name))) == set()


def test_progress_does_not_command_the_terminal(scene, command):
    scene.classes("\x1b[31mred", a=3, b=3)
    code, out, err = command(["fit", "\x1b[31mred", "--method", "ce", "--set", "plan.epochs=0", "--out", "run"])
    assert code == 0
    assert refused(out + err) == set()
