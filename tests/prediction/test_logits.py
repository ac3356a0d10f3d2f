"""Prediction on full images, in one process (several: tests/distributed)."""

from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from small import write_blobs, write_shapes
from torch import nn
from torch.nn import functional

from segacc.data.prepare import prepare
from segacc.data.reading.convert import convert_folder
from segacc.data.rows import Source
from segacc.models.segmenter import Segmenter
from segacc.prediction.logits import predict_logits, predict_split, resize_logits
from segacc.runtime.ranks import gather_images


@pytest.fixture
def accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)
    yield Accelerator(cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)


def rank_of(accelerator, rank, world):
    """What predicting needs to know of a rank."""
    own = {"device": accelerator.device, "autocast": accelerator.autocast}
    return SimpleNamespace(process_index=rank, num_processes=world, **own)


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = write_blobs(tmp_path_factory.mktemp("data") / "blobs", valid=5)
    return prepare(Source(convert_folder(folder)), 50).splits["valid"]


@pytest.mark.parametrize("batch_size", [1, 2, 5, 9])
def test_each_image_is_predicted_whole_and_alone(split, accelerator, batch_size):
    model = Segmenter("linknet", "tu-test_resnet").eval()
    seen = []
    for indices, logits, label_maps in predict_split(model, split, accelerator, batch_size):
        assert logits.shape == (len(indices), 1, 50, 50)
        assert label_maps.shape == (len(indices), 50, 50)
        assert logits.dtype == torch.float32 and not logits.requires_grad
        for index, one, label_map in zip(indices, logits, label_maps, strict=True):
            image, truth = split[index]
            alone = model(torch.from_numpy(image.copy()).permute(2, 0, 1)[None])
            assert torch.allclose(one, alone[0], atol=1e-4)
            assert (label_map.numpy() == truth).all()
        seen += indices
    assert seen == list(range(5))


@pytest.mark.parametrize("way", [{}, {"tta": "hv", "tile": 32}])
def test_the_other_images_of_a_batch_do_not_change_the_logits_of_an_image(split, accelerator, way):
    """Not by a bit: batches are filled up to one shape."""
    model = Segmenter("linknet", "tu-test_resnet").eval()
    whole = [logits for _, logits, _ in predict_split(model, split, accelerator, 3, **way)]
    whole = torch.cat(whole)
    for rank in range(2):
        share = rank_of(accelerator, rank, 2)
        for indices, logits, _ in predict_split(model, split, share, 3, **way):
            assert torch.equal(logits, whole[indices])


@pytest.mark.parametrize("way", [{}, {"tta": "hv", "tile": 32}])
def test_images_of_different_sizes_are_predicted_one_by_one(tmp_path, accelerator, way):
    """So every number of ranks finds the same, to the bit."""
    shapes = [(40, 64), (33, 50), (40, 64), (70, 20)]
    folder = write_shapes(tmp_path / "mixed", shapes, valid=7)
    split = prepare(Source(convert_folder(folder)), "native").splits["valid"]
    model = Segmenter("linknet", "tu-test_resnet").eval()
    alone = []
    for image, _ in split:
        batch = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
        alone.append(predict_logits(model, batch, **way))
    for world in (1, 2, 3):
        seen = []
        for rank in range(world):
            share = rank_of(accelerator, rank, world)
            for (index,), logits, label_maps in predict_split(model, split, share, 3, **way):
                assert torch.equal(logits, alone[index])
                assert (label_maps[0].numpy() == split[index][1]).all()
                seen.append(index)
        assert sorted(seen) == list(range(7))


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_all_ranks_check_equally_often_for_a_signal(split, accelerator, world):
    model = Segmenter("linknet", "tu-test_resnet").eval()
    for rank in range(world):
        scored, share = [], rank_of(accelerator, rank, world)
        for _ in predict_split(model, split, share, 1, scored.append):
            pass
        assert scored == list(range(0, len(split), world))  # of all ranks, before each batch


def test_a_split_is_predicted_with_flips_and_tiles(split, accelerator):
    model = Segmenter("linknet", "tu-test_resnet").eval()
    (predicted,) = predict_split(model, split, accelerator, 5, tta="hv", tile=32)
    for index in predicted[0]:
        image = torch.from_numpy(split[index][0].copy()).permute(2, 0, 1)[None]
        assert torch.equal(predicted[1][index], predict_logits(model, image, "hv", 32)[0])


def noise(height, width, batch=1):
    generator = torch.Generator().manual_seed(height + width)
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=generator)


def pixelwise(classes=1):
    """A model that sees single pixels: tiles and flips change nothing."""
    torch.manual_seed(0)
    return Floating(nn.Conv2d(3, classes, 1))


