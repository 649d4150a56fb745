"""OSDTW, option by option. All fits share one stage cache, so a stage that an option leaves alone is trained once."""

import copy
import csv
import dataclasses
import functools
import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from forktail.errors import InputError
from forktail.fisher.groups import stratified_groups
from forktail.fisher.moments import moments_of_sums, positions
from forktail.fisher.per_image import NetworkSums
from forktail.fisher.reference import per_image_gradients, reference_sums
from forktail.labels import TaskSplit, by_rank
from forktail.losses.balanced_bce import BalancedBCE
from forktail.methods import _criterion, _moments
from forktail.methods._tasks import WeightedTasks, task_losses
from forktail.methods.independent import Independent
from forktail.methods.osdtw import OSDTW
from forktail.predictor import save_predictor
from forktail.theory import READINGS, CoupledMoments, criterion_table, movement_damping, refined_table
from forktail.training.engine import Engine
from forktail.training.objective import Batch
from forktail.training.plan import Plan
from forktail.training.randomness import seed_of

PLAN = Plan(epochs=2, batch_size=8, lr=1e-2)
DEPTHS = 3  # 0, 1, 2: the stand-in backbone has two units
HEAD, TAIL = [1, 3, 5], [0, 4, 2]
COUNTS = np.array([3, 12, 1, 8, 2, 6])


@pytest.fixture(scope="module")
def fit(problem, make_engine, tmp_path_factory):
    """Fit with some options: returns the predictor and its run; equal options are fitted once."""
    cache, done = tmp_path_factory.mktemp("stages"), {}

    def fitted(plan=PLAN, **options):
        key = (plan, *sorted(options.items()))
        if key not in done:
            engine = make_engine(plan, cache=cache)
            predictor = OSDTW(**{"weights": 4, **options}).fit(problem, engine).eval()
            done[key] = predictor, engine
        return done[key]

    return fitted


def table(engine):
    with (engine.run.path / "criterion.csv").open() as stream:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]


def stage(engine, name):
    """The network that a stage left."""
    (mark,) = [record["fingerprint"] for record in engine.manifest if record["stage"] == name]
    state = load_file(engine.cache / mark / "result.safetensors")
    prefix = "objective.network."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def stages(engine):
    return [record["stage"] for record in engine.manifest]


def batch(inputs, targets):
    return Batch(inputs, targets, torch.arange(len(inputs)), 0.0, torch.Generator())


# --- the objective ---------------------------------------------------------------------------------------------------


def reference_loss(scores, labels, weights, tasks):
    """Sum over tasks and classes of the adjusted binary cross-entropy, one image and one class at a time."""
    prior = COUNTS / COUNTS.sum()
    losses = []
    for image, label in enumerate(labels):
        total = 0.0
        for weight, classes, task_scores in zip(weights, tasks, scores, strict=True):
            for column, c in enumerate(classes):
                z = float(task_scores[image, column]) + np.log(prior[c]) - np.log(1 - prior[c])
                p = 1 / (1 + np.exp(-z))
                total += weight * -(np.log(p) if label == c else np.log(1 - p))
        losses.append(total)
    return losses


@pytest.mark.parametrize("dense", [False, True])
def test_the_loss_is_the_weighted_sum_over_tasks_images_and_classes(problem, unseen, dense):
    tasks = [np.array(HEAD), np.array(TAIL)]
    network = problem.network(TaskSplit(tuple(tasks))).double()
    losses = [BalancedBCE(COUNTS, classes=task).double() for task in tasks]
    objective = WeightedTasks(network, losses, tasks, [0.3, 0.7]).double()
    labels = torch.arange(len(unseen)) % 6
    targets = torch.eye(6, dtype=torch.float64)[labels] if dense else labels
    found = objective(batch(unseen.double(), targets))
    with torch.no_grad():
        scores = network.task_scores(unseen.double())
    np.testing.assert_allclose(
        found.detach(), reference_loss(scores, labels.tolist(), [0.3, 0.7], tasks), rtol=1e-6
    )  # the constants are kept in float32


def test_an_image_of_the_other_task_is_a_row_of_zeros(problem, unseen):
    """Its loss is that of an image that belongs to no class, and no label of the other task changes it."""
    loss, classes = BalancedBCE(COUNTS, classes=np.array(TAIL)), np.array(TAIL)
    network = problem.network(TaskSplit((np.arange(3),)))
    objective = WeightedTasks(network, [loss], [classes], [1.0])
    negatives = loss(network(unseen), torch.zeros(len(unseen), 3))
    for label in HEAD:
        found = objective(batch(unseen, torch.full((len(unseen),), label)))
        torch.testing.assert_close(found, negatives, rtol=0, atol=0)
    own = objective(batch(unseen, torch.full((len(unseen),), TAIL[0])))
    assert not torch.isclose(own, negatives).any()


