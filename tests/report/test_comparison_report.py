import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forktail.errors import InputError
from forktail.report.comparison_report import report_link, write_comparison_report


@pytest.fixture
def report(make_comparison, read_page):
    def made(*given, **more):
        return read_page(write_comparison_report(make_comparison(*given, **more)).read_text(encoding="utf-8"))

    return made


def cells(page):
    return [cell.strip() for cell in page.cells]


def test_the_table_holds_means_and_errors_in_ranked_order(report):
    found = cells(report())
    rows = [cell for cell in found if re.match(r"\d\. ", cell)]
    assert rows == ["1. osdtw", "2. ce (reference)", "3. crt"] * 2
    first = found.index("1. osdtw")
    assert found[first + 1 : first + 11] == ["65.0 ± 1.2"] * 8 + ["1.500 ± 0.000", "5.0 ± 0.0"]
    assert found[found.index("1. osdtw", first + 1) :][1:6] == ["2.00", "5.00", "20.0 ± 0.0", "40.0", "0.00424"]


def test_differences_stand_with_their_intervals(report):
    page = report()
    assert {found["id"] for found in page.having("figure")} == {"figure-differences", "figure-groups", "figure-compute"}
    assert "+5.0 (+3.0 to +7.0)" in cells(page)
    assert "−1.0 (−3.0 to +1.0)" in cells(page)


def test_one_seed_has_no_errors_and_no_intervals(report):
    page = report(seeds=(4,))
    assert "65.0" in cells(page)
    assert "±" not in page.text
    assert "+5.0" in cells(page)
    assert "nothing is known about chance" in page.text


def test_every_run_leads_to_its_report_and_shows_its_choice(report):
    page = report(seeds=(0, 1))
    links = [found["href"] for found in page.having("a") if not found["href"].startswith("#")]
    assert links == [f"./runs/{label}-{seed}/report.html" for label in ("osdtw", "ce", "crt") for seed in (0, 1)]
    found = cells(page)
    assert found[found.index("osdtw, seed 1") : found.index("ce, seed 0")][-2:] == ["3", "0.25"]
    assert found[found.index("crt, seed 1") :][12:14] == ["–", "–"]


def test_how_it_was_compared_is_said(report):
    def change(content):
        content["left_out"] = [{"label": "paco", "seed": 1, "reason": "stage x diverged at step 3"}]

    text = report(change=change).text
    for said in (
        *("every stage has 2 epochs", "ranked by balanced accuracy", "forktail compare animals", "what crt does"),
        *("paco, seed 1", "stage x diverged at step 3", "1 run could not be finished"),
    ):
        assert said in text, said
    assert "Nothing: every method finished" in report(folder="other").text


def test_without_a_reference_there_are_no_differences(report):
    page = report([("a", 0.5, {"difference": None}), ("b", 0.4, {"difference": None})], reference=None)
    assert "no reference" in page.text
    assert "figure-differences" not in page.ids


def test_one_method_and_groups_without_classes_do_not_break_it(report):
    def change(content):
        for row in content["methods"]:
            row["mean"] |= {"many": None, "training_flops": None}
            row["per_seed"][0]["many"] = None

    page = report([("ce", 0.5, {"difference": None})], change=change)
    assert "1 method on animals" in page.text
    assert "n/a" in cells(page)
    assert "figure-compute" not in page.ids


def test_the_same_file_makes_the_same_bytes(make_comparison):
    pages = [write_comparison_report(make_comparison(folder=name)).read_bytes() for name in ("one", "two")]
    assert pages[0] == pages[1]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"comparison\.json"):
        write_comparison_report(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content.update(methods=[]), "no method"),
        (lambda content: content.pop("seeds"), "seeds"),
        (lambda content: content["methods"][0]["runs"].pop(), "not one run"),
        (lambda content: content["methods"][0]["per_seed"][0].pop("seed"), "not one run"),
        (lambda content: content["methods"][0]["mean"].update(balanced="high"), r"mean\.balanced"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(make_comparison, change, said):
    folder = make_comparison(change=change)
    with pytest.raises(InputError, match=said):
        write_comparison_report(folder)
    assert not (folder / "compare.html").exists()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.one_of(st.text(max_size=30), st.just("</script><script>alert(1)</script>\u202e\n")))
def test_any_label_and_path_leave_the_page_whole(report, name):
    def change(content):
        content |= {"data": name, "command": name, "ranking": name, "budget_text": name}
        content["methods"][0] |= {"label": name, "summary": name, "source": name}
        content["methods"][0]["runs"][0] = name.encode("utf-8", "replace").decode()
        content["left_out"] = [{"label": name, "seed": 0, "reason": name}]

    page = report(change=change, folder="any")
    assert not page.having("script")
    assert all(re.match(r"#|\./", found["href"]) for found in page.having("a"))


@pytest.mark.parametrize("run", ["/etc", "../other", "runs/../../x", "", "."])
def test_a_run_elsewhere_has_no_link(run):
    assert report_link(run) is None


@pytest.mark.parametrize("run", ["javascript:alert(1)", "//host/x"[2:], "a?b#c", 'a"b', "a\\b", "a b", "ü"])
def test_a_link_is_a_path_below_the_page(run):
    link = report_link(run)
    assert re.fullmatch(r"\./[A-Za-z0-9%/._~-]+/report\.html", link)
