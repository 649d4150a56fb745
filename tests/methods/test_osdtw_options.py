"""OSDTW's options beyond the paper, in whole fits: what each changes, and what it must leave alone."""

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from forktail.backbones.layered import Layered
from forktail.errors import InputError
from forktail.fisher.store import unpacked
from forktail.methods import _method, osdtw
from forktail.methods._merging import merge
from forktail.methods.osdtw import OSDTW
from forktail.predictor import load_weights, read_spec, save_predictor
from forktail.training.cost import inference_flops
from forktail.training.plan import Plan

PLAN = Plan(epochs=2, batch_size=8, lr=1e-2)
COUNTS = np.array([3, 12, 1, 8, 2, 6])
CELL = {"depth": 1, "weight": 0.4, "weights": 4}
EVERYTHING = {
    "reading": "refined",
    "damping": 0.1,
    "stage1_decay": 0.1,
    "stage2_start": "merged",
    "teachers": 0.5,
    "refinement": "balanced_softmax",
    "averaging": 0.5,
    "separation": True,
    "calibration": True,
}


@pytest.fixture(scope="module")
def held_out(problem):
    """The same problem with a validation part; only its place matters here."""
    return dataclasses.replace(problem, val=problem.train.subset(np.arange(0, 32, 2)))


@pytest.fixture(scope="module")
def fit(held_out, make_engine, tmp_path_factory):
    """Fit with some options: returns the predictor and its run; equal options are fitted once."""
    cache, done = tmp_path_factory.mktemp("stages"), {}

    def fitted(plan=PLAN, **options):
        key = (plan, *sorted(options.items()))
        if key not in done:
            engine = make_engine(plan, cache=cache)
            done[key] = OSDTW(**{**CELL, **options}).fit(held_out, engine).eval(), engine
        return done[key]

    return fitted


def record(engine, name):
    (found,) = [record for record in engine.manifest if record["stage"] == name]
    return found


def stage(engine, name):
    return load_file(engine.cache / record(engine, name)["fingerprint"] / "result.safetensors")


def network_of(engine, name, network):
    """A network as a stage left it."""
    state = {key.removeprefix("objective.network."): value for key, value in stage(engine, name).items()}
    network.load_state_dict({key: value for key, value in state.items() if not key.startswith("objective.")})
    return network


def unlike(fit, **options):
    """The stages whose fingerprints an option changes."""
    before, after = ({r["stage"]: r["fingerprint"] for r in fit(**each)[1].manifest} for each in ({}, options))
    return [name for name, mark in after.items() if before.get(name) != mark]


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"stage2_start": "merged"}, ["stage2", "refinement"]),
        ({"refinement": "balanced_softmax"}, ["offsets", "refinement"]),
        ({"teachers": 0.5}, ["stage2", "refinement"]),
        ({"averaging": 0.5}, ["stage2", "refinement"]),
        ({"calibration": True}, ["calibration"]),
        ({"stage1_decay": 0.1}, ["stage1-head", "stage1-tail", "moments"]),  # this assembly takes nothing of them
    ],
    ids=str,
)
def test_an_option_changes_the_stages_that_it_speaks_of_and_no_other(fit, options, changed):
    assert unlike(fit, **options) == changed


AT_DEPTH_0 = ("stage2-head", "stage2-tail")


def test_at_depth_0_there_is_nothing_to_merge(fit):
    marks = [
        [r["fingerprint"] for r in fit(depth=0, stage2_start=start)[1].manifest] for start in ("pretrained", "merged")
    ]
    assert marks[0] == marks[1]


def test_all_options_together_fit_save_and_load(fit, tmp_path, unseen):
    predictor, engine = fit(**EVERYTHING)
    assert tuple(r["stage"] for r in engine.manifest) == tuple(s for s in OSDTW.stages if s not in AT_DEPTH_0)
    assert all(r["flops"] > 0 for r in engine.manifest)
    save_predictor(tmp_path, predictor)
    spec = read_spec(tmp_path)
    loaded = load_weights(OSDTW(**spec.options).build(spec), tmp_path)
    torch.testing.assert_close(loaded(unseen), predictor(unseen), rtol=0, atol=0)
    assert loaded.rule == predictor.rule == "adjusted"


