"""The pages of the committed comparisons and evidence are those that their benchmarks make of the results."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from forktail.grids.readings import default_reading

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def curve(*values):
    """The best baseline by length and seed, and another far below it."""
    lengths = (15, 30, 60)
    best = [
        {"method": "logit_adjustment", "seed": seed, "epochs": epochs, "validation": value}
        for epochs, of in zip(lengths, values, strict=True)
        for seed, value in enumerate(of)
    ]
    return {"rows": [*best, *({**row, "method": "balanced_bce", "validation": 0.1} for row in best)]}


@pytest.mark.parametrize("name", ["methods", "evidence"])
def test_pages_are_up_to_date(load, name):
    module = load(name)
    made = module.page() if name == "methods" else load("evidence_page").page(module.RESULTS)
    assert module.PAGE.read_text(encoding="utf-8") == made, f"run python benchmarks/{name}.py --tables"


def test_what_the_page_shows_is_of_the_pieces_as_they_are(load):
    pieces = load("evidence_pieces")
    known = pieces.pieces()
    for path in pieces.RESULTS.glob("*.json"):
        assert known[path.stem].state == "there", f"run python benchmarks/evidence.py {path.stem}"


def test_the_default_reading_is_the_one_that_validation_ranks_first(load):
    pieces, page = load("evidence_pieces"), load("evidence_page")
    grids = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in pieces.RESULTS.glob("grid-*.json")}
    rows = page.ranking(grids)
    assert len(rows) > 10
    assert rows[0].reading == default_reading()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([(0.5, 0.5), (0.504, 0.504), (0.504, 0.504)], 15),  # less than half a point is no improvement
        ([(0.5, 0.5), (0.51, 0.51), (0.512, 0.512)], 30),
        ([(0.5, 0.5), (0.49, 0.49), (0.6, 0.6)], 60),  # a dip in between does not end it
        ([(0.5, 0.5), (0.55, 0.47), (0.5, 0.5)], 15),  # 1 point on average, and 4 of standard error
    ],
)
def test_a_comparison_is_as_long_as_the_best_baseline_improves(load, values, expected):
    assert load("evidence_pieces").converged(curve(*values)) == expected


@pytest.mark.parametrize(
    ("gains", "expected"),
    [((0.02, 0.0), "osdtw:averaging=0.25"), ((0.02, -0.012), "osdtw"), ((-0.1, -0.1), "osdtw")],
)
def test_another_option_is_compared_if_it_gains_half_a_point_on_average_over_sets(load, gains, expected):
    pieces = load("evidence_pieces")

    def result(gain):
        rows = [
            {"method": method, "seed": seed, "validation": 0.6}
            for method in pieces.OPTIONS["savings"]
            for seed in (0, 1)
        ]
        for row in rows:
            row["validation"] += gain if row["method"] == "osdtw:averaging=0.25" else 0.0
        return {"rows": rows}

    assert pieces.best_option([result(gain) for gain in gains]) == expected


def test_a_piece_knows_what_it_was_made_with(load, tmp_path, monkeypatch):
    pieces = load("evidence_pieces")
    monkeypatch.setattr(pieces, "RESULTS", tmp_path)
    piece = pieces.pieces()["grid-glyphs-10"]
    assert piece.state == "missing"
    piece.path.write_text(json.dumps({"made_with": piece.made_with}), encoding="utf-8")
    assert piece.state == "there"
    other = pieces.grid_piece(piece.name, pieces.SETS["glyphs-50"])
    assert other.state == "changed"


def test_what_selects_does_not_change_a_grid(load):
    """A grid measures every choice: another default reading leaves it as it is, another training does not."""
    defaults = load("evidence_pieces").pieces()["grid-glyphs-10"].made_with["defaults"]
    assert not {"reading", "damping", "fisher_at", "groups", "weight"} & set(defaults)
    assert {"rule", "decoders", "stage1_epochs", "teachers"} <= set(defaults)
