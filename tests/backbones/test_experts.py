import pytest
import torch
from torch import nn

from forktail.backbones.experts import Branched, Experts
from forktail.backbones.layered import Layered
from forktail.errors import InputError


@pytest.fixture
def chain():
    return Layered(nn.Flatten(), [nn.Linear(4, 4) for _ in range(3)], nn.LayerNorm(4), num_features=4)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_every_branch_begins_as_the_backbone(chain, depth):
    inputs = torch.randn(5, 2, 2)
    branched = Branched(chain, depth, branches=2)
    for features in branched(inputs):
        torch.testing.assert_close(features, chain(inputs), rtol=0, atol=0)


def test_branches_share_the_first_units_and_nothing_else(chain):
    branched = Branched(chain, depth=2, branches=3)
    first, *_ = branched(torch.randn(5, 2, 2))
    gradients = torch.autograd.grad(first.square().sum(), list(branched.parameters()), allow_unused=True)
    reached = {
        name for (name, _), gradient in zip(branched.named_parameters(), gradients, strict=True) if gradient is not None
    }
    assert reached == {name for name, _ in branched.named_parameters() if name.startswith(("shared", "branches.0"))}


def test_parameters_know_their_layer(chain):
    branched = Branched(chain, depth=2, branches=2)
    found = {branched.unit_of(name) for name, _ in branched.named_parameters() if name.startswith("shared")}
    assert found == {1, 2}
    ends = [branched.unit_of(name) for name, _ in branched.named_parameters() if name.startswith("branches.1")]
    assert ends == [3, 3, 4, 4]


def test_the_mean_of_the_experts_logits_decides(chain):
    generator = torch.Generator().manual_seed(0)

    def make():
        classifier = nn.Linear(4, 6)
        nn.init.normal_(classifier.weight, generator=generator)
        return classifier

    experts = Experts(Branched(chain, depth=1, branches=3), make)
    inputs = torch.randn(5, 2, 2)
    logits = experts.expert_logits(inputs)
    assert logits.shape == (3, 5, 6)
    assert not torch.equal(logits[0], logits[1])
    torch.testing.assert_close(experts(inputs), (logits[0] + logits[1] + logits[2]) / 3)


@pytest.mark.parametrize("depth", [0, 4])
def test_a_depth_that_the_backbone_does_not_have_is_refused(chain, depth):
    with pytest.raises(InputError, match="1 to 3"):
        Branched(chain, depth, branches=2)


def test_no_branch_is_refused(chain):
    with pytest.raises(InputError, match="at least one"):
        Branched(chain, depth=1, branches=0)
