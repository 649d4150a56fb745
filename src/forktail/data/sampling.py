"""Samplers: which images one epoch shows, and in which order.

Legend: N images, C classes, n_c images of class c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, final

import numpy as np
import numpy.typing as npt

from forktail.labels import effective_number

IntArray = npt.NDArray[np.int64]


class Sampler(Protocol):
    """What decides an epoch; a frozen dataclass, because a stage's fingerprint holds its ``repr``."""

    def length(self, num_images: int) -> int:
        """Count the images that an epoch shows."""
        ...

    def epoch(self, labels: IntArray, seed: int) -> IntArray:
        """Draw the ``(length,)`` positions of one epoch, each epoch from a seed of its own."""
        ...


@final
@dataclass(frozen=True)
class Shuffled:
    """Every image once, in a new order (instance-balanced sampling).

    Example:
        >>> sorted(Shuffled().epoch(np.array([0, 0, 1]), seed=0).tolist())
        [0, 1, 2]
    """

    def length(self, num_images: int) -> int:
        """Return N."""
        return num_images

    def epoch(self, labels: IntArray, seed: int) -> IntArray:
        """Return a permutation of the positions."""
        import torch  # here, so that data can be opened without it

        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        return order.numpy()


@final
@dataclass(frozen=True)
class ClassAware:
    """Class-aware sampling (Kang et al. 2020): a shuffled cycle of classes, each giving ``each`` of its images in turn.

    Every class has a shuffled cycle of its images, too, so that within an epoch an image comes again only after all
    others of its class; every epoch begins new cycles. An epoch shows N images, of every class equally many to within
    ``each``.

    Args:
        each: Consecutive images of one class.

    Example:
        >>> labels = np.array([0, 0, 0, 0, 0, 1])
        >>> shown = ClassAware(each=1).epoch(labels, seed=0)
        >>> np.bincount(labels[shown]).tolist()
        [3, 3]
    """

    each: int = 4

    def length(self, num_images: int) -> int:
        """Return N."""
        return num_images

    def epoch(self, labels: IntArray, seed: int) -> IntArray:
        """Return the positions in the order of the cycles."""
        random = np.random.default_rng(seed)
        members = [np.flatnonzero(labels == c) for c in np.unique(labels)]
        visits = _cycled(np.arange(len(members)), -(-len(labels) // self.each), random)
        times = np.bincount(visits, minlength=len(members)) * self.each
        drawn = [_cycled(own, count, random).reshape(-1, self.each) for own, count in zip(members, times, strict=True)]
        taken = [0] * len(members)
        shown = []
        for visited in visits:
            shown.append(drawn[visited][taken[visited]])
            taken[visited] += 1
        return np.concatenate(shown)[: len(labels)]


@final
@dataclass(frozen=True)
class Weighted:
    r"""Images drawn with replacement, where a class is drawn with probability $\propto n_c w(n_c)$.

    - ``balanced``: $w = 1 / n_c$, every class alike (GCL's second stage);
    - ``reversed``: $w = 1 / n_c^2$, class c with $(1 / n_c) / \sum_k 1 / n_k$ (BBN's second stream);
    - ``effective``: $w = (1 - \beta) / (1 - \beta^{n_c})$ (re-sampling by the effective number of images, LDAM's code).

    Args:
        rule: One of these rules.
        beta: Of ``effective``.

    Example:
        >>> shares = Weighted("reversed").class_probabilities(np.array([0, 0, 0, 1]))
        >>> shares.tolist()
        [0.25, 0.75]
    """

    rule: Literal["balanced", "reversed", "effective"]
    beta: float = 0.9999

    def length(self, num_images: int) -> int:
        """Return N."""
        return num_images

    def epoch(self, labels: IntArray, seed: int) -> IntArray:
        """Return N independent draws."""
        counts = np.bincount(labels)
        each = self.class_probabilities(labels)[labels] / counts[labels]
        return np.random.default_rng(seed).choice(len(labels), size=len(labels), p=each / each.sum())

    def class_probabilities(self, labels: IntArray) -> npt.NDArray[np.float64]:
        """Say how often each class is drawn.

        Args:
            labels: (N,) classes of the images.

        Returns:
            (C,) probabilities; a class without images has none.
        """
        counts = np.bincount(labels).astype(np.float64)
        n = np.maximum(counts, 1)
        weights = {
            "balanced": 1 / n,
            "reversed": 1 / n**2,
            "effective": 1 / effective_number(n, self.beta),
        }[self.rule]
        shares: npt.NDArray[np.float64] = counts * weights / (counts * weights).sum()
        return shares


@final
@dataclass(frozen=True)
class Repeated:
    """Repeated augmentation (Hoffer et al. 2020): N / ``times`` images, each shown ``times`` times in another form.

    Args:
        times: How often an image comes in its epoch.

    Example:
        >>> shown = Repeated(times=2).epoch(np.zeros(4, np.int64), seed=0)
        >>> len(shown), len(set(shown.tolist()))
        (4, 2)
    """

    times: int = 3

    def length(self, num_images: int) -> int:
        """Return N."""
        return num_images

    def epoch(self, labels: IntArray, seed: int) -> IntArray:
        """Return the repetitions of an image side by side, so that they meet in one batch."""
        return np.random.default_rng(seed).permutation(len(labels)).repeat(self.times)[: len(labels)]


@final
@dataclass(frozen=True)
class Paired:
    """Two streams in one: images of the first at even places, of the second at odd ones (BBN's two loaders).

    Args:
        first: Sampler of the even places.
        second: Sampler of the odd places, of the same length.

    Example:
        >>> pairs = Paired(Shuffled(), Weighted("reversed")).epoch(np.array([0, 0, 1]), seed=0)
        >>> len(pairs), sorted(pairs[::2].tolist())
        (6, [0, 1, 2])
    """

    first: Sampler
    second: Sampler

    def length(self, num_images: int) -> int:
        """Return the length of both together."""
        return self.first.length(num_images) + self.second.length(num_images)

    def epoch(self, labels: IntArray, seed: int) -> IntArray:
        """Return the pairs, one after another."""
        pairs = [self.first.epoch(labels, seed), self.second.epoch(labels, seed + 1)]
        return np.stack(pairs, axis=1).reshape(-1)


def _cycled(items: IntArray, count: int, random: np.random.Generator) -> IntArray:
    """Go round a list until ``count`` items are out, in a new order each time."""
    rounds = -(-count // len(items)) if count else 0
    return np.concatenate([random.permutation(items) for _ in range(rounds)] or [items[:0]])[:count]
