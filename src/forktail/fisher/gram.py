"""Inner products of the per-image gradients of K one-task networks, unit by unit, in blocks of images.

What `forktail.theory.gram_table` reads, without ever holding the gradients of all images: a block of them is held, and
those of all later images pass by. Legend: m images, B of a chunk, K tasks, L units, (R, W) a tensor as a matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from forktail.backbones.forked import Forked
from forktail.errors import InputError
from forktail.fisher.capture import Capture
from forktail.fisher.gather import check_unmixed, evaluating, gradient_at, refuse_coupled
from forktail.fisher.inner_products import Rows, Whole, added, products, rows_of, stacked
from forktail.fisher.per_image import Batch, _check_alike, _check_trainable, _layout
from forktail.fisher.sources import Source, matrix_shape
from forktail.labels import TaskSplit
from forktail.losses._loss import Loss
from forktail.theory.gram import UnitGram

IntArray = npt.NDArray[np.int64]
# Numbers of images to the batches of these images, in this order; asked for more than once.
BatchesOf = Callable[[IntArray], Iterable[Batch]]

# What is done unasked: (K m)^2 P multiplications, and a table of eigenvalue problems of K m rows; each of the two takes
# about a minute of one processor core.
WORK, MOST = 2 * 10**12, 1024
HELD = 2**28  # entries of gradients that a block holds: 1 GB in float32


class Grams(NamedTuple):
    """What the coupled criterion reads of K Stage-1 networks.

    Args:
        units: Inner products of the stem and units 1..L, or of the last units alone, each of K tasks.
        decoders: K inner products of one task: its readout and classifier.
        images: (m,) the numbers of the images that they are of.
    """

    units: list[UnitGram]
    decoders: list[UnitGram]
    images: IntArray


def grams(
    networks: Sequence[Forked],
    losses: Sequence[Loss],
    split: TaskSplit,
    starts: Sequence[Forked],
    batches: BatchesOf,
    labels: npt.ArrayLike,
    *,
    images: int | None = None,
    layers: int | None = None,
    seed: int = 0,
    chunk_size: int = 64,
) -> Grams:
    """Take the inner products of per-image gradients, each task at its own network (docs/validation.md, section 5).

    With b images in a block there are K m^2 / (2 b) passes of an image through a network and (K m)^2 P / 2
    multiplications. The result depends on neither, up to the rounding of the network's own arithmetic.

    Args:
        networks: K networks of one task each, with the same backbone, at their solutions (Stage 1's).
        losses: K losses in nats, of the logits that are trained on.
        split: Which columns of the targets are task t's.
        starts: The same networks before training: positions are measured from here.
        batches: Numbers of images to their batches, ``(inputs, (B, C) float targets, None)``: evaluation transform,
            unmixed, the same at every call.
        labels: (N,) class of every image that there is.
        images: m, how many images to use; None is all N, but at most 1,024, and no more than keep (K m)^2 P within
            2e12, P the coordinates of one network. Fewer than N are drawn by `spread_over_classes`, and the result
            names them.
        layers: The number of last units to take, with the decoders; None, or L, is all of them and the stem.
        seed: Of the draw.
        chunk_size: Images that pass through the networks at once; less if their gradients would be too many.

    Returns:
        The inner products.

    Raises:
        InputError: More images or layers than there are, mixed targets, weights of images, networks that are not
            alike, or a parameter without gradient.
    """
    layouts = [_layout(network) for network in networks]
    _check_alike(networks, layouts)
    _check_trainable(networks, layouts)
    tensors = list(_tensors(networks, starts, layouts, _first_layer(len(layouts[0]) - 2, layers)))
    entries = sum(tensor.positions.numel() for tensor in tensors)  # of one image, all networks
    chosen = _chosen(np.asarray(labels), images, int((WORK / (entries * len(networks))) ** 0.5), seed)
    sums = _empty(tensors, len(networks), len(chosen))
    chunk_size = max(1, min(chunk_size, HELD // (4 * entries)))  # what passes by is held, too
    passes = _Passes(networks, losses, split, tensors, chunk_size)
    block = max(1, HELD // (entries * chunk_size)) * chunk_size
    with evaluating(networks):
        for first in range(0, len(chosen), block):
            mine = list(passes.of(batches, chosen, first, min(first + block, len(chosen))))
            for number, chunk in enumerate(mine):
                for other in mine[number:]:
                    _add(sums, tensors, chunk, other)
            for other in passes.of(batches, chosen, first + block, len(chosen)):
                for chunk in mine:
                    _add(sums, tensors, chunk, other)
    passes.refuse_missing()
    return Grams(sums[: -len(networks)], sums[-len(networks) :], chosen)


def spread_over_classes(labels: npt.ArrayLike, count: int, seed: int) -> IntArray:
    """Draw a systematic sample of images sorted by class: each class gets its share, rounded up or down.

    Every image is as likely as any other, so means over the sample are unbiased. A class with less than N / count
    images may be left out.

    Args:
        labels: (N,) classes.
        count: How many images, in 1..N.
        seed: Decides which.

    Returns:
        (count,) numbers of images, ascending.

    Example:
        >>> labels = np.array([1, 0, 0, 1, 0, 0])
        >>> sorted(labels[spread_over_classes(labels, 3, seed=0)].tolist())
        [0, 0, 1]
    """
    labels = np.asarray(labels)
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    places = (np.arange(count) + rng.random()) * (len(labels) / count)
    return np.sort(by_class[places.astype(np.int64)])


@dataclass(frozen=True, eq=False)
class _Tensor:
    """One tensor of one layer, or of one decoder: whose it is, and how far it moved."""

    target: int  # which of the sums
    members: list[tuple[int, str]]  # (network, parameter name)
    positions: Tensor  # (its networks, R, W)


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Gradients of some images, one row after the other for each network, of every tensor."""

    images: slice
    rows: list[Rows]


class _Passes:
    """Passes of images through all networks."""

    def __init__(
        self,
        networks: Sequence[Forked],
        losses: Sequence[Loss],
        split: TaskSplit,
        tensors: list[_Tensor],
        chunk_size: int,
    ) -> None:
        self._captures = [Capture(network) for network in networks]
        self._losses, self._split, self._tensors, self._chunk_size = losses, split, tensors, chunk_size
        self._wanted = {member for tensor in tensors for member in tensor.members}
        self._reached: set[tuple[int, str]] = set()
        self._checked = False

    def of(self, batches: BatchesOf, chosen: IntArray, start: int, stop: int) -> Iterator[_Chunk]:
        """Take the gradients of images ``start`` to ``stop`` of the chosen ones, chunk by chunk."""
        done = start
        for inputs, targets in self._inputs(batches, chosen[start:stop]):
            yield _Chunk(slice(done, done + len(targets)), self._gradients(inputs, targets))
            done += len(targets)
        if done != max(start, stop):
            raise InputError(f"batches of {done - start} images", expected=f"the {stop - start} that were asked for")

    def refuse_missing(self) -> None:
        """Refuse parameters that no image's loss depends on."""
        for _, name in sorted(self._wanted - self._reached):
            raise InputError(
                f"{name} gets no gradient",
                expected="a gradient for every trainable parameter",
                remedy="the network does not use it: remove it, or freeze it",
            )

    def _inputs(self, batches: BatchesOf, images: IntArray) -> Iterator[tuple[Tensor, Tensor]]:
        known: Iterable[Batch] = batches(images) if len(images) else []
        for inputs, targets, weights in known:
            if weights is not None:
                raise InputError("weights of images", expected="none: the risk is that of the training distribution")
            check_unmixed(targets)
            if not self._checked:
                for capture in self._captures:
                    refuse_coupled(capture, inputs)
                self._checked = True
            floats = targets.to(next(self._captures[0].network.parameters()).dtype)
            for first in range(0, len(inputs), self._chunk_size):
                yield inputs[first : first + self._chunk_size], floats[first : first + self._chunk_size]

    def _gradients(self, inputs: Tensor, targets: Tensor) -> list[Rows]:
        found: dict[tuple[int, str], Rows] = {}
        for task, (capture, loss) in enumerate(zip(self._captures, self._losses, strict=True)):

            def take(name: str, source: Source, task: int = task) -> None:
                if (task, name) not in self._wanted:
                    return
                with torch.no_grad():
                    rows = rows_of(source, self._shape(task, name)[0])
                    before = found.get((task, name))
                    found[task, name] = rows if before is None else added(before, rows)

            with capture.watching():
                outputs = capture.forward(inputs)
                own = targets[:, self._split.tasks[task].tolist()]
                capture.apart(outputs, gradient_at(loss, outputs, own), take)
        self._reached |= set(found)
        with torch.no_grad():
            # Each is let go of as soon as it is stacked.
            return [
                stacked([found.pop(member) if member in found else self._zeros(*member, inputs) for member in members])
                for members in (tensor.members for tensor in self._tensors)
            ]

    def _shape(self, task: int, name: str) -> tuple[int, ...]:
        return matrix_shape(self._captures[task].parameters[name].shape, batched=False)

    def _zeros(self, task: int, name: str, inputs: Tensor) -> Rows:
        return Whole(self._captures[task].parameters[name].new_zeros(len(inputs), *self._shape(task, name)))


def _first_layer(last: int, layers: int | None) -> int:
    """The first layer of the chain that counts; the stem is shared, and so counts, together with unit 1."""
    if layers is None or layers == last:
        return 0
    if not 0 <= layers < last:
        raise InputError(f"layers = {layers}", expected=f"0 to {last}, the number of last units")
    return last - layers + 1


def _tensors(
    networks: Sequence[Forked], starts: Sequence[Forked], layouts: list[list[list[str]]], first: int
) -> Iterator[_Tensor]:
    """List the tensors of the units for all networks together, and of each decoder."""
    tasks, top = list(range(len(networks))), len(layouts[0]) - 1
    groups = [(unit, tasks, unit) for unit in range(first, top)] + [(top, [task], top + task) for task in tasks]
    for layer, members, target in groups:
        for names in zip(*(layouts[task][layer] for task in members), strict=True):
            named = list(zip(members, names, strict=True))
            moved = [_moved(networks[task], starts[task], name) for task, name in named]
            yield _Tensor(target - first, named, torch.stack(moved))


def _moved(network: Forked, start: Forked, name: str) -> Tensor:
    ends, begins = network.get_parameter(name).detach(), dict(start.named_parameters()).get(name)
    if begins is None or begins.shape != ends.shape:
        raise InputError("starts that differ in shape from the networks", expected="the same before training")
    return (ends.double() - begins.detach().double()).view(matrix_shape(ends.shape, batched=False))


def _chosen(labels: IntArray, images: int | None, affordable: int, seed: int) -> IntArray:
    if images is not None and not 0 < images <= len(labels):
        raise InputError(f"images = {images}", expected=f"1 to {len(labels)}, as many as there are")
    count = min(len(labels), affordable, MOST) if images is None else images
    if count == 0:
        raise InputError(
            f"{len(labels)} images, networks too large for the gradients of one",
            expected="at least one image",
            remedy="take the last layers alone",
        )
    return spread_over_classes(labels, count, seed)


def _empty(tensors: list[_Tensor], num_tasks: int, num_images: int) -> list[UnitGram]:
    """Sums that are zero but for the positions, which are known."""
    sums = []
    for target in range(tensors[-1].target + 1):
        own = [tensor.positions.flatten(1).cpu() for tensor in tensors if tensor.target == target]
        tasks = 1 if target > tensors[-1].target - num_tasks else num_tasks
        positions = sum((u @ u.T for u in own), torch.zeros(tasks, tasks, dtype=torch.float64))
        moves = np.zeros((tasks, tasks, num_images))
        sums.append(UnitGram(np.zeros((tasks, tasks, num_images, num_images)), moves, positions.numpy()))
    return sums


def _add(sums: list[UnitGram], tensors: list[_Tensor], one: _Chunk, other: _Chunk) -> None:
    """Add what pairs of images of two chunks give; a chunk beside itself, also their products with the positions."""
    for tensor, mine, theirs in zip(tensors, one.rows, other.rows, strict=True):
        total, tasks = sums[tensor.target], len(tensor.members)
        found = products(mine, theirs).double().cpu().numpy()
        pairs = found.reshape(tasks, -1, tasks, other.images.stop - other.images.start).swapaxes(1, 2)
        total.gradients[:, :, one.images, other.images] += pairs
        if one is not other:
            total.gradients[:, :, other.images, one.images] += pairs.transpose(1, 0, 3, 2)
            continue
        moves = mine.along(tensor.positions).double().cpu().numpy()
        total.moves[:, :, one.images] += moves.reshape(tasks, -1, tasks).swapaxes(1, 2)
