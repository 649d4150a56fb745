import re

import pytest

from forktail.report.grid_file import read_grid
from forktail.report.grid_words import cautions, headline
from forktail.run import Run


@pytest.fixture
def words(make_grid):
    def said(**more):
        grid = read_grid(Run(make_grid(**more)))
        plain = [re.sub("</?bdi>", "", str(text)) for text in (headline(grid), *cautions(grid))]
        return plain[0], " ".join(plain[1:])

    return said


def sandwich(**measures):
    """Give the default reading other measures of the refined networks on test."""

    def change(content):
        for one in content["measures"]:
            if (one["reading"], one["state"], one["split"]) == ("sandwich", "refined", "test"):
                for name, (mean, low, high) in measures.items():
                    one[name] = {"mean": mean, "low": low, "high": high, "bootstrap": None}

    return change


def test_a_reading_that_predicts_is_said_to_and_what_it_cost(words):
    change = sandwich(
        spearman_risk=(0.8, 0.5, 0.95), spearman=(0.6, 0.1, 0.9), search_regret=(0.5, -0.25, 1.0), gain=(2.0, 1.0, 3.0)
    )
    assert words(change=change)[0] == (
        "On animals, over 7 cells and 3 seeds, the criterion in its reading sandwich predicts which cells are better: "
        "it orders their risk as it was measured, more than chance would. Spearman’s correlation with the risk of the "
        "refined networks on test is 0.80 (95 % interval 0.50 to 0.95), with their error it is 0.60 (95 % interval "
        "0.10 to 0.90). Against the grid search on validation, which has to train all 7 networks, the selected "
        "cell costs +0.5 points (95 % interval −0.2 to +1.0) of balanced accuracy on test; 0 is inside. Over full "
        "sharing at weight 1/2, which nobody has to select, the selected cell gains +2.0 points (95 % interval +1.0 to "
        "+3.0): selecting pays. Of 2 readings, sandwich orders the risk on validation best (1.00); on test it has "
        "0.80 (95 % interval 0.50 to 0.95)."
    )


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ((-0.5, -0.9, -0.1), "misleads: it orders the cells' risk the wrong way round"),
        ((0.5, -0.1, 1.0), "is not seen to predict"),
        ((0.5, 0.0, 1.0), "is not seen to predict"),
        ((1.0, None, None), "orders the cells alike with every seed"),
        ((None, None, None), "cannot be judged, because with some seed all cells tie"),
    ],
)
def test_the_verdict_is_that_of_the_interval(words, interval, said):
    assert said in words(change=sandwich(spearman_risk=interval))[0].replace("&#39;", "'")


@pytest.mark.parametrize(
    ("measures", "said"),
    [
        ({"search_regret": (2.0, 1.0, 3.0)}, "on test: the search is better."),
        ({"search_regret": (-2.0, -3.0, -1.0)}, "costs −2.0 points (95 % interval −3.0 to −1.0) of balanced accuracy"),
        ({"search_regret": (-2.0, -3.0, -1.0)}, "on test: the criterion is better."),
        ({"gain": (-1.0, -2.0, -0.5)}, ": selecting harms."),
        ({"gain": (1.0, -2.0, 3.0)}, "; 0 is inside."),
    ],
)
def test_who_is_better_is_said_only_where_0_lies_outside(words, measures, said):
    assert said in words(change=sandwich(**measures))[0]


def test_selecting_what_nobody_has_to_select_is_no_gain(words):
    def change(content):
        for one in content["measures"]:
            for choice in one.get("by_seed", []):
                choice["selected"] = {"depth": 3, "weight": 0.5}

    assert "It selects full sharing at weight 1/2 with every seed" in words(change=change)[0]


def test_one_seed_is_no_verdict(words):
    said, distrust = words(seeds=(3,))
    assert "can be judged by one seed alone, of which chance is not known" in said
    assert "nothing here can be told from chance" in distrust
    assert "interval" not in said
    assert "standard error of a cell" not in distrust


def test_the_spread_over_cells_stands_beside_what_seeds_move(words):
    """Risk 1.5 + valley: 1.54 at depth 0; at depth 2 and w = .75 the mean of 0, 1e-5 and 4e-5 above 1.5."""
    distrust = words()[1]
    assert "Between the best and the worst cell lie 8.0 points of error and 0.0400 nats of risk" in distrust
    assert "is chance, which" not in distrust


def test_seeds_that_hide_the_order_are_said_to(words):
    def before(content):
        for number, cell in enumerate(content["cells"]):
            for split in ("validation", "test"):
                cell["refined"][split]["risk"] = 1.5 + (7 * number % 5)

    distrust = words(before=before)[1]
    assert "half of the variance of risk over cells is chance" in distrust


def test_what_a_seed_changes_in_all_cells_alike_hides_nothing(words):
    def before(content):
        for cell in content["cells"]:
            for split in ("validation", "test"):
                cell["refined"][split]["risk"] += 10 * cell["seed"]

    assert "is chance, which" not in words(before=before)[1]


def test_readings_without_numbers_and_the_number_of_readings_are_said(words):
    distrust = words()[1]
    assert "1 reading has no numbers, for the reasons below: refined." in distrust
    assert "2 readings were compared" in distrust
