"""Prediction on full images, in one process (several: tests/distributed)."""

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from small import write_blobs

from segacc.data.convert import convert_folder
from segacc.data.prepare import prepare
from segacc.inference import gather_images, predict_split
from segacc.models import Segmenter


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
    return prepare(convert_folder(folder), 50).splits["valid"]


@pytest.mark.parametrize("batch_size", [1, 2, 5, 9])
def test_each_image_is_predicted_whole_and_alone(split, accelerator, batch_size):
    model = Segmenter("linknet", "tu-test_resnet").eval()
    seen = []
    for indices, logits, masks in predict_split(model, split, accelerator, batch_size):
        assert logits.shape == masks.shape == (len(indices), 1, 50, 50)
        assert logits.dtype == torch.float32 and not logits.requires_grad
        for index, one, mask in zip(indices, logits, masks, strict=True):
            image, truth = split[index]
            alone = model(torch.from_numpy(image.copy()).permute(2, 0, 1)[None])
            assert torch.allclose(one, alone[0], atol=1e-4)
            assert (mask[0].numpy() == truth).all()
        seen += indices
    assert seen == list(range(5))


def test_what_is_beside_an_image_does_not_change_its_logits(split, accelerator):
    """Not by a bit: batches are filled up to one shape."""
    model = Segmenter("linknet", "tu-test_resnet").eval()
    whole = torch.cat([logits for _, logits, _ in predict_split(model, split, accelerator, 3)])
    for rank in range(2):
        share = rank_of(accelerator, rank, 2)
        for indices, logits, _ in predict_split(model, split, share, 3):
            assert torch.equal(logits, whole[indices])


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_all_ranks_check_equally_often_for_a_signal(split, accelerator, world):
    model = Segmenter("linknet", "tu-test_resnet").eval()
    calls = Counter()
    for rank in range(world):
        share = rank_of(accelerator, rank, world)
        for _ in predict_split(model, split, share, 1, lambda rank=rank: calls.update([rank])):
            pass
    assert set(calls.values()) == {-(-len(split) // world)} and len(calls) == world


def test_gathering_in_one_process_changes_nothing(accelerator):
    values = torch.arange(12).view(3, 1, 4)
    assert torch.equal(gather_images(accelerator, 3, values), values)
