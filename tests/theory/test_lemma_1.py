"""docs/theory.md, eq. 1 (paper eq. 12), exactly, on finite distributions."""

from __future__ import annotations

import numpy as np
import pytest


def kl(p, q):
    return float(np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0) / q), 0.0)))


@pytest.mark.parametrize("shape", [(4, 3, 5), (1, 2, 2), (7, 6, 2)])
@pytest.mark.parametrize("exclusive", [False, True])
def test_joint_divergence_is_task_divergences_plus_conditional_information(rng, shape, exclusive):
    """With exclusive labels the two tasks are as dependent as they can be: at most one of them is non-zero."""
    joint = rng.dirichlet(np.ones(np.prod(shape))).reshape(shape)  # P(x, y_A, y_B)
    if exclusive:
        joint[:, 1:, 1:] = 0.0
        joint /= joint.sum()
    q_a = rng.dirichlet(np.ones(shape[1]), size=shape[0])
    q_b = rng.dirichlet(np.ones(shape[2]), size=shape[0])
    whole = parts = 0.0
    for x in range(shape[0]):
        p_x = joint[x].sum()
        p = joint[x] / p_x
        p_a, p_b = p.sum(axis=1), p.sum(axis=0)
        whole += p_x * kl(p, np.outer(q_a[x], q_b[x]))
        parts += p_x * (kl(p_a, q_a[x]) + kl(p_b, q_b[x]) + kl(p, np.outer(p_a, p_b)))
    np.testing.assert_allclose(parts, whole, rtol=1e-12)
