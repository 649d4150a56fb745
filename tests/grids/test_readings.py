"""Readings are options of `osdtw`, and every name gives a method that can be made."""

import pytest

from forktail.errors import InputError
from forktail.grids.readings import PER_CLASS, READINGS, as_read, chosen_readings, default_reading
from forktail.methods.osdtw import OSDTW


@pytest.mark.parametrize("name", READINGS)
def test_every_reading_can_be_made_of_any_method(name):
    method = OSDTW(reading="refined", damping="movement", debiased=True, tau=0.5, groups=4)
    read = as_read(method, name)
    assert read.reading == READINGS[name]["reading"]
    assert read.tau == 0.5
    assert read.groups == 0
    assert read.debiased == ("debiased" in name)
    assert read.fisher == {"general-ggn": "ggn", "general-monte-carlo": "monte_carlo"}.get(name, "empirical")


def test_the_default_of_osdtw_is_a_reading():
    assert default_reading() in READINGS


def test_a_held_back_stage1_damps_what_says_nothing_of_damping():
    held_back = OSDTW(stage1_decay=0.25)
    assert as_read(held_back, "general").damping == 0.25
    assert as_read(held_back, "general-damped").damping == "movement"
    assert as_read(held_back, "naive").damping == 0


def test_no_two_readings_are_the_same():
    methods = [as_read(OSDTW(), name) for name in READINGS]
    assert len(set(methods)) == len(methods)


def test_the_usual_ones_take_no_pass_per_class():
    assert set(READINGS) - set(chosen_readings("usual")) == set(PER_CLASS)
    assert chosen_readings("all") == tuple(READINGS)
    assert chosen_readings(["raw", "naive"]) == ("naive", "raw")


@pytest.mark.parametrize("asked", ["", "generall", "general,,raw"])
def test_an_unknown_reading_is_refused_with_its_nearest(asked):
    with pytest.raises(InputError, match="--readings"):
        chosen_readings(asked)
