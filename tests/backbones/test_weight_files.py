from __future__ import annotations

import argparse
import json
import logging
import os
import pickle

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forktail.backbones.open import BackboneSpec, open_backbone
from forktail.backbones.tiny import tiny
from forktail.backbones.weight_files import facts_in, load_weights, save_weights
from forktail.errors import InputError


def published(state, wrapper, **others):
    return {wrapper: state, "args": argparse.Namespace(epochs=800), **others} if wrapper else state


@pytest.mark.parametrize("wrapper", [None, "model", "state_dict"])
def test_published_checkpoint_with_head_and_decoder(tmp_path, wrapper, caplog):
    state = {name: tensor + 1 for name, tensor in tiny().state_dict().items()}
    extra = {"head.weight": torch.zeros(3, 64), "decoder_embed.bias": torch.zeros(2), "mask_token": torch.zeros(1)}
    torch.save(published(state | extra, wrapper), tmp_path / "mae.pth")
    with caplog.at_level(logging.WARNING):
        opened = open_backbone(BackboneSpec("tiny", weights=str(tmp_path / "mae.pth")))
    torch.testing.assert_close(opened.stem.embed.pos_embed, state["pos_embed"], rtol=0, atol=0)
    assert "left out, not part of the backbone: head.weight, decoder_embed.bias, mask_token" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("blocks.2.norm1.bias"), r"blocks\.2\.norm1\.bias \(64,\) is missing"),
        (lambda state: state.update(extra_token=torch.zeros(5)), r"unexpected extra_token \(5,\)"),
        (
            lambda state: state.update(pos_embed=torch.zeros(1, 9, 64)),
            r"pos_embed has shape \(1, 9, 64\); expected \(1, 49",
        ),
        (
            lambda state: state["blocks.0.norm1.bias"].fill_(float("nan")),
            r"blocks\.0\.norm1\.bias holds numbers that are not finite",
        ),
        (
            lambda state: state.update({"blocks.0.norm1.bias": torch.zeros(64, dtype=torch.int64)}),
            r"blocks\.0\.norm1\.bias is torch\.int64",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, change, message):
    state = tiny().state_dict()
    change(state)
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=message):
        open_backbone(BackboneSpec("tiny", weights=str(tmp_path / "a.safetensors")))


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_checkpoint_that_carries_code_is_refused_and_the_code_not_run(tmp_path):
    bomb = Bomb(tmp_path / "made by the file")
    for ending in (".pth", ".pt", ".bin"):
        (tmp_path / f"plain{ending}").write_bytes(pickle.dumps(bomb, protocol=2))
        torch.save({"model": bomb, "args": argparse.Namespace(epochs=800)}, tmp_path / f"zip{ending}")
        for name in (f"plain{ending}", f"zip{ending}"):
            with pytest.raises(InputError, match="without running code"):
                load_weights(tiny(), tmp_path / name)
    assert not bomb.path.exists()
    pickle.loads((tmp_path / "plain.pth").read_bytes())  # the file does carry it
    assert bomb.path.exists()


@pytest.mark.parametrize(("name", "message"), [("a.safetensors", "safetensors format"), ("a.pth", "damaged")])
def test_damaged_file_is_refused(tmp_path, name, message):
    (tmp_path / name).write_bytes(b"not weights")
    with pytest.raises(InputError, match=message):
        open_backbone(BackboneSpec("tiny", weights=str(tmp_path / name)))


@pytest.mark.parametrize("content", [{"teacher": {"a": torch.zeros(1)}}, {"model": {"epoch": 3}}, [torch.zeros(1)]])
def test_file_of_another_layout_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(InputError, match="more than tensors"):
        open_backbone(BackboneSpec("tiny", weights=str(tmp_path / "a.pth")))


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=200) | st.binary(max_size=64).map(lambda tail: b"PK\x03\x04" + tail))
def test_whatever_stands_in_the_file_it_is_an_input_error(tmp_path_factory, ending, content):
    file = tmp_path_factory.mktemp("fuzz") / f"a{ending}"
    file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_weights(tiny(), file)
    assert str(file) in str(caught.value)


@settings(max_examples=30, deadline=None)
@given(cut=st.floats(0, 0.999))
def test_a_file_cut_anywhere_is_an_input_error(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("cut")
    torch.save(tiny().state_dict(), folder / "a.pth")
    save_weights(folder / "a.safetensors", tiny().state_dict(), {"architecture": "tiny"})
    for name in ("a.pth", "a.safetensors"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(cut * len(content))])
        with pytest.raises(InputError):
            load_weights(tiny(), folder / name)


@pytest.mark.parametrize(
    "facts", [[1], "tiny", 3, None, {"architecture": 3}, {"input_size": "28"}, {"input_size": True}, {"other": 1}]
)
def test_facts_of_another_kind_are_refused(tmp_path, facts):
    file = tmp_path / "a.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(1)}, file, {"forktail": json.dumps(facts)})
    with pytest.raises(InputError, match=r"a\.safetensors: says of itself"):
        facts_in(file)


def test_files_of_others_have_no_facts(tmp_path):
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", {"format": "pt"})
    assert facts_in(tmp_path / "a.safetensors") == facts_in(tmp_path / "a.pth") == {}


def test_a_file_that_cannot_be_replaced_stays_as_it_was(tmp_path, monkeypatch):
    file = tmp_path / "a.safetensors"
    save_weights(file, {"a": torch.zeros(1)}, {"architecture": "tiny"})
    before = file.read_bytes()

    def no_room(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(InputError, match="make room"):
        save_weights(file, {"a": torch.ones(1)}, {"architecture": "tiny"})
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
