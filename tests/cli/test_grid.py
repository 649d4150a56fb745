"""What `forktail grid` prints."""

from forktail.cli.grid_table import grid_table, print_grid


def record(reading, selected, **more):
    figure = {"mean": 0.5, "low": 0.25, "high": 0.75, "bootstrap": None}
    names = ("spearman", "spearman_risk", "search_regret", "oracle_regret", "gain")
    facts = {"reading": reading, "state": "refined", "split": "test", "by_seed": [{"selected": s} for s in selected]}
    return {**facts, **dict.fromkeys(names, figure), **more}


RESULTS = {
    "depths": [0, 6],
    "weights": [0.25, 0.5, 0.75],
    "seeds": [0, 1],
    "measures": [
        record("sandwich", [{"depth": 6, "weight": 0.5}, {"depth": 0, "weight": None}]),
        record("general", [{"depth": 6, "weight": 0.25}] * 2, gain={"mean": None, "low": None, "high": None}),
        {"reading": "raw", "state": "refined", "split": "test", "reason": "no damping"},
        record("sandwich", [{"depth": 6, "weight": 0.75}], state="raw"),
    ],
}


def test_one_row_per_reading_of_the_refined_networks_on_test():
    columns = [list(column.cells) for column in grid_table(RESULTS).columns]
    assert [str(cell) for cell in columns[0]] == ["sandwich", "general", "raw"]
    assert [str(cell) for cell in columns[1]] == ["6, 0.5; 0", "6, 0.25", "no damping"]
    assert columns[2][:2] == ["0.50 [0.25, 0.75]"] * 2
    assert columns[6][1] == "n/a"


def test_it_says_where_the_figures_are(tmp_path, capsys):
    print_grid(tmp_path, RESULTS)
    printed = capsys.readouterr().out
    assert str(tmp_path / "grid.json") in printed
    assert "2 depths, 3 weights, 2 seeds" in printed
