import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forktail.errors import InputError
from forktail.report.run_report import write_run_report

EVERY_FIGURE = {
    *("frequencies", "criterion", "terms", "fisher", "mismatch", "learning", "compute", "groups", "classes"),
    "reliability",
}


@pytest.fixture
def report(make_run, read_page):
    def made(change=None, folder="run"):
        return read_page(write_run_report(make_run(change, folder)).read_text(encoding="utf-8"))

    return made


def figures(page):
    return {found["id"].removeprefix("figure-") for found in page.having("figure")}


def check_standing_alone(page):
    """Nothing is fetched, nothing runs, and all that is drawn has words."""
    assert not page.having("script") + page.having("link") + page.having("iframe") + page.having("object")
    for tag, found in page.tags:
        assert not [name for name in found if name.startswith("on")], tag
        for name in ("src", "href", "xlink:href", "action", "data", "srcset"):
            assert not re.match(r"(?i)\s*([a-z][a-z0-9+.-]*:|//)", found.get(name) or "") or (
                tag == "img" and found[name].startswith("data:image/png;base64,")
            ), (tag, found[name])
    for found in page.having("img"):
        assert found["alt"].strip()
    for found in page.having("svg"):
        if found.get("aria-hidden") != "true":
            assert found["role"] == "img"
            assert {found["aria-labelledby"], found["aria-describedby"]} <= set(page.ids)


