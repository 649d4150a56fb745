"""Fixtures that every test may use."""

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded():
    """Every test starts from the same global generators; none of the library depends on them."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.set_num_threads(1)


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
