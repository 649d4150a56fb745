"""The command as a user meets it."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

import forktail
from forktail import cli, fitting
from forktail.cli.tables import read_prior
from forktail.errors import InputError

COMMAND = [sys.executable, "-c", "from forktail.cli import main; main()"]
QUICK = ["--set", "plan.epochs=1", "--set", "plan.batch_size=32", "--set", "backbone.weights=random"]
HOSTILE = ("[bold]x[/bold]", "two\nlines", "\x1b[31mred", ":cat:", "ünï 中", "\\")


def run_command(*arguments):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False)


def invoke(*arguments):
    """Run a verb in this process; an exception that the verb lets through is raised."""
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def main(monkeypatch, capsys):
    """Run the whole command in this process: exit code, stdout, stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["forktail", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        said = capsys.readouterr()
        return caught.value.code or 0, said.out, said.err

    return run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six classes with names that a terminal could trip over."""
    random, labels = np.random.RandomState(0), np.repeat(np.arange(6), 5)
    pictures = random.randint(0, 256, (30, 28, 28)).astype(np.uint8)
    path = tmp_path_factory.mktemp("data") / "hostile.npz"
    np.savez(path, x_train=pictures, y_train=labels, x_test=pictures, y_test=labels, classes=np.array(HOSTILE))
    return path


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A finished run."""
    out = tmp_path_factory.mktemp("runs") / "run"
    settings = [text for text in QUICK if text != "--set"]
    fitting.fit(data, "ce", settings=[*settings, "backbone.name=tiny"], out=out)
    return out


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for number in (10, 9):
        Image.new("L", (40, 30), number).save(folder / f"{number} [red].png")
    return folder


# --- the command itself ----------------------------------------------------------------------------------------------

FLAGS = {
    "fit": {"data", "--method", "--backbone", "--recipe", "--set", "--out"},
    "evaluate": {"run", "data", "--set", "--prior", "--json", "--device", "--by-class", "--adapt"},
    "predict": {"run", "pictures", "--top", "--prior", "--format", "--device"},
    "methods": {"action", "name", "--json", "--markdown"},
    "compare": {
        *("data", "--methods", "--budget", "--seeds", "--backbone", "--recipe", "--set", "--out", "--jobs"),
    },
    "grid": {
        *("data", "--weights", "--depths", "--seeds", "--readings", "--backbone", "--recipe", "--set"),
        *("--out", "--cache", "--part", "--jobs"),
    },
    "report": {"folder"},
    "pretrain": {"data", "--out", "--kind", "--backbone", "--dtype", "--set"},
}


def test_the_flags_of_every_verb_are_these_and_no_more():
    """A new flag is a decision: everything that a method or a plan needs goes through --set and the recipe."""
    group = typer.main.get_command(cli.app)
    found = {
        name: {option for parameter in command.params for option in parameter.opts}
        for name, command in group.commands.items()
    }
    assert found == FLAGS
    assert {option for parameter in group.params for option in parameter.opts} == {"--version"}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], [], *([verb, "--help"] for verb in FLAGS)])
