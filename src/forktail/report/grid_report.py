"""A grid becomes ``grid.html``."""

from __future__ import annotations

from pathlib import Path

from forktail.report.grid_figures import measured_figures, predicted_figure, prediction_figures, weight_figure
from forktail.report.grid_file import SPLITS, STATES, Grid, Record, Split, State, read_grid
from forktail.report.grid_words import cautions, headline, place_in_words, with_interval
from forktail.report.numbers import NONE, counted, listed, significant, weight, whole, with_prefix
from forktail.report.page import Table, Tile, render
from forktail.run import Run

PAGE = "grid.html"

# Heading, digits after the point (None: three that count), and whether it is a difference.
MEASURES: dict[str, tuple[str, int | None, bool]] = {
    "spearman_risk": ("Spearman, risk", 2, False),
    "spearman_risk_of_weights": ("of weights", 2, False),
    "spearman_risk_of_depths": ("of depths", 2, False),
    "spearman": ("Spearman, error", 2, False),
    "search_regret": ("search regret, points", 1, True),
    "gain": ("gain, points", 1, True),
    "slope": ("slope", None, False),
    "oracle_regret": ("oracle regret, points", 1, True),
    "kendall_risk": ("Kendall, risk", 2, False),
    "kendall": ("Kendall, error", 2, False),
}
ABLATION: dict[str, tuple[str, int | None, bool]] = {
    "gain": ("depth and weight", 1, True),
    "gain_depth_alone": ("depth alone, w = 1/2", 1, True),
    "gain_weight_alone": ("weight alone, full sharing", 1, True),
    "gain_over_nothing_shared": ("both, over nothing shared", 1, True),
}


def write_grid_report(folder: Path) -> Path:
    """Write the report of a finished grid, from its ``grid.json`` alone.

    The page is one file that fetches nothing; the same file makes the same bytes.

    Args:
        folder: The folder of the grid.

    Returns:
        Path of ``grid.html``, in that folder.
    """
    place = Run(folder)
    grid = read_grid(place)
    page = render(
        "grid.html",
        grid=grid,
        headline=headline(grid),
        cautions=cautions(grid),
        tiles=_tiles(grid),
        by_weight=[weight_figure(grid, state) for state in STATES],
        maps=[*measured_figures(grid), *([] if grid.default is None else [predicted_figure(grid, grid.default)])],
        predictions=[] if grid.best_ordering is None else prediction_figures(grid, grid.best_ordering),
        measures=[
            (f"{state.capitalize()} networks on {split}", _table(grid, MEASURES, state, split))
            for state in STATES
            for split in SPLITS
        ],
        ablation=[
            (f"{state.capitalize()} networks on test", _table(grid, ABLATION, state, "test")) for state in STATES
        ],
        selected=_selected(grid),
        reasons=[(name, grid.record(name).reason) for name in grid.predicted if name not in grid.readings],
        facts=_facts(grid),
    )
    place.write_text(PAGE, page)
    return place.path / PAGE


def _tiles(grid: Grid) -> list[Tile]:
    """Show the four measures that are read first, of the default reading."""
    if grid.default is None:
        return []
    record = grid.record(grid.default)
    return [
        Tile(name, with_interval(record.of(key), decimals, plus=plus), note)
        for key, name, decimals, plus, note in (
            ("spearman_risk", "correlation with risk", 2, False, "Spearman, refined networks on test"),
            ("spearman", "correlation with error", 2, False, "Spearman, refined networks on test"),
            ("search_regret", "search regret, points", 1, True, "grid search on validation minus selected cell"),
            ("gain", "gain, points", 1, True, "selected cell minus full sharing at w = 1/2"),
        )
    ]


def _table(grid: Grid, measures: dict[str, tuple[str, int | None, bool]], state: State, split: Split) -> Table:
    """Lay the readings below one another."""
    return Table(
        ["reading", *(heading for heading, _, _ in measures.values())],
        [[name, *_row(grid.record(name, state, split), measures)] for name in grid.predicted],
    )


def _row(record: Record, measures: dict[str, tuple[str, int | None, bool]]) -> list[str]:
    if record.reason is not None:
        return [NONE] * len(measures)
    return [with_interval(record.of(key), decimals, plus=plus) for key, (_, decimals, plus) in measures.items()]


def _selected(grid: Grid) -> Table:
    """Say what each reading selected with each seed, and what the search on validation took."""
    rows = []
    for name, by_seed in grid.predicted.items():
        choices = {choice.seed: choice for choice in grid.record(name).by_seed}
        cells = [
            place_in_words(choices[seed].selected.depth, choices[seed].selected.weight) if seed in choices else NONE
            for seed in grid.seeds
        ]
        damping = {significant(by_seed[str(seed)].damping) for seed in grid.seeds if name in grid.readings}
        rows.append([name, *cells, ", ".join(sorted(damping)) or NONE])
    if grid.default is not None:
        for state in STATES:
            searches = {choice.seed: choice.searched for choice in grid.record(grid.default, state).by_seed}
            said = [
                "; ".join(place_in_words(place.depth, place.weight) for place in searches[seed]) for seed in grid.seeds
            ]
            rows.append([f"grid search on validation, {state}", *said, NONE])
    return Table(["selected by", *(f"seed {seed}" for seed in grid.seeds), "damping"], rows, words=1 + len(grid.seeds))


def _facts(grid: Grid) -> list[tuple[str, str]]:
    networks = grid.num_cells * len(grid.seeds)
    return [
        ("data", grid.data),
        ("training images", whole(grid.training_images)),
        ("seeds", listed([str(seed) for seed in grid.seeds])),
        ("shared depths", listed([str(depth) for depth in grid.depths])),
        ("weights of the head", listed([weight(value) for value in grid.weights])),
        ("cells", f"{whole(grid.num_cells)}, so {counted(networks, 'network')} raw and refined"),
        ("rule", f"{grid.rule}, of the accuracies"),
        ("compute", f"{with_prefix(grid.flops, 'FLOP')} for all stages and analyses, each counted once"),
    ]
