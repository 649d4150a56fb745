"""What every method promises, whoever wrote it. A new file in `methods/` is covered before its author adds a test."""

import dataclasses
import importlib
import inspect
import re
from collections import defaultdict
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch

from forktail.errors import InputError
from forktail.methods import Method, Problem, find_method, method_names
from forktail.predictor import Predictor, load_weights, read_spec, save_predictor
from forktail.run import Run
from forktail.training.engine import Engine
from forktail.training.moving_average import MovingAverage
from forktail.training.plan import Plan

TESTS = Path(__file__).parent
TWO_STEPS = Plan(epochs=2, batch_size=32, lr=1e-2)


@pytest.fixture
def problem(problem_of, request):
    """The problem for the method that a test is about."""
    return problem_of(request.getfixturevalue("name"))


every_method = pytest.mark.parametrize("name", method_names())


@pytest.fixture(scope="module")
def fitted(problem_of, make_engine):
    """Every method, fitted once: name -> (method, predictor, run)."""
    found = {}

    def fit(name):
        if name not in found:
            engine, method = make_engine(TWO_STEPS), find_method(name)()
            found[name] = method, method.fit(problem_of(name), engine).eval(), engine.run
        return found[name]

    return fit


@every_method
def test_a_file_holds_one_public_final_class(name):
    kind = find_method(name)
    module = importlib.import_module(kind.__module__)
    methods = [
        found
        for _, found in inspect.getmembers(module, inspect.isclass)
        if issubclass(found, Method) and found.__module__ == module.__name__
    ]
    assert methods == [kind]
    assert not kind.__name__.startswith("_")
    assert kind.__final__
    assert not inspect.isabstract(kind)
    assert kind().name == name
    assert set(vars(kind)) >= {
        *Method.__abstractmethods__,
        "summary",
        "source",
        "stages",
        "compute",
    }  # nothing is inherited half-made


@every_method
def test_it_says_what_it_is_and_where_it_comes_from(name):
    kind = find_method(name)
    for text in (kind.summary, kind.source):
        assert text.strip()
        assert "\n" not in text
        assert len(text) <= 120


@every_method
def test_a_test_file_of_its_own_exists(name):
    assert (TESTS / f"test_{name}.py").is_file()


@every_method
def test_its_fields_are_frozen_have_defaults_and_are_documented(name):
    kind = find_method(name)
    assert dataclasses.is_dataclass(kind)
    assert kind.__dataclass_params__.frozen
    documented = re.findall(r"^ {4,8}(\w+): ", inspect.cleandoc(kind.__doc__).partition("Args:")[2], re.MULTILINE)
    assert documented == [field.name for field in dataclasses.fields(kind)]
    assert kind() == kind()  # every hyper-parameter has a default


@every_method
def test_a_word_that_a_field_does_not_know_is_refused(name):
    kind = find_method(name)
    for field, hint in get_type_hints(kind).items():
        if Literal in {get_origin(part) for part in (hint, *get_args(hint))}:
            with pytest.raises(InputError, match=rf"^method\.{field} = 'nonsense'; expected "):
                kind(**{field: "nonsense"})


@every_method
def test_it_returns_finite_scores_of_a_uniform_prior(fitted, problem, unseen, name):
    _, predictor, _ = fitted(name)
    assert isinstance(predictor, Predictor)
    scores = predictor(unseen)
    assert scores.shape == (len(unseen), problem.counts.num_classes)
    assert torch.isfinite(scores).all()
    assert scores.std(0).min() > 0  # they depend on the picture


class Watching(Engine):
    """An engine that remembers which parameters each stage was to train, and which it changed."""

    def train(self, stage, objective, *rest, **options):
        followers = {id(p) for m in objective.modules() if isinstance(m, MovingAverage) for p in m.parameters()}
        before = {name: value.detach().clone() for name, value in objective.named_parameters()}
        trained = super().train(stage, objective, *rest, **options)
        for name, value in trained.named_parameters():
            if id(value) not in followers:
                kind = "trained" if value.requires_grad else "frozen"
                self.changes[kind, not torch.equal(value, before[name])].append(f"{stage}: {name}")
        return trained


