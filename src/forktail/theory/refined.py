"""The criterion with full matrices: what an assembled network costs before and after its decoders are fitted again.

`criterion_table` treats parameters as uncoupled. Here encoder and decoder are coupled, exactly, which is affordable for
networks of up to some hundred parameters; `forktail.theory.gram` does large ones. Equation numbers are those of
docs/validation.md.

Legend: ``K`` tasks, ``W`` candidate weights, ``L`` units after the stem, ``T`` coordinates of stem and units together,
``P_t`` coordinates of task t's network: first its T, then its readout and classifier. At depth s the first ``e``
coordinates are the encoder E, the others the decoder D. H, S, M, u, V, o as in `forktail.theory.criterion`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from forktail.errors import InputError
from forktail.theory.criterion import CriterionTable, check_damping, checked_weights
from forktail.theory.moments import FloatArray, UnitMoments

Assembly = Literal["refined", "raw"]
Stage2 = Literal["shared", "whole"]


@dataclass(frozen=True, eq=False)
class CoupledMoments:
    """Second moments of K whole networks at their Stage-1 solutions, as full matrices.

    P is the sum of all P_t: the parameters of all tasks' networks, stacked in the order of the tasks.

    Args:
        units: Number of coordinates of the stem and of units 1..L; they sum to T and come first in every network.
        curvature: K matrices (P_t, P_t), H_t, symmetric.
        scores: (P, P), covariance over images of the stacked per-image gradients. Its blocks are S_tu.
        position: K vectors (P_t,), task t's solution minus the initial weights.
        risk: (P, P), second derivative of the evaluated risk in the stacked parameters, with blocks M_t on its diagonal
            and nothing beside them if the risk is a sum over tasks. None stands for M_t = H_t. The evaluated risk must
            have zero gradient at the optimum of the training loss.

    Raises:
        InputError: Shapes that do not fit, matrices that are not symmetric, or numbers that are not finite.

    Example:
        >>> moments = CoupledMoments((0, 1), [np.eye(2)] * 2, np.eye(4), [np.zeros(2)] * 2)
        >>> moments.num_tasks, moments.offsets
        (2, (0, 1))
    """

    units: Sequence[int]
    curvature: Sequence[FloatArray]
    scores: FloatArray
    position: Sequence[FloatArray]
    risk: FloatArray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", tuple(int(size) for size in self.units))
        for name in ("curvature", "position"):
            object.__setattr__(self, name, tuple(np.asarray(x, dtype=np.float64) for x in getattr(self, name)))
        for name in ("scores", "risk"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        if not self.units or min(self.units) < 0:
            raise InputError(f"units of sizes {self.units}", expected="the stem's size and those of the units after it")
        sizes = [len(H) for H in self.curvature]
        if not sizes or min(sizes) < sum(self.units):
            raise InputError(f"networks of {sizes} coordinates", expected=f"at least the units' {sum(self.units)} each")
        for task, H in enumerate(self.curvature):
            _check_symmetric(f"curvature of task {task}", H, sizes[task])
        _check_symmetric("scores", self.scores, sum(sizes))
        if self.risk is not None:
            _check_symmetric("risk", self.risk, sum(sizes))
        if [u.shape for u in self.position] != [(size,) for size in sizes]:
            raise InputError(f"positions of shapes {[u.shape for u in self.position]}", expected=f"{sizes}, one a task")
        if not all(np.all(np.isfinite(u)) for u in self.position):
            raise InputError("position has entries that are not finite", expected="finite numbers")

    @classmethod
    def of_gradients(
        cls,
        units: Sequence[int],
        gradients: Sequence[npt.ArrayLike],
        position: Sequence[FloatArray],
        *,
        curvature: Sequence[FloatArray] | None = None,
        image_weights: npt.ArrayLike | None = None,
    ) -> CoupledMoments:
        """Estimate the moments from the per-image gradients of K small networks on the same N images.

        S_tu = cov(g_t, g_u), H_t = mean g_t g_t' (the empirical Fisher), M_t = sum r g_t g_t' / sum r.

        Args:
            units: Number of coordinates of the stem and of units 1..L.
            gradients: K arrays (N, P_t), one row per image, the same images in the same order.
            position: K vectors (P_t,), solution minus initial weights.
            curvature: K matrices to use for H_t, such as the generalised Gauss-Newton matrix.
            image_weights: (N,) r, weights of the images in the evaluated risk; None: M = H.

        Returns:
            The moments.

        Example:
            >>> rows = np.array([[1.0, 0.0], [-1.0, 1.0], [0.0, -1.0]])
            >>> CoupledMoments.of_gradients((0, 1), [rows, rows], [np.zeros(2)] * 2).curvature[0].round(2)
            array([[ 0.67, -0.33],
                   [-0.33,  0.67]])
        """
        rows = [np.asarray(g, dtype=np.float64) for g in gradients]
        stacked = np.concatenate(rows, axis=1)
        centred = stacked - stacked.mean(axis=0)
        risk = None
        if image_weights is not None:
            r = np.asarray(image_weights, dtype=np.float64)
            risk = _block_diagonal([(g * r[:, None]).T @ g / r.sum() for g in rows])
        H = [g.T @ g / len(g) for g in rows] if curvature is None else curvature
        return cls(units, H, centred.T @ centred / len(centred), position, risk)

    @property
    def num_tasks(self) -> int:
        """K."""
        return len(self.curvature)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Number e of encoder coordinates at depths 0..L; the stem is shared together with unit 1."""
        return (0, *np.cumsum(self.units)[1:].tolist())

    @property
    def starts(self) -> tuple[int, ...]:
        """Where each task's network starts among the stacked parameters, and where the last one ends."""
        return (0, *np.cumsum([len(H) for H in self.curvature]).tolist())

    def block_diagonal(self) -> CoupledMoments:
        """Forget the coupling between units, and between units and decoder, in H and M (paper eq. 16).

        Returns:
            Moments whose criterion is additive over units, the same raw and refined.
        """
        labels = [
            np.repeat(np.arange(len(self.units) + 1), [*self.units, len(H) - sum(self.units)]) for H in self.curvature
        ]
        return self._without_curvature_between(labels)

    def last_layers(self, layers: int) -> CoupledMoments:
        """Keep the coupling among the last units and the decoders alone, as `last_layers_table` does.

        Args:
            layers: The number of last units; all of them bring the stem.

        Returns:
            Moments whose H and M are diagonal in the early units and have nothing beside them.
        """
        early = sum(self.units[: len(self.units) - layers]) if layers < len(self.units) - 1 else 0
        return self._without_curvature_between([np.minimum(np.arange(len(H)), early) for H in self.curvature])

    def _without_curvature_between(self, labels: list[npt.NDArray[np.intp]]) -> CoupledMoments:
        """Keep of H and M the entries between coordinates of one label; tasks share labels, as M may couple them."""
        curvature = [np.where(np.equal.outer(of, of), H, 0.0) for H, of in zip(self.curvature, labels, strict=True)]
        if self.risk is None:
            return replace(self, curvature=curvature)
        of = np.concatenate(labels)
        return replace(self, curvature=curvature, risk=np.where(np.equal.outer(of, of), self.risk, 0.0))

    def diagonals(self) -> tuple[list[UnitMoments], list[UnitMoments]]:
        """Keep the diagonals alone.

        Returns:
            Units and decoders as `criterion_table` takes them.
        """
        edges = np.cumsum([0, *self.units]).tolist()
        risk = _block_diagonal(self.curvature) if self.risk is None else self.risk

        def moments(tasks: Sequence[int], start: int, stop: int | None) -> UnitMoments:
            parts = [np.arange(self.starts[task], self.starts[task + 1])[start:stop] for task in tasks]
            return UnitMoments(
                curvature=np.stack([self.curvature[task].diagonal()[start:stop] for task in tasks]),
                scores=np.stack([self.scores[part, part] for part in parts]),
                risk=np.stack([risk[part, part] for part in parts]),
                position=np.stack([self.position[task][start:stop] for task in tasks]),
                cross=np.array([[self.scores[part, other] for other in parts] for part in parts]),
            )

        tasks = range(self.num_tasks)
        units = [moments(tasks, start, stop) for start, stop in pairwise(edges)]
        return units, [moments([task], edges[-1], None) for task in tasks]


