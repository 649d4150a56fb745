import pytest

from forktail.comparing.contestant import Contestant, read_contestants
from forktail.errors import InputError


def test_a_name_alone_has_no_options():
    found = Contestant.parse(" osdtw ")
    assert (found.label, found.method, found.options, found.folder) == ("osdtw", "osdtw", (), "osdtw")


def test_options_become_settings_and_a_harmless_folder_name():
    found = Contestant.parse("osdtw:depth=3:damping=movement")
    assert found.settings == ["method.depth=3", "method.damping=movement"]
    assert found.folder == "osdtw-depth-3-damping-movement"


def test_a_list_keeps_its_order():
    assert [one.label for one in read_contestants("osdtw,ce, logit_adjustment:tau=2,")] == [
        "osdtw", "ce", "logit_adjustment:tau=2",
    ]  # fmt: skip
    assert read_contestants(["ce", "osdtw"]) == read_contestants("ce,osdtw")


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ("ce", "1 methods; expected at least two"),
        ("", "0 methods"),
        ("ce,osdwt", 'method "osdwt" is unknown; did you mean "osdtw"'),
        ("ce,osdtw:3", 'option "3" of "osdtw:3"; expected osdtw:key=value'),
        ("ce,osdtw:depth=", 'option "depth="'),
        ("ce,osdtw,ce", '"ce" stands there twice'),
        ("logit_adjustment:tau=1,logit_adjustment:tau=-1,ce,logit_adjustment:tau= 1", "stands there twice"),
    ],
)
def test_what_cannot_be_compared_is_refused(methods, message):
    with pytest.raises(InputError, match=message):
        read_contestants(methods)
