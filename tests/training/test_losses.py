"""Losses against hand-computed cases, other libraries' versions, and their edge cases."""

import math

import pytest
import torch
from segmentation_models_pytorch import losses as smp_losses

from segacc.errors import InputError
from segacc.training.losses import PIXEL_LOSSES, REGION_LOSSES, is_of_batch, make_loss

ALL = [*REGION_LOSSES, *PIXEL_LOSSES]


def batch(seed=0, shape=(3, 1, 17, 23)):
    """Logits of any K, and label maps of the two classes 0 and 1."""
    rng = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(shape, generator=rng)
    foreground = torch.rand(shape, generator=rng)[:, 0] > 0.6
    return logits, foreground.to(torch.uint8)


def test_dice_of_a_hand_computed_case():
    # p = 0.8, 0.5, 0.5, 0.2; t = 1, 1, 0, 0: 1 - 2 * 1.3 / (2.0 + 2)
    p = torch.tensor([[[[0.8, 0.5], [0.5, 0.2]]]])
    mask = torch.tensor([[[1, 1], [0, 0]]], dtype=torch.uint8)
    assert make_loss("dice")(p.logit(), mask).item() == pytest.approx(1 - 2.6 / 4)
    assert make_loss("jaccard")(p.logit(), mask).item() == pytest.approx(1 - 1.3 / (4 - 1.3))
    # tp 1.3, fp 0.7, fn 0.7 with alpha 0.3, beta 0.7
    assert make_loss("tversky")(p.logit(), mask).item() == pytest.approx(1 - 1.3 / 2)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("dice", smp_losses.DiceLoss("binary")),
        ("jaccard", smp_losses.JaccardLoss("binary")),
        ("tversky", smp_losses.TverskyLoss("binary", alpha=0.3, beta=0.7)),
        ("focal", smp_losses.FocalLoss("binary", alpha=0.25, gamma=2)),
    ],
)
def test_losses_agree_with_segmentation_models_pytorch(name, other):
    logits, label_maps = batch()
    assert make_loss(name)(logits, label_maps).item() == pytest.approx(
        other(logits, label_maps[:, None].float()).item(), rel=1e-5
    )


def test_dice_is_of_the_batch_not_the_mean_of_its_images():
    logits, label_maps = batch()
    whole = make_loss("dice")(logits, label_maps)
    parts = torch.stack(
        [make_loss("dice")(logits[i : i + 1], label_maps[i : i + 1]) for i in range(3)]
    )
    assert abs(whole - parts.mean()) > 1e-5
    assert is_of_batch("dice+bce") and not is_of_batch("bce+lovasz")


def test_pixel_losses_of_a_batch_are_the_mean_of_its_images():
    logits, label_maps = batch()
    for name in PIXEL_LOSSES:
        loss = make_loss(name)
        parts = torch.stack([loss(logits[i : i + 1], label_maps[i : i + 1]) for i in range(3)])
        assert loss(logits, label_maps).item() == pytest.approx(parts.mean().item(), rel=1e-5), name


@pytest.mark.parametrize("name", ALL)
def test_false_positives_on_empty_masks_are_punished(name):
    label_maps = torch.zeros(2, 16, 16, dtype=torch.uint8)
    logits = torch.zeros(2, 1, 16, 16, requires_grad=True)
    loss = make_loss(name)(logits, label_maps)
    loss.backward()
    assert loss > 0
    assert (logits.grad >= 0).all() and logits.grad.sum() > 1e-3  # downhill means fewer positives
    assert make_loss(name)(torch.full_like(logits, -30), label_maps) < 1e-6


@pytest.mark.parametrize("name", ALL)
def test_all_foreground_masks_and_a_perfect_prediction_cost_nothing(name):
    label_maps = torch.ones(1, 9, 9, dtype=torch.uint8)
    perfect = torch.full((1, 1, 9, 9), 30.0)
    assert make_loss(name)(perfect, label_maps).item() == pytest.approx(0, abs=1e-6)
    assert make_loss(name)(-perfect, label_maps) > 0.5


def test_an_empty_mask_costs_the_mean_probability():
    logits = torch.full((2, 1, 4, 4), math.log(0.25 / 0.75))
    loss = make_loss("dice")(logits, torch.zeros(2, 4, 4, dtype=torch.uint8))
    assert loss.item() == pytest.approx(0.25)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_summed_in_float32(name, dtype):
    logits, label_maps = batch(shape=(8, 1, 256, 256))  # smp's Dice is NaN in float16 here
    half = logits.to(dtype).requires_grad_()
    loss = make_loss(name)(half, label_maps)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss) and torch.isfinite(half.grad).all()
    assert loss.item() == pytest.approx(make_loss(name)(logits, label_maps).item(), rel=1e-2)


def test_terms_are_added():
    logits, label_maps = batch()
    total = make_loss("dice+bce")(logits, label_maps)
    assert total.item() == pytest.approx(
        (make_loss("dice")(logits, label_maps) + make_loss("bce")(logits, label_maps)).item()
    )


def test_an_unknown_loss_is_named_with_the_near_one():
    with pytest.raises(InputError, match=r"--loss dcie\+bce: 'dcie'.*did you mean dice"):
        make_loss("dcie+bce")
