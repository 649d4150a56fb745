"""How far apart do head and tail go in Stage 1, beside two trainings of one and the same task?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, permutations
from pathlib import Path

import torch
from evidence_sets import Set
from torch import Tensor

from forktail.backbones.forked import Forked
from forktail.data.open import open_data
from forktail.fitting import make_problem, resolve
from forktail.methods.osdtw import OSDTW
from forktail.run import Run
from forktail.training.progress import Progress


def separation(heads: Sequence[Sequence[Tensor]], tails: Sequence[Sequence[Tensor]]) -> dict[str, object]:
    """Measure the squared distance of head and tail in units of that of two trainings of the same task.

    Over pairs of *different* seeds i and j, whose chance is independent,

        mean |theta_A,i - theta_B,j|^2 / (mean |theta_A,i - theta_A,j|^2 / 2 + mean |theta_B,i - theta_B,j|^2 / 2)

    With theta_t,i = theta_t + noise of variance V_t the two parts estimate delta^2 + V_A + V_B and V_A + V_B: it is 1
    where the tasks are the same to training, and 1 + delta^2 / (V_A + V_B) where they are not.

    Args:
        heads: The parameters of every layer, of two seeds or more.
        tails: The same of the tail.

    Returns:
        ``whole``, of all layers together, and ``layers``, of each, None for one that is not trained.
    """
    apart = _squared([(heads[i], tails[j]) for i, j in permutations(range(len(heads)), 2)])
    alike = (_squared(list(combinations(heads, 2))) + _squared(list(combinations(tails, 2)))) / 2
    layers = [float(a / b) if b else None for a, b in zip(apart, alike, strict=True)]
    return {"whole": float(apart.sum() / alike.sum()), "layers": layers}


def stage1(of: Set, seed: int, out: Path, cache: Path, progress: Progress) -> list[Forked]:
    """Train, or load, the Stage 1 of a grid's seed.

    Args:
        of: The set.
        seed: Of training.
        out: Run directory.
        cache: Folder of trained stages.
        progress: Who is told how far it is.

    Returns:
        The networks of head and tail.
    """
    settings = ["data.validation=true", *of.settings, f"plan.epochs={of.epochs}"]
    recipe = resolve(of.data, "osdtw", settings=settings, seed=seed)
    assert isinstance(recipe.method, OSDTW)
    problem = make_problem(recipe, open_data(recipe.data, shots=recipe.split.shots))
    return recipe.method.specialists(problem, recipe.engine(Run(out), cache=cache, progress=progress))


def shared_layers(network: Forked) -> list[Tensor]:
    """Flatten the parameters of the stem and of every unit.

    Args:
        network: Of one task.

    Returns:
        One vector for each, in float64.
    """
    layers = [network.layer(0, index) for index in range(network.max_depth + 1)]
    return [torch.cat([one.detach().double().cpu().flatten() for one in layer.parameters()]) for layer in layers]


def _squared(pairs: Sequence[tuple[Sequence[Tensor], Sequence[Tensor]]]) -> Tensor:
    """Average the squared distance of the pairs, layer by layer."""
    distances = [[(a - b).square().sum() for a, b in zip(one, other, strict=True)] for one, other in pairs]
    return torch.tensor(distances, dtype=torch.float64).mean(dim=0)
