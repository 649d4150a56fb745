"""What an assembled network says of images, and corrections of it that its classifiers can take in.

Legend: N images, C classes, K tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from forktail.backbones.forked import Forked
from forktail.data.images import Images
from forktail.training.cost import inference_flops
from forktail.training.stream import evaluation_batches

MOST_OUTPUTS = 2 * 10**7  # numbers that are held at once


def affordable(images: Images, seed: int) -> Images:
    """Draw as many images as there is memory for their outputs; all, where that is enough.

    Args:
        images: The set.
        seed: Which images.

    Returns:
        The set or a part of it, in the same order.
    """
    most = max(1, MOST_OUTPUTS // len(images.classes))
    if len(images) <= most:
        return images
    return images.subset(np.sort(np.random.default_rng(seed).permutation(len(images))[:most]))


@torch.no_grad()
def outputs_of(network: Forked, images: Images, device: torch.device) -> Tensor:
    """Run a network over a set.

    Args:
        network: Moved to the device and left in evaluation mode.
        images: With an evaluation transform.
        device: Where to compute.

    Returns:
        (N, C) outputs in double precision, on the CPU.
    """
    network.to(device).eval()
    return torch.cat([network(inputs.to(device)).double().cpu() for inputs, _, _ in evaluation_batches(images)])


def outputs_flops(network: Forked, images: Images) -> float:
    """Count what `outputs_of` computes.

    Args:
        network: It stays as it is.
        images: With an evaluation transform.

    Returns:
        Floating-point operations.
    """
    return float(len(images) * inference_flops(network, tuple(images[0].shape)))


@torch.no_grad()
def adjust_classifiers(network: Forked, scales: Sequence[float], offsets: Tensor) -> None:
    """Turn every output z_c of task t into ``scale_t z_c + offset_c``: a linear classifier can say so itself.

    Args:
        network: Changed in place.
        scales: (K,) factors.
        offsets: (C,) in class order.
    """
    for task, classes in enumerate(network.split.tasks):
        classifier = network.classifier(task)
        classifier.weight.mul_(scales[task])
        classifier.bias.mul_(scales[task]).add_(offsets[classes.tolist()].to(classifier.bias))
