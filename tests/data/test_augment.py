from __future__ import annotations

import pickle
import random
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from forktail.data.augment import Augment, AugmentKind, Preprocess, Views
from forktail.errors import InputError

PLAIN = Preprocess(8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
KINDS = get_args(AugmentKind)


def noise(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.RandomState(0).randint(0, 256, (height, width, 3), np.uint8))


def seeded(augment: Augment, picture: Image.Image, seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    random.seed(seed)
    return augment(picture)


def test_normalisation_is_by_channel() -> None:
    picture = noise(8, 8)
    prepare = Preprocess(8, (0.1, 0.2, 0.3), (0.5, 0.25, 0.2))
    levels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).double() / 255
    expected = (levels - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([0.5, 0.25, 0.2]).view(3, 1, 1)
    got = prepare(picture)
    assert got.is_contiguous()
    torch.testing.assert_close(got, expected.float(), rtol=1e-5, atol=1e-5)


def test_picture_of_the_right_size_keeps_its_pixels_even_with_a_crop() -> None:
    picture = noise(8, 8)
    assert Preprocess(8, PLAIN.mean, PLAIN.std, crop=0.9).square(picture) is picture


@pytest.mark.parametrize(("height", "width"), [(16, 32), (32, 16), (9, 8), (5, 7), (1, 40)])
def test_square_keeps_the_centre(height: int, width: int) -> None:
    assert PLAIN.square(noise(height, width)).size == (8, 8)
    ramp = np.zeros((16, 32, 3), np.uint8)
    ramp[:, 12:20] = 255  # the middle quarter of the width is white: half of the centre square
    middle = np.asarray(Preprocess(8, PLAIN.mean, PLAIN.std, "nearest").square(Image.fromarray(ramp)))[0, :, 0]
    np.testing.assert_array_equal(middle, [0, 0, 255, 255, 255, 255, 0, 0])


def test_crop_cuts_a_border_away() -> None:
    framed = np.zeros((16, 16, 3), np.uint8)
    framed[4:12, 4:12] = 255
    got = np.asarray(Preprocess(8, PLAIN.mean, PLAIN.std, "nearest", crop=0.5).square(Image.fromarray(framed)))
    np.testing.assert_array_equal(got, np.full((8, 8, 3), 255))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(8, 8), (20, 13)])
def test_same_generators_same_tensor(kind: AugmentKind, shape: tuple[int, int]) -> None:
    augment, picture = Augment(PLAIN, kind), noise(*shape)
    for seed in range(4):
        got = seeded(augment, picture, seed)
        assert got.shape == (3, 8, 8)
        assert got.dtype == torch.float32
        torch.testing.assert_close(seeded(pickle.loads(pickle.dumps(augment)), picture, seed), got, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_all_but_none_change_the_picture(kind: AugmentKind) -> None:
    augment, picture = Augment(PLAIN, kind), noise(8, 8)
    changed = any(not torch.equal(seeded(augment, picture, seed), PLAIN(picture)) for seed in range(8))
    assert changed == (kind != "none")


def test_shift_is_a_padded_crop_and_reaches_every_place() -> None:
    picture = noise(8, 8)
    padded = np.pad(np.asarray(picture), ((1, 1), (1, 1), (0, 0)), mode="edge")
    windows = {(padded[y : y + 8, x : x + 8] / np.float32(255)).tobytes() for y in range(3) for x in range(3)}
    augment = Augment(PLAIN, "shift")
    seen = {np.rint(255 * seeded(augment, picture, seed).numpy()).tobytes() for seed in range(100)}
    expected = {
        np.rint(255 * np.frombuffer(w, np.float32).reshape(8, 8, 3).transpose(2, 0, 1)).tobytes() for w in windows
    }
    assert seen == expected


def test_flip_happens_half_of_the_time() -> None:
    ramp = Image.fromarray(np.arange(8, dtype=np.uint8)[None, :, None].repeat(8, 0).repeat(3, 2) * 30)
    augment = Augment(PLAIN, "shift-flip")
    flipped = [bool(got[0, 0, 0] > got[0, 0, 7]) for got in (seeded(augment, ramp, seed) for seed in range(400))]
    assert 160 < sum(flipped) < 240


def test_numpy_generator_is_left_alone() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002  the legacy global generator is what is checked
    for seed in range(8):
        seeded(Augment(PLAIN, "randaugment"), noise(8, 8), seed)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_repr_is_of_the_fields_alone() -> None:
    augment = Augment(PLAIN, "randaugment")
    before = repr(augment)
    seeded(augment, noise(8, 8), 0)
    assert repr(augment) == before
    assert "object at" not in before


def test_unknown_kind_and_interpolation_name_the_nearest() -> None:
    with pytest.raises(InputError, match='did you mean "shift-flip"'):
        Augment(PLAIN, "shiftflip")  # type: ignore[arg-type]
    with pytest.raises(InputError, match='did you mean "bicubic"'):
        Preprocess(8, PLAIN.mean, PLAIN.std, interpolation="cubic")


def test_views_are_drawn_one_after_another_and_differ() -> None:
    shift = Augment(PLAIN, "shift")
    views = seeded(Views((shift, shift)), noise(8, 8), 3)
    assert views.shape == (2, 3, 8, 8)
    torch.testing.assert_close(views[0], seeded(shift, noise(8, 8), 3), rtol=0, atol=0)
    assert not torch.equal(views[0], views[1])


def test_erasing_replaces_a_rectangle_as_often_as_it_says() -> None:
    erased = [
        (seeded(Augment(PLAIN, "none", erasing=0.5), noise(8, 8), seed) != PLAIN(noise(8, 8))).any(0)
        for seed in range(200)
    ]
    areas = [int(mask.sum()) for mask in erased]
    assert 70 <= sum(area > 0 for area in areas) <= 130
    for mask in (mask for mask in erased if mask.any()):
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        box = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
        assert mask.sum() == box
