"""The whole way from a data set to a run."""

from __future__ import annotations

import dataclasses
import platform
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import forktail
from forktail.backbones.open import BackboneSpec, input_facts, takes_texts, text_facts
from forktail.data.augment import Augment, Preprocess
from forktail.data.images import DataSet, Images
from forktail.data.open import DataSpec, open_data
from forktail.data.texts import are_texts
from forktail.data.word_pieces import WordPieces
from forktail.errors import InputError
from forktail.evaluation import evaluate
from forktail.files import write_atomically
from forktail.labels import ClassCounts
from forktail.methods import Method, Problem
from forktail.predictor import Predictor, save_predictor
from forktail.recipe import Recipe, apply_settings, deciding, make_recipe, read_recipe
from forktail.report.run_report import write_run_report
from forktail.run import Run, only_writer
from forktail.training.cost import inference_flops
from forktail.training.engine import Engine
from forktail.training.progress import Progress, Silent

EXAMPLE = 96  # longest side in pixels of a picture that the report shows
LARGE = 64  # pictures with a longer side than this need a backbone that the user chooses


def fit(
    data: str | Path,
    method: str | Method | None = None,
    *,
    backbone: str | None = None,
    recipe: str | Path | None = None,
    settings: Iterable[str] = (),
    out: str | Path | None = None,
    seed: int | None = None,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> Run:
    """Train a classifier that is good on every class, evaluate it, and leave all of it in a run directory.

    The same call again resumes an interrupted run, and returns a finished one as it is.

    Args:
        data: A folder of class folders, a list file, a CSV file, an ``.npz`` file, or a named set such as ``glyphs``.
        method: Name of a method, or a method object; by default the recipe's, or else ``osdtw``.
        backbone: Name of a backbone, or a file of its weights; by default one that fits small pictures.
        recipe: A TOML file to start from.
        settings: ``key=value`` settings on top of the recipe, such as ``plan.epochs=10``.
        out: The run directory; by default ``runs/<data>-<method>-<seed>``.
        seed: Seed of all that is random in training.
        cache: Folder of trained stages; runs that share one train a common stage once. By default the run's own.
        progress: Who is told how far it is.

    Returns:
        The run; ``run.metrics["accuracy"]["balanced"]`` is the headline.

    Example:
        >>> run = fit("glyphs", "ce", settings=["data.n_max=4", "data.imbalance=2", "plan.epochs=1"], out=folder)
        >>> 0 <= run.metrics["accuracy"]["balanced"] <= 1
        True
    """
    settings = list(settings)
    resolved = resolve(data, method, backbone=backbone, recipe=recipe, settings=settings, seed=seed)
    place = out if out is not None else default_out(resolved)
    options = {"method": resolved.method.name, "backbone": backbone, "recipe": recipe, "out": out}
    settings += [] if seed is None else [f"seed={seed}"]
    command = shell_command("fit", data, options, settings)
    return fit_recipe(resolved, place, cache=cache, progress=progress, command=command)


def shell_command(verb: str, data: str | Path, options: Mapping[str, object], settings: Iterable[str]) -> str:
    """Write what was asked as a command line.

    Args:
        verb: Such as ``fit``.
        data: The data.
        options: Values of flags; those that are None were not given.
        settings: Values of ``--set``.

    Returns:
        The command, quoted for a shell.

    Example:
        >>> shell_command("fit", "my pictures", {"method": "ce", "out": None}, ["seed=1"])
        "forktail fit 'my pictures' --method ce --set seed=1"
    """
    words = ["forktail", verb, str(data)]
    words += [word for flag, value in options.items() if value is not None for word in (f"--{flag}", str(value))]
    words += [word for setting in settings for word in ("--set", setting)]
    return shlex.join(words)


def fit_recipe(
    recipe: Recipe,
    out: str | Path,
    *,
    data: DataSet | None = None,
    cache: str | Path | None = None,
    progress: Progress | None = None,
    command: str,
) -> Run:
    """Do what a recipe says, or find that it is done.

    Args:
        recipe: The checked recipe.
        out: The run directory.
        data: The recipe's data set, where the caller has opened it already and has said what it is.
        cache: Folder of trained stages; by default the run's own.
        progress: Who is told how far it is.
        command: What was asked, for the record.

    Returns:
        The finished run.
    """
    run = Run(out)
    check_place(run, recipe)
    if not run.finished:
        told = progress or Silent()
        opened = data if data is not None else open_data(recipe.data, shots=recipe.split.shots)
        problem = make_problem(recipe, opened)
        for sentence in summary(opened, problem) if data is None else []:
            told.note(sentence)
        with only_writer(run.path):
            _fit(run, recipe, opened, problem, cache, told, command)
    if not (run.path / "report.html").is_file():
        write_run_report(run)
    return run


def summary(data: DataSet, problem: Problem) -> list[str]:
    """Say what was found and what will be done with it, before anything is trained.

    Args:
        data: The opened data set.
        problem: What was made of it.

    Returns:
        Sentences for the user.
    """
    spec, counts = problem.backbone_spec, problem.counts.per_class
    brought = {"tiny": "embedded", "minilm": "installed"}.get(spec.name, "hub")
    weights = spec.weights or ("random" if spec.has_random_weights else brought)
    what = "texts" if are_texts(data.train) else "pictures"
    prepared = problem.preprocess
    size = f"{prepared.length} tokens" if isinstance(prepared, WordPieces) else f"{prepared.size} px"
    frozen = f", its stem and first {spec.frozen_units} units frozen" if spec.frozen_units else ""
    return [
        f"{data.name}: {len(data.train)} training and {len(data.test)} test {what} of {len(counts)} classes,"
        f" {counts.max()} to {counts.min()} a class",
        f"backbone {spec.name or 'from file'}{frozen}, weights {weights}, {what} at {size}",
        *data.notes,
    ]


def resolve(
    data: str | Path,
    method: str | Method | None = None,
    *,
    backbone: str | None = None,
    recipe: str | Path | None = None,
    settings: Iterable[str] = (),
    seed: int | None = None,
) -> Recipe:
    """Join recipe file, arguments and settings, each over the one before.

    Args:
        data: As in `fit`.
        method: As in `fit`.
        backbone: As in `fit`.
        recipe: As in `fit`.
        settings: As in `fit`.
        seed: As in `fit`.

    Returns:
        The checked recipe.

    Raises:
        InputError: If anything in it is unknown or does not fit.
    """
    table = read_recipe(recipe) if recipe is not None else {}
    # "pictures" and "pictures/" are the same; "./glyphs" stays a folder beside the named set
    path = str(data).rstrip("/") or str(data)[:1]
    given = [f"data.path={_quoted(path)}"]
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InputError(f"data {path!r}", expected="a path in Unicode", remedy="rename it") from None
    named = table.get("method", {})
    if isinstance(method, str) and (not isinstance(named, dict) or method != named.get("name")):
        table["method"] = {"name": method}
    if backbone is not None:
        encoder = Path(backbone) / "encoder.safetensors"  # of a folder that `forktail pretrain` wrote
        parsed = BackboneSpec.parse(str(encoder) if encoder.is_file() else backbone)
        given += [f"backbone.{key}={_quoted(value)}" for key in ("name", "weights") if (value := getattr(parsed, key))]
    if seed is not None:
        given.append(f"seed={seed}")
    settings = list(settings)
    if isinstance(method, Method) and any(setting.startswith("method.") for setting in settings):
        raise InputError("settings of [method] beside a method object", remedy="give them to the object")
    made = make_recipe(apply_settings(table, [*given, *settings]))
    return dataclasses.replace(made, method=method) if isinstance(method, Method) else made


def _quoted(text: str) -> str:
    """Write a string as TOML, whatever characters it holds."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c >= " " and c != "\x7f" else f"\\u{ord(c):04x}" for c in escaped) + '"'


def default_out(recipe: Recipe) -> Path:
    """Name a run directory after what it holds.

    Args:
        recipe: The recipe.

    Returns:
        ``runs/<data>-<method>-<seed>``.
    """
    return Path("runs") / f"{Path(recipe.data.path).name or 'data'}-{recipe.method.name}-{recipe.seed}"


def check_place(run: Run, recipe: Recipe) -> None:
    """Refuse a folder that is no run, and a finished run that was asked something else.

    Args:
        run: The run directory.
        recipe: What shall be done there.

    Raises:
        InputError: If it cannot be done there.
    """
    # An unfinished run may go on under another recipe: its stages are named by what they depend on.
    path = run.path / "recipe.toml"
    if not path.is_file():
        if run.path.is_dir() and any(entry.name != ".lock" for entry in run.path.iterdir()):
            raise InputError(f"{run.path}: holds other files and no run", remedy="choose another --out")
        return
    if run.finished:
        check_same_recipe(run, recipe)


def check_same_recipe(run: Run, recipe: Recipe) -> None:
    """Refuse finished work that was asked something else.

    Args:
        run: The run directory.
        recipe: What is asked now.

    Raises:
        InputError: If the recipe there decides something else.
    """
    there = make_recipe(read_recipe(run.path / "recipe.toml"))  # what it does not say is at its default
    before, now = (deciding(tomllib.loads(one.to_toml())) for one in (there, recipe))
    different = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if different:
        said = [f"{key} = {before.get(key, 'default')} there, {now.get(key, 'default')} now" for key in different]
        raise InputError(
            f"{run.path}: a finished run with another recipe ({'; '.join(said[:5])})",
            remedy=f"choose another --out, such as {run.path}-2",
        )


def _fit(
    run: Run,
    recipe: Recipe,
    data: DataSet,
    problem: Problem,
    cache: str | Path | None,
    progress: Progress,
    command: str,
) -> None:
    engine = recipe.engine(run, cache=None if cache is None else Path(cache), progress=progress)
    run.write_text("recipe.toml", recipe.to_toml())
    run.write_json("env.json", {**_environment(engine, data), "command": command})
    predictor = recipe.method.fit(problem, engine).to(engine.runtime.device).eval()
    run.write_json("env.json", {**_environment(engine, data), "command": command})  # with what the method had to say
    save_predictor(run.model, predictor)
    run.write_json("cost.json", _cost(engine, predictor, problem))
    if data.val is not None:
        run.write_json("validation.json", evaluate(predictor, data.val, on="validation", shots=recipe.split.shots))
    metrics = evaluate(predictor, data.test, on="test", shots=recipe.split.shots)
    for pair in metrics["confused"]:
        for position in pair["positions"]:
            _save_example(run, data.test, position)
    run.write_json("metrics.json", metrics)


def _cost(engine: Engine, predictor: Predictor, problem: Problem) -> dict[str, float]:
    """Say what the model costs, counted at fixed shapes; seconds stand in ``timing.jsonl``."""
    return {
        "training_flops": engine.flops,
        "training_memory": max((record.get("memory", 0) for record in engine.manifest), default=0),
        "inference_flops": inference_flops(predictor.network, problem.preprocess.shape),
        "parameters": sum(parameter.numel() for parameter in predictor.network.parameters()),
    }


def _save_example(run: Run, images: Images, position: int) -> None:
    """Keep a small copy of a picture for the report; its name says nothing that the user chose."""
    picture = images.read(position)
    if isinstance(picture, str):  # the report quotes it
        return
    picture.thumbnail((EXAMPLE, EXAMPLE))
    write_atomically(run.path / "confused" / f"{position}.png", lambda part: picture.save(part, format="PNG"))


def make_problem(recipe: Recipe, data: DataSet) -> Problem:
    """Turn an opened data set into what a method is given; the test split stays behind.

    Args:
        recipe: The recipe.
        data: The opened data set.

    Returns:
        The problem.
    """
    spec = choose_backbone(recipe.backbone, data.train)
    preprocess = _preprocess(spec, data.train)
    counts = ClassCounts(data.train.class_counts())
    return Problem(
        train=data.train.with_transform(_augmented(preprocess, data, recipe.data)),
        val=data.val.with_transform(preprocess) if data.val is not None else None,
        counts=counts,
        split=recipe.split.split(counts),
        backbone_spec=spec,
        preprocess=preprocess,
        seed=recipe.seed,
    )


def _preprocess(spec: BackboneSpec, images: Images) -> Preprocess | WordPieces:
    """Say how the data become inputs of the backbone, which has to be one for them."""
    if takes_texts(spec) != are_texts(images):
        named = spec.name or str(spec.weights)
        found, other = ("pictures", "texts") if takes_texts(spec) else ("texts", "pictures")
        raise InputError(
            f"the data are {found}, and the backbone {named} takes {other}",
            expected=f"a backbone for {found}",
            remedy=f"choose --backbone {'minilm' if found == 'texts' else 'tiny, or another for pictures'}",
        )
    return WordPieces(**text_facts(spec)) if takes_texts(spec) else Preprocess(**input_facts(spec))


def _augmented(preprocess: Preprocess | WordPieces, data: DataSet, spec: DataSpec) -> Augment | WordPieces:
    """Return the training transform; there is none for texts but the one that is always there."""
    if isinstance(preprocess, Preprocess):
        return Augment(preprocess, data.augment, spec.erasing)
    if data.augment != "none" or spec.erasing:
        raise InputError(
            f"data.augment = {data.augment} and data.erasing = {spec.erasing:g} for texts",
            expected="none, which texts have",
            remedy="leave them out",
        )
    return preprocess


def choose_backbone(spec: BackboneSpec, images: Images) -> BackboneSpec:
    """Fill in `tiny` where the pictures are small and nothing was named, and `minilm` for texts.

    Args:
        spec: What the recipe says.
        images: The training images.

    Returns:
        A spec with a name or a weights file.

    Raises:
        InputError: If the pictures are large and no backbone was named.
    """
    if spec.name or spec.weights not in {None, "random", "embedded"}:
        return spec
    if are_texts(images):
        return dataclasses.replace(spec, name="minilm")
    side = typical_side(images)
    if side <= LARGE:
        return dataclasses.replace(spec, name="tiny")
    raise InputError(
        f"the pictures are about {side} px wide and no backbone is named",
        expected="--backbone NAME or FILE",
        remedy=(
            "for instance --backbone tiny (shrinks to 28 px: minutes on a CPU, details are lost), "
            "--backbone vit_small_patch16_224.augreg_in21k (22 M parameters, downloaded: about 28 GFLOP per image and "
            "step, a GPU for more than a few thousand images), "
            "--backbone vit_base_patch16_224.mae (86 M parameters, the paper's: about 105 GFLOP per image and step)"
        ),
    )


def typical_side(images: Images, sample: int = 32) -> int:
    """Return the median longer side of some pictures.

    Args:
        images: A set.
        sample: How many pictures are looked at, evenly spread.

    Returns:
        Pixels.
    """
    positions = np.linspace(0, len(images) - 1, min(sample, len(images))).astype(int)
    pictures = (images.read(int(i)) for i in positions)
    return int(np.median([max(picture.size) for picture in pictures if not isinstance(picture, str)]))


def _environment(engine: Engine, data: DataSet) -> dict[str, Any]:
    return {
        "forktail": forktail.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "device": str(engine.runtime.device),
        "threads": torch.get_num_threads(),
        "data": {
            "name": data.name,
            **fingerprints(data),
            "images": len(data.train),
            "notes": [*data.notes, *engine.notes],
        },
    }


def fingerprints(data: DataSet) -> dict[str, str]:
    """Digest the pictures of a data set.

    Args:
        data: An opened data set.

    Returns:
        A digest of each part that there is: ``train``, ``validation`` and ``test``.
    """
    parts = {"train": data.train, "validation": data.val, "test": data.test}
    return {name: images.fingerprint for name, images in parts.items() if images is not None}


def trained_on(run: Run, data: DataSet) -> bool:
    """Say whether a run saw these very pictures.

    Args:
        run: A run that has begun.
        data: An opened data set.

    Returns:
        True if training, validation and test part are the same.
    """
    found = run.read_object("env.json").get("data")
    return isinstance(found, dict) and fingerprints(data).items() <= found.items()
