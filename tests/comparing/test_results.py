"""The table from run directories that are written by hand."""

import csv
import io
import json

import pytest

from forktail.comparing.contestant import Contestant
from forktail.comparing.results import as_csv, read_run, runs_as_csv, table
from forktail.errors import InputError
from forktail.run import Run


def write_run(folder, balanced, *, validated=None, per_class=(0.5,), few=0.5, depth=None):
    run = Run(folder)
    names = ("balanced", "many", "medium", "few", "head", "tail", "worst", "micro")
    accuracy = dict.fromkeys(names, balanced) | {"few": few}
    run.write_json("metrics.json", {"accuracy": accuracy, "per_class": [balanced], "nll": 1 - balanced, "ece": 0.1})
    costs = {"training_flops": 2e9, "training_memory": 8e6, "inference_flops": 4e6, "parameters": 1000}
    run.write_json("cost.json", costs)
    run.write_lines(
        "timing.jsonl", [{"stage": "a", "seconds": 2.0, "found": False}, {"stage": "b", "seconds": 0.5, "found": True}]
    )
    if validated is not None:
        held = {"accuracy": accuracy | {"balanced": validated}, "per_class": list(per_class), "nll": 0.0, "ece": 0.0}
        run.write_json("validation.json", held)
    if depth is not None:
        choice = {
            "depth": depth,
            "weight": 0.5,
            "value": 1.0,
            "reading": "sandwich",
            "runner_up": None,
            "flatness": 0.1,
        }
        run.write_json("selection.json", choice)
    return run


@pytest.fixture
def runs(tmp_path):
    """Balanced accuracy over two seeds: osdtw 0.8 and 0.7, ce 0.5 and 0.5, tau 0.6 and 0.7."""

    def make(validated=None):
        values = {"ce": (0.5, 0.5), "osdtw": (0.8, 0.7), "logit_adjustment:tau=2": (0.6, 0.7)}
        found = {}
        for label, balanced in values.items():
            one = Contestant.parse(label)
            found[one] = [
                (
                    seed,
                    write_run(
                        tmp_path / "runs" / f"{one.folder}-{seed}",
                        value,
                        validated=None if validated is None else validated[label],
                        depth=3 + seed if label == "osdtw" else None,
                    ),
                )
                for seed, value in enumerate(balanced)
            ]
        return found

    return make


def test_a_run_is_read_with_all_that_it_cost(tmp_path):
    record = read_run(write_run(tmp_path / "run", 0.75), 7)
    assert record["seed"] == 7
    assert (record["balanced"], record["nll"], record["ece"]) == (0.75, 0.25, 0.1)
    assert (record["training_flops"], record["parameters"], record["seconds"]) == (2e9, 1000, 2.5)


def test_methods_are_ranked_and_compared_with_the_best_baseline(runs):
    better = {"ce": (0.1, 0.1), "osdtw": (0.3, 0.3), "logit_adjustment:tau=2": (0.2, 0.2)}
    results = table(runs({label: values[0] for label, values in better.items()}))
    assert [row["label"] for row in results["methods"]] == ["osdtw", "logit_adjustment:tau=2", "ce"]
    assert results["reference"] == "logit_adjustment:tau=2"
    first, second, third = results["methods"]
    assert first["mean"]["balanced"] == pytest.approx(0.75)
    assert first["standard_error"]["balanced"] == pytest.approx(0.05)
    assert first["difference"]["balanced"]["mean"] == pytest.approx(0.1)  # 0.2 and 0.0
    assert second["difference"] is None
    assert third["difference"]["nll"]["mean"] == pytest.approx(0.15)
    assert first["selection"] == [{"seed": 0, "depth": 3, "weight": 0.5}, {"seed": 1, "depth": 4, "weight": 0.5}]
    assert third["selection"] is None
    assert first["runs"] == ["runs/osdtw-0", "runs/osdtw-1"]
    assert "which also chose the reference" in results["ranking"]


def test_without_validation_the_reference_is_the_first_baseline_that_was_named(runs):
    """Logit adjustment is better on the test pictures, which choose nothing."""
    assert table(runs())["reference"] == "ce"


def test_validation_pictures_rank_where_there_are_any(runs):
    results = table(runs({"ce": 0.9, "osdtw": 0.1, "logit_adjustment:tau=2": 0.5}))
    assert [row["label"] for row in results["methods"]] == ["ce", "logit_adjustment:tau=2", "osdtw"]
    assert results["reference"] == "ce"
    assert "on the validation pictures" in results["ranking"]


def test_every_file_of_validation_pictures_is_read_once(runs, monkeypatch):
    found = runs({"ce": 0.9, "osdtw": 0.1, "logit_adjustment:tau=2": 0.5})
    seen, read = [], Run.read_json

    def counted(run, name):
        seen.append((run.path.name, name))
        return read(run, name)

    monkeypatch.setattr(Run, "read_json", counted)
    table(found)
    validated = sorted(folder for folder, name in seen if name == "validation.json")
    assert validated == sorted(run.path.name for mine in found.values() for _, run in mine)


def test_validation_pictures_without_the_rare_classes_choose_nothing(tmp_path):
    """They would prefer what ignores the tail: here ce, against all that the test pictures say."""
    values = {"logit_adjustment": (0.1, 0.9), "ce": (0.9, 0.1)}
    runs = {
        Contestant.parse(label): [(0, write_run(tmp_path / label, tested, validated=held, per_class=(0.5, None)))]
        for label, (held, tested) in values.items()
    }
    results = table(runs)
    assert results["reference"] == "logit_adjustment"
    assert "for want of validation pictures of every class" in results["ranking"]


def test_without_a_baseline_the_first_is_the_reference(tmp_path):
    both = [Contestant.parse(label) for label in ("osdtw", "osdtw:depth=0")]
    values = {both[0]: 0.5, both[1]: 0.6}
    results = table({one: [(0, write_run(tmp_path / one.folder, value))] for one, value in values.items()})
    assert results["reference"] == "osdtw:depth=0"


def test_a_group_without_classes_stays_missing(tmp_path):
    pair = [Contestant.parse(label) for label in ("ce", "osdtw")]
    results = table({one: [(0, write_run(tmp_path / one.folder, 0.5, few=None))] for one in pair})
    for row in results["methods"]:
        assert row["mean"]["few"] is None
    assert json.loads(json.dumps(results, allow_nan=False)) == results


def test_csv_holds_what_the_table_holds(runs):
    results = table(runs({"ce": 0.1, "osdtw": 0.3, "logit_adjustment:tau=2": 0.2}))
    rows = list(csv.DictReader(io.StringIO(as_csv(results))))
    assert [row["label"] for row in rows] == ["osdtw", "logit_adjustment:tau=2", "ce"]
    assert float(rows[0]["balanced"]) == results["methods"][0]["mean"]["balanced"]
    assert float(rows[0]["balanced_se"]) == results["methods"][0]["standard_error"]["balanced"]
    assert float(rows[0]["balanced_difference_low"]) == results["methods"][0]["difference"]["balanced"]["low"]
    assert rows[1]["balanced_difference"] == ""
    single = list(csv.DictReader(io.StringIO(runs_as_csv(results))))
    assert [(row["label"], row["seed"]) for row in single[:2]] == [("osdtw", "0"), ("osdtw", "1")]
    assert [float(row["balanced"]) for row in single[:2]] == [0.8, 0.7]


def test_a_run_without_its_cost_is_named(tmp_path):
    run = write_run(tmp_path / "run", 0.5)
    (run.path / "cost.json").unlink()
    with pytest.raises(InputError, match=r"cost\.json"):
        read_run(run, 0)
