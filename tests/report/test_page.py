import re
from importlib.resources import files

import pytest

from forktail.report.comparison_report import write_comparison_report
from forktail.report.run_report import write_run_report

STYLE = (files("forktail.report") / "templates" / "style.css").read_text(encoding="utf-8")
THEMES = re.findall(r":root \{(.*?)\}", STYLE, re.S)[:2]
LIGHT, DARK = (dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", theme)) for theme in THEMES)
PLAIN = {"name", "legend"}  # words that look as all words of a chart do
TEXT = [(ink, ground) for ink in ("ink", "muted", "accent") for ground in ("page", "surface", "caution", "band")]
DRAWN = [(f"s{number}", ground) for number in range(1, 7) for ground in ("surface", "band")]


def luminance(colour):
    """Relative luminance of WCAG 2."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_of_black_and_white_is_21():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_drawings_can_be_read(theme):
    assert {"page", "ink", "s6", "level5"} <= set(theme)
    assert min(contrast(theme[ink], theme[ground]) for ink, ground in TEXT) >= 4.5
    assert min(contrast(theme[mark], theme[ground]) for mark, ground in DRAWN) >= 3


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_levels_of_the_heat_map_fade_into_the_ground(theme):
    levels = [contrast(theme[f"level{number}"], theme["surface"]) for number in range(6)]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] >= 4.5  # the dots on it have the colour of the ground


def test_every_class_that_is_used_has_a_style(make_run, make_comparison, read_page):
    pages = [write_run_report(make_run()), write_comparison_report(make_comparison())]
    found = [read_page(page.read_text(encoding="utf-8")) for page in pages]
    used = {name for page in found for _, given in page.tags for name in (given.get("class") or "").split()}
    assert {"mark", "whisker", "level0", "caution"} <= used
    assert {name for name in used if not re.search(rf"\.{name}\b", STYLE)} == PLAIN
