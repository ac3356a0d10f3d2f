"""A split in a GPU's memory gives the same batches as the loader."""

import dataclasses

import pytest
import torch
from small import TINY, lines, write_blobs, write_shapes

from segacc.config.flags import parse_train
from segacc.data.loading import start
from segacc.data.loading.augment import D4, FLIP_CODES, View, write_view
from segacc.data.loading.loader import TrainSamples, full_images, to_device, train_loader
from segacc.data.loading.resident import (
    bytes_of,
    fits,
    resident_batches,
    send,
    views_of,
    whole_images,
)
from segacc.data.loading.stream import StepSampler
from segacc.data.loading.workers import WorkerPlan
from segacc.data.prepare import prepare
from segacc.data.reading.convert import convert_folder
from segacc.data.rows import Source
from segacc.labels import IGNORE
from segacc.training.fit import fit

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    return write_blobs(tmp_path_factory.mktemp("data") / "blobs", train=10)


@pytest.fixture(scope="module")
def split(blobs):
    return prepare(Source(convert_folder(blobs)), 64).splits["train"]


def same(these, those):
    return all(torch.equal(these[key], those[key]) for key in ("images", "label_maps", "index"))


@pytest.mark.parametrize("side", [64, 31])
@pytest.mark.parametrize("device", ["cpu", "cuda"][: 1 + torch.cuda.is_available()])
def test_every_view_is_what_the_loader_writes(split, side, device):
    views = [View(3 * (side < 64), side < 64, *way) for way in D4]
    views += [View(0, 64 - side, False, flip) for flip in FLIP_CODES.values()]
    indices = [i % len(split) for i in range(len(views))]
    resident = send(split, torch.device(device))
    batch = {
        key: value.cpu() for key, value in views_of(resident, indices, views, (side, side)).items()
    }
    for place, (index, view) in enumerate(zip(indices, views, strict=True)):
        image, mask = (torch.zeros_like(batch[key][place]) for key in ("images", "label_maps"))
        image, mask = image.contiguous().numpy(), mask.contiguous().numpy()
        write_view(view, split[index][0], image)
        write_view(view, split[index][1], mask)
        assert torch.equal(batch["images"][place], torch.from_numpy(image))
        assert torch.equal(batch["label_maps"][place], torch.from_numpy(mask))


@pytest.mark.parametrize("flips", ["none", "h", "hv", "d4"])
@pytest.mark.parametrize("crop", [None, 40])
def test_the_stream_of_batches_is_that_of_the_loader(split, flips, crop):
    samples = TrainSamples(split, flips, crop, seed=3)
    for rank in range(2):
        share = StepSampler(
            len(split), 8, 3, start=2, stop=9, accumulate=2, rank=rank, world_size=2
        )
        loaded = list(train_loader(samples, share, WorkerPlan(0), pin_memory=False))
        resident = list(resident_batches(send(split, CPU), samples, share))
        assert len(loaded) == len(resident) == 14
        assert all(same(a, b) for a, b in zip(loaded, resident, strict=True))
        for batch in (loaded[0], resident[0]):
            images, label_maps = to_device(batch, CPU)
            assert images.shape[1] == 3 and label_maps.ndim == 3
            assert images.dtype == label_maps.dtype == torch.uint8


@pytest.mark.parametrize("flips", ["none", "hv", "d4"])
@pytest.mark.parametrize("shape", [(40, 64), (64, 40), (24, 30)])
def test_images_smaller_than_the_crop_are_padded_as_the_loader_does(tmp_path, flips, shape):
    small = write_shapes(tmp_path / "small", [shape])
    split = prepare(Source(convert_folder(small)), "native").splits["train"]
    assert split.shape == shape
    samples = TrainSamples(split, flips, 48, seed=3)
    share = StepSampler(len(split), 4, 3, start=0, stop=6)
    loaded = train_loader(samples, share, WorkerPlan(0), pin_memory=False)
    resident = resident_batches(send(split, CPU), samples, share)
    for a, b in zip(loaded, resident, strict=True):
        assert same(a, b)
        inside = min(48, shape[0]) * min(48, shape[1])
        assert (a["label_maps"] != IGNORE).sum() == 4 * inside


def test_images_of_different_sizes_do_not_stay_on_a_gpu(tmp_path, monkeypatch):
    folder = write_shapes(tmp_path / "mixed", [(30, 40), (20, 50)])
    split = prepare(Source(convert_folder(folder)), "native").splits["train"]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**12, 10**12))
    assert not fits(torch.device("cuda"), [split])


def test_whole_images_are_those_of_the_file(split, monkeypatch):
    monkeypatch.setattr(
        "segacc.data.loading.resident.COPIED_BYTES", 3 * 64 * 64 * 4
    )  # in parts of three
    resident, files = send(split, CPU), full_images(split, [7, 0, 7])
    assert bytes_of(split) == resident.pixels.nbytes and len(resident) == len(split)
    batch = whole_images(resident, [7, 0, 7])
    assert torch.equal(batch["images"], files["images"])
    assert torch.equal(batch["label_maps"], files["label_maps"])


def test_images_stay_on_a_gpu_that_has_room_for_four_times_as_much(split, monkeypatch):
    free = 4 * 2 * bytes_of(split)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**12))
    assert fits(torch.device("cuda"), [split, split])
    free -= 1
    assert not fits(torch.device("cuda"), [split, split])
    assert not fits(CPU, [split])


def test_a_run_from_resident_images_is_the_same_run(blobs, tmp_path, monkeypatch, capsys):
    flags = ["--dataset", str(blobs), "--size", "64", "--crop", "32", *TINY]
    flags += ["--weights", "none", "--batch-size", "4", "--epochs", "2", "--tracker", "none"]
    config = parse_train([*flags, "--output-dir", str(tmp_path / "loaded")])
    fit(config)
    assert "0 data workers" in capsys.readouterr().out
    monkeypatch.setattr(start, "fits", lambda device, splits: True)
    fit(dataclasses.replace(config, output_dir=tmp_path / "resident"))
    assert "all images on the GPU" in capsys.readouterr().out
    timed = {"seconds", "img_per_s", "data_wait", "memory_gib"}
    loaded, resident = (
        [{key: value for key, value in line.items() if key not in timed} for line in lines(run)]
        for run in (tmp_path / "loaded", tmp_path / "resident")
    )
    assert len(loaded) == 2 and loaded == resident
