from __future__ import annotations

import numpy as np
import pytest

from forktail.data.hold_out import held_out_test, held_out_validation
from forktail.data.images import ArrayPictures, Images
from forktail.errors import InputError


def of_counts(*counts: int) -> Images:
    labels = np.repeat(np.arange(len(counts)), counts)
    return Images.ordered(
        ArrayPictures(np.zeros((len(labels), 2, 2), np.uint8)), labels, [f"c{c}" for c in range(len(counts))]
    )


def test_validation_takes_a_fifth_but_at_most_five() -> None:
    train, val, notes = held_out_validation(of_counts(100, 25, 24, 5, 4, 1), seed=0)
    assert val is not None
    np.testing.assert_array_equal(val.class_counts(), [5, 5, 4, 1, 0, 0])
    np.testing.assert_array_equal(train.class_counts(), [95, 20, 20, 4, 4, 1])
    assert set(train.positions) & set(val.positions) == set()
    assert '"c4", "c5"' in notes[0]


def test_what_a_carved_tail_left_over_is_held_out_first() -> None:
    whole = of_counts(100, 100, 25)
    kept = whole.subset(np.concatenate([np.arange(50), np.arange(100, 110), np.arange(200, 225)]))
    spare = whole.subset(~np.isin(whole.positions, kept.positions))
    train, val, notes = held_out_validation(kept, 0, spare)
    assert val is not None
    np.testing.assert_array_equal(val.class_counts(), [50, 50, 5])
    np.testing.assert_array_equal(train.class_counts(), [50, 10, 20])
    assert not set(train.positions) & set(val.positions)
    assert np.all(np.diff(val.labels) >= 0)
    assert notes == ()


def test_a_few_to_spare_take_the_place_of_as_many_training_images() -> None:
    whole = of_counts(102, 30)
    kept = whole.subset(np.append(np.arange(100), np.arange(102, 132)))
    train, val, _ = held_out_validation(kept, 0, whole.subset(np.array([100, 101])))
    assert val is not None
    np.testing.assert_array_equal(val.class_counts(), [5, 5])
    np.testing.assert_array_equal(train.class_counts(), [97, 25])


def test_no_note_where_every_class_gives_one() -> None:
    assert held_out_validation(of_counts(10, 10), seed=0)[2] == ()


def test_without_any_there_is_no_validation_part() -> None:
    images = of_counts(4, 3)
    train, val, notes = held_out_validation(images, seed=0)
    assert val is None
    assert len(train) == 7
    assert "no validation part" in notes[0]


def test_test_part_follows_its_rule() -> None:
    train, test, notes = held_out_test(of_counts(1000, 250, 20, 4, 2, 1), seed=0)
    np.testing.assert_array_equal(test.class_counts(), [50, 50, 4, 1, 1, 0])
    np.testing.assert_array_equal(train.class_counts(), [950, 200, 16, 3, 1, 1])
    assert "106 images" in notes[0]
    with pytest.raises(InputError, match="no class has two images"):
        held_out_test(of_counts(1, 1), seed=0)


def test_seeded_and_apart_from_each_other() -> None:
    images = of_counts(25, 25)
    draws = [held_out_validation(images, seed)[1] for seed in (0, 0, 1)]
    first, again, other = (draw.positions.tolist() for draw in draws if draw is not None)
    assert first == again
    assert first != other
    assert held_out_test(images, 0)[1].positions.tolist() != first


def test_a_class_draws_by_itself() -> None:
    small, large = (held_out_validation(of_counts(count, 25), 0)[1] for count in (10, 40))
    assert small is not None
    assert large is not None
    np.testing.assert_array_equal(small.positions[small.labels == 1] - 10, large.positions[large.labels == 1] - 40)