def test_help_and_version_do_not_wait_for_torch(arguments):
    code = (
        "import sys\nfrom forktail.cli import main\nsys.argv = ['forktail', *sys.argv[1:]]\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'timm', 'numpy'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"
    wanted = {"--version": forktail.__version__, "--help": "Usage"}.get((arguments or ["--help"])[-1], "Usage")
    assert wanted in found.stdout


def test_the_installed_command_is_this_one():
    script = Path(sys.executable).with_name("forktail")
    if not script.exists():
        pytest.skip("forktail is not installed as a command here")
    found = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert found.stdout == f"forktail {forktail.__version__}\n"


def test_methods_lists_every_method_with_its_source():
    from forktail.methods import find_method, method_names

    lines = invoke("methods").stdout.splitlines()
    for name in method_names():
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        assert find_method(name).summary in line
        assert find_method(name).source in line


# --- how it fails ----------------------------------------------------------------------------------------------------


def assert_one_line(code, out, err):
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fit", "nowhere"], "nowhere"),
        (["fit", "DATA", "--method", "osdwt"], 'did you mean "osdtw"'),
        (["fit", "DATA", "--set", "plan.epoch=3"], "plan.epoch"),
        (["fit", "DATA", "--set", "plan.epochs"], "--set plan.epochs"),
        (["fit", "DATA", "--set", "plan.lr=-1"], "plan.lr = -1"),
        (["fit", "DATA", "--set", "method.weight=2"], "method.weight = 2"),
        (["fit", "DATA", "--recipe", "none.toml"], "none.toml"),
        (["fit", "DATA", "--backbone", "resnet5000"], "resnet5000"),
        (["evaluate", "OUT"], "no such folder"),
        (["predict", "OUT", "a.png"], "no such folder"),
        (["predict", "RUN", "a\nb.png"], "no such file"),
        (["predict", "RUN", "PICTURES", "--prior", "even"], '--prior "even"'),
        (["pretrain", "DATA", "--out", "OUT", "--set", "method.tau=1"], "--set method"),
        (["pretrain", "nowhere", "--out", "OUT"], "nowhere"),
    ],
    ids=lambda value: " ".join(value).replace("\n", " ") if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(main, data, trained, pictures, tmp_path, arguments, says):
    places = {"DATA": data, "RUN": trained, "OUT": tmp_path / "out", "PICTURES": pictures}
    given = [places.get(argument, argument) for argument in arguments]
    if given[0] == "fit":
        given += ["--out", tmp_path / "out"]
    code, out, err = main(*given)
    assert_one_line(code, out, err)
    assert says in err
    assert not (tmp_path / "out").exists()


def test_a_subprocess_says_the_same(tmp_path):
    found = run_command("fit", "nowhere", "--out", tmp_path / "out")
    assert_one_line(found.returncode, found.stdout, found.stderr)
    assert "Traceback" not in found.stderr


def test_a_mended_command_may_use_the_same_folder(main, data, tmp_path):
    out = ["--out", tmp_path / "out"]
    assert main("fit", "nowhere", *out)[0] == 2
    assert main("fit", data, "--set", "method.depth=99", *QUICK, *out)[0] == 2
    code, _, err = main("fit", data, "--method", "ce", *QUICK, *out)
    assert (code, err.startswith("error")) == (0, False), err


@pytest.mark.parametrize(
    "arguments", [["fly"], ["fit"], ["fit", "x", "--speed", "9"], ["predict", "x", "y", "--top", "0"]]
)
def test_a_wrong_usage_is_exit_code_2_without_traceback(main, arguments):
    code, out, err = main(*arguments)
    assert code == 2
    assert "Traceback" not in out + err
    assert "Usage" in err


def test_a_bug_keeps_its_traceback(monkeypatch, data, tmp_path):
    def broken(*_, **__):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(fitting, "fit", broken)
    monkeypatch.setattr(sys, "argv", ["forktail", "fit", str(data), "--out", str(tmp_path)])
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_ctrl_c_is_one_line_and_exit_code_130(main, monkeypatch, data):
    def pressed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "fit", pressed)
    code, out, err = main("fit", data)
    assert code == 130
    assert (out, err) == ("", "stopped; the same command goes on from here\n")


INTERRUPTED = """
import os, signal, sys
from forktail.cli import main
from forktail.training import engine
step = engine.Cursor.__setattr__
def watch(self, name, value):
    step(self, name, value)
    if name == "step" and value == 2:
        os.kill(os.getpid(), signal.SIGINT)
engine.Cursor.__setattr__ = watch
main()
"""