def test_a_run_with_everything_shows_everything(report):
    page = report()
    assert figures(page) == EVERY_FIGURE
    check_standing_alone(page)
    assert page.having("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.having("meta")
    assert page.tags[[tag for tag, _ in page.tags].index("a")][1] == {"class": "skip", "href": "#content"}
    assert {found["href"][1:] for found in page.having("a") if found["href"].startswith("#")} <= set(page.ids)


def test_every_chart_has_its_numbers_and_every_box_that_scrolls_takes_the_focus(report):
    page = report()
    assert len(page.having("details")) == len(EVERY_FIGURE) + 1  # and the recipe
    boxes = [found for _, found in page.tags if "scroll" in (found.get("class") or "").split()]
    assert len(boxes) >= 2 * len(EVERY_FIGURE)
    for found in boxes:
        assert (found["tabindex"], found["role"]) == ("0", "region")
        assert found["aria-label"].strip()


def test_numbers_are_those_of_the_files(report):
    page = report()
    for said in ("53.3 %", "12.5 %", "1.234 nats", "4.3 points", "3.00 TFLOP", "38.4 MFLOP", "4,242 parameters"):
        assert said in page.text, said
    assert "forktail fit animals --out 'my run'" in page.text
    assert "one picture could not be read" in page.text
    cells = [cell.replace("\u00a0", " ") for cell in page.cells]
    for share, name in [(0.9, "cat"), (0.25, "elk")]:
        row = cells.index(name, cells.index("training images") + 30)
        assert f"{100 * share:.1f}" in cells[row : row + 6]
    for said in ("8.5000", "7.0000", "12.5", "reused", "all stages", "15.5"):
        assert said in cells, said


def test_the_table_of_groups_counts_classes_and_images(report):
    def change(files):
        files["metrics.json"]["test_images"] = [1, 2, 4, 8, 16, 32]

    cells = report(change).cells
    start = cells.index("all classes")
    found = {cells[k]: cells[k + 1 : k + 4] for k in range(start, start + 24, 4)}
    assert found == {
        "all classes": ["6", "63", "53.3"],
        "many": ["2", "3", "87.5"],
        "medium": ["2", "12", "60.0"],
        "few": ["2", "48", "12.5"],
        "head": ["3", "7", "81.7"],
        "tail": ["3", "56", "25.0"],
    }


def test_confused_pictures_are_embedded_with_their_names(report):
    page = report()
    pictures = page.having("img")
    assert [found["alt"] for found in pictures] == [f"Test picture a/{k}.png: yak, taken for cat" for k in (7, 8)]
    assert {(found["width"], found["height"]) for found in pictures} == {("4", "4")}
    assert "12 of 20 test images, 60.0 %" in page.text


def test_standard_errors_mark_cells_and_stand_in_the_table(report):
    def change(files):
        said = "depth 2, weight 0.5; not distinguishable from depths 1 to 2, weights 0.25 to 0.5"
        files["selection.json"] |= {"not_distinguishable": [[1, 0.5], [2, 0.25]], "sentence": said}
        files["criterion.json"] |= {"groups": [82, 81, 81, 81, 81, 81, 81, 82], "fisher": "monte_carlo"}
        for row in files["criterion.csv"]:
            row |= {"shared_variance_error": 0.125, "shared_bias_error": 0.25, "own_variance_error": 0.0}
            row |= {"total_error": 0.375}

    page, plain = report(change), report(folder="plain")
    dots = [[one for one in found.having("circle") if one.get("class") == "alike"] for found in (page, plain)]
    assert [len(found) for found in dots] == [3, 1]  # two cells and the legend's; the legend's alone
    assert "3 cells not distinguishable from it, itself among them." in page.text
    assert "7.0000 ± 0.38" in page.text
    assert "monte-carlo Fisher, debiased" in page.text
    assert "Standard errors by jackknife over 8 groups of images." in page.text
    assert "No standard errors: no groups of images were measured." in plain.text
    assert "±" not in plain.text.partition("three terms")[2].partition("Fisher information by layer")[0]


def test_a_picture_that_is_gone_is_said(make_run, read_page):
    run = make_run()
    (run.path / "confused" / "8.png").unlink()
    page = read_page(write_run_report(run).read_text(encoding="utf-8"))
    assert len(page.having("img")) == 1
    assert "1 example could not be read" in page.text


@pytest.mark.parametrize(
    ("missing", "said", "gone"),
    [
        ("selection.json", "chooses no shared depth and no task weight", {"criterion", "terms", "fisher", "mismatch"}),
        ("log.jsonl", "no learning curve", {"learning"}),
        ("stages.json", "does not say what its stages cost", {"compute"}),
        ("cost.json", "does not say what training memory and inference cost", set()),
        ("timing.jsonl", "Time and compute", set()),
    ],
)
def test_an_optional_file_may_be_missing(report, missing, said, gone):
    page = report(lambda files: files.pop(missing))
    assert figures(page) == EVERY_FIGURE - gone
    assert said in page.text


@pytest.mark.parametrize(
    ("name", "key", "said"),
    [
        ("metrics.json", "reliability", "no reliability diagram"),
        ("metrics.json", "confused", "names no confused classes"),
        ("metrics.json", "tasks", "How often each class occurs"),
        ("criterion.json", "units", "does not hold Fisher information"),
        ("env.json", "command", "does not say by which command"),
    ],
)
def test_an_optional_key_may_be_missing(report, name, key, said):
    assert said in report(lambda files: files[name].pop(key)).text


def test_figures_on_validation_images_stand_beside_those_on_test_images(report):
    def change(files):
        files["validation.json"] = files["metrics.json"] | {"evaluated_on": "validation"}
        files["validation.json"]["accuracy"] = files["metrics.json"]["accuracy"] | {"balanced": 0.4321}

    assert "43.2" in report(change).cells
    assert "43.2" not in report(folder="without").cells


@pytest.mark.parametrize("name", ["recipe.toml", "env.json", "metrics.json"])
def test_a_needed_file_that_is_missing_is_named(make_run, name):
    run = make_run(lambda files: files.pop(name))
    with pytest.raises(InputError, match=re.escape(name)):
        write_run_report(run)
    assert not (run.path / "report.html").exists()


def damage(name, change):
    def damaged(files):
        files[name] = change(files[name])

    return damaged


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("recipe.toml", lambda _: "seed = ", "recipe.toml"),
        ("recipe.toml", lambda _: "seed = 1\n", "method"),
        ("env.json", lambda found: found | {"threads": "many"}, "threads"),
        ("metrics.json", lambda _: [], "metrics.json"),
        ("metrics.json", lambda found: found | {"per_class": [0.5]}, "not one entry for each class"),
        ("metrics.json", lambda found: found | {"nll": None}, "nll"),
        ("metrics.json", lambda found: found | {"tasks": [[0, 1], [1, 2]]}, "every class once"),
        ("metrics.json", lambda found: found | {"train_images": [0, 1, 1, 1, 1, 1]}, "training images"),
        ("metrics.json", lambda found: found | {"confused": [found["confused"][0] | {"true": 6}]}, "class 6"),
        ("metrics.json", lambda found: found | {"groups": found["groups"] | {"rule": "Z"}}, "Z"),
        ("metrics.json", lambda found: found | {"groups": found["groups"] | {"edges": {}}}, "edges"),
        ("stages.json", lambda found: [*found, {"stage": "x"}], "flops"),
        ("log.jsonl", lambda _: "{}\n", "stage"),
        ("log.jsonl", lambda _: "[\n", "line 1"),
        ("criterion.csv", lambda found: found[:-1], "criterion.csv"),
        ("criterion.csv", lambda _: "depth\n", "criterion.csv"),
        ("criterion.csv", lambda found: [row | {"total": "nan"} for row in found], "total"),
        ("selection.json", lambda found: found | {"depth": 3}, "not in criterion.csv"),
        ("selection.json", lambda found: found | {"alike": [[1, 0.3]]}, "not in criterion.csv"),
        ("selection.json", lambda found: found | {"not_distinguishable": [[3, 0.5]]}, "not in criterion.csv"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(make_run, name, change, said):
    run = make_run(damage(name, change))
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        write_run_report(run)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "1e305"])
def test_a_number_that_no_axis_can_hold_is_refused(make_run, number):
    def change(files):
        files["cost.json"] = json.dumps(files["cost.json"]).replace("38359808", number)

    run = make_run(change)
    with pytest.raises(InputError, match=r"cost\.json: inference_flops"):
        write_run_report(run)


