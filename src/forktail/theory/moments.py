"""What one depth unit contributes to the criterion: the only door from networks to theory.

``K`` tasks, ``d`` coordinates (scalar parameters) of the unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from forktail.errors import InputError

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class UnitMoments:
    """Diagonal second moments of one depth unit at the Stage-1 solutions, docs/theory.md, section 2.

    Coordinates are aligned across tasks: column p is the same parameter in every task's network. Losses are in nats,
    summed over classes, mean over images; all other scales move the choice (docs/theory.md, section 7).

    Arrays of float32 are kept as they are, for their memory; whatever is computed from them is computed in float64.

    Args:
        curvature: (K, d) H_t >= 0, curvature of task t's training loss.
        scores: (K, d) S_tt >= 0, variance over images of the per-image gradient of task t, centred.
        risk: (K, d) M_t >= 0, curvature of the risk that is evaluated; H_t itself for the training distribution.
        position: (K, d) task t's solution minus the initial weights common to all tasks.
        cross: (K, K, d) S_tu, covariance over images of the gradients of tasks t and u, symmetric; its diagonal is not
            read. None stands for zero.

    Raises:
        InputError: Shapes that differ, numbers that are not finite, or a negative second moment.

    Example:
        >>> fisher = np.array([[4.0, 1.0], [1.0, 2.0]])
        >>> unit = UnitMoments(fisher, fisher, fisher, position=np.zeros((2, 2)))
        >>> unit.num_tasks, unit.num_coordinates
        (2, 2)
    """

    curvature: FloatArray
    scores: FloatArray
    risk: FloatArray
    position: FloatArray
    cross: FloatArray | None = None

    def __post_init__(self) -> None:
        for name in ("curvature", "scores", "risk", "position", "cross"):
            if (given := getattr(self, name)) is not None:
                kept = np.asarray(given)
                object.__setattr__(
                    self, name, kept if kept.dtype == np.float32 else kept.astype(np.float64, copy=False)
                )
        if self.curvature.ndim != 2 or self.curvature.shape[0] == 0:
            raise InputError(f"curvature of shape {self.curvature.shape}", expected="(tasks >= 1, coordinates)")
        for name in ("scores", "risk", "position"):
            _check_shape(name, getattr(self, name), self.curvature.shape)
        for name in ("curvature", "scores", "risk"):
            _check_finite(name, getattr(self, name))
            if np.any(getattr(self, name) < 0):
                raise InputError(f"{name} has negative entries", expected="second moments >= 0")
        _check_finite("position", self.position)
        if self.cross is not None:
            self._check_cross(self.cross)

    @property
    def num_tasks(self) -> int:
        """K."""
        return int(self.curvature.shape[0])

    @property
    def num_coordinates(self) -> int:
        """The number d of scalar parameters of the unit."""
        return int(self.curvature.shape[1])

    def part(self, which: slice | npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> UnitMoments:
        """Some of the coordinates, in float64.

        Args:
            which: A slice of the coordinates, (d,) whether to take each, or the numbers of those to take.

        Returns:
            The same moments of these coordinates alone; a slice of float64 moments is not copied.

        Example:
            >>> UnitMoments(*[np.array([[4.0, 1.0, 3.0]])] * 4).part(slice(1, 9)).curvature
            array([[1., 3.]])
        """
        cut: dict[int, FloatArray] = {}  # an array that stands for several fields is converted once
        for values in self._fields().values():
            if values is not None and id(values) not in cut:
                cut[id(values)] = values[..., which].astype(np.float64, copy=False)
        return _trusted({name: cut.get(id(values)) for name, values in self._fields().items()})

    def one_fisher(self) -> UnitMoments:
        """The paper's case: the curvature stands for scores and risk too, and scores of two tasks are independent.

        Returns:
            Moments on the same arrays.

        Example:
            >>> UnitMoments(*np.arange(1.0, 5.0)[:, None, None]).one_fisher().risk
            array([[1.]])
        """
        H = self.curvature
        return _trusted({"curvature": H, "scores": H, "risk": H, "position": self.position, "cross": None})

    def _fields(self) -> dict[str, FloatArray | None]:
        return {
            "curvature": self.curvature,
            "scores": self.scores,
            "risk": self.risk,
            "position": self.position,
            "cross": self.cross,
        }

    def summary(self) -> dict[str, Any]:
        """Sum the moments over the unit's coordinates, to be read by people.

        ``mismatch`` is ``min over m of sum_t H_t (theta_t - m)^2``, which for two tasks is
        ``H_A H_B / (H_A + H_B) delta^2``: what standing at one common point costs both, twice, to second order.

        Returns:
            ``parameters`` d; ``curvature`` and ``scores``, one sum per task; ``distance``, the squared distances of
            all pairs of solutions; ``mismatch`` in nats. The last two are None for a single task.

        Example:
            >>> unit = UnitMoments(*[np.array([[1.0], [3.0]])] * 3, position=np.array([[0.0], [2.0]]))
            >>> unit.summary()["mismatch"]                                                  # 3 / 4 * 4
            3.0
        """
        curvature, position = self.curvature.astype(np.float64), self.position.astype(np.float64)
        total = curvature.sum(axis=0)
        weighted = (curvature * position).sum(axis=0)
        common = np.divide(weighted, total, out=np.zeros_like(total), where=total > 0)
        pairs = [(t, u) for t in range(self.num_tasks) for u in range(t)]
        single = self.num_tasks == 1
        return {
            "parameters": self.num_coordinates,
            "curvature": curvature.sum(axis=1).tolist(),
            "scores": self.scores.sum(axis=1, dtype=np.float64).tolist(),
            "distance": None if single else float(sum(np.sum((position[t] - position[u]) ** 2) for t, u in pairs)),
            "mismatch": None if single else float(np.sum(curvature * (position - common) ** 2)),
        }

    def _check_cross(self, cross: FloatArray) -> None:
        _check_shape("cross", cross, (self.num_tasks, self.num_tasks, self.num_coordinates))
        _check_finite("cross", cross)
        asymmetry = np.max(np.abs(cross - cross.swapaxes(0, 1)), initial=0.0)
        if asymmetry > 1e-9 * np.max(np.abs(cross), initial=0.0):
            raise InputError("cross is not symmetric in its two tasks", expected="cross[t, u] equal to cross[u, t]")


def _trusted(fields: dict[str, FloatArray | None]) -> UnitMoments:
    """Moments made of checked ones, so that a pass over blocks does not check every number again."""
    moments = object.__new__(UnitMoments)
    for name, values in fields.items():
        object.__setattr__(moments, name, values)
    return moments


def _check_shape(name: str, values: FloatArray, expected: tuple[int, ...]) -> None:
    if values.shape != expected:
        raise InputError(f"{name} of shape {values.shape}", expected=f"{expected}, to go with the curvature")


def _check_finite(name: str, values: FloatArray) -> None:
    if not np.all(np.isfinite(values)):
        raise InputError(f"{name} has entries that are not finite", expected="finite numbers")
