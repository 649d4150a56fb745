from forktail.errors import InputError, nearest


def test_a_message_says_found_expected_and_remedy_and_leaves_out_what_is_not_given():
    assert str(InputError("a", expected="b", remedy="c")) == "a; expected b; c"
    assert str(InputError("a")) == "a"
    assert str(InputError("a", remedy="c")) == "a; c"


def test_the_nearest_name_is_suggested_or_all_are_listed():
    assert nearest("glyhps", ["symbols", "glyphs"]) == 'did you mean "glyphs"?'
    assert nearest("q", ["b", "a"]) == "one of: a, b"
