import json
import os
import signal

import numpy as np
import pytest
import safetensors
import torch
from safetensors.torch import load_file

from forktail.backbones.forked import Forked
from forktail.backbones.open import BackboneSpec, architecture, open_backbone
from forktail.errors import InputError
from forktail.pretraining.pretrain import pretrain
from forktail.training.randomness import seed_of

QUICK = ["plan.epochs=1", "plan.batch_size=16"]  # 4 steps
KINDS = ["supervised", "mae"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_open_as_a_backbone_and_a_card_says_how_they_were_made(tmp_path, small_npz, kind):
    card = pretrain(str(small_npz), kind, settings=QUICK, out=tmp_path / "pre")
    file = tmp_path / "pre/encoder.safetensors"
    assert architecture(BackboneSpec(weights=str(file))).name == "tiny"
    found = open_backbone(BackboneSpec(weights=str(file))).state_dict()
    start = open_backbone(BackboneSpec("tiny", weights="random"), seed=seed_of(0, "backbone")).state_dict()
    assert found.keys() == start.keys()
    still = {name for name in found if torch.equal(found[name], start[name])}
    assert all(".fc_norm." in name for name in still)  # which MAE does not train
    assert json.loads((tmp_path / "pre/encoder.json").read_text()) == card
    assert f"--kind {kind} " in card["command"]
    assert (card["images"], card["classes"]) == (65, 6)
    assert ("test_accuracy" in card) == (kind == "supervised")
    assert f"tiny, {kind} on 65 pictures of " in card["summary"]
    assert card["command"].endswith("--set plan.epochs=1 --set plan.batch_size=16")
    assert card["flops"] > 0


def test_the_test_accuracy_is_that_of_the_trained_classifier(tmp_path, small_npz):
    card = pretrain(str(small_npz), settings=["plan.epochs=3", "plan.batch_size=16", "plan.lr=0.003"],
                    out=tmp_path / "pre")  # fmt: skip
    (stage,) = (tmp_path / "pre/stages").glob("*/result.safetensors")
    prefix = "objective.network."
    state = {k.removeprefix(prefix): v for k, v in load_file(stage).items() if k.startswith(prefix)}
    network = Forked.single(open_backbone(BackboneSpec("tiny", weights="random")), 6).eval()
    network.load_state_dict(state)
    with np.load(small_npz) as stored, torch.no_grad():
        pictures = torch.tensor(stored["x_test"]).unsqueeze(1).expand(-1, 3, -1, -1) / 127.5 - 1
        right = np.mean(network(pictures).argmax(1).numpy() == stored["y_test"])
    assert card["test_accuracy"] == pytest.approx(right)
    assert f"{100 * right:.1f} % of its test pictures" in card["summary"]


def test_the_same_call_again_returns_what_is_there(tmp_path, small_npz):
    first = pretrain(str(small_npz), settings=QUICK, out=tmp_path / "pre")
    stamp = (tmp_path / "pre/encoder.safetensors").stat().st_mtime_ns
    assert pretrain(str(small_npz), settings=QUICK, out=tmp_path / "pre") == first
    assert (tmp_path / "pre/encoder.safetensors").stat().st_mtime_ns == stamp
    others = [{"kind": "mae"}, {"settings": [*QUICK, "seed=1"]}, {"dtype": "bfloat16"}]
    for other in others:
        with pytest.raises(InputError, match=r"holds weights of `forktail pretrain .*`; choose another --out"):
            pretrain(**{"data": str(small_npz), "settings": QUICK, "out": tmp_path / "pre", **other})


def test_half_the_bytes_where_half_are_asked_for(tmp_path, small_npz):
    pretrain(str(small_npz), "mae", settings=["plan.epochs=0"], out=tmp_path / "pre", dtype="bfloat16")
    with safetensors.safe_open(tmp_path / "pre/encoder.safetensors", framework="pt") as stream:
        assert {stream.get_tensor(name).dtype for name in stream.keys()} == {torch.bfloat16}  # noqa: SIM118


class PressCtrlC:
    """Presses Ctrl-C after a step."""

    def __init__(self, step):
        self.step = step

    def begin(self, *_): ...

    def advance(self, step, loss):
        if step == self.step:
            os.kill(os.getpid(), signal.SIGINT)

    def end(self, *_): ...


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, small_npz, kind):
    with pytest.raises(KeyboardInterrupt):
        pretrain(str(small_npz), kind, settings=QUICK, out=tmp_path / "a", progress=PressCtrlC(2))
    assert not (tmp_path / "a/encoder.safetensors").exists()
    pretrain(str(small_npz), kind, settings=QUICK, out=tmp_path / "a")
    pretrain(str(small_npz), kind, settings=QUICK, out=tmp_path / "b")
    for name in ("encoder.json", "log.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    resumed, whole = (load_file(tmp_path / name / "encoder.safetensors") for name in "ab")
    assert resumed.keys() == whole.keys()
    for name, value in whole.items():  # the order of a header's entries is up to safetensors
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=0, msg=name)
    assert json.loads((tmp_path / "a/timing.jsonl").read_text())["found"] is False


@pytest.mark.parametrize("setting", ["method.tau=1", "backbone.weights=embedded", "split.parts=2"])
def test_settings_of_what_pretraining_has_not_are_refused(tmp_path, small_npz, setting):
    with pytest.raises(InputError, match=f"--set {setting} with pretrain"):
        pretrain(str(small_npz), settings=[setting], out=tmp_path / "pre")
    assert not (tmp_path / "pre").exists()
