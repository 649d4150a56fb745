import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from forktail.report.names import isolated, shortened, visible, visible_text


@given(st.text())
def test_visible_names_hold_nothing_unseen_that_acts(name):
    shown = visible(name)
    assert not [c for c in shown if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"}]
    assert not [c for c in shown if unicodedata.bidirectional(c) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI"}]
    shown.encode("utf-8")


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_letters_of_every_script_stay(name):
    assert visible(name) == name


def test_lines_and_tabs_of_a_text_stay():
    assert visible_text("a\n\tb\r\x00") == "a\n\tb␍␀"


@given(st.text(), st.integers(3, 30))
def test_a_shortened_name_keeps_both_ends(name, limit):
    short = shortened(name, limit)
    assert len(short) <= max(limit, 0)
    if len(name) > limit:
        head, tail = short.split("…", 1) if "…" not in name else (short[: limit // 2], short[limit // 2 + 1 :])
        assert name.startswith(head)
        assert name.endswith(tail)
    else:
        assert short == name


def test_an_isolated_name_is_escaped():
    assert isolated('<b>"&') == "<bdi>&lt;b&gt;&#34;&amp;</bdi>"
