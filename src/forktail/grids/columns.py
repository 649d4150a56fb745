"""One piece of a grid's work: all depths at one weight with one seed, trained and measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from forktail.data.images import DataSet, Images
from forktail.errors import InputError
from forktail.evaluation import score_images
from forktail.fitting import check_place, check_same_recipe, make_problem
from forktail.grids.readings import as_read
from forktail.methods._distances import drift
from forktail.methods.osdtw import OSDTW
from forktail.metrics import bernoulli_risk, evaluate_scores
from forktail.predictor import Predictor, Rule, prior_logit, uniform_scores
from forktail.recipe import Recipe
from forktail.run import Run, as_fit_wrote_it, only_writer
from forktail.training.progress import Progress

RULES: tuple[Rule, ...] = ("margin", "posterior")
ACCURACIES = ("balanced", "many", "medium", "few", "head", "tail")
RESULT = "column.json"


@dataclass(frozen=True)
class Column:
    """What one process does.

    Args:
        recipe: All that decides it, its seed among it.
        weight: w of the head; None is the piece that needs none: what the readings predict, and depth 0.
        depths: Depths to train and measure; none of them 0 where there is a weight.
        readings: Names of the readings to compute; empty where there is a weight.
        inputs: Digests of the pictures and of the pretrained weights, which names in the recipe do not tell.
        out: Its run directory.
    """

    recipe: Recipe
    weight: float | None
    depths: tuple[int, ...]
    readings: tuple[str, ...]
    inputs: Mapping[str, str]
    out: Path

    @property
    def name(self) -> str:
        """What it is called in notes."""
        return f"seed {self.recipe.seed}, " + ("predictions" if self.weight is None else f"weight {self.weight:.4g}")

    @property
    def asked(self) -> dict[str, Any]:
        """What the recipe does not say of it, as JSON gives it back."""
        axes = {"weight": self.weight, "depths": list(self.depths), "readings": list(self.readings)}
        return {**axes, "inputs": dict(self.inputs)}

    @property
    def found(self) -> dict[str, Any] | None:
        """What it measured, where the very same piece was done before; another recipe there is an InputError."""
        run = Run(self.out)
        if not (run.path / RESULT).is_file():
            return None
        check_same_recipe(run, self.recipe)
        result = run.read_object(RESULT)
        with as_fit_wrote_it(run.path / RESULT):
            same = all(result.get(key) == value for key, value in self.asked.items())
            _ = result["cells"], result["predicted"], result["stages"], result["drift"]
        return result if same else None


def measure(column: Column, data: DataSet, cache: Path, progress: Progress) -> None:
    """Train what is missing of a column, and write what it measured.

    Args:
        column: The piece of work.
        data: The opened data set.
        cache: Folder of trained stages, of all columns together.
        progress: Who is told how far it is.

    Raises:
        InputError: If training fails, as by divergence.
    """
    recipe, run = column.recipe, Run(column.out)
    check_place(run, recipe)
    method = _method(recipe)
    problem = make_problem(recipe, data)
    with only_writer(run.path):
        engine = recipe.engine(run, cache=cache, progress=progress)
        run.write_text("recipe.toml", recipe.to_toml())
        specialists = method.specialists(problem, engine)
        predicted: dict[str, dict[str, Any]] = {}
        for name in column.readings:
            try:
                found = as_read(method, name).criterion(problem, engine, specialists)
            except InputError as error:  # as where no damping explains how far Stage 1 moved
                predicted[name] = {"table": None, "reason": str(error)}
            else:
                predicted[name] = {"table": found.table.total.tolist(), "damping": found.table.damping}
        head = 0.5 if column.weight is None else column.weight
        cells: list[dict[str, Any]] = []
        for depth in column.depths:
            raw, refined = method.cell(problem, engine, specialists, depth, (head, 1 - head))
            spec = problem.spec(method, depth=depth)
            # With decoders of its own a Stage 2 of the whole trunk gives the same scores wherever it is forked.
            known = cells and (method.decoders, method.stage2) == ("stage2", "whole")
            before = cells[0]["raw"] if known else _measured(method.reads(raw, spec), data, recipe.split.shots)
            after = _measured(method.reads(refined, spec), data, recipe.split.shots)
            cells.append({"depth": depth, "raw": before, "refined": after})
        whole = None
        if column.weight is not None:
            whole = method.shared_network(problem, engine, specialists, (head, 1 - head))
        stages = {record["fingerprint"]: record["flops"] for record in engine.manifest}
        run.write_json(
            RESULT,
            {
                **column.asked,
                "seed": recipe.seed,
                "cells": cells,
                "drift": None if whole is None else drift(whole, specialists),
                "predicted": predicted,
                "stages": stages,
            },
        )


def _method(recipe: Recipe) -> OSDTW:
    assert isinstance(recipe.method, OSDTW)
    return recipe.method


def _measured(predictor: Predictor, data: DataSet, shots: str) -> dict[str, Any]:
    parts = {"validation": data.val, "test": data.test}
    return {name: figures(predictor, images, shots) for name, images in parts.items() if images is not None}


def figures(predictor: Predictor, images: Images, shots: str) -> dict[str, Any]:
    """Measure a model of Bernoulli outputs under both rules.

    Args:
        predictor: The model.
        images: A set with the model's classes.
        shots: Rule of the shot groups.

    Returns:
        ``risk`` under the training prior and ``risk_uniform``, in nats, and for each rule the accuracies and ``nll``.
    """
    _, logits = score_images(predictor, images)
    assert logits is not None
    counts, split = predictor.spec.class_counts, predictor.spec.split
    uniform = np.full(counts.num_classes, 1 / counts.num_classes)
    log_prior = torch.from_numpy(counts.prior).log()
    outputs = torch.from_numpy(logits) - predictor.tau * prior_logit(log_prior)
    risks = {"risk": bernoulli_risk(logits, images.labels, counts.prior)}
    risks["risk_uniform"] = bernoulli_risk(logits, images.labels, uniform)
    by_rule: dict[str, Any] = {}
    for rule in RULES:
        scores = uniform_scores(outputs, log_prior, rule, predictor.tau).numpy()
        found: dict[str, Any] = evaluate_scores(scores, images.labels, counts, split, shots)
        by_rule[rule] = {**{name: found["accuracy"][name] for name in ACCURACIES}, "nll": found["nll"]}
    return {**risks, **by_rule}
