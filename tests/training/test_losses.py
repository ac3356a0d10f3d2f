"""Losses against hand-computed cases, other libraries' versions, and their edge cases."""

import math

import monai.losses
import pytest
import torch
from segmentation_models_pytorch import losses as smp_losses
from torch.nn import functional

from segacc.errors import InputError
from segacc.labels import IGNORE
from segacc.training.losses import inputs
from segacc.training.losses.terms import (
    PIXEL_LOSSES,
    REGION_LOSSES,
    PixelOptions,
    has_region_loss,
    make_loss,
)

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
    assert has_region_loss("dice+bce") and not has_region_loss("bce+lovasz")


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


def made_up(seed=0, classes=4, images=4, ignored=0.3):
    """Logits, and label maps in which class 3 is absent and image 1 is ignored as a whole."""
    rng = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn((images, classes, 9, 11), generator=rng)
    label_maps = torch.randint(0, min(classes, 3), (images, 9, 11), generator=rng)
    label_maps[torch.rand(label_maps.shape, generator=rng) < ignored] = IGNORE
    label_maps[1] = IGNORE
    return logits, label_maps.to(torch.uint8)


def test_dice_of_three_classes_and_an_ignored_pixel_by_hand():
    p = torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4]])
    logits = p.log().T.reshape(1, 3, 2, 2)
    label_maps = torch.tensor([[[0, 1], [1, IGNORE]]], dtype=torch.uint8)
    of_class_0 = 1 - 2 * 0.5 / (0.8 + 1)  # of the probabilities 0.5, 0.2, 0.1
    of_class_1 = 1 - 2 * 0.8 / (1.05 + 2)  # of 0.25, 0.7, 0.1
    of_class_2 = (0.25 + 0.1 + 0.8) / 3  # in no label map: its mean probability
    expected = (of_class_0 + of_class_1 + of_class_2) / 3
    assert make_loss("dice")(logits, label_maps).item() == pytest.approx(expected)
    cross_entropy = -(math.log(0.5) + math.log(0.7) + math.log(0.1)) / 3
    assert make_loss("bce")(logits, label_maps).item() == pytest.approx(cross_entropy)
    focal = -(0.25 * math.log(0.5) + 0.09 * math.log(0.7) + 0.81 * math.log(0.1)) / 3
    assert make_loss("focal")(logits, label_maps).item() == pytest.approx(focal)


@pytest.mark.parametrize("classes", [3, 5])
def test_cross_entropy_of_classes_is_that_of_torch(classes):
    logits, label_maps = made_up(classes=classes)
    expected = functional.cross_entropy(logits, label_maps.long(), ignore_index=IGNORE)
    assert make_loss("bce")(logits, label_maps).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_logits_that_are_sure_and_wrong_have_finite_losses_and_gradients(name):
    """Their probabilities are too small for float32."""
    logits, label_maps = batch(shape=(2, 4, 8, 8))
    logits = (100 * logits).requires_grad_()
    loss = make_loss(name)(logits, label_maps)
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()
    if name == "ce":
        other = functional.cross_entropy(logits, label_maps.long())
        assert loss.item() > 88 and loss.item() == pytest.approx(other.item(), rel=1e-6)


def test_the_gradient_of_a_sum_is_that_of_its_terms():
    """They share probabilities."""
    logits, label_maps = batch(shape=(2, 4, 8, 8))
    logits.requires_grad_()

    def gradient(name):
        return torch.autograd.grad(make_loss(name)(logits, label_maps), logits)[0]

    torch.testing.assert_close(
        gradient("dice+ce+focal"), gradient("dice") + gradient("ce") + gradient("focal")
    )


def test_focal_loss_of_classes_is_that_of_monai():
    logits, label_maps = made_up(ignored=0)
    logits, label_maps = logits[[0, 2, 3]], label_maps[[0, 2, 3]]
    other = monai.losses.FocalLoss(use_softmax=True, to_onehot_y=True, gamma=2, reduction="sum")
    # MONAI takes the mean over the pixels of each image before it adds up.
    expected = other(logits, label_maps[:, None].long()).item() / len(logits)
    assert make_loss("focal")(logits, label_maps).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("dice", smp_losses.DiceLoss("multiclass", ignore_index=IGNORE)),
        ("jaccard", smp_losses.JaccardLoss("multiclass")),
        ("tversky", smp_losses.TverskyLoss("multiclass", alpha=0.3, beta=0.7)),
        ("lovasz", smp_losses.LovaszLoss("multiclass", per_image=True, ignore_index=IGNORE)),
    ],
)
def test_region_losses_of_classes_agree_with_segmentation_models_pytorch(name, other):
    logits, label_maps = made_up(classes=3, ignored=0 if name in ("jaccard", "tversky") else 0.3)
    counted = [0, 2, 3]  # the others would lower SMP's mean over images
    logits, label_maps = logits[counted], label_maps[counted]
    expected = other(logits, label_maps.long()).item()
    assert make_loss(name)(logits, label_maps).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("name", ALL)
