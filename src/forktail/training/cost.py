"""Compute, counted in floating-point operations at fixed shapes: the same on every machine and in every rerun."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from forktail.training.objective import Batch, Objective, set_modes

IMAGES = 2  # a batch large enough for objectives that compare images with one another


def training_flops(objective: Objective, shape: tuple[int, ...], num_classes: int) -> int:
    """Count one image's share of a forward and backward pass.

    Nothing is computed: a copy without storage is traced, in which attention appears as its matrix products.

    Args:
        objective: What is trained; it stays untouched.
        shape: (3, H, W) of one transformed picture.
        num_classes: Number of classes of the targets.

    Returns:
        Floating-point operations per image; a multiply-add counts as two.
    """
    traced = copy.deepcopy(objective).to("meta")
    set_modes(traced)
    batch = Batch(
        inputs=torch.empty((IMAGES, *shape), device="meta"),
        targets=torch.empty((IMAGES, num_classes), device="meta"),
        index=torch.zeros(IMAGES, dtype=torch.int64, device="meta"),
        progress=0.0,
        generator=torch.Generator(),
    )
    with FlopCounterMode(display=False) as counter:
        loss = traced(batch).sum()
        torch.autograd.grad(loss, [p for p in traced.parameters() if p.requires_grad], allow_unused=True)
    return int(counter.get_total_flops()) // IMAGES


def inference_flops(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Count a forward pass of one image.

    Args:
        network: Any module that takes (B, 3, H, W) inputs; it stays untouched.
        shape: (3, H, W) of one transformed picture.

    Returns:
        Floating-point operations per image; a multiply-add counts as two.
    """
    traced = copy.deepcopy(network).to("meta").eval()
    inputs: Tensor = torch.empty((1, *shape), device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        traced(inputs)
    return int(counter.get_total_flops())