class Floating(nn.Sequential):
    device = torch.device("cpu")

    def forward(self, images):
        return super().forward(images.float())


@pytest.mark.parametrize("tta", ["none", "h", "hv"])
@pytest.mark.parametrize("size", [(40, 60), (33, 1), (64, 64)])
def test_an_image_in_one_window_is_predicted_as_without_tiles(tta, size):
    model, images = Segmenter("linknet", "tu-test_resnet").eval(), noise(*size, batch=2)
    tiled = predict_logits(model, images, tta, tile=64)
    assert torch.equal(tiled, predict_logits(model, images, tta))
    assert tiled.dtype == torch.float32 and not tiled.requires_grad


@pytest.mark.parametrize("tile", [8, 15, 32, 33])
@pytest.mark.parametrize("size", [(34, 34), (65, 97), (5, 100), (100, 1), (33, 64)])
def test_windows_cover_an_image_of_any_size_once(size, tile):
    images = noise(*size, batch=2)
    model = pixelwise(classes=2)
    logits = predict_logits(model, images, tile=tile)
    assert logits.shape == (2, 2, *size)
    torch.testing.assert_close(logits, model(images).detach(), rtol=1e-5, atol=1e-4)


def test_windows_meet_without_seams():
    """Only at a window's border does it see less than in the image, and there it counts little."""
    torch.manual_seed(0)
    model = Floating(
        nn.Conv2d(3, 4, 5, padding=2, padding_mode="replicate"), nn.ReLU(), nn.Conv2d(4, 1, 1)
    )
    images = noise(150, 210)
    whole, tiled = predict_logits(model, images), predict_logits(model, images, tile=64)
    error = (tiled - whole).abs() / whole.std()
    assert error.max() < 0.02 and error.mean() < 2e-4  # along the image's border as well


@pytest.mark.parametrize("tile", [None, 32])
@pytest.mark.parametrize("tta", ["h", "hv"])
def test_flips_change_nothing_for_a_model_that_they_commute_with(tta, tile):
    images = noise(70, 90)
    expected = pixelwise()(images).detach()
    found = predict_logits(pixelwise(), images, tta, tile)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("tta", "flips"), [("h", [3]), ("hv", [3, 2, (2, 3)])])
def test_the_logits_of_the_flips_are_averaged(tta, flips):
    model, images = Segmenter("linknet", "tu-test_resnet").eval(), noise(64, 96)
    with torch.no_grad():
        single = [model(images)]
        for dims in flips:
            dims = (dims,) if isinstance(dims, int) else dims
            single.append(model(images.flip(dims)).flip(dims))
    expected = torch.stack(single).mean(dim=0)
    found = predict_logits(model, images, tta)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found, single[0], atol=1e-3)  # it did make a difference


def test_flips_of_windows_are_flips_of_the_image_where_the_windows_mirror():
    model, images = Segmenter("linknet", "tu-test_resnet").eval(), noise(64, 96)
    mirrored = predict_logits(model, images.flip(3), tile=64).flip(3)
    expected = (predict_logits(model, images, tile=64) + mirrored) / 2
    found = predict_logits(model, images, "h", tile=64)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_progress_is_told_while_windows_are_predicted():
    shares = []
    predict_logits(pixelwise(), noise(1500, 300), tile=256, progress=shares.append)
    assert shares == sorted(shares) and len(shares) > 5 and 0 < shares[0] < 0.3
    assert shares[-1] == 1


def test_windows_take_no_copy_of_the_image(monkeypatch):
    """MONAI gets an input that takes no memory, so that the image stays uint8 and is not copied."""
    import monai.inferers.utils as monai

    given = []

    def spy(inputs, **options):
        given.append(inputs)
        return original(inputs, **options)

    original = monai.sliding_window_inference
    monkeypatch.setattr(monai, "sliding_window_inference", spy)
    predict_logits(pixelwise(), noise(100, 120), tile=32)
    (inputs,) = given
    assert inputs.untyped_storage().nbytes() == 4


def test_logits_are_resized_bilinearly_and_without_aliasing():
    logits = torch.randn(2, 3, 12, 20, generator=torch.Generator().manual_seed(0))
    assert resize_logits(logits, (12, 20)) is logits
    larger = resize_logits(logits, (31, 77))
    torch.testing.assert_close(larger, functional.interpolate(logits, (31, 77), mode="bilinear"))
    stripes = torch.zeros(1, 1, 64, 64)
    stripes[..., ::2] = 1
    assert (resize_logits(stripes, (16, 16)) - 0.5).abs().max() < 0.1


def test_gathering_in_one_process_changes_nothing(accelerator):
    values = torch.arange(12).view(3, 1, 4)
    assert torch.equal(gather_images(accelerator, 3, values), values)
