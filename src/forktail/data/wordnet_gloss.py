"""The named set ``wordnet-gloss``: WordNet 3.0's definitions, whose classes have a long tail by nature (Fellbaum 1998).

A class is one of the 45 files in which lexicographers keep the meanings: ``noun.animal``, ``verb.weather``, ...
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path
from typing import NoReturn

import numpy as np

from forktail.data.images import Images, IntArray
from forktail.data.splits import Splits
from forktail.data.texts import Texts
from forktail.errors import InputError
from forktail.files import read_text

# In the order of their numbers: lexnames(5WN).
CLASSES = (
    *("adj.all", "adj.pert", "adv.all", "noun.Tops", "noun.act", "noun.animal", "noun.artifact", "noun.attribute"),
    *("noun.body", "noun.cognition", "noun.communication", "noun.event", "noun.feeling", "noun.food", "noun.group"),
    *("noun.location", "noun.motive", "noun.object", "noun.person", "noun.phenomenon", "noun.plant"),
    *("noun.possession", "noun.process", "noun.quantity", "noun.relation", "noun.shape", "noun.state"),
    *("noun.substance", "noun.time", "verb.body", "verb.change", "verb.cognition", "verb.communication"),
    *("verb.competition", "verb.consumption", "verb.contact", "verb.creation", "verb.emotion", "verb.motion"),
    *("verb.perception", "verb.possession", "verb.social", "verb.stative", "verb.weather", "adj.ppl"),
)
FILES = ("data.noun", "data.verb", "data.adj", "data.adv")
TEST, VALIDATION = 20, 10  # glosses of each class
FEWEST = 6  # training glosses of a class, however small its share
N_MAX = 432  # training glosses of the largest class: 3 % of all that it has
DEBIAN = Path("/usr/share/wordnet")
INSTALL = (
    "run `apt-get download wordnet-base && dpkg -x wordnet-base_*.deb wordnet` (Debian, no root) "
    "and add `--set data.root=wordnet/usr/share/wordnet`"
)
EXAMPLES = re.compile(r'[;:,] ?"')  # what ends a definition: quotations that show the word in use


def open_wordnet_gloss(
    root: Path | None = None, *, n_max: int | None = None, validation: bool = False, seed: int = 0
) -> Splits:
    """Read the definitions, divide them, and keep a sample whose tail is that of the whole.

    Definitions that several meanings share count once; those that stand in several classes (80 of 116,697, compared
    without regard to case) are left out, since they have no one label. So no text is in two parts. Each class is
    shuffled by itself: the first 20 are for testing, the next 10 for validation, whatever the seed. The R others are
    shuffled by the seed, and the first ``max(6, round(n_max R / R_max))`` are for training. A smaller ``n_max`` thus
    keeps some of what a larger one keeps, and nothing that one seed tests is what another trains on.

    Args:
        root: Folder of WordNet's four data files; if None, ``$FORKTAIL_DATA/wordnet``, then where Debian's package
            puts them.
        n_max: Training glosses of the largest class; None is 432, 3 % of it, which keeps 3,502 in all. What is
            more than there are keeps all.
        validation: Whether there is to be a validation part.
        seed: Which glosses are for training.

    Returns:
        Texts for training and testing, and for validation if asked for.

    Raises:
        InputError: If a file is missing or is not WordNet's, or ``n_max`` is no number of texts.
    """
    if n_max is not None and n_max < 1:
        raise InputError(f"data.n_max = {n_max}", expected="1 or more training glosses of the largest class")
    glosses = _glosses(root or _folder())
    shuffled = [_shuffled(len(own), [seed, c]) for c, own in enumerate(glosses)]
    begins = np.cumsum([0, *(len(own) for own in glosses)])
    rest = np.array([len(own) - TEST - VALIDATION for own in glosses])
    kept = _kept(rest, N_MAX if n_max is None else n_max)
    texts = Texts(tuple(text for own in glosses for text in own))

    def part(first: int, counts: IntArray) -> Images:
        chosen = [np.sort(begins[c] + order[first:][: counts[c]]) for c, order in enumerate(shuffled)]
        labels = np.repeat(np.arange(len(CLASSES)), [len(own) for own in chosen])
        return Images(texts, np.concatenate(chosen).astype(np.int64), labels, CLASSES)

    every = np.ones(len(CLASSES), np.int64)
    return Splits(
        "wordnet-gloss",
        train=part(TEST + VALIDATION, kept),
        test=part(0, TEST * every),
        val=part(TEST, VALIDATION * every) if validation else None,
        augment="none",
    )


def _shuffled(count: int, seed: list[int]) -> IntArray:
    """Put the glosses of one class in order: the seed has no part in which are held out."""
    order = np.random.RandomState(seed[1]).permutation(count)
    held_out, others = order[: TEST + VALIDATION], order[TEST + VALIDATION :]
    return np.concatenate([held_out, np.random.RandomState(seed).permutation(others)])


def _kept(rest: IntArray, n_max: int) -> IntArray:
    """Say how many of the glosses that are left are for training, in proportion to how many there are."""
    share = min(1.0, n_max / int(rest.max()))
    return np.minimum(rest, np.maximum(FEWEST, np.round(share * rest))).astype(np.int64)


def _folder() -> Path:
    data = os.environ.get("FORKTAIL_DATA")
    places = [Path(data) / "wordnet", DEBIAN] if data else [DEBIAN]
    found = next((place for place in places if os.path.isdir(place)), None)
    if found is None:
        missing = " and no ".join(map(str, places))
        raise InputError(f"wordnet-gloss: no {missing}", expected="the folder of WordNet's data files", remedy=INSTALL)
    return found


def _glosses(folder: Path) -> list[list[str]]:
    """Read what each class defines: every definition once, and none of another class."""
    classes_of: dict[str, set[int]] = defaultdict(set)
    written: dict[str, str] = {}  # as it stands where it comes first
    for name in FILES:
        for label, text in _definitions(folder, name):
            classes_of[text.lower()].add(label)
            written.setdefault(text.lower(), text)
    glosses: list[list[str]] = [[] for _ in CLASSES]
    for key, labels in classes_of.items():
        if len(labels) == 1:
            glosses[min(labels)].append(written[key])
    least = TEST + VALIDATION + FEWEST
    for label, own in enumerate(glosses):
        if len(own) < least:
            raise InputError(
                f"{folder}: {len(own)} definitions of {CLASSES[label]}",
                expected=f"{least} or more, as in WordNet 3.0",
                remedy=INSTALL,
            )
    return glosses


def _definitions(folder: Path, name: str) -> list[tuple[int, str]]:
    """Read class and definition of every line: after the bar stand the definition and sentences that use the word."""
    path = folder / name
    if not path.is_file():
        raise InputError(f"wordnet-gloss: no {name} in {folder}", expected=", ".join(FILES), remedy=INSTALL)
    found = []
    for number, line in enumerate(read_text(path, expected="text of WordNet", remedy=INSTALL).splitlines(), start=1):
        if not line.strip() or line.startswith("  "):  # the licence
            continue
        head, bar, gloss = line.partition("|")
        fields = head.split()
        text = EXAMPLES.split(gloss, maxsplit=1)[0].strip(" ;")
        if not bar or not text or len(fields) < 2 or not fields[1].isascii() or not fields[1].isdecimal():
            _not_wordnet(path, number, line)
        label = int(fields[1])
        if label >= len(CLASSES):
            _not_wordnet(path, number, line)
        found.append((label, text))
    return found


def _not_wordnet(path: Path, number: int, line: str) -> NoReturn:
    raise InputError(
        f"{path}:{number}: {line[:40]}",
        expected=f"offset, class 0 to {len(CLASSES) - 1}, words, a bar and a definition",
        remedy=INSTALL,
    )
