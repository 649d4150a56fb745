"""The whole way from a data set to a run, and from a run to predictions."""

from __future__ import annotations

import dataclasses
import platform
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import forktail
from forktail.backbones.open import BackboneSpec, input_facts
from forktail.data.augment import Augment, Preprocess
from forktail.data.images import DataSet, Images
from forktail.data.loose_pictures import find_pictures, open_loose_picture
from forktail.data.open import DataSpec, open_data, open_test
from forktail.errors import InputError
from forktail.evaluation import evaluate
from forktail.labels import ClassCounts
from forktail.methods import Method, Problem, find_method
from forktail.predictor import Prediction, Predictor, Prior, load_weights, read_spec, save_predictor
from forktail.recipe import Recipe, apply_settings, deciding, make_recipe, read_recipe
from forktail.run import Run, only_writer
from forktail.runtime import Runtime
from forktail.training.engine import Engine
from forktail.training.progress import Progress, Silent

PREDICT_BATCH = 64
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
    resolved = resolve(data, method, backbone=backbone, recipe=recipe, settings=settings, seed=seed)
    run = Run(out if out is not None else default_out(resolved))
    _check_place(run, resolved)
    if not run.finished:
        told = progress or Silent()
        opened = open_data(resolved.data)
        problem = make_problem(resolved, opened)
        for sentence in _summary(opened, problem):
            told.note(sentence)
        with only_writer(run.path):
            _fit(run, resolved, opened, problem, cache, told)
    return run


