"""Statistics of batch normalisation, measured anew for a network whose parts were trained apart."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase


@torch.no_grad()
def recompute_statistics(network: nn.Module, batches: Iterable[Any]) -> None:
    """Replace running means and variances by those of given inputs, through the network as it is now.

    Decoders under another encoder (`fork`) keep statistics of activations that no longer occur. Each layer normalises
    by the batch meanwhile, as in training, and keeps the average over batches b of n_b images, ``sum_b n_b m_b /
    sum_b n_b``, of the batch's mean and unbiased variance: PyTorch's cumulative average (``momentum=None``), in which
    a shorter last batch counts as much as it holds. Parameters, modes and everything else stay as they were; dropout
    and stochastic depth are off. What is frozen as ``fixed`` keeps its own. A network without such layers is left
    alone, and the batches are not read.

    Args:
        network: Changed in place.
        batches: ``(B, ...)`` inputs on the network's device, unaugmented; a batch of one image, which has no variance,
            is passed over.

    Raises:
        ValueError: If no batch has two images.

    Example:
        >>> network = nn.BatchNorm1d(1, affine=False)
        >>> recompute_statistics(network, [torch.tensor([[1.0], [3.0]]), torch.tensor([[6.0], [6.0]])])
        >>> network.running_mean, network.running_var
        (tensor([4.]), tensor([1.]))
    """
    layers = [
        module
        for module in network.modules()
        if isinstance(module, _NormBase)
        and module.track_running_stats
        and getattr(module, "forktail_frozen", None) != "fixed"  # the mark of `training.objective.freeze`
    ]
    if not layers:
        return
    modes = {module: module.training for module in network.modules()}
    momenta = [layer.momentum for layer in layers]
    network.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.train()
    seen = 0
    try:
        for inputs in batches:
            if len(inputs) > 1:
                seen += len(inputs)
                for layer in layers:
                    layer.momentum = len(inputs) / seen
                network(inputs)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for module, mode in modes.items():
            module.training = mode
    if not seen:
        raise ValueError("no batch of two images or more to take statistics of")
