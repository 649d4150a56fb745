"""The examples run, on a cut that takes seconds."""

import importlib.util
import json
from pathlib import Path

import matplotlib as mpl
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo's three runs, on a few images, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    module = example("demo")
    module.DATA = ["data.n_max=4", "data.imbalance=2", "split.shots=quantile"]
    module.OSDTW = ["plan.epochs=1", "method.stage1_epochs=1", "method.refinement_epochs=1"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sys.argv", ["demo.py", "--out", str(folder)])
        module.main()
    return folder


def test_the_demo_compares_three_methods_at_equal_compute(demo):
    def flops(name):
        return sum(stage["flops"] for stage in json.loads((demo / name / "stages.json").read_text()))

    assert {path.name for path in demo.iterdir()} == {"osdtw", "ce", "logit_adjustment"}
    one_step = flops("ce") / json.loads((demo / "ce/stages.json").read_text())[0]["steps"]
    for baseline in ("ce", "logit_adjustment"):
        assert flops("osdtw") - one_step < flops(baseline) <= flops("osdtw")


def test_its_picture_is_drawn(demo, tmp_path, monkeypatch):
    mpl.use("agg")
    monkeypatch.setattr("sys.argv", ["draw_demo.py", "--runs", str(demo), "--out", str(tmp_path / "demo.png")])
    example("draw_demo").main()
    assert (tmp_path / "demo.png").stat().st_size > 20_000
