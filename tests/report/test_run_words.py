import numpy as np
import pytest

from forktail.report.run_files import read_run
from forktail.report.run_words import distrust, standard_error, summary


@pytest.fixture
def words(make_run):
    def said(change=None):
        content = read_run(make_run(change))
        plain = str(summary(content)).replace("\u00a0", " ").replace("<bdi>", "").replace("</bdi>", "")
        return plain, [str(sentence).replace("\u00a0", " ") for sentence in distrust(content)]

    return said


def test_the_summary_says_what_was_chosen_and_how_good_it_is(words):
    said, _ = words()
    assert said == (
        "osdtw learned 6 classes of animals from 650 training images: 400 of the most frequent class, 2 of the rarest "
        "(imbalance 200). Its criterion chose to share the whole trunk (depth 2 of 2), with weight 0.50 for the head "
        "task and 0.50 for the tail, because it predicts the smallest excess risk there: 7.00 nats per image, against "
        "8.50 at depth 1, the best other depth. On 120 images of the test part it is right on 53.3 % of a class, "
        "averaged over classes: 87.5 % for classes with many training images, 60.0 % between and 12.5 % for classes "
        "with few training images. 1 of 6 classes is never recognised."
    )


def test_without_a_selection_the_summary_says_so(words):
    said, _ = words(lambda files: files.pop("selection.json"))
    assert "It chooses no shared depth and no task weight." in said


@pytest.mark.parametrize(
    ("pinned", "expected"),
    [
        ("depth = 2\n", "The depth was set by hand."),
        ("weight = 0.5\n", "The weight was set by hand."),
        ("depth = 2\nweight = 0.5\n", "Depth and weight were set by hand: share the whole trunk"),
    ],
)
def test_what_was_set_by_hand_is_not_called_chosen(words, pinned, expected):
    def change(files):
        files["recipe.toml"] += pinned

    assert expected in words(change)[0]


def one_about(sentences, *parts):
    found = [sentence for sentence in sentences if all(part in sentence for part in parts)]
    return len(found) == 1


def test_a_clean_run_is_doubted_for_its_groups_and_its_seed_alone(words):
    _, doubts = words()
    assert len(doubts) == 4
    assert all(one_about(doubts, f"“{group}” rests on 40 test images of 2 classes") for group in ("many", "few"))
    assert doubts[-1].startswith("This is one run with one seed (7).")


def test_a_flat_criterion_is_doubted(words):
    def change(files):
        files["selection.json"] |= {"alike": [[2, 0.25], [2, 0.5], [2, 0.75]], "flatness": 1 / 3}

    assert one_about(words(change)[1], "The criterion is flat: 3 cells (33.3 % of those allowed)", "from 0.25 to 0.75")


def measured_in_groups(*others):
    """The 95 % interval of these cells' difference from the chosen one does not lie above zero."""

    def change(files):
        said = (
            "not distinguishable from depths 1 to 2, weight 0.5" if others else "every other cell is shown to be worse"
        )
        files["selection.json"] |= {"not_distinguishable": list(others), "sentence": f"depth 2, weight 0.5; {said}"}
        files["selection.json"] |= {"alike": [[2, 0.25], [2, 0.5], [2, 0.75]], "flatness": 1 / 3}
        files["criterion.json"]["groups"] = [82, 81, 81, 81, 81, 81, 81, 82]

    return change


def test_a_choice_that_is_not_sure_says_from_what_it_cannot_be_told(words):
    said, doubts = words(measured_in_groups([1, 0.5], [2, 0.25]))
    sure = "By its standard error over 8 groups of images, this choice is not distinguishable from depths 1 to 2, "
    assert sure + "weight 0.5." in said
    assert one_about(doubts, "With it, 3 cells (33.3 % of those allowed) cannot be told apart, at depths 1 to 2.")
    assert not one_about(doubts, "within 1 %")


def test_a_choice_that_is_sure_says_so_and_is_not_doubted(words):
    said, doubts = words(measured_in_groups())
    assert "By their standard errors over 8 groups of images, all other cells are worse." in said
    assert not one_about(doubts, "cannot be told apart")
    assert not one_about(doubts, "The criterion is flat")


def test_equals_at_other_depths_are_named(words):
    def change(files):
        files["selection.json"] |= {"alike": [[1, 0.5], [2, 0.5]], "flatness": 0.05}

    assert one_about(words(change)[1], "The choice has equals: 2 cells", "at depths 1 to 2")


def test_an_undamped_sandwich_chose_no_weight(words):
    def change(files):
        files["criterion.json"] |= {"reading": "sandwich"}

    assert one_about(words(change)[1], "selects weight 0.5 whatever the data are")


@pytest.mark.parametrize(
    ("size", "depth", "pinned", "doubted"),
    [(2000, 2, None, True), (1600, 2, None, False), (2000, 1, None, False), (2000, 2, 2, False)],
)
def test_sharing_everything_is_doubted_where_parameters_are_many(words, size, depth, pinned, doubted):
    """Of 650 images and four layers: ten parameters for an image are 1625 a layer."""

    def change(files):
        for unit in files["criterion.json"]["units"]:
            unit["parameters"] = size
        others = {"runner_up": {"depth": 3 - depth, "weight": 0.5, "value": 8.5}, "alike": [[depth, 0.5]]}
        files["selection.json"] |= {"depth": depth, **others}
        if pinned is not None:
            files["recipe.toml"] += f"depth = {pinned}\n"
            files["selection.json"]["runner_up"] = None

    assert one_about(words(change)[1], "12.3 parameters for each training image", "no finding") == doubted


def test_a_negative_bias_is_doubted(words):
    def change(files):
        for row in files["criterion.csv"]:
            row["shared_bias"] = -1.5

    assert one_about(words(change)[1], "bias term is negative (−1.50 nats)")


@pytest.mark.parametrize(("norms", "doubted"), [([0.1, 0.07], False), ([0.2, 0.07], True)])
def test_gradients_count_against_the_noise_of_the_images(words, norms, doubted):
    """The noise is sqrt(8 / 650) = 0.111 for the head and sqrt(4 / 650) = 0.0784 for the tail."""

    def change(files):
        files["criterion.json"]["mean_gradient_norms"] = norms

    assert one_about(words(change)[1], "Stage 1 stopped before its optimum", "0.111 and 0.0784") == doubted


@pytest.mark.parametrize(("ece", "accuracy", "said"), [(0.3, 0.9, "timid"), (0.3, 0.01, "sure"), (0.05, 0.9, None)])
def test_bad_probabilities_are_called_timid_or_sure(words, ece, accuracy, said):
    def change(files):
        files["metrics.json"]["ece"] = ece
        for one in files["metrics.json"]["reliability"][1:]:
            one["accuracy"] = accuracy

    assert one_about(words(change)[1], f"it is too {said}") == (said is not None)


def test_the_standard_error_bounds_that_of_any_accuracy(make_run):
    """Six classes of 20 images: 1/2 sqrt(6 / 20) / 6; simulated, all classes at one half reach it."""
    metrics = read_run(make_run()).metrics
    bound = standard_error(metrics)
    np.testing.assert_allclose(bound, 0.5 * np.sqrt(6 / 20) / 6)
    drawn = np.random.default_rng(0).binomial(20, 0.5, size=(20_000, 6)) / 20
    np.testing.assert_allclose(drawn.mean(axis=1).std(), bound, rtol=0.03)
    assert standard_error(metrics, np.array([], dtype=np.int64)) is None
