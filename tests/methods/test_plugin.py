"""A method of somebody else's package: two files, installed, and it is everywhere where our own are."""

import json
import os
import subprocess
import sys
import tomllib

import pytest
from typer.testing import CliRunner

import forktail
from forktail import cli, fitting
from forktail.errors import InputError
from forktail.methods import find_method, method_names
from forktail.predictor import read_spec

NAME = "effective_sampling"

PYPROJECT = f"""\
[project]
name = "forktail-{NAME}"
version = "1.0"
dependencies = ["forktail"]

[project.entry-points."forktail.methods"]
{NAME} = "{NAME}"
"""

MODULE = '''\
"""Plain training that shows rare classes more often."""

from dataclasses import dataclass
from typing import final

from forktail.backbones.forked import Forked
from forktail.backbones.open import open_backbone
from forktail.data.sampling import Weighted
from forktail.losses.cross_entropy import CrossEntropy
from forktail.methods import Method
from forktail.predictor import Predictor
from forktail.training.objective import Supervised


@final
@dataclass(frozen=True)
class EffectiveSampling(Method):
    """Cross-entropy on images that are drawn by the effective number of their class.

    Args:
        passes: Lengthens the training.
    """

    summary = "cross-entropy that sees rare classes more often"
    source = "a package of its own"
    stages = ("training",)
    compute = 1.0

    passes: int = 1

    def network(self, spec):
        return Forked.single(open_backbone(spec.backbone), len(spec.classes))

    def reads(self, network, spec):
        return Predictor(network, spec, rule="adjusted", home="uniform")

    def fit(self, problem, engine):
        objective = Supervised(problem.network(), CrossEntropy())
        plan = engine.plan.for_epochs(self.passes * engine.plan.epochs)
        trained = engine.train("training", objective, problem.train, plan, Weighted("effective")).network
        return self.reads(trained, problem.spec(self))
'''

QUICK = ["plan.epochs=1", "plan.batch_size=32", "backbone.name=tiny", "backbone.weights=random"]
SETTINGS = [word for setting in QUICK for word in ("--set", setting)]


def install(source, site):
    """Do what an installer does: copy the modules, and write down what the package offers."""
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    for module in source.glob("*.py"):
        (site / module.name).write_text(module.read_text())
    facts = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    with (facts / "entry_points.txt").open("w") as stream:
        for group, points in project["entry-points"].items():
            stream.writelines([f"[{group}]\n", *(f"{key} = {value}\n" for key, value in points.items())])


@pytest.fixture
def site(tmp_path):
    """A folder of installed packages with the method's in it."""
    source, site = tmp_path / "source", tmp_path / "site"
    for folder in (source, site):
        folder.mkdir()
    (source / "pyproject.toml").write_text(PYPROJECT)
    (source / f"{NAME}.py").write_text(MODULE)
    install(source, site)
    return site


@pytest.fixture
def installed(site, monkeypatch):
    """This process with that folder on its path."""
    assert NAME not in method_names()
    monkeypatch.syspath_prepend(site)
    yield
    sys.modules.pop(NAME, None)


def invoke(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.mark.usefixtures("installed")
def test_it_is_listed_and_has_a_page():
    assert find_method(NAME)().name == NAME
    (line,) = [line for line in invoke("methods").stdout.splitlines() if line.startswith(f"{NAME} ")]
    assert "cross-entropy that sees rare classes more often; a package of its own; training" in line
    assert "method.passes = 1" in invoke("methods", "show", NAME).stdout


@pytest.mark.usefixtures("installed")
def test_a_recipe_trains_it_and_its_model_loads(small_npz, tmp_path):
    recipe, out = tmp_path / "recipe.toml", tmp_path / "run"
    recipe.write_text(f'[method]\nname = "{NAME}"\npasses = 2\n')
    answer = invoke("fit", small_npz, "--recipe", recipe, *SETTINGS, "--out", out)
    assert answer.exit_code == 0
    (stage,) = json.loads((out / "stages.json").read_text())
    assert (stage["stage"], stage["steps"]) == ("training", 4)  # two passes over two batches
    assert (read_spec(out).method, read_spec(out).options) == (NAME, {"passes": 2})
    assert forktail.load(out).spec.method == NAME


@pytest.mark.usefixtures("installed")
def test_fit_takes_its_name_and_a_comparison_its_options(small_npz, tmp_path):
    assert invoke("fit", small_npz, "--method", NAME, *SETTINGS, "--out", tmp_path / "run").exit_code == 0
    labels = ["ce", f"{NAME}:passes=2"]
    out = tmp_path / "both"
    answer = invoke("compare", small_npz, "--methods", ",".join(labels), "--seeds", "0", *SETTINGS, "--out", out)
    assert answer.exit_code == 0
    rows = json.loads((out / "comparison.json").read_text())["methods"]
    assert [row["label"] for row in rows] == labels


@pytest.mark.usefixtures("installed")
def test_a_wrong_option_of_it_gets_a_suggestion(small_npz, tmp_path):
    with pytest.raises(InputError, match=r'"method\.pases" is unknown; did you mean "method\.passes"'):
        fitting.fit(small_npz, NAME, settings=["method.pases=2"], out=tmp_path / "run")


@pytest.mark.usefixtures("installed")
def test_one_that_does_not_state_its_cost_is_refused_by_name(site):
    module = site / f"{NAME}.py"
    module.write_text(module.read_text().replace("    compute = 1.0\n", ""))
    with pytest.raises(InputError, match=f"{NAME}: EffectiveSampling does not state its compute; expected summary"):
        find_method(NAME)


def test_another_process_finds_it(site):
    path = os.pathsep.join([str(site), *filter(None, sys.path)])
    code = "from forktail.cli import main; main()"
    command = [sys.executable, "-c", code, "methods", "show", NAME]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path})
    assert found.stdout.startswith(f"{NAME}: cross-entropy that sees rare classes more often\n")
