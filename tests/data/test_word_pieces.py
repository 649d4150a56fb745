"""Texts as token numbers, against an independent reading of the algorithm."""

from __future__ import annotations

import builtins
import dataclasses
import pickle

import numpy as np
import pytest
import torch

from forktail.data.word_pieces import WordPieces
from forktail.errors import InputError

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "cafe", "dog", "##s", "##house", "do", "!", "un", "##do"]
VOCABULARY = "\n".join(PIECES)


def test_words_are_cut_greedily_and_framed():
    pytest.importorskip("tokenizers")
    prepare = WordPieces(8, VOCABULARY)

    def pieces(text):
        return [PIECES[number] for number in prepare(text).tolist()]

    padding = ["[PAD]"] * 8
    for text, expected in {
        "Dogs!": ["dog", "##s", "!"],
        "  CAFÉ doghouse": ["cafe", "dog", "##house"],
        "undo cat": ["un", "##do", "[UNK]"],
        "dogcat": ["[UNK]"],
        "": [],
        "dog dog dog dog dog dog dog": ["dog"] * 6,
        "[SEP]": ["[UNK]"] * 3,  # no text writes special tokens
    }.items():
        assert pieces(text) == ["[CLS]", *expected, "[SEP]", *padding][:8], text
    assert prepare("dog").dtype == torch.int64
    assert prepare.shape == (8,)


def test_it_is_all_in_its_fields():
    pytest.importorskip("tokenizers")
    prepare = WordPieces(5, VOCABULARY)
    before = repr(prepare)
    expected = prepare("dogs")
    assert repr(prepare) == before  # the fingerprint of a stage is taken from it
    assert dataclasses.asdict(prepare) == {"length": 5, "vocabulary": VOCABULARY}
    torch.testing.assert_close(pickle.loads(pickle.dumps(prepare))("dogs"), expected)


@pytest.mark.parametrize(
    ("length", "vocabulary", "says"),
    [
        (2, VOCABULARY, "texts of 2 tokens; expected 3 or more"),
        (9, "[UNK]\n[PAD]\n[CLS]\n[SEP]", r"4 word pieces that begins with \[UNK\]"),
        (9, "", r"1 word pieces without \[PAD\], \[UNK\], \[CLS\], \[SEP\]"),
    ],
)
def test_what_is_no_vocabulary(length, vocabulary, says):
    with pytest.raises(InputError, match=says):
        WordPieces(length, vocabulary)


def test_without_the_package_the_command_is_said(monkeypatch):
    known = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "tokenizers":
            raise ImportError(name)
        return known(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"the package tokenizers, .* run `pip install forktail\[text\]`"):
        WordPieces(8, VOCABULARY)("dog")


def test_the_real_vocabulary_reads_as_the_published_tokenizer():
    from forktail.backbones import minilm

    tokenizers = pytest.importorskip("tokenizers")
    pytest.importorskip(minilm.PACKAGE)
    published = tokenizers.Tokenizer.from_file(str(minilm.weights_file().with_name("tokenizer.json")))
    published.enable_truncation(16)
    published.enable_padding(length=16)
    prepare = WordPieces(16, minilm.vocabulary())
    random = np.random.RandomState(0)
    letters = list("abcdefgh éüÀ中文-,.;'()0123 \t")
    for text in ["".join(random.choice(letters, 40)) for _ in range(200)]:
        assert prepare(text).tolist() == published.encode(text).ids, text
