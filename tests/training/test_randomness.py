import random

import numpy as np
import torch

from forktail.training.randomness import restored_generators, seed_of, set_generators


def draws():
    return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002


def test_seeds_differ_in_every_part_and_fit_a_generator():
    seeds = {seed_of(seed, stage, epoch) for seed in range(3) for stage in ("a", "b") for epoch in range(5)}
    assert len(seeds) == 30
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_part_is_not_confused_with_its_neighbour():
    assert seed_of("a", "bc") != seed_of("ab", "c")
    assert seed_of(1, 23) != seed_of(12, 3)


def test_setting_makes_all_three_generators_repeat():
    set_generators(7)
    first = draws()
    set_generators(7)
    assert draws() == first


def test_generators_are_given_back_even_after_an_error():
    set_generators(1)
    expected = [draws(), draws()]
    set_generators(1)
    found = [draws()]
    try:
        with restored_generators(99):
            draws()
            raise KeyError
    except KeyError:
        found.append(draws())
    assert found == expected
