"""Dropout by the sample's place; what needs several processes is in tests/distributed."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from segacc.models.global_batch.dropout import (
    Place,
    PlacedDropout,
    find_unplaced_random_layers,
    place_dropout,
    warn_of_unplaced_random_layers,
)
from segacc.models.segmenter import Segmenter


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
    # For a sample by itself, a network may choose another order in memory.
    alone = [dropout(unit=unit, first=i)(x[i : i + 1].contiguous()) for i in range(8)]
    assert torch.equal(whole, torch.cat(alone))


def test_samples_that_lie_between_each_other_in_memory_are_dropped_alike():
    """As in (tokens, batch, channels), of which attention layers see the transpose."""
    x = torch.ones(6, 8, 5).transpose(0, 1)
    whole = dropout(0.5)(x)
    assert whole.unique().tolist() == [0, 2]
    assert torch.equal(whole, dropout(0.5)(x.contiguous()))
    parts = [dropout(0.5, first=i)(x[i : i + 1].contiguous()) for i in range(8)]
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


def test_drop_connect_of_efficientnet_is_placed():
    """SMP draws it by a function from torch's own stream, which each process has its own of."""
    torch.manual_seed(0)
    model = Segmenter("unet", "efficientnet-b0")
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    plain, names = model.eval()(images), list(model.state_dict())
    place = place_dropout(model)
    assert torch.equal(model.eval()(images), plain) and list(model.state_dict()) == names
    blocks = [m for m in model.modules() if hasattr(m, "stochastic_depth")]
    assert [round(b.stochastic_depth.p, 4) for b in blocks] == [
        round(0.2 * i / 16, 4) for i in (2, 4, 6, 7, 9, 10, 12, 13, 14)
    ]
    place.total, block = 32, blocks[-1].train()
    block._bn1.eval(), block._bn2.eval(), block._bn0.eval()
    x = torch.randn(32, block._project_conv.out_channels, 4, 4)
    whole = block(x, 0.5)  # the rate that the encoder goes on to give
    parts = []
    for place.first in (0, 8, 16, 24):
        parts.append(block(x[place.first : place.first + 8], 0.5))
    torch.testing.assert_close(torch.cat(parts), whole)
    dropped = sum(torch.equal(y, inputs) for y, inputs in zip(whole, x, strict=True))
    assert 1 <= dropped <= 15


class DropsByAFunction(nn.Module):
    def forward(self, x):
        return functional.dropout(x, 0.5, self.training)


def test_a_layer_that_cannot_be_placed_is_named_at_the_start(caplog):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5), DropsByAFunction())
    place_dropout(net)
    images, before = torch.ones(2, 3, 8, 8), {k: v.clone() for k, v in net.state_dict().items()}
    state = torch.get_rng_state()
    warn_of_unplaced_random_layers(net, images)
    assert "3 of this model draws random numbers that do not come from --seed" in caplog.text
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert find_unplaced_random_layers(net[:3], images) == []
