"""What the selection criterion reads of the Stage-1 networks: measured in one pass over all images, and kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from forktail.backbones.forked import Forked
from forktail.data.images import Images
from forktail.fisher.diagonal import Kind
from forktail.fisher.groups import stratified_groups
from forktail.fisher.moments import GroupedMoments, moments
from forktail.fisher.per_image import Batch
from forktail.fisher.store import packed, unpacked
from forktail.labels import TaskSplit
from forktail.methods._method import Problem
from forktail.methods._tasks import TASKS, specialist, task_losses
from forktail.training.cost import inference_flops
from forktail.training.engine import Arrays, Engine
from forktail.training.randomness import seed_of
from forktail.training.stage import state_digest
from forktail.training.stream import evaluation_batches

BATCH = 64
MOST_GROUP_BYTES = 2 * 10**9  # of the sums of all groups together


@final
@dataclass(frozen=True)
class Measurement:
    """Distance of the Stage-1 solutions, and curvature and scores there or elsewhere (docs/theory, section 2).

    All images count, whatever Stage 1 saw: these are the moments of the losses that Stage 2 weighs.

    Args:
        problem: The problem.
        engine: Keeps what is measured.
        tau: Strength of the logit adjustment.
        fisher: What the curvature is estimated with.
        uniform: Whether the risk is that under a uniform class prior instead of the training prior.
        groups: Into how many groups of images the sums are split, for standard errors; 0 for none.
    """

    problem: Problem
    engine: Engine
    tau: float
    fisher: Kind
    uniform: bool
    groups: int

    def flops(self) -> float:
        """Count a forward and a backward pass of both networks over all images, and what another Fisher adds."""
        return sum(self._flops_of(task) for task in range(len(TASKS)))

    def _flops_of(self, task: int) -> float:
        images = self._images
        objective = specialist(self.problem, task, self.tau)
        both = self.engine.flops_per_epoch(objective, self.problem.train)
        if self.fisher == "empirical":
            return both
        forward = len(images) * inference_flops(objective.network, tuple(images[0].shape))
        ways_back = len(self.problem.split.tasks[task]) if self.fisher == "ggn" else 1
        return both + forward + ways_back * (both - forward)

    def of(self, specialists: Sequence[Forked], networks: Sequence[Forked] | None = None) -> GroupedMoments:
        """Measure, or load what the very same networks and images gave.

        Args:
            specialists: The Stage-1 networks, whose distance counts.
            networks: Where gradients are taken, one network per task; None is the Stage-1 networks.

        Returns:
            The moments, with the sums of groups unless a note says why not.
        """
        problem, engine = self.problem, self.engine
        starts = [problem.network(TaskSplit.single(len(classes))) for classes in problem.split.tasks]
        losses = task_losses(problem, self.tau)
        seed = seed_of(engine.seed, "moments")
        num_groups = self._affordable(specialists)
        places = specialists if networks is None else networks
        parts = stratified_groups(problem.train.labels, max(1, num_groups), seed)

        def measure() -> Arrays:
            device = engine.runtime.device
            at, ends, here = ([one.to(device) for one in several] for several in (places, specialists, starts))
            on_device = [loss.to(device) for loss in losses]
            groups = self._batches(parts)
            return packed(
                moments(at, on_device, problem.split, here, groups, kind=self.fisher, seed=seed, solutions=ends)
            )

        inputs = ["uniform" if self.uniform else "train", self.fisher, (num_groups, seed), *self.inputs(specialists)]
        inputs += [] if networks is None else [state_digest(network) for network in networks]
        memory = _memory([*specialists, *(networks or [])], self._rows, num_groups)
        return unpacked(engine.keep("moments", inputs, measure, flops=self.flops(), memory=memory))

    def inputs(self, specialists: Sequence[Forked]) -> list[object]:
        """Name what every analysis of the Stage-1 networks depends on.

        Args:
            specialists: The Stage-1 networks.

        Returns:
            Classes of the tasks, digests of networks, starts and losses, and the images.
        """
        problem = self.problem
        starts = [problem.network(TaskSplit.single(len(classes))) for classes in problem.split.tasks]
        modules = [*specialists, *starts, *task_losses(problem, self.tau)]
        tasks = [task.tolist() for task in problem.split.tasks]
        return [tasks, *(state_digest(module) for module in modules), self._images.fingerprint]

    def batches_of(self, index: npt.NDArray[np.int64]) -> Iterator[Batch]:
        """Read some of the images, in this order, each as often as it is asked for.

        Args:
            index: Numbers of training images.

        Yields:
            Inputs without augmentation, one-hot targets, no weights.
        """
        num_classes, device = self.problem.counts.num_classes, self.engine.runtime.device
        for inputs, labels, _ in evaluation_batches(self._images.subset(index), BATCH):
            yield inputs.to(device), one_hot(labels, num_classes).to(device, inputs.dtype), None

    @property
    def _images(self) -> Images:
        return self.problem.train.with_transform(self.problem.preprocess)

    @property
    def _rows(self) -> int:
        """Sums per shared parameter: of gradients and of products; of weighted and of other squares where needed."""
        num_tasks = len(TASKS)
        return num_tasks + num_tasks**2 + num_tasks * self.uniform + num_tasks * (self.fisher != "empirical")

    def _affordable(self, specialists: Sequence[Forked]) -> int:
        """Say how many groups there are to be, and tell the user where there are none although some were asked for."""
        images, needed = len(self.problem.train), self.groups * _group_bytes(specialists, self._rows)
        reason = ""
        if images < self.groups:
            reason = f"there are only {images} training images for {self.groups} groups"
        elif needed > MOST_GROUP_BYTES:
            reason = (
                f"the sums of {self.groups} groups of images take {needed / 1e9:.2g} GB, more than the "
                f"{MOST_GROUP_BYTES / 1e9:g} GB that are allowed"
            )
        if not reason:
            return self.groups
        self.engine.note(f"the selection has no standard errors: {reason}; lower method.groups, or set it to 0")
        return 0

    def _batches(self, parts: Sequence[np.ndarray]) -> Iterator[Iterator[Batch]]:
        """Go through all images once, group after group: inputs, one-hot targets, weight in the evaluated risk."""
        progress, total, seen = self.engine.progress, len(self.problem.train), 0
        progress.begin("moments", 0, total)
        for part in parts:
            yield self._batches_of(self._images.subset(part), seen)
            seen += len(part)
        progress.end(f"{total} images")

    def _batches_of(self, images: Images, seen: int) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        counts, device = self.problem.counts, self.engine.runtime.device
        ratio = torch.from_numpy(1 / (counts.num_classes * counts.prior))  # uniform prior over training prior
        for inputs, labels, index in evaluation_batches(images, BATCH):
            weights = ratio[labels].to(device) if self.uniform else None
            yield inputs.to(device), one_hot(labels, counts.num_classes).to(device, inputs.dtype), weights
            self.engine.progress.advance(seen + int(index[-1]) + 1)


def _coordinates(specialists: Sequence[Forked]) -> int:
    return max(sum(parameter.numel() for parameter in network.parameters()) for network in specialists)


def _group_bytes(specialists: Sequence[Forked], rows: int) -> int:
    """Bytes of the sums of one group, in float32."""
    return 4 * rows * _coordinates(specialists)


def _memory(specialists: Sequence[Forked], rows: int, num_groups: int) -> int:
    """Bytes of the networks with their starts, of the sums and of the moments, without activations.

    In float64 there are the sums of one group, of those before, and of both together while they are added.
    """
    networks = 2 * sum(parameter.nbytes for network in specialists for parameter in network.parameters())
    return networks + 3 * 8 * rows * _coordinates(specialists) + num_groups * _group_bytes(specialists, rows)
