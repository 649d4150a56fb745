"""From batches to sums: passes of K networks over the same images, joined tensor by tensor.

Legend: B images, C outputs, K networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from forktail.errors import InputError
from forktail.fisher.accumulate import Totals, accumulate
from forktail.fisher.capture import Capture
from forktail.fisher.sources import Dense, Source, Total, matrix_shape

# Differences between a batch and single images that rounding explains, relative to a tensor's largest square, and to
# that of the whole network for tensors whose gradient is zero but for rounding (the bias of attention's keys).
ROUNDING, NOTHING = 1e-2, 1e-9

LossOf = Callable[[Tensor, Any], Tensor]
LogitGradients = Callable[[Tensor], Iterable[Tensor]]


@dataclass(frozen=True, eq=False)
class Slot:
    """One tensor, aligned across networks.

    Args:
        members: ``(network, parameter name)`` of each network that has it.
        totals: Where its sums go, for each group of images.
    """

    members: list[tuple[int, str]]
    totals: list[Totals]


class Gathering:
    """Adds up what passes over images contribute; image i belongs to group ``i modulo groups``.

    Args:
        captures: Of K networks in evaluation mode.
        slots: Every trainable parameter of every network, in one slot each.
    """

    def __init__(self, captures: Sequence[Capture], slots: Sequence[Slot]) -> None:
        self.captures = captures
        self._slot_of = {member: slot for slot in slots for member in slot.members}
        self._reached: set[tuple[int, str]] = set()
        self._pieces: dict[tuple[int, str], list[Source]] = {}
        self._uses: dict[int, dict[str, int]] = {}
        self._weights: Tensor | None = None
        self._num_seen = self._num_images = 0

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Hold hooks on all networks."""
        with ExitStack() as stack:
            for capture in self.captures:
                stack.enter_context(capture.watching())
            yield

    def add(self, inputs: Any, logit_gradients: Sequence[LogitGradients], weights: Tensor | None) -> None:
        """Add the contributions of a batch.

        Args:
            inputs: What the networks take, images first.
            logit_gradients: For each network, its ``(B, C)`` outputs to gradients at them: one, or for a single
                network more, over which the squares are added.
            weights: ``(B,)``, r_i, or None.
        """
        with self._watching():
            self._add(inputs, logit_gradients, weights)

    def _add(self, inputs: Any, logit_gradients: Sequence[LogitGradients], weights: Tensor | None) -> None:
        """Take the networks in turn, so that only one holds its activations."""
        self._weights, self._pieces, self._uses = weights, {}, {}
        for task, (capture, gradients_at) in enumerate(zip(self.captures, logit_gradients, strict=True)):
            outputs = capture.forward(inputs)
            self._num_images, self._uses[task] = len(outputs), capture.uses()
            gradients = iter(gradients_at(outputs.detach()))
            following: Tensor | None = next(gradients)
            while following is not None:
                gradient, following = following, next(gradients, None)
                if following is not None and len(self.captures) > 1:
                    raise ValueError("several gradients at the outputs; expected one where there are several networks")
                capture.apart(outputs, gradient, self._taker(task), again=following is not None)
                if task == len(self.captures) - 1:
                    self._finish()
        self._num_seen += self._num_images

    def refuse_missing(self) -> None:
        """Refuse parameters that no image's loss depends on.

        Raises:
            InputError: Names the first of them.
        """
        for task, name in self._slot_of:
            if (task, name) not in self._reached:
                raise InputError(
                    f"{name} gets no gradient",
                    expected="a gradient for every trainable parameter",
                    remedy="the network does not use it: remove it, or freeze it",
                )

    def _taker(self, task: int) -> Callable[[str, Source], None]:
        def take(name: str, source: Source) -> None:
            self._pieces.setdefault((task, name), []).append(source)
            slot = self._slot_of[task, name]
            if all(self._is_whole(*member) for member in slot.members):
                self._close(slot)

        return take

    def _is_whole(self, task: int, name: str) -> bool:
        return task in self._uses and len(self._pieces.get((task, name), [])) == self._uses[task][name]

    def _finish(self) -> None:
        """Close the tensors of which some use got no gradient: it counts as zero."""
        while self._pieces:
            self._close(self._slot_of[next(iter(self._pieces))])

    def _close(self, slot: Slot) -> None:
        sources = []
        for member in slot.members:
            pieces = self._pieces.pop(member, [])
            parameter = self.captures[member[0]].parameters[member[1]]
            if pieces:
                self._reached.add(member)
            else:
                pieces = [Dense(parameter.new_zeros(self._num_images, *parameter.shape))]
            sources.append(pieces[0] if len(pieces) == 1 else Total(pieces, parameter.shape))
        num_groups = len(slot.totals)
        with torch.no_grad():
            for group, totals in enumerate(slot.totals):
                images = range((group - self._num_seen) % num_groups, self._num_images, num_groups)
                accumulate(sources, self._weights, totals, images)


