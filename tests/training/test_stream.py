import numpy as np
import pytest
import torch

from forktail.data.images import ArrayPictures, Images
from forktail.data.sampling import Shuffled
from forktail.training.stream import Order, evaluation_batches, training_stream


class NoisyPixel:
    """A transform that draws from every global generator that augmentation libraries use."""

    def __call__(self, picture):
        import random

        noise = [random.random(), np.random.rand(), torch.rand(()).item()]  # noqa: NPY002
        return torch.tensor([np.asarray(picture)[0, 0, 0], *noise])

    def __repr__(self):
        return "NoisyPixel()"


@pytest.fixture
def images():
    pixels = np.arange(10, dtype=np.uint8).reshape(10, 1, 1) * np.ones((1, 2, 2), np.uint8)
    return Images.ordered(ArrayPictures(pixels), np.repeat([0, 1], 5), ("a", "b")).with_transform(NoisyPixel())


def whole(images, **changes):
    settings = {"sampler": Shuffled(), "batch_size": 4, "steps": 7, "start": 0, "seed": 3, "workers": 0} | changes
    return list(training_stream(images, settings.pop("sampler"), **settings))


def test_every_epoch_is_a_new_shuffle_of_distinct_images():
    keys = [key for batch in Order(np.repeat(0, 10), Shuffled(), 5, steps=6, start=0, seed=0) for key in batch]
    epochs = [[index for epoch, index, _ in keys if epoch == e] for e in range(3)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_what_does_not_fill_a_batch_waits_for_the_next_shuffle():
    keys = list(Order(np.repeat(0, 10), Shuffled(), 4, steps=4, start=0, seed=0))
    assert [len(batch) for batch in keys] == [4] * 4
    assert [epoch for batch in keys for epoch, _, _ in batch] == [0] * 8 + [1] * 8


def test_a_set_smaller_than_a_batch_is_one_batch():
    assert [len(batch) for batch in Order(np.repeat(0, 3), Shuffled(), 128, steps=2, start=0, seed=0)] == [3, 3]


@pytest.mark.parametrize("start", [1, 2, 5, 6])
def test_a_resumed_stream_goes_on_bit_for_bit(images, start):
    for resumed, uninterrupted in zip(whole(images, start=start), whole(images)[start:], strict=True):
        for a, b in zip(resumed, uninterrupted, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_the_number_of_workers_changes_nothing(images):
    for alone, helped in zip(whole(images), whole(images, workers=2), strict=True):
        for a, b in zip(alone, helped, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_reading_leaves_the_global_generators_alone(images):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    whole(images)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


def test_evaluation_sees_every_image_once_in_order(images):
    index = torch.cat([index for _, _, index in evaluation_batches(images, 4)])
    assert index.tolist() == list(range(10))
    assert [len(labels) for _, labels, _ in evaluation_batches(images, 4)] == [4, 4, 2]
