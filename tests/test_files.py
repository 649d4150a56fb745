import errno
import os

import pytest
import torch
from safetensors.torch import save_file

from forktail.errors import InputError
from forktail.files import read_json, read_text, write_atomically


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path):
    write_atomically(tmp_path / "a/b.txt", "old")
    write_atomically(tmp_path / "a/b.txt", lambda path: path.write_text("new"))
    assert (tmp_path / "a/b.txt").read_text() == "new"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"]


def no_room(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch, call):
    write_atomically(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, call, no_room)
    with pytest.raises(InputError, match=r"a\.txt: cannot be written \(no space left on device\); make room and give"):
        write_atomically(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_whatever_stops_the_writer_no_part_is_left(tmp_path):
    def stopped(part):
        part.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a.txt", stopped)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_cannot_be_written_are_the_same_error(tmp_path):
    def gone(part):  # safetensors says so with an exception of its own
        save_file({"a": torch.zeros(2)}, part.parent / "no/such/folder/a.safetensors")

    with pytest.raises(InputError, match=r"b\.safetensors: cannot be written \("):
        write_atomically(tmp_path / "b.safetensors", gone)


def test_a_byte_that_is_no_utf8_is_named_with_its_line(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\n\xe9\n")
    with pytest.raises(InputError, match=r"a\.txt, line 3: byte 0xe9 is no UTF-8; expected a list; save it as text"):
        read_text(tmp_path / "a.txt", expected="a list")


def test_a_byte_order_mark_is_no_text_and_line_ends_are(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa\r\nb")
    assert read_text(tmp_path / "a.txt", expected="") == "a\r\nb"


@pytest.mark.parametrize("path", ["missing", "nul\0", "x" * 300, "."])
def test_what_cannot_be_opened_is_one_clear_line(tmp_path, path):
    with pytest.raises(InputError, match="; expected a file; do this") as caught:
        read_text(tmp_path / path, expected="a file", remedy="do this")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["{", "", "[" * 100_000, "nul", "\ufeff" * 2])
def test_what_is_no_json_is_one_clear_line(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=r"a\.json: not valid JSON \(.*\); expected numbers"):
        read_json(tmp_path / "a.json", expected="numbers")
