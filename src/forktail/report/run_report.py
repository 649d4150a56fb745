"""A run directory becomes ``report.html``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from forktail.report.names import isolated
from forktail.report.numbers import NONE, counted, duration, fixed, percent, points, significant, whole, with_prefix
from forktail.report.page import Figure, Table, Tile, render
from forktail.report.pictures import Picture, embedded
from forktail.report.run_figures import (
    classes_figure,
    compute_figure,
    criterion_figure,
    fisher_figure,
    frequency_figure,
    groups_figure,
    learning_figure,
    mismatch_figure,
    reliability_figure,
    terms_figure,
)
from forktail.report.run_files import Criterion, RunContent, read_run
from forktail.report.run_words import distrust, standard_error, summary
from forktail.run import Run

REPORT = "report.html"


@dataclass(frozen=True)
class ConfusedPair:
    """Images of one class that were taken for another, and some of them.

    Args:
        true: Name of their class.
        predicted: Name of the class that they were taken for.
        images: How many.
        tested: Of how many test images of the true class.
        pictures: Name and content of examples.
        texts: Examples where they are no pictures.
        missing: How many examples could not be shown.
    """

    true: str
    predicted: str
    images: int
    tested: int
    pictures: list[tuple[str, Picture]]
    texts: list[str]
    missing: int


def write_run_report(run: Run) -> Path:
    """Write the report of a finished run, from the files of its directory alone.

    The page is one file that fetches nothing; the same files make the same bytes.

    Args:
        run: A finished run.

    Returns:
        Path of ``report.html``, in the run directory.
    """
    content = read_run(run)
    page = render(
        "run.html",
        content=content,
        summary=summary(content),
        distrust=distrust(content),
        tiles=_tiles(content),
        frequencies=frequency_figure(content),
        selection=_selection(content.criterion),
        learning=learning_figure(content.epochs) if content.epochs else None,
        groups=groups_figure(content.metrics, content.validation),
        classes=classes_figure(content) if any(content.metrics.test_images) else None,
        reliability=reliability_figure(content.metrics) if content.metrics.reliability else None,
        confused=_confused(run, content),
        compute=compute_figure(content.stages, content.clocks) if content.stages else None,
        stages=_stages(content),
        found=_found(content),
        measures=_measures(content),
        environment=_environment(content),
    )
    run.write_text(REPORT, page)
    return run.path / REPORT


def _selection(criterion: Criterion | None) -> list[Figure]:
    if criterion is None:
        return []
    by_layer = [fisher_figure(criterion.facts), mismatch_figure(criterion.facts)] if criterion.facts.units else []
    return [criterion_figure(criterion), terms_figure(criterion), *by_layer]


def _tiles(content: RunContent) -> list[Tile]:
    metrics, cost = content.metrics, content.cost
    accuracy, chance = metrics.accuracy, standard_error(metrics)
    seconds = sum(clock.seconds for clock in content.clocks)
    tiles = [
        Tile(
            "balanced accuracy",
            percent(accuracy.balanced),
            f"mean over classes, ± {points(chance)} at most by choice of test images",
        ),
        Tile("classes with few images", percent(accuracy.few), metrics.groups.edge("few")),
        Tile("worst class", percent(accuracy.worst), f"of {counted(len(metrics.classes), 'class', 'classes')}"),
        Tile("negative log-likelihood", f"{fixed(metrics.nll, 3)} nats", "per image, mean over classes"),
        Tile("calibration error", f"{points(metrics.ece)} points", "expected, of the predicted class"),
    ]
    if cost is not None:
        tiles.append(Tile("training", with_prefix(cost.training_flops, "FLOP"), f"{duration(seconds)} on this machine"))
        tiles.append(Tile("training memory", with_prefix(cost.training_memory, "B"), "counted at fixed shapes"))
        tiles.append(
            Tile(
                "inference",
                with_prefix(cost.inference_flops, "FLOP"),
                f"per image, {counted(cost.parameters, 'parameter')}",
            )
        )
    return tiles


def _stages(content: RunContent) -> Table | None:
    """Time and compute by stage, in the order in which they were run, and their sums."""
    if not content.stages:
        return None
    clocks = {clock.stage: clock for clock in content.clocks}
    total = sum(stage.flops for stage in content.stages)
    rows = []
    for stage in content.stages:
        clock = clocks.get(stage.stage)
        rows.append(
            [
                stage.stage,
                _or_none(stage.steps),
                _or_none(stage.images_per_step),
                _or_none(stage.trained_parameters),
                significant(stage.flops / 1e12),
                percent(stage.flops / total if total else None),
                NONE if stage.memory is None else significant(stage.memory / 1e6),
                fixed(clock.seconds if clock else None, 1),
                "" if clock is None else "reused" if clock.found else "new",
            ]
        )
    memory = [stage.memory for stage in content.stages if stage.memory is not None]
    rows.append(
        [
            "all stages",
            whole(sum(stage.steps or 0 for stage in content.stages)),
            "",
            "",
            significant(total / 1e12),
            percent(1.0 if total else None),
            significant(max(memory) / 1e6 if memory else None),
            fixed(sum(clock.seconds for clock in content.clocks), 1),
            "",
        ]
    )
    columns = ["stage", "steps", "images per step", "trained parameters", "compute, TFLOP", "share of compute"]
    return Table([*columns, "memory, MB", "time, s", "result"], rows)


def _or_none(number: int | None) -> str:
    return NONE if number is None else whole(number)


def _confused(run: Run, content: RunContent) -> list[ConfusedPair]:
    names, tested = content.metrics.classes, content.metrics.test_images
    pairs = []
    for pair in content.metrics.confused:
        said = pair.names or [f"number {position}" for position in pair.positions]
        positions = pair.positions if pair.texts is None else []
        found = [embedded(run.path, f"confused/{position}.png") for position in positions]
        pictures = [(name, picture) for name, picture in zip(said, found, strict=False) if picture is not None]
        missing = len(found) - len(pictures)
        true, predicted, texts = names[pair.true], names[pair.predicted], pair.texts or []
        pairs.append(ConfusedPair(true, predicted, pair.images, tested[pair.true], pictures, texts, missing))
    return pairs


def _found(content: RunContent) -> list[tuple[str, str]]:
    metrics, counts = content.metrics, content.metrics.counts
    most, least = (metrics.classes[counts.ranked[position]] for position in (0, -1))
    shots = [
        (f"{name}, {metrics.groups.edge(name)}", counted(int(classes.size), "class", "classes"))
        for name, classes in metrics.shots.items()
    ]
    tasks = [
        (
            f"task {name}" if name in {"head", "tail"} else name,
            f"{counted(len(task), 'class', 'classes')}, "
            f"{counted(sum(metrics.train_images[index] for index in task), 'training image')}",
        )
        for name, task in zip(content.task_names, metrics.tasks or [], strict=True)
    ]
    tested = sum(images > 0 for images in metrics.test_images)
    return [
        ("most frequent", _named(most, int(counts.per_class.max()))),
        ("rarest", _named(least, int(counts.per_class.min()))),
        *shots,
        *tasks,
        ("test", f"{counted(sum(metrics.test_images), 'image')} of {counted(tested, 'class', 'classes')}"),
    ]


def _named(name: str, images: int) -> Markup:
    return Markup("{}, {}").format(isolated(name), counted(images, "training image"))


def _measures(content: RunContent) -> list[tuple[str, str]]:
    metrics = content.metrics
    risk = [] if metrics.risk is None else [("risk, summed binary cross-entropy", f"{fixed(metrics.risk, 3)} nats")]
    return [
        ("macro F1", percent(metrics.macro_f1)),
        ("negative log-likelihood", f"{fixed(metrics.nll, 3)} nats, mean over classes"),
        *risk,
        ("calibration error", f"{points(metrics.ece)} points, expected"),
        ("class prior assumed", metrics.prior),
    ]


def _environment(content: RunContent) -> list[tuple[str, str]]:
    found = content.environment
    return [
        ("forktail", found.forktail),
        ("Python", found.python),
        ("PyTorch", found.torch),
        ("NumPy", found.numpy),
        ("platform", found.platform),
        ("device", f"{found.device}, {counted(found.threads, 'thread')}"),
        ("seed", str(content.settings.seed)),
        ("training set", _named(found.data.name, found.data.images)),
        ("its fingerprint", found.data.train),
    ]
