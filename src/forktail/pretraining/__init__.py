"""Initial weights for a backbone: supervised on other pictures, or masked auto-encoding without labels."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from forktail.backbones.forked import Forked
from forktail.backbones.open import input_facts, open_backbone, save_backbone
from forktail.data.augment import Augment, Preprocess
from forktail.data.images import DataSet
from forktail.data.open import open_data
from forktail.errors import InputError
from forktail.losses.cross_entropy import CrossEntropy
from forktail.pretraining.masked_autoencoder import MaskedAutoencoder
from forktail.recipe import Recipe, apply_settings, make_recipe
from forktail.run import Run, only_writer
from forktail.runtime import Runtime
from forktail.training.engine import Engine
from forktail.training.objective import Supervised
from forktail.training.progress import Progress, Silent
from forktail.training.randomness import seed_of
from forktail.training.stream import evaluation_batches

Kind = Literal["supervised", "mae"]


def pretrain(
    data: str,
    kind: Kind = "supervised",
    *,
    backbone: str = "tiny",
    settings: Iterable[str] = (),
    out: str | Path,
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Pretrain a backbone from random weights and write ``encoder.safetensors`` with a card beside it.

    The same call again resumes an interrupted run.

    Args:
        data: What `forktail.fit` takes; MAE ignores the labels.
        kind: ``supervised`` (cross-entropy over all classes) or ``mae`` (mask 0.75, normalised pixels).
        backbone: Name of the backbone.
        settings: ``key=value`` settings, such as ``plan.epochs=10``; ``plan``, ``data``, ``seed``, ``device`` apply.
        out: The run directory.
        dtype: Type of the numbers in the file.
        progress: Who is told how far it is.

    Returns:
        The card: command, seed, what was measured, and a one-line ``summary``.

    Raises:
        InputError: If a setting concerns a method, which pretraining has none of.
    """
    table = {"data": {"path": str(data)}, "backbone": {"name": backbone, "weights": "random"}, "method": {"name": "ce"}}
    settings = list(settings)
    if any(setting.startswith("method.") for setting in settings):
        raise InputError("--set method... with pretrain", expected="settings of data, plan, backbone, seed or device")
    recipe = make_recipe(apply_settings(table, settings))
    run = Run(out)
    with only_writer(run.path):
        card_path = run.path / "encoder.json"
        asked = {"kind": kind, "recipe": recipe.to_toml()}
        if card_path.is_file():
            card: dict[str, Any] = run.read_json("encoder.json")
            if {key: card[key] for key in asked} != asked:
                raise InputError(f"{out}: holds weights that were made otherwise", remedy="choose another --out")
            return card
        return _pretrain(run, recipe, kind, asked, dtype, progress or Silent())


def _pretrain(
    run: Run, recipe: Recipe, kind: Kind, asked: dict[str, Any], dtype: torch.dtype, progress: Progress
) -> dict[str, Any]:
    data = open_data(recipe.data)
    preprocess = Preprocess(**input_facts(recipe.backbone))
    runtime = Runtime.open(recipe.device)
    engine = Engine(
        run,
        recipe.plan,
        seed=recipe.seed,
        runtime=runtime,
        progress=progress,
        workers=recipe.workers,
        checkpoint_seconds=recipe.checkpoint_seconds,
    )
    encoder = open_backbone(recipe.backbone, seed=seed_of(recipe.seed, "backbone"))
    train = data.train.with_transform(Augment(preprocess, data.augment))
    if kind == "mae":
        autoencoder = MaskedAutoencoder(encoder, image_side=preprocess.size, seed=seed_of(recipe.seed, "decoder"))
        encoder = engine.train("mae", autoencoder, train).backbone
        measured: dict[str, Any] = {}
    else:
        network = Forked.single(encoder, len(data.train.classes), seed_of(recipe.seed, "classifier"))
        engine.train("supervised", Supervised(network, CrossEntropy()), train)
        encoder = network.path(0)
        measured = {"test_accuracy": _accuracy(network, data, preprocess, runtime)}
    save_backbone(run.path / "encoder.safetensors", encoder, recipe.backbone, dtype)
    loss = (run.path / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1:]
    accuracy = "".join(f", {100 * value:.1f} % of its test pictures" for value in measured.values())
    card = {
        **asked,
        "images": len(data.train),
        "classes": len(data.train.classes),
        "last_epoch": loss,
        **measured,
        "summary": f"{recipe.backbone.name}, {kind} on {len(data.train)} pictures of {data.name}{accuracy}",
    }
    run.write_json("encoder.json", card)
    return card


@torch.no_grad()
def _accuracy(network: nn.Module, data: DataSet, preprocess: Preprocess, runtime: Runtime) -> float:
    network.eval()
    hits = [
        network(inputs.to(runtime.device)).argmax(1).cpu() == labels
        for inputs, labels, _ in evaluation_batches(data.test.with_transform(preprocess))
    ]
    return float(torch.cat(hits).double().mean())


__all__ = ["MaskedAutoencoder", "pretrain"]