def test_all_options_together_spend_a_budget(fit):
    budget = 2 * fit(**EVERYTHING)[1].flops
    for depth in (0, None):
        _, engine = fit(plan=dataclasses.replace(PLAN, flops=budget), **{**EVERYTHING, "depth": depth})
        step = max(r["flops"] / r["steps"] for r in engine.manifest if r.get("steps"))
        assert 0 <= budget - engine.flops < step * len(engine.manifest)


# --- averaging -------------------------------------------------------------------------------------------------------


def test_the_fit_continues_from_the_means_of_stage_2_and_ends_with_those_of_the_refinement(fit):
    predictor, engine = fit(averaging=0.5)
    last, plain = stage(engine, "stage2"), fit()[1]
    for name, value in stage(plain, "stage2").items():
        torch.testing.assert_close(last[f"objective.{name}"], value, rtol=0, atol=0)  # the same steps as without
    mean = last["objective.mean.module.shared.0.1.weight"]
    assert not torch.equal(mean, last["objective.objective.network.shared.0.1.weight"])
    torch.testing.assert_close(predictor.network.layer(0, 0)[1].weight, mean, rtol=0, atol=0)
    refined = stage(engine, "refinement")
    for task in (0, 1):
        name = f"branches.{task}.classifier.weight"
        assert not torch.equal(refined[f"objective.mean.module.{name}"], refined[f"objective.objective.network.{name}"])
        found = predictor.network.classifier(task).weight
        torch.testing.assert_close(found, refined[f"objective.mean.module.{name}"], rtol=0, atol=0)


def test_a_share_of_less_than_a_step_changes_nothing(problem, make_engine, monkeypatch):
    for module in (_method, osdtw):
        monkeypatch.setattr(module, "open_backbone", with_batch_norm)
    plain, none = (OSDTW(averaging=share, **CELL).fit(problem, make_engine(PLAN)).network for share in (0.0, 0.01))
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(none.state_dict()[name], value, rtol=0, atol=0)


# --- a start where Stage 1 ended -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage2", ["whole", "shared"])
def test_without_epochs_stage_2_is_the_merge_of_what_was_measured(fit, held_out, stage2):
    options = {"stage2_start": "merged", "stage2": stage2, "stage2_epochs": 0, "refinement_epochs": 0}
    predictor, engine = fit(**options)
    assert record(engine, "stage2")["steps"] == 0
    specialists = [
        network_of(engine, f"stage1-{name}", held_out.network(_method.TaskSplit.single(3))) for name in ("head", "tail")
    ]
    arrays = engine.cache / record(engine, "moments")["fingerprint"] / "arrays.safetensors"
    measured = unpacked({name: value.numpy() for name, value in load_file(arrays).items()}).whole
    expected = held_out.network(held_out.split, None if stage2 == "whole" else 1)
    merge(expected, specialists, [unit.curvature for unit in measured.units], (0.4, 0.6))
    found = network_of(engine, "stage2", held_out.network(held_out.split, None if stage2 == "whole" else 1))
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, rtol=0, atol=0)
    for index in (0, 1):
        for name, value in expected.layer(0, index).state_dict().items():
            torch.testing.assert_close(predictor.network.layer(0, index).state_dict()[name], value, rtol=0, atol=0)


def test_a_cell_by_itself_loads_the_moments_of_the_merge(fit, held_out):
    _, engine = fit(stage2_start="merged")
    before = [r["fingerprint"] for r in engine.manifest]
    method = OSDTW(stage2_start="merged", **CELL)
    specialists = method.specialists(held_out, engine)
    _, refined = method.cell(held_out, engine, specialists, 1, (0.4, 0.6))
    assert [r["fingerprint"] for r in engine.manifest] == before  # what is there already is not listed again
    predictor = fit(stage2_start="merged")[0]
    for name, value in predictor.network.state_dict().items():
        torch.testing.assert_close(refined.state_dict()[name], value, rtol=0, atol=0)


