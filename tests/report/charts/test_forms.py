"""What every form of chart has to do: put a value at the right pixel, and bear the odd cases."""

from itertools import pairwise

import numpy as np
import pytest

from forktail.report.charts.bars import Bar, bars
from forktail.report.charts.frequencies import Strip, frequencies
from forktail.report.charts.heat_map import heat_map, level_of
from forktail.report.charts.intervals import Estimate, Measured, intervals
from forktail.report.charts.lines import MOST_MARKS, Series, lines
from forktail.report.charts.reliability import Bin, reliability
from forktail.report.charts.scatter import Point, named_scatter, scatter, signed_scatter, spread

SAID = ("key", "A title & more", "What it <shows>")


def interpolate(value, low, high):
    """Pixel of a value between two labelled ones, (value, pixel) each."""
    return low[1] + (value - low[0]) / (high[0] - low[0]) * (high[1] - low[1])


def test_every_chart_has_a_title_and_a_description(read):
    drawing = read(bars(*SAID, [Bar("a", 1.0)], x_name="x, m", form=str))
    assert drawing.root.get("role") == "img"
    assert drawing.root.find("title").text == SAID[1]
    assert drawing.root.find("desc").text == SAID[2]
    assert drawing.root.get("aria-labelledby") == drawing.root.find("title").get("id")


def line_chart(series, **more):
    return lines(*SAID, series, x_name="epoch", y_name="loss, nats", **more)


def test_lines_pass_through_their_points(read):
    drawing = read(line_chart([Series("a", [(0, 0.0), (1, 40.0), (4, 100.0)], 0)]))
    points = [tuple(map(float, pair.split(","))) for pair in drawing.marks("polyline", "line")[0].get("points").split()]
    across, down = drawing.labels("tick"), {text: y for text, (_, y) in drawing.labels("tick").items()}
    np.testing.assert_allclose(points[1][0], interpolate(1, (0, points[0][0]), (4, points[2][0])), atol=0.1)
    np.testing.assert_allclose(points[2][1], down["100"] - 4, atol=0.1)  # a label's baseline stands 4 below
    np.testing.assert_allclose(points[1][1], interpolate(40, (0, points[0][1]), (100, points[2][1])), atol=0.1)
    assert across["4"][0] == pytest.approx(points[2][0], abs=0.1)
    assert drawing.inside()


@pytest.mark.parametrize(
    "points",
    [[(1, 2.0)], [(1, 3.0), (2, 3.0)], [(0, -1.0), (1, 1.0)], [(k, float(k % 7)) for k in range(500)]],
    ids=["one point", "constant", "negative", "many"],
)
def test_odd_lines(read, points):
    drawing = read(line_chart([Series("a", points, 0), Series("b", points, 1, broad=True)]))
    assert drawing.inside()
    marked = drawing.marks("circle", "mark s1")
    assert len(marked) == (len(points) if len(points) <= MOST_MARKS else 2) + 1  # and the legend's
    assert len(drawing.marks("line", "zero")) == (min(v for _, v in points) < 0)


def test_errors_are_drawn_to_scale_on_either_side_and_stay_inside(read):
    series = [Series("a", [(0.1, 50.0), (0.5, 60.0)], 0, errors=[10.0, 20.0]), Series("b", [(0.1, 50.0)], 1)]
    drawing = read(line_chart(series, whole=False, form=lambda value: f"{value:g} %"))
    first, second = (drawing.numbers(e, "y1", "y2") for e in drawing.marks("line", "whisker s1"))
    assert drawing.marks("line", "whisker s2") == []
    assert second[0] - second[1] == pytest.approx(2 * (first[0] - first[1]), abs=0.05)
    ticks = drawing.labels("tick")
    down = {text: y - 4 for text, (_, y) in ticks.items() if text.endswith("%")}
    assert first[1] == pytest.approx(down["60 %"], abs=0.02)
    assert first[0] == pytest.approx(down["40 %"], abs=0.02)
    assert "0.3" in ticks
    assert drawing.inside()


def test_lines_differ_in_more_than_colour(read):
    drawing = read(line_chart([Series(str(k), [(0, k), (1, k)], k) for k in range(6)]))
    kinds = {(e.get("stroke-dasharray"), e.get("class")) for e in drawing.marks("polyline", "line")}
    assert len({dash for dash, _ in kinds}) == 6


def heat(values, chosen=((0, 0),), alike=(), rows=None, **more):
    rows = range(values.shape[0]) if rows is None else rows
    columns = [round(0.1 * (k + 1), 3) for k in range(values.shape[1])]
    named = {"x_name": "w", "y_name": "s", "unit": "nats", "alike_name": "not distinguishable from it"}
    return heat_map(*SAID, values, rows=rows, columns=columns, chosen=chosen, alike=alike, **named, **more)