def test_what_is_predicted_for_ignored_pixels_changes_nothing(name, classes):
    logits, label_maps = made_up(classes=classes)
    if classes == 1:
        label_maps = torch.where(label_maps == 2, 1, label_maps)
    ignored = (label_maps == IGNORE).unsqueeze(1)
    other = torch.where(ignored, -2 * logits + 1, logits).requires_grad_()
    loss = make_loss(name)(other, label_maps)
    loss.backward()
    assert loss.item() == make_loss(name)(logits, label_maps).item() > 0
    assert (other.grad[ignored.expand_as(other)] == 0).all() and (other.grad != 0).any()


@pytest.mark.parametrize("name", ALL)
def test_an_infinite_logit_of_an_ignored_pixel_leaves_gradients_finite(name):
    logits, label_maps = made_up()
    logits[0, 0, 0, 0], label_maps[0, 0, 0] = -math.inf, IGNORE
    make_loss(name)(logits.requires_grad_(), label_maps).backward()
    assert logits.grad.isfinite().all() and logits.grad.count_nonzero()


@pytest.mark.parametrize("scale", [0, 1, 30, 1000])
def test_probabilities_and_their_gradients_are_those_of_a_softmax(scale):
    """Also where logits are so far apart that most probabilities are 0 as floats."""
    logits = (scale * torch.randn(2, 5, 7, 6)).requires_grad_()
    doubles = logits.detach().double().requires_grad_()
    weights = torch.rand(2, 5, 7, 6)
    probabilities = inputs.LossInput(logits, torch.zeros(2, 7, 6, dtype=torch.uint8)).probabilities
    expected = doubles.softmax(dim=1)
    (weights * probabilities).sum().backward()
    (weights * expected).sum().backward()
    torch.testing.assert_close(probabilities.double(), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(logits.grad.double(), doubles.grad, atol=1e-6, rtol=0)


def test_sums_by_class_of_gpus_are_those_of_cpus():
    """A GPU spreads the pixels over the classes first; here a CPU does, too."""
    logits, label_maps = made_up()
    given = inputs.LossInput(logits, label_maps)
    x = torch.rand(len(logits), 1, *logits.shape[2:]) * given.counted
    of_gpu = inputs._sum(inputs._at_true_class(x, given))
    assert inputs._sum_by_class(x, given).tolist() == pytest.approx(of_gpu.tolist(), rel=1e-6)
    by_hand = [x[:, 0][label_maps == k].sum().item() for k in range(logits.shape[1])]
    assert of_gpu.tolist() == pytest.approx(by_hand, rel=1e-5) and sum(by_hand) > 0


@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("name", ALL)
def test_a_batch_without_a_counted_pixel_costs_nothing(name, classes):
    logits = torch.randn(2, classes, 8, 8, requires_grad=True)
    loss = make_loss(name)(logits, torch.full((2, 8, 8), IGNORE, dtype=torch.uint8))
    loss.backward()
    assert loss == 0 and (logits.grad == 0).all()


@pytest.mark.parametrize("name", [*REGION_LOSSES, "bce", "focal"])
def test_false_positives_of_an_absent_class_are_punished(name):
    logits, label_maps = made_up()
    logits.requires_grad_()
    make_loss(name)(logits, label_maps).backward()
    counted = label_maps != IGNORE
    assert (logits.grad[:, 3][counted] > 0).all()  # downhill means fewer pixels of class 3


def test_doubles_stay_doubles():
    logits, label_maps = made_up()
    assert make_loss("dice+bce")(logits.double(), label_maps).dtype == torch.double


@pytest.mark.parametrize("name", ALL)
def test_shapes_that_do_not_fit_are_refused_and_not_broadcast(name):
    logits, label_maps = made_up()
    for wrong in (
        label_maps[:, None],  # was broadcast over the classes
        label_maps[:1],
        label_maps[:, :1],
        label_maps[..., :1],
        label_maps.long(),
    ):
        with pytest.raises(AssertionError):
            make_loss(name)(logits, wrong)
    with pytest.raises(AssertionError):
        make_loss(name)(logits[0], label_maps)


def label_maps_of(classes, seed=0):
    """Some 2 % of the pixels are ignored, and the last class is rare."""
    rng = torch.Generator().manual_seed(seed)
    drawn = torch.rand((3, 17, 23), generator=rng)
    label_maps = (drawn * (classes - 0.9)).to(torch.uint8)
    return label_maps.where(torch.rand((3, 17, 23), generator=rng) > 0.02, IGNORE)


def test_weighed_and_smoothed_cross_entropy_of_classes_is_that_of_torch():
    logits, label_maps = batch(shape=(3, 4, 17, 23))[0], label_maps_of(4)
    weights = (0.5, 1.0, 2.0, 7.0)
    own = make_loss("ce", options=PixelOptions(weights))(logits, label_maps)
    torchs = {"weight": torch.tensor(weights), "ignore_index": IGNORE}
    assert own.item() == pytest.approx(
        functional.cross_entropy(logits, label_maps.long(), **torchs).item(), rel=1e-5
    )
    smooth = make_loss("ce", options=PixelOptions(label_smoothing=0.2))(logits, label_maps)
    assert smooth.item() == pytest.approx(
        functional.cross_entropy(
            logits, label_maps.long(), ignore_index=IGNORE, label_smoothing=0.2
        ).item(),
        rel=1e-5,
    )


def test_weights_and_smoothing_of_two_classes_by_hand():
    p = torch.tensor([[[[0.8, 0.5, 0.25, 0.5]]]])
    label_map = torch.tensor([[[1, 1, 0, IGNORE]]], dtype=torch.uint8)
    losses = [-math.log(0.8), -math.log(0.5), -math.log(0.75)]
    weighed = make_loss("bce", options=PixelOptions((1.0, 3.0)))(p.logit(), label_map)
    assert weighed.item() == pytest.approx((3 * losses[0] + 3 * losses[1] + losses[2]) / 7)
    smooth = make_loss("bce", options=PixelOptions(label_smoothing=0.2))(p.logit(), label_map)
    flipped = [-math.log(0.2), -math.log(0.5), -math.log(0.25)]
    expected = sum(0.9 * a + 0.1 * b for a, b in zip(losses, flipped, strict=True)) / 3
    assert smooth.item() == pytest.approx(expected)


@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("share", [1e-9, 0.25, 0.5, 1.0])
def test_the_hardest_pixels_are_those_that_sorting_finds(classes, share):
    logits, label_maps = batch(shape=(3, classes, 17, 23))[0], label_maps_of(max(2, classes))
    if classes == 1:
        t = (label_maps == 1).float()
        each = functional.binary_cross_entropy_with_logits(logits[:, 0], t, reduction="none")
    else:
        each = functional.cross_entropy(
            logits, label_maps.long(), ignore_index=IGNORE, reduction="none"
        )
    each = each[label_maps != IGNORE].sort(descending=True).values
    hardest = each[: math.ceil(share * len(each))]
    found = make_loss("ce", options=PixelOptions(ohem=share))(logits, label_maps)
    assert found.item() == pytest.approx(hardest.mean().item(), rel=1e-5)


def test_hard_pixels_of_equal_losses_all_count_and_none_where_all_are_ignored():
    logits, label_maps = torch.zeros(2, 3, 8, 8, requires_grad=True), torch.zeros(2, 8, 8).byte()
    loss_fn = make_loss("ce", options=PixelOptions(ohem=0.1))
    loss = loss_fn(logits, label_maps)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(3))
    assert (logits.grad != 0).all()
    assert loss_fn(logits, torch.full_like(label_maps, IGNORE)).item() == 0


