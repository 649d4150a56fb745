"""Small networks and images that every test of this folder takes its gradients of."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import timm
import torch
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.efficientnet import EfficientNet
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from forktail.backbones.adapters import adapt
from forktail.backbones.forked import Forked
from forktail.backbones.layered import Layered
from forktail.backbones.tiny import tiny
from forktail.fisher.accumulate import Totals
from forktail.fisher.capture import Capture
from forktail.fisher.gather import Gathering, Slot, evaluating, gradient_at
from forktail.fisher.sources import matrix_shape
from forktail.labels import TaskSplit
from forktail.losses.balanced_bce import BalancedBCE

COUNTS = [40, 25, 9, 3, 1]
SPLIT = TaskSplit((np.array([0, 2, 1]), np.array([4, 3])))


class Problem(NamedTuple):
    networks: list[Forked]
    starts: list[Forked]
    losses: list[BalancedBCE]
    split: TaskSplit
    images: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor

    def batches(self, *sizes, weighted=True):
        """Cut the images into batches of the given sizes."""
        weights = self.weights if weighted else torch.ones_like(self.weights)
        parts = [tensor.split(sizes) for tensor in (self.images, self.targets, weights)]
        return list(zip(*parts, strict=True))

    def double(self):
        networks, starts = ([network.double() for network in group] for group in (self.networks, self.starts))
        return self._replace(networks=networks, starts=starts, images=self.images.double())


def convolutional():
    """BatchNorm with statistics of its own, dropout, a parameter used at every position, and no symmetry."""
    stem = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.GELU())
    units = [nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.Dropout(0.5), nn.Tanh()) for _ in range(2)]
    stem[1].running_mean.uniform_(-0.5, 0.5)
    return Layered(stem, units, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(6)), num_features=6)


def transformer():
    return adapt(
        VisionTransformer(
            img_size=12, patch_size=4, embed_dim=12, depth=2, num_heads=3, num_classes=0, reg_tokens=1,
            init_values=0.5, pre_norm=True, drop_path_rate=0.5, pos_drop_rate=0.5,
        )
    )  # fmt: skip


BACKBONES: dict[str, tuple[Callable[[], Layered], int]] = {
    "convolutional": (convolutional, 12),
    "transformer": (transformer, 12),
    "tiny": (lambda: adapt(tiny()), 28),
}


@pytest.fixture(params=BACKBONES)
def problem(request):
    """Two networks that moved away from a common start, and 7 images with weights."""
    build, size = BACKBONES[request.param]
    torch.manual_seed(0)
    backbone = build()
    starts = [Forked.single(backbone, len(task), seed=t) for t, task in enumerate(SPLIT.tasks)]
    networks = [Forked.single(backbone, len(task), seed=t) for t, task in enumerate(SPLIT.tasks)]
    with torch.no_grad():
        for network in networks:
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    losses = [BalancedBCE(COUNTS, classes=task) for task in SPLIT.tasks]
    targets = torch.eye(5)[[0, 0, 1, 2, 3, 4, 0]]
    return Problem(networks, starts, losses, SPLIT, torch.randn(7, 3, size, size), targets, torch.rand(7) + 0.5)


class TextBlock(nn.Module):
    """BERT's: attention of separate maps with a mask, then a feed-forward net, norms after the sums."""

    def __init__(self, dim, heads):
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.up, self.down = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)
        self.norm_attention, self.norm_mlp = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.heads, self.dropout = heads, nn.Dropout(0.5)

    def forward(self, hidden, mask):
        q, k, v = (
            f(hidden).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.query, self.key, self.value)
        )
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])
        hidden = self.norm_attention(hidden + self.dropout(self.out(mixed.transpose(1, 2).flatten(2))))
        return self.norm_mlp(hidden + self.dropout(self.down(nn.functional.gelu(self.up(hidden)))))


class TextEncoder(nn.Module):
    """BERT's: words, positions and segments, a mask of what is there, and the first token's features."""

    def __init__(self, num_classes=5, dim=12, vocabulary=11, length=6):
        super().__init__()
        self.words = nn.Embedding(vocabulary, dim, padding_idx=0)
        self.positions = nn.Embedding(length, dim)
        self.segments = nn.Embedding(2, dim)
        self.norm = nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(TextBlock(dim, 3) for _ in range(2))
        self.pooler, self.head = nn.Linear(dim, dim), nn.Linear(dim, num_classes)

    def forward(self, text):
        ids = text["ids"]
        place = torch.arange(ids.shape[1], device=ids.device)
        hidden = self.norm(self.words(ids) + self.positions(place)[None] + self.segments(text["segments"]))
        for block in self.blocks:
            hidden = block(hidden, text["mask"])
        return self.head(torch.tanh(self.pooler(hidden[:, 0])))


def efficientnet():
    """An expanding block with a squeeze, and BatchNorm that ends in an activation."""
    blocks = decode_arch_def([["ds_r1_k3_s1_e1_c8_se0.25"], ["ir_r1_k3_s2_e2_c12_se0.25"]])
    return EfficientNet(blocks, num_classes=5, num_features=16, stem_size=8, drop_rate=0.5)


