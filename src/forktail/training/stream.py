"""The stream of training batches: a function of (seed, stage, step) alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from forktail.data.images import Images
from forktail.data.sampling import Sampler as EpochSampler
from forktail.errors import InputError
from forktail.training.randomness import restored_generators, seed_of, set_generators

Key = tuple[int, int, int]  # (epoch, position in the training set, how often it came before in this epoch)
Loaded = tuple[Tensor, Tensor, Tensor]  # inputs (B, 3, H, W) or views of them, labels (B,), index (B,)


class Order(Sampler[list[Key]]):
    """The keys of every batch from step ``start`` on: each epoch is drawn anew, full batches only.

    Args:
        labels: (N,) classes of the training set.
        sampler: What an epoch shows.
        batch_size: Images per step.
        steps: Length of the stage.
        start: First step that is still to do.
        seed: Seed of the stage's order.
    """

    def __init__(
        self, labels: npt.NDArray[np.int64], sampler: EpochSampler, batch_size: int, steps: int, start: int, seed: int
    ) -> None:
        self.labels, self.sampler, self.steps, self.start, self.seed = labels, sampler, steps, start, seed
        self.batch_size = min(batch_size, sampler.length(len(labels)))

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[Key]]:
        per_epoch = max(1, self.sampler.length(len(self.labels)) // self.batch_size)
        shown: tuple[int, list[Key]] = (-1, [])
        for step in range(self.start, self.steps):
            epoch, number = divmod(step, per_epoch)
            if shown[0] != epoch:
                shown = (epoch, self._epoch(epoch))
            first = number * self.batch_size
            yield shown[1][first : first + self.batch_size]

    def _epoch(self, epoch: int) -> list[Key]:
        """Draw an epoch; an image that comes twice is to be augmented in two ways."""
        seen: Counter[int] = Counter()
        keys = []
        for index in self.sampler.epoch(self.labels, seed_of(self.seed, "order", epoch)).tolist():
            keys.append((epoch, index, seen[index]))
            seen[index] += 1
        return keys


class Examples(Dataset[Loaded | InputError]):
    """Transformed pictures by (epoch, position), each drawn with its own seed.

    Args:
        images: The training set with its transform.
        seed: Seed of the stage's augmentation.
    """

    def __init__(self, images: Images, seed: int) -> None:
        self.images = images
        self.seed = seed
        self.labels = torch.from_numpy(images.labels)

    def __getitems__(self, keys: list[Key]) -> Loaded | InputError:
        try:
            return self._batch(keys)
        except InputError as error:  # a loader's process would wrap it into words of its own
            return error

    def _batch(self, keys: list[Key]) -> Loaded:
        pictures = []
        with restored_generators():
            for epoch, index, again in keys:
                showing = (epoch, index, again) if again else (epoch, index)
                set_generators(seed_of(self.seed, "example", *showing))
                pictures.append(self.images[index])
        positions = torch.tensor([index for _, index, _ in keys])
        return torch.stack(pictures), self.labels[positions], positions


def _whole(batch: Any) -> Any:
    """Hand a batch on as it is: `Examples` makes it in one piece."""
    return batch


def training_stream(
    images: Images, sampler: EpochSampler, *, batch_size: int, steps: int, start: int, seed: int, workers: int
) -> Iterator[Loaded]:
    """Load the batches of a stage from step ``start`` on.

    Args:
        images: The training set with its transform.
        sampler: What an epoch shows.
        batch_size: Images per step.
        steps: Length of the stage.
        start: First step that is still to do.
        seed: Seed of order and augmentation.
        workers: Processes that read ahead; the batches do not depend on it.

    Yields:
        ``steps - start`` batches.

    Raises:
        InputError: If a picture that could be read when the data were opened cannot any more.
    """
    loader: DataLoader[Loaded | InputError] = DataLoader(
        Examples(images, seed),
        batch_sampler=Order(images.labels, sampler, batch_size, steps, start, seed),
        num_workers=workers,
        collate_fn=_whole,
        generator=torch.Generator().manual_seed(0),  # workers' base seed: without it the global generator would move
    )
    for batch in loader:
        if isinstance(batch, InputError):
            raise batch
        yield batch


def evaluation_batches(images: Images, batch_size: int = 256) -> Iterator[Loaded]:
    """Go through a set once, in order, every image exactly once.

    Args:
        images: The set with its evaluation transform.
        batch_size: Images per batch; the last one may be smaller.

    Yields:
        inputs (B, 3, H, W), labels (B,), index (B,).
    """
    labels = torch.from_numpy(images.labels)
    for first in range(0, len(images), batch_size):
        index = torch.arange(first, min(first + batch_size, len(images)))
        yield torch.stack([images[i] for i in index.tolist()]), labels[index], index