def test_cells_stand_in_their_row_and_column_with_depth_0_at_the_bottom(read):
    values = np.arange(12.0).reshape(3, 4)
    drawing = read(heat(values, chosen=((2, 1),), alike=((2, 3),)))
    cells = {}
    for cell in drawing.root.iter("rect"):
        if cell.find("title") is not None:
            x, y, width, height = drawing.numbers(cell, "x", "y", "width", "height")
            cells[cell.find("title").text] = (x + width / 2, y + height / 2)
    assert len(cells) == 12
    assert cells["depth 2, weight 0.2: 9.000 nats"][1] < cells["depth 0, weight 0.2: 1.000 nats"][1]
    ring = drawing.marks("circle", "chosen")[0]
    assert drawing.numbers(ring, "cx", "cy") == pytest.approx(cells["depth 2, weight 0.2: 9.000 nats"], abs=0.02)
    dots = drawing.marks("circle", "alike")
    assert len(dots) == 2  # the other one, and the legend's
    assert "not distinguishable from it" in drawing.labels("legend")
    assert drawing.numbers(dots[0], "cx", "cy") == pytest.approx(cells["depth 2, weight 0.4: 11.00 nats"], abs=0.02)
    assert drawing.labels("tick")["0.2"][0] == pytest.approx(cells["depth 2, weight 0.2: 9.000 nats"][0], abs=0.02)
    assert drawing.inside()


def test_several_rings_a_dot_in_one_of_them_and_rows_of_other_depths(read):
    chosen, rows = ((0, 1), (1, 3)), (2, 12)
    drawing = read(heat(np.eye(2, 4), chosen=chosen, alike=((1, 3),), rows=rows, chosen_name="of each seed"))
    rings = [drawing.numbers(ring, "cx", "cy") for ring in drawing.marks("circle", "chosen")]
    dots = [drawing.numbers(dot, "cx", "cy") for dot in drawing.marks("circle", "alike")]
    assert len(rings) == 3  # and the legend's
    assert dots[0] == rings[1]
    order = [e.get("class") for e in drawing.root.iter("circle")]
    assert order.index("alike") > order.index("chosen")  # on top of it
    assert rings[0][1] == pytest.approx(drawing.labels("tick")["2"][1] - 4, abs=0.02)
    assert rings[1][1] == pytest.approx(drawing.labels("tick")["12"][1] - 4, abs=0.02)
    said = drawing.labels("legend")
    assert said["of each seed"][0] < said["not distinguishable from it"][0]
    assert "depth 12, weight 0.4: 0 nats" in {tip.text for tip in drawing.root.iter("title")}


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 19), (30, 99)])
def test_odd_tables(read, shape):
    drawing = read(heat(np.random.default_rng(0).normal(size=shape)))
    assert drawing.inside()
    ticks = sorted(x for text, (x, _) in drawing.labels("tick").items() if text.startswith("0."))
    assert all(b - a > 18 for a, b in pairwise(ticks) if b != a)


def test_levels_count_from_the_smallest_value():
    values = np.array([-5.0, -4.0, -3.999, -2.1, 5.1, 94.9, 95.0])
    assert level_of(values).tolist() == [0, 0, 1, 1, 3, 5, 5]
    assert level_of(np.full((2, 2), 7.0)).tolist() == [[0, 0], [0, 0]]


def strips(members):
    return [Strip("group", [("many", 0), ("few", 1)], members)]


def test_bars_of_frequencies_reach_their_count(read):
    drawing = read(frequencies(*SAID, [100, 50, 25], ["a", "b", "c"], strips([0, 0, 1]), classes=3))
    heights = {e.find("title").text: float(e.get("height")) for e in drawing.root.iter("rect") if len(e)}
    assert heights["a: 100 images"] == pytest.approx(2 * heights["b: 50 images"], abs=0.02)
    assert heights["a: 100 images"] == pytest.approx(4 * heights["c: 25 images"], abs=0.02)
    assert [e.get("class") for e in drawing.root.iter("rect") if len(e)] == ["mark s1", "mark s1", "mark s2"]
    assert drawing.inside()


def test_a_long_tail_is_drawn_on_a_logarithmic_axis_where_one_image_is_seen(read):
    drawing = read(frequencies(*SAID, [1000, 100, 1], ["a", "b", "c"], strips([0, 0, 1]), classes=3))
    first, second, third = (float(e.get("height")) for e in drawing.root.iter("rect") if len(e))
    assert (first - second) * 2 == pytest.approx(second - third, abs=0.05)
    assert third > 5
    assert "training images, logarithmic" in drawing.labels("axis")