def with_batch_norm(spec, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**31)
        stem = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
        units = [nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5), nn.Tanh()) for _ in range(2)]
        return Layered(stem, units, nn.LayerNorm(5), num_features=5)


@pytest.mark.parametrize("options", [{"stage2_start": "merged", "stage2_epochs": 0}, {"averaging": 0.5}], ids=str)
def test_the_statistics_of_mean_weights_are_those_of_their_own_activations(
    held_out, inputs, make_engine, monkeypatch, options
):
    for module in (_method, osdtw):
        monkeypatch.setattr(module, "open_backbone", with_batch_norm)
    method = OSDTW(**options, refinement_epochs=0, **{**CELL, "depth": 2})
    network = method.fit(held_out, make_engine(PLAN)).network
    hidden = inputs
    with torch.no_grad():
        for index in range(3):
            layer = network.layer(0, index).eval()
            if index:
                entering = layer[0](hidden)
                torch.testing.assert_close(layer[1].running_mean, entering.mean(0), rtol=1e-4, atol=1e-5)
                torch.testing.assert_close(layer[1].running_var, entering.var(0), rtol=1e-4, atol=1e-5)
                hidden = nn.functional.batch_norm(entering, None, None, layer[1].weight, layer[1].bias, training=True)
                hidden = hidden.tanh()
            else:
                hidden = layer(hidden)


# --- a refinement by one softmax -------------------------------------------------------------------------------------


