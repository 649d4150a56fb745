import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest
import torch

from forktail.errors import InputError
from forktail.methods import Method
from forktail.methods._ranges import (
    check_choices,
    check_fraction,
    check_not_negative,
    check_not_positive,
    check_positive,
    check_whole,
)


@dataclass(frozen=True)
class Fields(Method):
    """Fields of every kind, and no checks of its own."""

    rate: float = 1.0
    length: int | None = None
    word: Literal["sum", "mean"] = "sum"
    mixed: float | Literal["validation"] = 1.0

    def network(self, spec):
        return torch.nn.Identity()

    def reads(self, network, spec):
        raise NotImplementedError

    def fit(self, problem, engine):
        raise NotImplementedError


def told(values, check, *names, **options):
    """What a check says of these values; "" if they pass."""
    try:
        check(Fields(**values), *names, **options)
    except InputError as error:
        return str(error)
    return ""


NUMBERS = (-math.inf, -1, -1e-9, 0, 1e-9, 0.5, 1, 1.5, 7, math.inf, math.nan)
RULES = [
    (check_positive, {}, {1e-9, 0.5, 1, 1.5, 7}, "a number > 0"),
    (check_not_negative, {}, {0, 1e-9, 0.5, 1, 1.5, 7}, "a number >= 0"),
    (check_not_positive, {}, {-1, -1e-9, 0}, "a number <= 0"),
    (check_fraction, {}, {0, 1e-9, 0.5, 1}, "a number in [0, 1]"),
    (check_fraction, {"one": False}, {0, 1e-9, 0.5}, "a number in [0, 1)"),
    (check_fraction, {"zero": False}, {1e-9, 0.5, 1}, "a number in (0, 1]"),
    (check_fraction, {"zero": False, "one": False}, {1e-9, 0.5}, "a number in (0, 1)"),
    (check_whole, {}, {0, 1, 7}, "a whole number >= 0"),
    (check_whole, {"least": 2}, {7}, "a whole number >= 2"),
]


@pytest.mark.parametrize(("check", "options", "passing", "expected"), RULES, ids=[rule[3] for rule in RULES])
def test_a_range_takes_what_it_says_and_nothing_else(check, options, passing, expected):
    for value in NUMBERS:
        wanted = "" if value in passing else f"method.rate = {value}; expected {expected}"
        assert told({"rate": value}, check, "rate", **options) == wanted


@pytest.mark.parametrize("check", [check_positive, check_fraction, check_whole])
def test_what_is_no_number_is_refused_and_not_compared(check):
    assert told({"rate": "1"}, check, "rate").startswith("method.rate = '1'; expected a ")
    assert told({"rate": None}, check, "rate").startswith("method.rate = None; expected a ")


def test_none_passes_where_it_is_the_default_and_numbers_of_numpy_pass():
    assert told({"length": None}, check_whole, "length") == ""
    assert told({"length": np.int64(3)}, check_whole, "length") == ""
    assert told({"rate": np.float32(0.5)}, check_positive, "rate") == ""


@pytest.mark.parametrize("name", ["rate", "mixed"])
def test_every_field_that_is_named_is_checked(name):
    message = f"method.{name} = -1.0; expected a number >= 0"
    assert told({name: -1.0}, check_not_negative, "rate", "mixed") == message


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("word", "mean", ""),
        ("word", "means", "method.word = 'means'; expected 'sum' or 'mean'"),
        ("word", 3, "method.word = 3; expected 'sum' or 'mean'"),
        ("mixed", "validation", ""),
        ("mixed", 0.3, ""),
        ("mixed", "valid", "method.mixed = 'valid'; expected a number or 'validation'"),
    ],
)
def test_a_word_must_be_one_of_its_fields_type(name, value, message):
    assert told({name: value}, check_choices) == message
