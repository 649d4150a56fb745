import numpy as np
import pytest
from PIL import Image

from forktail.data.loose_pictures import find_pictures, open_loose_picture
from forktail.errors import InputError


def write(path, *, grey=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (5, 4), grey).save(path, format="PNG")
    return path


def test_a_folder_gives_its_pictures_in_natural_order(tmp_path):
    for name in ("10.png", "9.png", "b/1.PNG", "a/2.jpeg"):
        write(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    found = [file.relative_to(tmp_path).as_posix() for file in find_pictures([tmp_path])]
    assert found == ["9.png", "10.png", "a/2.jpeg", "b/1.PNG"]


def test_files_come_in_the_order_in_which_they_were_named(tmp_path):
    files = [write(tmp_path / name) for name in ("z.png", "a.png")]
    assert find_pictures(files) == files
    write(tmp_path / "folder/m.png")
    assert find_pictures([files[0], tmp_path / "folder", files[1]]) == [
        files[0], tmp_path / "folder/m.png", files[1]
    ]  # fmt: skip


def test_a_file_is_taken_whatever_its_ending(tmp_path):
    file = write(tmp_path / "picture.dat")
    assert find_pictures([file]) == [file]
    assert open_loose_picture(file).size == (5, 4)


def test_a_folder_called_like_a_picture_is_no_picture(tmp_path):
    (tmp_path / "folder.png").mkdir()
    write(tmp_path / "folder.png/a.png")
    assert find_pictures([tmp_path]) == [tmp_path / "folder.png/a.png"]


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: None])
def test_nothing_to_classify_is_said_with_its_place(tmp_path, make):
    path = tmp_path / "x"
    make(path)
    with pytest.raises(InputError, match=r"x: no (picture in this folder|such file); expected "):
        find_pictures([path])


def test_a_picture_is_rgb(tmp_path):
    found = open_loose_picture(write(tmp_path / "a.png", grey=7))
    np.testing.assert_array_equal(np.asarray(found), np.full((4, 5, 3), 7))


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_a_broken_picture_is_named(tmp_path, content):
    broken = tmp_path / "broken.png"
    broken.write_bytes(content)
    with pytest.raises(
        InputError, match=r"broken\.png: cannot be read as a picture .*; mend it or leave it out"
    ) as caught:
        open_loose_picture(broken)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_a_truncated_picture_is_named(tmp_path, keep):
    path = tmp_path / "cut.png"
    pixels = np.random.RandomState(0).randint(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(InputError, match=r"cut\.png"):
        open_loose_picture(path)


def test_a_picture_that_would_fill_the_memory_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 8)
    with pytest.raises(InputError, match=r"huge\.png"):
        open_loose_picture(write(tmp_path / "huge.png"))


def test_a_picture_that_vanished_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.png"):
        open_loose_picture(tmp_path / "gone.png")
