"""RIDE's second half: routers that send an image to only as many experts as it needs.

Legend: B images of a batch, C classes, D features, E experts, N images.
"""

from __future__ import annotations

from typing import ClassVar, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forktail.backbones.classifiers import linear_classifier
from forktail.backbones.experts import Experts, rows_of
from forktail.data.images import Images
from forktail.methods._method import Problem
from forktail.training.cost import inference_flops
from forktail.training.engine import Engine
from forktail.training.objective import Batch, Objective, freeze
from forktail.training.stage import state_digest
from forktail.training.stream import evaluation_batches

ROUTER_FEATURES = 16  # the published width of a router


@final
class Routed(nn.Module):
    """Experts in a row, each but the last with a router that says whether the next one is needed.

    An image leaves with the mean logits of the experts that it went to; it decides alone, so what else is in the batch
    does not matter. Traced without data (to count operations), every image goes to every expert: an upper bound.

    Args:
        experts: Taken as they are, and frozen.
        top: How many of the largest mean logits a router sees.
        generator: Where the routers are drawn from.
    """

    def __init__(self, experts: Experts, top: int, generator: torch.Generator) -> None:
        super().__init__()
        self.experts = experts
        freeze(experts)
        self.routers = nn.ModuleList(
            Router(experts.trunk.num_features, top, generator) for _ in experts.classifiers[1:]
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute the (B, C) mean logits of as many experts as each image needs."""
        return self.exits(inputs)[0]

    def exits(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the logits, and say how many experts each image went to.

        Args:
            inputs: (B, 3, H, W) images.

        Returns:
            (B, C) logits and (B,) numbers from 1 to E.
        """
        trunk, classifiers = self.experts.trunk, self.experts.classifiers
        hidden = trunk.shared(inputs)
        features = trunk.branches[0](hidden)
        total = classifiers[0](features)
        asked = torch.ones(len(total), dtype=torch.int64, device=total.device)
        rows = torch.arange(len(total), device=total.device)
        for number, router in enumerate(self.routers, start=1):
            asks = router(features, total[rows] / number) > 0
            if not inputs.is_meta:
                features, rows = features[asks], rows[asks]
            if not len(rows):
                break
            features = trunk.branches[number](rows_of(hidden, rows))
            total[rows] += classifiers[number](features)
            asked[rows] += 1
        return total / asked[:, None], asked


@final
class Router(nn.Module):
    """A small network on the direction of an expert's features and the largest mean logits so far.

    Args:
        num_features: D.
        top: How many logits.
        generator: Where the weights are drawn from.
    """

    def __init__(self, num_features: int, top: int, generator: torch.Generator) -> None:
        super().__init__()
        self.reduce = linear_classifier(num_features, ROUTER_FEATURES, generator)
        self.decide = linear_classifier(top + ROUTER_FEATURES, 1, generator)
        self.top = top

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        """Map (B, D) features and (B, C) logits to (B,) log odds that the next expert is needed."""
        reduced = F.relu(self.reduce(F.normalize(features)))
        decision: Tensor = self.decide(torch.cat([logits.topk(self.top).values, reduced], dim=1))
        return decision.squeeze(1)


@final
class Routing(Objective):
    """Binary cross-entropy of each router, averaged over the routers.

    Args:
        network: Experts and routers.
        pos_weight: What a missed need costs against a needless call.
    """

    needs_classes: ClassVar[bool] = True

    def __init__(self, network: Routed, pos_weight: float) -> None:
        super().__init__()
        self.network = network
        self.pos_weight = pos_weight

    def forward(self, batch: Batch) -> Tensor:
        """Return the (B,) losses of a batch in nats."""
        experts = self.network.experts
        with torch.no_grad():
            features = experts.trunk(batch.inputs)
            logits = [classify(x) for classify, x in zip(experts.classifiers, features, strict=True)]
            means = torch.stack([torch.stack(logits[:number]).mean(0) for number in range(1, len(logits) + 1)])
        asks = torch.stack(
            [router(x, mean) for router, x, mean in zip(self.network.routers, features, means, strict=False)]
        )  # the last expert has no router
        return routing_loss(asks, needs_help(means, batch.targets), self.pos_weight).mean(0)

    def extra_repr(self) -> str:
        """Show what is in no buffer."""
        return f"pos_weight={self.pos_weight}"


def needs_help(mean_logits: Tensor, targets: Tensor) -> Tensor:
    """Say whether the first k experts are wrong together while some more of them would be right.

    Args:
        mean_logits: (E, B, C) mean logits of the first 1, 2, ..., E experts.
        targets: (B,) class indices.

    Returns:
        (E - 1, B) truth values, for k = 1 to E - 1.

    Example:
        >>> needs_help(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[0.0, 1.0]]]), torch.tensor([1])).tolist()
        [[True], [False]]
    """
    right = mean_logits.argmax(2) == targets
    later = torch.stack([right[k:].any(0) for k in range(1, len(right))])
    return ~right[:-1] & later


def routing_loss(asks: Tensor, needs: Tensor, pos_weight: float) -> Tensor:
    """Compute the routers' weighted binary cross-entropy: ``-(w y log sigmoid(r) + (1 - y) log sigmoid(-r))``.

    Args:
        asks: Log odds r that help is needed, of any shape.
        needs: Truth values y of the same shape.
        pos_weight: w.

    Returns:
        Losses of the same shape, in nats.

    Example:
        >>> routing_loss(torch.zeros(2), torch.tensor([True, False]), pos_weight=20.0)
        tensor([13.8629,  0.6931])
    """
    return torch.where(needs, -pos_weight * F.logsigmoid(asks), -F.logsigmoid(-asks))


def judged_on(problem: Problem) -> Images:
    """Choose the images that say how many experts are asked: those held out, or the training images if there are none.

    Args:
        problem: The problem.

    Returns:
        The images, without augmentation.
    """
    images = problem.train if problem.val is None else problem.val
    return images.with_transform(problem.preprocess)


def image_flops(problem: Problem, network: nn.Module) -> int:
    """Count a forward pass of one image.

    Args:
        problem: Says how large an image is.
        network: On images; of `Routed` all experts are counted.

    Returns:
        Floating-point operations.
    """
    return inference_flops(network, problem.preprocess.shape)


def tell_experts_asked(problem: Problem, engine: Engine, network: Routed) -> float:
    """Measure how many experts an image goes to and what the early exit saves, and note it.

    Args:
        problem: Its held-out images are looked at, or its training images.
        engine: Keeps the numbers and the note.
        network: Trained.

    Returns:
        The mean number of experts.
    """
    images = judged_on(problem)
    everything = image_flops(problem, network)
    shared = image_flops(problem, network.experts.trunk.shared)
    each = (everything - shared) / len(network.experts.classifiers)  # the ends are alike, a router is next to nothing

    def spent(kept: dict[str, npt.NDArray[np.int64]]) -> float:
        return len(images) * shared + each * float(kept["asked"].sum())

    kept = engine.keep(
        "experts-asked",
        [state_digest(network), images.fingerprint],
        lambda: {"asked": experts_asked(network, images, engine.runtime.device)},
        flops=spent,
    )
    mean = float(kept["asked"].mean())
    engine.note(
        f"routing: {mean:.2f} of {len(network.experts.classifiers)} experts per image on the"
        f" {'training' if problem.val is None else 'held-out'} images,"
        f" {100 * spent(kept) / len(images) / everything:.0f} % of the operations of all of them"
    )
    return mean


@torch.no_grad()
def experts_asked(network: Routed, images: Images, device: torch.device) -> npt.NDArray[np.int64]:
    """Count the experts that each image goes to.

    Args:
        network: Trained, on the device.
        images: With their evaluation transform.
        device: Where the network is.

    Returns:
        (N,) numbers from 1 to E.
    """
    network.eval()
    asked = [network.exits(inputs.to(device))[1].cpu().numpy() for inputs, _, _ in evaluation_batches(images)]
    return np.concatenate(asked)
