"""What docs/evidence.md is made of: sets and their roles, options, lengths, seeds. No set is dropped for its result."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from methods import RESNET

Role = Literal["development", "variant", "confirmation"]

PLAN = ("plan.batch_size=32", "split.shots=quantile")
TEXT = ("backbone.name=minilm", "backbone.frozen_units=3")


@dataclass(frozen=True)
class Set:
    """A data set with a backbone.

    Args:
        data: As in `forktail fit`.
        settings: The rest of the recipe but for the plan's epochs.
        role: What its test part is for.
        curve: The set whose curve says how long its comparison trains.
        depths: Depths of its grid; the deepest is all there is to share.
        weights: How many weights its grid has.
        epochs: Epochs of its grid.
    """

    data: str
    settings: tuple[str, ...]
    role: Role
    curve: str = "glyphs-10"
    depths: tuple[int, ...] = (0, 2, 4, 6)
    weights: int = 5
    epochs: int = 15


def glyphs(n_max: int, imbalance: int, role: Role, *more: str, weights: int = 5, epochs: int = 15) -> Set:
    """Return glyphs with a tail; those that confirm have other pictures and another order of classes."""
    seed = ("data.seed=1",) if role == "confirmation" else ()
    settings = (f"data.n_max={n_max}", f"data.imbalance={imbalance}", *PLAN, *seed, *more)
    return Set("glyphs", settings, role, weights=weights, epochs=epochs)


def fashion(imbalance: int, role: Role, weights: int = 5) -> Set:
    """Return Fashion-MNIST with a tail; its test pictures are always the same, and choose nothing."""
    seed = ("data.seed=1",) if role == "confirmation" else ()
    settings = ("data.n_max=200", f"data.imbalance={imbalance}", *PLAN, *seed)
    return Set("fashion-mnist", settings, role, curve="fashion-10", weights=weights)


def variant(of: Set, *options: str) -> Set:
    """Return a set whose grid is trained with other options of the method, and chooses nothing."""
    settings = (*of.settings, *(f"method.{option}" for option in options))
    return dataclasses.replace(of, settings=settings, role="variant", weights=3)


DEVELOPMENT = {
    "glyphs-10": glyphs(30, 10, "development"),
    "mismatch-50": glyphs(30, 10, "development", "data.mismatch=0.5"),
    "fashion-10": fashion(10, "development"),
}
# Of recipes/methods/osdtw-paper.toml, what a grid does not set by itself.
PAPER = ("stage1_epochs=plan", "decoders=stage1", "rule=margin")
SETS = {
    **DEVELOPMENT,
    "fashion-10-paper": variant(DEVELOPMENT["fashion-10"], *PAPER),
    # Beyond where the best baseline stops improving: is the criterion right nearer to the optimum that it supposes?
    "fashion-10-converged": dataclasses.replace(DEVELOPMENT["fashion-10"], role="variant", weights=1, epochs=60),
    "glyphs-50": glyphs(50, 50, "confirmation", weights=3),
    # Fewer epochs where there are more images: about as many steps.
    "glyphs-200": glyphs(200, 200, "confirmation", weights=1, epochs=5),
    "mismatch-0": glyphs(30, 10, "confirmation", "data.mismatch=0", weights=1),
    "mismatch-25": glyphs(30, 10, "confirmation", "data.mismatch=0.25", weights=1),
    "mismatch-75": glyphs(30, 10, "confirmation", "data.mismatch=0.75", weights=1),
    "mismatch-100": glyphs(30, 10, "confirmation", "data.mismatch=1", weights=1),
    "fashion-50": fashion(50, "confirmation"),
    "fashion-100": fashion(100, "confirmation", weights=3),
    "glyphs-resnet": glyphs(30, 10, "confirmation", *RESNET, weights=1),
    "wordnet-gloss": Set(
        "wordnet-gloss",
        ("data.n_max=50", "plan.batch_size=32", *TEXT),
        "confirmation",
        curve="wordnet-gloss",
        depths=(0, 1, 2, 3),
        epochs=5,
    ),
}
SEEDS = (0, 1, 2)
# Which sets show how a baseline goes on improving, and how long: each length is twice the one before.
CURVES = {"glyphs-10": (15, 30, 60), "fashion-10": (15, 30, 60), "wordnet-gloss": (3, 6, 12)}
CURVE_SEEDS = (0, 1)
BASELINES = ("logit_adjustment", "balanced_bce")
LEAST_GAIN = 0.005  # balanced accuracy: what is less than that is no improvement
# Who is compared at equal compute. Balanced Softmax is logit adjustment with tau = 1, balanced_bce is LiVT's loss.
# GPaCo cannot do texts, and is six points behind logit adjustment even at four times the compute (docs/comparison.md).
CONTESTANTS = (*BASELINES, "independent", "osdtw")
EQUAL = ("fashion-50", "wordnet-gloss", "fashion-100", "mismatch-75")
EQUAL_SEEDS = (0, 1, 2, 3, 4)
# What could make osdtw better, on the validation part of development sets at equal compute.
OPTIONS = {
    # Each option alone, without damping, so that the weight is 1/2 throughout.
    "variants": (
        "logit_adjustment",
        "balanced_bce",
        "osdtw:damping=0",
        "osdtw:damping=0:stage1_epochs=plan",
        "osdtw:damping=0:decoders=stage1",
        "osdtw:damping=0:rule=margin",
        "osdtw:damping=0:stage2_start=merged",
        "osdtw:damping=0:teachers=0.5",
        "osdtw:damping=0:refinement=balanced_softmax",
        "osdtw:damping=0:refinement_epochs=0",
        "osdtw:damping=0:depth=0",
        "osdtw:damping=0:depth=3",
    ),
    # After those: what Stage 1 and the refinement spend goes to Stage 2, or weights are averaged.
    "stages": (
        "osdtw",
        "osdtw:stage1_epochs=2",
        "osdtw:stage1_epochs=2:refinement_epochs=0",
        "osdtw:averaging=0.25",
        "osdtw:stage1_epochs=2:averaging=0.25",
    ),
}
OPTIONS_OF = ("glyphs-10", "fashion-10")
OPTIONS_EPOCHS = 30
# The map of the best cell: how good the pretrained weights are, and how many images there are.
STRENGTHS = {"random": 0, "weak": 1, "full": None}  # epochs of pretraining; None is the embedded weights
# Images of the largest class of 100, imbalance 10; both axes, and not what lies between them.
MAP = (("random", 10), ("weak", 10), ("full", 10), ("full", 30))
