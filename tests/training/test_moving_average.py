import torch
from torch import nn

from forktail.training.moving_average import MovingAverage
from forktail.training.objective import set_modes


def test_follows_by_the_recursion_parameters_and_statistics():
    source = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).double()
    average = MovingAverage(source, decay=0.9)
    expected = {name: value.clone() for name, value in source.state_dict().items()}
    for step in range(4):
        with torch.no_grad():
            for parameter in source.parameters():
                parameter += step + 1
        source(torch.randn(5, 3, dtype=torch.float64))
        average.follow(source)
        for name, value in source.state_dict().items():
            expected[name] = 0.9 * expected[name] + 0.1 * value if value.is_floating_point() else value.clone()
    for name, value in average.module.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=0)


def test_is_neither_trained_nor_switched_to_training():
    holder = nn.Module()
    holder.source = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    holder.average = MovingAverage(holder.source, decay=0.5)
    set_modes(holder)
    assert not any(parameter.requires_grad for parameter in holder.average.parameters())
    assert [holder.source[1].training, holder.average.module[1].training] == [True, False]


def test_decay_0_is_a_copy():
    source = nn.Linear(2, 2)
    average = MovingAverage(source, decay=0.0)
    nn.init.ones_(source.weight)
    average.follow(source)
    torch.testing.assert_close(average.module.weight, source.weight, rtol=0, atol=0)
