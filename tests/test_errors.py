from forktail.errors import InputError, nearest, one_line


def test_a_message_says_found_expected_and_remedy_and_leaves_out_what_is_not_given():
    assert str(InputError("a", expected="b", remedy="c")) == "a; expected b; c"
    assert str(InputError("a")) == "a"
    assert str(InputError("a", remedy="c")) == "a; c"


def test_the_nearest_name_is_suggested_or_all_are_listed():
    assert nearest("glyhps", ["symbols", "glyphs"]) == 'did you mean "glyphs"?'
    assert nearest("q", ["b", "a"]) == "one of: a, b"


HOSTILE = "two\nlines\r \x1b[31m \x9b31m \u202eright to left\u2066 \u2028 \udcff \0 \u200b"


def test_nothing_in_a_message_breaks_the_line_or_commands_the_terminal():
    for text in (one_line(HOSTILE), str(InputError(HOSTILE, expected=HOSTILE, remedy=HOSTILE))):
        assert text.isprintable()
        assert r"two\nlines\r \x1b[31m \x9b31m \u202eright to left\u2066 \u2028 \udcff \x00 \u200b" in text


def test_letters_of_every_script_stay_as_they_are():
    text = 'ünï 中 ابجد [bold] <b> C:\\x, "y"'
    assert one_line(text) == text
    assert one_line(one_line(HOSTILE)) == one_line(HOSTILE)
