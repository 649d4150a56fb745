import pytest

from forktail.report.comparison_file import read_comparison
from forktail.report.comparison_words import cautions, headline
from forktail.run import Run


@pytest.fixture
def words(make_comparison):
    def said(*given, **more):
        comparison = read_comparison(Run(make_comparison(*given, **more)))
        plain = str(headline(comparison)).replace("<bdi>", "").replace("</bdi>", "")
        return plain, " ".join(map(str, cautions(comparison)))

    return said


def test_a_clear_win_is_called_one(words):
    assert words()[0] == (
        "osdtw stands first of 3 methods on animals, with a balanced accuracy of 65.0 ± 1.2 points over 3 seeds. "
        "It is above the baseline ce by +5.0 points (95 % interval +3.0 to +7.0)."
    )


@pytest.mark.parametrize("difference", [0.02, 0.019, 0.0, -0.01])
def test_a_difference_whose_interval_holds_0_is_not_called_a_win(words, difference):
    """The interval is the difference plus and minus 0.02; an end at 0 is inside."""
    said = words([("osdtw", 0.6, {"difference": difference}), ("ce", 0.6, {"difference": None})])[0]
    assert "not distinguishable from the baseline ce" in said
    assert "above" not in said


def test_a_first_method_that_is_worse_on_the_test_part_is_said_to_be(words):
    said = words([("osdtw", 0.5, {"difference": -0.05}), ("ce", 0.55, {"difference": None})])[0]
    assert "It is below the baseline ce by −5.0 points" in said


def test_where_the_reference_stands_first_the_others_are_sorted_out(words):
    given = [("ce", 0.6, {"difference": None}), ("b", 0.59, {"difference": -0.01}), ("c", 0.5, {"difference": -0.1})]
    said = words(given)[0]
    assert "Not distinguishable from it: b (−1.0 points (95 % interval −3.0 to +1.0))." in said
    assert "Below it: c (−10.0 points" in said


def test_one_seed_says_nothing_about_chance(words):
    said, doubts = words(seeds=(3,))
    assert said.endswith(
        "That is +5.0 points compared with ce, but with one seed nothing is known about chance: another seed may turn "
        "the order round."
    )
    assert "±" not in said
    assert "no difference here can be told from chance" in doubts


def test_one_seed_with_the_reference_first_names_the_next(words):
    said, _ = words([("ce", 0.6, {"difference": None}), ("b", 0.57, {"difference": -0.03})], seeds=(0,))
    assert "That is +3.0 points compared with b, but with one seed" in said


def test_a_method_alone_is_compared_with_nothing(words):
    assert words([("ce", 0.6, {"difference": None})])[0].endswith("points over 3 seeds.")


@pytest.mark.parametrize(("flops", "equal"), [(1.05e12, True), (4e12, False)])
def test_unequal_compute_is_a_caution(words, flops, equal):
    given = [("osdtw", 0.6, {"difference": 0.1, "flops": flops}), ("ce", 0.5, {"difference": None})]
    assert ("Training compute is not equal" in words(given)[1]) != equal


def test_many_intervals_are_a_caution(words):
    assert "of 2 methods compared in many measures" in words()[1]
    assert "in many measures" not in words([("osdtw", 0.6, {"difference": 0.1}), ("ce", 0.5, {"difference": None})])[1]
