"""What stands on the page of a grid is what stands in its file."""

import json
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from forktail import cli
from forktail.errors import InputError
from forktail.report.grid_figures import measured_figures, predicted_figure, prediction_figures, weight_figure
from forktail.report.grid_file import Place, read_grid
from forktail.report.grid_report import write_grid_report
from forktail.run import Run


@pytest.fixture
def report(make_grid, read_page):
    def made(**more):
        return read_page(write_grid_report(make_grid(**more)).read_text(encoding="utf-8"))

    return made


@pytest.fixture
def content(make_grid):
    return read_grid(Run(make_grid()))


def row(page, name, columns, skip=0):
    """Cells beside a name, where it stands at the left for the ``skip``-th time."""
    cells = [cell.strip() for cell in page.cells]
    at = [number for number, cell in enumerate(cells) if cell == name][skip]
    return cells[at + 1 : at + 1 + columns]


def tips(figure):
    return re.findall(r"<title>([^<]*)</title>", str(figure.chart))


def test_cells_count_nothing_shared_once(content):
    assert content.num_cells == len(content.entries) == 7
    assert content.entries[:2] == [(0, 1), (1, 0)]
    assert content.reference == (2, 1)
    assert content.entry(Place(0, None)) == (0, 1)
    assert content.entry(Place(3, 0.75)) == (2, 2)


def test_tables_stand_by_seed_depth_and_weight(content):
    risk, accuracy = content.risk("raw"), content.accuracy("refined", group="few")
    assert risk.shape == accuracy.shape == (3, 3, 3)
    np.testing.assert_allclose(risk[1, 2], 1.52 + 0.01 + 0.1 * (np.array([0.25, 0.5, 0.75]) - 0.74) ** 2)
    np.testing.assert_allclose(risk[2, 0], 1.56)
    np.testing.assert_allclose(accuracy, 0.3 - 2 * (content.risk("refined") - 1.5))
    np.testing.assert_allclose(content.predictions("sandwich") - 7, 2 * (content.risk("refined") - 1.5))


def test_the_default_reading_is_the_one_that_fit_selects_by(make_grid):
    assert read_grid(Run(make_grid())).default == "sandwich"

    def rename(content):
        content["predicted"]["general"] = content["predicted"].pop("sandwich")

    renamed = read_grid(Run(make_grid(before=rename, folder="other")))
    assert (renamed.default, renamed.best_ordering) == ("naive", "general")


def test_the_best_ordering_is_chosen_on_validation(make_grid):
    def change(content):
        for one in content["measures"]:
            if (one["reading"], one["state"], one["split"]) == ("sandwich", "refined", "validation"):
                one["spearman_risk"]["mean"] = -0.9
            if (one["reading"], one["state"], one["split"]) == ("naive", "refined", "validation"):
                one["spearman_risk"]["mean"] = 0.2

    assert read_grid(Run(make_grid(change=change))).best_ordering == "naive"


def test_every_reading_has_its_measures_and_one_without_numbers_its_reason(report):
    """Gains are 200 (.01 + .1 (.25 - .01 k)^2 - .1 (.01 k)^2), so 3.25, 3.15 and 3.05 points; t is 4.303."""
    page = report()
    found = row(page, "sandwich", 10)
    assert found[:5] + found[6:] == [*["1.00"] * 4, "0.0", "0.500", "0.0", "1.00", "1.00"]
    assert found[5].endswith(" (+2.9 to +3.4)")
    assert row(page, "naive", 2) == ["−1.00", "−1.00"]
    assert row(page, "refined", 10) == ["–"] * 10
    assert "no damping explains the movement" in page.text
    for name in ("Refined networks on test", "Refined networks on validation", "Raw networks on validation"):
        assert name in page.text


def test_depth_or_weight_alone_stand_beside_both(report, make_grid):
    measures = json.loads((make_grid(folder="again") / "grid.json").read_text())["measures"]
    [one] = [m for m in measures if (m["reading"], m["state"], m["split"]) == ("sandwich", "refined", "test")]
    found = row(report(), "sandwich", 4, skip=4)
    names = ("gain", "gain_depth_alone", "gain_weight_alone", "gain_over_nothing_shared")
    assert [float(text.split()[0]) for text in found] == [pytest.approx(one[name]["mean"], abs=0.051) for name in names]


