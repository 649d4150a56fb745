"""`forktail compare` and `forktail report` as a user meets them."""

import inspect
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from forktail import cli
from forktail.cli.comparison_table import comparison_table
from forktail.cli.tables import console
from forktail.comparing.compare import compare
from forktail.errors import InputError

QUICK = ["plan.epochs=1", "plan.batch_size=16", "backbone.weights=random", "split.shots=quantile"]


def invoke(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    random, labels = np.random.RandomState(0), np.repeat(np.arange(4), [12, 8, 4, 2])
    path, out = tmp_path_factory.mktemp("data") / "small.npz", tmp_path_factory.mktemp("runs") / "comparison"
    train, test = (random.randint(0, 256, (n, 28, 28)).astype(np.uint8) for n in (26, 8))
    np.savez(path, x_train=train, y_train=labels, x_test=test, y_test=np.repeat(np.arange(4), 2))
    settings = [word for setting in QUICK for word in ("--set", setting)]
    words = ["compare", path, "--methods", "ce,logit_adjustment", "--seeds", "0,1", "--backbone", "tiny", "--out", out]
    return out, invoke(*words, *settings)


def test_it_prints_the_table_the_rule_of_ranking_and_the_pages(compared):
    out, result = compared
    assert result.exit_code == 0, result.output
    printed = result.stdout
    results = json.loads((out / "comparison.json").read_text())
    assert results["ranking"] in printed
    assert results["budget_text"] in printed
    assert str(out / "compare.html") in printed
    assert "2 seeds, mean ± standard error" in printed
    for row in results["methods"]:
        (line,) = [line for line in printed.splitlines() if line.startswith(row["label"])]
        assert f"{100 * row['mean']['balanced']:.1f} ± {100 * row['standard_error']['balanced']:.1f}" in line


def test_the_interval_stands_beside_every_method_but_the_reference(compared):
    out, _ = compared
    results = json.loads((out / "comparison.json").read_text())
    with console().capture() as _:
        table = comparison_table(results)
    column = [str(c.header) for c in table.columns].index(f"balanced minus {results['reference']}")
    cells = list(table.columns[column].cells)
    for row, cell in zip(results["methods"], cells, strict=True):
        if row["difference"] is None:
            assert cell == ""
        else:
            found = row["difference"]["balanced"]
            if found["low"] is None:  # equal differences have no interval
                assert cell == f"{100 * found['mean']:+.1f}"
                continue
            assert cell == f"{100 * found['mean']:+.1f} [{100 * found['low']:+.1f}, {100 * found['high']:+.1f}]"


def test_one_seed_has_neither_error_nor_interval_and_an_empty_group_is_said(compared):
    out, _ = compared
    results = json.loads((out / "comparison.json").read_text())
    for row in results["methods"]:
        row["standard_error"] = dict.fromkeys(row["standard_error"])
        row["mean"]["few"] = None
        if row["difference"]:
            row["difference"]["balanced"] |= {"low": None, "high": None}
    table = comparison_table(results)
    cells = [cell for column in table.columns for cell in column.cells if isinstance(cell, str)]
    assert "n/a" in cells
    assert not any("±" in cell or "[" in cell for cell in cells)


def test_the_command_and_the_function_take_the_same_where_nothing_is_said(tmp_path, monkeypatch):
    asked = {}

    def watched(data, methods, **options):
        asked.update(methods=methods, **options)
        raise InputError("seen", remedy="stop")

    monkeypatch.setattr("forktail.comparing.compare.compare", watched)
    result = invoke("compare", "glyphs", "--out", tmp_path / "out")
    assert isinstance(result.exception, InputError)
    default = {name: parameter.default for name, parameter in inspect.signature(compare).parameters.items()}
    assert asked["methods"] == ",".join(default["methods"])
    assert asked["seeds"] == list(default["seeds"])
    assert (asked["budget"], asked["jobs"]) == (default["budget"], default["jobs"])


def test_seeds_that_are_no_numbers_are_refused(compared, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["forktail", "compare", "glyphs", "--seeds", "a", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err == 'error: --seeds "a"; expected numbers, separated by commas, such as 0,1,2\n'
    assert not (tmp_path / "out").exists()


def test_a_page_is_written_again_from_the_files_alone(compared):
    out, _ = compared
    for page in (out / "compare.html", out / "runs/ce-0/report.html"):
        before = page.read_bytes()
        page.unlink()
        result = invoke("report", page.parent)
        assert (result.exit_code, result.stdout.strip()) == (0, str(page))
        assert page.read_bytes() == before


def test_a_method_that_failed_is_left_out_of_the_table_and_ends_in_an_error(compared, tmp_path, monkeypatch, capsys):
    out, _ = compared
    results = json.loads((out / "comparison.json").read_text())
    results["left_out"] = [{"label": "osdtw", "seed": 1, "reason": "stage training diverged"}]
    monkeypatch.setattr("forktail.comparing.compare.compare", lambda *_, **__: Stub(out, results))
    monkeypatch.setattr("sys.argv", ["forktail", "compare", "glyphs", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    said = capsys.readouterr()
    assert caught.value.code == 2
    assert results["ranking"] in said.out
    last = said.err.splitlines()[-1]
    assert last.startswith("error: left out, because a run failed: osdtw, seed 1: stage training diverged; mend it")


class Stub:
    def __init__(self, path, results):
        self.path, self.results = path, results
