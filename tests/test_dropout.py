"""Dropout: what share, how the rest is scaled, and that a seed decides."""

import pytest
import torch

from captioning.kernels.dropout import Dropout


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_share_of_the_elements_is_zero_and_the_mean_stays(share: float, kind: torch.dtype) -> None:
    torch.manual_seed(0)
    dropped = Dropout(share)(torch.ones(1001, 333, dtype=kind))
    assert dropped.dtype == kind
    assert (dropped == 0).float().mean().item() == pytest.approx(share, abs=0.003)
    kept = dropped[dropped != 0].float()
    assert kept.unique().tolist() == pytest.approx([1 / (1 - share)], rel=2e-3 if kind == torch.bfloat16 else 1e-4)
    zeros = (dropped == 0).float().flatten()
    for step in (1, 2, 3, 4):  # four numbers come from one: none of them knows of the others
        together = (zeros[step:] * zeros[:-step]).mean().item()
        assert together == pytest.approx(share**2, abs=0.004)


def test_the_gradient_is_dropped_alike() -> None:
    x = torch.ones(50, 7, requires_grad=True)
    torch.manual_seed(3)
    y = Dropout(0.4)(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    torch.manual_seed(3)
    assert torch.equal(Dropout(0.4)(x), y)
    assert not torch.equal(Dropout(0.4)(x), y)


def test_it_does_nothing_in_eval_mode_or_without_a_share() -> None:
    x = torch.randn(5, 3)
    before = torch.get_rng_state()
    assert Dropout(0.4).eval()(x) is x
    assert Dropout(0.0)(x) is x
    assert torch.equal(torch.get_rng_state(), before)