def test_a_softmax_starts_with_the_assembly_and_its_offsets(fit, held_out, unseen):
    """Without a step of refinement: a plan of one epoch rounds three tenths of it to none."""
    plan = dataclasses.replace(PLAN, epochs=1)
    (plain, _), (softmax, engine) = fit(plan), fit(plan, refinement="balanced_softmax")
    assert record(engine, "refinement")["steps"] == 0
    assert (plain.rule, softmax.rule) == ("posterior", "adjusted")
    offsets = softmax.network(unseen) - plain.network(unseen)
    torch.testing.assert_close(offsets, offsets[:1].expand_as(offsets), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(softmax(unseen), softmax.network(unseen), rtol=0, atol=0)
    assert record(engine, "offsets")["flops"] == 32 * inference_flops(softmax.network, (3, 8, 8))


def test_the_start_is_nearer_to_the_posterior_than_the_outputs_are(fit, inputs):
    plan = dataclasses.replace(PLAN, epochs=1)
    (plain, _), (softmax, _) = fit(plan), fit(plan, refinement="balanced_softmax")
    with torch.no_grad():
        wanted, found, margin = (
            torch.log_softmax(x, 1) for x in (plain(inputs), softmax(inputs), plain.network(inputs))
        )
    divergence = [(wanted.exp() * (wanted - other)).sum(1).mean() for other in (found, margin)]
    assert divergence[0] < 0.9 * divergence[1]


def test_the_softmax_is_trained_by_the_logit_adjusted_cross_entropy(fit, held_out, inputs, make_engine):
    """The log of the refinement's first step, with all images in one batch, against the formula."""
    plain = dataclasses.replace(held_out, train=held_out.train.with_transform(held_out.preprocess))
    engine = make_engine(dataclasses.replace(PLAN, batch_size=32))
    method = OSDTW(refinement="balanced_softmax", refinement_epochs=1, tau=0.5, **CELL)
    specialists = method.specialists(plain, engine)
    raw, refined = method.cell(plain, engine, specialists, 1, (0.4, 0.6))
    with torch.no_grad():
        z = raw(inputs).double().numpy() + 0.5 * np.log(COUNTS / COUNTS.sum())
    losses = np.log(np.exp(z).sum(1)) - z[np.arange(32), plain.train.labels]
    (logged,) = [line["loss"] for line in engine._log if line["stage"] == "refinement"]
    assert logged == pytest.approx(losses.mean(), rel=1e-5)
    for name, value in refined.shared.state_dict().items():
        torch.testing.assert_close(value, raw.shared.state_dict()[name], rtol=0, atol=0)
    assert not torch.equal(refined.classifier(1).bias, raw.classifier(1).bias)


# --- teachers --------------------------------------------------------------------------------------------------------


def test_teachers_are_the_specialists_and_their_passes_are_counted(fit, held_out):
    (_, plain), (_, taught) = fit(), fit(teachers=0.5)
    for name, images_seen in (("stage2", 2 * 32), ("refinement", 32)):
        left = stage(taught, name)
        for task, alone in enumerate(("stage1-head", "stage1-tail")):
            prefix = f"objective.teachers.{task}."
            theirs = {key.removeprefix(prefix): value for key, value in left.items() if key.startswith(prefix)}
            for key, value in (
                network_of(taught, alone, held_out.network(_method.TaskSplit.single(3))).state_dict().items()
            ):
                torch.testing.assert_close(theirs[key], value, rtol=0, atol=0)
        forward = 2 * inference_flops(held_out.network(_method.TaskSplit.single(3)), (3, 8, 8))
        assert record(taught, name)["flops"] - record(plain, name)["flops"] == images_seen * forward
        assert record(taught, name)["trained_parameters"] == record(plain, name)["trained_parameters"]


def test_teachers_do_not_teach_a_softmax(fit):
    plain, taught = (fit(refinement="balanced_softmax", teachers=share)[1] for share in (0.0, 0.5))
    assert record(taught, "refinement")["flops"] == record(plain, "refinement")["flops"]


# --- calibration -----------------------------------------------------------------------------------------------------


def test_calibration_changes_outputs_by_two_numbers_per_task(fit, held_out, unseen):
    (plain, _), (calibrated, engine) = fit(), fit(calibration=True)
    facts = engine.run.read_json("calibration.json")
    assert facts["images"] == 16
    assert facts["nll"][1] < facts["nll"][0]
    with torch.no_grad():
        before, after = plain.network(unseen), calibrated.network(unseen)
    for task, classes in enumerate(held_out.split.tasks):
        columns = classes.tolist()
        expected = before[:, columns] / facts["temperatures"][task] + facts["offsets"][task]
        torch.testing.assert_close(after[:, columns], expected, rtol=1e-4, atol=1e-5)
    assert record(engine, "calibration")["flops"] == 16 * inference_flops(plain.network, (3, 8, 8))


def test_the_likelihood_that_is_told_is_that_of_the_model(fit, held_out):
    predictor, engine = fit(calibration=True)
    images = held_out.val.with_transform(held_out.preprocess)
    labels = images.labels
    present = np.unique(labels)
    with torch.no_grad():
        scores = predictor(torch.stack([images[i] for i in range(len(images))])).double().numpy()[:, present]
    log_p = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    per_class = [-log_p[labels == c][:, column].mean() for column, c in enumerate(present)]
    assert engine.run.read_json("calibration.json")["nll"][1] == pytest.approx(np.mean(per_class), rel=1e-4)


# --- refusals --------------------------------------------------------------------------------------------------------


def test_calibration_needs_held_out_images_and_says_so_before_training(problem, make_engine):
    engine = make_engine(PLAN)
    with pytest.raises(
        InputError, match="no images are held out to calibrate on; expected a validation part"
    ) as caught:
        OSDTW(calibration=True).fit(problem, engine)
    assert "\n" not in str(caught.value)
    assert not (engine.run.path / "stages").exists()


def test_a_softmax_without_refinement_is_refused():
    with pytest.raises(InputError, match=r"method\.refinement_epochs = 0 with refinement \"balanced_softmax\""):
        OSDTW(refinement="balanced_softmax", refinement_epochs=0)


@pytest.mark.parametrize(
    ("option", "value"),
    [("teachers", -0.1), ("teachers", 1.1), ("teachers", float("nan")), ("averaging", 1.5), ("averaging", -1.0),
     ("stage1_decay", -1.0), ("stage1_decay", float("inf")), ("stage1_decay", float("nan"))],
)  # fmt: skip
def test_a_senseless_value_is_refused_by_name(option, value):
    with pytest.raises(InputError, match=rf"^method\.{option} = {value}; expected "):
        OSDTW(**{option: value})
