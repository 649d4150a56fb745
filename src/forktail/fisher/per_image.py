"""Sums over images of true per-image gradients of K one-task networks, for every parameter.

Legend: N images, B of a batch, C classes, C_t of task t, K tasks, L units, d coordinates of one unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

import torch
from torch import Tensor

from forktail.backbones.forked import Forked
from forktail.errors import InputError
from forktail.fisher.accumulate import Totals
from forktail.fisher.capture import Capture
from forktail.fisher.diagonal import Kind, logit_gradients
from forktail.fisher.gather import Gathering, LogitGradients, Slot, check_unmixed, evaluating, refuse_coupled
from forktail.fisher.sources import matrix_shape
from forktail.labels import TaskSplit
from forktail.losses._loss import Loss

# inputs, (B, C) targets of all classes, 0 or 1, (B,) weights of the images in the evaluated risk (None: all 1)
Batch = tuple[Tensor, Tensor, Tensor | None]


@dataclass(frozen=True, eq=False)
class GradientSums:
    """Sums over images for one unit: g_t is the gradient of one image's loss of task t, v_t its part of the curvature.

    Args:
        images: N, the number of images summed.
        weight: ``sum_i r_i``, with r_i the weight of image i in the evaluated risk.
        first: ``(K, d)``, ``sum_i g_t``.
        products: ``(K, K, d)``, ``sum_i g_t g_u`` of the same image; its diagonal holds the squares.
        weighted: ``(K, d)``, ``sum_i r_i v_t``; None where every r_i is 1.
        curvature: ``(K, d)``, ``sum_i v_t``; None for the empirical Fisher, where v_t = g_t^2.

    Example:
        >>> g = torch.tensor([[3.0], [2.0]])
        >>> sums = GradientSums(1, 1.0, g, products=g[:, None] * g[None])
        >>> sums.products[0, 1].item(), sums.merge(sums).products[0, 1].item()
        (6.0, 12.0)
    """

    images: int
    weight: float
    first: Tensor
    products: Tensor
    weighted: Tensor | None = None
    curvature: Tensor | None = None

    @classmethod
    def zeros(
        cls,
        num_tasks: int,
        num_coordinates: int,
        device: torch.device | None = None,
        *,
        weighted: bool = True,
        empirical: bool = True,
    ) -> GradientSums:
        """Start from no image.

        Args:
            num_tasks: K.
            num_coordinates: d.
            device: Where the sums are held.
            weighted: Whether images have weights.
            empirical: Whether the curvature is the empirical Fisher.

        Returns:
            Sums that are zero, in float64.
        """
        pairs = torch.zeros(num_tasks, num_tasks, num_coordinates, dtype=torch.float64, device=device)
        first, some, other = (torch.zeros_like(pairs[0]) for _ in range(3))
        return cls(0, 0.0, first, pairs, some if weighted else None, None if empirical else other)

    def merge(self, other: GradientSums) -> GradientSums:
        """Add the sums over other images: parts of the data, ranks, replicate groups.

        Args:
            other: Sums of the same unit.

        Returns:
            The sums over both.

        Raises:
            ValueError: If one of the two has weights or a curvature of its own and the other has not.
        """
        mine, theirs = self.tensors(), other.tensors()
        if mine.keys() != theirs.keys():
            raise ValueError(f"{list(theirs)} merged into {list(mine)}; expected sums of the same kind")
        added = {name: value + theirs[name] for name, value in mine.items()}
        return GradientSums(self.images + other.images, self.weight + other.weight, **added)

    def tensors(self) -> dict[str, Tensor]:
        """Name the sums that are there.

        Returns:
            By field.
        """
        named = {field.name: getattr(self, field.name) for field in fields(self)[2:]}
        return {name: value for name, value in named.items() if value is not None}

    def to(self, dtype: torch.dtype) -> GradientSums:
        """Hold the sums in memory of the processor, at some precision.

        Args:
            dtype: The precision.

        Returns:
            The same sums.
        """
        held = {name: value.to("cpu", dtype) for name, value in self.tensors().items()}
        return GradientSums(self.images, self.weight, **held)


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

    def to(self, dtype: torch.dtype) -> NetworkSums:
        """Hold the sums in memory of the processor, at some precision.

        Args:
            dtype: The precision.

        Returns:
            The same sums.
        """
        return NetworkSums(*([part.to(dtype) for part in parts] for parts in (self.units, self.decoders)))


def gradient_sums(
    networks: Sequence[Forked],
    losses: Sequence[Loss],
    split: TaskSplit,
    batches: Iterable[Batch],
    chunk_size: int = 64,
    *,
    kind: Kind = "empirical",
    seed: int = 0,
) -> NetworkSums:
    """Sum squares and products of per-image gradients over a data set, each task at its own network.

    Dropout and stochastic depth are off meanwhile. The result depends on neither batch nor chunk size, up to the
    rounding of the network's own arithmetic.

    Args:
        networks: K networks of one task each, with the same backbone (Stage 1's).
        losses: K losses in nats, of the logits that are trained on (docs/theory.md, eq. 2).
        split: Which columns of the targets are task t's.
        batches: ``(inputs, (B, C) float targets, (B,) weights or None)``, on the networks' device; unmixed images;
            all with weights or all without.
        chunk_size: Images that pass through the networks at once.
        kind: What the curvature is summed of, see `forktail.fisher.fisher`. What is not ``empirical`` takes another
            pass of the network, and for ``ggn`` C_t ways back.
        seed: Draws the labels of ``monte_carlo``.

    Returns:
        The sums, of every parameter, in float64.

    Raises:
        InputError: If there is no image, if targets are mixed, if the networks are not alike, or if a parameter gets
            no gradient: a value would be missing, and silence would be worse.
    """
    (found,) = gradient_sums_by_group(networks, losses, split, [batches], chunk_size, kind=kind, seed=seed)
    return found


def gradient_sums_by_group(
    networks: Sequence[Forked],
    losses: Sequence[Loss],
    split: TaskSplit,
    groups: Iterable[Iterable[Batch]],
    chunk_size: int = 64,
    *,
    kind: Kind = "empirical",
    seed: int = 0,
) -> Iterator[NetworkSums]:
    """Sum as `gradient_sums` does, one group of images after the other: for standard errors.

    Only one group's sums are held here at a time; together they merge to what `gradient_sums` returns of all images.

    Args:
        networks: See there, as for all that is not here.
        losses: See there.
        split: See there.
        groups: The batches of each group.
        chunk_size: See there.
        kind: See there.
        seed: See there.

    Yields:
        The sums of each group.

    Raises:
        InputError: See there; every group needs an image.
    """
    layouts = [_layout(network) for network in networks]
    _check_alike(networks, layouts)
    _check_trainable(networks, layouts)
    captures = [Capture(network) for network in networks]
    device, dtype = next(networks[0].parameters()).device, next(networks[0].parameters()).dtype
    # One generator a task, so that no label depends on how images are batched.
    draws = [torch.Generator(device).manual_seed(seed + task) for task in range(len(networks))]
    checked = False
    for batches in groups:
        making: _Making | None = None
        with evaluating(networks):
            for inputs, targets, weights in _chunks(batches, chunk_size):
                if not checked:
                    for capture in captures:
                        refuse_coupled(capture, inputs)
                    checked = True
                check_unmixed(targets)
                if making is None:
                    making = _Making(networks, layouts, captures, weighted=weights is not None, kind=kind)
                rows = [targets[:, task.tolist()].to(dtype) for task in split.tasks]
                gradients = [partial(_gradients, *one) for one in zip(losses, rows, draws, strict=True)]
                making.add(inputs, weights, gradients)
        if making is None:
            raise InputError("no images to take gradients of", expected="at least one, in every group")
        yield making.finished()


def _gradients(loss: Loss, targets: Tensor, draws: torch.Generator, kind: Kind, logits: Tensor) -> Iterator[Tensor]:
    return logit_gradients(loss, targets, kind, "bernoulli", 1, draws, logits)


def has_frozen_stem(network: Forked) -> bool:
    """Say whether the stem is as good as a part of the inputs: it has no coordinates, and the criterion none of it.

    Args:
        network: Of one task.

    Returns:
        True if none of the stem's parameters is trained.
    """
    return not any(parameter.requires_grad for parameter in network.layer(0, 0).parameters())


class _Making:
    """The sums of one group of images while they are made.

    Scores of all networks go through one gathering, which joins them; a curvature of its own through one for each.
    """

    def __init__(
        self,
        networks: Sequence[Forked],
        layouts: list[list[list[str]]],
        captures: Sequence[Capture],
        *,
        weighted: bool,
        kind: Kind,
    ) -> None:
        self.kind, self.weighted, self.images, self.weight = kind, weighted, 0, 0.0
        self.sums = _zeros(networks, layouts, weighted=weighted, empirical=kind == "empirical")
        tasks = list(range(len(networks)))
        self.scores = Gathering(captures, _slots(networks, layouts, self.sums))
        self.curvature = [
            Gathering([captures[task]], _curvature_slots(networks[task], layouts[task], self.sums, task))
            for task in tasks
            if kind != "empirical"
        ]

    def add(self, inputs: Tensor, weights: Tensor | None, gradients: Sequence[partial[Iterator[Tensor]]]) -> None:
        """Add a batch; ``gradients`` make, of a kind and a network's logits, gradients at them."""
        if self.weighted != (weights is not None):
            raise InputError("batches with weights and batches without", expected="weights for all images or for none")
        empirical: list[LogitGradients] = [partial(one, "empirical") for one in gradients]
        self.scores.add(inputs, empirical, weights)
        for gathering, one in zip(self.curvature, gradients, strict=False):  # there is none for the empirical Fisher
            gathering.add(inputs, [partial(one, self.kind)], weights)
        self.images += len(inputs)
        self.weight += len(inputs) if weights is None else float(weights.sum())

    def finished(self) -> NetworkSums:
        """Say of how many images the sums are, and mirror the products."""
        for gathering in (self.scores, *self.curvature):
            gathering.refuse_missing()
        for each in (*self.sums.units, *self.sums.decoders):
            for t in range(len(each.products)):
                for u in range(t):
                    each.products[t, u] = each.products[u, t]
        known = partial(replace, images=self.images, weight=self.weight)
        return NetworkSums(*([known(part) for part in parts] for parts in (self.sums.units, self.sums.decoders)))


def _zeros(
    networks: Sequence[Forked], layouts: list[list[list[str]]], *, weighted: bool, empirical: bool
) -> NetworkSums:
    def size(task: int, layer: int) -> int:
        return sum(networks[task].get_parameter(name).numel() for name in layouts[task][layer])

    device, top = next(networks[0].parameters()).device, len(layouts[0]) - 1
    zeros = partial(GradientSums.zeros, device=device, weighted=weighted, empirical=empirical)
    units = [zeros(len(networks), size(0, unit)) for unit in range(top)]
    return NetworkSums(units, [zeros(1, size(task, top)) for task in range(len(networks))])


def _slots(networks: Sequence[Forked], layouts: list[list[list[str]]], sums: NetworkSums) -> list[Slot]:
    """Give every tensor its place in the flat sums: of units one slot for all tasks, of decoders one for each."""
    tasks, top = list(range(len(networks))), len(layouts[0]) - 1
    slots: list[Slot] = []
    for unit in range(top):
        slots += _slots_of_layer(networks, layouts, tasks, unit, sums.units[unit])
    for task in tasks:
        slots += _slots_of_layer(networks, layouts, [task], top, sums.decoders[task])
    return slots


def _slots_of_layer(
    networks: Sequence[Forked], layouts: list[list[list[str]]], tasks: list[int], layer: int, sums: GradientSums
) -> Iterator[Slot]:
    names = zip(*(layouts[task][layer] for task in tasks), strict=True)
    for named, (place, shape) in zip(names, _places(networks[tasks[0]], layouts[tasks[0]][layer]), strict=True):
        yield Slot(list(zip(tasks, named, strict=True)), [_score_totals(sums, place, shape)])


def _curvature_slots(network: Forked, layout: list[list[str]], sums: NetworkSums, task: int) -> list[Slot]:
    """Give every tensor of one network its place in the sums of its curvature."""
    layers = [(unit, task) for unit in sums.units] + [(sums.decoders[task], 0)]
    return [
        Slot([(0, name)], [_curvature_totals(each, row, place, shape)])
        for (each, row), names in zip(layers, layout, strict=True)
        for name, (place, shape) in zip(names, _places(network, names), strict=True)
    ]


def _places(network: Forked, names: Sequence[str]) -> Iterator[tuple[slice, tuple[int, ...]]]:
    """Lay the tensors of a layer one behind the other: the place of each, as a matrix of which shape."""
    first = 0
    for name in names:
        shape = network.get_parameter(name).shape
        yield slice(first, first + shape.numel()), matrix_shape(shape, batched=False)
        first += shape.numel()


def _score_totals(sums: GradientSums, place: slice, matrix: tuple[int, ...]) -> Totals:
    tasks = range(len(sums.first))
    return Totals(
        {(t, u): sums.products[t, u, place].view(matrix) for t in tasks for u in tasks if t <= u},
        [sums.first[task, place].view(matrix) for task in tasks],
        None
        if sums.weighted is None or sums.curvature is not None
        else [sums.weighted[task, place].view(matrix) for task in tasks],
    )


def _curvature_totals(sums: GradientSums, row: int, place: slice, matrix: tuple[int, ...]) -> Totals:
    assert sums.curvature is not None
    weighted = None if sums.weighted is None else [sums.weighted[row, place].view(matrix)]
    return Totals({(0, 0): sums.curvature[row, place].view(matrix)}, weighted=weighted)


def _layout(network: Forked) -> list[list[str]]:
    """List the parameter names of stem (unless it is frozen), units 1..L, and last of readout with classifier."""
    if network.num_tasks != 1:
        raise InputError(f"a network of {network.num_tasks} tasks", expected="one network per task, as in Stage 1")
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    layers = [[network.layer(0, index)] for index in range(network.max_depth + 1)]
    decoder = [network.layer(0, network.max_depth + 1), network.classifier(0)]
    layout = [[names[id(p)] for layer in group for p in layer.parameters()] for group in [*layers, decoder]]
    listed = [name for group in layout for name in group]
    if has_frozen_stem(network):
        layout[0] = []
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


def _check_trainable(networks: Sequence[Forked], layouts: list[list[list[str]]]) -> None:
    for network, layout in zip(networks, layouts, strict=True):
        for name in [name for group in layout for name in group]:
            if not network.get_parameter(name).requires_grad:
                raise InputError(f"{name} is frozen", expected="a gradient for every parameter", remedy="unfreeze it")


def _chunks(batches: Iterable[Batch], chunk_size: int) -> Iterator[Batch]:
    for inputs, targets, weights in batches:
        known = None if weights is None else weights.detach().double().cpu()
        for first in range(0, len(inputs), chunk_size):
            part = slice(first, first + chunk_size)
            yield inputs[part], targets[part], None if known is None else known[part]
