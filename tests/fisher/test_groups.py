import numpy as np
import pytest

from forktail.errors import InputError
from forktail.fisher.groups import stratified_groups

COUNTS = np.array([100, 31, 8, 3, 2, 1, 1])
LABELS = np.random.default_rng(1).permutation(np.repeat(np.arange(7), COUNTS))


@pytest.mark.parametrize("num_groups", [1, 2, 8, 146])
def test_every_image_is_in_one_group_and_sizes_differ_by_one(num_groups):
    groups = stratified_groups(LABELS, num_groups, seed=3)
    np.testing.assert_array_equal(np.sort(np.concatenate(groups)), np.arange(len(LABELS)))
    assert all((np.diff(group) > 0).all() for group in groups)
    assert np.ptp([len(group) for group in groups]) <= 1


def test_every_class_is_spread_as_evenly_as_it_can_be():
    counts = np.stack([np.bincount(LABELS[group], minlength=7) for group in stratified_groups(LABELS, 8, seed=3)])
    assert (np.ptp(counts, axis=0) <= 1).all()
    assert (counts[:, 2] == 1).all()  # eight images, eight groups


def test_images_of_many_rare_classes_are_spread_over_all_groups():
    groups = stratified_groups(np.arange(40), 8, seed=0)
    assert [len(group) for group in groups] == [5] * 8


def test_groups_are_drawn_from_the_seed_alone():
    first, again, other = (stratified_groups(LABELS, 8, seed) for seed in (0, 0, 1))
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, same)
    assert not all(np.array_equal(one, another) for one, another in zip(first, other, strict=True))


@pytest.mark.parametrize("num_groups", [0, 147])
def test_groups_without_images_are_refused(num_groups):
    with pytest.raises(InputError, match=f"{num_groups} groups of 146 images; expected an image for each"):
        stratified_groups(LABELS, num_groups, seed=0)
