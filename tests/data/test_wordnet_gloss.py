"""The named set of definitions, on a small folder in WordNet's format, and on the real one where it is installed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from forktail.data.open import DataSpec, open_data
from forktail.data.texts import are_texts
from forktail.data.wordnet_gloss import CLASSES, DEBIAN, FILES, open_wordnet_gloss
from forktail.errors import InputError

REAL = [Path(os.environ.get("FORKTAIL_DATA", "")) / "wordnet", DEBIAN]
INSTALLED = next((folder for folder in REAL if (folder / "data.noun").is_file()), None)


def texts_of(images):
    return [images.read(i) for i in range(len(images))]


def sizes(definitions):
    """What is left for training of classes with so many definitions."""
    return np.array(definitions) - 30


def test_each_class_gives_its_share_and_a_text_stands_in_one_part(wordnet_folder):
    splits = open_wordnet_gloss(wordnet_folder, n_max=35, validation=True)
    np.testing.assert_array_equal(splits.test.class_counts(), np.full(45, 20))
    assert splits.val is not None
    np.testing.assert_array_equal(splits.val.class_counts(), np.full(45, 10))
    # 100, 99, ... 56 definitions; half of what is left of the largest class, and so of every other
    np.testing.assert_array_equal(splits.train.class_counts(), np.round(sizes(range(100, 55, -1)) / 2))
    texts = [text for part in (splits.train, splits.val, splits.test) for text in texts_of(part)]
    assert len(set(texts)) == len(texts)
    assert are_texts(splits.train)
    assert all(text.split()[-2] == str(label) for text, label in zip(texts, splits.train.labels, strict=False))
    assert not any('"' in text or ";" in text for text in texts)


def test_a_smaller_sample_is_part_of_a_larger_one_and_the_test_part_stays(wordnet_folder):
    small, large, whole = (open_wordnet_gloss(wordnet_folder, n_max=n_max, seed=3) for n_max in (10, 40, None))
    assert set(texts_of(small.train)) < set(texts_of(large.train)) < set(texts_of(whole.train))
    np.testing.assert_array_equal(whole.train.class_counts(), sizes(range(100, 55, -1)))
    assert small.train.class_counts().min() == 6  # 26 / 70 of 10 would be fewer
    for other in (large, whole, open_wordnet_gloss(wordnet_folder, seed=3, validation=True)):
        assert texts_of(other.test) == texts_of(small.test)
    other = open_wordnet_gloss(wordnet_folder, n_max=10, seed=4, validation=True)
    assert texts_of(other.train) != texts_of(small.train)
    for part in (other.test, other.val):  # what one seed holds out, no other trains on
        assert not set(texts_of(part)) & set(texts_of(whole.train))


def append(folder, *lines):
    with (folder / "data.adv").open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def test_definitions_that_are_shared(wordnet_folder):
    append(
        wordnet_folder,
        "1 43 n 01 a 0 000 | in two classes",
        '2 44 n 01 b 0 000 | In two classes; "differently written"',
        "3 44 n 01 c 0 000 | twice in one class; and on  ",
        '4 44 n 01 d 0 000 | Twice in one class; and on:"an example"; "another"',
        '5 44 n 01 e 0 000 | as in the expression "on the job"',
    )
    splits = open_wordnet_gloss(wordnet_folder)
    texts = texts_of(splits.train) + texts_of(splits.test)
    np.testing.assert_array_equal(splits.train.class_counts()[-2:], sizes([57, 58]))
    assert not [text for text in texts if text.lower() == "in two classes"]
    pool = {
        text
        for part in (splits.train, splits.test, open_wordnet_gloss(wordnet_folder, validation=True).val)
        for text in texts_of(part)
    }
    assert "twice in one class; and on" in pool
    assert "Twice in one class; and on" not in pool
    assert 'as in the expression "on the job"' in pool


def test_open_data_takes_it_as_it_is(wordnet_folder, monkeypatch):
    monkeypatch.setenv("FORKTAIL_DATA", str(wordnet_folder.parent))
    data = open_data(DataSpec("wordnet-gloss", n_max=35, validation=True, seed=1))
    direct = open_wordnet_gloss(wordnet_folder, n_max=35, validation=True, seed=1)
    assert data.val is not None
    assert direct.val is not None
    assert texts_of(data.train) == texts_of(direct.train)
    assert texts_of(data.val) == texts_of(direct.val)
    assert data.augment == "none"
    assert data.train.fingerprint == direct.train.fingerprint
    assert open_data(DataSpec("wordnet-gloss", n_max=35)).val is None
    assert data.test.name(0) == data.test.read(0)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("no bar", r"data\.adv:2: no bar; expected offset, class 0 to 44"),
        ("1 45 n | a class beyond", r"data\.adv:2: 1 45 n"),
        ("1 xx n | no class", r"data\.adv:2: 1 xx n"),
        ("1 02 n |  ", r"data\.adv:2: 1 02 n"),
    ],
)
def test_other_files_are_refused_by_their_line(wordnet_folder, line, says):
    append(wordnet_folder, line)
    with pytest.raises(InputError, match=says):
        open_wordnet_gloss(wordnet_folder)


def test_what_is_missing_is_said(wordnet_folder):
    with pytest.raises(InputError, match=r"data\.n_max = 0; expected 1 or more"):
        open_wordnet_gloss(wordnet_folder, n_max=0)
    kept = (wordnet_folder / "data.noun").read_text().splitlines()
    (wordnet_folder / "data.noun").write_text("\n".join(line for line in kept if " 16 n " not in line))
    with pytest.raises(InputError, match=r"0 definitions of noun\.motive; expected 36 or more.*apt-get download"):
        open_wordnet_gloss(wordnet_folder)
    (wordnet_folder / "data.noun").unlink()
    with pytest.raises(InputError, match=r"no data\.noun in .*; expected data\.noun, data\.verb"):
        open_wordnet_gloss(wordnet_folder)


@pytest.mark.skipif(INSTALLED is None, reason="Debian's wordnet-base is not installed")
def test_the_real_set():
    splits = open_wordnet_gloss(INSTALLED, validation=True)
    assert len(FILES) == 4
    assert (len(splits.train), len(splits.test)) == (3502, 900)
    counts = splits.train.class_counts()
    assert (CLASSES[counts.argmax()], counts.max(), counts.min()) == ("adj.all", 432, 6)
