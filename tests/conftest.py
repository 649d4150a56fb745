"""Fixtures that every test may use."""

import numpy as np
import pytest
import torch

WORDS = ("dog", "bird", "runs", "sings", "red", "##s", "small", "in", "of", "the", "tree", "sky", "water", "stone")


@pytest.fixture(autouse=True)
def _seeded():
    """Every test starts from the same global generators; none of the library depends on them."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.set_num_threads(1)


@pytest.fixture
def wordnet_folder(tmp_path):
    """WordNet's four data files with definitions of a few words: the first class has many, the others ever fewer."""
    random = np.random.RandomState(0)
    lines = {"noun": [], "verb": [], "adj": [], "adv": []}
    for label in range(45):
        own = WORDS[label % 5 : label % 5 + 6]  # so that there is something to learn
        for number in range(100 - label):
            words = " ".join(random.choice(own, 6))
            gloss = f'{words} {label} {number}; "the {words}"'
            lines["noun" if label else "adj"].append(f"{number:08d} {label:02d} n 01 dog 0 000 | {gloss}  ")
    folder = tmp_path / "wordnet"
    folder.mkdir()
    for name, own in lines.items():
        licence = "  1 This software and database is being provided | to you"
        (folder / f"data.{name}").write_text("\n".join([licence, *own, ""]))
    return folder


@pytest.fixture
def small_minilm(tmp_path, monkeypatch):
    """The backbone ``minilm`` with four blocks of 12 features and a vocabulary of 20 word pieces in FORKTAIL_DATA."""
    from forktail.backbones import minilm
    from forktail.backbones.bert import BertSize

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "1", "2", *WORDS]
    monkeypatch.setattr(minilm, "SIZE", BertSize(len(pieces), positions=40, features=12, blocks=4, heads=2, inner=24))
    monkeypatch.setattr(minilm, "PACKAGE", "no_such_package")
    monkeypatch.setenv("FORKTAIL_DATA", str(tmp_path))
    (tmp_path / "minilm").mkdir()
    (tmp_path / "minilm" / "vocab.txt").write_text("\n".join(pieces) + "\n")
    return tmp_path / "minilm"


@pytest.fixture
def small_npz(tmp_path):
    """Six classes of tiny pictures with a tail, easy to tell apart, as an .npz file with a test part."""
    random = np.random.RandomState(0)
    counts = [24, 16, 12, 8, 4, 1]

    def draw(count, label):
        pictures = random.randint(0, 60, (count, 28, 28))
        row, column = divmod(label, 3)
        pictures[:, 4 + 12 * row : 12 + 12 * row, 2 + 9 * column : 8 + 9 * column] += 180
        return pictures.astype(np.uint8)

    arrays = {
        "x_train": np.concatenate([draw(count, label) for label, count in enumerate(counts)]),
        "y_train": np.repeat(np.arange(6), counts),
        "x_test": np.concatenate([draw(5, label) for label in range(6)]),
        "y_test": np.repeat(np.arange(6), 5),
    }
    path = tmp_path / "small.npz"
    np.savez(path, **arrays)
    return path
