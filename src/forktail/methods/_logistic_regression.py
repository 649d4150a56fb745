"""Multinomial logistic regression with fixed offsets of the logits: the convex problem of a linear probe.

Legend: N images, D features, C classes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

GRADIENT = 1e-6  # nats per unit of a coefficient; below 1e-7 a line search only sees the last digits of the loss
MEMORY = 100  # steps that tell L-BFGS of the curvature; with a third of them it takes twice as long
LINE_SEARCH = 26  # evaluations by which the last line search may overshoot the limit


class Solution(NamedTuple):
    """The classifier that was found, and how.

    Args:
        weights: (C, D).
        biases: (C,).
        gradient: () largest entry of the gradient there, in nats; at most `GRADIENT` if it converged.
        evaluations: () how often the loss was computed.
    """

    weights: Tensor
    biases: Tensor
    gradient: Tensor
    evaluations: Tensor


def logistic_regression(
    features: Tensor, labels: Tensor, offset: Tensor, *, penalty: float, max_iterations: int
) -> Solution:
    """Minimise the penalised loss of a linear classifier by L-BFGS with a strong Wolfe line search, from zero.

    The loss, in nats, is strictly convex but for a constant that may be added to all biases; from zero, they sum to
    zero:

        mean_i [log sum_c exp(s_ic) - s_iy] + penalty / 2 sum_cd W_cd^2,    s_ic = W_c x_i + b_c + offset_c

    Args:
        features: (N, D) x in float64, best of unit variance.
        labels: (N,) classes y in 0..C-1.
        offset: (C,) added to the logits, in nats.
        penalty: Greater than 0, in nats per image.
        max_iterations: Limit of L-BFGS; see `most_evaluations`.

    Returns:
        Weights and biases without the offset.

    Example:
        >>> x, y = torch.tensor([[-1.0], [1.0]], dtype=torch.float64), torch.tensor([0, 1])
        >>> found = logistic_regression(x, y, torch.zeros(2), penalty=0.5, max_iterations=20)
        >>> found.weights.round(decimals=3).tolist()
        [[-0.521], [0.521]]
    """
    weights = features.new_zeros((len(offset), features.shape[1]))
    biases = features.new_zeros(len(offset))
    optimizer = torch.optim.LBFGS(
        [weights, biases],
        max_iter=max_iterations,
        max_eval=_evaluations(max_iterations),
        tolerance_grad=GRADIENT,
        tolerance_change=0,
        history_size=MEMORY,
        line_search_fn="strong_wolfe",
    )

    def evaluate() -> Tensor:
        loss, weights.grad, biases.grad = _loss_and_gradients(weights, biases, features, labels, offset, penalty)
        return loss

    optimizer.step(evaluate)  # type: ignore[no-untyped-call]
    _, *gradients = _loss_and_gradients(weights, biases, features, labels, offset, penalty)
    largest = torch.stack([gradient.abs().max() for gradient in gradients]).max()
    return Solution(weights, biases, largest, torch.tensor(optimizer.state[weights]["func_evals"]))


def evaluation_flops(num_images: int, num_features: int, num_classes: int) -> float:
    """Count the matrix products of one evaluation of loss and gradient.

    Args:
        num_images: N.
        num_features: D.
        num_classes: C.

    Returns:
        Floating-point operations: 2 N D C for the logits and as many for the gradient.

    Example:
        >>> evaluation_flops(num_images=1000, num_features=64, num_classes=10)
        2560000.0
    """
    return float(4 * num_images * num_features * num_classes)


def most_evaluations(max_iterations: int) -> int:
    """Bound the number of evaluations from above.

    Args:
        max_iterations: Limit of L-BFGS.

    Returns:
        Evaluations.

    Example:
        >>> most_evaluations(400)
        526
    """
    return _evaluations(max_iterations) + LINE_SEARCH


def _evaluations(max_iterations: int) -> int:
    return max_iterations * 5 // 4  # a step needs one, and now and then a second


def _loss_and_gradients(
    weights: Tensor, biases: Tensor, features: Tensor, labels: Tensor, offset: Tensor, penalty: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss and its derivatives by weights and biases."""
    rows = torch.arange(len(labels), device=labels.device)
    log_p = torch.log_softmax(features @ weights.T + (biases + offset), dim=1)
    loss = -log_p[rows, labels].mean() + penalty / 2 * weights.square().sum()
    residual = log_p.exp_()
    residual[rows, labels] -= 1
    residual /= len(labels)
    return loss, residual.T @ features + penalty * weights, residual.sum(0)
