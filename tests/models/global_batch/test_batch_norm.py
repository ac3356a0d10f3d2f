"""BatchNorm of one process; what needs several is in tests/distributed."""

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from segacc.models.global_batch.batch_norm import (
    FEW,
    OverRanks,
    join,
    normalise_over_ranks,
    statistics,
)

ORDERS = [torch.contiguous_format, torch.channels_last]
BOUNDS = {torch.float32: 3e-6, torch.bfloat16: 5e-5, torch.float64: 1e-12}


def images(*shape, dtype=torch.float32, order=torch.channels_last):
    torch.manual_seed(0)
    return (10 + 2 * torch.randn(shape)).to(dtype).to(memory_format=order)


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "shape",
    [(4, 16, 256, 256), (3, 5, 37, 91), (4, 16, 101, 103), (2, 2048, 33, 35), (2, 3, 1, 1)],
)
def test_statistics_are_exact(shape, order, dtype):
    x = images(*shape, dtype=dtype, order=order)
    mean, var = statistics(x)
    wide = x.double()
    expected = wide.var((0, 2, 3), correction=0)
    assert mean.dtype == var.dtype == torch.float64
    torch.testing.assert_close(mean, wide.mean((0, 2, 3)), rtol=BOUNDS[dtype], atol=0)
    torch.testing.assert_close(var, expected, rtol=BOUNDS[dtype], atol=1e-12)


def test_statistics_of_the_whole_batch_are_those_of_its_halves():
    """So much that a run on two processes begins like that on one."""
    x = images(8, 16, 128, 128)
    means, variances = torch.stack([torch.stack(statistics(half)) for half in x.split(4)], dim=1)
    joined = torch.stack(join(means, variances, torch.tensor([0.5, 0.5], dtype=torch.double)))
    torch.testing.assert_close(joined, torch.stack(statistics(x)), rtol=1e-6, atol=0)


LAYERS = {
    "plain": lambda: nn.BatchNorm2d(8),
    "moving": lambda: nn.BatchNorm2d(8, momentum=None, eps=1e-3),
    "bare": lambda: nn.BatchNorm2d(8, affine=False),
    "act": lambda: BatchNormAct2d(8),
    "1d": lambda: nn.BatchNorm1d(8),
}


@pytest.mark.parametrize(
    ("kind", "shape"),
    [(kind, (4, 8, *size)) for kind in list(LAYERS)[:-1] for size in [(64, 65), (9, 7)]]
    + [("1d", (20000, 8)), ("1d", (3, 8, 5000))],
)
def test_a_layer_trains_as_torchs_does(kind, shape):
    """On few and on many values, in double precision, where torch's sums are exact enough."""
    torchs = LAYERS[kind]().double()
    for parameter in torchs.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    ours = copy.deepcopy(torchs)
    normalise_over_ranks(ours)
    assert isinstance(ours, OverRanks)
    torch.manual_seed(1)
    for _ in range(3):
        x = 3 + 2 * torch.randn(shape, dtype=torch.double)
        found = []
        for layer in (torchs, ours):
            given = x.clone().requires_grad_()
            layer.zero_grad()
            y = layer(given)
            (y * x.sin()).sum().backward()
            gradients = [p.grad.clone() for p in layer.parameters()]
            found.append([y.detach(), given.grad, *gradients, *layer.buffers()])
        torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(ours.eval()(x), torchs.eval()(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_of_images_in_lower_precision_are_those_of_torch(dtype):
    """As in mixed precision: the layer's own parameters are float32."""
    x = images(4, 8, 64, 48, dtype=dtype)
    assert x.numel() // 8 > FEW
    torchs = nn.BatchNorm2d(8)
    ours = copy.deepcopy(torchs)
    normalise_over_ranks(ours)
    found = []
    for layer in (torchs, ours):
        given = x.clone().requires_grad_()
        y = layer(given)
        (y.float() * x.float().sin()).sum().backward()
        found.append([y.detach(), given.grad, layer.weight.grad, layer.running_var])
        assert y.dtype == given.grad.dtype == dtype
        assert y.is_contiguous(memory_format=torch.channels_last)
    tolerance = 1e-3 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(found[1], found[0], rtol=tolerance, atol=tolerance)
