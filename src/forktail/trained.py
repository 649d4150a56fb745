"""What can be done with a finished run: load its model, measure it on other pictures, predict."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from forktail.data.augment import Augment
from forktail.data.images import DataSet, Images
from forktail.data.loose_pictures import find_pictures, open_loose_picture
from forktail.data.open import DataSpec, open_data, open_labelled
from forktail.data.texts import texts_in
from forktail.data.word_pieces import WordPieces
from forktail.errors import InputError
from forktail.evaluation import evaluate
from forktail.methods import Adapts, Method, find_method, method_names
from forktail.predictor import Prediction, Predictor, Prior, for_pictures, load_weights, read_spec
from forktail.recipe import Recipe, apply_settings, make_recipe, read_recipe
from forktail.run import Run
from forktail.runtime import Runtime

PREDICT_BATCH = 64
TRANSDUCTIVE = (
    "transductive: these pictures were looked at before, without labels; not to be compared with other methods"
)


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
    try:
        kind = method or find_method(spec.method)
        built = kind(**spec.options).build(spec)
    except InputError as error:
        raise InputError(f"{folder}: {error}") from None
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(f"{folder}: {error}", remedy="the model was made by another version of its method") from None
    return load_weights(built, folder).to(Runtime.open(device).device)


def evaluate_run(
    path: str | Path,
    data: str | None = None,
    *,
    settings: Iterable[str] = (),
    prior: Prior | None = None,
    device: str = "cpu",
    adapt: bool = False,
) -> dict[str, Any]:
    """Evaluate a run's model again, on its own test split or on other pictures.

    Args:
        path: The run directory.
        data: Other labelled pictures with the same classes: their test part, or all of them where they have none.
            None is the run's own test split.
        settings: ``data.key=value`` settings of the other pictures, such as ``data.unreadable=skip``.
        prior: Class prior to assume; None is the method's own.
        device: ``auto``, ``cpu`` or ``cuda``.
        adapt: Evaluate also what the method makes of its model when it may look at the test pictures, not their labels.

    Returns:
        What ``metrics.json`` holds; for other pictures also ``notes``, what a user should know about them; under
        ``transductive`` the same for the adapted model, whose figures belong beside no others.

    Raises:
        InputError: If the data has other classes than the model, or the method cannot adapt.
    """
    run = Run(path)
    predictor = load(run.path, device=device)
    method = _adapting(predictor) if adapt else None
    recipe = make_recipe(read_recipe(run.path / "recipe.toml"))
    own = functools.cache(lambda: open_data(recipe.data))  # opened once, and only where it is asked for
    test, on, notes = _pictures(predictor, recipe, own, data, list(settings))
    # The method sees the pictures augmented as in training. All sets are opened before anything is measured.
    augment = Augment(for_pictures(predictor.spec.preprocess), own().augment, recipe.data.erasing) if adapt else None
    measured = evaluate(predictor, test, on=on, prior=prior, shots=recipe.split.shots)
    found = {**measured, "notes": list(notes)} if notes else measured
    if method is None or augment is None:
        return found
    adapted = method.adapt(predictor, test.with_transform(augment), recipe.seed)
    measured = evaluate(adapted, test, on=on, prior=prior, shots=recipe.split.shots)
    return {**found, "transductive": {**measured, "notes": [TRANSDUCTIVE]}}


def _adapting(predictor: Predictor) -> Adapts:
    """Make the method that can adapt the model."""
    kind = find_method(predictor.spec.method)
    if not issubclass(kind, Adapts):
        able = [name for name in method_names() if issubclass(find_method(name), Adapts)]
        raise InputError(
            f'method "{predictor.spec.method}" cannot adapt to test pictures',
            expected=f"a run of {' or '.join(able)}",
            remedy="leave out --adapt",
        )
    return kind(**predictor.spec.options)


def _pictures(
    predictor: Predictor, recipe: Recipe, own: Callable[[], DataSet], data: str | None, settings: list[str]
) -> tuple[Images, str, tuple[str, ...]]:
    """Open what is measured on; say what it is called and what a user should know."""
    if data is None or (data.rstrip("/") == recipe.data.path and not settings):
        _check_settings(settings, data)
        return own().test, "test", ()
    test, notes = open_labelled(_other_data(data, settings))
    if test.classes != predictor.spec.classes:
        test = _as_the_model_counts(test, predictor.spec.classes, data)
    return test, data, notes


def _other_data(data: str, settings: list[str]) -> DataSpec:
    _check_settings(settings, data)
    return make_recipe(apply_settings({"data": {"path": data}}, settings)).data


def _check_settings(settings: list[str], data: str | None) -> None:
    """Only what says which other pictures are read, and how, can be set."""
    for setting in settings:
        if data is None or not setting.startswith("data."):
            raise InputError(
                f"--set {setting} with evaluate",
                expected="settings of other data, such as data.unreadable=skip",
                remedy="name the data, or leave it out",
            )


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
    """Classify picture files, or for a model of texts the lines of text files.

    Args:
        path: A run directory.
        pictures: Files, or folders of pictures; text files with one text a line.
        prior: Class prior to assume; None is the method's own.
        top: How many classes to report for each picture.
        device: ``auto``, ``cpu`` or ``cuda``.

    Returns:
        One prediction for each picture that can be read, or for each text, and why the others cannot.
    """
    predictor = load(path, device=device)
    if isinstance(predictor.spec.preprocess, WordPieces):
        texts = [text for file in pictures for text in texts_in(Path(file))]
        return predictor.predict(texts, prior=prior, top=top), []
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
