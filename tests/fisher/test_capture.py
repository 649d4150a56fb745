"""Networks that make it hard to tell whose gradient is whose, against the loop."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from forktail.errors import InputError
from forktail.fisher import capture
from forktail.fisher.diagonal import fisher
from forktail.losses.binary_cross_entropy import BinaryCrossEntropy

BCE = BinaryCrossEntropy()


class Twice(nn.Module):
    """One map called twice, before and after the other."""

    def __init__(self):
        super().__init__()
        self.map, self.other = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.map(torch.tanh(self.other(self.map(x))))


class Tied(nn.Module):
    """One tensor under two names, one of them transposed into another module's arithmetic."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(4, 5), nn.Linear(5, 4, bias=False)
        self.copy = nn.Linear(4, 5)
        self.copy.weight = self.up.weight

    def forward(self, x):
        return F.linear(self.down(torch.tanh(self.up(x) + self.copy(x))), self.up.weight)[:, :4]


class WrittenInto(nn.Module):
    """Additions in place: to what went into a module, and to what came out of one."""

    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.shift, self.map = nn.Parameter(torch.ones(4)), nn.Linear(4, 4)

        def forward(self, x):
            x += self.shift
            x = self.map(x)
            x += self.shift
            return x

    def __init__(self):
        super().__init__()
        self.map, self.inner, self.scale = nn.Linear(4, 4), WrittenInto.Inner(), nn.Parameter(torch.ones(4))
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        hidden = self.act(self.inner(self.map(x)))
        hidden = self.scale * hidden
        hidden += x
        return self.act(hidden)


class Several(nn.Module):
    """A module that takes and returns a nest, one of whose parts is also used inside."""

    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain, self.map = nn.Parameter(torch.ones(4)), nn.Linear(4, 4)

        def forward(self, pair, *, factor):
            kept = pair["x"] * self.gain
            return {"kept": kept, "mapped": [self.map(kept) * factor]}

    def __init__(self):
        super().__init__()
        self.inner = Several.Inner()

    def forward(self, x):
        found = self.inner({"x": x, "unused": None}, factor=len(x) / len(x) * 3.0)
        return found["kept"].sin() + found["mapped"][0]


class FromParameters(nn.Module):
    """Parameters that pass through modules of their own before they meet an image, and one that gets a batch size."""

    class Token(nn.Module):
        def __init__(self):
            super().__init__()
            self.value = nn.Parameter(torch.ones(1, 4))

        def forward(self, count):
            return self.value.expand(count, -1)

    def __init__(self):
        super().__init__()
        self.base, self.norm, self.token = nn.Parameter(torch.ones(3, 4)), nn.LayerNorm(4), FromParameters.Token()
        self.join = nn.Linear(4, 4)

    def forward(self, x):
        table = self.norm(self.join(self.base)).mean(0)
        return self.join(x * table + self.token(len(x)))


class ImagesSecond(nn.Module):
    """Tokens before images, as recurrent networks like it."""

    def __init__(self):
        super().__init__()
        self.map, self.mix, self.gain = nn.Linear(2, 4), nn.MultiheadAttention(4, 2), nn.Parameter(torch.ones(4))

    def forward(self, x):
        hidden = self.map(x.unflatten(1, (2, 2)).transpose(0, 1))
        return (self.mix(hidden, hidden, hidden)[0] * self.gain).sum(0)


class Convolved(nn.Module):
    """Strides, groups, dilation, one dimension, reflected borders, a transposed kernel, group norm."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.GroupNorm(2, 4), nn.Tanh(),
            nn.Conv2d(4, 4, 2, stride=2), nn.Conv2d(4, 4, 3, padding="same", groups=4), nn.Tanh(),
            nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2), nn.Conv2d(6, 2, 3, padding=1, padding_mode="reflect"),
            nn.ConvTranspose2d(2, 2, 2, stride=2), nn.PReLU(2), nn.Flatten(2), nn.Conv1d(2, 2, 3), nn.BatchNorm1d(2),
        )  # fmt: skip

    def forward(self, x):
        return self.body(F.interpolate(x.unflatten(1, (1, 2, 2)), (6, 6))).flatten(1)[:, :4]


HARD = {c.__name__: c for c in (Twice, Tied, WrittenInto, Several, FromParameters, ImagesSecond, Convolved)}


@pytest.fixture(params=HARD)
def hard(request):
    torch.manual_seed(1)
    network = HARD[request.param]().double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network, torch.randn(4, 4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)


def test_hard_networks(hard, loop, assert_squares):
    network, images, targets = hard
    found = fisher(network, BCE, [(images[:1], targets[:1]), (images[1:], targets[1:])]).sums
    assert_squares(found, loop(network, BCE, images, targets), 1e-12)


def test_hard_networks_without_formulas(hard, squares, loop, assert_squares):
    network, images, targets = hard
    assert_squares(squares(network, BCE, [(images, targets)], rules=False), loop(network, BCE, images, targets), 1e-12)


def test_large_tensors_take_the_generic_way_a_few_images_at_a_time(hard, monkeypatch, squares, loop, assert_squares):
    network, images, targets = hard
    monkeypatch.setattr(capture, "GENERIC_ENTRIES", 1)
    for rules in (True, False):
        found = squares(network, BCE, [(images, targets)], rules=rules)
        assert_squares(found, loop(network, BCE, images, targets), 1e-12)


def test_several_backward_passes_of_one_forward_pass(hard, loop, assert_squares):
    """The Gauss-Newton diagonal is the sum of the squares at gradients of its own, one per output."""
    network, images, targets = hard
    found = fisher(network, BCE, [(images, targets)], kind="ggn").sums
    network.eval()
    total = {}
    for column in range(4):

        def one_output(logits, _, column=column):
            s = torch.sigmoid(logits[:, column])
            return (s * (1 - s)).sqrt().detach() * logits[:, column]

        for name, values in loop(network, one_output, images, targets).items():
            total[name] = total.get(name, 0) + values
    assert_squares(found, total, 1e-12)


class Mixed(nn.Module):
    """Adds what is the mean over the batch."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(4, 4)

    def forward(self, x):
        return self.map(x) + self.map(x).mean(0)


def batch_statistics():
    """Statistics over images and positions, also in evaluation mode."""
    return nn.Sequential(
        nn.Unflatten(1, (2, 2)), nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False), nn.Flatten()
    )


@pytest.mark.parametrize("build", [Mixed, batch_statistics])
def test_images_that_touch_one_another_are_refused(build):
    with pytest.raises(InputError, match="other gradients for an image in a batch"):
        fisher(build(), BCE, [(torch.randn(4, 4), torch.zeros(4, 4))])


class Changing(nn.Module):
    """Runs a module twice for batches of more than two."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(4, 4)

    def forward(self, x):
        return self.map(self.map(x)) if len(x) > 2 else self.map(x)


def test_calls_that_change_are_refused():
    with pytest.raises(InputError, match="makes other calls"):
        fisher(Changing(), BCE, [(torch.randn(4, 4), torch.zeros(4, 4))])


def test_outputs_that_are_no_matrix_are_refused():
    with pytest.raises(InputError, match=r"outputs of shape \(2, 3, 4\)"):
        fisher(nn.Linear(4, 4), BCE, [(torch.randn(2, 3, 4), torch.zeros(2, 3, 4))])
