"""Sums over images of true per-image gradients of K one-task networks, for every parameter.

Legend: N images, B of a batch, C classes, C_t of task t, K tasks, L units, d coordinates of one unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from forktail.backbones.forked import Forked
from forktail.errors import InputError
from forktail.fisher.accumulate import Totals
from forktail.fisher.capture import Capture
from forktail.fisher.gather import Gathering, Slot, check_unmixed, evaluating, gradient_at, refuse_coupled
from forktail.fisher.sources import matrix_shape
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
        >>> g = torch.tensor([[3.0], [2.0]])
        >>> sums = GradientSums(1, 1.0, g, products=g[:, None] * g[None], weighted=g * g)
        >>> sums.products[0, 1].item(), sums.merge(sums).products[0, 1].item()
        (6.0, 12.0)
    """

    images: int
    weight: float
    first: Tensor
    products: Tensor
    weighted: Tensor

    @classmethod
    def zeros(cls, num_tasks: int, num_coordinates: int, device: torch.device | None = None) -> GradientSums:
        """Start from no image.

        Args:
            num_tasks: K.
            num_coordinates: d.
            device: Where the sums are held.

        Returns:
            Sums that are zero.
        """
        pairs = torch.zeros(num_tasks, num_tasks, num_coordinates, dtype=torch.float64, device=device)
        return cls(0, 0.0, torch.zeros_like(pairs[0]), pairs, torch.zeros_like(pairs[0]))

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
    networks: Sequence[Forked], losses: Sequence[Loss], split: TaskSplit, batches: Iterable[Batch], chunk_size: int = 64
) -> NetworkSums:
    """Sum squares and products of per-image gradients over a data set, each task at its own network.

    Dropout and stochastic depth are off meanwhile. The result depends on neither batch nor chunk size, up to the
    rounding of the network's own arithmetic.

    Args:
        networks: K networks of one task each, with the same backbone (Stage 1's).
        losses: K losses in nats, of the logits that are trained on (docs/theory.md, eq. 2).
        split: Which columns of the targets are task t's.
        batches: ``(inputs, (B, C) float targets, (B,) weights or None)``, on the networks' device; unmixed images.
        chunk_size: Images that pass through the networks at once.

    Returns:
        The sums, of every parameter.

    Raises:
        InputError: If there is no image, if targets are mixed, if the networks are not alike, or if a parameter gets
            no gradient: a value would be missing, and silence would be worse.
    """
    (found,) = gradient_sums_by_group(networks, losses, split, batches, groups=1, chunk_size=chunk_size)
    return found


def gradient_sums_by_group(
    networks: Sequence[Forked],
    losses: Sequence[Loss],
    split: TaskSplit,
    batches: Iterable[Batch],
    *,
    groups: int,
    chunk_size: int = 64,
) -> list[NetworkSums]:
    """Sum as `gradient_sums` does, for groups of images apart: for standard errors.

    Image i belongs to group ``i modulo groups``; the groups merge to what `gradient_sums` returns.

    Args:
        networks: See there, as for all that is not here.
        losses: See there.
        split: See there.
        batches: See there.
        groups: How many; each takes memory for its own sums.
        chunk_size: See there.

    Returns:
        The sums of each group.

    Raises:
        InputError: See there, or if there are fewer images than groups.
    """
    layouts = [_layout(network) for network in networks]
    _check_alike(networks, layouts)
    _check_trainable(networks)
    empty = [_zeros(networks, layouts) for _ in range(groups)]
    captures = [Capture(network) for network in networks]
    gathering = Gathering(captures, _slots(networks, layouts, empty))
    num_images, weight, seen = [0] * groups, [0.0] * groups, 0
    with evaluating(networks):
        for inputs, targets, weights in _chunks(batches, chunk_size):
            if seen == 0:
                for capture in captures:
                    refuse_coupled(capture, inputs)
            check_unmixed(targets)
            rows = [targets[:, task.tolist()] for task in split.tasks]
            gradients = [partial(_gradient, loss, row) for loss, row in zip(losses, rows, strict=True)]
            gathering.add(inputs, gradients, weights)
            for group in range(groups):
                own = weights[(group - seen) % groups :: groups]
                num_images[group] += len(own)
                weight[group] += float(own.sum())
            seen += len(weights)
    if seen < groups:
        raise InputError(
            "no images to take gradients of" if seen == 0 else f"{seen} images in {groups} groups",
            expected="at least one" if groups == 1 else f"at least {groups}, one per group",
        )
    gathering.refuse_missing()
    return [
        NetworkSums(*(_counted(part, images, total) for part in (sums.units, sums.decoders)))
        for sums, images, total in zip(empty, num_images, weight, strict=True)
    ]


