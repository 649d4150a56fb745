"""The distinct cells of a grid of shared depths and head weights.

Legend: ``D`` depths, ``W`` weights, ``n`` distinct cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from forktail.errors import InputError
from forktail.labels import FloatArray

ROUNDING = 1e-12  # of the largest value: what lies nearer together than this is a tie, as in theory.select


@dataclass(frozen=True)
class Cells:
    """Which entries of a (D, W) table are different networks, in the order of the table.

    A network that shares nothing has no weight: the row of depth 0 is one cell. So whatever is computed over cells
    counts it once, however many weights the grid has.

    Args:
        depths: D shared depths s, increasing. The last one is taken for full sharing.
        weights: W weights w of the head task, increasing, from 0 to 1.

    Raises:
        InputError: Depths or weights that are missing, out of order or out of range.

    Example:
        >>> cells = Cells((0, 2, 6), (0.3, 0.5, 0.7))
        >>> cells.num_cells, cells.place(0), cells.place(6)
        (7, {'depth': 0, 'weight': None}, {'depth': 6, 'weight': 0.7})
    """

    depths: tuple[int, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "depths", tuple(int(depth) for depth in self.depths))
        object.__setattr__(self, "weights", tuple(float(weight) for weight in self.weights))
        if not self.depths or min(self.depths) < 0 or list(self.depths) != sorted(set(self.depths)):
            raise InputError(f"depths {list(self.depths)}", expected="increasing whole numbers from 0")
        inside = all(0 <= weight <= 1 for weight in self.weights)
        if not self.weights or not inside or list(self.weights) != sorted(set(self.weights)):
            raise InputError(f"head weights {list(self.weights)}", expected="increasing numbers from 0 to 1")

    @cached_property
    def _entries(self) -> list[tuple[int, int]]:
        columns = range(len(self.weights))
        flat = min(
            columns, key=self._imbalance
        )  # its tie with a shared cell is settled as one at w = 1/2, by the depth
        return [
            (row, column) for row, depth in enumerate(self.depths) for column in ([flat] if depth == 0 else columns)
        ]

    @property
    def num_cells(self) -> int:
        """Number of distinct cells n."""
        return len(self._entries)

    def values(self, table: npt.ArrayLike, name: str) -> FloatArray:
        """Read a table's values at the distinct cells.

        Args:
            table: (D, W) finite numbers; the row of depth 0 the same number W times, to 1e-9 of itself.
            name: What the table holds, and of which seed, for the message.

        Returns:
            (n,) values.

        Raises:
            InputError: Another shape, a value that is not finite, or a row of depth 0 that depends on the weight.

        Example:
            >>> Cells((0, 3), (0.4, 0.6)).values([[2.0, 2.0], [1.0, 3.0]], "risk of seed 0")
            array([2., 1., 3.])
        """
        values = np.asarray(table, dtype=np.float64)
        if values.shape != (len(self.depths), len(self.weights)):
            raise InputError(
                f"{name}: a table of shape {values.shape}",
                expected=f"({len(self.depths)} depths, {len(self.weights)} weights)",
            )
        bad = np.argwhere(~np.isfinite(values))
        if bad.size:
            row, column = bad[0]
            raise InputError(
                f"{name} at depth {self.depths[row]}, weight {self.weights[column]:.4g}: {values[row, column]}",
                expected="a finite number in every cell",
            )
        self._check_flat(values, name)
        rows, columns = zip(*self._entries, strict=True)
        return values[list(rows), list(columns)]

    @cached_property
    def depth_of(self) -> npt.NDArray[np.int64]:
        """(n,) depth of each cell."""
        return np.array([self.depths[row] for row, _ in self._entries])

    @cached_property
    def weight_of(self) -> FloatArray:
        """(n,) weight of each cell; one of depth 0, which has none, is NaN."""
        return np.array([self.weights[column] if self.depths[row] else np.nan for row, column in self._entries])

    def place(self, cell: int) -> dict[str, int | float | None]:
        """Say where a cell stands.

        Args:
            cell: Its number, from 0 to n - 1.

        Returns:
            ``depth`` and ``weight``, which is None at depth 0.
        """
        row, column = self._entries[cell]
        return {"depth": self.depths[row], "weight": self.weights[column] if self.depths[row] else None}

    def at(self, depth: int, weight: float = 0.5) -> int:
        """Find a cell's number.

        Args:
            depth: One of the depths.
            weight: One of the weights, to 1e-9; any at depth 0.

        Returns:
            The cell, from 0 to n - 1.

        Raises:
            InputError: A depth or a weight that the grid does not have.

        Example:
            >>> Cells((0, 3), (0.4, 0.5, 0.6)).at(3, 0.4)
            1
        """
        return self._among(depth, None if depth == 0 else weight)[0]

    def smallest(self, values: FloatArray, *, depth: int | None = None, weight: float | None = None) -> int:
        """Find the cell with the smallest value.

        Ties are settled as `forktail.theory.select` does: the weight nearest to 1/2 wins, then the deeper cell, then
        the smaller weight.

        Args:
            values: (n,) one value per cell.
            depth: Look at this depth alone.
            weight: Look at this weight alone, and at depth 0, which has none.

        Returns:
            The cell, from 0 to n - 1.

        Raises:
            InputError: A depth or a weight that the grid does not have.

        Example:
            >>> cells, values = Cells((0, 3), (0.4, 0.5, 0.6)), np.array([4.0, 1.0, 2.0, 3.0])
            >>> cells.smallest(values), cells.smallest(values, weight=0.5)
            (1, 2)
        """
        among = self._among(depth, weight)
        least = values[among].min()
        tied = [cell for cell in among if values[cell] <= least + ROUNDING * abs(least)]
        return min(tied, key=self._preference)

    def _among(self, depth: int | None, weight: float | None) -> list[int]:
        """Cells at this depth and this weight; None allows all."""
        if depth is not None and depth not in self.depths:
            raise InputError(f"depth {depth}", expected=f"one of the grid's depths {list(self.depths)}")
        near = [column for column, known in enumerate(self.weights) if weight is None or abs(known - weight) <= 1e-9]
        if not near:
            raise InputError(f"weight {weight:.4g}", expected=f"one of the grid's head weights {list(self.weights)}")
        return [
            cell
            for cell, (row, column) in enumerate(self._entries)
            if (depth is None or self.depths[row] == depth) and (self.depths[row] == 0 or column in near)
        ]

    def _preference(self, cell: int) -> tuple[float, int, int]:
        row, column = self._entries[cell]
        return self._imbalance(column), -row, column

    def _imbalance(self, column: int) -> float:
        return round(abs(self.weights[column] - 0.5), 9)  # .45 ties with .55

    def _check_flat(self, values: FloatArray, name: str) -> None:
        if self.depths[0] != 0:
            return
        row = values[0]
        if np.ptp(row) > 1e-9 * np.abs(row).max():
            low, high = int(row.argmin()), int(row.argmax())
            raise InputError(
                f"{name} at depth 0: {row[low]:.6g} at weight {self.weights[low]:.4g}, {row[high]:.6g} at weight "
                f"{self.weights[high]:.4g}",
                expected="one value: a network that shares nothing has no weight",
                remedy="measure it once and repeat it",
            )
