import base64

import pytest

from forktail.report.pictures import LARGEST, embedded


def test_a_png_is_embedded_byte_for_byte(tmp_path, make_png):
    (tmp_path / "a.png").write_bytes(make_png(5))
    picture = embedded(tmp_path, "a.png")
    kind, content = picture.source.split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(content) == make_png(5)
    assert (picture.width, picture.height) == (5, 5)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"<svg onload=alert(1)>", b"GIF89a" + bytes(40)])
def test_anything_else_is_left_out(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    assert embedded(tmp_path, "a.png") is None


def test_a_large_file_is_left_out(tmp_path, make_png):
    (tmp_path / "a.png").write_bytes(make_png() + bytes(LARGEST))
    assert embedded(tmp_path, "a.png") is None


@pytest.mark.parametrize("name", ["../secret.png", "missing.png", "link.png", ".", "a\0.png"])
def test_nothing_outside_the_run_is_read(tmp_path, make_png, name):
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "secret.png").write_bytes(make_png())
    (run / "link.png").symlink_to(tmp_path / "secret.png")
    assert embedded(run, name) is None