def _summary(data: DataSet, problem: Problem) -> list[str]:
    """Say what was found and what will be done with it, before anything is trained."""
    spec, counts = problem.backbone_spec, problem.counts.per_class
    weights = spec.weights or ("embedded" if spec.name == "tiny" else "from the hub" if "." in spec.name else "random")
    return [
        f"{data.name}: {len(data.train)} training and {len(data.test)} test pictures of {len(counts)} classes,"
        f" {counts.max()} to {counts.min()} a class",
        f"backbone {spec.name or 'from file'}, weights {weights}, pictures at {problem.preprocess.size} px",
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
    given = [f"data.path={_quoted(str(data).rstrip('/') or '/')}"]
    try:
        str(data).encode()
    except UnicodeEncodeError:
        raise InputError(f"data {str(data)!r}", expected="a path in Unicode") from None
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


def _check_place(run: Run, recipe: Recipe) -> None:
    """Refuse a folder that is no run, and a finished run that was asked something else."""
    # An unfinished run may go on under another recipe: its stages are named by what they depend on.
    path = run.path / "recipe.toml"
    if not path.is_file():
        if run.path.is_dir() and any(entry.name != ".lock" for entry in run.path.iterdir()):
            raise InputError(f"{run.path}: holds other files and no run", remedy="choose another --out")
        return
    if run.finished:
        before, now = deciding(read_recipe(path)), deciding(tomllib.loads(recipe.to_toml()))
        different = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        if different:
            said = [f"{key} = {before.get(key, 'default')} there, {now.get(key, 'default')} now" for key in different]
            raise InputError(
                f"{run.path}: a finished run with another recipe ({'; '.join(said[:5])})",
                remedy=f"choose another --out, such as {run.path}-2",
            )


def _fit(
    run: Run, recipe: Recipe, data: DataSet, problem: Problem, cache: str | Path | None, progress: Progress
) -> None:
    runtime = Runtime.open(recipe.device)
    run.write_text("recipe.toml", recipe.to_toml())
    run.write_json("env.json", _environment(runtime, data))
    engine = Engine(
        run,
        recipe.plan,
        seed=recipe.seed,
        runtime=runtime,
        cache=None if cache is None else Path(cache),
        progress=progress,
        workers=recipe.workers,
        checkpoint_seconds=recipe.checkpoint_seconds,
    )
    predictor = recipe.method.fit(problem, engine).to(runtime.device).eval()
    save_predictor(run.model, predictor)
    if data.val is not None:
        run.write_json("validation.json", evaluate(predictor, data.val, on="validation", shots=recipe.split.shots))
    run.write_json("metrics.json", evaluate(predictor, data.test, on="test", shots=recipe.split.shots))


def make_problem(recipe: Recipe, data: DataSet) -> Problem:
    """Turn an opened data set into what a method is given; the test split stays behind.

    Args:
        recipe: The recipe.
        data: The opened data set.

    Returns:
        The problem.
    """
    spec = choose_backbone(recipe.backbone, data.train)
    preprocess = Preprocess(**input_facts(spec))
    counts = ClassCounts(data.train.class_counts())
    return Problem(
        train=data.train.with_transform(Augment(preprocess, data.augment)),
        val=data.val.with_transform(preprocess) if data.val is not None else None,
        counts=counts,
        split=recipe.split.split(counts),
        backbone_spec=spec,
        preprocess=preprocess,
        seed=recipe.seed,
    )


def choose_backbone(spec: BackboneSpec, images: Images) -> BackboneSpec:
    """Fill in `tiny` where the pictures are small and nothing was named.

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
    return int(np.median([max(images.read(int(i)).size) for i in positions]))


def load(path: str | Path, *, device: str = "cpu", method: type[Method] | None = None) -> Predictor:
    """Load a trained model.

    Args:
        path: A run directory, or the ``model`` folder in it.
        device: ``auto``, ``cpu`` or ``cuda``.
        method: Class of a method that is not installed, but was given to `fit` as an object.

    Returns:
        The model, ready for `Predictor.predict`.

    Raises:
        InputError: If there is no model, or it is damaged.
    """
    folder = Path(path)
    spec = read_spec(folder)
    kind = method or find_method(spec.method)
    try:
        built = kind(**spec.options).build(spec)
    except (TypeError, KeyError) as error:
        raise InputError(f"{folder}: {error}", remedy="the model was made by another version of its method") from None
    return load_weights(built, folder).to(Runtime.open(device).device)


def evaluate_run(
    path: str | Path, data: str | None = None, *, prior: Prior | None = None, device: str = "cpu"
) -> dict[str, Any]:
    """Evaluate a run's model again, on its own test split or on other pictures.

    Args:
        path: The run directory.
        data: Other labelled pictures with the same classes: their test part, or all of them where they have none.
            None is the run's own test split.
        prior: Class prior to assume; None is the method's own.
        device: ``auto``, ``cpu`` or ``cuda``.

    Returns:
        What ``metrics.json`` holds.

    Raises:
        InputError: If the data has other classes than the model.
    """
    run = Run(path)
    predictor = load(run.path, device=device)
    recipe = make_recipe(read_recipe(run.path / "recipe.toml"))
    if data is None or data.rstrip("/") == recipe.data.path:
        test, on = open_data(recipe.data).test, "test"
    else:
        test, on = open_test(DataSpec(data)), data
    if test.classes != predictor.spec.classes:
        test = _as_the_model_counts(test, predictor.spec.classes, on)
    return evaluate(predictor, test, on=on, prior=prior, shots=recipe.split.shots)


def _as_the_model_counts(images: Images, classes: tuple[str, ...], on: str) -> Images:
    """Number labels as the model does; the data may lack classes, but not have others."""
    unknown = [name for name in images.classes if name not in classes]
    if unknown:
        raise InputError(
            f"{on}: {len(unknown)} classes that the model does not know: {', '.join(unknown[:5])}",
            expected=f"some of its {len(classes)} classes, such as {', '.join(classes[:5])}",
        )
    number = np.array([classes.index(name) for name in images.classes])
    return dataclasses.replace(images, labels=number[images.labels], classes=classes)


def predict_files(
    path: str | Path,
    pictures: Iterable[str | Path],
    *,
    prior: Prior | None = None,
    top: int = 1,
    device: str = "cpu",
) -> tuple[list[Prediction], list[str]]:
    """Classify picture files.

    Args:
        path: A run directory.
        pictures: Files, or folders of pictures.
        prior: Class prior to assume; None is the method's own.
        top: How many classes to report for each picture.
        device: ``auto``, ``cpu`` or ``cuda``.

    Returns:
        One prediction for each picture that can be read, and why the others cannot.
    """
    predictor = load(path, device=device)
    files = find_pictures([Path(picture) for picture in pictures])
    predictions: list[Prediction] = []
    problems: list[str] = []
    for first in range(0, len(files), PREDICT_BATCH):
        names, opened = [], []
        for file in files[first : first + PREDICT_BATCH]:
            try:
                opened.append(open_loose_picture(file))
                names.append(str(file))
            except InputError as error:
                problems.append(error.found)
        found = predictor.predict(opened, prior=prior, top=top)
        predictions += [dataclasses.replace(p, picture=name) for p, name in zip(found, names, strict=True)]
    return predictions, problems


def _environment(runtime: Runtime, data: DataSet) -> dict[str, Any]:
    return {
        "forktail": forktail.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "device": str(runtime.device),
        "threads": torch.get_num_threads(),
        "command": sys.argv,
        "data": {"name": data.name, "train": data.train.fingerprint, "images": len(data.train), "notes": data.notes},
    }