def _timm(name, **settings):
    return lambda: timm.create_model(name, num_classes=5, **settings)


VIT = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 3}
SWIN = {"img_size": 32, "patch_size": 2, "window_size": 4, "embed_dim": 12, "depths": (2, 1), "num_heads": (2, 4)}
FAMILIES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "vit, registers, scaled layers": (_timm("vit_tiny_patch16_224", reg_tokens=2, init_values=0.5, **VIT), 16),
    "vit, distillation token": (_timm("deit_tiny_distilled_patch16_224", **VIT), 16),
    "vit, relative position": (_timm("vit_relpos_small_patch16_224", **VIT), 16),
    "vit, weights of other modules": (_timm("beit_base_patch16_224", **VIT), 16),
    "swin": (_timm("swin_tiny_patch4_window7_224", **SWIN), 32),
    "swin 2": (_timm("swinv2_tiny_window8_256", **SWIN), 32),
    "convnext": (_timm("convnext_atto", depths=(1, 1, 1, 1), dims=(4, 6, 8, 8)), 32),
    "resnet": (_timm("resnet18", layers=(1, 1, 1, 1), channels=(8, 8, 12, 16)), 32),
    "efficientnet": (lambda: efficientnet(), 32),
    "torch's transformer": (lambda: TorchTransformer(), 0),
    "bert": (TextEncoder, 0),
}


class TorchTransformer(nn.Module):
    """PyTorch's own layer, whose attention keeps its maps to itself, tokens before images."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.5)
        self.head = nn.Linear(8, 5)

    def forward(self, text):
        return self.head(self.layer(self.embed(text["ids"]).transpose(0, 1)).mean(0))


class Case(NamedTuple):
    network: nn.Module
    inputs: torch.Tensor | dict[str, torch.Tensor]
    targets: torch.Tensor

    def part(self, images):
        inputs = self.inputs
        some = {k: v[images] for k, v in inputs.items()} if isinstance(inputs, dict) else inputs[images]
        return some, self.targets[images]

    def double(self):
        inputs = self.inputs if isinstance(self.inputs, dict) else self.inputs.double()
        return Case(self.network.double(), inputs, self.targets.double())


@pytest.fixture(params=FAMILIES)
def family(request):
    """A small network of a family with nothing at its initial zeros and ones, in training mode, and five inputs."""
    build, size = FAMILIES[request.param]
    torch.manual_seed(0)
    network = build().train()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.3, 0.3)
                module.running_var.uniform_(0.5, 1.5)
    ids = torch.tensor(
        [[1, 2, 3, 0, 0, 0], [4, 4, 2, 9, 1, 5], [6, 0, 0, 0, 0, 0], [7, 8, 7, 3, 0, 0], [1, 10, 2, 5, 6, 3]]
    )
    text = {"ids": ids, "segments": (ids % 3 == 0).long(), "mask": ids != 0}
    return Case(network, torch.randn(5, 3, size, size) if size else text, torch.eye(5))


def squares_by_loop(network, loss, inputs, targets, weights=None):
    """Write the definition out: one image at a time, ordinary backpropagation, no module in training mode."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    parameters = dict(network.named_parameters())
    sums = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in parameters.items()}
    for i in range(len(targets)):
        one = {k: v[i : i + 1] for k, v in inputs.items()} if isinstance(inputs, dict) else inputs[i : i + 1]
        value = loss(network(one), targets[i : i + 1])[0]
        for name, gradient in zip(parameters, torch.autograd.grad(value, list(parameters.values())), strict=True):
            sums[name] += gradient.double().square() * (1 if weights is None else float(weights[i]))
    for module, training in modes:
        module.training = training
    return sums


@pytest.fixture
def loop():
    return squares_by_loop


@pytest.fixture
def squares():
    """The engine itself, with formulas or without."""

    def run(network, loss, batches, *, rules=True):
        shapes = {name: matrix_shape(p.shape, batched=False) for name, p in network.named_parameters()}
        slots = {name: Totals({(0, 0): torch.zeros(shape, dtype=torch.float64)}) for name, shape in shapes.items()}
        gathering = Gathering(
            [Capture(network, rules=rules)], [Slot([(0, name)], [total]) for name, total in slots.items()]
        )
        with evaluating([network]):
            for inputs, targets in batches:
                gathering.add(inputs, [lambda logits, t=targets: [gradient_at(loss, logits, t)]], None)
        gathering.refuse_missing()
        return {name: slots[name].products[0, 0].view_as(p) for name, p in network.named_parameters()}

    return run


@pytest.fixture
def assert_squares():
    """Compare squares entry by entry, relative to their tensor's largest.

    A tensor whose gradient is zero but for rounding (the bias of attention's keys) is held to the network's largest.
    """

    def check(found, expected, relative):
        assert found.keys() == expected.keys()
        largest = max(float(values.max()) for values in expected.values())
        for name, values in expected.items():
            assert found[name].shape == values.shape
            scale = max(float(values.max()), 1e-3 * relative * largest)
            torch.testing.assert_close(
                found[name] / scale, values / scale, rtol=0, atol=relative,
                msg=lambda text, name=name: f"{name}: {text}",
            )  # fmt: skip

    return check
