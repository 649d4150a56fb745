"""Compute and memory, counted at fixed shapes: the same on every machine and in every rerun."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from forktail.training.objective import Batch, Objective, set_modes
from forktail.training.plan import Plan
from forktail.training.stage import structure_digest

IMAGES = 2  # a batch large enough for objectives that compare images with one another

_counted: dict[tuple[object, ...], TrainingCost] = {}  # tracing takes half a second, and stages are often alike


@dataclass(frozen=True)
class TrainingCost:
    """What one image costs in one training step.

    Args:
        flops: Floating-point operations of forward and backward pass; a multiply-add counts as two.
        activations: Bytes that the forward pass keeps for the backward pass.
    """

    flops: int
    activations: int


def training_cost(objective: Objective, shape: tuple[int, ...], num_classes: int) -> TrainingCost:
    """Count one image's share of a forward and backward pass.

    Nothing is computed: a copy without storage is traced, in which attention appears as its matrix products. Kernels
    that fuse them keep fewer activations.

    Args:
        objective: What is trained; it stays untouched.
        shape: (3, H, W) of one transformed picture, or (T,) of the token numbers of a text.
        num_classes: Number of classes of the targets.

    Returns:
        Operations and bytes per image.
    """
    key = (structure_digest(objective), shape, num_classes)
    if key not in _counted:
        _counted[key] = _traced_cost(objective, shape, num_classes)
    return _counted[key]


def _traced_cost(objective: Objective, shape: tuple[int, ...], num_classes: int) -> TrainingCost:
    traced = copy.deepcopy(objective).to("meta")
    set_modes(traced)
    batch = Batch(
        inputs=_inputs(IMAGES, shape),
        targets=_targets(objective, num_classes),
        index=torch.zeros(IMAGES, dtype=torch.int64, device="meta"),
        progress=0.0,
        generator=torch.Generator(),
    )
    kept: dict[int, Tensor] = {}  # by storage, so that two views of one tensor count once

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = traced(batch).sum()
        torch.autograd.grad(loss, [p for p in traced.parameters() if p.requires_grad], allow_unused=True)
    standing = {tensor.untyped_storage()._cdata for tensor in [*traced.parameters(), *traced.buffers()]}
    activations = sum(tensor.untyped_storage().nbytes() for mark, tensor in kept.items() if mark not in standing)
    return TrainingCost(int(counter.get_total_flops()) // IMAGES, activations // IMAGES)


def _inputs(images: int, shape: tuple[int, ...]) -> Tensor:
    """Make inputs without storage: pictures are numbers in three dimensions or more, the tokens of texts in one."""
    return torch.empty((images, *shape), dtype=torch.int64 if len(shape) == 1 else None, device="meta")


def _targets(objective: Objective, num_classes: int) -> Tensor:
    if objective.needs_classes:
        return torch.zeros(IMAGES, dtype=torch.int64, device="meta")
    return torch.empty((IMAGES, num_classes), device="meta")


def training_memory(objective: Objective, plan: Plan, batch: int, cost: TrainingCost) -> int:
    """Count the bytes that a training step needs at once.

    Args:
        objective: What is trained.
        plan: Its optimiser keeps tensors of its own.
        batch: Images per step.
        cost: Of this objective.

    Returns:
        Weights, gradients, the optimiser's state and activations. What kernels use in passing is not counted.
    """
    weights = sum(tensor.nbytes for tensor in [*objective.parameters(), *objective.buffers()])
    trained = sum(tensor.nbytes for tensor in objective.parameters() if tensor.requires_grad)
    return weights + trained * (1 + plan.optimizer_tensors) + batch * cost.activations


def inference_flops(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Count a forward pass of one image.

    Args:
        network: Any module that takes (B, 3, H, W) pictures or (B, T) token numbers; it stays untouched.
        shape: (3, H, W) of one transformed picture, or (T,) of the token numbers of a text.

    Returns:
        Floating-point operations per image; a multiply-add counts as two.
    """
    traced = copy.deepcopy(network).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        traced(_inputs(1, shape))
    return int(counter.get_total_flops())