def test_soft_targets_are_cut_into_the_tasks_columns(problem, unseen):
    loss, classes = BalancedBCE(COUNTS, classes=np.array(TAIL)), np.array(TAIL)
    network = problem.network(TaskSplit((np.arange(3),)))
    mixed = torch.rand(len(unseen), 6)
    found = WeightedTasks(network, [loss], [classes], [1.0])(batch(unseen, mixed))
    torch.testing.assert_close(found, loss(network(unseen), mixed[:, [0, 4, 2]]))


def test_the_tasks_of_the_problem_are_head_and_tail_by_count(problem):
    assert [task.tolist() for task in problem.split.tasks] == [HEAD, TAIL]


# --- what a fit leaves -----------------------------------------------------------------------------------------------


def test_the_stages_stand_in_the_manifest_in_order(fit):
    _, engine = fit(depth=1)
    assert stages(engine) == ["stage1-head", "stage1-tail", "moments", "stage2", "refinement"]


def test_the_criterion_is_written_for_every_depth_and_weight(fit):
    _, engine = fit()
    text = (engine.run.path / "criterion.csv").read_text()
    terms = ["shared_variance", "shared_bias", "own_variance", "total"]
    assert text.splitlines()[0].split(",") == ["depth", "weight", *terms, *(f"{term}_error" for term in terms)]
    rows = table(engine)
    assert [(row["depth"], row["weight"]) for row in rows] == [
        (depth, weight) for depth in range(DEPTHS) for weight in (0.2, 0.4, 0.6, 0.8)
    ]
    for row in rows:
        assert row["total"] == pytest.approx(row["shared_variance"] + row["shared_bias"] + row["own_variance"])
    unshared = [row for row in rows if row["depth"] == 0]
    assert len({row["total"] for row in unshared}) == 1
    assert all(row["shared_variance"] == row["shared_bias"] == 0 for row in unshared)


def test_what_the_criterion_was_computed_with_stands_beside_it(fit, problem):
    facts = fit(reading="general", damping="movement")[1].run.read_json("criterion.json")
    assert (facts["reading"], facts["debiased"], facts["evaluation_prior"]) == ("general", False, "train")
    assert facts["images"] == len(problem.train)
    assert facts["damping"] > 0  # measured
    assert fit(damping=0.25, depth=1)[1].run.read_json("criterion.json")["damping"] == 0.25
    assert all(norm > 0 for norm in facts["mean_gradient_norms"])


def test_the_selection_is_the_smallest_cell_and_says_what_stood_against_it(fit):
    predictor, engine = fit()
    choice = json.loads((engine.run.path / "selection.json").read_text())
    always = ["depth", "weight", "value", "reading", "runner_up", "alike", "flatness"]
    assert list(choice) == [*always, "not_distinguishable", "sentence"]
    assert list(fit(groups=0)[1].run.selection) == always
    rows = table(engine)
    best = min(rows, key=lambda row: row["total"])
    assert choice["value"] == pytest.approx(best["total"])
    assert choice["depth"] == best["depth"]
    second = min((row for row in rows if row["depth"] != best["depth"]), key=lambda row: row["total"])
    assert choice["runner_up"]["depth"] == second["depth"]
    assert choice["reading"] == "sandwich"
    assert 0 < choice["flatness"] <= 1
    assert predictor.network.depth == predictor.spec.structure["depth"] == choice["depth"]


@pytest.mark.parametrize("depth", range(DEPTHS))
def test_a_pinned_depth_is_kept_and_the_weight_is_the_best_there(fit, depth):
    predictor, engine = fit(depth=depth)
    choice = engine.run.selection
    assert predictor.network.depth == choice["depth"] == depth
    assert choice["value"] == pytest.approx(min(row["total"] for row in table(engine) if row["depth"] == depth))
    assert choice["runner_up"] is None


@pytest.mark.parametrize(("weight", "candidates"), [(0.4, 4), (0.37, 5), (0.999, 5)])
def test_a_pinned_weight_is_kept_also_off_the_grid(fit, weight, candidates):
    _, engine = fit(weight=weight, depth=1)
    assert engine.run.selection["weight"] == weight
    assert len(table(engine)) == DEPTHS * candidates
    _, free = fit()
    by_cell = {(row["depth"], row["weight"]): row["total"] for row in table(free)}
    kept = {(row["depth"], row["weight"]): row["total"] for row in table(engine)}
    assert by_cell == pytest.approx({cell: kept[cell] for cell in by_cell})  # the pinned weight only adds cells
    weights = load_file(engine.cache / engine.manifest[3]["fingerprint"] / "result.safetensors")["objective.weights"]
    np.testing.assert_allclose(weights, [weight, 1 - weight], rtol=1e-6)