def refuse_coupled(capture: Capture, inputs: Any) -> None:
    """Hold the squares that two images give in one batch to those of each image alone.

    What a formula or the generic way cannot see, such as statistics taken over the batch, shows here.

    Args:
        capture: Of a network in evaluation mode with ``(B, C)`` outputs; what it finds out of it is used again.
        inputs: Of at least one image; the first two are used.

    Raises:
        InputError: Names the first parameter whose squares differ.
    """
    network, parameters = capture.network, capture.parameters
    count = min(2, len(pytree.tree_leaves(inputs)[0]))
    totals = {
        name: Totals({(0, 0): torch.zeros(matrix_shape(p.shape, batched=False), dtype=p.dtype, device=p.device)})
        for name, p in parameters.items()
    }
    factors = [1.0, 2.0]  # not alike, so that images taken for one another show

    def gradients(outputs: Tensor) -> list[Tensor]:
        if outputs.ndim != 2:
            raise InputError(f"outputs of shape {tuple(outputs.shape)}", expected="(images, outputs)")
        return [outputs.new_tensor(factors[: len(outputs)])[:, None] * _direction(outputs)]

    gathering = Gathering([capture], [Slot([(0, name)], [total]) for name, total in totals.items()])
    gathering.add(pytree.tree_map(lambda values: values[:count], inputs), [gradients], None)
    expected = {name: torch.zeros_like(total.products[0, 0]) for name, total in totals.items()}
    for image in range(count):
        alone = pytree.tree_map(lambda values, i=image: values[i : i + 1], inputs)
        with torch.enable_grad():
            outputs = network(alone)
            value = (outputs * _direction(outputs)).sum() * factors[image]
        found = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
        for name, gradient in zip(parameters, found, strict=True):
            if gradient is not None:
                expected[name] += gradient.detach().square().reshape(expected[name].shape)
    largest = max(float(values.max()) for values in expected.values())
    for name, values in expected.items():
        difference = float((totals[name].products[0, 0] - values).abs().max())
        if not difference <= ROUNDING * float(values.max()) + NOTHING * largest:
            raise InputError(
                f"{name} has other gradients for an image in a batch than for the image alone",
                expected="a network that treats every image by itself",
                remedy="look for statistics over the batch, or for parameters used outside of modules",
            )


def _direction(outputs: Tensor) -> Tensor:
    """Choose some gradient at the outputs, without symmetry."""
    return torch.arange(outputs.shape[1], device=outputs.device).cos().to(outputs.dtype) + 0.3


def gradient_at(loss: LossOf, outputs: Tensor, targets: Any) -> Tensor:
    """Differentiate the sum of the images' losses by the network's outputs.

    Args:
        loss: Outputs and targets to ``(B,)`` losses.
        outputs: ``(B, C)``.
        targets: What the loss takes.

    Returns:
        ``(B, C)``.
    """
    values = outputs.detach().requires_grad_()
    with torch.enable_grad():
        total = loss(values, targets).sum()
    (found,) = torch.autograd.grad(total, [values])
    return found


def check_unmixed(targets: Tensor) -> None:
    """Refuse targets of mixed images: the square of their gradient is not a square of any image's.

    Args:
        targets: ``(B, C)`` floats.

    Raises:
        InputError: If an entry is neither 0 nor 1.
    """
    if not bool(((targets == 0) | (targets == 1)).all()):
        raise InputError(
            "targets between 0 and 1", expected="the labels of single images", remedy="turn Mixup and CutMix off"
        )


@contextmanager
def evaluating(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Switch to evaluation mode and back, every module to the mode that it had.

    Args:
        networks: Are switched.
    """
    modes = [(module, module.training) for network in networks for module in network.modules()]
    try:
        for network in networks:
            network.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training
