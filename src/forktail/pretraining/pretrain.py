"""From pictures to a file of initial weights, with a card that says how they were made."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from forktail.backbones.forked import Forked
from forktail.backbones.open import input_facts, open_backbone, save_backbone, takes_texts
from forktail.data.augment import Augment, Preprocess
from forktail.data.images import DataSet
from forktail.data.open import open_data
from forktail.data.texts import are_texts
from forktail.errors import InputError
from forktail.losses.cross_entropy import CrossEntropy
from forktail.methods._masked_autoencoder import MaskedAutoencoder
from forktail.recipe import Recipe, apply_settings, deciding, make_recipe
from forktail.run import Run, only_writer
from forktail.runtime import Runtime
from forktail.training.objective import Supervised
from forktail.training.progress import Progress, Silent
from forktail.training.randomness import seed_of
from forktail.training.stream import evaluation_batches

Kind = Literal["supervised", "mae"]
CARD = "encoder.json"


def pretrain(
    data: str,
    kind: Kind = "supervised",
    *,
    backbone: str = "tiny",
    settings: Iterable[str] = (),
    out: str | Path,
    dtype: Literal["float32", "bfloat16"] = "float32",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Pretrain a backbone from random weights and write ``encoder.safetensors`` with a card beside it.

    The same call again resumes an interrupted run.

    Args:
        data: What `forktail.fit` takes; MAE ignores the labels.
        kind: ``supervised`` (cross-entropy over all classes) or ``mae`` (mask 0.75, normalised pixels).
        backbone: Name of the backbone.
        settings: ``key=value`` settings of data, plan, seed or device, such as ``plan.epochs=10``.
        out: The run directory.
        dtype: Type of the numbers in the file.
        progress: Who is told how far it is.

    Returns:
        The card: command, seed, what was measured, and a one-line ``summary``.

    Raises:
        InputError: If a setting concerns what pretraining does not have, or ``out`` holds other weights.
    """
    settings = list(settings)
    for setting in settings:
        if setting.partition(".")[0] in ("method", "backbone", "split"):
            raise InputError(f"--set {setting} with pretrain", expected="settings of data, plan, seed or device")
    table = {"data": {"path": str(data)}, "backbone": {"name": backbone, "weights": "random"}, "method": {"name": "ce"}}
    recipe = make_recipe(apply_settings(table, settings))
    words = ["forktail", "pretrain", str(data), "--kind", kind, "--backbone", backbone, "--dtype", dtype]
    words += [word for setting in settings for word in ("--set", setting)]
    asked = {"kind": kind, "dtype": dtype, "recipe": deciding(tomllib.loads(recipe.to_toml()))}
    run = Run(out)
    with only_writer(run.path):
        if not (run.path / CARD).is_file():
            made = _pretrain(run, recipe, kind, dtype, progress or Silent())
            run.write_json(CARD, {"command": shlex.join(words), **made, **asked})
        card = run.read_object(CARD)
        if {key: card.get(key) for key in asked} != asked:
            raise InputError(f"{out}: holds weights of `{card.get('command')}`", remedy="choose another --out")
        return card


def _pretrain(run: Run, recipe: Recipe, kind: Kind, dtype: str, progress: Progress) -> dict[str, Any]:
    data = open_data(recipe.data)
    if takes_texts(recipe.backbone) or are_texts(data.train):
        raise InputError("pretraining on texts", expected="pictures, and a backbone for them", remedy="name others")
    preprocess = Preprocess(**input_facts(recipe.backbone))
    engine = recipe.engine(run, progress=progress)
    encoder = open_backbone(recipe.backbone, seed=seed_of(recipe.seed, "backbone"))
    train = data.train.with_transform(Augment(preprocess, data.augment, recipe.data.erasing))
    measured: dict[str, Any] = {}
    if kind == "mae":
        autoencoder = MaskedAutoencoder(encoder, image_side=preprocess.size, seed=seed_of(recipe.seed, "decoder"))
        encoder = engine.train("mae", autoencoder, train).backbone
    else:
        network = Forked.single(encoder, len(data.train.classes), seed_of(recipe.seed, "classifier"))
        engine.train("supervised", Supervised(network, CrossEntropy()), train)
        encoder = network.path(0)
        measured["test_accuracy"] = _accuracy(network, data, preprocess, engine.runtime)
    save_backbone(run.path / "encoder.safetensors", encoder, recipe.backbone, getattr(torch, dtype))
    accuracy = f", {100 * measured['test_accuracy']:.1f} % of its test pictures right" if measured else ""
    return {
        "summary": f"{recipe.backbone.name}, {kind} on {len(data.train)} pictures of {data.name}{accuracy}",
        "seed": recipe.seed,
        "images": len(data.train),
        "classes": len(data.train.classes),
        "flops": engine.flops,
        "threads": torch.get_num_threads(),
        **measured,
    }


@torch.no_grad()
def _accuracy(network: nn.Module, data: DataSet, preprocess: Preprocess, runtime: Runtime) -> float:
    network.eval()
    hits = [
        network(inputs.to(runtime.device)).argmax(1).cpu() == labels
        for inputs, labels, _ in evaluation_batches(data.test.with_transform(preprocess))
    ]
    return float(torch.cat(hits).double().mean())