def test_only_hard_pixels_have_a_gradient():
    logits = torch.linspace(-4, 4, 100).view(1, 1, 10, 10).requires_grad_()
    loss_fn = make_loss("bce", options=PixelOptions(ohem=0.2))
    loss_fn(logits, torch.ones(1, 10, 10).byte()).backward()
    assert logits.grad.flatten().nonzero().flatten().tolist() == list(range(20))


@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("name", PIXEL_LOSSES)
def test_pixel_losses_of_the_parts_of_a_step_make_that_of_the_whole(name, weighed, classes):
    """Gradients, too, where ignored pixels are unevenly spread; one part counts no pixel at all."""
    logits, label_maps = batch(shape=(8, classes, 9, 7))
    rng = torch.Generator().manual_seed(1)
    ignored = torch.rand(label_maps.shape, generator=rng) < torch.linspace(0, 1, 8).view(8, 1, 1)
    label_maps[ignored], label_maps[6:] = IGNORE, IGNORE
    weights = tuple([0.5, 3.0, 1.0, 2.0][: max(2, classes)]) if weighed else None
    loss = make_loss(name, options=PixelOptions(weights))
    logits.requires_grad_()
    whole = loss(logits, label_maps)
    (expected,) = torch.autograd.grad(whole, logits)
    parts = [loss(logits[i : i + 2], label_maps[i : i + 2], label_maps) for i in range(0, 8, 2)]
    mean = torch.stack(parts).mean()
    assert parts[3] == 0 and mean.item() == pytest.approx(whole.item(), rel=1e-5)
    torch.testing.assert_close(torch.autograd.grad(mean, logits)[0], expected)
    alone = torch.stack([loss(logits[i : i + 2], label_maps[i : i + 2]) for i in range(0, 8, 2)])
    assert abs(alone.mean() - whole) > 1e-3 * whole  # which is what the parts were before


@pytest.mark.parametrize("name", ALL)
def test_a_part_of_a_step_without_ignored_pixels_is_bit_for_bit_a_batch(name):
    logits, label_maps = batch(shape=(6, 1, 31, 29))
    loss = make_loss(name)
    assert torch.equal(
        loss(logits[:2], label_maps[:2], label_maps), loss(logits[:2], label_maps[:2])
    )


def test_hard_pixels_are_of_each_part():
    logits, label_maps = batch(shape=(6, 3, 9, 7))
    loss = make_loss("ce", options=PixelOptions(ohem=0.3))
    assert torch.equal(
        loss(logits[:2], label_maps[:2], label_maps), loss(logits[:2], label_maps[:2])
    )
