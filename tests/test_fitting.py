import json

import numpy as np
import pytest
import torch
from PIL import Image

import forktail
from forktail.comparing.compare import compare
from forktail.data.images import ArrayPictures
from forktail.errors import InputError
from forktail.fitting import fit
from forktail.trained import evaluate_run, load
from forktail.training.engine import Engine

QUICK = ["plan.epochs=2", "plan.batch_size=16", "backbone.name=tiny", "backbone.weights=random"]


def test_the_public_names_are_there_and_nothing_else():
    assert forktail.compare is compare
    assert forktail.fit is fit
    assert forktail.load is load
    assert forktail.InputError is InputError
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        forktail.fitt  # noqa: B018


@pytest.mark.parametrize("method", ["ce", "osdtw"])
def test_a_run_holds_what_the_docs_say_and_loads_again(tmp_path, small_npz, method):
    run = fit(small_npz, method, settings=QUICK, out=tmp_path / "run")
    written = {path.name for path in run.path.iterdir() if not path.name.startswith(".")}
    always = {"recipe.toml", "env.json", "log.jsonl", "timing.jsonl", "stages.json", "stages", "metrics.json", "model"}
    always |= {"cost.json", "report.html", "confused"}
    assert written == (always | {"criterion.csv", "criterion.json", "selection.json"} if method == "osdtw" else always)
    accuracy = run.metrics["accuracy"]
    assert set(accuracy) == {"balanced", "micro", "many", "medium", "few", "head", "tail", "worst"}
    assert accuracy["many"] is None  # no class has more than 100 images
    assert {"groups", "per_class", "macro_f1", "nll", "risk", "ece", "evaluated_on"} <= set(run.metrics)
    assert (run.metrics["risk"] is None) == (method == "ce")
    assert evaluate_run(run.path) == run.metrics


def test_the_same_seed_gives_equal_files_and_another_seed_does_not(tmp_path, small_npz):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        fit(small_npz, "osdtw", settings=QUICK, out=tmp_path / name, seed=seed)

    def content(name, file):
        return (tmp_path / name / file).read_bytes()

    for file in (
        "metrics.json",
        "log.jsonl",
        "stages.json",
        "criterion.csv",
        "selection.json",
        "model/model.safetensors",
    ):
        assert content("a", file) == content("b", file), file
    assert content("a", "model/model.safetensors") != content("c", "model/model.safetensors")


def test_a_finished_run_is_returned_as_it_is_and_another_recipe_is_refused(tmp_path, small_npz):
    fit(small_npz, "ce", settings=QUICK, out=tmp_path / "run")
    stamp = (tmp_path / "run/metrics.json").stat().st_mtime_ns
    fit(small_npz, "ce", settings=QUICK, out=tmp_path / "run")
    assert (tmp_path / "run/metrics.json").stat().st_mtime_ns == stamp
    with pytest.raises(InputError, match=r"another recipe \(plan\.epochs = 2 there, 3 now\)"):
        fit(small_npz, "ce", settings=[*QUICK, "plan.epochs=3"], out=tmp_path / "run")


@pytest.mark.parametrize("method", ["ce", "logit_adjustment", "osdtw"])
def test_the_test_split_is_not_touched_before_the_model_is_saved(tmp_path, small_npz, monkeypatch, method):
    """Every picture of the test part raises until model.safetensors stands on disk."""
    saved = tmp_path / "run/model/model.safetensors"
    reads = []
    read = ArrayPictures.read

    def guarded(self, position):
        if self.label == "x_test":
            assert saved.exists(), "a test picture was read before the end"
            reads.append(position)
        return read(self, position)

    monkeypatch.setattr(ArrayPictures, "read", guarded)
    fit(small_npz, method, settings=QUICK, out=tmp_path / "run")
    assert set(reads) == set(range(30))  # some twice: examples of what is confused


def test_the_guard_above_can_fail(small_npz, monkeypatch):
    seen = []
    monkeypatch.setattr(
        ArrayPictures, "read", lambda self, position: seen.append(self.label) or Image.new("RGB", (28, 28))
    )
    from forktail.data.open import DataSpec, open_data

    open_data(DataSpec(str(small_npz))).test.read(0)
    assert seen[-1] == "x_test"


