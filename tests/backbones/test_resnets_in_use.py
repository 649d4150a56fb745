"""What a vision transformer can be used for, a ResNet can be used for, too."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from forktail.backbones.forked import Forked, fork
from forktail.backbones.open import BackboneSpec, architecture, open_backbone
from forktail.errors import InputError
from forktail.fisher.per_image import gradient_sums
from forktail.fisher.reference import reference_sums
from forktail.fitting import fit
from forktail.labels import TaskSplit
from forktail.losses.balanced_bce import BalancedBCE
from forktail.pretraining.pretrain import pretrain
from forktail.trained import evaluate_run, load
from forktail.training.cost import inference_flops

SPLIT = TaskSplit((np.array([4, 0, 2]), np.array([3, 1])))
COUNTS = [40, 25, 9, 3, 1]
RESNET8 = BackboneSpec("resnet8", weights="random")
QUICK = ["plan.epochs=2", "plan.batch_size=16"]
FAMILIES = {"resnet8": RESNET8, "resnet18": BackboneSpec("resnet18", weights="random", input_size=32)}


def alive(network, seed=0):
    """Give every parameter and statistic a value of its own: nothing stays at its initial zeros and ones."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in [*network.parameters(), *network.buffers()]:
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand(tensor.shape, generator=generator))
    return network.eval()


@pytest.mark.parametrize("name", FAMILIES)
def test_forked_at_every_depth(name):
    backbone = open_backbone(FAMILIES[name])
    joint = alive(Forked(backbone, SPLIT, backbone.depth), 1)
    alone = [alive(Forked.single(backbone, len(task)), 2 + t) for t, task in enumerate(SPLIT.tasks)]
    images = torch.randn(2, 3, 32, 32)
    for depth in range(backbone.depth + 1):
        network = fork(joint, alone, depth).eval()
        for task, scores in enumerate(network.task_scores(images)):
            hidden = images
            for index in range(backbone.depth + 2):
                source = joint if depth >= 1 and index <= depth else alone[task]
                hidden = source.layer(0, index)(hidden)
            torch.testing.assert_close(scores, alone[task].classifier(0)(hidden), rtol=0, atol=0)
        twin = fork(joint, None, depth).eval()
        torch.testing.assert_close(twin(images), joint(images), rtol=0, atol=0)


def test_gradient_sums_are_those_of_the_loop_image_by_image():
    """In float64; batch statistics are those that were kept, so one image's gradient depends on it alone."""
    backbone = open_backbone(RESNET8, seed=1)
    networks = [alive(Forked.single(backbone, len(task)), t).double() for t, task in enumerate(SPLIT.tasks)]
    losses = [BalancedBCE(COUNTS, classes=task) for task in SPLIT.tasks]
    images, targets = torch.randn(7, 3, 14, 14, dtype=torch.float64), torch.eye(5).double()[[0, 0, 1, 2, 3, 4, 0]]
    weights = torch.rand(7) + 0.5
    batches = [(images[:4], targets[:4], weights[:4]), (images[4:], targets[4:], weights[4:])]
    before = [value.clone() for network in networks for value in network.buffers()]
    found = gradient_sums([network.train() for network in networks], losses, SPLIT, batches, chunk_size=3)
    expected = reference_sums(networks, losses, SPLIT, batches)
    for mine, wanted in zip([*found.units, *found.decoders], [*expected.units, *expected.decoders], strict=True):
        for field in ("first", "products", "weighted"):
            values, target = getattr(mine, field), getattr(wanted, field)
            scale = target.abs().amax(-1, keepdim=True)
            torch.testing.assert_close(values / scale, target / scale, rtol=0, atol=1e-10)
    after = [value for network in networks for value in network.buffers()]
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_operations_are_counted_as_by_hand():
    backbone = open_backbone(RESNET8)
    sides = {16: 28, 32: 14, 64: 7}
    products = 27 * 16 * 28**2
    for before, width in ((16, 16), (16, 32), (32, 64)):
        products += 9 * (before + width) * width * sides[width] ** 2
    assert inference_flops(backbone, (3, 28, 28)) == 2 * products