def refined_table(
    moments: CoupledMoments,
    *,
    weights: npt.ArrayLike,
    n: float,
    assembly: Assembly = "refined",
    stage2: Stage2 = "shared",
    debiased: bool = True,
    damping: float = 0.0,
) -> CriterionTable:
    """Predict the excess risk of every depth and every weight, with encoder and decoder coupled.

    docs/validation.md, eqs. 1 to 8. Task t's assembled network is its Stage-1 solution, moved:
    theta_t + R_t y_t with y_t = e_w - e_t, the step from its own encoder to the shared one. The decoder follows it,
    R_t = [I; -H_DD^-1 H_DE] (``refined``), or stays, R_t = [I; 0] (``raw``). With M = H, no damping and a Stage 2 that
    shares what will be shared, ``refined`` is K with the encoder blocks of H and S replaced by Schur complements.

    Args:
        moments: Of K networks that were trained on the same images.
        weights: (W, K) candidate weights, each row >= 0 and summing to 1.
        n: Number of those images.
        assembly: Decoders fitted again to the frozen shared encoder (``refined``), or as they come from Stage 1
            (``raw``).
        stage2: Whether Stage 2 shares only the encoder (``shared``) or the ``whole`` trunk, later cut at s.
        debiased: Subtract the sampling noise of the measured positions.
        damping: lambda >= 0, for every parameter of each task's loss. Stage 2 minimises the weighted sum of the damped
            losses, and decoders are refitted to their task's damped loss.

    Returns:
        The table; its reading is the assembly. ``own_variance`` is the decoders' part, ``shared_variance`` all other
        variance.

    Raises:
        InputError: Weights off the simplex, an unknown assembly or Stage 2, or a curvature that is not positive
            definite: then some direction is not determined by the data.

    Example:
        >>> coupled = np.array([[2.0, 1.0], [1.0, 2.0]])
        >>> moments = CoupledMoments((0, 1), [coupled] * 2, np.kron(np.eye(2), coupled), [np.zeros(2)] * 2)
        >>> for assembly in ("refined", "raw"):
        ...     table = refined_table(moments, weights=[[0.5, 0.5]], n=1, assembly=assembly, debiased=False)
        ...     table.total.round(3).ravel()
        array([2. , 1.5])
        array([2.   , 1.667])
    """
    weights = checked_weights(weights)
    check_options(weights, moments.num_tasks, n, assembly, stage2, damping)
    alone = _alone(moments, float(n), damping)
    depths = moments.offsets
    own = np.array([_decoder_variance(alone, encoder) for encoder in depths])
    variance, bias = np.zeros((2, len(depths), len(weights)))
    for depth, encoder in enumerate(depths):
        follow = [_follow(H, encoder, assembly) for H in alone.damped]
        schur = [_schur(H, depths[-1] if stage2 == "whole" else encoder) for H in alone.damped]
        for column, w in enumerate(weights if depth else ()):
            step = _step(alone, _influence(schur, w)[:, :encoder], follow)
            change, bias[depth, column] = _sharing(alone, step, debiased)
            variance[depth, column] = own[0] + change - own[depth]
    return coupled_table(weights, variance, bias, own, assembly=assembly, debiased=debiased, damping=damping)