def test_depth_and_weight_pin_one_cell(fit):
    _, engine = fit(depth=2, weight=0.37)
    assert (engine.run.selection["depth"], engine.run.selection["weight"]) == (2, 0.37)


@pytest.mark.parametrize(
    "options",
    [
        *({"reading": reading, "damping": 0.0 if reading == "naive" else "movement"} for reading in READINGS),
        {"reading": "general", "debiased": True},
        *({"reading": reading, "stage1_images": "own"} for reading in ("general", "unequal", "sandwich")),
        {"reading": "sandwich", "damping": 0.1},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_every_reading_selects_a_cell(fit, options):
    predictor, engine = fit(refinement_epochs=0, **options)
    choice = engine.run.selection
    assert choice["reading"] == options["reading"]
    assert np.isfinite([row["total"] for row in table(engine)]).all()
    assert predictor.network.depth == choice["depth"]


def test_the_readings_differ(fit):
    tables = {
        reading: tuple(row["total"] for row in table(fit(reading=reading, damping=0.0, refinement_epochs=0)[1]))
        for reading in READINGS
    }
    assert len(set(tables.values())) == len(READINGS)


def test_the_sandwich_reading_selects_equal_weights(fit):
    """It does so at any Fisher and any distance, as long as nothing is damped (docs/theory, section 7)."""
    _, engine = fit(reading="sandwich", damping=0.0, depth=2, weights=3, refinement_epochs=0)
    assert engine.run.selection["weight"] == 0.5


# --- how sure --------------------------------------------------------------------------------------------------------


def test_groups_of_images_change_no_number_but_add_their_errors(fit, problem):
    for options in ({"damping": 0.0}, {"reading": "general"}, {"reading": "general", "evaluation_prior": "uniform"}):
        with_groups, without = (fit(groups=groups, **options)[1] for groups in (8, 0))
        for row, plain in zip(table(with_groups), table(without), strict=True):
            scale = row["shared_variance"] + row["own_variance"]
            for name, value in plain.items():
                # Batches are others, within which the network's own precision rounds; merging is exact (fisher tests).
                np.testing.assert_allclose(row[name], value, rtol=0, atol=1e-6 * scale, err_msg=name)
            # With one Fisher for all and nothing damped, what is not shared varies by its number of parameters alone.
            assert (row["total_error"] > 1e-9 * row["total"]) == (row["depth"] > 0 or "reading" in options)
        sizes = with_groups.run.read_json("criterion.json")["groups"]
        assert sizes == [4] * 8
        assert sum(sizes) == len(problem.train)
        assert without.run.read_json("criterion.json")["groups"] == []


def leave_one_out(problem, engine, reading):
    """Moments by the slow loop, of all images but those of one group, and the reference's table: the total."""
    seed = seed_of(engine.seed, "moments")
    images = problem.train.with_transform(problem.preprocess)
    networks, starts = [], []
    for name, classes in zip(("head", "tail"), problem.split.tasks, strict=True):
        for several in (networks, starts):
            several.append(problem.network(TaskSplit.single(len(classes))))
        networks[-1].load_state_dict(stage(engine, f"stage1-{name}"))
    parts = []
    for group in stratified_groups(problem.train.labels, 8, seed):
        batch = [(torch.stack([images[i] for i in group]), torch.eye(6)[images.labels[group]], None)]
        parts.append(reference_sums(networks, task_losses(problem, 1.0), problem.split, batch))
    moved = positions([network.double() for network in networks], [start.double() for start in starts])
    totals = []
    for left_out in (None, *range(8)):
        kept = [part for number, part in enumerate(parts) if number != left_out]
        units, decoders, _ = moments_of_sums(functools.reduce(NetworkSums.merge, kept), moved)
        grid = np.stack([np.arange(1, 5) / 5, 1 - np.arange(1, 5) / 5], axis=1)
        n = [len(images)] * 2
        totals.append(criterion_table(units, decoders, weights=grid, n=n, reading=reading).total)
    return totals


@pytest.mark.parametrize("reading", ["sandwich", "general"])
def test_the_errors_are_those_of_eight_tables_that_leave_out_a_group(fit, problem, reading):
    """Equal groups: (G - 1) / G times the sum of squares of the replicates round their mean."""
    _, engine = fit(reading=reading, damping=0.0, debiased=True)
    whole, *replicates = leave_one_out(problem, engine, reading)
    rows = table(engine)
    np.testing.assert_allclose([row["total"] for row in rows], whole.ravel(), rtol=1e-4)
    expected = np.sqrt(7 / 8 * ((np.stack(replicates) - np.mean(replicates, axis=0)) ** 2).sum(axis=0))
    np.testing.assert_allclose([row["total_error"] for row in rows], expected.ravel(), rtol=1e-3)
    choice = engine.run.selection
    row, column = choice["depth"], round(5 * choice["weight"]) - 1
    differences = np.stack([one - one[row, column] for one in (whole, *replicates)])
    center = 8 * differences[0] - 7 * differences[1:].mean(axis=0)
    spread = np.sqrt(7 / 8 * ((differences[1:] - differences[1:].mean(axis=0)) ** 2).sum(axis=0))
    unsure = center - 2.364624 * spread <= 0
    unsure[row, column] = False
    if row == 0:
        unsure[0] = False
    found = [(depth, round(5 * weight) - 1) for depth, weight in choice["not_distinguishable"]]
    assert found == [tuple(cell) for cell in np.argwhere(unsure).tolist()]
    assert choice["sentence"].startswith(f"depth {choice['depth']}, weight {choice['weight']:g}; ")


def test_the_damping_is_estimated_anew_without_each_group(fit, monkeypatch):
    found = []

    def counted(*arguments):
        found.append(movement_damping(*arguments))
        return found[-1]

    monkeypatch.setattr(_criterion, "movement_damping", counted)
    fit(reading="general", damping="movement", weights=6, refinement_epochs=0)
    assert len(set(found)) == 9


@pytest.mark.parametrize(
    ("options", "limit", "said"),
    [
        ({"groups": 33}, None, "there are only 32 training images for 33 groups; lower method.groups, or set it to 0"),
        ({"groups": 7}, 1000, "groups of images take .* GB, more than the 1e-06 GB that are allowed; lower"),
    ],
)
def test_errors_that_cannot_be_had_are_left_out_with_a_note(fit, monkeypatch, options, limit, said):
    if limit is not None:
        monkeypatch.setattr(_moments, "MOST_GROUP_BYTES", limit)
    _, engine = fit(**options)
    assert [re.search(said, note) is not None for note in engine.notes] == [True]
    assert "not_distinguishable" not in engine.run.selection
    assert fit()[1].notes == []


# --- what the curvature is estimated with -----------------------------------------------------------------------------


def dense_table(problem, engine, **options):
    """The coupled criterion from dense matrices of all per-image gradients, in float64."""
    images = problem.train.with_transform(problem.preprocess)
    inputs = torch.stack([images[i] for i in range(len(images))]).double()
    gradients, moved = [], []
    for name, classes, loss in zip(("head", "tail"), problem.split.tasks, task_losses(problem, 1.0), strict=True):
        network, start = (problem.network(TaskSplit.single(len(classes))).double() for _ in range(2))
        network.load_state_dict(stage(engine, f"stage1-{name}"))
        targets = torch.eye(6, dtype=torch.float64)[images.labels][:, classes.tolist()]
        by_name = per_image_gradients(network.eval(), loss.double(), inputs, targets)
        names = {id(p): key for key, p in network.named_parameters()}
        modules = [*(network.layer(0, index) for index in range(DEPTHS + 1)), network.classifier(0)]
        ordered = [names[id(p)] for module in modules for p in module.parameters()]
        gradients.append(torch.cat([by_name[key].flatten(1) for key in ordered], dim=1).numpy())
        steps = [(network.get_parameter(key) - start.get_parameter(key)).flatten() for key in ordered]
        moved.append(torch.cat(steps).detach().numpy())
    units = [sum(p.numel() for p in network.layer(0, index).parameters()) for index in range(DEPTHS)]
    grid = np.array([[1 / 3, 2 / 3], [2 / 3, 1 / 3]])
    coupled = CoupledMoments.of_gradients(units, gradients, moved)
    return refined_table(coupled, weights=grid, n=len(images), **options)


@pytest.mark.parametrize(("reading", "debiased"), [("refined", True), ("raw", False)])
def test_the_coupled_readings_are_those_of_dense_matrices(fit, problem, reading, debiased):
    _, engine = fit(reading=reading, damping=0.05, debiased=debiased, stage2="shared", weights=2)
    options = {"damping": 0.05, "debiased": debiased}
    expected = dense_table(problem, engine, **options, assembly=reading, stage2="shared").total
    np.testing.assert_allclose([row["total"] for row in table(engine)], expected.ravel(), rtol=1e-4, atol=1e-7)
    facts = engine.run.read_json("criterion.json")
    assert (facts["reading"], facts["coupled_images"], facts["groups"]) == (reading, len(problem.train), [])
    choice = engine.run.selection
    assert choice["value"] == pytest.approx(expected.min(), rel=1e-4)
    assert stages(engine) == ["stage1-head", "stage1-tail", "moments", "coupled", "stage2", "refinement"]


def test_coupling_can_be_limited_to_the_last_units_and_to_some_images(fit):
    _, engine = fit(reading="refined", damping="movement", coupled_units=1, coupled_images=10)
    facts = engine.run.read_json("criterion.json")
    assert (facts["reading"], facts["coupled_images"]) == ("refined, last 1 units", 10)
    assert any("10 of 32 images" in note for note in engine.notes)
    _, again = fit(reading="refined", damping="movement", coupled_units=1, coupled_images=10, rule="margin")
    assert table(again) == table(engine)  # loaded from the cache


@pytest.mark.parametrize(
    "options",
    [{"damping": 0.0}, {"damping": 0.1, "fisher": "ggn"}, {"damping": 0.1, "evaluation_prior": "uniform"}],
    ids=str,
)
def test_a_coupled_reading_says_what_it_needs_before_anything_is_trained(options):
    with pytest.raises(InputError, match='reading "refined"'):
        OSDTW(reading="refined", **options)


def test_the_fisher_changes_the_criterion_and_not_what_was_trained(fit, unseen):
    runs = {kind: fit(fisher=kind, depth=1, weight=0.4) for kind in ("empirical", "monte_carlo", "ggn")}
    totals = {kind: tuple(row["total"] for row in table(engine)) for kind, (_, engine) in runs.items()}
    assert len(set(totals.values())) == 3
    facts = {kind: engine.run.read_json("criterion.json") for kind, (_, engine) in runs.items()}
    for kind, (predictor, engine) in runs.items():
        torch.testing.assert_close(predictor(unseen), runs["empirical"][0](unseen), rtol=0, atol=0)
        assert facts[kind]["fisher"] == kind
        assert all(row["total_error"] > 0 for row in table(engine) if row["depth"] > 0)
        for mine, theirs in zip(facts[kind]["units"], facts["empirical"]["units"], strict=True):
            assert mine["scores"] == theirs["scores"]
            assert (mine["curvature"] == theirs["curvature"]) == (kind == "empirical")


def test_another_fisher_costs_another_pass_and_a_way_back_per_label(fit):
    costs = {}
    for kind in ("empirical", "monte_carlo", "ggn"):
        (costs[kind],) = [
            r["flops"] for r in fit(fisher=kind, depth=1, weight=0.4)[1].manifest if r["stage"] == "moments"
        ]
    assert costs["monte_carlo"] == 2 * costs["empirical"]
    back = (costs["ggn"] - costs["monte_carlo"]) / 2  # two more of three ways back
    assert 0.5 * costs["empirical"] < back < costs["empirical"]


# --- stage 1 ---------------------------------------------------------------------------------------------------------


def test_both_tasks_start_from_the_problems_weights_and_see_all_images(fit, problem):
    _, engine = fit(stage1_epochs=0, stage2_epochs=0, refinement_epochs=0, depth=1, damping=1.0)
    start = problem.network(TaskSplit((np.arange(3),))).state_dict()
    for task in ("head", "tail"):
        for name, value in stage(engine, f"stage1-{task}").items():
            torch.testing.assert_close(value, start[name], rtol=0, atol=0)
    assert [record["steps_per_epoch"] for record in engine.manifest if "steps" in record] == [4, 4, 4, 4]


def test_a_task_may_see_its_own_images_alone(fit):
    _, engine = fit(stage1_images="own", stage1_epochs="plan", reading="general")
    steps = {record["stage"]: record["steps"] for record in engine.manifest if "steps" in record}
    assert steps == {"stage1-head": 2 * (26 // 8), "stage1-tail": 2 * 1, "stage2": 2 * 4, "refinement": 4}


def test_the_stages_have_lengths_of_their_own(fit):
    _, engine = fit(stage1_epochs=1, stage2_epochs=3, refinement_epochs=4, depth=1)
    steps = {record["stage"]: record["steps"] for record in engine.manifest if "steps" in record}
    assert steps == {"stage1-head": 4, "stage1-tail": 4, "stage2": 12, "refinement": 16}


@pytest.mark.parametrize(("planned", "short"), [(0, 0), (1, 1), (2, 1), (16, 2), (20, 2), (21, 3)])
def test_stage_1_is_by_default_an_eighth_of_the_plan_but_not_nothing(fit, planned, short):
    _, engine = fit(dataclasses.replace(PLAN, epochs=planned), depth=1, stage2_epochs=0, refinement_epochs=0, damping=1)
    assert [record["steps"] for record in engine.manifest[:2]] == [4 * short, 4 * short]


def test_refinement_is_by_default_three_tenths_of_the_plan(fit):
    _, engine = fit(dataclasses.replace(PLAN, epochs=7), depth=1)
    assert engine.manifest[-1]["steps"] == 2 * 4


# --- stages 2 and 3 --------------------------------------------------------------------------------------------------


def own_layers(state, task):
    prefix = f"branches.{task}."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


@pytest.mark.parametrize("decoders", ["stage1", "stage2"])
@pytest.mark.parametrize("depth", [1, 2])
def test_the_assembly_takes_every_layer_from_where_it_says(fit, decoders, depth):
    predictor, engine = fit(decoders=decoders, depth=depth, refinement_epochs=0)
    assembled, shared = predictor.network.state_dict(), stage(engine, "stage2")
    checked = 0
    for name, value in assembled.items():
        if name == "class_order":
            continue
        part, _, rest = name.partition(".")
        if part == "shared":
            expected = shared[name]
        else:
            task, _, inner = rest.partition(".")
            source, source_task = shared, task
            if decoders == "stage1":
                source, source_task = stage(engine, ("stage1-head", "stage1-tail")[int(task)]), "0"
            layer = inner.removeprefix("layers.")
            expected = source[f"shared.{layer}" if layer != inner else f"branches.{source_task}.{inner}"]
        torch.testing.assert_close(value, expected, rtol=0, atol=0, msg=name)
        checked += 1
    assert checked == 2 * (depth + 1) + 2 * (2 * (2 - depth) + 4)


@pytest.mark.parametrize("depth", [1, 2])
def test_refinement_moves_the_decoders_and_not_one_bit_of_the_encoder(fit, depth):
    predictor, engine = fit(depth=depth, refinement_epochs=3)
    refined, shared = predictor.network.state_dict(), stage(engine, "stage2")
    encoder = [name for name in refined if name.startswith("shared.")]
    assert len(encoder) == 2 * (depth + 1)
    for name in encoder:
        torch.testing.assert_close(refined[name], shared[name], rtol=0, atol=0)
    before = fit(depth=depth, refinement_epochs=0)[0].network.state_dict()
    for name in refined:
        if name.startswith("branches."):
            assert not torch.equal(refined[name], before[name]), name


def test_refinement_trains_the_decoders_alone_and_the_manifest_says_so(fit):
    predictor, engine = fit(depth=1)
    own = sum(p.numel() for p in predictor.network.branches.parameters())
    assert engine.manifest[-1]["trained_parameters"] == own
    assert engine.manifest[-1]["trained_parameters"] < engine.manifest[3]["trained_parameters"] + 75


def assert_side_by_side(predictor, engine, names):
    """Nothing is shared, and each branch is the network that its stage left."""
    assert not list(predictor.network.shared.parameters())
    for task, name in enumerate(names):
        alone = stage(engine, name)
        for key, value in own_layers(predictor.network.state_dict(), task).items():
            layer = key.removeprefix("layers.")
            expected = alone[f"shared.{layer}" if layer != key else f"branches.0.{key}"]
            torch.testing.assert_close(value, expected, rtol=0, atol=0)


@pytest.mark.parametrize("decoders", ["stage1", "stage2"])
def test_depth_0_is_two_separate_networks(fit, decoders):
    predictor, engine = fit(depth=0, decoders=decoders, stage1_epochs="plan", refinement_epochs=0)
    assert stages(engine) == ["stage1-head", "stage1-tail", "moments", "refinement"]
    assert_side_by_side(predictor, engine, ("stage1-head", "stage1-tail"))


def test_depth_0_trains_each_task_on_for_as_long_as_stage_1_was_shorter(fit, problem, plain, inputs):
    """The length is that of a shared Stage 2; each network goes on alone from where its Stage 1 ended."""
    predictor, engine = fit(depth=0, stage1_epochs=1, stage2_epochs=5, refinement_epochs=0)
    assert stages(engine) == ["stage1-head", "stage1-tail", "moments", "stage2-head", "stage2-tail", "refinement"]
    assert [record["steps"] for record in engine.manifest[3:5]] == [4 * 4, 4 * 4]
    assert_side_by_side(predictor, engine, ("stage2-head", "stage2-tail"))
    before, after = (
        copy.deepcopy(fit(depth=0, stage1_epochs=1, stage2_epochs=n, refinement_epochs=0)[0].network).double()
        for n in (1, 5)
    )
    labels = torch.tensor(plain.train.labels)
    for task, classes in enumerate(problem.split.tasks):
        targets = (labels[:, None] == torch.tensor(classes.tolist())).double()
        loss = BalancedBCE(problem.counts, classes=classes)
        with torch.no_grad():
            losses = [loss(network.task_scores(inputs.double())[task], targets).mean() for network in (before, after)]
        assert losses[1] < losses[0]


def test_depth_0_goes_on_from_where_stage_1_ended(problem, make_engine, monkeypatch):
    """Seen by the engine: what Stage 2 is given to train is what Stage 1 left, and Stage 1's own networks stay."""
    engine, given, train = make_engine(PLAN), {}, Engine.train

    def watched(self, stage, objective, *arguments, **named):
        given[stage] = copy.deepcopy(objective.network.state_dict())
        return train(self, stage, objective, *arguments, **named)

    monkeypatch.setattr(Engine, "train", watched)
    method = OSDTW(depth=0, stage1_epochs=1, stage2_epochs=3, refinement_epochs=0, weights=3)
    specialists = method.specialists(problem, engine)
    ended = [copy.deepcopy(network.state_dict()) for network in specialists]
    method.cell(problem, engine, specialists, 0, (0.5, 0.5))
    for name, network, before in zip(("head", "tail"), specialists, ended, strict=True):
        for key, value in before.items():
            torch.testing.assert_close(given[f"stage2-{name}"][key], value, rtol=0, atol=0)
            torch.testing.assert_close(network.state_dict()[key], value, rtol=0, atol=0)


@pytest.mark.parametrize("options", [{"stage1_epochs": "plan"}, {"decoders": "stage1"}], ids=str)
def test_a_budget_of_which_nothing_is_left_to_train_ends_after_stage_1(fit, options):
    budget = 3 * fit()[1].flops
    _, engine = fit(plan=dataclasses.replace(PLAN, flops=budget), depth=0, refinement_epochs=0, **options)
    step = max(record["flops"] / record["steps"] for record in engine.manifest if record.get("steps"))
    assert 0 <= budget - engine.flops < 3 * step


def test_depth_0_with_stage_1s_decoders_is_stage_1(fit):
    _, engine = fit(depth=0, decoders="stage1", stage1_epochs=1, stage2_epochs=3, refinement_epochs=0)
    assert stages(engine) == ["stage1-head", "stage1-tail", "moments", "refinement"]


def test_stage_2_may_share_no_more_than_is_selected(fit):
    predictor, engine = fit(depth=1, stage2="shared", refinement_epochs=0)
    shared, found = stage(engine, "stage2"), predictor.network.state_dict()
    assert {name.split(".")[1] for name in shared if name.startswith("shared.")} == {"0", "1"}
    assert shared.keys() == found.keys()
    for name in found:  # a copy of Stage 2's own decoders is Stage 2's network itself
        torch.testing.assert_close(found[name], shared[name], rtol=0, atol=0)
    whole = stage(fit(depth=1, refinement_epochs=0)[1], "stage2")
    assert {name.split(".")[1] for name in whole if name.startswith("shared.")} == {"0", "1", "2"}


def test_sharing_everything_is_the_same_for_both_kinds_of_stage_2(fit, unseen):
    whole, shared = (fit(depth=2, stage2=kind)[0] for kind in ("whole", "shared"))
    torch.testing.assert_close(whole(unseen), shared(unseen), rtol=0, atol=0)


# --- what an option must not change ----------------------------------------------------------------------------------


def test_the_rule_changes_predictions_and_not_weights(fit, unseen, tmp_path):
    models = {rule: fit(rule=rule)[0] for rule in ("margin", "posterior")}
    for rule, model in models.items():
        save_predictor(tmp_path / rule, model)
    assert len({(tmp_path / rule / "model.safetensors").read_bytes() for rule in models}) == 1
    torch.testing.assert_close(models["margin"](unseen), models["margin"].network(unseen), rtol=0, atol=0)
    outputs, prior = models["posterior"].network(unseen).double(), torch.tensor(COUNTS / COUNTS.sum())
    odds = outputs + torch.log(prior / (1 - prior))
    expected = -torch.log1p(torch.exp(-odds)) - prior.log()
    torch.testing.assert_close(models["posterior"](unseen).double(), expected, rtol=1e-5, atol=1e-5)


def test_the_evaluation_prior_changes_the_criterion_alone(fit, unseen):
    (train, on_train), (uniform, on_uniform) = (
        fit(evaluation_prior=prior, reading="general", depth=1, weight=0.4) for prior in ("train", "uniform")
    )
    torch.testing.assert_close(train(unseen), uniform(unseen), rtol=0, atol=0)
    assert [row["total"] for row in table(on_train)] != [row["total"] for row in table(on_uniform)]
    differ = [a["stage"] for a, b in zip(on_train.manifest, on_uniform.manifest, strict=True) if a != b]
    assert differ == ["moments"]


# --- refusals --------------------------------------------------------------------------------------------------------


def refused(problem, make_engine, match, plan=PLAN, **options):
    """Refused in one line, before anything is trained."""
    engine = make_engine(plan)
    with pytest.raises(InputError, match=match) as caught:
        OSDTW(**options).fit(problem, engine)
    assert "\n" not in str(caught.value)
    assert not (engine.run.path / "stages").exists()


def test_three_tasks_are_refused(problem, make_engine):
    three = dataclasses.replace(problem, split=by_rank(problem.counts, 3))
    refused(three, make_engine, r"split has 3 tasks; expected two for osdtw; use split\.parts = 2")


@pytest.mark.parametrize("depth", [0, 1, 2, None])
def test_a_budget_in_flops_is_spent_whatever_is_chosen(fit, depth):
    budget = fit()[1].flops  # what two epochs of everything take
    _, engine = fit(plan=dataclasses.replace(PLAN, flops=3 * budget), depth=depth)
    step = max(record["flops"] / record["steps"] for record in engine.manifest if record.get("steps"))
    left = 3 * budget - engine.flops
    assert 0 <= left < step * len(engine.manifest)


def test_a_budget_is_divided_by_what_the_epochs_would_cost(fit):
    """Twice the epochs in Stage 2, twice the compute, but for one step and for what Stage 1 could not know."""
    budget = 10 * fit()[1].flops
    options = {"depth": 1, "stage1_epochs": "plan"}
    _, engine = fit(plan=dataclasses.replace(PLAN, flops=budget), **options, stage2_epochs=4, refinement_epochs=0)
    flops = {record["stage"]: record["flops"] for record in engine.manifest}
    each = flops["stage2"] / engine.manifest[-2]["steps"]
    assert flops["refinement"] == 0
    assert flops["stage1-head"] == pytest.approx(flops["stage1-tail"], abs=each)
    network = fit(**options)[1].manifest  # the same networks for equal epochs: their costs per epoch
    costs = {record["stage"]: record["flops"] for record in network}
    ratio = 2 * costs["stage2"] / costs["stage1-head"]
    assert flops["stage2"] == pytest.approx(ratio * flops["stage1-head"], abs=3 * each)


def test_a_budget_too_small_for_the_moments_is_refused(problem, make_engine):
    refused(problem, make_engine, r"plan\.flops = 1000; expected more than", plan=dataclasses.replace(PLAN, flops=1e3))


def test_its_stage_1_is_that_of_two_independent_networks(problem, make_engine, fit, unseen):
    predictor, engine = fit(depth=0, stage1_epochs="plan", refinement_epochs=0)
    beside = make_engine(PLAN, cache=engine.cache)
    alone = Independent().fit(problem, beside).eval()
    assert [record["fingerprint"] for record in beside.manifest] == [
        record["fingerprint"] for record in engine.manifest[:2]
    ]
    torch.testing.assert_close(alone(unseen), predictor(unseen), rtol=0, atol=0)


@pytest.mark.parametrize("weight", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_weight_that_trains_one_task_only_is_refused(weight):
    with pytest.raises(InputError, match=r"method\.weight = .*expected a number inside \(0, 1\)"):
        OSDTW(weight=weight)


@pytest.mark.parametrize(
    ("option", "value"),
    [("weights", 0), ("groups", -1), ("groups", 1),
     ("damping", -1.0), ("damping", -1), ("damping", float("nan")), ("damping", float("inf")),
     ("coupled_units", 0), ("coupled_images", 0),
     ("depth", -1), ("stage1_epochs", -1), ("stage1_epochs", None), ("stage1_epochs", 2.5),
     ("stage2_epochs", -1), ("refinement_epochs", -1)],
)  # fmt: skip
def test_a_senseless_value_is_refused_by_name(option, value):
    with pytest.raises(InputError, match=rf"method\.{option} = {value}; expected "):
        OSDTW(**{option: value})


def test_options_that_contradict_one_another_are_refused_before_anything_is_trained():
    with pytest.raises(InputError, match=r'"naive", which has no damped form; set method\.damping = 0'):
        OSDTW(reading="naive", damping="movement")
    for reading in set(READINGS) - {"general", "naive"}:
        with pytest.raises(InputError, match=f'evaluation_prior = "uniform" with reading "{reading}"'):
            OSDTW(reading=reading, evaluation_prior="uniform")


def test_a_depth_beyond_the_backbone_is_refused_before_anything_is_trained(problem, make_engine):
    refused(problem, make_engine, r"method\.depth = 3; expected 0 to 2, the units of the backbone", depth=3)
