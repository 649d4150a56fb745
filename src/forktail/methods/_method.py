"""What a method is: hyper-parameters as fields, and the algorithm as `fit`."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import nn

from forktail.backbones.forked import Forked
from forktail.backbones.layered import Layered
from forktail.backbones.open import BackboneSpec, architecture, open_backbone
from forktail.data.augment import Preprocess
from forktail.data.images import Images
from forktail.data.word_pieces import WordPieces
from forktail.labels import ClassCounts, TaskSplit
from forktail.predictor import ModelSpec, Predictor, for_pictures
from forktail.training.engine import Engine
from forktail.training.objective import freeze
from forktail.training.randomness import seed_of


@dataclass(frozen=True)
class Problem:
    """What a method is given. There is no test split in it.

    Args:
        train: Training images with the training transform.
        val: Images to choose with, or None: then the last step is kept and nothing is chosen by accuracy.
        counts: Training images of each class, without those that were held out of them.
        split: Which classes make which task.
        backbone_spec: Which backbone with which initial weights.
        preprocess: How a picture or text becomes an input without augmentation.
        seed: Seed of initial classifiers and random backbones.
    """

    train: Images
    val: Images | None
    counts: ClassCounts
    split: TaskSplit
    backbone_spec: BackboneSpec
    preprocess: Preprocess | WordPieces
    seed: int = 0

    @property
    def picture_size(self) -> int:
        """Side of the square inputs in pixels, for a method that cannot do without pictures."""
        return for_pictures(self.preprocess).size

    def backbone(self) -> Layered:
        """Return a fresh copy of the pretrained backbone, its stem frozen if units of it are to be."""
        backbone = open_backbone(self.backbone_spec, seed=seed_of(self.seed, "backbone"))
        if self.backbone_spec.frozen_units:
            freeze(backbone.stem, "fixed")
        return backbone

    def network(self, split: TaskSplit | None = None, depth: int | None = None) -> Forked:
        """Return an untrained network on the pretrained backbone.

        Args:
            split: Its tasks; by default one task of all classes, an ordinary network.
            depth: How many units the tasks share; by default all.

        Returns:
            A network whose classifiers are initialised from the problem's seed.
        """
        backbone = self.backbone()
        split = split or TaskSplit.single(self.counts.num_classes)
        return Forked(backbone, split, backbone.depth if depth is None else depth, seed_of(self.seed, "classifier"))

    def generator(self, purpose: str) -> torch.Generator:
        """Return a generator for something that a method draws before training, such as initial weights.

        Args:
            purpose: What the numbers are for.

        Returns:
            A fresh generator, the same at every call.
        """
        return torch.Generator().manual_seed(seed_of(self.seed, purpose))

    def spec(self, method: Method, **structure: Any) -> ModelSpec:
        """Say what a model of this problem is but for its weights.

        Args:
            method: The method that makes it.
            structure: What the method decided.

        Returns:
            The spec.
        """
        return ModelSpec(
            method=method.name,
            options=dataclasses.asdict(method),
            backbone=architecture(self.backbone_spec),
            preprocess=self.preprocess,
            classes=self.train.classes,
            counts=tuple(int(n) for n in self.counts.per_class),
            tasks=tuple(tuple(int(c) for c in task) for task in self.split.tasks),
            structure=structure,
        )


@dataclass(frozen=True)
class Method(ABC):
    """A system for long-tailed recognition; its fields are its hyper-parameters and the recipe's keys.

    ``summary`` says in one line what it does, ``source`` where it comes from, ``stages`` what its stages and analyses
    are called in a run's manifest, ``compute`` what training costs at default settings, in units of ``ce`` at the same
    ``plan.epochs``.
    """

    summary: ClassVar[str]
    source: ClassVar[str]
    stages: ClassVar[tuple[str, ...]]
    compute: ClassVar[float]

    @property
    def name(self) -> str:
        """The name in recipes and on the command line: that of the file."""
        return type(self).__module__.rpartition(".")[2]

    @final
    def build(self, spec: ModelSpec) -> Predictor:
        """Return an untrained model of the right structure, ready for a strict load."""
        return self.reads(self.network(spec), spec)

    @abstractmethod
    def network(self, spec: ModelSpec) -> nn.Module:
        """Return an untrained network of the structure that the spec describes."""

    @abstractmethod
    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Say how a network's outputs become scores."""

    @abstractmethod
    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Train on a problem and return the model."""


@dataclass(frozen=True)
class Adapts(Method):
    """A method that can go on learning on unlabelled test images.

    What comes out has seen the test images: its figures are transductive, reported by themselves, and neither `fit` nor
    a comparison ever asks for them.
    """

    @abstractmethod
    def adapt(self, predictor: Predictor, images: Images, seed: int) -> Predictor:
        """Adapt a trained model to unlabelled images.

        Args:
            predictor: What `fit` returned; it stays as it is.
            images: Images with an augmenting transform; their labels are not to be looked at.
            seed: Seed of all that is random in it.

        Returns:
            The adapted model.
        """