def coupled_table(
    weights: FloatArray,
    variance: FloatArray,
    bias: FloatArray,
    own: FloatArray,
    *,
    assembly: str,
    debiased: bool,
    damping: float,
) -> CriterionTable:
    """Put a table together whose own variance depends on the depth alone.

    Args:
        weights: (W, K).
        variance: (L+1, W) shared variance, nats.
        bias: (L+1, W) shared bias, nats.
        own: (L+1,) own variance, nats.
        assembly: Becomes the table's reading.
        debiased: As the table says it.
        damping: As the table says it.

    Returns:
        The table; no coordinate of it is flat.
    """
    return CriterionTable(
        weights=weights,
        shared_variance=variance,
        shared_bias=bias,
        own_variance=np.repeat(own[:, None], len(weights), axis=1),
        reading=assembly,
        debiased=debiased,
        damping=float(damping),
        flat=0,
    )


@dataclass(frozen=True, eq=False)
class _Alone:
    """What Stage 1 leaves behind: the law of its solutions, stacked, and what the risk makes of them."""

    starts: tuple[int, ...]
    damped: list[FloatArray]  # H~_t
    risk: FloatArray  # M
    pull: FloatArray  # lambda M H^-1: minus the risk's gradient, per unit of position
    position: FloatArray  # u
    covariance: FloatArray  # V
    noise: FloatArray  # S / n


