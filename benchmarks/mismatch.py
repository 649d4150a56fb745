"""Where frozen features tell the head's and the tail's classes of `glyphs` apart, along `data.mismatch`.

    OMP_NUM_THREADS=1 python benchmarks/mismatch.py

Features of the embedded `tiny` backbone after its stem and after each unit, averaged over the tokens; nothing is
trained but ridge classifiers. The table stands in docs/glyphs.md, with what it means.
"""

from __future__ import annotations

import numpy as np
import torch

from forktail.backbones.open import BackboneSpec, open_backbone
from forktail.data.glyphs import glyphs
from forktail.data.images import ArrayPictures, Images

PER_CLASS = 10  # pictures to fit on, and as many to test on
DIRECTIONS = 12  # of 64
PENALTY = 3.0
FLOOR = 1e-3  # of the mean variance within a class, below which no direction counts as quiet


@torch.inference_mode()
def features(images: Images) -> np.ndarray:
    """(L + 1, N, D) averages over the tokens, after the stem and after each unit."""
    assert isinstance(images.pictures, ArrayPictures)
    backbone = open_backbone(BackboneSpec("tiny")).eval()
    inputs = torch.from_numpy(images.pictures.array)[:, None].expand(-1, 3, -1, -1) / 127.5 - 1
    averages = []
    for batch in inputs.split(250):
        hidden = [backbone.stem(batch)]
        for unit in backbone.units:
            hidden.append(unit(hidden[-1]))
        averages.append(torch.stack([tokens.mean(1) for tokens in hidden]))
    return torch.cat(averages, 1).double().numpy()


def accuracy(train: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray) -> float:
    """Of a ridge classifier of standardised features, in points; labels count from 0."""
    mean, std = train.mean(0), train.std(0)
    train, test = (train - mean) / std, (test - mean) / std
    targets = np.eye(labels.max() + 1)[labels]
    targets -= targets.mean(0)
    weights = np.linalg.solve(train.T @ train + PENALTY * np.eye(train.shape[1]), train.T @ targets)
    return 100 * float(((test @ weights).argmax(1) == truth).mean())


def overlap(feature: np.ndarray, labels: np.ndarray) -> float:
    """Mean squared cosine between the head's and the tail's best directions, where pictures of a class are white."""
    means = np.stack([feature[labels == c].mean(0) for c in range(100)])
    within = np.cov(feature - means[labels], rowvar=False, bias=True)
    within += FLOOR * np.trace(within) / len(within) * np.eye(len(within))
    values, vectors = np.linalg.eigh(within)
    head, tail = (
        np.linalg.svd((group - group.mean(0)) @ (vectors / np.sqrt(values)))[2][:DIRECTIONS]
        for group in (means[:50], means[50:])
    )
    return float(np.linalg.norm(head @ tail.T) ** 2 / DIRECTIONS)


def main() -> None:
    for mismatch in (0, 0.25, 0.5, 0.75, 1):
        data = glyphs(n_max=PER_CLASS, imbalance=1, test_per_class=PER_CLASS, mismatch=mismatch)
        train, test = features(data.train), features(data.test)
        y, z = data.train.labels, data.test.labels
        print(f"mismatch {mismatch}")
        for name, first in (("head", 0), ("tail", 50)):
            fitted, asked = y // 50 * 50 == first, z // 50 * 50 == first
            row = [
                accuracy(f[fitted], y[fitted] - first, t[asked], z[asked] - first)
                for f, t in zip(train, test, strict=True)
            ]
            print(f"  {name:8}" + "".join(f"{value:6.1f}" for value in row))
        print("  overlap " + "".join(f"{overlap(f, y):6.2f}" for f in train))


if __name__ == "__main__":
    main()
