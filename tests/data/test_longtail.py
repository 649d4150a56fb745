from __future__ import annotations

import numpy as np
import pytest

from forktail.data.images import ArrayPictures, Images
from forktail.data.longtail import carve, tail_counts
from forktail.errors import InputError


def balanced(num_classes: int, per_class: int) -> Images:
    labels = np.random.RandomState(1).permutation(np.repeat(np.arange(num_classes), per_class))
    pictures = ArrayPictures(np.zeros((len(labels), 2, 2), np.uint8))
    return Images.ordered(pictures, labels, [str(c) for c in range(num_classes)])


@pytest.mark.parametrize(
    ("num_classes", "n_max", "imbalance", "total"),
    [
        *[(10, 5000, imbalance, total) for imbalance, total in [(200, 11203), (100, 12406), (50, 13996)]],
        *[(10, 5000, imbalance, total) for imbalance, total in [(20, 17023), (10, 20431)]],
        *[(100, 500, imbalance, total) for imbalance, total in [(200, 9502), (100, 10847), (50, 12608)]],
        *[(100, 500, imbalance, total) for imbalance, total in [(20, 15907), (10, 19573)]],
        (100, 200, 100, 4311),
    ],
)
def test_totals_are_the_published_ones(num_classes: int, n_max: int, imbalance: int, total: int) -> None:
    assert tail_counts(num_classes, n_max, imbalance).sum() == total


def test_cifar10_counts() -> None:
    np.testing.assert_array_equal(tail_counts(10, 5000, 100), [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50])


def test_step_tail() -> None:
    np.testing.assert_array_equal(tail_counts(5, 70, 10, "step"), [70, 70, 7, 7, 7])
    np.testing.assert_array_equal(tail_counts(3, 7, 1), [7, 7, 7])


def test_carve_keeps_what_the_published_code_keeps() -> None:
    """The reference: shuffle the global positions of each class with one legacy generator, keep the first n_c."""
    images = balanced(10, 40)
    kept = carve(images, imbalance=10, seed=3)
    original = np.empty(len(images), np.int64)
    original[images.positions] = images.labels
    generator = np.random.RandomState(3)
    expected = []
    for c, count in enumerate([int(40 * 0.1 ** (c / 9)) for c in range(10)]):
        members = np.where(original == c)[0]
        generator.shuffle(members)
        expected += sorted(members[:count])
    np.testing.assert_array_equal(kept.positions, expected)
    np.testing.assert_array_equal(kept.class_counts(), tail_counts(10, 40, 10))


def test_larger_imbalance_keeps_a_part_of_what_a_smaller_one_keeps() -> None:
    images = balanced(10, 40)
    few, many = (set(carve(images, imbalance=imbalance).positions.tolist()) for imbalance in (40, 5))
    assert few < many


def test_seed_decides() -> None:
    images = balanced(4, 20)
    first, again, other = (carve(images, imbalance=4, seed=seed).positions.tolist() for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_n_max_defaults_to_the_smallest_class() -> None:
    images = balanced(3, 10).subset(np.arange(28))  # the last class has 8
    np.testing.assert_array_equal(carve(images, imbalance=4).class_counts(), [8, 4, 2])


def test_class_with_too_few_is_named() -> None:
    with pytest.raises(
        InputError, match=r'class "0" has 10 images where the tail needs 11; .*set data.n_max to at most 10'
    ):
        carve(balanced(3, 10), n_max=11, imbalance=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (10, 50, 100, "exponential"),
            "leaves none to the last class; expected an image or more in every class; set data.imbalance to at most 50",
        ),
        ((1, 50, 10, "exponential"), "1 classes"),
        ((10, 50, 0.5, "exponential"), "imbalance 0.5"),
        ((10, 50, float("nan"), "exponential"), "imbalance nan"),
        ((10, 0, 1, "step"), "n_max 0"),
        ((10, 50, 10, "exponent"), 'did you mean "exponential"'),
    ],
)
def test_impossible_tails(arguments: tuple[int, int, float, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tail_counts(*arguments)  # type: ignore[arg-type]
