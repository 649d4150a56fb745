"""Sums over images of true per-image gradients of K one-task networks, for every parameter.

Legend: N images, B of a batch, C classes, C_t of task t, K tasks, L units, d coordinates of one unit.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from forktail.backbones.forked import Forked
from forktail.errors import InputError
from forktail.labels import TaskSplit
from forktail.losses._loss import Loss

# inputs, (B, C) float targets of all classes, (B,) weights of the images in the evaluated risk (None: all 1)
Batch = tuple[Tensor, Tensor, Tensor | None]


@dataclass(frozen=True, eq=False)
class GradientSums:
    """Sums over images for one unit, all in float64: g_t is the gradient of one image's loss of task t.

    Args:
        images: N, the number of images summed.
        weight: ``sum_i r_i``, with r_i the weight of image i in the evaluated risk.
        first: ``(K, d)``, ``sum_i g_t``.
        products: ``(K, K, d)``, ``sum_i g_t g_u`` of the same image; its diagonal holds the squares.
        weighted: ``(K, d)``, ``sum_i r_i g_t^2``.

    Example:
        >>> sums = GradientSums.of([torch.tensor([[3.0], [1.0]]), torch.tensor([[2.0], [0.0]])], torch.ones(2))
        >>> sums.products[0, 1].item(), sums.merge(sums).products[0, 1].item()
        (6.0, 12.0)
    """

    images: int
    weight: float
    first: Tensor
    products: Tensor
    weighted: Tensor

    @classmethod
    def of(cls, gradients: Sequence[Tensor], weights: Tensor) -> GradientSums:
        """Sum the gradients of a few images.

        The few are summed in the gradients' own precision, which is what makes it fast; only the totals, to which
        every further image adds, need more.

        Args:
            gradients: K tensors ``(B, d)``, one row per image.
            weights: ``(B,)``, r_i.

        Returns:
            Their sums, in float64.
        """
        num_tasks, num_coordinates = len(gradients), gradients[0].shape[1]
        products = weights.new_empty(num_tasks, num_tasks, num_coordinates, dtype=torch.float64)
        weighted = weights.new_empty(num_tasks, num_coordinates, dtype=torch.float64)
        for t, u in itertools.combinations_with_replacement(range(num_tasks), 2):
            pairs = gradients[t] * gradients[u]
            products[t, u] = products[u, t] = pairs.sum(0)
            if t == u:
                weighted[t] = weights.to(pairs.dtype) @ pairs
        first = torch.stack([gradient.sum(0).double() for gradient in gradients])
        return cls(len(weights), float(weights.double().sum()), first, products, weighted)

    def merge(self, other: GradientSums) -> GradientSums:
        """Add the sums over other images: parts of the data, ranks, replicate groups.

        Args:
            other: Sums of the same unit.

        Returns:
            The sums over both.
        """
        return GradientSums(
            self.images + other.images,
            self.weight + other.weight,
            self.first + other.first,
            self.products + other.products,
            self.weighted + other.weighted,
        )


@dataclass(frozen=True, eq=False)
class NetworkSums:
    """The gradient sums of whole networks.

    Args:
        units: L + 1 sums of K tasks: stem, units 1..L, coordinates aligned across tasks.
        decoders: K sums of one task: its readout and classifier, which are never shared.
    """

    units: list[GradientSums]
    decoders: list[GradientSums]

    def merge(self, other: NetworkSums) -> NetworkSums:
        """Add the sums over other images.

        Args:
            other: Sums of the same networks.

        Returns:
            The sums over both.
        """
        return NetworkSums(
            [mine.merge(theirs) for mine, theirs in zip(self.units, other.units, strict=True)],
            [mine.merge(theirs) for mine, theirs in zip(self.decoders, other.decoders, strict=True)],
        )


def gradient_sums(
    networks: Sequence[Forked], losses: Sequence[Loss], split: TaskSplit, batches: Iterable[Batch], chunk_size: int = 16
) -> NetworkSums:
    """Sum squares and products of per-image gradients over a data set, each task at its own network.

    Dropout and stochastic depth are off meanwhile. The result depends on neither batch nor chunk size, up to the
    rounding of the network's own arithmetic.

    Args:
        networks: K networks of one task each, with the same backbone (Stage 1's).
        losses: K losses in nats, of the logits that are trained on (docs/theory.md, eq. 2).
        split: Which columns of the targets are task t's.
        batches: ``(inputs, (B, C) float targets, (B,) weights or None)``, on the networks' device; unmixed images.
        chunk_size: Images whose gradients are held at once: ``K x chunk_size`` times the parameters in memory.

    Returns:
        The sums, of every parameter.

    Raises:
        InputError: If there is no image, if the networks are not alike, or if a parameter gets no gradient: a value
            would be missing, and silence would be worse.
    """
    layouts = [_layout(network) for network in networks]
    _check_alike(networks, layouts)
    total: NetworkSums | None = None
    with _evaluating(networks), torch.enable_grad():
        for inputs, targets, weights in _chunks(batches, chunk_size):
            rows = [targets[:, task.tolist()] for task in split.tasks]
            if total is None:
                for network, loss, row in zip(networks, losses, rows, strict=True):
                    _check_complete(network, loss, inputs[:1], row[:1])
            gradients = [
                per_image_gradients(network, loss, inputs, row)
                for network, loss, row in zip(networks, losses, rows, strict=True)
            ]
            sums = _sum_by_layer(gradients, layouts, weights)
            total = sums if total is None else total.merge(sums)
    if total is None:
        raise InputError("no images to take gradients of", expected="at least one")
    return total


def per_image_gradients(network: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Compute each image's own gradient of its loss, for every parameter.

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


def _layout(network: Forked) -> list[list[str]]:
    """List the parameter names of stem, units 1..L, and last of readout and classifier together."""
    if network.num_tasks != 1:
        raise InputError(f"a network of {network.num_tasks} tasks", expected="one network per task, as in Stage 1")
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    layers = [[network.layer(0, index)] for index in range(network.max_depth + 1)]
    decoder = [network.layer(0, network.max_depth + 1), network.classifier(0)]
    layout = [[names[id(p)] for layer in group for p in layer.parameters()] for group in [*layers, decoder]]
    listed = [name for group in layout for name in group]
    for name in names.values():
        if listed.count(name) != 1:
            raise InputError(f"{name} stands in {listed.count(name)} layers", expected="every parameter in exactly one")
    return layout


def _check_alike(networks: Sequence[Forked], layouts: list[list[list[str]]]) -> None:
    def shapes(network: Forked, layout: list[list[str]]) -> list[list[torch.Size]]:
        return [[network.get_parameter(name).shape for name in group] for group in layout[:-1]]

    first = shapes(networks[0], layouts[0])
    if any(shapes(network, layout) != first for network, layout in zip(networks, layouts, strict=True)):
        raise InputError("the tasks' networks have different backbones", expected="the same one for every task")


def _check_complete(network: Forked, loss: Loss, inputs: Tensor, targets: Tensor) -> None:
    """Refuse parameters that get no gradient; ``torch.func`` would silently report zeros for them."""
    parameters = dict(network.named_parameters())
    for name, parameter in parameters.items():
        if not parameter.requires_grad:
            raise InputError(f"{name} is frozen", expected="a gradient for every parameter", remedy="unfreeze it")
    value = loss(network(inputs), targets).sum()
    gradients = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
    for name, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            raise InputError(
                f"{name} gets no gradient",
                expected="a gradient for every parameter",
                remedy="the network does not use it: remove it from the backbone",
            )


def _chunks(batches: Iterable[Batch], chunk_size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    for inputs, targets, weights in batches:
        known = torch.ones(len(inputs), dtype=torch.float64, device=inputs.device) if weights is None else weights
        for first in range(0, len(inputs), chunk_size):
            part = slice(first, first + chunk_size)
            yield inputs[part], targets[part], known[part]


def _sum_by_layer(gradients: list[dict[str, Tensor]], layouts: list[list[list[str]]], weights: Tensor) -> NetworkSums:
    def flat(task: int, group: int) -> Tensor:
        return torch.cat([gradients[task][name].flatten(1) for name in layouts[task][group]], dim=1)

    tasks, num_units = range(len(layouts)), len(layouts[0]) - 1
    units = [GradientSums.of([flat(task, unit) for task in tasks], weights) for unit in range(num_units)]
    return NetworkSums(units, [GradientSums.of([flat(task, num_units)], weights) for task in tasks])


@contextmanager
def _evaluating(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Switch to evaluation mode and back, every module to the mode that it had."""
    modes = [(module, module.training) for network in networks for module in network.modules()]
    try:
        for network in networks:
            network.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training
