from __future__ import annotations

import numpy as np
import pytest

from forktail.data.drawing.distort import distorted
from forktail.data.drawing.mismatched import STRIPES, mismatched
from forktail.data.drawing.weave import weave

BITMAPS = np.random.RandomState(0).randint(0, 256, (3, 5, 32, 32)).astype(np.uint8)
SEED = [4, 0, 7]


def drawn(mismatch: float, own: int = 2, kind: int = 13, count: int = 6) -> np.ndarray:
    return mismatched(BITMAPS, own, kind, mismatch, count, SEED)


def test_at_0_it_is_the_head_s_kind() -> None:
    usual = distorted(BITMAPS[:, 2], 6, np.random.RandomState(SEED))
    np.testing.assert_array_equal(drawn(0, kind=13), usual)
    np.testing.assert_array_equal(drawn(0, kind=44), usual)


def test_between_it_is_each_part_by_itself() -> None:
    """The slow way: picture by picture, each part by its own rule, from the same chance."""
    chance = np.random.RandomState([*SEED, 1]).random_sample((6, 5))
    got = drawn(0.4)
    own_count = 0
    for i in range(6):
        shown = int(5 * chance[i, 1]) if chance[i, 0] < 0.4 else 2
        own_count += shown == 2
        stripes = STRIPES * 0.4 * weave(13, chance[[i], 2:])
        alone = distorted(BITMAPS[:, shown], 6, np.random.RandomState(SEED), turn=0.4, pattern=stripes)
        np.testing.assert_array_equal(got[i], alone[i])
    assert 0 < own_count < 6


def test_at_1_the_shape_says_nothing_and_the_stripes_all() -> None:
    np.testing.assert_array_equal(drawn(1, own=2), drawn(1, own=4))
    assert not (drawn(1, kind=13) == drawn(1, kind=14)).all(axis=(1, 2)).any()


def test_a_share_of_the_pictures_shows_another_character_and_stays_so() -> None:
    """The own character is blank, the others are full: pictures that change when all are blanked show another."""
    blank = np.zeros((1, 50, 32, 32), np.uint8)
    full = blank.copy()
    full[:, 1:] = 255
    exchanged = np.stack(
        [
            (mismatched(full, 0, 0, m, 400, SEED) != mismatched(blank, 0, 0, m, 400, SEED)).any(axis=(1, 2))
            for m in (0, 0.25, 0.5, 0.75, 1)
        ]
    )
    np.testing.assert_allclose(exchanged.mean(axis=1), [0, 0.25, 0.5, 0.75, 1], atol=0.07)
    assert not exchanged[0].any()
    assert (exchanged[1:] >= exchanged[:-1]).all()


def test_distance_from_the_head_s_kind_grows() -> None:
    usual = drawn(0, count=60).astype(float)
    distances = [np.abs(drawn(m, count=60) - usual).mean() for m in (0.02, 0.25, 0.5, 0.75, 1)]
    assert (np.diff(distances) > 0).all()


@pytest.mark.parametrize("mismatch", [0.3, 1])
def test_first_pictures_do_not_depend_on_how_many_follow(mismatch: float) -> None:
    np.testing.assert_array_equal(drawn(mismatch, count=2), drawn(mismatch, count=9)[:2])
