"""The moving average of the weights."""

import torch
from torch import nn

from captioning.training.averaging import Average


def test_the_average_is_that_of_its_definition_and_is_used_within_the_block_only() -> None:
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2))
    weight, norm = network[0].weight, network[1]
    average = Average(network, 0.25)
    expected = weight.detach().clone()
    for steps in range(6):
        with torch.no_grad():
            weight.copy_(torch.randn(2, 2))
        norm.num_batches_tracked += 1
        average.update(steps)
        decay = min(0.25, (1 + steps) / (10 + steps))
        expected = decay * expected + (1 - decay) * weight.detach()
    last = weight.detach().clone()
    with average.applied():
        torch.testing.assert_close(weight.detach(), expected)
        assert norm.num_batches_tracked == 6
    torch.testing.assert_close(weight.detach(), last, rtol=0, atol=0)
    assert (expected - last).abs().max() > 0.01


def test_without_a_decay_the_weights_are_used_as_they_are() -> None:
    network = nn.Linear(2, 2)
    average = Average(network, 0.0)
    average.update(0)
    before = network.weight.detach().clone()
    with average.applied():
        assert torch.equal(network.weight, before)
    assert average.state == {}