def _gradient(loss: Loss, targets: Tensor, logits: Tensor) -> list[Tensor]:
    return [gradient_at(loss, logits, targets)]


def _counted(sums: list[GradientSums], images: int, weight: float) -> list[GradientSums]:
    """Say of how many images the sums are, and mirror the products."""
    for each in sums:
        for t in range(len(each.products)):
            for u in range(t):
                each.products[t, u] = each.products[u, t]
    return [replace(each, images=images, weight=weight) for each in sums]


def _zeros(networks: Sequence[Forked], layouts: list[list[list[str]]]) -> NetworkSums:
    def size(task: int, group: int) -> int:
        return sum(networks[task].get_parameter(name).numel() for name in layouts[task][group])

    device, top = next(networks[0].parameters()).device, len(layouts[0]) - 1
    units = [GradientSums.zeros(len(networks), size(0, unit), device) for unit in range(top)]
    return NetworkSums(units, [GradientSums.zeros(1, size(task, top), device) for task in range(len(networks))])


def _slots(networks: Sequence[Forked], layouts: list[list[list[str]]], sums: list[NetworkSums]) -> list[Slot]:
    """Give every tensor its place in the flat sums: of units one slot for all tasks, of decoders one for each."""
    tasks, top = list(range(len(networks))), len(layouts[0]) - 1
    slots: list[Slot] = []
    for unit in range(top):
        slots += _slots_of_layer(networks, layouts, tasks, unit, [each.units[unit] for each in sums])
    for task in tasks:
        slots += _slots_of_layer(networks, layouts, [task], top, [each.decoders[task] for each in sums])
    return slots


def _slots_of_layer(
    networks: Sequence[Forked], layouts: list[list[list[str]]], tasks: list[int], layer: int, sums: list[GradientSums]
) -> Iterator[Slot]:
    first = 0
    for names in zip(*(layouts[task][layer] for task in tasks), strict=True):
        shape = networks[tasks[0]].get_parameter(names[0]).shape
        place = slice(first, first + shape.numel())
        yield Slot(list(zip(tasks, names, strict=True)), [_totals(each, place, shape) for each in sums])
        first = place.stop


def _totals(sums: GradientSums, place: slice, shape: torch.Size) -> Totals:
    matrix = matrix_shape(shape, batched=False)
    tasks = range(len(sums.first))
    return Totals(
        {(t, u): sums.products[t, u, place].view(matrix) for t in tasks for u in tasks if t <= u},
        [sums.first[task, place].view(matrix) for task in tasks],
        [sums.weighted[task, place].view(matrix) for task in tasks],
    )


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


def _check_trainable(networks: Sequence[Forked]) -> None:
    for network in networks:
        for name, parameter in network.named_parameters():
            if not parameter.requires_grad:
                raise InputError(f"{name} is frozen", expected="a gradient for every parameter", remedy="unfreeze it")


def _chunks(batches: Iterable[Batch], chunk_size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    for inputs, targets, weights in batches:
        known = torch.ones(len(inputs), dtype=torch.float64) if weights is None else weights.detach().double().cpu()
        for first in range(0, len(inputs), chunk_size):
            part = slice(first, first + chunk_size)
            yield inputs[part], targets[part], known[part]
