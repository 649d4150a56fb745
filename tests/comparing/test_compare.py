"""Whole comparisons on a few images."""

import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from forktail.comparing.compare import compare
from forktail.errors import InputError
from forktail.training.engine import Engine
from forktail.training.progress import Silent

QUICK = ["plan.epochs=1", "plan.batch_size=16", "backbone.name=tiny", "backbone.weights=random"]


class Listener(Silent):
    """Keeps the sentences."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def stages(run):
    return json.loads((run / "stages.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Three methods, one of them twice, with two seeds."""
    random, labels = np.random.RandomState(0), np.repeat(np.arange(4), [12, 8, 4, 2])
    path = tmp_path_factory.mktemp("data") / "small.npz"
    draw = {n: random.randint(0, 256, (n, 28, 28)).astype(np.uint8) for n in (26, 8)}
    np.savez(path, x_train=draw[26], y_train=labels, x_test=draw[8], y_test=np.repeat(np.arange(4), 2))
    out = tmp_path_factory.mktemp("runs") / "comparison"
    methods = "ce,osdtw:depth=0:refinement_epochs=0,independent"
    return path, methods, compare(path, methods, seeds=[0, 1], settings=QUICK, out=out)


def test_everything_that_the_docs_name_is_there(finished):
    _, _, comparison = finished
    names = {path.name for path in comparison.path.iterdir() if not path.name.startswith(".")}
    assert names == {"comparison.json", "comparison.csv", "runs.csv", "compare.html", "runs", "stages"}
    folders = {path.name for path in (comparison.path / "runs").iterdir()}
    assert folders == {
        f"{name}-{seed}" for name in ("ce", "independent", "osdtw-depth-0-refinement_epochs-0") for seed in (0, 1)
    }
    for folder in folders:
        assert (comparison.path / "runs" / folder / "report.html").is_file()
    results = comparison.results
    assert len(results["methods"]) == 3
    assert results["left_out"] == []
    assert results["seeds"] == [0, 1]
    with (comparison.path / "runs.csv").open(newline="") as lines:
        assert len(list(csv.DictReader(lines))) == 6


def test_the_command_is_written_down_and_gives_the_same_again(finished):
    path, methods, comparison = finished
    command = comparison.results["command"]
    assert command.startswith(f"forktail compare {path} --methods {methods} --budget epochs --seeds 0,1")
    assert all(f"--set {setting}" in command for setting in QUICK)
    env = json.loads((comparison.path / "runs/ce-0/env.json").read_text())
    assert env["command"] == command


def test_a_common_stage_is_trained_once(finished):
    _, _, comparison = finished
    runs = comparison.path / "runs"
    first = stages(runs / "osdtw-depth-0-refinement_epochs-0-0")
    second = stages(runs / "independent-0")
    assert [record["fingerprint"] for record in first[:2]] == [record["fingerprint"] for record in second]
    timing = [json.loads(line) for line in (runs / "independent-0/timing.jsonl").read_text().splitlines()]
    assert all(record["found"] for record in timing)
    metrics = [
        json.loads((runs / name / "metrics.json").read_text())["accuracy"]
        for name in ("osdtw-depth-0-refinement_epochs-0-0", "independent-0")
    ]
    assert metrics[0] == metrics[1]  # the same networks, side by side


def test_the_same_call_trains_nothing_and_more_seeds_only_what_is_missing(finished, tmp_path, monkeypatch):
    path, _, comparison = finished
    out = tmp_path / "copy"
    shutil.copytree(comparison.path, out)
    before = {p: p.stat().st_mtime_ns for p in (out / "runs").rglob("metrics.json")}
    trained = []
    train = Engine.train

    def counted(self, stage, *rest):
        trained.append(stage)
        return train(self, stage, *rest)

    monkeypatch.setattr(Engine, "train", counted)
    compare(path, "ce,independent", seeds=[0, 1], settings=QUICK, out=out)
    assert trained == []
    compare(path, "ce,independent", seeds=[0, 1, 2], settings=QUICK, out=out)
    assert sorted(trained) == ["stage1-head", "stage1-tail", "training"]
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in before.items())


