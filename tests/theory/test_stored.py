from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from forktail.errors import InputError
from forktail.theory import StoredUnit, UnitMoments, binned_table, movement_damping

FIELDS = ("curvature", "scores", "risk", "position", "cross")


@pytest.fixture
def stored(draw_unit, tmp_path):
    """Two units of two tasks in a file of float32, and the same in memory."""
    units, tensors = [], {}
    for number in range(2):
        drawn = draw_unit(2, 30, cross=True)
        fields = {name: getattr(drawn, name).astype(np.float32) for name in FIELDS}
        units.append(UnitMoments(**fields))
        tensors |= {f"unit{number}.{name}": np.ascontiguousarray(values) for name, values in fields.items()}
    save_file(tensors, tmp_path / "moments.safetensors")
    return tmp_path / "moments.safetensors", units


def test_a_stored_unit_is_the_unit_in_pieces(stored):
    path, units = stored
    pieces = list(StoredUnit(path, "unit1", size=7))
    assert [piece.num_coordinates for piece in pieces] == [7, 7, 7, 7, 2]
    for name in FIELDS:
        found = np.concatenate([getattr(piece, name) for piece in pieces], axis=-1)
        np.testing.assert_array_equal(found, getattr(units[1], name))
        assert found.dtype == np.float32


def test_table_and_damping_are_those_of_the_units_in_memory(stored, draw_unit):
    path, units = stored
    streamed, decoders = [StoredUnit(path, f"unit{number}", size=11) for number in range(2)], [draw_unit(1, 3)] * 2
    options = {"weights": [[0.3, 0.7], [0.5, 0.5]], "n": [9, 9]}
    expected = binned_table(units, decoders, **options)
    np.testing.assert_allclose(binned_table(streamed, decoders, **options).total, expected.total, rtol=1e-12)
    damping = movement_damping(units, decoders, [9, 9])
    np.testing.assert_allclose(movement_damping(streamed, decoders, [9, 9]), damping, rtol=1e-12)


def test_one_fisher_may_stand_for_all(tmp_path):
    save_file({"unit0.curvature": np.ones((2, 3)), "unit0.position": np.zeros((2, 3))}, tmp_path / "m.safetensors")
    (piece,) = StoredUnit(tmp_path / "m.safetensors", "unit0")
    assert piece.scores is piece.curvature
    assert piece.cross is None


def test_a_unit_that_is_not_there_is_named(stored):
    with pytest.raises(InputError, match=r"no tensor unit7\.curvature"):
        list(StoredUnit(stored[0], "unit7"))


@pytest.mark.parametrize("content", [None, b"", b"no header of ours"])
def test_a_file_that_is_missing_or_damaged_is_named(tmp_path, content):
    path = tmp_path / "moments.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"moments\.safetensors.*expected a safetensors file of moments"):
        list(StoredUnit(path, "unit0"))
