"""Inner products of one tensor's gradients, whole and from factors, against their definition."""

from __future__ import annotations

import pytest
import torch

from forktail.fisher import inner_products
from forktail.fisher.inner_products import Factors, Whole, added, products, rows_of, stacked
from forktail.fisher.sources import Dense, Outer


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


def by_definition(one, other):
    return torch.stack([torch.stack([(a * b).sum() for b in other.whole()]) for a in one.whole()])


@pytest.mark.parametrize(("tokens", "others"), [(1, 1), (2, 3)])
@pytest.mark.parametrize("entries", [1, 2**22])
def test_factors_give_what_whole_gradients_give(draw, tokens, others, entries, monkeypatch):
    """Also cut into steps of one image, and with another number of tokens on the other side."""
    monkeypatch.setattr(inner_products, "TABLE_ENTRIES", entries)
    one = Factors(draw(5, tokens, 6), draw(5, tokens, 7))
    other = Factors(draw(4, others, 6), draw(4, others, 7))
    expected = by_definition(one, other)
    assert expected.shape == (5, 4)
    for mine in (one, Whole(one.whole())):
        for theirs in (other, Whole(other.whole())):
            torch.testing.assert_close(products(mine, theirs), expected)


def test_along_some_directions(draw):
    rows, directions = Factors(draw(5, 2, 6), draw(5, 2, 7)), draw(3, 6, 7)
    expected = torch.stack([torch.stack([(g * u).sum() for u in directions]) for g in rows.whole()])
    torch.testing.assert_close(rows.along(directions), expected)
    torch.testing.assert_close(Whole(rows.whole()).along(directions), expected)


def test_two_uses_are_added_before_they_are_multiplied(draw):
    one, other = Factors(draw(3, 1, 6), draw(3, 1, 7)), Whole(draw(3, 6, 7))
    both = added(one, other)
    torch.testing.assert_close(both.whole(), one.whole() + other.whole())


def test_tasks_stand_under_one_another(draw):
    one, two, whole = Factors(draw(3, 1, 6), draw(3, 1, 7)), Factors(draw(3, 1, 6), draw(3, 1, 7)), Whole(draw(3, 6, 7))
    assert isinstance(stacked([one, two]), Factors)
    for parts in ([one, two], [one, whole], [one, Factors(draw(3, 2, 6), draw(3, 2, 7))]):
        torch.testing.assert_close(stacked(parts).whole(), torch.cat([part.whole() for part in parts]))


def test_the_cheaper_form_is_taken(draw):
    few, many = Outer(draw(3, 1, 6), draw(3, 1, 7)), Outer(draw(3, 4, 6), draw(3, 4, 7))
    assert isinstance(rows_of(few, 6), Factors)
    assert isinstance(rows_of(many, 6), Whole)
    assert isinstance(rows_of(Dense(draw(3, 6)), 6), Whole)
    torch.testing.assert_close(rows_of(many, 6).whole(), many.gradients(slice(None), slice(None)))
