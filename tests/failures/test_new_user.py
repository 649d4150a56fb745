"""A new user's first folder: the messages alone lead from it to a trained model."""

import re

import pytest


@pytest.fixture
def first_folder(scene):
    """Twelve classes of photographs with a tail: one is empty, one has a single picture, one picture is broken."""
    for number in range(12):
        count = {0: 12, 1: 1, 2: 0}.get(number, 4)
        scene.path(f"pictures/{number} [x]/x").parent.mkdir(exist_ok=True)
        for picture in range(count):
            scene.picture(f"pictures/{number} [x]/{picture}.png", 20 * number + picture, side=70)
    scene.cut("pictures/0 [x]/7.png", 0.6)
    return scene


def follow(scene, fit, message):
    """Do what the message says, reading nothing else."""
    if match := re.search("class folder (.*) holds no picture; .*delete it$", message):
        (scene.folder / match[1]).rmdir()
        return fit
    if match := re.search(r"`(--set \S+)`", message):
        return [*fit, *match[1].split()]
    if match := re.search(r"for instance (--backbone \w+)", message):
        return [*fit, *match[1].split()]
    raise AssertionError(message)


def test_following_the_messages_ends_in_a_trained_model(first_folder, command):
    scene, fit = first_folder, ["fit", "pictures", "--out", "run", "--set", "plan.epochs=1"]
    messages = []
    while True:
        code, out, err = command(fit)
        if code == 0:
            break
        assert not (scene.folder / "run").exists()
        messages.append(err.splitlines()[-1])
        assert len(messages) < 4, messages
        fit = follow(scene, fit, messages[-1])
    assert [re.search("no picture|cannot be read|no backbone", message)[0] for message in messages] == [
        "no picture",
        "cannot be read",
        "no backbone",
    ]
    assert out.splitlines()[-1] == "run: run"
    notes = err.splitlines()
    assert any(re.search(r'left out: 1 picture cannot be read: "pictures/0 \[x\]/7\.png', note) for note in notes)
    assert any(re.search(r'no test images: "1 \[x\]"', note) for note in notes)
    assert command(["predict", "run", "pictures/3 [x]/0.png"])[0] == 0
