import dataclasses

import numpy as np
import pytest
from safetensors.numpy import load, save

from forktail.fisher.moments import Moments
from forktail.fisher.store import FIELDS, packed, unpacked
from forktail.theory import UnitMoments


def unit(random, tasks, coordinates, *, cross=True):
    between = random.normal(size=(tasks, tasks, coordinates))
    return UnitMoments(
        *random.random((3, tasks, coordinates)),
        position=random.normal(size=(tasks, coordinates)),
        cross=between + between.swapaxes(0, 1) if cross else None,
    )


def draw(tasks=2, num_units=12, *, cross=True, seed=0):
    """More than ten units, so that unit10 is not taken for unit1."""
    random = np.random.default_rng(seed)
    return Moments(
        [unit(random, tasks, 3 + number, cross=cross) for number in range(num_units)],
        [unit(random, 1, 4 + task, cross=False) for task in range(tasks)],
        random.random(tasks),
    )


def assert_same(found, expected):
    np.testing.assert_array_equal(found.gradient_norms, expected.gradient_norms)
    for ours, theirs in ((found.units, expected.units), (found.decoders, expected.decoders)):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            for field in FIELDS:
                np.testing.assert_array_equal(getattr(a, field), getattr(b, field), err_msg=field)
                assert (getattr(a, field) is None) == (getattr(b, field) is None)


@pytest.mark.parametrize("cross", [True, False])
@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_moments_survive_the_disk_bit_for_bit(tasks, cross):
    moments = draw(tasks, cross=cross)
    arrays = {name: np.ascontiguousarray(value) for name, value in packed(moments).items()}
    assert_same(unpacked(load(save(arrays))), moments)


def test_names_say_what_an_array_is():
    names = set(packed(draw(num_units=2)))
    assert names == {
        "gradient_norms",
        *(f"unit{i}.{field}" for i in range(2) for field in FIELDS),
        *(f"decoder{i}.{field}" for i in range(2) for field in FIELDS if field != "cross"),
    }


def test_every_field_of_the_moments_is_kept():
    assert set(FIELDS) == {field.name for field in dataclasses.fields(UnitMoments)}
