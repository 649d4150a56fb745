from __future__ import annotations

import numpy as np
import pytest

from forktail.data.images import ArrayPictures, Images
from forktail.data.texts import Texts, are_texts, texts_in
from forktail.errors import InputError


def test_a_set_of_texts_is_divided_and_named_like_pictures():
    texts = Images.ordered(Texts(("c", "a", "b")), [1, 0, 1], ("x", "y"))
    assert [texts.read(i) for i in range(3)] == ["a", "c", "b"]
    assert texts.subset([2]).name(0) == "b"
    assert are_texts(texts)
    assert not are_texts(Images.ordered(ArrayPictures(np.zeros((1, 2, 2), np.uint8)), [0], ("x",)))


def test_the_fingerprint_is_that_of_what_is_written():
    def mark(*texts):
        return Texts(texts).digest(np.arange(len(texts)))

    assert mark("a b", "c") == Texts(("a b", "c", "d")).digest(np.array([0, 1]))
    assert len({mark("a b", "c"), mark("a", "b c"), mark("c", "a b"), mark("a b c")}) == 4


def test_lines_of_a_file(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("one\r\n\n  two \n", newline="")
    assert texts_in(file) == ["one", "two"]
    file.write_text(" \n")
    with pytest.raises(InputError, match="no text in this file; expected a text file in UTF-8, one text a line"):
        texts_in(file)
    with pytest.raises(InputError, match="no such file"):
        texts_in(tmp_path / "none.txt")
