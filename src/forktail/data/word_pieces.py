"""From a text to token numbers, as BERT reads it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from forktail.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PADDING, UNKNOWN, FIRST, LAST = "[PAD]", "[UNK]", "[CLS]", "[SEP]"


@dataclass(frozen=True)
class WordPieces:
    r"""Lower-case a text, strip accents, cut words into pieces of a vocabulary (Wu et al. 2016), frame and pad them.

    The vocabulary is a part of this, and so of a saved model and of the fingerprint of every stage.

    Args:
        length: T, how many tokens a text has, ``[CLS]`` and ``[SEP]`` included; what is beyond is cut off.
        vocabulary: The pieces, one a line, as in BERT's ``vocab.txt``; ``[PAD]`` is the first.

    Raises:
        InputError: If a special token is missing, or the length leaves no place to a word.

    Example:
        >>> WordPieces(3, "[PAD]\n[UNK]\n[CLS]").length
        Traceback (most recent call last):
        forktail.errors.InputError: a vocabulary of 3 word pieces without [SEP]; expected BERT's, with [PAD] in front
    """

    length: int
    vocabulary: str

    def __post_init__(self) -> None:
        pieces = self.vocabulary.split("\n")
        missing = [token for token in (PADDING, UNKNOWN, FIRST, LAST) if token not in pieces]
        if missing or pieces[0] != PADDING:
            found = f"without {', '.join(missing)}" if missing else f"that begins with {pieces[0]}"
            raise InputError(
                f"a vocabulary of {len(pieces)} word pieces {found}", expected=f"BERT's, with {PADDING} in front"
            )
        if self.length < 3:
            raise InputError(f"texts of {self.length} tokens", expected=f"3 or more: {FIRST}, a word, {LAST}")

    @property
    def shape(self) -> tuple[int]:
        """(T,) of one input, whose entries are token numbers."""
        return (self.length,)

    def __call__(self, text: str) -> Tensor:
        """Turn a text into ``(T,)`` token numbers, int64; 0 is padding."""
        return torch.tensor(self._tokenizer.encode(text).ids, dtype=torch.int64)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        try:
            from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
        except ImportError:
            raise InputError(
                "the package tokenizers, which cuts texts into word pieces, is not installed",
                remedy="run `pip install forktail[text]`",
            ) from None
        pieces = {piece: number for number, piece in enumerate(self.vocabulary.split("\n"))}
        tokenizer = Tokenizer(models.WordPiece(pieces, unk_token=UNKNOWN))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.post_processor = processors.BertProcessing((LAST, pieces[LAST]), (FIRST, pieces[FIRST]))
        tokenizer.enable_truncation(self.length)
        tokenizer.enable_padding(length=self.length, pad_id=pieces[PADDING], pad_token=PADDING)
        return tokenizer
