import pytest
from hypothesis import given
from hypothesis import strategies as st

from forktail.report.numbers import duration, fixed, percent, plain, side_by_side, signed, significant, with_prefix


@pytest.mark.parametrize("form", [percent, significant, duration, lambda v: fixed(v, 1), lambda v: with_prefix(v, "B")])
def test_what_is_not_known_is_not_a_number(form):
    assert form(None) == "n/a"


@given(st.floats(1e-30, 1e30), st.booleans())
def test_significant_digits_are_right_to_half_a_unit(value, negative):
    value = -value if negative else value
    text = significant(value, 3).replace("−", "-").replace(",", "")
    digits = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    mantissa, _, power = text.partition(" · 10") if " · 10" in text else (text, "", "")
    if mantissa.startswith(("10", "-10")) and not mantissa.isascii():
        mantissa, power = "-1" if negative else "1", mantissa.removeprefix("-").removeprefix("10")
    read = float(mantissa) * 10.0 ** int(power.translate(digits) or 0)
    assert read == pytest.approx(value, rel=0.0051)


def test_rounding_up_to_the_next_power_keeps_the_digits():
    assert (significant(9.996), significant(999.6), significant(0.09996)) == ("10.0", "1,000", "0.100")


def test_prefixes_change_at_a_thousand():
    found = [with_prefix(value, "FLOP").replace("\u00a0", " ") for value in (0, 999, 999.6, 1e12, 2.5e21)]
    assert found == ["0 FLOP", "999 FLOP", "1.00 kFLOP", "1.00 TFLOP", "2,500 EFLOP"]


def test_durations_do_not_show_sixty_seconds():
    assert [duration(s).replace("\u00a0", " ") for s in (0, 59.94, 59.96, 119.6, 3599.7)] == [
        *("0.0 s", "59.9 s", "1 min 0 s", "2 min 0 s", "1 h 0 min")
    ]


def test_signs():
    assert [signed(v) for v in (0.0, -0.04, 0.05, 1234.5)] == ["0.0", "0.0", "+0.1", "+1,234.5"]


def test_plain_numbers():
    assert [plain(v) for v in (0, 0.1, 1e6, 3e-4, -5)] == ["0", "0.1", "10⁶", "3 · 10⁻⁴", "−5"]


def test_numbers_beside_one_another_share_a_power_of_ten():
    assert side_by_side([-1e-4, 0, 5e-5]) == ["−1 · 10⁻⁴", "0", "0.5 · 10⁻⁴"]
    assert side_by_side([]) == []