def _alone(moments: CoupledMoments, n: float, damping: float) -> _Alone:
    """Stage 1: u_t = H~_t^-1 (H_t u*_t - g_t), so V_tu = H~_t^-1 S_tu H~_u^-1 / n (eq. 1)."""
    damped = [H + damping * np.eye(len(H)) for H in moments.curvature]
    for task, H in enumerate(damped):
        _check_definite(f"the curvature of task {task}", H)
    inverse = _inverse(damped)
    if moments.risk is None:
        pull = damping * np.eye(len(inverse))
    elif damping == 0:
        pull = np.zeros_like(inverse)
    else:
        for task, H in enumerate(moments.curvature):
            _check_definite(f"a risk of its own needs the undamped curvature, and that of task {task}", H)
        pull = damping * moments.risk @ _inverse(moments.curvature)
    return _Alone(
        starts=moments.starts,
        damped=damped,
        risk=_block_diagonal(moments.curvature) if moments.risk is None else moments.risk,
        pull=pull,
        position=np.concatenate(moments.position),
        covariance=inverse @ moments.scores @ inverse / n,
        noise=moments.scores / n,
    )


def _schur(H: FloatArray, size: int) -> FloatArray:
    """The curvature of the first coordinates when the others follow them: H_FF - H_FG H_GG^-1 H_GF (eq. 2)."""
    return H[:size, :size] - H[:size, size:] @ np.linalg.solve(H[size:, size:], H[size:, :size])


def _follow(H: FloatArray, encoder: int, assembly: Assembly) -> FloatArray:
    """R (eq. 4): how a network moves with its encoder; (P_t, e)."""
    if assembly == "raw":
        return np.eye(len(H), encoder)
    return np.concatenate([np.eye(encoder), -np.linalg.solve(H[encoder:, encoder:], H[encoder:, :encoder])])


def _influence(schur: list[FloatArray], w: FloatArray) -> FloatArray:
    """o_t = Jb_w^-1 w_t Hb_t (eq. 3): how much task t's trunk counts in the one that Stage 2 finds; (K, F, F)."""
    pulls = np.stack([weight * H for weight, H in zip(w, schur, strict=True)])
    return np.linalg.solve(pulls.sum(axis=0), pulls)


def _step(alone: _Alone, influence: FloatArray, follow: list[FloatArray]) -> FloatArray:
    """B (eq. 4): assembled networks minus Stage-1 solutions, as a map of the solutions; (P, P)."""
    _, encoder, trunk = influence.shape
    step = np.zeros_like(alone.risk)
    for t, R in enumerate(follow):
        rows = slice(alone.starts[t], alone.starts[t + 1])
        for j, o in enumerate(influence):
            step[rows, alone.starts[j] : alone.starts[j] + trunk] = R @ o
        step[rows, alone.starts[t] : alone.starts[t] + encoder] -= R
    return step


