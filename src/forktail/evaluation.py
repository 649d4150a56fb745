"""How good a model is, on every class."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from forktail.data.images import Images
from forktail.data.texts import are_texts
from forktail.metrics import evaluate_scores
from forktail.predictor import Predictor, Prior
from forktail.training.stream import evaluation_batches

Metrics = dict[str, Any]
Floats = npt.NDArray[np.float64]


@torch.no_grad()
def score_images(predictor: Predictor, images: Images, *, prior: Prior | None = None) -> tuple[Floats, Floats | None]:
    """Run a model over a set.

    Args:
        predictor: The model.
        images: The set; the model's own preprocessing is used.
        prior: Class prior to assume; None is the method's own.

    Returns:
        (N, C) scores under that prior, and (N, C) Bernoulli logits under the training prior or None.
    """
    offset = predictor.log_weights(prior)
    predictor.eval()
    scores: list[Floats] = []
    logits: list[Floats] = []
    for inputs, _, _ in evaluation_batches(images.with_transform(predictor.spec.preprocess)):
        outputs = predictor.network(inputs.to(offset.device))
        scores.append((predictor.scores(outputs) + offset).double().cpu().numpy())
        training = predictor.training_logits(outputs)
        if training is not None:
            logits.append(training.double().cpu().numpy())
    return np.concatenate(scores), np.concatenate(logits) if logits else None


def evaluate(predictor: Predictor, images: Images, *, on: str, prior: Prior | None = None, shots: str = "A") -> Metrics:
    """Evaluate a model on a set.

    Predictions, and so accuracy and calibration, are the method's own: plain cross-entropy predicts under the training
    prior. ``nll`` is always that of the scores under a uniform prior, so that it can be compared between methods.

    Args:
        predictor: The model.
        images: The set, with the model's classes.
        on: What the set is called in the result.
        prior: Class prior to assume in all figures; None is as said above.
        shots: Rule of the shot groups.

    Returns:
        What ``metrics.json`` holds.
    """
    scores, logits = score_images(predictor, images, prior=prior)
    spec = predictor.spec
    uniform = None if prior is not None else scores - predictor.log_weights(None).double().cpu().numpy()
    metrics: Metrics = evaluate_scores(scores, images.labels, spec.class_counts, spec.split, shots, logits, uniform)
    for pair in metrics["confused"]:
        pair["texts" if are_texts(images) else "names"] = [images.name(index) for index in pair["positions"]]
    named = predictor.home if prior is None else prior if isinstance(prior, str) else "given"
    tested = images.class_counts().tolist()
    facts = {"classes": list(spec.classes), "train_images": list(spec.counts), "test_images": tested}
    return {**metrics, **facts, "prior": named, "evaluated_on": on}