def test_a_real_ctrl_c_leaves_a_run_that_goes_on(data, tmp_path):
    fit = ["fit", data, "--method", "ce", *QUICK, "--set", "plan.epochs=4", "--out"]
    command = [sys.executable, "-c", INTERRUPTED, *map(str, fit), str(tmp_path / "a")]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 130
    assert found.stderr.splitlines()[-1] == "stopped; the same command goes on from here"
    assert "Traceback" not in found.stderr
    assert not (tmp_path / "a/metrics.json").exists()
    for name in "ab":
        assert invoke(*fit, tmp_path / name).exit_code == 0
    assert (tmp_path / "a/model/model.safetensors").read_bytes() == (
        tmp_path / "b/model/model.safetensors"
    ).read_bytes()
    assert json.loads((tmp_path / "a/timing.jsonl").read_text())["found"] is False


def test_a_reader_that_has_had_enough_is_no_error():
    with subprocess.Popen([*COMMAND, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
        process.wait()
    assert process.returncode in {0, 1, -signal.SIGPIPE}


# --- fit, evaluate, pretrain -----------------------------------------------------------------------------------------


def test_fit_prints_progress_to_stderr_and_the_table_to_stdout(data, tmp_path):
    result = invoke("fit", data, "--method", "ce", *QUICK, "--out", tmp_path / "run")
    assert result.exit_code == 0
    said = result.stderr.splitlines()
    assert said[0].startswith("hostile: ")
    assert said[1] == "backbone tiny, weights random, pictures at 28 px"
    assert said[-2] == "training: 1 steps"
    assert said[-1].startswith("training: done, loss ")
    header, row, groups, measured, where = result.stdout.splitlines()
    assert header.split() == [
        "balanced",
        "many",
        "medium",
        "few",
        "head",
        "tail",
        "worst",
        "micro",
        "nll",
        "risk",
        "ece",
    ]
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    values = row.split()
    assert values[1] == f"{100 * metrics['accuracy']['balanced']:.1f}"
    assert values[2] == "n/a"  # no class has more than 100 images
    assert values[-3] == f"{metrics['nll']:.3f}"
    assert groups.startswith("classes: many 0, medium 0, few 6 (")
    assert "under the prior: train" in measured
    assert where == f"run: {tmp_path / 'run'}"


def test_fit_prints_what_was_selected(data, tmp_path):
    options = ["--set", "method.depth=6", "--set", "method.weights=3", "--set", "method.refinement_epochs=0"]
    result = invoke("fit", data, *QUICK, *options, "--out", tmp_path / "run")
    selected = result.stdout.splitlines()[0]
    choice = json.loads((tmp_path / "run/selection.json").read_text())
    assert selected.startswith(f"selected: depth 6, weight {choice['weight']:g} by the sandwich reading (")
    assert selected.endswith("next depth none)")
    assert result.stdout.splitlines()[1] == choice["sentence"].partition("; ")[2]


def test_fit_names_the_run_after_what_it_holds(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert invoke("fit", data, "--method", "ce", *QUICK, "--set", "seed=3").exit_code == 0
    assert (tmp_path / "runs/hostile.npz-ce-3/metrics.json").is_file()


def test_a_recipe_and_settings_reach_the_run(data, tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[method]\nname = "logit_adjustment"\ntau = 0.5\n[plan]\nepochs = 7\n')
    invoke("fit", data, "--recipe", recipe, *QUICK, "--out", tmp_path / "run")
    resolved = (tmp_path / "run/recipe.toml").read_text()
    assert "tau = 0.5" in resolved
    assert "epochs = 1" in resolved


def test_evaluate_says_again_what_fit_said(trained):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert json.loads(invoke("evaluate", trained, "--json").stdout) == metrics
    row = invoke("evaluate", trained).stdout.splitlines()[1].split()
    assert row[1] == f"{100 * metrics['accuracy']['balanced']:.1f}"


def test_evaluate_changes_nothing_in_the_run(trained):
    def state():
        return {path: path.stat().st_mtime_ns for path in trained.rglob("*")}

    before = state()
    invoke("evaluate", trained, "--prior", "uniform")
    assert state() == before


def test_a_transductive_row_is_printed_by_itself(data, tmp_path):
    invoke("fit", data, "--method", "sade", "--set", "plan.epochs=0", "--out", tmp_path / "run")
    lines = invoke("evaluate", tmp_path / "run", "--adapt").stdout.splitlines()
    assert [line.split()[0] for line in lines if line.startswith(("accuracy", "transductive "))] == [
        "accuracy", "transductive",
    ]  # fmt: skip
    assert lines[-1].startswith("transductive: these pictures were looked at before")


def test_evaluate_on_other_data_says_so(trained, data, tmp_path):
    other = tmp_path / "other.npz"
    other.write_bytes(data.read_bytes())
    metrics = json.loads(invoke("evaluate", trained, other, "--json").stdout)
    assert metrics["evaluated_on"] == str(other)
    assert json.loads(invoke("evaluate", trained, data, "--json").stdout)["evaluated_on"] == "test"


def test_pictures_of_other_data_that_cannot_be_read_are_left_out_with_a_note(trained, tmp_path):
    for number, name in enumerate(("ünï 中", ":cat:")):
        (tmp_path / "new" / name).mkdir(parents=True)
        Image.new("L", (28, 28), number).save(tmp_path / "new" / name / "a.png")
    (tmp_path / "new" / name / "b.png").write_text("no picture")
    with pytest.raises(InputError, match=r"1 picture cannot be read: .*unreadable=skip"):
        invoke("evaluate", trained, tmp_path / "new")
    skip = ["--set", "data.unreadable=skip"]
    assert "left out: 1 picture cannot be read" in invoke("evaluate", trained, tmp_path / "new", *skip).stdout
    metrics = json.loads(invoke("evaluate", trained, tmp_path / "new", *skip, "--json").stdout)
    assert sum(metrics["test_images"]) == 2
    assert len(metrics["notes"]) == 1


@pytest.mark.parametrize("arguments", [["--set", "data.seed=1"], ["DATA", "--set", "plan.lr=1"]])
def test_evaluate_takes_settings_of_other_data_alone(trained, tmp_path, arguments):
    with pytest.raises(InputError, match="with evaluate; expected settings of other data"):
        invoke("evaluate", trained, *(tmp_path if word == "DATA" else word for word in arguments))


def test_pretraining_writes_weights_that_fit_takes(data, tmp_path):
    result = invoke("pretrain", data, "--kind", "mae", "--set", "plan.epochs=0", "--out", tmp_path / "pre")
    weights = tmp_path / "pre/encoder.safetensors"
    assert result.stdout.startswith(f"{weights}: tiny, mae on 30 pictures of ")
    settings = ["--set", "plan.epochs=0", "--method", "ce"]
    assert invoke("fit", data, "--backbone", weights, *settings, "--out", tmp_path / "run").exit_code == 0


# --- predict and priors ----------------------------------------------------------------------------------------------


def test_predict_as_json_has_the_best_classes_of_every_picture(trained, pictures):
    found = json.loads(invoke("predict", trained, pictures, "--top", 2, "--format", "json").stdout)
    assert [Path(entry["picture"]).name for entry in found] == ["9 [red].png", "10 [red].png"]
    for entry in found:
        assert len(entry["classes"]) == len(entry["probabilities"]) == 2
        assert set(entry["classes"]) <= set(HOSTILE)
        assert entry["probabilities"] == sorted(entry["probabilities"], reverse=True)


def test_predict_as_csv_survives_a_reader(trained, pictures):
    rows = list(csv.DictReader(io.StringIO(invoke("predict", trained, pictures, "--top", 6, "--format", "csv").stdout)))
    assert list(rows[0]) == ["picture", "rank", "class", "probability"]
    assert [int(row["rank"]) for row in rows] == [*range(1, 7)] * 2
    assert {row["class"] for row in rows} == set(HOSTILE)
    assert sum(float(row["probability"]) for row in rows) == pytest.approx(2, abs=1e-5)


def test_names_stay_inert_in_the_table(trained, pictures):
    out = invoke("predict", trained, pictures, "--top", 6).stdout
    lines = out.splitlines()
    assert len(lines) == 1 + 2 * 6  # a name with a line break does not make another row
    assert "\x1b" not in out  # nor does one change the colour of the terminal
    for name in ("[bold]x[/bold]", ":cat:", "ünï 中", "9 [red].png", r"two\nlines", r"\x1b[31mred"):
        assert any(name in line for line in lines), name


def test_a_broken_picture_is_named_after_the_others_are_classified(main, trained, pictures, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    (tmp_path / "b.png").write_bytes((pictures / "9 [red].png").read_bytes())
    code, out, err = main("predict", trained, tmp_path, "--format", "json")
    assert code == 2
    assert [Path(entry["picture"]).name for entry in json.loads(out)] == ["b.png"]
    assert err.startswith("error: 1 of 2 were left out: ")
    assert "a.png: cannot be read" in err
    assert err.count("\n") == 1


def test_more_classes_than_there_are_is_all_of_them(trained, pictures):
    found = json.loads(invoke("predict", trained, pictures, "--top", 99, "--format", "json").stdout)
    assert all(len(entry["classes"]) == 6 for entry in found)


def probabilities(trained, pictures, prior):
    arguments = ["predict", trained, pictures, "--top", 6, "--format", "json", *(["--prior", prior] if prior else [])]
    return [dict(zip(e["classes"], e["probabilities"], strict=True)) for e in json.loads(invoke(*arguments).stdout)]


def test_a_prior_from_a_file_multiplies_the_odds(trained, pictures, tmp_path):
    uniform = probabilities(trained, pictures, "uniform")
    weights = [8.0, 1, 1, 1, 1, 1]
    (tmp_path / "prior.json").write_text(json.dumps(weights))
    shifted = probabilities(trained, pictures, tmp_path / "prior.json")
    for before, after in zip(uniform, shifted, strict=True):
        expected = {name: before[name] * weight for name, weight in zip(HOSTILE, weights, strict=True)}
        total = sum(expected.values())
        assert after == pytest.approx({name: value / total for name, value in expected.items()}, rel=1e-4)


def test_the_training_prior_of_equal_classes_is_the_uniform_one(trained, pictures):
    for train, uniform in zip(
        probabilities(trained, pictures, "train"), probabilities(trained, pictures, "uniform"), strict=True
    ):
        assert train == pytest.approx(uniform, rel=1e-5)


@pytest.mark.parametrize("content", ["{", '{"a": 1}', '["a"]', "[1, 2]", "[1,1,1,1,1,0]", "[NaN,1,1,1,1,1]", "[]"])
def test_a_prior_file_that_does_not_fit_is_refused(trained, pictures, tmp_path, content):
    (tmp_path / "prior.json").write_text(content)
    with pytest.raises(InputError):
        invoke("predict", trained, pictures, "--prior", tmp_path / "prior.json")


def test_the_named_priors_are_not_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train").write_text("[1]")
    assert (read_prior(None), read_prior("train"), read_prior("uniform")) == (None, "train", "uniform")


@pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode there")
@pytest.mark.parametrize("form", ["json", "csv", "table"])
def test_a_file_name_that_is_no_unicode_is_printed_all_the_same(main, trained, pictures, tmp_path, form):
    name = os.fsencode(tmp_path) + b"/\xff.png"
    try:
        Path(os.fsdecode(name)).write_bytes((pictures / "9 [red].png").read_bytes())
    except OSError:
        pytest.skip("this file system takes Unicode alone")
    code, out, err = main("predict", trained, tmp_path, "--format", form)
    assert code == 0, err
    assert r"\udcff.png" in out
    if form == "json":
        assert os.fsencode(json.loads(out)[0]["picture"]) == name
