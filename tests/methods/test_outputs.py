"""Outputs of a set, and what classifiers take in."""

import numpy as np
import torch

from forktail.methods import _outputs
from forktail.methods._outputs import adjust_classifiers, affordable, outputs_flops, outputs_of
from forktail.training.cost import inference_flops


def test_classifiers_scale_and_shift_every_output(problem, unseen):
    network = problem.network(problem.split).eval()
    with torch.no_grad():
        before = network(unseen)
        adjust_classifiers(network, [2.0, 0.5], torch.arange(6.0))
        found = network(unseen)
    for c in range(6):
        scale = 2.0 if c in (1, 3, 5) else 0.5
        torch.testing.assert_close(found[:, c], scale * before[:, c] + c)


def test_outputs_are_those_of_every_image_in_order(plain, inputs):
    network = plain.network(plain.split)
    found = outputs_of(network, plain.train, torch.device("cpu"))
    with torch.no_grad():
        torch.testing.assert_close(found, network.eval()(inputs).double(), rtol=1e-5, atol=1e-6)
    assert outputs_flops(network, plain.train) == 32 * inference_flops(network, (3, 8, 8))


def test_no_more_images_than_there_is_memory_for(plain, monkeypatch):
    assert affordable(plain.train, 0) is plain.train
    monkeypatch.setattr(_outputs, "MOST_OUTPUTS", 6 * 10)
    some = [affordable(plain.train, seed) for seed in (0, 0, 1)]
    assert [len(images) for images in some] == [10] * 3
    assert some[0].fingerprint == some[1].fingerprint != some[2].fingerprint
    assert (np.diff(some[0].labels) >= 0).all()  # in their order, which is by class here
