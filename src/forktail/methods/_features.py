"""The features that a backbone computes of the training images, without augmentation.

Legend: N training images, D features.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from forktail.backbones.layered import Layered
from forktail.data.images import Images
from forktail.errors import InputError
from forktail.methods._method import Problem
from forktail.training.cost import inference_flops
from forktail.training.engine import Engine
from forktail.training.stage import state_digest
from forktail.training.stream import evaluation_batches


def training_features(problem: Problem, engine: Engine, backbone: Layered) -> Tensor:
    """Compute the features of all training images once.

    Args:
        problem: Its images are seen without augmentation.
        engine: Keeps the features.
        backbone: In evaluation mode, on the engine's device.

    Returns:
        (N, D) features in double precision, on the engine's device.
    """
    images = problem.train.with_transform(problem.preprocess)
    features = engine.keep(
        "features",
        [state_digest(backbone), images.fingerprint],
        lambda: {"features": one_pass(backbone, images, engine)},
        flops=features_flops(problem, backbone),
        memory=sum(parameter.nbytes for parameter in backbone.parameters())
        + 4 * problem.counts.total * backbone.num_features,
    )["features"]
    return torch.tensor(features, dtype=torch.float64, device=engine.runtime.device)


def features_flops(problem: Problem, backbone: Layered) -> float:
    """Count what `training_features` costs.

    Args:
        problem: The images.
        backbone: The backbone.

    Returns:
        Floating-point operations.
    """
    return float(problem.counts.total * inference_flops(backbone, problem.preprocess.shape))


@torch.no_grad()
def one_pass(backbone: Layered, images: Images, engine: Engine) -> npt.NDArray[np.float32]:
    """Compute the features of every image.

    Args:
        backbone: In evaluation mode, on the engine's device.
        images: With their evaluation transform.
        engine: Its device is used and its progress told.

    Returns:
        (N, D) features, in order.

    Raises:
        InputError: If a feature is not finite.
    """
    rows = []
    engine.progress.begin("features", 0, len(images))
    for inputs, _, index in evaluation_batches(images):
        rows.append(backbone(inputs.to(engine.runtime.device)).float().cpu().numpy())
        engine.progress.advance(int(index[-1]) + 1)
    engine.progress.end(f"{len(images)} images")
    features = np.concatenate(rows)
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise InputError(
            f"{images.name(int(bad[0]))}: the backbone's features are not finite",
            expected="finite weights",
            remedy="name other backbone.weights",
        )
    return features