@pytest.mark.parametrize("counts", [[1], [3, 3], [5] * 1000])
def test_odd_frequencies(read, counts):
    drawing = read(frequencies(*SAID, counts, ["n"] * len(counts), strips([0] * len(counts)), classes=len(counts)))
    assert drawing.inside()
    assert len([e for e in drawing.root.iter("rect") if len(e)]) == len(counts)


def test_thinned_bars_span_all_ranks(read):
    drawing = read(frequencies(*SAID, [9, 5, 1], list("abc"), strips([0, 0, 1]), classes=3000))
    edges = [drawing.numbers(e, "x", "width") for e in drawing.root.iter("rect") if len(e)]
    assert drawing.labels("tick")["3,000"][0] == pytest.approx(sum(edges[-1]), abs=1.5)


def test_bars_are_as_long_as_their_values(read):
    rows = [Bar("a", 0.5), Bar("b", 0.25), Bar("c", 0.0), Bar("d", None)]
    drawing = read(bars(*SAID, rows, x_name="accuracy", form=lambda v: "n/a" if v is None else f"{v:g}", most=1))
    first, second, third = (float(e.get("width")) for e in drawing.marks("rect", "mark"))
    assert (first, third) == (pytest.approx(2 * second, abs=0.02), 0)
    assert set(drawing.labels("value")) == {"0.5", "0.25", "0"}
    assert "n/a" in drawing.labels("tick")
    assert drawing.inside()


def test_negative_bars_go_the_other_way(read):
    drawing = read(bars(*SAID, [Bar("a", 3.0), Bar("b", -1.0)], x_name="x", form=str))
    up, down = (drawing.numbers(e, "x", "width") for e in drawing.marks("rect", "mark"))
    assert up[0] == pytest.approx(sum(down), abs=0.02)
    assert up[1] == pytest.approx(3 * down[1], abs=0.05)


@pytest.mark.parametrize("value", [0.0, None, 1e-12, 1e12])
def test_odd_bars(read, value):
    assert read(bars(*SAID, [Bar("n" * 300, value)], x_name="x", form=str)).inside()


def estimates(*found):
    return [Estimate(*one) for one in found]


def interval_chart(rows, series, **more):
    return intervals(*SAID, rows, series, x_name="difference, points", **more)


def test_whiskers_reach_the_ends_of_the_interval(read):
    found = estimates((2.0, 0.0, 10.0), (5.0,), (None,))
    drawing = read(interval_chart(["a", "b", "c"], [Measured("all", 0, found)], zero=True))
    centre, other = (float(e.get("cx")) for e in drawing.marks("circle", "mark")[1:])
    across = drawing.marks("line", "whisker")[0]
    low, high = drawing.numbers(across, "x1", "x2")
    assert low == pytest.approx(float(drawing.marks("line", "zero")[0].get("x1")), abs=0.02)
    assert centre == pytest.approx(interpolate(2, (0, low), (10, high)), abs=0.05)
    assert other == pytest.approx((low + high) / 2, abs=0.05)
    assert "all: n/a" in drawing.labels("tick")
    assert drawing.inside()


@pytest.mark.parametrize("more", [{}, {"zero": True}, {"decades": True}])
@pytest.mark.parametrize("found", [[(1.0,)], [(1.0,), (1.0,)], [(None,)], [(1e-7,), (1e3,)]])
def test_odd_intervals(read, found, more):
    rows = ["n" * 300] * len(found)
    assert read(interval_chart(rows, [Measured("s", 1, estimates(*found))], **more)).inside()


def test_decades_are_equally_far_apart(read):
    drawing = read(interval_chart(list("abc"), [Measured("s", 0, estimates((1e-4,), (1e-2,), (1.0,)))], decades=True))
    first, second, third = (float(e.get("cx")) for e in drawing.marks("circle", "mark")[1:])
    assert second - first == pytest.approx(third - second, abs=0.05)


def scatter_chart(points, trend=()):
    named = {"x_name": "images", "y_name": "accuracy, %"}
    return scatter(*SAID, points, groups=[("many", 0), ("few", 1)], trend=trend, **named)


def test_points_stand_at_their_measures(read):
    points = [Point(10, 0.0, 0, "a"), Point(1000, 1.0, 0, "b"), Point(100, 0.5, 0, "c")]
    drawing = read(scatter_chart(points, trend=[(10, 0.0), (1000, 1.0)]))
    a, b, c = (drawing.numbers(e, "cx", "cy") for e in drawing.marks("circle", "faint"))
    assert c == pytest.approx(((a[0] + b[0]) / 2, (a[1] + b[1]) / 2), abs=0.05)
    ends = [tuple(map(float, p.split(","))) for p in drawing.marks("polyline", "trend")[0].get("points").split()]
    assert ends == [pytest.approx(a, abs=0.06), pytest.approx(b, abs=0.06)]
    assert "images, logarithmic" in drawing.labels("axis")


