import numpy as np
import pytest

from forktail.data.images import ArrayPictures, Images
from forktail.data.small_groups import FEW, small_groups_notes


def images_of(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    return Images.ordered(ArrayPictures(np.zeros((len(labels), 1, 1), np.uint8)), labels, ("a", "b", "c"))


def test_a_class_or_group_with_fewer_than_ten_test_images_is_noted():
    group, classes = small_groups_notes(images_of([200, 50, 5]), images_of([FEW, FEW, FEW - 1]))
    assert group == "the shot group few has 9 test images, fewer than 10: its accuracy says little."
    assert classes == 'fewer than 10 test images, so that an accuracy of one class says little: "c".'


def test_nothing_is_said_of_enough_of_none_and_of_groups_without_classes():
    assert small_groups_notes(images_of([200, 150, 120]), images_of([FEW, FEW, 0])) == ()


@pytest.mark.parametrize(("shots", "groups"), [("A", ["medium", "few"]), ("quantile", ["many", "medium", "few"])])
def test_the_groups_are_those_of_the_rule(shots, groups):
    notes = small_groups_notes(images_of([50, 40, 5]), images_of([4, 4, 4]), shots)
    assert [note.split()[3] for note in notes[:-1]] == groups


def test_a_group_of_several_thin_classes_may_be_enough():
    (note,) = small_groups_notes(images_of([9, 9, 9]), images_of([4, 4, 4]))
    assert '"a", "b", "c"' in note
