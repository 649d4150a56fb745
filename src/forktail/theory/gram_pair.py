"""The coupled criterion of two tasks at all weights at once: both tasks' curvatures are diagonal in one basis.

Equation numbers are those of docs/validation.md. Legend: ``W`` candidate weights, ``m`` images, A and B the two tasks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forktail.theory.moments import FloatArray
from forktail.theory.unit_gram import Level, centred, spread


@dataclass(frozen=True, eq=False)
class Pair:
    """Stage 2 of two tasks for every weight, in a basis of the span of both tasks' gradients (eq. 13).

    With L_t L_t' = Q_t, the rows of [L_A'A_AF; L_B'A_BF] span all in which Hb_A or Hb_B is not lambda. In the basis X
    of this span, X'Hb_A X = lambda alpha and X'Hb_B X = lambda (1 - alpha), so that for every weight

        e_w - e_A = v (delta + w X kappa r),  e_w - e_B = -w delta + w v X kappa r,
        kappa = (1 - 2 alpha) / (w alpha + v (1 - alpha)),   r = X^-1 delta

    Args:
        alone: Inner products where nothing is shared.
        basis: (2, m, 2m), X as combinations of the A_tF'.
        alpha: (2m,), in (0, 1).
        difference: (2m, 1 + m), r: of the means, then one column per image for the noise.
    """

    alone: Level
    basis: FloatArray
    alpha: FloatArray
    difference: FloatArray

    @classmethod
    def of(cls, alone: Level, fit: Level) -> Pair:
        """Find the basis.

        Args:
            alone: Inner products where nothing is shared.
            fit: Where Stage 2 shares, which may be deeper than the cut.

        Returns:
            The pair.
        """
        images = fit.encoder.shape[-1]
        roots = np.linalg.cholesky(fit.resolvent)  # L_t
        gram = roots.swapaxes(1, 2)[:, None] @ fit.encoder @ roots[None]
        gram = gram.swapaxes(1, 2).reshape(2 * images, -1)
        s, U = np.linalg.eigh((gram + gram.T) / 2)
        # A floor, no cut: what is divided by a root here is multiplied by it again.
        s = np.maximum(s, np.finfo(np.float64).eps * max(s[-1], np.finfo(np.float64).tiny))
        both = np.sqrt(2 + s)
        own = U[:images] * (np.sqrt(s) / both)
        alpha, W = np.linalg.eigh(own.T @ own + np.diag(1 / both**2))
        rows = (roots @ U.reshape(2, images, -1)) / np.sqrt(s)
        start = np.einsum("tmk,tma->ka", rows, _difference(alone, fit), optimize=True)
        return cls(alone, rows @ (W / both[:, None]), alpha.clip(0, 1), W.T @ (both[:, None] * start))

    def cells(
        self, level: Level, weights: FloatArray, n: float, damping: float, assembly: str, debiased: bool
    ) -> tuple[FloatArray, FloatArray]:
        """Compute one depth, at every weight.

        Args:
            level: Inner products at this depth.
            weights: (W, 2).
            n: Number of images that the tasks were trained on.
            damping: lambda > 0.
            assembly: ``refined`` or ``raw``.
            debiased: Whether eqs. 7 and 12 are subtracted.

        Returns:
            (W,) variances with the decoders' own, and (W,) biases.
        """
        w, v = weights.T
        kappa = w * v * (1 - 2 * self.alpha[:, None]) / (w * self.alpha[:, None] + v * (1 - self.alpha[:, None]))
        start, away = _difference(self.alone, level), np.stack([v, -w])
        mean, noise = self.difference[:, 0], centred(self.difference[:, 1:])
        squares = noise @ noise.T
        variance, bias = np.zeros((2, len(w)))
        for t, c in enumerate(away):  # the step is c delta + X kappa r
            onto = np.einsum("umi,umk->ik", level.encoder[:, t], self.basis, optimize=True)  # A_tE X
            follow = damping * level.resolvent[t] if assembly == "refined" else np.eye(len(onto))
            P, X = follow @ start[t], follow @ onto
            solve, straight = self.alone.resolvent[t], centred(P[:, 1:])
            alone = centred(self.alone.decoder[t] @ solve)
            # Of the noise c P + X kappa r, seen by the risk: its square, and its products with what was there before.
            crossed = np.sum((X.T @ straight) * noise, axis=1) @ kappa
            square = c**2 * spread(P[:, 1:]) + 2 * c * crossed + _quadratic(kappa, (X.T @ X) * squares)
            before = c * np.sum(straight * alone) + np.sum((X.T @ alone) * noise, axis=1) @ kappa
            variance += (square - 2 * before + np.sum(alone**2)) / (2 * n)

            seen = c * P[:, :1] + X @ (kappa * mean[:, None])
            moved = np.einsum("um,umk->k", level.encoder_moves[:, t], self.basis)
            along = c * (level.positions[1, t] - level.positions[0, t]) + (moved * mean) @ kappa
            if assembly == "refined":
                along -= level.decoder_moves[t] @ seen / damping
            bias += np.sum(seen**2, axis=0) / 2 - damping * along
            if debiased:
                pulled = c * np.sum(solve * straight.T) + np.sum((solve @ X).T * noise, axis=1) @ kappa
                bias -= (square / 2 + damping * pulled) / n
        return variance, bias


def _difference(alone: Level, at: Level) -> FloatArray:
    """(2, m, 1 + m) A_tE (e_B - e_A): of the means, and of the noise, one column per image (eq. 9)."""
    mean = at.encoder_moves[:, 1] - at.encoder_moves[:, 0]
    noise = at.encoder[:, 0] @ alone.resolvent[0] - at.encoder[:, 1] @ alone.resolvent[1]
    return np.concatenate([mean[..., None], noise], axis=2)


def _quadratic(kappa: FloatArray, matrix: FloatArray) -> npt.NDArray[np.float64]:
    """(W,) kappa' matrix kappa."""
    return np.asarray(np.sum(kappa * (matrix @ kappa), axis=0), dtype=np.float64)
