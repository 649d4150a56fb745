"""RSG: new features for rare classes, made of theirs and of how frequent classes vary about their centres.

Legend: B images of a batch, G generated features, C classes, n centres of a class, D channels, H x W cells of a map.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from forktail.backbones.classified import Classified
from forktail.backbones.layered import Layered
from forktail.backbones.open import open_backbone
from forktail.backbones.vit import prefix_tokens
from forktail.errors import InputError
from forktail.labels import ClassCounts
from forktail.losses.ldam import LDAM
from forktail.methods._contrastive import check_pairs
from forktail.methods._method import Method, Problem
from forktail.methods._networks import new_classified
from forktail.methods._ranges import check_fraction, check_not_negative, check_positive, check_whole
from forktail.methods._rare_samples import RareSamples, as_hidden, as_maps
from forktail.predictor import ModelSpec, Predictor
from forktail.training.engine import Engine
from forktail.training.objective import Batch, Objective, weighted_mean


@final
@dataclass(frozen=True)
class RSG(Method):
    """LDAM-DRW with a rare-class sample generator before the last stage, which is gone at prediction.

    At first centres are estimated for every class, and a classifier learns whether two maps are of one class. Then each
    image of a rare class gets company: its map plus what a frequent class's image has beyond its nearest centre, sent
    through a convolution that is to keep its length, turn it, and take its class out. The generator sees the maps
    without gradient. On a transformer the map is the grid of patch tokens; the rare image's other tokens go with it.
    The cost is counted as it is before features are generated. Predicts by the cosines, without margin.

    Args:
        n_center: Centres of each class.
        contrastive_module_dim: Channels of the pair classifier.
        head_tail_ratio: Share of the classes, the most frequent, that lend their variation, in (0, 1); at least one.
        transfer_strength: How many of the pairs that a batch could form are formed, in (0, 1].
        generation_start: Share of the training after which features are generated, in [0, 1]: epoch 160 of 200.
        insert_at: How many units come before the generator; None: all before the last that changes the shape of the
            maps (a ResNet's last stage), or all but one if none does.
        cesc_weight: Weight of the loss of centre estimation and pair classification, >= 0.
        mv_weight: Weight of the loss of the moved vectors, >= 0.
        released_vectors: Compare lengths and directions as the released code does: of vectors of D successive numbers
            of a map, which mix cells and channels, and directions product by product. Off, of each cell's D channels.
        max_m: Margin of the rarest class, as a cosine, >= 0.
        s: Scale of the cosines, > 0.
        drw_start: Share of the training after which images are weighted, in [0, 1].
        beta: Of the effective number, in [0, 1).
    """

    summary = "LDAM-DRW, and late in training features of rare classes that vary as frequent ones do"
    source = "Wang et al. 2021 (RSG), rare-class sample generator"
    stages = ("training",)
    compute = 1.8

    n_center: int = 15
    contrastive_module_dim: int = 256
    head_tail_ratio: float = 0.2
    transfer_strength: float = 1.0
    generation_start: float = 0.8
    insert_at: int | None = None
    cesc_weight: float = 0.1
    mv_weight: float = 0.01
    released_vectors: bool = False
    max_m: float = 0.5
    s: float = 30.0
    drw_start: float = 0.8
    beta: float = 0.9999

    def __post_init__(self) -> None:
        check_whole(self, "n_center", "contrastive_module_dim", least=1)
        check_whole(self, "insert_at")
        check_fraction(self, "head_tail_ratio", zero=False, one=False)
        check_fraction(self, "transfer_strength", zero=False)
        check_fraction(self, "generation_start", "drw_start")
        check_fraction(self, "beta", one=False)
        check_not_negative(self, "cesc_weight", "mv_weight", "max_m")
        check_positive(self, "s")

    def network(self, spec: ModelSpec) -> Classified:
        """Return an untrained network with a cosine classifier."""
        return new_classified(open_backbone(spec.backbone), len(spec.classes), torch.Generator(), self.s)

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read scaled cosines as they are."""
        return Predictor(network, spec, rule="adjusted", home="uniform")

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Train the network with the generator, and leave the generator behind."""
        check_pairs(engine.plan)
        generator = problem.generator("classifier")
        network = new_classified(problem.backbone(), problem.counts.num_classes, generator, self.s)
        place, channels = generator_place(network.backbone, problem.picture_size, self.insert_at)
        rare = RareSamples(
            problem.counts,
            channels,
            problem.generator("rare samples"),
            n_center=self.n_center,
            contrastive_module_dim=self.contrastive_module_dim,
            head_tail_ratio=self.head_tail_ratio,
            transfer_strength=self.transfer_strength,
            released_vectors=self.released_vectors,
        )
        trained = engine.train(
            "training", Generating(network, place, rare, problem.counts, self), problem.train
        ).network
        return self.reads(trained, problem.spec(self))


@final
class Generating(Objective):
    """LDAM-DRW on the images and on what is generated, and the generator's own losses.

    Args:
        network: Maps inputs to (B, C) scaled cosines.
        place: How many units come before the generator.
        rare: The generator.
        counts: Training images of each class.
        options: The method's hyper-parameters.
    """

    needs_classes: ClassVar[bool] = True  # features are generated for a class

    def __init__(self, network: Classified, place: int, rare: RareSamples, counts: ClassCounts, options: RSG) -> None:
        super().__init__()
        self.network = network
        self.place = place
        self.rare = rare
        self.num_prefix_tokens = prefix_tokens(network.backbone)
        margins = partial(LDAM, counts, max_m=options.s * options.max_m, s=1.0)  # on logits that are scaled already
        self.early, self.late = margins(), margins(beta=options.beta)
        self.drw_start, self.generation_start = options.drw_start, options.generation_start
        self.cesc_weight, self.mv_weight = options.cesc_weight, options.mv_weight

    def forward(self, batch: Batch) -> Tensor:
        """Return the losses in nats: (B,) at first, (B + G,) once features are generated."""
        backbone, targets = self.network.backbone, batch.targets
        hidden = backbone.stem(batch.inputs)
        for unit in backbone.units[: self.place]:
            hidden = unit(hidden)
        maps = as_maps(hidden.detach(), self.num_prefix_tokens)
        shares = self.rare.centre_shares(maps, targets)
        own = self.rare.estimation(maps, targets, shares)
        if batch.progress < self.generation_start:
            own = self.cesc_weight * (own + self.rare.pair_loss(maps, targets))
        else:
            head, tail = self.rare.pairs(targets)
            moved, moved_loss = self.rare.moved_variation(maps, targets, shares, head, tail)
            own = self.cesc_weight * own + self.mv_weight * moved_loss
            generated = hidden.detach()[tail] + as_hidden(moved, hidden.ndim, self.num_prefix_tokens)
            hidden, targets = torch.cat([hidden, generated]), torch.cat([targets, targets[tail]])
        for unit in backbone.units[self.place :]:
            hidden = unit(hidden)
        logits = self.network.classifier(backbone.readout(hidden))
        if batch.progress < self.drw_start:
            losses: Tensor = self.early(logits, targets)
            return losses + own
        return weighted_mean(self.late, logits, targets) + own

    def extra_repr(self) -> str:
        """Show what is in no buffer."""
        starts = f"place={self.place}, drw_start={self.drw_start}, generation_start={self.generation_start}"
        return f"{starts}, cesc_weight={self.cesc_weight}, mv_weight={self.mv_weight}"


@torch.no_grad()
def generator_place(backbone: Layered, side: int, insert_at: int | None) -> tuple[int, int]:
    """Find where the generator stands, and how many channels the maps have there.

    Args:
        backbone: The chain; it is run once, on a black picture.
        side: Of the picture, in pixels.
        insert_at: How many units come before the generator; None finds the last stage.

    Returns:
        The number of units before it, and D.

    Raises:
        InputError: If the backbone is not so deep.
    """
    if insert_at is not None and insert_at > backbone.depth:
        raise InputError(f"method.insert_at = {insert_at}", expected=f"0 to {backbone.depth}, the backbone's units")
    backbone.eval()
    states = [backbone.stem(torch.zeros(1, 3, side, side))]
    for unit in backbone.units:
        states.append(unit(states[-1]))
    changes = [number for number in range(backbone.depth) if states[number].shape != states[number + 1].shape]
    place = (changes[-1] if changes else backbone.depth - 1) if insert_at is None else insert_at
    hidden = states[place]
    return place, hidden.shape[2] if hidden.ndim == 3 else hidden.shape[1]
