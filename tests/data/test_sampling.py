import numpy as np
import pytest
from scipy.stats import chi2

from forktail.data.sampling import ClassAware, Paired, Repeated, Shuffled, Weighted

LABELS = np.repeat([0, 1, 2, 3], [40, 12, 3, 1])
SAMPLERS = [
    Shuffled(),
    ClassAware(),
    ClassAware(each=1),
    Weighted("balanced"),
    Weighted("reversed"),
    Weighted("effective", beta=0.9),
    Repeated(3),
    Paired(Shuffled(), Weighted("reversed")),
]
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)


@every_sampler
def test_an_epoch_has_its_stated_length_and_names_images_that_exist(sampler):
    shown = sampler.epoch(LABELS, seed=3)
    assert shown.shape == (sampler.length(len(LABELS)),)
    assert 0 <= shown.min() <= shown.max() < len(LABELS)


@every_sampler
def test_an_epoch_is_a_function_of_its_seed(sampler):
    np.testing.assert_array_equal(sampler.epoch(LABELS, seed=3), sampler.epoch(LABELS, seed=3))
    assert not np.array_equal(sampler.epoch(LABELS, seed=3), sampler.epoch(LABELS, seed=4))


def test_class_aware_gives_four_images_of_a_class_in_turn_and_every_class_as_often():
    shown = ClassAware(each=4).epoch(LABELS, seed=0)
    runs = LABELS[shown].reshape(-1, 4)
    assert (runs == runs[:, :1]).all()
    visits = runs[:, 0]
    for cycle in visits[: len(visits) // 4 * 4].reshape(-1, 4):
        assert sorted(cycle) == [0, 1, 2, 3]


def test_class_aware_repeats_an_image_only_after_all_others_of_its_class():
    shown = ClassAware(each=4).epoch(LABELS, seed=0)
    of_class_2 = [index for index in shown if LABELS[index] == 2]
    for cycle in np.array(of_class_2[: len(of_class_2) // 3 * 3]).reshape(-1, 3):
        assert len(set(cycle)) == 3


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        (Weighted("balanced"), [1, 1, 1, 1]),
        (Weighted("reversed"), [1 / 40, 1 / 12, 1 / 3, 1]),
        (Weighted("effective", beta=0.9), [n * 0.1 / (1 - 0.9**n) for n in (40, 12, 3, 1)]),
        (Weighted("effective", beta=0.0), [40, 12, 3, 1]),
    ],
    ids=repr,
)
def test_classes_are_drawn_as_often_as_the_rule_says_and_images_of_one_alike(sampler, expected):
    shares = np.array(expected) / np.sum(expected)
    np.testing.assert_allclose(sampler.class_probabilities(LABELS), shares, rtol=1e-12)
    drawn = np.concatenate([sampler.epoch(LABELS, seed=s) for s in range(400)])
    each = (shares / np.bincount(LABELS))[LABELS] * len(drawn)
    statistic = ((np.bincount(drawn, minlength=len(LABELS)) - each) ** 2 / each).sum()
    assert statistic < chi2.ppf(0.9999, df=len(LABELS) - 1)


def test_weighted_gives_a_class_without_images_no_share():
    assert Weighted("reversed").class_probabilities(np.array([0, 2, 2])).tolist() == pytest.approx([2 / 3, 0, 1 / 3])


def test_repeated_shows_a_third_of_the_images_three_times():
    labels = np.zeros(30, np.int64)
    shown = Repeated(3).epoch(labels, seed=0)
    assert len(shown) == 30
    assert sorted(np.bincount(shown, minlength=30).tolist()) == [0] * 20 + [3] * 10


def test_paired_alternates_between_its_streams():
    shown = Paired(Shuffled(), Weighted("balanced")).epoch(LABELS, seed=0)
    assert sorted(shown[::2].tolist()) == list(range(len(LABELS)))
    np.testing.assert_array_equal(shown[::2], Shuffled().epoch(LABELS, seed=0))
