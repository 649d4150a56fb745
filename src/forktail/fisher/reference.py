"""The slow, obvious ways to the gradients and their sums: the oracles that the fast way is held to."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from forktail.backbones.forked import Forked
from forktail.fisher.per_image import Batch, GradientSums, NetworkSums
from forktail.labels import TaskSplit
from forktail.losses._loss import Loss


def reference_sums(
    networks: Sequence[Forked], losses: Sequence[Loss], split: TaskSplit, batches: Iterable[Batch]
) -> NetworkSums:
    """Compute what ``gradient_sums`` does, one image at a time, in float64, by ordinary backpropagation.

    Args:
        networks: K networks of one task each, with the same backbone; they are copied.
        losses: K losses per image.
        split: Which columns of the targets are task t's.
        batches: ``(inputs, (B, C) float targets, (B,) weights or None)``.

    Returns:
        The sums, of every parameter.
    """
    networks = [copy.deepcopy(network).double().eval() for network in networks]
    losses = [copy.deepcopy(loss).double() for loss in losses]
    depth = networks[0].max_depth
    units: list[list[GradientSums]] = [[] for _ in range(depth + 1)]
    decoders: list[list[GradientSums]] = [[] for _ in networks]
    for inputs, targets, weights in batches:
        for i in range(len(inputs)):
            weight = 1.0 if weights is None else float(weights[i])
            values = []
            for network, loss, classes in zip(networks, losses, split.tasks, strict=True):
                target = targets[i : i + 1, classes.tolist()].double()
                values.append(loss(network(inputs[i : i + 1].double()), target)[0])
            for index in range(depth + 1):
                layers = [network.layer(0, index) for network in networks]
                units[index].append(
                    _one_image([_gradient(v, [m]) for v, m in zip(values, layers, strict=True)], weight)
                )
            for task, network in enumerate(networks):
                decoder = [network.layer(0, depth + 1), network.classifier(0)]
                decoders[task].append(_one_image([_gradient(values[task], decoder)], weight))
    return NetworkSums([_add(sums) for sums in units], [_add(sums) for sums in decoders])


def per_image_gradients(network: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Compute each image's own gradient of its loss by ``torch.func``, all held at once.

    Args:
        network: Maps inputs to ``(B, C_t)`` logits; should be in evaluation mode.
        loss: A loss per image.
        inputs: ``(B, ...)``.
        targets: ``(B, C_t)`` floats.

    Returns:
        Per parameter name a tensor of shape ``(B, *parameter.shape)``.

    Example:
        >>> from forktail.losses.binary_cross_entropy import BinaryCrossEntropy
        >>> network = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.zeros_(network.weight)
        >>> images = torch.tensor([[2.0, 0.0], [0.0, 4.0]])
        >>> per_image_gradients(network, BinaryCrossEntropy(), images, torch.tensor([[0.0], [1.0]]))["weight"]
        tensor([[[ 1.,  0.]],
                [[ 0., -2.]]])
    """

    def image_loss(parameters: dict[str, Tensor], image: Tensor, target: Tensor) -> Tensor:
        logits = functional_call(network, parameters, (image[None],))
        value: Tensor = loss(logits, target[None])[0]
        return value

    parameters = {name: parameter.detach() for name, parameter in network.named_parameters()}
    # The fused attention kernels have no rule for vmap and would run image by image.
    with sdpa_kernel(SDPBackend.MATH):
        gradients: dict[str, Tensor] = vmap(grad(image_loss), in_dims=(None, 0, 0))(parameters, inputs, targets)
    return gradients


def _gradient(value: Tensor, modules: list[nn.Module]) -> Tensor:
    parameters = [parameter for module in modules for parameter in module.parameters()]
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, parameters, retain_graph=True)])


def _one_image(gradients: list[Tensor], weight: float) -> GradientSums:
    """Write the definition out for one image, given its gradient in each task."""
    return GradientSums(
        images=1,
        weight=weight,
        first=torch.stack(gradients),
        products=torch.stack([torch.stack([g * h for h in gradients]) for g in gradients]),
        weighted=torch.stack([weight * g * g for g in gradients]),
    )


def _add(sums: list[GradientSums]) -> GradientSums:
    total, *others = sums
    for other in others:
        total = total.merge(other)
    return total