def _sharing(alone: _Alone, step: FloatArray, debiased: bool) -> tuple[float, float]:
    """Change of variance that sharing brings, and its bias (eqs. 5 to 7)."""
    with_own = step @ alone.covariance  # Cov(step, Stage-1 solutions)
    spread = float(np.sum(alone.risk * (with_own @ step.T))) / 2
    variance = float(np.sum(alone.risk * with_own)) + spread
    b = step @ alone.position
    bias = float(b @ alone.risk @ b / 2 - b @ alone.pull @ alone.position)
    if debiased:
        bias -= spread - float(np.sum(alone.pull * with_own))
    return variance, bias


def _decoder_variance(alone: _Alone, encoder: int) -> float:
    """1/2 tr[H_DD^-1 M_DD H_DD^-1 S_DD] / n (eq. 8): what is left to the decoders when the encoder stands still."""
    own = np.concatenate([np.arange(start + encoder, stop) for start, stop in pairwise(alone.starts)])
    inverse = _inverse([H[encoder:, encoder:] for H in alone.damped])
    return float(np.sum(inverse @ alone.risk[np.ix_(own, own)] @ inverse * alone.noise[np.ix_(own, own)])) / 2


def _inverse(blocks: Sequence[FloatArray]) -> FloatArray:
    """The inverse of a block-diagonal matrix."""
    return _block_diagonal([np.linalg.inv(block).astype(np.float64) for block in blocks])


def _block_diagonal(blocks: Sequence[FloatArray]) -> FloatArray:
    ends = np.cumsum([len(block) for block in blocks]).tolist()
    matrix = np.zeros((ends[-1], ends[-1]))
    for block, end in zip(blocks, ends, strict=True):
        matrix[end - len(block) : end, end - len(block) : end] = block
    return matrix


def check_options(weights: FloatArray, num_tasks: int, n: float, assembly: str, stage2: str, damping: float) -> None:
    """Refuse what has no meaning in a table with coupled encoder and decoders.

    Args:
        weights: (W, K) weights, checked.
        num_tasks: K of the moments or gradients.
        n: Images that each task was trained on.
        assembly: What follows Stage 2.
        stage2: What Stage 2 trains.
        damping: lambda.

    Raises:
        InputError: If the weights are of other tasks, a word is unknown, or a number out of range.
    """
    check_damping(damping)
    if weights.shape[1] != num_tasks:
        raise InputError(f"weights of {weights.shape[1]} tasks", expected=f"{num_tasks} tasks")
    if assembly not in ("refined", "raw") or stage2 not in ("shared", "whole"):
        raise InputError(
            f'assembly "{assembly}", stage2 "{stage2}"', expected='"refined" or "raw", "shared" or "whole"'
        )
    if not (np.isfinite(n) and n > 0):
        raise InputError(f"n = {n}", expected="a positive number of images")


def _check_symmetric(name: str, matrix: FloatArray, size: int) -> None:
    if matrix.shape != (size, size):
        raise InputError(f"{name} of shape {matrix.shape}", expected=f"({size}, {size})")
    if not np.all(np.isfinite(matrix)):
        raise InputError(f"{name} has entries that are not finite", expected="finite numbers")
    if np.max(np.abs(matrix - matrix.T), initial=0.0) > 1e-9 * np.max(np.abs(matrix), initial=0.0):
        raise InputError(f"{name} is not symmetric", expected="a symmetric matrix")


def _check_definite(name: str, matrix: FloatArray) -> None:
    """Refuse what is singular up to rounding: the usual bound on the rank, P eps times the largest eigenvalue."""
    values = np.linalg.eigvalsh(matrix)
    if values.size and not values[0] > len(values) * np.finfo(np.float64).eps * values[-1]:
        raise InputError(
            f"{name} has the smallest eigenvalue {values[0]:.3g} beside the largest {values[-1]:.3g}",
            expected="a positive definite matrix",
            remedy="use damping",
        )
