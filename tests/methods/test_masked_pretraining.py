"""Both stages of `mae` and `livt`, on a transformer of two blocks."""

import copy
import dataclasses
import functools

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from forktail.backbones.adapters import adapt
from forktail.errors import InputError
from forktail.methods import Problem, find_method
from forktail.methods._masked_autoencoder import MaskedAutoencoder
from forktail.methods._masked_pretraining import autoencoder
from forktail.training.engine import Engine
from forktail.training.mix import Mix
from forktail.training.plan import Plan

PLAN = Plan(epochs=1, batch_size=16, lr=1e-2, mix=Mix(mixup=0.3), layer_decay=0.9)
DECAY = {"mae": 0.65, "livt": 0.75}

both = pytest.mark.parametrize("name", DECAY)


def transformer(width=12, depth=2, side=8, patch=2):
    return adapt(VisionTransformer(img_size=side, patch_size=patch, embed_dim=width, depth=depth, num_heads=3))


class OfTokens(Problem):
    """A problem under a transformer."""

    def backbone(self):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return transformer()


@pytest.fixture(scope="module")
def seen_by_tokens(problem):
    """The tiny problem under a transformer."""
    return OfTokens(**vars(problem))


class Watching(Engine):
    """An engine that remembers what went into every stage and what came out."""

    def train(self, stage, objective, images, plan=None, **options):
        self.__dict__.setdefault("stages", {})[stage] = {"plan": plan, "before": copy.deepcopy(objective)}
        trained = super().train(stage, objective, images, plan, **options)
        self.stages[stage]["after"] = copy.deepcopy(trained)
        return trained


@pytest.fixture(scope="module")
def watched(seen_by_tokens, make_engine):
    """Fit a method and see its stages."""

    @functools.cache
    def fit(name, plan=PLAN, **options):
        engine = make_engine(plan)
        engine.__class__ = Watching
        predictor = find_method(name)(**options).fit(seen_by_tokens, engine)
        return predictor, engine

    return fit


def equal(module, other):
    for key, value in module.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[key], rtol=0, atol=0)


@both
def test_it_pretrains_eight_times_as_long_as_it_tunes(watched, name):
    _, engine = watched(name)
    assert [record["stage"] for record in engine.manifest] == list(find_method(name).stages)
    assert [record["steps"] for record in engine.manifest] == [16, 2]


@both
def test_each_stage_has_the_published_plan_and_the_rest_is_the_users(watched, name):
    _, engine = watched(name)
    plans = {stage: facts["plan"] for stage, facts in engine.stages.items()}
    assert plans["mae"] == dataclasses.replace(PLAN, epochs=8, betas=(0.9, 0.95), mix=Mix(), layer_decay=1.0)
    published = Mix(mixup=0.8, cutmix=1.0, smoothing=0.1)
    assert plans["fine-tuning"] == dataclasses.replace(PLAN, mix=published, layer_decay=DECAY[name])


@both
def test_tuning_starts_from_the_pretrained_backbone_and_a_new_classifier(watched, seen_by_tokens, name):
    predictor, engine = watched(name)
    pretrained, start = engine.stages["mae"]["after"].backbone, engine.stages["fine-tuning"]["before"].network
    equal(pretrained, start.path(0))
    equal(start.classifier(0), seen_by_tokens.network().classifier(0))
    fresh = seen_by_tokens.network().state_dict()
    moved = [key for key, value in start.state_dict().items() if not torch.equal(value, fresh[key])]
    assert any(".attn." in key for key in moved)
    equal(predictor.network, engine.stages["fine-tuning"]["after"].network)


@both
def test_zero_epochs_leave_pretraining_out(watched, seen_by_tokens, name):
    _, engine = watched(name, pretraining_epochs=0)
    assert [record["stage"] for record in engine.manifest] == ["fine-tuning"]
    equal(engine.stages["fine-tuning"]["before"].network, seen_by_tokens.network())


