import dataclasses

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from forktail.fisher.moments import GroupedMoments, Moments
from forktail.fisher.per_image import GradientSums, NetworkSums
from forktail.fisher.store import FIELDS, packed, unpacked
from forktail.theory import UnitMoments


def unit(random, tasks, coordinates, *, cross=True):
    between = random.normal(size=(tasks, tasks, coordinates))
    return UnitMoments(
        *random.random((3, tasks, coordinates)),
        position=random.normal(size=(tasks, coordinates)),
        cross=between + between.swapaxes(0, 1) if cross else None,
    )


def some(random, tasks, coordinates, optional):
    first, weighted, curvature = torch.from_numpy(random.normal(size=(3, tasks, coordinates)).astype(np.float32))
    products = torch.from_numpy(random.random((tasks, tasks, coordinates)).astype(np.float32))
    return GradientSums(7, 3.5, first, products, weighted if optional else None, curvature if optional else None)


def draw(tasks=2, num_units=12, *, cross=True, num_groups=0, optional=True, seed=0):
    """More than ten units, so that unit10 is not taken for unit1."""
    random = np.random.default_rng(seed)
    units = [unit(random, tasks, 3 + number, cross=cross) for number in range(num_units)]
    whole = Moments(units, [unit(random, 1, 4 + task, cross=False) for task in range(tasks)], random.random(tasks))
    groups = [
        NetworkSums(
            [some(random, tasks, 3 + number, optional) for number in range(num_units)],
            [some(random, 1, 4 + task, optional) for task in range(tasks)],
        )
        for _ in range(num_groups)
    ]
    return GroupedMoments(whole, groups)


def through_the_disk(moments):
    return unpacked(load(save({name: np.ascontiguousarray(value) for name, value in packed(moments).items()})))


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
    assert_same(through_the_disk(moments).whole, moments.whole)
    assert through_the_disk(moments).groups == []


@pytest.mark.parametrize("optional", [True, False])
def test_groups_survive_the_disk_bit_for_bit(optional):
    moments = draw(num_units=2, num_groups=11, optional=optional)
    found = through_the_disk(moments)
    assert_same(found.whole, moments.whole)
    np.testing.assert_array_equal(found.sizes, [7] * 11)
    for mine, theirs in zip(found.groups, moments.groups, strict=True):
        for one, other in zip((*mine.units, *mine.decoders), (*theirs.units, *theirs.decoders), strict=True):
            assert (one.images, one.weight) == (7, 3.5)
            torch.testing.assert_close(one.tensors(), other.tensors(), rtol=0, atol=0)


def test_a_risk_that_is_the_curvature_is_stored_once():
    unit = draw(num_units=1).whole.units[0]
    same = dataclasses.replace(unit, risk=unit.curvature)
    moments = GroupedMoments(Moments([same], [], np.ones(2)), [])
    assert "unit0.risk" not in packed(moments)
    (found,) = through_the_disk(moments).whole.units
    assert found.risk is found.curvature


def test_names_say_what_an_array_is():
    names = set(packed(draw(num_units=2, num_groups=1, optional=False)))
    assert names == {
        "gradient_norms",
        *(f"unit{i}.{field}" for i in range(2) for field in FIELDS),
        *(f"decoder{i}.{field}" for i in range(2) for field in FIELDS if field != "cross"),
        *(
            f"group0.{part}{i}.{field}"
            for part in ("unit", "decoder")
            for i in range(2)
            for field in ("first", "products")
        ),
        "group0.images",
        "group0.weight",
    }


def test_every_field_of_the_moments_is_kept():
    assert set(FIELDS) == {field.name for field in dataclasses.fields(UnitMoments)}
