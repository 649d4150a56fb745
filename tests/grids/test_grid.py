"""A grid is the networks that `fit` would make, cell by cell, and its readings are those that `fit` would choose by."""

from __future__ import annotations

import json

import numpy as np
import pytest

from forktail.errors import InputError
from forktail.fitting import fit
from forktail.grids.grid import grid
from forktail.run import Run
from forktail.training.progress import Silent

QUICK = ["plan.epochs=1", "plan.batch_size=16", "backbone.name=resnet8", "backbone.weights=random"]
SMALL = [*QUICK, "backbone.input_size=28"]


class Listening(Silent):
    """Keeps what is said."""

    def __init__(self):
        self.said = []

    def note(self, text):
        self.said.append(text)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Four classes of noise with a brighter place each, enough for a validation part."""
    random = np.random.RandomState(0)
    counts = [20, 12, 8, 6]

    def draw(per_class):
        labels = np.repeat(np.arange(4), per_class)
        images = random.randint(0, 90, (len(labels), 28, 28))
        for image, label in zip(images, labels, strict=True):
            image[7 * label : 7 * label + 7] += 120
        return images.astype(np.uint8), labels

    path = tmp_path_factory.mktemp("pictures") / "small.npz"
    (x, y), (x_test, y_test) = draw(counts), draw([5] * 4)
    np.savez(path, x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    return path


@pytest.fixture(scope="module")
def made(pictures, tmp_path_factory):
    """Two depths beside nothing shared, three weights, one seed."""
    out = tmp_path_factory.mktemp("grid") / "out"
    return grid(pictures, weights=3, depths=[0, 1, 3], seeds=[0], readings="sandwich,general", settings=SMALL, out=out)


def test_every_cell_is_measured_once_and_nothing_shared_has_no_weight(made):
    found = [(cell["depth"], cell["weight"]) for cell in made.results["cells"]]
    assert (made.path / "grid.html").is_file()
    assert found == [(0, None), *((depth, weight) for weight in (0.25, 0.5, 0.75) for depth in (1, 3))]
    for cell in made.results["cells"]:
        for state in ("raw", "refined"):
            for split in ("validation", "test"):
                figures = cell[state][split]
                assert figures["risk"] > 0
                assert 0 <= figures["posterior"]["balanced"] <= 1


@pytest.mark.parametrize(("depth", "weight"), [(0, 0.5), (1, 0.25), (3, 0.75)])
@pytest.mark.parametrize("decoders", ["stage2"])
def test_a_cell_is_what_fit_makes_of_it(made, pictures, tmp_path, depth, weight, decoders):
    options = [f"method.depth={depth}", f"method.weight={weight}", f"method.decoders={decoders}"]
    settings = ["data.validation=true", *SMALL, *options]
    run = fit(pictures, "osdtw", settings=settings, out=tmp_path / "run", cache=made.path / "stages")
    [cell] = [cell for cell in made.results["cells"] if cell["depth"] == depth and cell["weight"] in (None, weight)]
    figures = cell["refined"]["test"]
    assert figures["posterior"]["balanced"] == run.metrics["accuracy"]["balanced"]
    assert figures["risk"] == pytest.approx(run.metrics["risk"], rel=1e-6)
    assert figures["posterior"]["nll"] == pytest.approx(run.metrics["nll"], rel=1e-5)
    timing = [json.loads(line) for line in (run.path / "timing.jsonl").read_text().splitlines()]
    trained = {record["stage"] for record in timing if not record["found"]}
    assert trained <= {"moments"}  # with groups of images, which a grid has not


def test_the_margin_rule_is_another_reading_of_the_same_networks(made, pictures, tmp_path):
    settings = ["data.validation=true", *SMALL, "method.depth=3", "method.weight=0.25", "method.rule=margin"]
    run = fit(pictures, "osdtw", settings=settings, out=tmp_path / "run", cache=made.path / "stages")
    [cell] = [cell for cell in made.results["cells"] if (cell["depth"], cell["weight"]) == (3, 0.25)]
    assert cell["refined"]["test"]["margin"]["balanced"] == run.metrics["accuracy"]["balanced"]
    assert cell["refined"]["test"]["margin"]["nll"] == pytest.approx(run.metrics["nll"], rel=1e-5)


def test_a_reading_predicts_what_fit_would_choose_by(made, pictures, tmp_path):
    settings = ["data.validation=true", *SMALL, "method.reading=general", "method.damping=0", "method.weights=3"]
    run = fit(pictures, "osdtw", settings=settings, out=tmp_path / "run", cache=made.path / "stages")
    table = np.array(made.results["predicted"]["general"]["0"]["table"])
    rows = (run.path / "criterion.csv").read_text().splitlines()[1:]
    assert table.shape == (4, 3)  # every depth of the backbone, whatever was trained
    assert len(rows) == table.size
    chosen = run.selection
    assert chosen["value"] == pytest.approx(table.min(), rel=1e-6)  # sums of groups are added in another order


def test_drift_is_said_of_every_weight_and_layer(made):
    found = made.results["drift"]
    assert [(one["seed"], one["weight"]) for one in found] == [(0, 0.25), (0, 0.5), (0, 0.75)]
    for one in found:
        assert len(one["layers"]) == 4
        assert all(value >= 0.5 - 1e-9 for value in one["layers"])  # nothing is nearer to both than the midpoint


def test_measures_are_there_for_every_reading_state_and_split(made):
    found = {(one["reading"], one["state"], one["split"]) for one in made.results["measures"]}
    assert found == {
        (reading, state, split)
        for reading in ("sandwich", "general")
        for state in ("raw", "refined")
        for split in ("validation", "test")
    }


def test_the_same_call_again_trains_nothing(made, pictures):
    before = (made.path / "grid.json").read_bytes()
    told = Listening()
    again = grid(
        pictures,
        weights=3,
        depths=[0, 1, 3],
        seeds=[0],
        readings="sandwich,general",
        settings=SMALL,
        out=made.path,
        progress=told,
    )
    assert "4 of 4 pieces were there already" in told.said
    assert (again.path / "grid.json").read_bytes() == before


def test_a_changed_picture_is_measured_anew(pictures, tmp_path):
    def done():
        found = grid(tmp_path / "own.npz", **of)
        return {path.parent.name: path.stat().st_mtime_ns for path in found.path.glob("runs/*/column.json")}

    of = {"weights": 1, "depths": [3], "seeds": [0], "readings": "sandwich", "settings": SMALL, "out": tmp_path / "out"}
    with np.load(pictures) as arrays:
        content = dict(arrays)
    np.savez(tmp_path / "own.npz", **content)
    first, again = done(), done()
    assert first == again
    content["x_test"] = 255 - content["x_test"]
    np.savez(tmp_path / "own.npz", **content)
    third = done()
    assert all(third[name] > first[name] for name in first)


def test_parts_make_the_whole(made, pictures, tmp_path):
    asked = {"weights": 3, "depths": [0, 1, 3], "seeds": [0], "readings": "sandwich,general", "settings": SMALL}
    for part in ((1, 2), (2, 2)):
        found = grid(pictures, **asked, out=tmp_path / "out", cache=made.path / "stages", part=part)
        assert found.finished == (part == (2, 2))
    for key in ("cells", "predicted", "measures", "flops"):
        assert found.results[key] == made.results[key]


def test_a_reading_that_cannot_be_had_says_why(pictures, made, tmp_path, monkeypatch):
    def refuse(*_):
        raise InputError("no damping explains the movement")

    monkeypatch.setattr("forktail.methods._criterion.movement_damping", refuse)
    found = grid(
        pictures,
        weights=1,
        depths=[3],
        seeds=[0],
        readings="sandwich,general-damped",
        settings=SMALL,
        out=tmp_path / "out",
        cache=made.path / "stages",
    )
    reasons = {one["reading"]: one.get("reason") for one in found.results["measures"]}
    assert reasons == {"sandwich": None, "general-damped": "no damping explains the movement"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": 4}, "--weights 4"),
        ({"seeds": [1, 1]}, "--seeds 1,1"),
        ({"depths": [0, 1]}, "--depths 0,1"),
        ({"depths": [3, 9]}, "--depths 3,9"),
        ({"part": (3, 2)}, "--part 3/2"),
        ({"jobs": 0}, "--jobs 0"),
        ({"readings": "generall"}, 'did you mean "general"?'),
        ({"settings": [*SMALL, "method.depth=1"]}, "method.depth = 1 in a grid"),
        ({"settings": [*SMALL, "method.calibration=true"]}, "method.calibration = True in a grid"),
        ({"settings": [*SMALL, "method.separation=true"]}, "method.separation = true in a grid"),
        ({"settings": [*SMALL, "method.refinement=balanced_softmax"]}, "the risk of Bernoulli outputs"),
    ],
)
def test_what_makes_no_grid_is_refused_before_anything_is_written(pictures, tmp_path, options, said):
    with pytest.raises(InputError, match=said.replace("?", r"\?")):
        grid(pictures, **{"settings": SMALL, "out": tmp_path / "out", **options})
    assert not (tmp_path / "out").exists()


def test_a_changed_recipe_needs_another_folder(made, pictures):
    with pytest.raises(InputError, match="another"):
        grid(
            pictures,
            weights=3,
            depths=[0, 1, 3],
            seeds=[0],
            readings="sandwich,general",
            settings=[*SMALL, "plan.lr=0.01"],
            out=made.path,
        )
    assert Run(made.path).read_object("grid.json") == made.results
