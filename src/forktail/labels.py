"""What the training labels say: how often each class occurs, and which classes form a task.

``C`` classes, ``K`` tasks. A task is a group of classes; the paper's two tasks are the head and the tail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from forktail.errors import InputError, nearest

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """How many training images each class has, counted after any validation part was held out.

    Args:
        per_class: (C,) whole numbers >= 1, C >= 2, in class order.

    Raises:
        InputError: Fewer than two classes, counts that are not whole numbers, or a class without an image.

    Example:
        >>> counts = ClassCounts([300, 60, 15])
        >>> counts.num_classes, counts.total, counts.imbalance
        (3, 375, 20.0)
        >>> counts.prior
        array([0.8 , 0.16, 0.04])
    """

    per_class: IntArray

    def __post_init__(self) -> None:
        given = np.asarray(self.per_class)
        if given.ndim != 1 or given.size < 2:
            raise InputError(
                f"class counts of shape {given.shape}", expected="one count for each of at least 2 classes"
            )
        if given.dtype.kind not in "iu":
            raise InputError(f"class counts of type {given.dtype}", expected="whole numbers")
        if given.min() < 1:
            index = int(np.argmax(given < 1))
            raise InputError(
                f"class {index} has {given[index]} training images",
                expected="at least 1 in every class",
                remedy="remove the class or add images",
            )
        object.__setattr__(self, "per_class", _frozen(given))

    @property
    def num_classes(self) -> int:
        """C."""
        return self.per_class.size

    @property
    def total(self) -> int:
        """N, the number of training images."""
        return int(self.per_class.sum())

    @property
    def prior(self) -> FloatArray:
        """(C,) class frequencies pi_c = n_c / N."""
        return self.per_class / self.total

    @property
    def imbalance(self) -> float:
        """Images of the largest class over images of the smallest."""
        return float(self.per_class.max() / self.per_class.min())

    @property
    def ranked(self) -> IntArray:
        """(C,) class indices from the most frequent to the rarest, ties to the lower index."""
        return np.argsort(-self.per_class, kind="stable")

    def shots(self, rule: str = "A") -> Shots:
        """Group the classes into many, medium and few.

        Published tables use three rules that differ at the edges, so a figure means little without the rule's name:
        A (most papers), B (OLTR) and C (as MiSLAS and DeiT-LT do on Places and iNaturalist).

        Args:
            rule: ``"A"``, ``"B"``, ``"C"``, or ``"quantile"`` for thirds by rank.

        Returns:
            The three groups; one may be empty.

        Raises:
            InputError: The rule has no such name.

        Example:
            >>> ClassCounts([300, 100, 20, 5]).shots("B").many
            array([0, 1])
        """
        if rule == "quantile":
            thirds = [np.sort(third) for third in np.array_split(self.ranked, 3)]
            edges = {"many": "first third by rank", "medium": "second third", "few": "last third"}
            return Shots(rule, edges, *thirds)
        if rule not in _SHOT_RULES:
            raise InputError(f'shot rule "{rule}"', expected="a known rule", remedy=nearest(rule, SHOT_RULES))
        is_many, is_few, edges = _SHOT_RULES[rule]
        many, few = is_many(self.per_class), is_few(self.per_class)
        return Shots(rule, edges, np.flatnonzero(many), np.flatnonzero(~many & ~few), np.flatnonzero(few))


@dataclass(frozen=True, eq=False)
class Shots:
    """The classes with many, medium and few training images under a named rule.

    Args:
        rule: Name of the rule.
        edges: Per group, its edges in words, to be printed beside every figure.
        many: Class indices, ascending; an empty group is an empty array.
        medium: As ``many``.
        few: As ``many``.

    Example:
        >>> shots = ClassCounts([300, 100, 20, 5]).shots()
        >>> {group: classes.tolist() for group, classes in shots.groups.items()}
        {'many': [0], 'medium': [1, 2], 'few': [3]}
        >>> shots.edges["medium"]
        '20 <= n <= 100'
    """

    rule: str
    edges: dict[str, str]
    many: IntArray
    medium: IntArray
    few: IntArray

    @property
    def groups(self) -> dict[str, IntArray]:
        """The three groups by name."""
        return {"many": self.many, "medium": self.medium, "few": self.few}


_Test = Callable[[IntArray], npt.NDArray[np.bool_]]
_SHOT_RULES: dict[str, tuple[_Test, _Test, dict[str, str]]] = {
    "A": (lambda n: n > 100, lambda n: n < 20, {"many": "n > 100", "medium": "20 <= n <= 100", "few": "n < 20"}),
    "B": (lambda n: n >= 100, lambda n: n <= 20, {"many": "n >= 100", "medium": "20 < n < 100", "few": "n <= 20"}),
    "C": (lambda n: n > 100, lambda n: n <= 20, {"many": "n > 100", "medium": "21 <= n <= 100", "few": "n <= 20"}),
}
SHOT_RULES = (*_SHOT_RULES, "quantile")


@dataclass(frozen=True, eq=False)
class TaskSplit:
    """Which classes form which task.

    Targets of task t are columns: ``targets[:, split.tasks[t]]`` of a (B, C) one-hot; an image of another task is a row
    of zeros.

    Args:
        tasks: K arrays of class indices, disjoint, none empty, together 0..C-1. Their order is kept: it is the order
            of the task's outputs.

    Raises:
        InputError: No task, an empty task, or a class that is missing or stands in two tasks.

    Example:
        >>> split = TaskSplit(([2, 0], [1]))
        >>> split.num_tasks, split.num_classes
        (2, 3)
        >>> np.array([20, 0, 10])[split.order]      # concatenated outputs, put into class order
        array([ 0, 10, 20])
    """

    tasks: tuple[IntArray, ...]

    def __post_init__(self) -> None:
        tasks = tuple(_class_indices(task, index) for index, task in enumerate(self.tasks))
        if not tasks:
            raise InputError("a task split without tasks", expected="at least one group of classes")
        times = np.bincount(np.concatenate(tasks))
        if times.size and not np.all(times == 1):
            index = int(np.argmax(times != 1))
            raise InputError(
                f"class {index} stands in {times[index]} tasks",
                expected="every class from 0 upwards in exactly one task",
            )
        object.__setattr__(self, "tasks", tasks)

    @classmethod
    def single(cls, num_classes: int) -> TaskSplit:
        """Return the split of an ordinary network: all classes in one task.

        Args:
            num_classes: C.

        Returns:
            The split.

        Example:
            >>> TaskSplit.single(3).num_tasks
            1
        """
        return cls((np.arange(num_classes),))

    @property
    def num_tasks(self) -> int:
        """K."""
        return len(self.tasks)

    @property
    def num_classes(self) -> int:
        """C, over all tasks."""
        return sum(task.size for task in self.tasks)

    @property
    def order(self) -> IntArray:
        """(C,) columns that put concatenated task outputs into class order: ``outputs[:, order]``."""
        return np.argsort(np.concatenate(self.tasks))


def by_rank(counts: ClassCounts, parts: int = 2) -> TaskSplit:
    """Split into equally many classes by frequency: the paper's head and tail for two parts.

    Classes are sorted by n_c, descending, ties to the lower index; the first ceil(C / 2) are the head. Where C is no
    multiple of ``parts``, the more frequent tasks get one class more. Each task lists its classes in rank order.

    Args:
        counts: The training counts.
        parts: K, between 1 and C.

    Returns:
        The split, the most frequent task first.

    Raises:
        InputError: More parts than classes, or none.

    Example:
        >>> [task.tolist() for task in by_rank(ClassCounts([5, 90, 40, 40, 7])).tasks]
        [[1, 2, 3], [4, 0]]
    """
    _check_parts(counts, parts)
    return TaskSplit(tuple(np.array_split(counts.ranked, parts)))


def by_mass(counts: ClassCounts, parts: int = 2) -> TaskSplit:
    """Split into about equally many images: few frequent classes against many rare ones.

    In rank order, task j ends with the class at which the running total first reaches j / parts of all images, one
    class later if it would be empty, and early enough to leave a class to each task that follows.

    Args:
        counts: The training counts.
        parts: K, between 1 and C.

    Returns:
        The split, the most frequent task first, classes in rank order.

    Raises:
        InputError: More parts than classes, or none.

    Example:
        >>> [task.tolist() for task in by_mass(ClassCounts([5, 90, 40, 40, 7])).tasks]
        [[1, 2], [3, 4, 0]]
    """
    _check_parts(counts, parts)
    running = np.cumsum(counts.per_class[counts.ranked])
    ends: list[int] = []
    for part in range(1, parts):
        reached = int(np.argmax(parts * running >= part * counts.total)) + 1
        earliest = ends[-1] + 1 if ends else 1
        ends.append(min(max(reached, earliest), counts.num_classes - (parts - part)))
    return TaskSplit(tuple(np.split(counts.ranked, ends)))


def by_threshold(counts: ClassCounts, *at_least: int) -> TaskSplit:
    """Split at given numbers of images: a class joins the first task whose bound it reaches.

    Args:
        counts: The training counts.
        at_least: K - 1 bounds, strictly descending; task j holds the classes with n_c >= at_least[j] that no earlier
            task took, the last task the rest.

    Returns:
        The split, the most frequent task first, classes in rank order.

    Raises:
        InputError: No bound, bounds that do not descend, or a task that would be empty.

    Example:
        >>> [task.tolist() for task in by_threshold(ClassCounts([5, 90, 40, 40, 7]), 40).tasks]
        [[1, 2, 3], [4, 0]]
    """
    if not at_least or any(low >= high for high, low in pairwise(at_least)):
        raise InputError(f"thresholds {at_least}", expected="at least one number of images, strictly descending")
    descending = counts.per_class[counts.ranked]
    ends = [int(np.count_nonzero(descending >= bound)) for bound in at_least]
    return TaskSplit(tuple(np.split(counts.ranked, ends)))


def by_groups(counts: ClassCounts, rule: str = "A") -> TaskSplit:
    """Make each shot group a task, so that many, medium and few are three tasks; an empty group is left out.

    Args:
        counts: The training counts.
        rule: A rule of :meth:`ClassCounts.shots`.

    Returns:
        The split, the most frequent task first, classes in rank order.

    Raises:
        InputError: An unknown rule, or all classes in one group.

    Example:
        >>> [task.tolist() for task in by_groups(ClassCounts([5, 900, 40, 40, 7])).tasks]
        [[1], [2, 3], [4, 0]]
    """
    shots = counts.shots(rule)
    groups = [counts.ranked[np.isin(counts.ranked, group)] for group in shots.groups.values() if group.size]
    if len(groups) < 2:
        raise InputError(
            f"all {counts.num_classes} classes fall into one group of shot rule {rule}",
            expected="classes in at least two groups",
            remedy="split by rank or by mass instead",
        )
    return TaskSplit(tuple(groups))


def _frozen(values: npt.ArrayLike) -> IntArray:
    """Copy into an int64 array that nobody can change, since these objects are shared freely."""
    copy = np.array(values, dtype=np.int64)
    copy.flags.writeable = False
    return copy


def _class_indices(task: Sequence[int] | IntArray, index: int) -> IntArray:
    given = np.asarray(task)
    if given.ndim != 1 or given.size == 0:
        raise InputError(f"task {index} of shape {given.shape}", expected="a list of at least one class index")
    if given.dtype.kind not in "iu" or given.min() < 0:
        raise InputError(f"task {index} lists {given.tolist()}", expected="class indices, whole numbers from 0 upwards")
    return _frozen(given)


def _check_parts(counts: ClassCounts, parts: int) -> None:
    if not 1 <= parts <= counts.num_classes:
        raise InputError(f"{parts} parts", expected=f"between 1 and the {counts.num_classes} classes")


def effective_number(counts: npt.ArrayLike, beta: float) -> FloatArray:
    """Count what n images are worth if each covers part of a class (Cui et al. 2019, proposition 1).

    ``(1 - beta^n) / (1 - beta)``: 1 at beta = 0, and n as beta nears 1.

    Args:
        counts: Images per class, each at least 1.
        beta: In [0, 1); (M - 1) / M where a class holds M distinct images.

    Returns:
        Effective numbers, of the same shape.

    Raises:
        InputError: If beta is outside [0, 1).

    Example:
        >>> effective_number([2, 1], beta=0.5)
        array([1.5, 1. ])
    """
    if not 0 <= beta < 1:
        raise InputError(f"beta {beta} of the effective number of images", expected="a number in [0, 1)")
    number: FloatArray = (1 - np.power(beta, np.asarray(counts, dtype=np.float64))) / (1 - beta)
    return number