def test_two_processes_give_what_one_gives(finished, tmp_path):
    path, _, comparison = finished
    told = Listener()
    beside = compare(path, "ce,independent", seeds=[0], settings=QUICK, out=tmp_path / "beside", jobs=2, progress=told)
    assert {"ce, seed 0: training: 1 steps", "independent, seed 0: stage1-tail: 1 steps"} <= set(told.notes)
    for name in ("ce-0", "independent-0"):
        for file in ("metrics.json", "stages.json", "log.jsonl"):
            here, there = (folder / "runs" / name / file for folder in (comparison.path, beside.path))
            assert here.read_bytes() == there.read_bytes(), (name, file)


def test_a_script_without_a_guard_gets_one_line_and_leaves_nothing_behind(finished, tmp_path):
    """Each process reads the script, and would compare again; that says nothing, and its parent why."""
    path, _, _ = finished
    script = tmp_path / "script.py"
    asked = f"{str(path)!r}, 'ce,independent', seeds=[0], settings={QUICK!r}, out='out', jobs=2"
    script.write_text(f"import forktail\nforktail.compare({asked})\n")
    done = subprocess.run([sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert 'whose work stands under `if __name__ == "__main__":`' in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].endswith("or use jobs=1")
    assert [file.name for file in tmp_path.iterdir()] == [script.name]


def test_equal_compute_is_equal(finished, tmp_path):
    path, _, _ = finished
    settings = ["plan.epochs=20", "plan.batch_size=16", *QUICK[2:]]
    found = compare(
        path, "ce,osdtw,independent", budget="compute", seeds=[0], settings=settings, out=tmp_path / "equal"
    ).results
    spent = {row["label"]: row["mean"]["training_flops"] for row in found["methods"]}
    steps = {r["steps"] for r in stages(tmp_path / "equal/runs/ce-0")}
    assert steps == {20}  # what twenty epochs of ordinary training take, exactly
    for flops in spent.values():
        assert 0.8 * spent["ce"] < flops <= spent["ce"]  # but for less than one step of each stage; there are few here
    assert f"{spent['ce'] / 1e12:.4g} TFLOP" in found["budget_text"]


def test_a_run_that_diverges_is_left_out_and_named(finished, tmp_path, monkeypatch):
    path, _, _ = finished
    train = Engine.train

    def diverging(self, stage, *rest):
        if stage == "training" and self.seed == 1:
            raise InputError("stage training diverged at step 3")
        return train(self, stage, *rest)

    monkeypatch.setattr(Engine, "train", diverging)
    found = compare(path, "ce,independent", seeds=[0, 1], settings=QUICK, out=tmp_path / "broken").results
    assert [row["label"] for row in found["methods"]] == ["independent"]
    assert found["left_out"] == [{"label": "ce", "seed": 1, "reason": "stage training diverged at step 3"}]
    with pytest.raises(InputError, match="every method failed; ce, seed 1: stage training diverged at step 3"):
        compare(path, "ce,logit_adjustment", seeds=[1], settings=QUICK, out=tmp_path / "all")
    monkeypatch.undo()
    for folder, methods in (("broken", "ce,independent"), ("all", "ce,logit_adjustment")):
        mended = compare(path, methods, seeds=[0, 1], settings=QUICK, out=tmp_path / folder)
        assert len(mended.results["methods"]) == 2
        assert mended.results["left_out"] == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": []}, "--seeds"),
        ({"seeds": [0, 0]}, "--seeds 0,0; expected different numbers"),
        ({"jobs": 0}, "--jobs 0"),
        ({"budget": "computer"}, 'did you mean "compute"'),
        ({"settings": ["method.tau=2"]}, "say of which method: --methods NAME:tau=2"),
        ({"settings": ['method={name="ce"}']}, "say of which method: --methods NAME:KEY=VALUE"),
        ({"settings": ["seed=3"]}, "use --seeds"),
        (
            {"budget": "compute", "settings": [*QUICK[1:], "plan.epochs=0", "plan.flops=1e12"]},
            "expected at least one epoch",
        ),
        ({"settings": ["plan.flops=1e9"]}, "use --budget compute"),
        ({"budget": "compute", "settings": ["plan.epochs=0"]}, "expected at least one epoch"),
        ({"methods": "ce,osdtw:deptth=1"}, 'did you mean "method.depth"'),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(finished, tmp_path, changes, message):
    path, _, _ = finished
    asked = {"methods": "ce,independent", "settings": QUICK, "out": tmp_path / "out", **changes}
    with pytest.raises(InputError, match=message):
        compare(path, **asked)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_other_things_and_another_recipe_are_refused(finished, tmp_path):
    path, _, comparison = finished
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday/beach.jpg").write_bytes(b"")
    with pytest.raises(InputError, match="holds other files and no comparison"):
        compare(path, "ce,independent", settings=QUICK, out=tmp_path / "holiday")
    with pytest.raises(InputError, match=r"another recipe \(plan\.lr.*choose another --out for the comparison"):
        compare(path, "ce,independent", seeds=[0], settings=[*QUICK, "plan.lr=0.5"], out=comparison.path)


def test_a_page_that_is_missing_is_written_and_other_pictures_are_refused(finished, tmp_path):
    path, _, comparison = finished
    out, data = tmp_path / "copy", tmp_path / path.name
    shutil.copytree(comparison.path, out)
    shutil.copy(path, data)
    (out / "runs/ce-0/report.html").unlink()
    compare(path, "ce,independent", seeds=[0, 1], settings=QUICK, out=out)
    assert (out / "runs/ce-0/report.html").is_file()
    with np.load(path) as stored:
        changed = {name: stored[name].copy() for name in stored.files}
    changed["x_train"][0] += 1
    kept = path.read_bytes()
    try:
        np.savez(path, **changed)
        with pytest.raises(InputError, match="trained on other pictures than small holds now"):
            compare(path, "ce,independent", seeds=[0, 1, 2], settings=QUICK, out=out)
    finally:
        path.write_bytes(kept)


def test_the_clock_of_a_kept_analysis_is_that_of_its_making(finished, tmp_path):
    """The probe does not depend on the seed: later runs find it, and take what it took."""
    path, _, _ = finished
    settings = [*QUICK[:3], "backbone.weights=embedded"]
    found = compare(path, "ce,linear_probe", seeds=[0, 1], settings=settings, out=tmp_path / "probe").results
    (probe,) = [row for row in found["methods"] if row["label"] == "linear_probe"]
    seconds = [record["seconds"] for record in probe["per_seed"]]
    assert seconds[0] == seconds[1] > 0
    assert probe["standard_error"]["balanced"] == 0


def test_validation_pictures_rank_where_every_class_has_some(finished, tmp_path):
    path, _, comparison = finished
    assert "the reference is the first baseline that was named" in comparison.results["ranking"]
    assert comparison.results["reference"] == "ce"
    with np.load(path) as stored:  # ten of each class, so that each can spare some
        random, labels = np.random.RandomState(0), np.repeat(np.arange(4), 10)
        pictures = random.randint(0, 256, (40, 28, 28)).astype(np.uint8)
        tested = {name: stored[name] for name in ("x_test", "y_test")}
    np.savez(tmp_path / "even.npz", x_train=pictures, y_train=labels, **tested)
    settings = [*QUICK, "data.validation=true"]
    found = compare(tmp_path / "even.npz", "independent,ce", seeds=[0], settings=settings, out=tmp_path / "out").results
    assert "validation pictures, which also chose the reference" in found["ranking"]
    folders = {row["label"]: tmp_path / "out" / row["runs"][0] for row in found["methods"]}
    held = {label: json.loads((folder / "validation.json").read_text()) for label, folder in folders.items()}
    best = max(held, key=lambda label: held[label]["accuracy"]["balanced"])
    assert held[found["reference"]]["accuracy"]["balanced"] == held[best]["accuracy"]["balanced"]
