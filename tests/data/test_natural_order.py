from __future__ import annotations

import random
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from forktail.data.natural_order import natural_key


def test_numbers_stand_by_value() -> None:
    names = ["class_100", "class_10b", "class_2", "class_10", "class_1"]
    assert sorted(names, key=natural_key) == ["class_1", "class_2", "class_10", "class_10b", "class_100"]


def test_ten_prefixed_classes_stand_in_label_order() -> None:
    names = [f"{c}_{word}" for c, word in enumerate("zyxwvutsrqp")]
    assert sorted(sorted(names), key=natural_key) == names


def test_case_and_accents() -> None:
    assert sorted(["b", "A", "a", "B"], key=natural_key) == ["A", "a", "B", "b"]
    composed, decomposed = "é1", unicodedata.normalize("NFD", "é1")
    assert natural_key(composed)[0] == natural_key(decomposed)[0]
    assert sorted(["é2", decomposed, "é10"], key=natural_key) == [decomposed, "é2", "é10"]


def test_a_folder_stays_together() -> None:
    names = ["a-b/1.png", "a b/1.png", "a/10.png", "a/9.png"]
    assert sorted(names, key=natural_key) == ["a/9.png", "a/10.png", "a b/1.png", "a-b/1.png"]


@given(st.lists(st.text(alphabet="aAß01 2９³é_漢字/", max_size=6), unique=True, max_size=8))
def test_order_is_total_and_does_not_depend_on_the_start(names: list[str]) -> None:
    shuffled = list(names)
    random.Random(0).shuffle(shuffled)
    assert sorted(names, key=natural_key) == sorted(shuffled, key=natural_key)
    assert len({natural_key(name) for name in names}) == len(names)
