"""Whatever stands in a recipe, a list or a table: the result is what it should be, or an `InputError`, nothing else."""

import string
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from forktail.cli.tables import read_prior
from forktail.data.csv_file import open_csv
from forktail.data.list_file import open_list
from forktail.data.open import DataSpec, open_data
from forktail.data.splits import Splits
from forktail.errors import InputError
from forktail.recipe import Recipe, apply_settings, make_recipe, read_recipe

often = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def outcome(call, *arguments):
    """What a call gives, or the error that it may raise; its message is one line that says something."""
    try:
        return call(*arguments)
    except InputError as refused:
        error = refused
    assert str(error)
    assert str(error).isprintable()
    return error


# --- recipes ---------------------------------------------------------------------------------------------------------

KNOWN = {
    "data": ["path", "root", "test", "imbalance", "n_max", "tail", "validation", "unreadable", "augment", "seed"],
    "method": ["name", "tau", "depth", "weight", "weights", "reading", "damping", "rule", "refinement_epochs"],
    "backbone": ["name", "weights", "drop_path", "input_size"],
    "split": ["rule", "parts", "shots"],
    "plan": ["epochs", "batch_size", "optimizer", "lr", "min_lr", "warmup", "weight_decay", "betas", "clip", "flops"],
}
WORDS = ["ce", "osdtw", "glyphs", "tiny", "random", "rank", "A", "sandwich", "movement", "adamw", "auto", "cpu", ""]
scalars = st.one_of(
    st.integers(-3, 300),
    st.sampled_from([0, 1, -1, 2**31, 2**63, 10**30]),
    st.floats(),
    st.booleans(),
    st.sampled_from(WORDS),
    st.text(max_size=8),
    st.dates(),
    st.times(),
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner))
tables = st.fixed_dictionaries(
    {},
    optional={
        **{
            name: values | st.fixed_dictionaries({}, optional=dict.fromkeys((*keys, "other"), values))
            for name, keys in KNOWN.items()
        },
        **dict.fromkeys(["seed", "device", "workers", "checkpoint_seconds", "other"], values),
    },
)


@often
@given(table=tables)
def test_any_table_is_a_recipe_or_an_input_error(table):
    table = {"data": {"path": "glyphs"}} | table
    found = outcome(make_recipe, table)
    assert isinstance(found, Recipe | InputError)


@often
@given(table=st.fixed_dictionaries({}, optional=dict.fromkeys(["seed", "workers", "checkpoint_seconds"], scalars)))
def test_a_recipe_that_is_taken_survives_being_written(table, tmp_path):
    found = outcome(make_recipe, {"data": {"path": "glyphs"}} | table)
    if isinstance(found, Recipe):
        (tmp_path / "again.toml").write_text(found.to_toml(), encoding="utf-8")
        assert make_recipe(read_recipe(tmp_path / "again.toml")) == found


@often
@given(content=st.binary(max_size=80) | tables.map(lambda table: tomli_w.dumps(table).encode(errors="replace")[:200]))
@example(content=b"\xef\xbb\xbfseed = 1")
def test_any_file_is_a_table_or_an_input_error(content, tmp_path):
    (tmp_path / "a.toml").write_bytes(content)
    assert isinstance(outcome(read_recipe, tmp_path / "a.toml"), dict | InputError)


keys = st.lists(st.sampled_from([*KNOWN, *KNOWN["plan"], "seed", "", " "]) | st.text(max_size=3), max_size=4)


@often
@given(
    parts=st.lists(keys.map(".".join), max_size=3), value=st.text(max_size=12) | st.sampled_from(["=", "[", "{", "1"])
)
def test_any_setting_is_taken_or_an_input_error(parts, value):
    given_settings = [f"{key}={value}" for key in parts] + parts[:1]
    found = outcome(apply_settings, {"data": {"path": "glyphs"}}, given_settings)
    assert isinstance(found, dict | InputError)
    if isinstance(found, dict):
        assert isinstance(outcome(make_recipe, found), Recipe | InputError)


# --- lists and tables ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(4):
        Image.fromarray(np.full((3, 3), number, np.uint8)).save(folder / f"{number}.png")
    return folder


paths = st.sampled_from(
    ["0.png", "1.png", "./1.png", "2.png", "3.png", "4.png", "..", "", "\0", "x" * 300, "/dev/null"]
)
labels = st.sampled_from(["0", "1", "2", "-1", "007", "9" * 30, "9" * 5000, "cat", "", " ", "a b", "\u2028", "=1+1"])
endings = st.sampled_from(["\n", "\r\n", "\r", "\n\n", ""])
noise = st.binary(max_size=120)
lines = st.lists(
    st.tuples(paths, st.sampled_from([" ", "\t", ",", "  ", ""]), labels, endings).map("".join), max_size=6
)


@often
@given(content=noise | lines.map(lambda parts: "".join(parts).encode()), encoding=st.sampled_from(["", "\ufeff"]))
def test_any_list_is_a_data_set_or_an_input_error(content, encoding, pictures):
    (pictures / "list.txt").write_bytes(encoding.encode() + content)
    found = outcome(open_list, pictures / "list.txt")
    assert isinstance(found, Splits | InputError)
    if isinstance(found, Splits):
        assert len(found.train.classes) >= 2
        assert isinstance(outcome(lambda: found.train.fingerprint), str)
        outcome(open_data, DataSpec(str(pictures / "list.txt")))


headers = st.lists(st.sampled_from(["path", "label", "split", "other", "", '"path"']), max_size=4)
cells = (
    paths | labels | st.sampled_from(["train", "test", "val", "tset", '"', '"a,b"', '""', ";"]) | st.text(max_size=4)
)
records = st.lists(st.lists(cells, max_size=4).map(",".join), max_size=6)


@often
@given(
    content=noise
    | st.tuples(headers.map(",".join), records, endings).map(
        lambda t: t[2].join([t[0], *t[1]]).encode(errors="replace")
    ),
    name=st.sampled_from(["table.csv", "table.tsv"]),
)
@example(content=b"path,label\n0.png,a\n1.png,b\n", name="table.csv")
@example(content=b"path,label\n" + b'"' * 200_000, name="table.csv")
@example(content=b"path,label\n" + b"x" * 200_000 + b",a\n", name="table.csv")
def test_any_table_file_is_a_data_set_or_an_input_error(content, name, pictures):
    (pictures / name).write_bytes(content)
    found = outcome(open_csv, pictures / name)
    assert isinstance(found, Splits | InputError)
    if isinstance(found, Splits):
        outcome(open_data, DataSpec(str(pictures / name)))


@often
@given(path=st.text(alphabet=string.printable, max_size=20) | st.sampled_from(["\udcff", "x" * 5000, "/", "~", "a\0b"]))
def test_any_name_is_a_data_set_or_an_input_error(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("forktail.data.open.open_folder", lambda folder: (_ for _ in ()).throw(InputError(f"{folder}")))
    spec = outcome(DataSpec, path)
    if isinstance(spec, DataSpec) and path not in ("glyphs", "symbols"):
        assert isinstance(outcome(open_data, spec), InputError)


@often
@given(content=noise | st.text(alphabet='[]{}0123456789.,eE-+ntrufalsNI "', max_size=40).map(str.encode))
def test_any_prior_file_is_numbers_or_an_input_error(content, tmp_path):
    (tmp_path / "prior.json").write_bytes(content)
    found = outcome(read_prior, str(tmp_path / "prior.json"))
    assert isinstance(found, list | InputError)
