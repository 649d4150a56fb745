"""The pages of the committed comparisons and evidence are those that their benchmarks make of the results."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

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


def test_the_criterion_chose_to_share_everything_on_every_set_as_reports_say(load):
    """`report.run_words` tells users so; where this fails, that sentence and docs/when.md have to change."""
    for path in load("evidence_pieces").RESULTS.glob("grid-*.json"):
        grid = json.loads(path.read_text(encoding="utf-8"))
        for seed in grid["seeds"]:
            table = np.array(grid["predicted"][default_reading()][str(seed)]["table"])
            assert np.unravel_index(table.argmin(), table.shape)[0] == max(grid["depths"]), path.stem


def test_the_default_reading_is_the_one_that_validation_ranks_first(load):
    pieces, page = load("evidence_pieces"), load("evidence_grids")
    grids = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in pieces.RESULTS.glob("grid-*.json")}
    rows = page.ranking(grids)
    assert len(rows) > 10
    assert rows[0].reading == default_reading()


def committed(name):
    return json.loads((BENCHMARKS / "results" / "evidence" / f"{name}.json").read_text(encoding="utf-8"))


def test_the_picture_shows_the_grids_that_are_there_and_says_where_nothing_is_predicted(load, tmp_path, monkeypatch):
    figure = load("evidence_figure")
    figure.draw(tmp_path, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
    monkeypatch.setattr(figure, "SHOWN", ("first", "second", "not there"))
    grid = committed("grid-fashion-10")
    (tmp_path / "grid-first.json").write_text(json.dumps(grid), encoding="utf-8")
    (tmp_path / "grid-second.json").write_text(json.dumps({**grid, "predicted": {}}), encoding="utf-8")
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: drawn.append(self))
    figure.draw(tmp_path, tmp_path / "two.png")
    axes = np.array(drawn[0].axes).reshape(3, 2)
    assert [one.get_title() for one in axes[0]] == ["first", "second"]
    assert [len(line.get_xdata()) for line in axes[0, 0].lines] == [2, 5, 5, 5]  # s = 0 is level
    offsets = np.concatenate([np.asarray(points.get_offsets()) for points in axes[2, 0].collections])
    assert len(offsets) == 3 * 16  # seeds times cells
    selected = min(offsets.tolist())
    assert selected[0] == min(min(grid["predicted"][default_reading()][s]["table"][6]) for s in "012")
    assert [text.get_text() for text in axes[2, 1].texts] == ["the criterion has no numbers"]


def compared(**by_method):
    rows = [{"label": label, "per_seed": [{"balanced": one} for one in values]} for label, values in by_method.items()]
    return {"role": "confirmation", "epochs": 30, "curve_rises": True, "methods": rows, "left_out": []}


def test_the_summary_sets_osdtw_beside_the_best_baseline_and_hides_no_set(load, tmp_path):
    grid = {**committed("grid-fashion-10"), "role": "confirmation"}
    made = {
        "grid-a": grid,
        "grid-b": {**grid, "measures": []},
        "grid-c": {**grid, "role": "development"},
        "equal-a": compared(ce=[0.5, 0.5], lade=[0.7, 0.8], osdtw=[0.6, 0.8]),
        "equal-b": compared(ce=[0.5, 0.5]),
        "equal-c": compared(osdtw=[0.5, 0.5]),
    }
    for name, content in made.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    tables = load("evidence_page").summary(tmp_path).split("\n\n")
    grids, equal = ([line.strip("| ").split(" | ") for line in table.splitlines()[2:]] for table in tables)
    assert [row[0] for row in grids] == ["a", "b"]
    assert grids[0][1].startswith("0.21 (")
    assert grids[1][1:] == ["no numbers", "none", "none", "none"]
    assert equal[0][:4] == ["a", "30, still rising", "70.0", "75.0 (`lade`)"]
    assert equal[0][4].startswith("-5.0 (-")
    assert equal[1:] == [
        ["b", "30, still rising", "none", "50.0 (`ce`)", "none"],
        ["c", "30, still rising", "50.0", "none", "none"],
    ]


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


def grid_of(none, full, table):
    """Two depths, one weight; accuracies of each seed with nothing and with everything shared, and what K says."""

    def cell(seed, depth, accuracy):
        reached = {"test": {"posterior": {"balanced": accuracy}}}
        return {"seed": seed, "depth": depth, "weight": 0.5 if depth else None, "refined": reached}

    cells = [cell(seed, depth, one) for depth, of in ((0, none), (6, full)) for seed, one in enumerate(of)]
    predicted = {default_reading(): {str(seed): {"table": table} for seed in range(len(none))}}
    axes = {"depths": [0, 6], "weights": [0.5], "rule": "posterior"}
    return {**axes, "cells": cells[::-1], "predicted": predicted}


def test_separations_stand_beside_what_sharing_is_worth_and_what_the_criterion_says(load):
    grids = {
        "near": grid_of([0.5, 0.6], [0.6, 0.7], [[3.0], [1.0]]),  # sharing is worth 10 points, K says 2 nats
        "far": grid_of([0.5, 0.6], [0.4, 0.6], [[3.0], [0.5]]),
        "unknown": grid_of([0.5, 0.6], [0.4, 0.4], None),
    }
    apart = {"far": (1.5, [1.4, 1.6]), "near": (1.1, [1.0, 1.2]), "unknown": (1.6, [1.6]), "not run": (1.3, [1.3])}
    found = {name: {"whole": whole, "pairs": pairs} for name, (whole, pairs) in apart.items()}
    found["not trained"] = {"whole": None, "pairs": [None]}
    _, _, table, orders = load("evidence_grids").separations(found, grids).rsplit("\n\n", 3)
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    assert rows == [
        ["near", "1.10 (1.00 to 1.20)", "10.0", "2.0"],  # equal differences have no interval
        ["not run", "1.30 (1.30 to 1.30)", "none", "none"],
        ["far", "1.50 (1.40 to 1.60)", "-5.0 (-68.5 to 58.5)", "2.5"],
        ["unknown", "1.60 (1.60 to 1.60)", "-15.0 (-78.5 to 48.5)", "none"],
    ]
    orders = [line.strip("| ").split(" | ") for line in orders.splitlines()[2:]]
    assert orders == [
        ["all", "3", "-1.00", "none"],
        ["the dial, mismatch-*", "0", "none", "none"],
        ["all others", "3", "-1.00", "none"],
    ]


def test_a_map_names_no_best_cell_where_nothing_was_learned(load):
    chance = {**grid_of([0.01, 0.01], [0.013, 0.012], None), "training_images": 346, "measures": []}
    learned = {**grid_of([0.3, 0.3], [0.5, 0.5], None), "training_images": 346, "measures": []}
    lines = load("evidence_grids").strengths({"full-10": learned, "random-10": chance}).splitlines()[-2:]
    assert lines == ["| random | 346 | none | 1.0 | 1.2 | none |", "| full | 346 | 6, 0.5 | 30.0 | 50.0 | none |"]


def test_only_options_that_are_off_are_left_out_of_what_a_piece_was_made_with(load):
    pieces = load("evidence_pieces")
    method = pieces.find_method("osdtw")
    assert "separation" not in pieces._options(method())
    assert pieces._options(method(separation=True))["separation"] is True
