"""A network that shares its first layers between tasks and forks at a depth.

Legend: B images of a batch, C classes, K tasks, C_t classes of task t, L units, s shared depth, D features.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from forktail.backbones.classifiers import linear_classifier
from forktail.backbones.layered import Layered
from forktail.errors import InputError
from forktail.labels import TaskSplit


@final
class Forked(nn.Module):
    """Depth s shared by all tasks, then per task the other units, readout and linear classifier (paper eqs. 10, 11).

    The chain index i of a layer (0 the stem, 1..L the units) is part of its parameters' names: ``shared.{i}``,
    ``branches.{t}.layers.{i}``, ``branches.{t}.readout``, ``branches.{t}.classifier``. At s = 0 nothing is shared, at
    s = L the stem and every unit are. One task at s = L is an ordinary classifier.

    Args:
        backbone: The chain to start from; it is copied, once for the shared part and once per task for the rest.
        split: Which classes form which task.
        depth: s, in 0..L.
        seed: Decides the initial classifiers.

    Raises:
        InputError: If the backbone is not as deep as ``depth``.

    Example:
        >>> chain = Layered(nn.Flatten(), [nn.Linear(4, 4), nn.GELU()], nn.LayerNorm(4), num_features=4)
        >>> network = Forked(chain, TaskSplit(([2, 0], [1])), depth=1)
        >>> [tuple(scores.shape) for scores in network.task_scores(torch.zeros(5, 2, 2))]
        [(5, 2), (5, 1)]
        >>> network(torch.zeros(5, 2, 2)).shape
        torch.Size([5, 3])
    """

    class_order: Tensor

    def __init__(self, backbone: Layered, split: TaskSplit, depth: int, seed: int = 0) -> None:
        super().__init__()
        _check_depth(depth, backbone.depth)
        generator = torch.Generator().manual_seed(seed)
        layers = dict(enumerate([backbone.stem, *backbone.units]))
        own = {index: layers.pop(index) for index in _own_indices(depth, backbone.depth)}
        self.shared = _by_index(copy.deepcopy(layers))
        self.branches = nn.ModuleList(
            _Branch(
                copy.deepcopy(own),
                copy.deepcopy(backbone.readout),
                linear_classifier(backbone.num_features, task.size, generator),
            )
            for task in split.tasks
        )
        self.register_buffer("class_order", torch.from_numpy(split.order))
        self.train().to(next(backbone.parameters()))  # the device and type of the backbone, classifiers too

    @classmethod
    def single(cls, backbone: Layered, num_classes: int, seed: int = 0) -> Forked:
        """Build a network of one task: an ordinary classifier, or Stage 1 of one task.

        Args:
            backbone: The chain to start from; it is copied.
            num_classes: C_t; column j of the output is the task's j-th class.
            seed: Decides the initial classifier.

        Returns:
            The network, at depth L.

        Example:
            >>> chain = Layered(nn.Flatten(), [nn.Linear(4, 4)], nn.LayerNorm(4), num_features=4)
            >>> Forked.single(chain, 10)(torch.zeros(5, 2, 2)).shape
            torch.Size([5, 10])
        """
        return cls(backbone, TaskSplit.single(num_classes), backbone.depth, seed)

    @property
    def depth(self) -> int:
        """s, the number of shared units."""
        return max(len(self.shared) - 1, 0)

    @property
    def max_depth(self) -> int:
        """L, the number of units on the way of one task."""
        return len(self.shared) + len(self._branch(0).layers) - 1

    @property
    def num_tasks(self) -> int:
        """K."""
        return len(self.branches)

    @property
    def split(self) -> TaskSplit:
        """Which classes form which task, read from the saved class order."""
        sizes = [self._branch(task).classifier.out_features for task in range(self.num_tasks)]
        classes = torch.argsort(self.class_order).cpu().numpy()
        return TaskSplit(tuple(np.split(classes, np.cumsum(sizes)[:-1])))

    def task_scores(self, inputs: Any) -> list[Tensor]:
        """Compute every task's logits; the shared part runs once.

        Args:
            inputs: What the stem takes.

        Returns:
            K tensors of ``(B, C_t)`` logits, columns in the order of the split's task.
        """
        hidden = inputs
        for layer in self.shared.values():
            hidden = layer(hidden)
        return [branch(hidden) for branch in self.branches]

    def forward(self, inputs: Any) -> Tensor:
        """Compute the logits of all classes.

        Args:
            inputs: What the stem takes.

        Returns:
            ``(B, C)`` logits in class order.
        """
        return torch.cat(self.task_scores(inputs), dim=1)[:, self.class_order]

    def layer(self, task: int, index: int) -> nn.Module:
        """Find a layer on the way of one task.

        Args:
            task: t, in 0..K-1.
            index: Chain index: 0 the stem, 1..L the units, L + 1 the readout.

        Returns:
            The module itself, shared with other tasks if ``index <= s`` and s >= 1.

        Raises:
            ValueError: If there is no layer with this index.
        """
        branch = self._branch(task)
        if index == self.max_depth + 1:
            return branch.readout
        for layers in (self.shared, branch.layers):
            if str(index) in layers:
                return layers[str(index)]
        raise ValueError(f"no layer {index}; expected 0..{self.max_depth + 1}")

    def classifier(self, task: int) -> nn.Linear:
        """Find a task's last linear map.

        Args:
            task: t, in 0..K-1.

        Returns:
            The map from D features to C_t logits.
        """
        return self._branch(task).classifier

    def path(self, task: int) -> Layered:
        """Follow one task from the inputs to its features.

        Args:
            task: t, in 0..K-1.

        Returns:
            A chain of the same modules, not of copies.
        """
        stem, *units = [self.layer(task, index) for index in range(self.max_depth + 1)]
        classifier = self.classifier(task)
        return Layered(stem, units, self.layer(task, self.max_depth + 1), num_features=classifier.in_features)

    def unit_of(self, parameter_name: str) -> int:
        """Say to which layer a parameter belongs.

        Args:
            parameter_name: A name as in ``named_parameters()``.

        Returns:
            Chain index: 0 for the stem, 1..L for a unit, L + 1 for a readout or a classifier.
        """
        part, *rest = parameter_name.split(".")
        if part == "shared":
            return int(rest[0])
        return int(rest[2]) if rest[1] == "layers" else self.max_depth + 1

    def _branch(self, task: int) -> _Branch:
        branch = self.branches[task]
        assert isinstance(branch, _Branch)
        return branch


def fork(shared: Forked, decoders: Sequence[Forked] | None, depth: int) -> Forked:
    """Assemble Stage 3's network: an encoder of Stage 2 under the decoders of Stage 1 (paper eq. 15).

    Args:
        shared: Stage 2's network of K tasks. Its first ``depth`` units become the encoder, with the stem if
            ``depth >= 1``.
        decoders: K networks of one task each, Stage 1's; task t's other layers come from ``decoders[t]``. None takes
            them from ``shared`` itself, a copy for every task.
        depth: s, in 0..L. At 0 each task is its decoder's whole network.

    Returns:
        A new network; every parameter equals its source bit for bit, and the sources are left as they were.

    Raises:
        InputError: If the decoders do not fit the tasks of ``shared``, or ``shared`` does not share so many units.

    Example:
        >>> chain = Layered(nn.Flatten(), [nn.Linear(4, 4), nn.GELU()], nn.LayerNorm(4), num_features=4)
        >>> joint = Forked(chain, TaskSplit(([2, 0], [1])), depth=2)
        >>> alone = [Forked.single(chain, 2), Forked.single(chain, 1)]
        >>> fork(joint, alone, depth=1).depth
        1
    """
    _check_depth(depth, shared.depth)
    sources = [(shared, task) for task in range(shared.num_tasks)]
    if decoders is not None:
        _check_decoders(shared, decoders)
        sources = [(decoder, 0) for decoder in decoders]
    network = Forked(shared.path(0), shared.split, depth)
    for task, (source, source_task) in enumerate(sources):
        for index in [*_own_indices(depth, network.max_depth), network.max_depth + 1]:
            _copy_state(source.layer(source_task, index), network.layer(task, index))
        _copy_state(source.classifier(source_task), network.classifier(task))
    return network


class _Branch(nn.Module):
    """What belongs to one task: the layers behind the fork, by chain index, then readout and classifier."""

    def __init__(self, layers: dict[int, nn.Module], readout: nn.Module, classifier: nn.Linear) -> None:
        super().__init__()
        self.layers = _by_index(layers)
        self.readout = readout
        self.classifier = classifier

    def forward(self, hidden: Any) -> Tensor:
        for layer in self.layers.values():
            hidden = layer(hidden)
        scores: Tensor = self.classifier(self.readout(hidden))
        return scores


def _own_indices(depth: int, max_depth: int) -> range:
    """List the layers that are not shared: the stem is among them only at s = 0, where nothing is shared."""
    return range(depth + 1 if depth else 0, max_depth + 1)


def _by_index(layers: dict[int, nn.Module]) -> nn.ModuleDict:
    return nn.ModuleDict({str(index): layer for index, layer in layers.items()})


def _copy_state(source: nn.Module, target: nn.Module) -> None:
    target.load_state_dict(source.state_dict())


def _check_depth(depth: int, max_depth: int) -> None:
    if not 0 <= depth <= max_depth:
        raise InputError(f"shared depth {depth}", expected=f"0 to {max_depth}, as many units as there are to share")


def _check_decoders(shared: Forked, decoders: Sequence[Forked]) -> None:
    expected = [task.size for task in shared.split.tasks]
    found = [decoder.classifier(0).out_features for decoder in decoders if decoder.num_tasks == 1]
    if found != expected or len(decoders) != len(expected):
        raise InputError(
            f"{len(decoders)} decoders, those of one task with {found} classes",
            expected=f"one network of one task for each task of the shared network, with {expected} classes",
        )
