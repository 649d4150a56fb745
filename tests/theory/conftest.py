from __future__ import annotations

import numpy as np
import pytest

from forktail.theory import UnitMoments


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def draw_unit(rng):
    """Draw random moments; with ``cross`` the scores of all tasks form a positive definite matrix per coordinate."""

    def draw(num_tasks: int, num_coordinates: int, *, cross: bool = False) -> UnitMoments:
        shape = (num_tasks, num_coordinates)
        curvature, risk = np.exp(rng.normal(size=shape)), np.exp(rng.normal(size=shape))
        roots = rng.normal(size=(num_coordinates, num_tasks, num_tasks + 1))
        covariance = (roots @ roots.swapaxes(1, 2)).transpose(1, 2, 0)
        scores = np.einsum("kkd->kd", covariance)
        return UnitMoments(curvature, scores, risk, rng.normal(size=shape), covariance if cross else None)

    return draw
