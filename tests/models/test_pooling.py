"""Pooling in a fixed order."""

import pytest
import torch
from torch import nn

from segacc.models.pooling import MatmulAvgPool2d, without_random_order
from segacc.models.segmenter import Segmenter


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (6, 6), (3, 5)])
@pytest.mark.parametrize("shape", [(2, 4, 6, 6), (2, 4, 16, 16), (1, 3, 7, 11), (1, 2, 2, 3)])
def test_pooling_in_a_fixed_order_is_pooling(size, shape):
    images = torch.randn(shape, requires_grad=True)
    weight = torch.randn(*shape[:2], *size)
    theirs, ours = nn.AdaptiveAvgPool2d(size)(images), MatmulAvgPool2d(size)(images)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad((y * weight).sum(), images)[0] for y in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def test_only_pooling_is_replaced_for_a_fixed_order():
    torch.manual_seed(0)
    model = Segmenter("pspnet", "tu-test_resnet").eval()
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    before, names = model(images), list(model.state_dict())
    without_random_order(model)
    assert not [m for m in model.modules() if isinstance(m, nn.AdaptiveAvgPool2d)]
    assert [m for m in model.modules() if isinstance(m, MatmulAvgPool2d)]
    assert list(model.state_dict()) == names
    torch.testing.assert_close(model(images), before)
