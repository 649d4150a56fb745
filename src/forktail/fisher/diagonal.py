"""The diagonal Fisher information of any network: for pruning, merging, continual learning, and this library.

Legend: N images, B of a batch, C outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from forktail.errors import InputError
from forktail.fisher.accumulate import Totals
from forktail.fisher.capture import Capture
from forktail.fisher.gather import Gathering, LossOf, Slot, check_unmixed, evaluating, gradient_at, refuse_coupled
from forktail.fisher.sources import matrix_shape

# Half precision decides no label, and no loss that is a likelihood is off by more.
TOLERANCE = 1e-2

Kind = Literal["empirical", "monte_carlo", "ggn"]
Outputs = Literal["bernoulli", "softmax"]


@dataclass(frozen=True, eq=False)
class Fisher:
    """Sums over images of squared per-image gradients, for every trainable parameter.

    Args:
        images: N, the number of images summed.
        weight: ``sum_i r_i``, with r_i the weight of image i; N without weights.
        sums: By parameter name, in float64: ``sum_i r_i g_i^2``, of the parameter's shape.

    Example:
        >>> half = Fisher(1, 1.0, {"norm.weight": torch.tensor([2.0]), "norm.bias": torch.tensor([4.0])})
        >>> whole = half.merge(Fisher(1, 3.0, {name: 3 * value for name, value in half.sums.items()}))
        >>> whole.mean()["norm.weight"], whole.of("norm").sums["bias"]
        (tensor([2.]), tensor([16.]))
    """

    images: int
    weight: float
    sums: dict[str, Tensor]

    def mean(self) -> dict[str, Tensor]:
        """Divide by the weight.

        Returns:
            By parameter name, ``sum_i r_i g_i^2 / sum_i r_i``, in float64.

        Raises:
            InputError: If the weights add up to nothing.
        """
        if not self.weight > 0:
            raise InputError(f"weights of the images that add up to {self.weight}", expected="a positive sum")
        return {name: total / self.weight for name, total in self.sums.items()}

    def merge(self, other: Fisher) -> Fisher:
        """Add the sums over other images: parts of the data, ranks, replicate groups.

        Args:
            other: Sums of the same parameters.

        Returns:
            The sums over both.

        Raises:
            InputError: If the other sums are of other parameters.
        """
        if self.sums.keys() != other.sums.keys():
            different = min(self.sums.keys() ^ other.sums.keys())
            raise InputError(f"{different} is in one of two Fishers only", expected="the same parameters to merge")
        sums = {name: total + other.sums[name] for name, total in self.sums.items()}
        return Fisher(self.images + other.images, self.weight + other.weight, sums)

    def of(self, module: str) -> Fisher:
        """Restrict to one module.

        Args:
            module: Its name as in ``named_modules()``.

        Returns:
            The sums of its parameters, under their names in the module; of a tensor that is used under several names
            only the first is known.

        Raises:
            InputError: If no parameter's name begins so.
        """
        start = f"{module}."
        sums = {name.removeprefix(start): total for name, total in self.sums.items() if name.startswith(start)}
        if not sums:
            raise InputError(f'no parameter of a module "{module}"', expected="a name as in named_modules()")
        return Fisher(self.images, self.weight, sums)


def fisher(
    network: nn.Module,
    loss: LossOf,
    batches: Iterable[Sequence[Any]],
    *,
    kind: Kind = "empirical",
    outputs: Outputs = "bernoulli",
    class_weights: Tensor | None = None,
    samples: int = 1,
    generator: torch.Generator | None = None,
) -> Fisher:
    """Compute the diagonal Fisher information of a network in one pass over the data.

    With J_i the derivative of image i's outputs z_i by one parameter, and p_i the probabilities that the loss gives
    them, ``F = sum_i r_i v_i``, where v_i is

    - ``empirical``: the square of the gradient at the true label, ``(J_i' dloss_i/dz)^2``;
    - ``monte_carlo``: the same at labels drawn from p_i, whose expectation is the next;
    - ``ggn``: ``sum_c p_c (1 - p_c) J_c^2`` for Bernoulli outputs, ``sum_c p_c J_c^2 - (sum_c p_c J_c)^2`` for a
      softmax: the exact diagonal of the generalised Gauss-Newton matrix, at the price of C backward passes.

    Every gradient is an image's own, whatever the batch. Dropout and stochastic depth are off meanwhile, frozen
    parameters are left out, and the network is as before afterwards.

    Args:
        network: Maps inputs to ``(B, C)`` outputs.
        loss: ``(B, C)`` outputs and targets to ``(B,)`` losses in nats, such as `forktail.losses`; for the last two
            kinds a negative log-likelihood that takes ``(B, C)`` floats.
        batches: ``(inputs, targets)`` or ``(inputs, targets, weights)``, on the network's device: inputs a tensor or
            a nest of tensors, images first; targets ``(B,)`` classes or ``(B, C)`` floats 0 or 1; weights ``(B,)``,
            r_i >= 0, or None. Evaluation transform, unmixed images.
        kind: Which Fisher.
        outputs: What the outputs are to the last two kinds: independent, or classes of which one is right.
        class_weights: ``(C,)``, weight of an image by its class, in place of weights in the batches: the evaluation
            prior over the training prior.
        samples: Labels drawn per image by ``monte_carlo``, of which the mean is taken.
        generator: Draws them, on the network's device; needed for ``monte_carlo``.

    Returns:
        The sums, of every trainable parameter.

    Raises:
        InputError: If there is no image, if a trainable parameter gets no gradient, if targets are mixed, or if the
            network does not treat every image by itself.

    Example:
        >>> from forktail.losses.binary_cross_entropy import BinaryCrossEntropy
        >>> network = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.zeros_(network.weight)
        >>> images, labels = torch.tensor([[2.0, 0.0], [0.0, 4.0]]), torch.tensor([[0.0], [1.0]])
        >>> fisher(network, BinaryCrossEntropy(), [(images, labels)]).mean()["weight"]
        tensor([[0.5000, 2.0000]], dtype=torch.float64)
    """
    (found,) = fisher_by_group(
        network, loss, batches, groups=1, kind=kind, outputs=outputs, class_weights=class_weights, samples=samples,
        generator=generator,
    )  # fmt: skip
    return found


def fisher_by_group(
    network: nn.Module,
    loss: LossOf,
    batches: Iterable[Sequence[Any]],
    *,
    groups: int,
    kind: Kind = "empirical",
    outputs: Outputs = "bernoulli",
    class_weights: Tensor | None = None,
    samples: int = 1,
    generator: torch.Generator | None = None,
) -> list[Fisher]:
    """Compute one Fisher per group of images in one pass, for standard errors.

    Image i belongs to group ``i modulo groups``; the groups merge to what `fisher` returns.

    Args:
        network: See `fisher`, as for all that is not here.
        loss: See there.
        batches: See there.
        groups: How many; each takes 8 bytes per parameter.
        kind: See there.
        outputs: See there.
        class_weights: See there.
        samples: See there.
        generator: See there.

    Returns:
        The sums of each group.

    Raises:
        InputError: See there, or if there are fewer images than groups.
    """
    if kind == "monte_carlo" and generator is None:
        raise InputError("no generator", expected="one to draw labels from", remedy="pass generator=torch.Generator()")
    if groups < 1 or samples < 1:
        raise InputError(f"{groups} groups and {samples} samples", expected="at least one of each")
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    slots = [_slot(name, parameter, groups) for name, parameter in trained.items()]
    num_images, weight, seen = [0] * groups, [0.0] * groups, 0
    capture = Capture(network)
    gathering = Gathering([capture], slots)
    with evaluating([network]):
        for batch in batches:
            inputs, targets, weights = _read(batch, class_weights, kind)
            if seen == 0:
                refuse_coupled(capture, inputs)
            gradients = partial(logit_gradients, loss, targets, kind, outputs, samples, generator)
            gathering.add(inputs, [gradients], weights)
            for group in range(groups):
                own = weights[(group - seen) % groups :: groups]
                num_images[group] += len(own)
                weight[group] += float(own.sum())
            seen += len(weights)
    if seen < groups:
        raise InputError(f"{seen} images", expected=f"at least {groups}, one per group")
    gathering.refuse_missing()
    sums = [
        {name: _sum(slot, group).view_as(trained[name]) for name, slot in zip(trained, slots, strict=True)}
        for group in range(groups)
    ]
    return [Fisher(*each) for each in zip(num_images, weight, sums, strict=True)]


def _slot(name: str, parameter: Tensor, groups: int) -> Slot:
    shape = matrix_shape(parameter.shape, batched=False)

    def zeros() -> Tensor:
        return torch.zeros(shape, dtype=torch.float64, device=parameter.device)

    return Slot([(0, name)], [Totals({}, weighted=[zeros()]) for _ in range(groups)])


def _sum(slot: Slot, group: int) -> Tensor:
    (total,) = slot.totals[group].weighted or []
    return total


def _read(batch: Sequence[Any], class_weights: Tensor | None, kind: Kind) -> tuple[Any, Any, Tensor]:
    """Take a batch apart and give every image its weight, in float64 and not on an accelerator."""
    inputs, targets, *rest = batch
    given = rest[0] if rest else None
    if kind == "empirical" and isinstance(targets, Tensor) and targets.is_floating_point():
        check_unmixed(targets)
    if class_weights is not None:
        if given is not None:
            raise InputError("weights in the batches and class_weights", expected="one of the two")
        given = class_weights[_classes(targets).to(class_weights.device)]
    if given is None:
        return inputs, targets, torch.ones(len(pytree.tree_leaves(inputs)[0]), dtype=torch.float64)
    weights = given.detach().double().cpu()
    if not bool((weights >= 0).all()):
        raise InputError("weights below zero or not numbers", expected="weights >= 0")
    return inputs, targets, weights


def _classes(targets: Tensor) -> Tensor:
    if not targets.is_floating_point():
        return targets
    if not bool((targets.sum(1) == 1).all()):
        raise InputError("targets that name no single class", expected="one class per image for class_weights")
    return targets.argmax(1)


def logit_gradients(
    loss: LossOf,
    targets: Any,
    kind: Kind,
    outputs: Outputs,
    samples: int,
    generator: torch.Generator | None,
    logits: Tensor,
) -> Iterator[Tensor]:
    """Give gradients at the outputs whose squares, taken back to the parameters, add up to the Fisher wanted.

    Args:
        loss: See `fisher`, as for all that is not here.
        targets: See there.
        kind: See there.
        outputs: See there.
        samples: See there.
        generator: See there.
        logits: ``(B, C)`` outputs.

    Yields:
        ``(B, C)`` each.
    """
    if kind == "empirical":
        yield gradient_at(loss, logits, targets)
        return
    probabilities = _probabilities(loss, logits, outputs)
    if kind == "monte_carlo":
        for labels in _draw(probabilities, outputs, samples, generator):
            yield (probabilities - labels) / samples**0.5
    else:
        for column in range(logits.shape[1]):
            chosen = F.one_hot(torch.tensor(column, device=logits.device), logits.shape[1]).to(logits)
            p = probabilities[:, column, None]
            yield (p * (1 - p)).sqrt() * chosen if outputs == "bernoulli" else p.sqrt() * (chosen - probabilities)


def _probabilities(loss: LossOf, logits: Tensor, outputs: Outputs) -> Tensor:
    """Read what a negative log-likelihood believes off its gradient, which is probabilities minus targets."""
    some = torch.zeros_like(logits)
    other = torch.ones_like(logits)
    if outputs == "softmax":
        some[:, 0], other = 1.0, torch.zeros_like(logits)
        other[:, -1] = 1.0
    found, again = gradient_at(loss, logits, some) + some, gradient_at(loss, logits, other) + other
    adds_up = outputs == "bernoulli" or bool(((found.sum(1) - 1).abs() < TOLERANCE).all())
    if not adds_up or not bool(((found - again).abs() < TOLERANCE).all()):
        raise InputError(
            f"a loss that is no negative log-likelihood of {outputs} outputs in nats",
            expected="outputs that fit the loss: softmax for cross-entropy, bernoulli for binary cross-entropy",
            remedy="pass outputs=",
        )
    return found.clamp(0, 1)


def _draw(probabilities: Tensor, outputs: Outputs, samples: int, generator: torch.Generator | None) -> Iterator[Tensor]:
    """Draw labels, image after image, so that they do not depend on how images are batched."""
    num_images, num_outputs = probabilities.shape
    size = (num_images, samples, num_outputs if outputs == "bernoulli" else 1)
    uniform = torch.rand(size, generator=generator, dtype=torch.float64, device=probabilities.device)
    for drawn in uniform.unbind(1):
        if outputs == "bernoulli":
            yield (drawn < probabilities).to(probabilities)
        else:
            below = probabilities.double().cumsum(1) / probabilities.double().sum(1, keepdim=True)
            chosen = (drawn > below).sum(1).clamp(max=num_outputs - 1)
            yield F.one_hot(chosen, num_outputs).to(probabilities)
