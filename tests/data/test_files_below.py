import os

import pytest

from forktail.data.files_below import entries, files_below
from forktail.errors import InputError


def make(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def names(root):
    return sorted(path.relative_to(root).as_posix() for path in files_below(root))


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    make(tmp_path, "a.png", "b/c.png", ".hidden.png", ".folder/d.png", "b/._c.png")
    assert names(tmp_path) == ["a.png", "b/c.png"]
    assert sorted(path.name for path in entries(tmp_path)) == ["a.png", "b"]


def test_links_are_followed_and_a_loop_ends(tmp_path):
    make(tmp_path, "here/a.png", "there/b.png", "there/below/c.png")
    (tmp_path / "here/link").symlink_to(tmp_path / "there")
    (tmp_path / "here/loop").symlink_to(tmp_path / "here")
    (tmp_path / "there/below/up").symlink_to(tmp_path / "there")
    (tmp_path / "here/broken").symlink_to("nowhere")
    assert names(tmp_path / "here") == ["a.png", "broken", "link/b.png", "link/below/c.png"]


def test_a_folder_that_cannot_be_read_is_an_error_and_not_empty(tmp_path, monkeypatch):
    make(tmp_path, "open/a.png", "closed/b.png")
    scandir = os.scandir

    def guarded(place):
        if str(place).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(InputError, match="closed: permission denied; expected a folder that can be read"):
        files_below(tmp_path)


def test_a_folder_that_is_gone_is_one_clear_line(tmp_path):
    for call in (entries, files_below):
        with pytest.raises(InputError, match="gone: no such file or directory"):
            call(tmp_path / "gone")