def test_what_was_selected_and_what_a_search_takes_is_said_for_every_seed(report):
    page = report()
    assert row(page, "sandwich", 4, skip=6) == ["depth 2, w = 0.75"] * 3 + ["0.125"]
    assert row(page, "grid search on validation, raw", 4) == ["depth 2, w = 0.75"] * 3 + ["–"]
    assert row(page, "naive", 1, skip=6) == ["depth 0"]


def test_what_was_run_is_said(report):
    text = report().text
    for said in ("1,234", "3.21 PFLOP", "0, 1 and 2", "0, 2 and 3", "0.25, 0.50 and 0.75", "forktail grid animals"):
        assert said in text, said
    assert "7, so 21 networks raw and refined" in text


def test_accuracy_by_weight_is_that_of_full_sharing(content):
    figure = weight_figure(content, "raw")
    expected = content.accuracy("raw")[:, -1]
    error = 100 * expected.std(axis=0, ddof=1) / np.sqrt(3)
    assert figure.table.rows[0][:2] == ["0.25", f"{100 * expected[:, 0].mean():.1f} ± {error[0]:.1f}"]
    assert str(figure.chart).count('class="whisker s6"') == 3
    assert "best at weight 0.75" in str(figure.chart)


def test_a_group_without_classes_has_no_line(make_grid):
    def change(content):
        for cell in content["cells"]:
            cell["refined"]["test"]["posterior"]["medium"] = None

    figure = weight_figure(read_grid(Run(make_grid(change=change))), "refined")
    assert figure.table.columns == ["weight of the head", "all classes, %", "many, %", "few, %"]
    assert "left out" in figure.note


def test_maps_have_the_depths_that_were_trained_and_one_orientation(content):
    error, risk, raw_error, _ = measured_figures(content)
    predicted = predicted_figure(content, "sandwich")
    assert [line[0] for line in predicted.table.rows] == [line[0] for line in risk.table.rows] == ["0", "2", "3"]
    assert "depth 3, weight 0.75: 52.00 points" in tips(error)
    assert "depth 3, weight 0.75: 56.00 points" in tips(raw_error)
    assert "depth 2, weight 0.5: 1.506 nats" in tips(risk)
    assert "depth 2, weight 0.5: 7.012 nats" in tips(predicted)
    assert "smallest at depth 2, w = 0.75" in str(predicted.chart)


def test_maps_mark_what_was_selected_and_what_was_best_on_validation_with_every_seed(make_grid):
    def change(content):
        for one in content["measures"]:
            if one["reading"] == "sandwich" and one["state"] == "raw":
                one["by_seed"][2]["selected"] = {"depth": 0, "weight": None}
                one["by_seed"][1]["searched"] = [{"depth": 3, "weight": 0.25}, {"depth": 2, "weight": 0.75}]

    refined, _, raw, _ = measured_figures(read_grid(Run(make_grid(change=change))))
    assert "Selected: depth 2, w = 0.75. Best on validation: depth 2, w = 0.75." in str(refined.chart)
    assert "Selected: depth 2, w = 0.75; depth 0. " in str(raw.chart)
    assert "Best on validation: depth 2, w = 0.75; depth 3, w = 0.25." in str(raw.chart)
    assert str(raw.chart).count('class="chosen"') == str(raw.chart).count('class="alike"') == 3  # and the legend's


def test_points_are_differences_from_full_sharing_at_one_half_of_the_same_seed(content):
    risk, error = prediction_figures(content, "sandwich")
    points = {line[0]: line[1:] for line in risk.table.rows}
    assert len(points) == 21
    for seed in range(3):
        assert points[f"depth 3, w = 0.50, seed {seed}"] == ["0", "0"]
    change = 0.1 * (0.01**2 - 0.24**2)
    x, y = (float(text.replace("−", "-")) for text in points["depth 3, w = 0.75, seed 1"])
    assert (x, y) == (pytest.approx(2 * change, rel=1e-3), pytest.approx(change, rel=1e-2))
    assert {line[0]: line[2] for line in error.table.rows}["depth 3, w = 0.75, seed 1"] == "−1.2"
    assert "diagonal" in str(risk.chart)
    assert "diagonal" not in str(error.chart)  # nats against points
    assert len([tip for tip in tips(risk) if "seed" in tip]) == 21