@every_method
def test_every_stage_moves_what_it_trains_and_nothing_that_is_frozen(problem, tmp_path, name):
    engine = Watching(Run(tmp_path), dataclasses.replace(TWO_STEPS, epochs=6))  # what begins late has begun
    engine.changes = defaultdict(list)
    predictor = find_method(name)().fit(problem, engine)
    assert engine.changes["trained", False] == []
    assert engine.changes["frozen", True] == []
    assert engine.changes["trained", True] or not any(p.requires_grad for p in predictor.network.path(0).parameters())


@every_method
def test_the_same_seed_gives_the_same_scores_and_another_does_not(fitted, problem, make_engine, unseen, name):
    _, predictor, _ = fitted(name)
    again = find_method(name)().fit(problem, make_engine(TWO_STEPS)).eval()
    torch.testing.assert_close(again(unseen), predictor(unseen), rtol=0, atol=0)
    seeded = dataclasses.replace(problem, seed=1)
    other = find_method(name)().fit(seeded, make_engine(TWO_STEPS, seed=1)).eval()
    assert not torch.equal(other(unseen), predictor(unseen))


@every_method
def test_a_model_is_built_from_its_spec_and_loaded_strictly(fitted, tmp_path, unseen, name):
    _, predictor, _ = fitted(name)
    save_predictor(tmp_path, predictor)
    spec = read_spec(tmp_path)
    assert spec == predictor.spec
    method = find_method(spec.method)(**spec.options)
    loaded = load_weights(method.build(spec), tmp_path)
    torch.testing.assert_close(loaded(unseen), predictor(unseen), rtol=0, atol=0)
    assert (loaded.rule, loaded.home) == (predictor.rule, predictor.home)
    narrow = dataclasses.replace(
        spec, classes=spec.classes[:4], counts=spec.counts[:4], tasks=((0, 1), (2, 3))
    )  # fewer classes than the weights have
    with pytest.raises(InputError, match="does not fit its"):
        load_weights(method.build(narrow), tmp_path)


@every_method
def test_its_spec_is_the_problems_and_its_options_are_its_fields(fitted, problem, name):
    method, predictor, _ = fitted(name)
    assert predictor.spec.options == dataclasses.asdict(method)
    assert predictor.spec.classes == problem.train.classes
    np.testing.assert_array_equal(predictor.spec.class_counts.per_class, problem.counts.per_class)


@every_method
def test_every_stage_is_in_the_manifest_with_its_cost(fitted, name):
    _, _, run = fitted(name)
    stages = run.read_json("stages.json")
    assert stages
    assert len({record["stage"] for record in stages}) == len(stages)
    assert all(record["flops"] > 0 for record in stages if record.get("steps") != 0)


@every_method
def test_the_problem_is_left_as_it_was_and_chance_comes_from_the_seed_alone(problem, make_engine, name):
    before, mark = torch.get_rng_state(), problem.train.fingerprint
    find_method(name)().fit(problem, make_engine(TWO_STEPS))
    torch.testing.assert_close(torch.get_rng_state(), before, rtol=0, atol=0)
    assert problem.train.fingerprint == mark


def test_a_problem_has_no_place_for_test_data():
    fields = {field.name for field in dataclasses.fields(Problem)}
    assert fields == {"train", "val", "counts", "split", "backbone_spec", "preprocess", "seed"}


def test_the_folder_is_the_registry():
    import forktail.methods

    files = {path.stem for path in Path(forktail.methods.__file__).parent.glob("[!_]*.py")}
    assert files <= set(method_names())
    assert method_names() == sorted(method_names())


def test_an_unknown_method_gets_a_suggestion():
    with pytest.raises(InputError, match='method "osdwt" is unknown; did you mean "osdtw"'):
        find_method("osdwt")