@both
def test_the_fields_reach_the_stages(watched, name):
    _, engine = watched(name, pretraining_epochs=1, mask_ratio=0.5, layer_decay=1.0, mixup=0.0, smoothing=0.0)
    assert engine.stages["mae"]["before"].mask == 0.5
    assert engine.manifest[0]["steps"] == 2
    assert engine.stages["fine-tuning"]["plan"].mix == Mix(cutmix=1.0)
    assert engine.stages["fine-tuning"]["plan"].layer_decay == 1.0


def test_both_methods_share_their_first_stage(seen_by_tokens, make_engine, tmp_path):
    marks = []
    for name in DECAY:
        engine = make_engine(PLAN, cache=tmp_path)
        find_method(name)().fit(seen_by_tokens, engine)
        marks.append([record["fingerprint"] for record in engine.manifest])
    assert marks[0][0] == marks[1][0]
    assert marks[0][1] != marks[1][1]
    assert '"stage": "mae", ' in (engine.run.path / "timing.jsonl").read_text()
    assert (engine.run.path / "timing.jsonl").read_text().count('"found": true') == 1


@both
def test_a_budget_in_flops_is_divided_as_the_epochs_are(watched, name):
    _, whole = watched(name)
    predictor, engine = watched(name, dataclasses.replace(PLAN, flops=whole.flops / 2))
    step = max(record["flops"] / record["steps"] for record in whole.manifest)
    assert whole.flops / 2 - 2 * step < engine.flops <= whole.flops / 2
    for record, full in zip(engine.manifest, whole.manifest, strict=True):
        assert record["steps"] == pytest.approx(full["steps"] / 2, abs=1)
    assert predictor.spec.method == name


@both
def test_a_run_that_ends_between_the_stages_goes_on_to_the_same_model(
    seen_by_tokens, make_engine, monkeypatch, unseen, tmp_path, name
):
    whole = find_method(name)().fit(seen_by_tokens, make_engine(PLAN)).eval()
    train = Engine.train

    def stopping(self, stage, *rest, **options):
        if stage == "fine-tuning":
            raise KeyboardInterrupt
        return train(self, stage, *rest, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Engine, "train", stopping)
        with pytest.raises(KeyboardInterrupt):
            find_method(name)().fit(seen_by_tokens, make_engine(PLAN, cache=tmp_path))
    resumed = find_method(name)().fit(seen_by_tokens, make_engine(PLAN, cache=tmp_path)).eval()
    torch.testing.assert_close(resumed(unseen), whole(unseen), rtol=0, atol=0)


@both
def test_another_family_is_refused_unless_it_is_pretrained_already(problem, make_engine, name):
    with pytest.raises(InputError, match=r"a plain vision transformer.* method\.pretraining_epochs = 0"):
        find_method(name)().fit(problem, make_engine(PLAN))
    find_method(name)(pretraining_epochs=0).fit(problem, make_engine(PLAN.for_epochs(1)))


def test_the_decoder_of_the_base_transformer_is_the_published_one(problem, monkeypatch):
    monkeypatch.setattr(Problem, "backbone", lambda self: transformer(768, 12, 224, 16))
    at_full_size = dataclasses.replace(problem, preprocess=dataclasses.replace(problem.preprocess, size=224))
    with torch.device("meta"):  # of its size only the shapes are needed
        objective = autoencoder(at_full_size, 0.75)
    assert isinstance(objective, MaskedAutoencoder)
    blocks = objective.decoder.layers
    assert (len(blocks), blocks[0].self_attn.num_heads, objective.embed.out_features) == (8, 16, 512)
    assert blocks[0].linear1.out_features == 2048
    assert objective.mask == 0.75
    assert objective.side == 16


def test_a_decoder_is_never_less_than_one_block_of_one_head(seen_by_tokens):
    objective = autoencoder(seen_by_tokens, 0.75)
    assert (len(objective.decoder.layers), objective.embed.out_features) == (1, 32)
