"""The charts of a grid, each with its numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from forktail.labels import FloatArray
from forktail.report.charts.heat_map import heat_map
from forktail.report.charts.lines import Series, lines
from forktail.report.charts.scatter import Point, signed_scatter
from forktail.report.grid_file import Grid, Place, State
from forktail.report.grid_words import place_in_words
from forktail.report.names import shortened
from forktail.report.numbers import NONE, counted, fixed, points, signed, significant, weight
from forktail.report.page import Figure, Table
from forktail.report.run_figures import per_cent

SHOWN = {"balanced": ("all classes", 5), "many": ("many", 0), "medium": ("medium", 2), "few": ("few", 1)}
SHARED = {"full sharing": 0, "partly shared": 2, "nothing shared": 1}  # group of depths and its style
WEIGHT_AXIS = "weight of the head task, w (the tail has 1 − w)"
DEPTH_AXIS = "shared depth, s: stem and first s units"


def weight_figure(grid: Grid, state: State) -> Figure:
    """Accuracy over the head's weight at full sharing, the paper's Fig. 3.

    Args:
        grid: The grid.
        state: Raw or refined networks.

    Returns:
        A line per group of classes.
    """
    title = f"Accuracy by weight at full sharing, {state}"
    found = {key: grid.accuracy(state, group=key)[:, -1] for key in SHOWN}
    known = {key: values for key, values in found.items() if np.isfinite(values).all()}
    means = {key: values.mean(axis=0) for key, values in known.items()}
    errors = {key: _standard_error(values) for key, values in known.items()}
    best = grid.weights[int(means["balanced"].argmax())]
    return Figure(
        f"weight-{state}",
        title,
        lines(
            f"weight-{state}",
            title,
            f"Balanced accuracy is best at weight {weight(best)}, with {points(float(means['balanced'].max()))} %.",
            [
                Series(
                    SHOWN[key][0],
                    list(zip(grid.weights, values.tolist(), strict=True)),
                    SHOWN[key][1],
                    errors=errors[key].tolist(),
                )
                for key, values in means.items()
            ],
            x_name=WEIGHT_AXIS,
            y_name="accuracy on test, % of a class's images, mean over classes",
            whole=False,
            form=per_cent,
        ),
        Table(
            ["weight of the head", *(f"{SHOWN[key][0]}, %" for key in means)],
            [
                [weight(at), *(_share_with_error(means[key], errors[key], column) for key in means)]
                for column, at in enumerate(grid.weights)
            ],
        ),
        f"Mean over {counted(len(grid.seeds), 'seed')} at depth {grid.depths[-1]}"
        + ("; whiskers are one standard error." if len(grid.seeds) > 1 else ".")
        + (" Groups without classes are left out." if len(known) < len(SHOWN) else ""),
    )


def measured_figures(grid: Grid) -> list[Figure]:
    """Error and risk over depth and weight, the paper's Fig. 4.

    Args:
        grid: The grid.

    Returns:
        Four heat maps: both measures, of refined and of raw networks.
    """
    return [
        figure
        for state in ("refined", "raw")
        for figure in (
            _map(grid, f"error-{state}", f"Error on test, {state}", 100 * (1 - grid.accuracy(state)), state, "points"),
            _map(grid, f"risk-{state}", f"Risk on test, {state}", grid.risk(state), state, "nats"),
        )
    ]


def predicted_figure(grid: Grid, reading: str) -> Figure:
    """The criterion over depth and weight, as the measured maps stand.

    Args:
        grid: The grid.
        reading: One that has numbers.

    Returns:
        A heat map.
    """
    title = f"Predicted by {shortened(reading, 40)}: the criterion K"
    return _map(grid, "predicted", title, grid.predictions(reading), "refined", "nats")


def prediction_figures(grid: Grid, reading: str) -> list[Figure]:
    """Predicted against measured differences from full sharing at w = 1/2, of refined networks on test.

    Args:
        grid: The grid.
        reading: One that has numbers.

    Returns:
        A scatter of risk and one of error, a point per cell and seed.
    """
    return [
        _scatter(grid, reading, "risk", grid.risk("refined", name=grid.record(reading).risk), "nats", significant),
        _scatter(grid, reading, "error", 100 * (1 - grid.accuracy("refined")), "points", signed),
    ]


def _map(grid: Grid, key: str, title: str, tables: FloatArray, state: State, unit: str) -> Figure:
    """Draw the mean over seeds, with what was selected and what a search on validation would take."""
    table = tables.mean(axis=0)
    reading = grid.default
    choices = grid.record(reading, state).by_seed if reading is not None else []
    selected = _entries(grid, (choice.selected for choice in choices))
    searched = _entries(grid, (place for choice in choices for place in choice.searched))
    smallest = min(grid.entries, key=lambda entry: table[entry])
    several = len(grid.seeds) > 1
    return Figure(
        key,
        title,
        heat_map(
            key,
            title,
            f"From {significant(float(table.min()))} to {significant(float(table.max()))} {unit} over "
            f"{counted(len(grid.depths), 'depth')} and {counted(len(grid.weights), 'weight')}; smallest at "
            f"{place_in_words(*_at(grid, smallest))}. Selected: {_named(grid, selected)}. Best on validation: "
            f"{_named(grid, searched)}.",
            table,
            rows=grid.depths,
            columns=grid.weights,
            chosen=selected,
            alike=searched,
            alike_name="best on validation",
            chosen_name="selected (no reading has numbers)"
            if reading is None
            else f"selected by {shortened(reading, 24)}",
            x_name=WEIGHT_AXIS,
            y_name=DEPTH_AXIS,
            unit=unit,
        ),
        Table(
            ["shared depth", *(f"w = {weight(value)}" for value in grid.weights)],
            [
                [str(depth), *(significant(value, 4) for value in row.tolist())]
                for depth, row in zip(grid.depths, table, strict=True)
            ],
            note=f"In {unit}{', up to a constant' if key == 'predicted' else ''}; smaller is better."
            + (" Mean over seeds." if several else ""),
        ),
        (
            "Mean over seeds. A ring: selected with some seed; a dot: best on validation with some seed. "
            if several
            else ""
        )
        + ("Depth 0 shares nothing and is one network, whatever the weight." if grid.depths[0] == 0 else ""),
    )


def _scatter(
    grid: Grid, reading: str, name: str, measured: FloatArray, unit: str, form: Callable[[float], str]
) -> Figure:
    row, column = grid.reference
    x = (tables := grid.predictions(reading)) - tables[:, row, column][:, None, None]
    y = measured - measured[:, row, column][:, None, None]
    places = [
        (number, seed, entry, place_in_words(*_at(grid, entry)))
        for number, seed in enumerate(grid.seeds)
        for entry in grid.entries
    ]
    title = f"Predicted and measured {name}, {shortened(reading, 32)}"
    found = grid.record(reading).of("spearman_risk" if name == "risk" else "spearman").mean
    used = list(dict.fromkeys(_shared(grid, entry) for entry in grid.entries))
    return Figure(
        f"prediction-{name}",
        title,
        signed_scatter(
            f"prediction-{name}",
            title,
            f"One point for each of {counted(grid.num_cells, 'cell')} and {counted(len(grid.seeds), 'seed')}. "
            f"Spearman’s correlation, mean over seeds: {fixed(found, 2)}.",
            [
                Point(
                    float(x[number, *entry]),
                    float(y[number, *entry]),
                    SHARED[_shared(grid, entry)],
                    f"{said}, seed {seed}: predicted {significant(float(x[number, *entry]))} nats, measured "
                    f"{form(float(y[number, *entry]))} {unit}",
                )
                for number, seed, entry, said in places
            ],
            groups=[(group, style) for group, style in SHARED.items() if group in used],
            diagonal=unit == "nats",
            x_name="predicted: K minus K at full sharing and w = 1/2, nats per image",
            y_name=f"measured: {name} on test minus that of the same cell, {unit}",
        ),
        Table(
            ["cell", "predicted, nats", f"measured {name}, {unit}"],
            [
                [f"{said}, seed {seed}", significant(float(x[number, *entry]), 4), form(float(y[number, *entry]))]
                for number, seed, entry, said in places
            ],
            note="Differences from full sharing at w = 1/2 of the same seed.",
        ),
        "Refined networks; each point minus full sharing at w = 1/2 of its seed, because K is a risk up to a constant. "
        + (
            "A criterion that is right in size, too, has its points on the broken line."
            if unit == "nats"
            else "K speaks of risk; that error follows it is a hope."
        ),
    )


def _shared(grid: Grid, entry: tuple[int, int]) -> str:
    row = entry[0]
    if row == len(grid.depths) - 1:
        return "full sharing"
    return "nothing shared" if grid.depths[row] == 0 else "partly shared"


def _entries(grid: Grid, places: Iterable[Place]) -> list[tuple[int, int]]:
    return list(dict.fromkeys(grid.entry(place) for place in places))


def _at(grid: Grid, entry: tuple[int, int]) -> tuple[int, float | None]:
    row, column = entry
    return grid.depths[row], grid.weights[column] if grid.depths[row] else None


def _named(grid: Grid, entries: list[tuple[int, int]]) -> str:
    return "; ".join(place_in_words(*_at(grid, entry)) for entry in entries) or NONE


def _standard_error(values: FloatArray) -> FloatArray:
    """(S, W) to (W,) over seeds; (0,) for one seed, which has none."""
    if len(values) == 1:
        return np.empty(0)
    return np.asarray(values.std(axis=0, ddof=1) / len(values) ** 0.5)


def _share_with_error(means: FloatArray, errors: FloatArray, column: int) -> str:
    mean = points(float(means[column]))
    return f"{mean} ± {points(float(errors[column]))}" if errors.size else mean