def test_test_labels_do_not_reach_the_training(tmp_path, small_npz):
    """Other test labels, same model."""
    with np.load(small_npz) as stored:
        arrays = dict(stored)
    other = tmp_path / "other.npz"
    np.savez(other, **{**arrays, "y_test": arrays["y_test"][::-1]})
    a, b = (fit(path, "osdtw", settings=QUICK, out=tmp_path / path.stem) for path in (small_npz, other))
    assert (a.model / "model.safetensors").read_bytes() == (b.model / "model.safetensors").read_bytes()
    assert a.metrics["nll"] != b.metrics["nll"]


def test_a_validation_part_changes_counts_and_is_not_trained_on(tmp_path, small_npz):
    run = fit(small_npz, "ce", settings=[*QUICK, "data.validation=true"], out=tmp_path / "run")
    counts = json.loads((run.model / "model.json").read_text())["counts"]
    assert counts == [20, 13, 10, 7, 4, 1]  # min(5, n // 5) less
    notes = json.loads((run.path / "env.json").read_text())["data"]["notes"]
    assert any("validation" in note for note in notes)


def test_large_pictures_without_a_backbone_stop_with_three_suggestions(tmp_path):
    arrays = {"x": np.zeros((8, 100, 80), np.uint8), "y": np.arange(8) % 2}
    np.savez(tmp_path / "big.npz", x_train=arrays["x"], y_train=arrays["y"], x_test=arrays["x"], y_test=arrays["y"])
    with pytest.raises(InputError, match="about 100 px wide") as caught:
        fit(tmp_path / "big.npz", "ce", out=tmp_path / "run")
    assert str(caught.value).count("--backbone ") == 4  # what is expected, and three suggestions
    assert not (tmp_path / "run/model").exists()
    run = fit(tmp_path / "big.npz", "ce", backbone="tiny", settings=QUICK[:2] + QUICK[3:], out=tmp_path / "run")
    assert run.finished  # in the same place: the message can be followed


def test_weights_of_one_run_start_another(tmp_path, small_npz):
    from forktail.pretraining.pretrain import pretrain

    pretrain(str(small_npz), settings=["plan.epochs=1", "plan.batch_size=16"], out=tmp_path / "pre")
    run = fit(
        small_npz, "ce", backbone=str(tmp_path / "pre/encoder.safetensors"), settings=QUICK[:2], out=tmp_path / "run"
    )
    assert run.finished
    (tmp_path / "pre/encoder.safetensors").unlink()
    assert load(run.path).spec.backbone.name == "tiny"  # the trained model needs the file no more


def test_a_folder_of_other_things_is_no_place_for_a_run(tmp_path, small_npz):
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday/beach.jpg").write_bytes(b"")
    with pytest.raises(InputError, match="holds other files and no run"):
        fit(small_npz, "ce", settings=QUICK, out=tmp_path / "holiday")
    assert [path.name for path in (tmp_path / "holiday").iterdir()] == ["beach.jpg"]


def test_bad_input_leaves_nothing_behind(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        fit(tmp_path / "nowhere", "ce", settings=QUICK, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_method_object_is_trained_as_it_is(tmp_path, small_npz):
    from forktail.methods.logit_adjustment import LogitAdjustment

    with pytest.raises(InputError, match="beside a method object"):
        fit(small_npz, LogitAdjustment(), settings=["method.tau=2"], out=tmp_path / "run")
    run = fit(small_npz, LogitAdjustment(tau=0.5), settings=QUICK, out=tmp_path / "run")
    assert "tau = 0.5" in (run.path / "recipe.toml").read_text()


def test_an_interrupted_fit_goes_on(tmp_path, small_npz, monkeypatch):
    whole = fit(small_npz, "osdtw", settings=QUICK, out=tmp_path / "whole")
    train = Engine.train

    def stop_before_stage2(self, stage, *rest, **more):
        if stage == "refinement":
            raise KeyboardInterrupt
        return train(self, stage, *rest, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Engine, "train", stop_before_stage2)
        with pytest.raises(KeyboardInterrupt):
            fit(small_npz, "osdtw", settings=QUICK, out=tmp_path / "run")
    assert not (tmp_path / "run/metrics.json").exists()
    resumed = fit(small_npz, "osdtw", settings=QUICK, out=tmp_path / "run")
    for file in ("metrics.json", "log.jsonl", "stages.json", "model/model.safetensors"):
        assert (resumed.path / file).read_bytes() == (whole.path / file).read_bytes()


def test_the_global_generators_of_the_caller_are_left_alone(tmp_path, small_npz):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    fit(small_npz, "osdtw", settings=QUICK, out=tmp_path / "run")
    torch.testing.assert_close(torch.rand(2), expected, rtol=0, atol=0)
