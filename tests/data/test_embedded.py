import numpy as np
import pytest

from forktail.data import embedded as module
from forktail.data.embedded import embedded
from forktail.errors import InputError


@pytest.fixture
def damaged(tmp_path, monkeypatch):
    """Let the file of the package be another one."""
    embedded.cache_clear()
    monkeypatch.setattr(module, "FILE", tmp_path / "glyphs.npz")
    yield tmp_path / "glyphs.npz"
    embedded.cache_clear()


def test_the_file_holds_a_hundred_characters_and_eight_hundred_others():
    assert embedded("classes").shape == (100,)
    assert embedded("bitmaps").shape == (16, 100, 32, 32)
    assert len(set(embedded("symbols").tolist())) == 800


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut"])
def test_a_damaged_installation_is_named(damaged, content):
    if content is not None:
        damaged.write_bytes(content)
    with pytest.raises(InputError, match=r"^glyphs\.npz, which ships with the package: .*; reinstall forktail$"):
        embedded("classes")


def test_a_file_of_another_version_is_named(damaged):
    np.savez(damaged, others=np.zeros(1))
    with pytest.raises(InputError, match=r"classes.*reinstall forktail"):
        embedded("classes")