@pytest.mark.parametrize(
    "axes",
    [
        {"seeds": (5,)},
        {"depths": (3,), "weights": (0.5,)},
        {"depths": (0, 1), "weights": (0.5,), "seeds": (0,)},
        {"weights": tuple((k + 1) / 20 for k in range(19)), "depths": tuple(range(6))},
    ],
    ids=["one seed", "one cell", "two cells", "large"],
)
def test_odd_grids_have_a_page(report, axes):
    page = report(**axes)
    assert len(page.having("figure")) >= 6
    assert not re.search(r"\bnan\b|\binf\b", page.text)


def test_one_seed_has_no_intervals(report):
    page = report(seeds=(4,))
    assert not any("(" in cell for cell in row(page, "sandwich", 8))
    assert "±" not in page.text
    assert "95 % interval" not in page.text


def test_without_any_reading_that_has_numbers_what_was_measured_is_shown(report):
    def blind(content):
        content["predicted"] = {"refined": content["predicted"]["refined"]}

    page = report(before=blind)
    assert "No reading of the criterion has numbers" in page.text
    assert {"figure-error-refined", "figure-risk-raw", "figure-weight-raw"} <= set(page.ids)
    assert not {"figure-predicted", "figure-prediction-risk"} & set(page.ids)


def test_the_same_file_makes_the_same_bytes_and_fetches_nothing(make_grid, read_page):
    pages = [write_grid_report(make_grid(folder=name)).read_bytes() for name in ("one", "two")]
    assert pages[0] == pages[1]
    page = read_page(pages[0].decode())
    assert all(found["href"].startswith("#") for found in page.having("a"))
    assert not [tag for tag, _ in page.tags if tag in {"script", "link", "img", "iframe"}]


def test_the_command_finds_a_grid(make_grid):
    folder = make_grid()
    result = CliRunner().invoke(cli.app, ["report", str(folder)])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(folder / "grid.html")
    assert (folder / "grid.html").is_file()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content.pop("rule"), "rule"),
        (lambda content: content.update(depths=[3, 2, 0]), "depths that do not ascend"),
        (lambda content: content.update(weights=[0.25, 0.75]), "weights without 1/2"),
        (lambda content: content.update(seeds=[0, 0, 1]), "one twice"),
        (lambda content: content["cells"].pop(), "not one cell"),
        (lambda content: content["cells"][1].update(weight=0.3), "not one cell"),
        (lambda content: content["cells"][0]["raw"].pop("test"), "not measured on validation and test"),
        (lambda content: content["cells"][0]["raw"]["test"].update(risk="high"), r"raw\.test\.risk"),
        (lambda content: content["predicted"]["naive"].pop("2"), "naive: not one prediction for each seed"),
        (lambda content: content["predicted"]["naive"]["1"]["table"].pop(), "for each depth and weight"),
        (lambda content: content["predicted"]["refined"]["1"].pop("reason"), "neither a table nor a reason"),
        (lambda content: content["measures"].pop(), "not one record of measures"),
        (lambda content: content["measures"][0].update(reason="why"), "naive: measures without a table"),
        (lambda content: content["measures"][0]["by_seed"].pop(), "not one choice for each seed"),
        (lambda content: content["measures"][0]["by_seed"][0]["selected"].update(depth=1), "not in the grid"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(make_grid, change, said):
    folder = make_grid(change=change)
    with pytest.raises(InputError, match=said) as caught:
        write_grid_report(folder)
    assert str(folder / "grid.json") in str(caught.value)
    assert not (folder / "grid.html").exists()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"grid\.json"):
        write_grid_report(tmp_path)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.one_of(st.text(max_size=30), st.just("</script><script>alert(1)</script>\u202e\n")))
def test_any_name_leaves_the_page_whole(report, name):
    def before(content):
        content |= {"data": name, "command": name}
        content["predicted"] = {f"{name}1": content["predicted"]["naive"], f"{name}2": content["predicted"]["refined"]}
        for one in content["predicted"][f"{name}2"].values():
            one["reason"] = name

    page = report(before=before, folder="any")
    assert not page.having("script")
