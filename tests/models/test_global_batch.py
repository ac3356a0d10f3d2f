"""Dropout by the sample's place; what needs several processes is in tests/distributed."""

import pytest
import torch

from segacc.models.global_batch import Place, PlacedDropout


def dropout(p=0.3, unit="value", layer=0, **place):
    return PlacedDropout(p, unit, Place(**{"total": 8, **place}), layer).train()


@pytest.mark.parametrize("p", [0.1, 0.5, 0.999])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_share_is_dropped_and_the_rest_scaled(p, dtype):
    x = torch.ones(8, 16, 31, 33, dtype=dtype)  # no multiple of four values in a sample
    y = dropout(p)(x)
    kept = y != 0
    spread = (p * (1 - p) / x.numel()) ** 0.5
    assert kept.double().mean().item() == pytest.approx(1 - p, abs=5 * spread + 2**-16)
    assert y.dtype == dtype
    assert torch.allclose(y[kept], torch.tensor(1 / (1 - p), dtype=dtype), rtol=1e-2)


@pytest.mark.parametrize("unit", ["value", "channel", "sample"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_what_is_dropped_depends_on_the_place_in_the_global_batch_alone(unit, memory_format):
    x = torch.ones(8, 16, 5, 7).to(memory_format=memory_format)
    whole = dropout(unit=unit)(x)
    parts = [dropout(unit=unit, first=first)(x[first : first + 2]) for first in (0, 2, 4, 6)]
    assert torch.equal(whole, torch.cat(parts))


@pytest.mark.parametrize("change", [{"seed": 1}, {"step": 1}, {"layer": 1}, {"first": 8}])
def test_seed_step_layer_and_sample_draw_other_values(change):
    x = torch.ones(4, 4, 8, 8)
    assert not torch.equal(dropout()(x), dropout(**change)(x))
    first, second = dropout()(x)[:2]
    assert not torch.equal(first, second)


def test_gradients_pass_where_values_do():
    x = torch.ones(2, 3, 8, 8, requires_grad=True)
    y = dropout(0.5)(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_evaluation_drops_nothing():
    x = torch.randn(2, 3, 8, 8)
    assert dropout().eval()(x) is x and dropout(p=0.0)(x) is x
