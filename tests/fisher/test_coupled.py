"""The coupled criterion of real networks against dense matrices of all their per-image gradients, in float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from forktail.backbones.adapters import adapt
from forktail.backbones.forked import Forked
from forktail.errors import InputError
from forktail.fisher.coupled import refined_criterion
from forktail.fisher.reference import per_image_gradients
from forktail.labels import TaskSplit
from forktail.losses.balanced_bce import BalancedBCE
from forktail.theory.criterion import criterion_table
from forktail.theory.moments import UnitMoments
from forktail.theory.refined import CoupledMoments, refined_table

SPLIT = TaskSplit((np.array([0, 2, 1]), np.array([4, 3])))
LABELS = np.array([0, 0, 1, 2, 3, 4, 0, 2, 1, 0, 3])
WEIGHTS = [[0.1, 0.9], [0.5, 0.5], [1.0, 0.0]]
N, DAMPING = 500.0, 0.02


class Small:
    """Two vision transformers of some hundred parameters and what the dense oracle makes of them."""

    def __init__(self):
        torch.manual_seed(0)
        backbone = adapt(
            VisionTransformer(img_size=8, patch_size=4, in_chans=1, embed_dim=4, depth=2, num_heads=2, mlp_ratio=1.0,
                              num_classes=0)
        )  # fmt: skip
        self.starts = [Forked.single(backbone, len(task), seed=t).double() for t, task in enumerate(SPLIT.tasks)]
        self.networks = [Forked.single(backbone, len(task), seed=t).double() for t, task in enumerate(SPLIT.tasks)]
        with torch.no_grad():
            for network in self.networks:
                for parameter in network.parameters():
                    parameter.add_(0.2 * torch.randn_like(parameter))
        self.losses = [BalancedBCE([40, 25, 9, 3, 1], classes=task).double() for task in SPLIT.tasks]
        self.images = torch.randn(len(LABELS), 1, 8, 8, dtype=torch.float64)
        self.targets = torch.eye(5, dtype=torch.float64)[LABELS]
        self.units = [sum(p.numel() for p in self.networks[0].layer(0, index).parameters()) for index in range(3)]

    def batches(self, index):
        return [(self.images[part], self.targets[part], None) for part in np.array_split(index, 2) if len(part)]

    def dense(self, index):
        """(m, P_t) gradients and (P_t,) positions of both tasks."""
        gradients, positions = [], []
        for network, start, loss, task in zip(self.networks, self.starts, self.losses, SPLIT.tasks, strict=True):
            by_name = per_image_gradients(
                network.eval(), loss, self.images[index], self.targets[index][:, task.tolist()]
            )
            names = {id(p): name for name, p in network.named_parameters()}
            modules = [*(network.layer(0, layer) for layer in range(4)), network.classifier(0)]
            ordered = [names[id(p)] for module in modules for p in module.parameters()]
            gradients.append(torch.cat([by_name[name].flatten(1) for name in ordered], dim=1).numpy())
            moved = [(network.get_parameter(name) - start.get_parameter(name)).flatten() for name in ordered]
            positions.append(torch.cat(moved).detach().numpy())
        return gradients, positions

    def compute(self, **options):
        arguments = (self.networks, self.losses, SPLIT, self.starts, self.batches, LABELS)
        return refined_criterion(*arguments, **({"weights": WEIGHTS, "n": N, "damping": DAMPING} | options))


@pytest.fixture(scope="module")
def small():
    return Small()


def unit_moments(gradients, position, part):
    g = np.stack([of_task[:, part] for of_task in gradients])
    cross = np.array([[np.mean(a * b, axis=0) - a.mean(0) * b.mean(0) for b in g] for a in g])
    curvature, scores = np.mean(g**2, axis=1), np.stack([cross[task, task] for task in range(len(g))])
    return UnitMoments(curvature, scores, curvature, np.stack([u[part] for u in position]), cross)


def assert_same(found, expected):
    for name in ("shared_variance", "shared_bias", "own_variance"):
        values = getattr(expected, name)
        scale = np.abs(expected.total).max()
        np.testing.assert_allclose(getattr(found, name) / scale, values / scale, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("assembly", ["raw", "refined"])
@pytest.mark.parametrize("stage2", ["shared", "whole"])
def test_against_dense_matrices(small, assembly, stage2):
    gradients, positions = small.dense(np.arange(len(LABELS)))
    options = {"assembly": assembly, "stage2": stage2}
    found = small.compute(**options)
    moments = CoupledMoments.of_gradients(small.units, gradients, positions)
    expected = refined_table(moments, weights=WEIGHTS, n=N, damping=DAMPING, **options)
    assert_same(found.table, expected)
    assert np.ptp(expected.total) > 1e-3 * np.abs(expected.total).max()  # there is something to compare
    assert (found.table.reading, found.images.tolist()) == (assembly, list(range(len(LABELS))))


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_last_layers_against_dense_matrices_without_the_early_coupling(small, layers):
    gradients, positions = small.dense(np.arange(len(LABELS)))
    edges = np.cumsum([0, *small.units])
    parts = [slice(start, stop) for start, stop in itertools.pairwise(edges)]
    found = small.compute(layers=layers, units=[unit_moments(gradients, positions, part) for part in parts])
    moments = CoupledMoments.of_gradients(small.units, gradients, positions).last_layers(layers)
    assert_same(found.table, refined_table(moments, weights=WEIGHTS, n=N, damping=DAMPING))
    assert found.table.reading == ("refined" if layers == 2 else f"refined, last {layers} units")


def test_no_layers_say_of_units_what_the_diagonal_criterion_says(small):
    """Up to the decoders' own variance, which no depth and no weight changes."""
    gradients, positions = small.dense(np.arange(len(LABELS)))
    edges = np.cumsum([0, *small.units])
    units = [unit_moments(gradients, positions, slice(a, b)) for a, b in itertools.pairwise(edges)]
    own = [unit_moments([g], [u], slice(edges[-1], None)) for g, u in zip(gradients, positions, strict=True)]
    diagonal = criterion_table(units, own, weights=WEIGHTS, n=[N, N], reading="general", damping=DAMPING).total
    found = small.compute(layers=0, units=units).table.total
    np.testing.assert_allclose(found - found[0], diagonal - diagonal[0], rtol=1e-6, atol=1e-8 * np.abs(diagonal).max())


def test_some_images_are_named_and_are_those_that_count(small):
    found = small.compute(images=6, seed=2)
    gradients, positions = small.dense(found.images)
    assert len(found.images) == 6
    moments = CoupledMoments.of_gradients(small.units, gradients, positions)
    assert_same(found.table, refined_table(moments, weights=WEIGHTS, n=N, damping=DAMPING))


def test_missing_moments_of_early_units_are_refused(small):
    with pytest.raises(InputError, match="moments of 0 units; expected 3"):
        small.compute(layers=1)


def test_no_damping_is_refused(small):
    with pytest.raises(InputError, match="damping = 0"):
        small.compute(damping=0.0)
