"""The examples run, on a cut that takes seconds."""

import importlib.util
import json
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL = ["data.n_max=4", "data.imbalance=2", "split.shots=quantile", "plan.epochs=8", "plan.batch_size=64"]


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo's folder, on a few images, and what it printed."""
    folder = tmp_path_factory.mktemp("demo") / "runs"
    module = example("demo")
    module.run_demo(folder, SMALL, [0])
    return folder


def test_the_demo_compares_its_methods_at_equal_compute(demo):
    results = json.loads((demo / "comparison.json").read_text())
    assert {row["method"] for row in results["methods"]} == {"osdtw", "ce", "logit_adjustment", "linear_probe"}
    spent = {row["method"]: row["mean"]["training_flops"] for row in results["methods"]}
    steps = json.loads((demo / "runs/ce-0/stages.json").read_text())[0]["steps"]
    assert spent["logit_adjustment"] == spent["ce"]
    assert spent["ce"] - 4 * spent["ce"] / steps < spent["osdtw"] <= spent["ce"]
    assert spent["linear_probe"] < spent["ce"]


def test_both_pages_are_where_it_says(demo, capsys):
    module = example("demo")
    module.run_demo(demo, SMALL, [0])
    said = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert said[-2:] == [str(demo / "compare.html"), str(demo / "runs/osdtw-0/report.html")]
    assert all(Path(path).is_file() for path in said[-2:])
