import json

import pytest
import torch
from torch import nn

from forktail.errors import InputError
from forktail.training.plan import Plan
from forktail.training.stage import Cursor, Stage, fingerprint, read, state_digest, write


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def trained(optimizer_name, steps=3, seed=0):
    model = network(seed)
    optimizer = Plan(optimizer=optimizer_name).make_optimizer(model)
    for step in range(steps):
        step_once(model, optimizer, step)
    return model, optimizer


def step_once(model, optimizer, step):
    inputs = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))
    optimizer.zero_grad()
    model(inputs).square().sum().backward()
    optimizer.step()


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert found[name].dtype == value.dtype
            torch.testing.assert_close(found[name], value, rtol=0, atol=0, msg=str(name))
        else:
            assert found[name] == value, name


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb"])
def test_a_checkpoint_gives_back_every_bit(tmp_path, name):
    model, optimizer = trained(name)
    cursor = Cursor(step=3, epoch_loss=0.1 + 0.2, log=[{"epoch": 1, "loss": 1 / 3}])
    stage = Stage(tmp_path)
    stage.save_checkpoint(model, optimizer, cursor)

    again, other = trained(name, steps=0, seed=9)
    found = stage.load_checkpoint(again, other)
    assert found == cursor
    assert_equal(again.state_dict(), model.state_dict())
    states, expected = other.state_dict()["state"], optimizer.state_dict()["state"]
    assert states.keys() == expected.keys()
    for number in expected:
        assert_equal(states[number], expected[number])


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb"])
def test_training_goes_on_from_a_checkpoint_as_if_nothing_had_happened(tmp_path, name):
    model, optimizer = trained(name)
    stage = Stage(tmp_path)
    stage.save_checkpoint(model, optimizer, Cursor(step=3))
    again, other = trained(name, steps=0, seed=9)
    stage.load_checkpoint(again, other)
    for step in (3, 4):
        step_once(model, optimizer, step)
        step_once(again, other, step)
    assert_equal(again.state_dict(), model.state_dict())


def test_without_a_checkpoint_a_stage_begins(tmp_path):
    model, optimizer = trained("adamw", steps=0)
    before = state_digest(model)
    assert Stage(tmp_path).load_checkpoint(model, optimizer) == Cursor()
    assert state_digest(model) == before


def test_a_result_replaces_the_checkpoint_and_carries_its_facts(tmp_path):
    model, optimizer = trained("adamw")
    stage = Stage(tmp_path)
    stage.save_checkpoint(model, optimizer, Cursor(step=3))
    stage.save_result(model, {"stage": "größe", "flops": 1e300, "log": []})
    assert not stage.checkpoint.exists()
    again = network(seed=9)
    assert stage.load_result(again) == {"stage": "größe", "flops": 1e300, "log": []}
    assert_equal(again.state_dict(), model.state_dict())


def test_the_same_content_is_the_same_file(tmp_path):
    model, optimizer = trained("adamw")
    for name in "ab":
        Stage(tmp_path / name).save_checkpoint(model, optimizer, Cursor(step=3))
    assert (tmp_path / "a/checkpoint.safetensors").read_bytes() == (tmp_path / "b/checkpoint.safetensors").read_bytes()


def test_tensors_that_share_storage_are_written_each_on_its_own(tmp_path):
    base = torch.arange(6.0)
    write(tmp_path / "a", {"whole": base, "part": base[2:4], "turned": base.reshape(2, 3).T}, {})
    found, _ = read(tmp_path / "a")
    torch.testing.assert_close(found["part"], torch.tensor([2.0, 3.0]))
    torch.testing.assert_close(found["turned"], base.reshape(2, 3).T)


@pytest.mark.parametrize("damage", ["empty", "truncated", "noise"])
@pytest.mark.parametrize("kind", ["checkpoint", "result"])
def test_a_damaged_file_is_named_in_one_line(tmp_path, damage, kind):
    model, optimizer = trained("adamw")
    stage = Stage(tmp_path)
    stage.save_checkpoint(model, optimizer, Cursor(step=3))
    path = stage.checkpoint
    if kind == "result":
        stage.save_result(model, {})
        path = stage.result
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "truncated": content[: len(content) // 2], "noise": b"\xff" * 64}[damage])
    with pytest.raises(InputError, match=r"damaged.*delete .*; the stage is then trained again") as caught:
        stage.load_checkpoint(model, optimizer) if kind == "checkpoint" else stage.load_result(model)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_fingerprints_tell_parts_apart():
    assert fingerprint("a", 1) == fingerprint("a", 1)
    assert (
        len({fingerprint(*parts) for parts in [("a", 1), ("a", "1"), ("a1",), ("a", 1.0), (), (Plan(epochs=1),)]}) == 6
    )
    assert len(fingerprint()) == 32


def test_a_digest_sees_values_names_types_structure_and_what_is_trained():
    first = state_digest(network())
    assert state_digest(network()) == first
    other = network()
    with torch.no_grad():
        other[0].weight[0, 0] = torch.nextafter(other[0].weight[0, 0], torch.tensor(9.0))
    frozen = network()
    frozen[0].weight.requires_grad_(False)
    deeper = nn.Sequential(*network(), nn.Identity())
    digests = {first, *(state_digest(model) for model in (other, frozen, deeper, network().double(), network(seed=1)))}
    assert len(digests) == 6


def test_a_digest_sees_statistics_and_numbers_without_dimensions():
    counted = network()
    counted[1].num_batches_tracked += 1
    assert state_digest(counted) != state_digest(network())


def test_facts_are_plain_json(tmp_path):
    write(tmp_path / "a", {}, {"x": [1, None, "é"]})
    tensors, facts = read(tmp_path / "a")
    assert tensors == {}
    assert json.dumps(facts) == '{"x": [1, null, "\\u00e9"]}'