@pytest.mark.parametrize("number", [0.0, 5e-324, -1e300, 1e300])
def test_any_other_number_can_be_drawn(report, number):
    def change(files):
        files["log.jsonl"][0]["loss"] = number
        files["stages.json"][0]["flops"] = abs(number)
        for row in files["criterion.csv"][:3]:
            row |= {"shared_bias": number, "total": number}
        files["criterion.json"]["units"][0] |= {"mismatch": number, "curvature": [abs(number), 1.0]}

    assert figures(report(change)) == EVERY_FIGURE


HOSTILE = [
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}{% raw %}",
    "cat\u202egnp.exe",
    "line\nbreak\x00\x1b[2J",
    "\ud800" + "é" * 300,
]


def test_hostile_names_stay_inert_everywhere(report):
    def change(files):
        files["metrics.json"]["classes"] = list(HOSTILE)
        files["metrics.json"]["confused"][0]["names"] = HOSTILE[:2]
        files["env.json"]["data"] |= {"name": HOSTILE[0], "notes": HOSTILE}
        files["env.json"]["command"] = HOSTILE[0] + "\n" + HOSTILE[4]
        files["stages.json"][0]["stage"] = HOSTILE[1]
        files["recipe.toml"] += "# </pre><script>alert(1)</script>\n"

    plain, page = report(folder="plain"), report(change)
    check_standing_alone(page)
    assert {tag for tag, _ in page.tags} == {tag for tag, _ in plain.tags}
    assert len(page.having("img")) == len(plain.having("img"))
    assert "{{ 7 * 7 }}" in page.text
    assert "cat⟨U+202E⟩gnp.exe" in page.text
    assert not {"\u202e", "\x00", "\x1b", "\ud800"} & set(page.text)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(max_size=40))
def test_any_class_name_leaves_the_page_whole(report, name):
    def change(files):
        files["metrics.json"]["classes"][5] = name
        files["env.json"]["data"]["name"] = name

    page = report(change, folder="any")
    check_standing_alone(page)
    assert figures(page) == EVERY_FIGURE


def test_the_same_files_make_the_same_bytes(make_run):
    first = write_run_report(make_run(folder="one")).read_bytes()
    assert write_run_report(make_run(folder="another/place")).read_bytes() == first


def many_classes(number, name):
    def change(files):
        metrics = files["metrics.json"]
        counts = [max(1, round(2000 * 0.995**rank)) for rank in range(number)]
        metrics |= {"classes": [name(k) for k in range(number)], "train_images": counts}
        metrics |= {"test_images": [50] * number, "per_class": [(k % 51) / 50 for k in range(number)]}
        metrics["tasks"] = [list(range(number // 2)), list(range(number // 2, number))]

    return change


@pytest.mark.parametrize("number", [1000, 5000])
def test_many_classes_give_a_small_page(make_run, number):
    page = write_run_report(make_run(many_classes(number, lambda k: f"a rather long name of class {k}")))
    assert page.stat().st_size < 2_000_000
    assert ("evenly spaced by rank" in page.read_text(encoding="utf-8")) == (number > 1000)


def test_two_classes_are_enough(report):
    def change(files):
        files["metrics.json"] |= {"classes": ["a", "b"], "train_images": [3, 3], "test_images": [1, 0]}
        files["metrics.json"] |= {"per_class": [1.0, None], "tasks": [[0], [1]], "confused": []}
        files["metrics.json"]["accuracy"] |= {"many": None, "medium": None}

    page = report(change)
    assert figures(page) == EVERY_FIGURE
    assert "No class falls into the group “many” (n > 100)" in page.text
    assert "1 class without a test image is left out of every mean" in page.text