@pytest.mark.parametrize("options", [["method.depth=2", "method.weight=0.4"], []], ids=["pinned", "unpinned"])
def test_osdtw_from_end_to_end(tmp_path, small_npz, options):
    settings = [*QUICK, "backbone.name=resnet8", "backbone.weights=random", "backbone.input_size=28", *options]
    run = fit(small_npz, "osdtw", settings=settings, out=tmp_path / "run")
    with (run.path / "criterion.csv").open() as stream:
        depths = {int(float(row["depth"])) for row in csv.DictReader(stream)}
    assert depths == {0, 1, 2, 3}
    chosen = json.loads((run.path / "selection.json").read_text())
    if options:
        assert chosen["depth"] == 2
    stages = [record["stage"] for record in json.loads((run.path / "stages.json").read_text())]
    joint = ["stage2"] if chosen["depth"] else []
    assert stages == ["stage1-head", "stage1-tail", "moments", *joint, "refinement"]
    assert evaluate_run(run.path) == run.metrics  # statistics are saved with the model and loaded again


def test_an_encoder_keeps_its_statistics_during_the_refinement(tmp_path, small_npz):
    settings = [*QUICK, "backbone.name=resnet8", "backbone.input_size=28", "method.depth=2"]
    run = fit(small_npz, "osdtw", settings=settings, out=tmp_path / "run")
    records = json.loads((run.path / "stages.json").read_text())
    marks = {record["stage"]: record["fingerprint"] for record in records}
    stage2, refined = (
        load_file(run.path / "stages" / marks[name] / "result.safetensors") for name in ("stage2", "refinement")
    )
    shared = [name for name in refined if ".shared." in name]
    assert any(name.endswith("running_var") for name in shared)
    for name in shared:
        torch.testing.assert_close(refined[name], stage2[name], rtol=0, atol=0)


def test_decoders_of_stage_1_get_the_statistics_of_what_the_shared_encoder_gives_them(tmp_path, small_npz):
    options = ["method.depth=2", "method.decoders=stage1", "method.refinement_epochs=0"]
    settings = [*QUICK, "backbone.name=resnet8", "backbone.weights=random", "backbone.input_size=28", *options]
    run = fit(small_npz, "osdtw", settings=settings, out=tmp_path / "run")
    predictor = load(run.path)
    network = predictor.network.train()
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    kept, seen = {name: layer.running_mean.clone() for name, layer in layers.items()}, {}
    for name, layer in layers.items():
        layer.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0].mean((0, 2, 3))}))
    pictures = np.load(small_npz)["x_train"]  # all of them are one batch
    network(torch.stack([predictor.spec.preprocess(Image.fromarray(picture).convert("RGB")) for picture in pictures]))
    assert len([name for name in layers if "shared" not in name]) >= 2  # of two decoders
    for name, mean in seen.items():
        torch.testing.assert_close(kept[name], mean, rtol=1e-3, atol=1e-4)


def test_pretrained_weights_start_a_fit(tmp_path, small_npz):
    card = pretrain(str(small_npz), backbone="resnet8", settings=QUICK, out=tmp_path / "pre")
    assert "resnet8, supervised on 65 pictures" in card["summary"]
    file = tmp_path / "pre/encoder.safetensors"
    assert architecture(BackboneSpec(weights=str(file))) == RESNET8
    trained, fresh = open_backbone(BackboneSpec(weights=str(file))), open_backbone(RESNET8)
    for (name, value), start in zip(trained.state_dict().items(), fresh.state_dict().values(), strict=True):
        assert not torch.equal(value, start), name
    run = fit(small_npz, "ce", backbone=str(tmp_path / "pre"), settings=["plan.epochs=1"], out=tmp_path / "run")
    assert run.metrics["accuracy"]["balanced"] is not None


@pytest.mark.parametrize("name", ["resnet8", "resnet18"])
def test_masked_auto_encoding_is_refused_in_one_line(tmp_path, small_npz, name):
    with pytest.raises(InputError, match=r"^masked auto-encoding with this backbone; expected a plain vision transf"):
        pretrain(str(small_npz), "mae", backbone=name, settings=QUICK, out=tmp_path / "pre")


def test_a_step_of_training_reaches_every_parameter():
    backbone = open_backbone(BackboneSpec("resnet14", weights="random"))
    network = Forked(backbone, SPLIT, 3)
    loss = nn.functional.cross_entropy(network(torch.randn(4, 3, 28, 28)), torch.tensor([0, 1, 2, 3]))
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    assert all(torch.isfinite(gradient).all() and gradient.abs().sum() > 0 for gradient in gradients)
