"""`forktail methods`: the list, the page of one method, and the page of the docs."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from forktail import cli
from forktail.cli import method_pages
from forktail.errors import InputError
from forktail.methods import Adapts, find_method, method_names
from forktail.recipe import apply_settings, make_recipe

DOCS = Path(__file__).parents[2] / "docs" / "methods.md"

every_method = pytest.mark.parametrize("name", method_names())


def invoke(*arguments):
    return CliRunner().invoke(cli.app, ["methods", *arguments], catch_exceptions=False)


def test_the_page_of_the_docs_is_what_the_command_writes():
    assert DOCS.read_text(encoding="utf-8") == invoke("--markdown").stdout, "run the command that the page names"


def test_the_page_of_the_docs_has_a_whole_row_per_method():
    rows = [line for line in invoke("--markdown").stdout.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == method_names()
    assert {len(re.split(r"(?<!\\)\|", row)) for row in rows} == {8}  # six cells between bars


def test_the_list_says_in_one_line_what_it_is_where_it_comes_from_and_what_it_costs():
    for line, name in zip(invoke().stdout.splitlines()[1:], method_names(), strict=True):
        kind = find_method(name)
        assert line.split()[:2] == [name, f"{kind.compute:g}"]
        assert f"{kind.summary}; {kind.source}; {', '.join(kind.stages)}" in line


def test_a_narrow_terminal_cuts_no_name_and_no_cost():
    console = Console(width=80, emoji=False)
    with console.capture() as captured:
        console.print(method_pages.methods_table([find_method(name) for name in method_names()]))
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines[1:] if line[0] != " "] == method_names()
    assert "…" not in captured.get()


def test_json_holds_every_field():
    rows = json.loads(invoke("--json").stdout)
    assert [row["name"] for row in rows] == method_names()
    for row in rows:
        kind = find_method(row["name"])
        assert row["stages"] == list(kind.stages)
        assert row["compute"] == kind.compute
        assert list(row["options"]) == [field.name for field in dataclasses.fields(kind)]
        assert all(option["meaning"] for option in row["options"].values())
        assert {key: option["default"] for key, option in row["options"].items()} == dataclasses.asdict(kind())


def test_json_of_one():
    (row,) = json.loads(invoke("show", "osdtw", "--json").stdout)
    assert row["options"]["rule"] == {
        "default": "posterior",
        "choices": ["margin", "posterior"],
        "meaning": "How outputs become predictions: ``margin`` is the paper's, ``posterior`` is exact.",
    }
    assert row["options"]["damping"]["choices"] == ["movement"]  # beside any number
    assert row["options"]["depth"]["default"] is None


@every_method
def test_the_page_of_a_method_says_all_of_it_in_80_columns(name):
    kind, page = find_method(name), invoke("show", name).stdout
    for text in (kind.summary, kind.source, ", ".join(kind.stages), f"{kind.compute:g} x ce"):
        assert text in page
    words = " ".join(page.split())
    assert " ".join(kind.__doc__.partition("Args:")[0].split()) in words
    found = dict(re.findall(r"^  method\.(\w+) = (\S+)", page, re.MULTILINE))
    assert list(found) == [field.name for field in dataclasses.fields(kind)]
    assert ("--adapt" in page) == issubclass(kind, Adapts)
    body = page.partition("\n\n")[2]
    assert all(len(line) <= 82 for line in body.splitlines() if not line.lstrip().startswith(("method.", "forktail")))


@every_method
def test_what_the_page_sets_is_the_default(name):
    """Every ``method.key = value`` of the page goes through ``--set`` as it stands and changes nothing."""
    page = invoke("show", name).stdout
    settings = [f"method.{key}={value}" for key, value in re.findall(r"^  method\.(\w+) = (\S+)", page, re.MULTILINE)]
    given = [setting for setting in settings if not setting.endswith("=unset")]
    table = apply_settings({"data": {"path": "glyphs"}, "method": {"name": name}}, given)
    assert make_recipe(table).method == find_method(name)()


def test_the_command_of_a_page_is_one_that_fit_takes():
    command = invoke("show", "osdtw").stdout.splitlines()[-1]
    assert command == "forktail fit glyphs --method osdtw --set method.reading=sandwich"
    assert invoke("show", "ce").stdout.splitlines()[-1] == "forktail fit glyphs --method ce"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["show"], "show NAME"),
        (["ce"], "ce"),
        (["--json", "--markdown"], "all methods"),
        (["show", "ce", "--markdown"], "all methods"),
    ],
)
def test_what_fits_no_use_is_answered_by_the_usage(arguments, says):
    answer = invoke(*arguments)
    assert answer.exit_code == 2
    assert says in answer.output


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(InputError, match='method "osdwt" is unknown; did you mean "osdtw"'):
        invoke("show", "osdwt")
