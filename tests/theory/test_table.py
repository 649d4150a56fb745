"""The binned table is held to the reference, `criterion_table`, within the bound that it reports."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

from forktail.errors import InputError
from forktail.theory import READINGS, UnitMoments, binned_table, criterion_table
from forktail.theory.pieces import PIECE
from forktail.theory.table import _Bins

N = 50.0
LINE = np.stack([np.linspace(0, 1, 21), 1 - np.linspace(0, 1, 21)], axis=1)
TERMS = ("shared_variance", "shared_bias", "own_variance")
CASES = [
    (reading, debiased, damping)
    for reading in READINGS
    for debiased in (False, True)
    for damping in (0.0, 1e-6, 0.6)
    if not (reading == "naive" and damping)
]


@pytest.fixture
def draw_wide(rng):
    """Two tasks whose curvatures differ by a factor of exp(spread) and more; scores and risk follow them."""

    def draw(d: int, *, spread: float = 1.0, cross: bool = False, zeros: float = 0.0, dtype=np.float64) -> UnitMoments:
        H = np.exp(spread * rng.normal(size=(2, d)))
        roots = rng.normal(size=(d, 2, 3))
        covariance = (roots @ roots.swapaxes(1, 2)).transpose(1, 2, 0) * np.sqrt(H)[:, None] * np.sqrt(H)[None]
        M, u = H * np.exp(rng.normal(size=(2, d))), rng.normal(size=(2, d))
        H = np.where(rng.random((2, d)) < zeros, 0.0, H)
        fields = [H, np.einsum("kkd->kd", covariance), M, u, *([covariance] if cross else [])]
        return UnitMoments(*(values.astype(dtype) for values in fields))

    return draw


def both(units, decoders, weights=LINE, **options):
    options = {"weights": weights, "n": [N] * len(decoders), **options}
    if options.get("reading") == "unequal":
        options.setdefault("own_group_n", [30.0, 20.0, 10.0][: len(decoders)])
    return binned_table(units, decoders, **options), criterion_table(units, decoders, **options)


def hold_to_reference(found, exact):
    """Every term of every cell lies within its bound, and the rounding of sums of float64, of the reference."""
    for name in TERMS:
        reference = getattr(exact, name)
        rounding = 1e-13 * np.abs(reference).max()
        error = np.abs(getattr(found, name) - reference)
        np.testing.assert_array_less(error, found.term_bound + rounding + 1e-300, err_msg=name)
    largest = sum(np.abs(getattr(exact, name)) for name in TERMS).max()
    np.testing.assert_array_less(np.abs(found.total - exact.total), found.bound + 1e-13 * largest)
    assert (found.flat, found.reading, found.debiased, found.damping) == (
        *(exact.flat, exact.reading, exact.debiased, exact.damping),
    )


@pytest.mark.parametrize(("reading", "debiased", "damping"), CASES)
@pytest.mark.parametrize("kind", ["cross", "float32", "dead parts", "wide"])
def test_every_reading_against_the_reference(draw_wide, draw_unit, reading, debiased, damping, kind):
    options = {
        "cross": {"cross": True},
        "float32": {"dtype": np.float32},
        "dead parts": {"zeros": 0.2},
        "wide": {"spread": 4.0},
    }[kind]
    units = [draw_wide(700, **options) for _ in range(3)]
    found, exact = both(units, [draw_unit(1, 4), draw_unit(1, 6)], reading=reading, debiased=debiased, damping=damping)
    hold_to_reference(found, exact)


@pytest.mark.parametrize("reading", READINGS)
def test_the_bound_is_below_a_millionth_where_nothing_cancels(draw_wide, draw_unit, reading):
    found, exact = both([draw_wide(2000) for _ in range(2)], [draw_unit(1, 4)] * 2, reading=reading, debiased=False)
    inner = slice(1, -1)
    np.testing.assert_array_less(found.bound[:, inner], 1e-6 * exact.total[:, inner])
    np.testing.assert_allclose(found.total[:, inner], exact.total[:, inner], rtol=5e-7)


def test_the_bound_is_not_vacuous():
    """Half way between the edges of the first bin above 1, interpolation is as wrong as it can be."""
    d = 1000
    H = np.array([np.full(d, 1 + 2.0**-11), np.ones(d)])
    unit, decoder = UnitMoments(H, H, H, np.array([np.zeros(d), np.ones(d)])), UnitMoments(*[np.ones((1, 1))] * 4)
    found, exact = both([unit, unit], [decoder] * 2, [[0.8, 0.2]], reading="sandwich", debiased=False)
    error = abs(found.total - exact.total)[1, 0]
    assert 0.1 * found.bound[1, 0] < error < found.bound[1, 0]


@pytest.mark.parametrize("ratio", [2.0**-64, 1.0, 1 + 2.0**-10 - 2.0**-52, 2.0**63 * (1 - 2.0**-53)])
def test_counts_of_a_whole_piece_in_one_bin_are_exact(ratio):
    """Counts and places share one integer: the largest piece, all in one bin, does not run from one into the other."""
    bins = _Bins(1)
    bins.low = bins.high = ratio
    for _ in range(64):
        bins.add(np.full(PIECE // 64, ratio), [None])
    bins.unpack()
    (number,) = np.flatnonzero(bins.sums[0])
    assert bins.sums[0, number] == PIECE
    np.testing.assert_allclose(bins.products[0, number], PIECE * ratio, rtol=2.0**-28)


@pytest.mark.parametrize("reading", ["general", "sandwich"])
def test_any_number_of_weights(draw_wide, draw_unit, reading):
    first = np.arange(1, 2500) / 2500
    weights = np.stack([first, 1 - first], axis=1)
    units, decoders = [draw_wide(300, spread=3.0), draw_wide(200)], [draw_unit(1, 4), draw_unit(1, 6)]
    found = binned_table(units, decoders, weights=weights, n=[N, N], reading=reading)
    few = [0, 1023, 1024, 2000, 2498]
    exact = criterion_table(units, decoders, weights=weights[few], n=[N, N], reading=reading)
    np.testing.assert_array_less(np.abs(found.total[:, few] - exact.total), found.bound[:, few] + 1e-12)


def test_ratios_beyond_the_bins_are_computed_one_by_one(rng, draw_unit):
    H = np.array([[1e-40, 1e30, 2.0, 1e-15], [1.0, 2e-9, 1e25, 1e10]])
    unit = UnitMoments(H, H, H, 1e-3 * rng.normal(size=(2, 4)))
    for reading in READINGS:
        found, exact = both([unit, unit], [draw_unit(1, 4)] * 2, LINE[1:-1], reading=reading, debiased=False)
        np.testing.assert_allclose(found.total, exact.total, rtol=1e-12)


@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_unequal_numbers_of_images(draw_wide, draw_unit, damping):
    found, exact = both([draw_wide(300), draw_wide(300)], [draw_unit(1, 4)] * 2, n=[10.0, 70.0], damping=damping)
    hold_to_reference(found, exact)


def test_cross_moments_that_no_covariance_has_keep_within_the_bound(draw_wide, draw_unit):
    unit = draw_wide(500)
    strange = UnitMoments(unit.curvature, unit.scores, unit.risk, unit.position, np.full((2, 2, 500), 30.0))
    hold_to_reference(*both([strange, strange], [draw_unit(1, 4)] * 2))


@pytest.mark.parametrize("num_tasks", [1, 3])
@pytest.mark.parametrize("reading", READINGS)
def test_other_numbers_of_tasks_take_the_exact_way(draw_unit, rng, num_tasks, reading):
    units, decoders = [draw_unit(num_tasks, 40) for _ in range(3)], [draw_unit(1, 3) for _ in range(num_tasks)]
    found, exact = both(units, decoders, rng.dirichlet(np.ones(num_tasks), size=4), reading=reading)
    np.testing.assert_allclose(found.total, exact.total, rtol=1e-12)
    np.testing.assert_array_equal(found.bound, 0.0)


@pytest.mark.parametrize("reading", READINGS)
def test_pieces_and_threads_do_not_matter(draw_wide, draw_unit, monkeypatch, reading):
    whole = [draw_wide(1000, zeros=0.1) for _ in range(2)]
    decoders = [draw_unit(1, 30), draw_unit(1, 40)]
    expected, _ = both(whole, decoders, reading=reading)
    cut = [[unit.part(slice(600, 1000)), unit.part(slice(0, 600))] for unit in whole]
    monkeypatch.setattr("forktail.theory.pieces.PIECE", 170)
    monkeypatch.setattr("forktail.theory.pieces.BLOCK", 50)
    options = {"weights": LINE, "n": [N, N], "reading": reading}
    options |= {"own_group_n": [30.0, 20.0]} if reading == "unequal" else {}
    in_pieces = [binned_table(cut, [[unit] for unit in decoders], threads=threads, **options) for threads in (1, 3)]
    np.testing.assert_array_equal(in_pieces[0].total, in_pieces[1].total)
    for name in (*TERMS, "bound"):
        np.testing.assert_allclose(getattr(in_pieces[0], name), getattr(expected, name), rtol=1e-11, atol=1e-12)
    assert in_pieces[0].flat == expected.flat


def test_pieces_are_let_go_of(draw_wide, draw_unit):
    """10^9 parameters are never in memory at once: the pieces that are alive do not grow with their number."""
    drawn, alive = [], []

    def stream():
        for _ in range(40):
            piece = draw_wide(50)
            drawn.append(weakref.ref(piece))
            alive.append(sum(one() is not None for one in drawn))
            yield piece
            del piece

    binned_table([stream()], [draw_unit(1, 3)] * 2, weights=LINE, n=[N, N], threads=2)
    assert len(alive) == 40
    assert max(alive) <= 6


def test_a_unit_may_have_no_parameters(draw_unit):
    empty = UnitMoments(*[np.zeros((2, 0))] * 4)
    for reading in READINGS:
        found, exact = both([empty, empty], [draw_unit(1, 4)] * 2, reading=reading)
        np.testing.assert_allclose(found.total, exact.total, rtol=1e-14)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reading": "sandwhich"}, 'did you mean "sandwich"'),
        ({"reading": "naive", "damping": 0.1}, "no damped form"),
        ({"n": [3, 4]}, "cross moments with n"),
        ({"weights": [[0.5, 0.6]]}, "sum to 1"),
        (
            {"weights": [[0.2, 0.3, 0.5]], "n": [3, 3, 3], "decoders": 3},
            "unit 0 has moments of 2 tasks; expected 3 tasks",
        ),
        ({"units": []}, "no units"),
        ({"decoders": 0}, "0 decoders; expected 2 decoders"),
    ],
)
def test_what_has_no_meaning_is_refused(draw_unit, options, message):
    unit, decoder = draw_unit(2, 3, cross=True), draw_unit(1, 2)
    given = {"units": [unit, unit], "weights": LINE, "n": [N, N], **options}
    decoders = [decoder] * given.pop("decoders", 2)
    with pytest.raises(InputError, match=message):
        binned_table(given.pop("units"), decoders, **given)


def test_an_infinite_criterion_is_an_error(draw_unit):
    H = np.array([[1e-200], [2.0]])
    unit = UnitMoments(H, np.ones((2, 1)), H, np.zeros((2, 1)))
    with pytest.raises(InputError, match=r"not finite.*use damping"):
        binned_table([unit, unit], [draw_unit(1, 2)] * 2, weights=LINE, n=[N, N])
