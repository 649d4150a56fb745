from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from forktail.data.images import Images
from forktail.data.picture_files import FilePictures, open_picture, unreadable
from forktail.errors import InputError

Make = Callable[..., list[Path]]

RGB = np.random.RandomState(0).randint(0, 256, (5, 7, 3), np.uint8)


def test_rgb_is_kept(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(open_picture(tmp_path / "a.png")), RGB)


def test_grey_and_bilevel(tmp_path: Path) -> None:
    Image.fromarray(RGB[:, :, 0]).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(np.asarray(open_picture(tmp_path / "grey.png")), RGB[:, :, :1].repeat(3, 2))
    Image.fromarray(RGB[:, :, 0] > 128).save(tmp_path / "bilevel.png")
    expected = (255 * (RGB[:, :, :1] > 128)).repeat(3, 2)
    np.testing.assert_array_equal(np.asarray(open_picture(tmp_path / "bilevel.png")), expected)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_become_eight(tmp_path: Path, ending: str) -> None:
    levels = np.array([[0, 257, 65535], [32768, 128, 129]], np.uint16)
    Image.fromarray(levels).save(tmp_path / f"a.{ending}")
    picture = open_picture(tmp_path / f"a.{ending}")
    assert picture.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(picture)[:, :, 1], np.rint(levels / 257))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_white(tmp_path: Path, mode: str) -> None:
    alpha = np.array([[0, 128, 255]], np.uint8)
    ink = np.full((1, 3), 100, np.uint8)
    channels = [ink] * (len(mode) - 1) + [alpha]
    Image.fromarray(np.stack(channels, axis=2), mode).save(tmp_path / "a.png")
    got = np.asarray(open_picture(tmp_path / "a.png"))[0, :, 0]
    np.testing.assert_allclose(got, [255, 255 - 155 * 128 / 255, 100], atol=1)


def test_transparent_palette(tmp_path: Path) -> None:
    palette = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    palette.save(tmp_path / "bytes.png", transparency=bytes([255, 0, 255]))
    palette.save(tmp_path / "index.gif", transparency=1)
    for name in ("bytes.png", "index.gif"):
        got = np.asarray(open_picture(tmp_path / name))
        np.testing.assert_array_equal(got[0], [[10, 20, 30], [255, 255, 255], [70, 80, 90]])


def test_cmyk(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "red.jpg")
    np.testing.assert_allclose(np.asarray(open_picture(tmp_path / "red.jpg"))[4, 4], [255, 0, 0], atol=3)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(np.asarray(open_picture(tmp_path / "a.png")), np.rot90(RGB, -1))


def test_levels_without_a_range_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(OSError, match="mode F has no range"):
        open_picture(tmp_path / "a.tif")


def pictures_of(root: Path, *names: str) -> Images:
    return Images.ordered(FilePictures(root, names), np.zeros(len(names), np.int64), ("a",))


def test_unreadable_pictures_are_found_whatever_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.RandomState(0).randint(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "good.jpg")
    content = (tmp_path / "good.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64)
    Image.fromarray(np.zeros((64, 100), np.uint8)).save(tmp_path / "bomb.png")  # up to twice the limit: a warning
    Image.fromarray(np.zeros((99, 100), np.uint8)).save(tmp_path / "bigger.png")  # more: an error
    names = ["cut.jpg", "good.jpg", "empty.png", "text.png", "bomb.png", "bigger.png", "missing.png"]
    found = unreadable(pictures_of(tmp_path, *names), workers=3)
    assert list(found) == [0, 2, 3, 4, 5, 6]
    assert "truncated" in found[0]
    assert found[3] == "not a picture"
    assert "decompression bomb" in found[4]


def test_digest_sees_name_size_and_time(tmp_path: Path, make_pictures: Callable[..., list[Path]]) -> None:
    path, other = make_pictures("", 2)
    digests = [pictures_of(tmp_path, path.name).fingerprint, pictures_of(tmp_path, other.name).fingerprint]
    assert pictures_of(tmp_path, path.name).fingerprint == digests[0]
    os.utime(path, ns=(1, 1))
    digests.append(pictures_of(tmp_path, path.name).fingerprint)
    path.write_bytes(path.read_bytes() + b"\0")
    os.utime(path, ns=(1, 1))
    digests.append(pictures_of(tmp_path, path.name).fingerprint)
    assert len(set(digests)) == 4


def test_digest_does_not_depend_on_where_the_folder_lies(tmp_path: Path, make_pictures: Callable[..., object]) -> None:
    make_pictures("here", 1)
    before = pictures_of(tmp_path / "here", "000.png").fingerprint
    (tmp_path / "here").rename(tmp_path / "there")
    assert pictures_of(tmp_path / "there", "000.png").fingerprint == before


def test_of_an_animation_the_first_picture_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(np.asarray(open_picture(tmp_path / "a.gif"))[0, 0], [255, 0, 0])


def test_odd_metadata_are_no_matter_of_the_user(tmp_path: Path) -> None:
    """Pillow warns of EXIF data that it cannot parse; here a warning would be an error."""
    Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\xff" * 40)
    assert open_picture(tmp_path / "a.jpg").size == (7, 5)
    assert unreadable(pictures_of(tmp_path, "a.jpg"), workers=1) == {}


def test_a_folder_called_like_a_picture_and_an_empty_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "empty.png").touch()
    found = unreadable(pictures_of(tmp_path, "folder.png", "empty.png"), workers=1)
    assert found == {0: "is a directory", 1: "an empty file"}


def test_a_picture_that_vanished_after_it_was_checked_is_an_input_error(tmp_path: Path, make_pictures: Make) -> None:
    (path,) = make_pictures("", 1)
    images = pictures_of(tmp_path, path.name)
    path.unlink()
    for use in (lambda: images.read(0), lambda: images.fingerprint):
        with pytest.raises(InputError, match=r"000.png: no such file or directory; .* bring it back"):
            use()
    path.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"000\.png: not a picture"):
        images.read(0)
