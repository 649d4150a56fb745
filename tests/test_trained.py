import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import forktail
from forktail import trained
from forktail.data.open import open_data
from forktail.errors import InputError
from forktail.fitting import fit
from forktail.trained import evaluate_run, predict_files

QUICK = ["plan.epochs=2", "plan.batch_size=16", "backbone.name=tiny", "backbone.weights=random"]


def test_prediction_says_what_evaluation_says(tmp_path, small_npz):
    run = fit(small_npz, "ce", settings=[*QUICK, "plan.epochs=8"], out=tmp_path / "run")
    with np.load(small_npz) as stored:
        pictures, labels = stored["x_test"], stored["y_test"]
    found = forktail.load(run.path).predict(list(pictures))
    right = np.mean([p.classes[0] == str(label) for p, label in zip(found, labels, strict=True)])
    assert right == pytest.approx(run.metrics["accuracy"]["micro"])


def test_files_are_predicted_and_a_broken_one_is_named(tmp_path, small_npz):
    run = fit(small_npz, "ce", settings=QUICK, out=tmp_path / "run")
    folder = tmp_path / "new"
    folder.mkdir()
    for number in (10, 9):
        Image.new("L", (40, 30), number).save(folder / f"{number}.png")
    found, problems = predict_files(run.path, [folder, folder / "9.png"], top=2)
    assert problems == []
    assert [p.picture for p in found] == [str(folder / name) for name in ("9.png", "10.png", "9.png")]
    assert all(len(p.classes) == 2 for p in found)
    (folder / "9.png").write_bytes(b"no picture")
    found, problems = predict_files(run.path, [folder])
    assert [p.picture for p in found] == [str(folder / "10.png")]
    assert len(problems) == 1
    assert "9.png: cannot be read" in problems[0]
    with pytest.raises(InputError, match="no such file"):
        predict_files(run.path, [tmp_path / "nowhere"])


def test_other_data_must_have_the_models_classes(tmp_path, small_npz):
    run = fit(small_npz, "ce", settings=QUICK, out=tmp_path / "run")
    with pytest.raises(InputError, match="94 classes that the model does not know"):
        evaluate_run(run.path, "glyphs")


def test_pictures_without_a_test_part_are_all_measured_on(tmp_path, small_npz):
    run = fit(small_npz, "ce", settings=QUICK, out=tmp_path / "run")
    with np.load(small_npz) as stored:
        for number, (picture, label) in enumerate(zip(stored["x_test"], stored["y_test"], strict=True)):
            (tmp_path / f"new/{label}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(tmp_path / f"new/{label}/{number:03}.png")
    metrics, expected = evaluate_run(run.path, str(tmp_path / "new")), run.metrics
    for pair in [*metrics["confused"], *expected["confused"]]:
        del pair["names"]  # files here, rows of an array there
    assert {**metrics, "evaluated_on": "test"} == expected
    assert evaluate_run(run.path, str(small_npz)) == run.metrics


def test_a_prior_changes_predictions_towards_it(tmp_path, small_npz):
    run = fit(small_npz, "ce", settings=QUICK, out=tmp_path / "run")
    plain, uniform = evaluate_run(run.path, prior="train"), evaluate_run(run.path, prior="uniform")
    assert plain["per_class"] == run.metrics["per_class"]  # cross-entropy predicts under the training prior
    assert run.metrics["nll"] == uniform["nll"] != plain["nll"]  # but likelihoods are compared under the uniform one


def test_figures_of_an_adapted_model_stand_apart_and_nothing_in_the_run_changes(tmp_path, small_npz):
    run = fit(
        small_npz,
        "sade",
        settings=[*QUICK, "method.adaptation_epochs=1", "method.adaptation_lr=5.0"],
        out=tmp_path / "run",
    )
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    metrics = evaluate_run(run.path, adapt=True)
    transductive = metrics.pop("transductive")
    assert metrics == run.metrics
    assert transductive["nll"] != metrics["nll"]
    assert any("not to be compared" in note for note in transductive["notes"])
    assert evaluate_run(run.path, adapt=True)["transductive"] == transductive
    elsewhere = evaluate_run(run.path, str(small_npz), adapt=True, prior="train")["transductive"]
    assert (elsewhere["prior"], elsewhere["evaluated_on"]) == ("train", "test")
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_a_set_that_is_gone_is_missed_before_anything_is_measured(tmp_path, small_npz, monkeypatch):
    """Other pictures are measured on; the run's own say how the method saw its pictures."""
    (tmp_path / "own.npz").write_bytes(small_npz.read_bytes())
    run = fit(tmp_path / "own.npz", "sade", settings=[*QUICK, "method.adaptation_epochs=1"], out=tmp_path / "run")
    measured, opened = [], []
    monkeypatch.setattr(trained, "evaluate", lambda *args, **options: measured.append(args) or {})
    monkeypatch.setattr(trained, "open_data", lambda spec: opened.append(spec) or open_data(spec))
    evaluate_run(run.path, adapt=True)
    assert (len(measured), len(opened)) == (2, 1)  # once, though it is measured on as well
    (tmp_path / "own.npz").unlink()
    with pytest.raises(InputError, match=r"own\.npz"):
        evaluate_run(run.path, str(small_npz), adapt=True)
    assert len(measured) == 2


def test_a_method_that_cannot_adapt_says_which_can(tmp_path, small_npz):
    run = fit(small_npz, "ce", settings=QUICK, out=tmp_path / "run")
    with pytest.raises(InputError, match=r'method "ce" cannot adapt to test pictures; expected a run of .*sade'):
        evaluate_run(run.path, adapt=True)


def test_nothing_but_evaluate_lets_a_model_look_at_test_pictures():
    source = Path(forktail.__file__).parent
    found = {path.name for path in source.rglob("*.py") if re.search(r"\.adapt\(", path.read_text(encoding="utf-8"))}
    assert found == {"trained.py"}