@pytest.mark.parametrize("points", [[Point(1, 0.0, 0, "x")], [Point(5, 0.5, k % 6, "x") for k in range(1000)]])
def test_odd_scatters(read, points):
    assert read(scatter_chart(points)).inside()


def signed_chart(points, **more):
    named = {"x_name": "predicted, nats", "y_name": "measured, nats"}
    return signed_scatter(*SAID, points, groups=[("some", 0)], diagonal=True, **named, **more)


def test_equal_measures_stand_on_the_diagonal(read):
    drawing = read(signed_chart([Point(-2.0, -2.0, 0, "a"), Point(4.0, 1.0, 0, "b"), Point(0.0, 0.0, 0, "c")]))
    x1, y1, x2, y2 = drawing.numbers(drawing.marks("line", "diagonal")[0], "x1", "y1", "x2", "y2")
    (ax, ay), (bx, by), (cx, cy) = (drawing.numbers(e, "cx", "cy") for e in drawing.marks("circle", "faint"))
    assert ay == pytest.approx(interpolate(ax, (x1, y1), (x2, y2)), abs=0.05)
    assert by > interpolate(bx, (x1, y1), (x2, y2))  # less was measured: below the line
    upright, level = drawing.marks("line", "zero")
    assert (cx, cy) == (float(upright.get("x1")), float(level.get("y1")))
    assert drawing.inside()


@pytest.mark.parametrize(
    "points", [[(0.0, 0.0)], [(5.0, -1e-9)], [(-3e4, 0.2)] * 300], ids=["nothing", "tiny", "far apart"]
)
def test_odd_signed_scatters(read, points):
    drawing = read(signed_chart([Point(x, y, k, "p") for k, (x, y) in enumerate(points)]))
    assert drawing.inside()
    assert len(drawing.marks("circle", "faint") + drawing.marks("polygon", "faint")) == len(points)


@pytest.mark.parametrize("number", [1, 2, 30])
def test_names_beside_points_do_not_cover_one_another(read, number):
    points = [Point(1.0, 0.5 + 0.001 * k, k, f"method {k}") for k in range(number)]
    drawing = read(named_scatter(*SAID, points, x_name="compute, TFLOP", y_name="accuracy, %"))
    places = sorted(y for _, y in drawing.labels("name").values())
    assert len(places) == number
    assert all(low + 15.9 <= high for low, high in pairwise(places))
    assert drawing.inside()


def test_spreading_moves_only_what_is_too_near():
    assert spread([10, 50, 90], 0, 100, 10) == [10, 50, 90]
    assert spread([0, 0], 0, 100, 10) == [0, 10]
    assert spread([98, 99, 100], 0, 100, 10) == [80, 90, 100]


def test_reliability_shows_accuracy_against_confidence_and_counts(read):
    bins = [Bin(0, 0.5, 0, None, None), Bin(0.5, 0.75, 10, 0.6, 0.6), Bin(0.75, 1, 30, 0.9, 0.45)]
    drawing = read(reliability(*SAID, bins))
    honest, sure = (drawing.numbers(e, "cx", "cy") for e in drawing.marks("circle", "mark")[1:])
    x1, y1, x2, y2 = drawing.numbers(drawing.marks("line", "diagonal")[0], "x1", "y1", "x2", "y2")
    assert honest == pytest.approx((interpolate(0.6, (0, x1), (1, x2)), interpolate(0.6, (0, y1), (1, y2))), abs=0.05)
    assert sure[1] == pytest.approx(interpolate(0.45, (0, y1), (1, y2)), abs=0.05)
    gap = drawing.marks("line", "gap")[1]
    assert float(gap.get("y1")) == pytest.approx(interpolate(0.9, (0, y1), (1, y2)), abs=0.05)
    assert float(gap.get("y2")) == pytest.approx(sure[1], abs=0.02)
    empty, few, many = (float(e.get("height")) for e in drawing.marks("rect", "mark s6"))
    assert (empty, many) == (0, pytest.approx(3 * few, abs=0.05))
    assert drawing.inside()


def test_reliability_without_an_image_has_no_point(read):
    drawing = read(reliability(*SAID, [Bin(0, 1, 0, None, None)]))
    assert len(drawing.marks("circle", "mark")) == 1  # the legend's
    assert drawing.inside()
