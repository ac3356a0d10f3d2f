"""segacc.predict(), load() and evaluate(): equal to what the commands write."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from small import TINY, run_program, write_blobs, write_classes

import segacc

FLAGS = {"model": TINY[1], "encoder": TINY[3], "weights": "none", "size": 48, "batch_size": 4}
FLAGS |= {"tracker": "none", "epochs": 2}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of data, and a run on it, of two classes and of three."""
    folder = tmp_path_factory.mktemp("predict")
    found = {}
    for name, write in (("blobs", write_blobs), ("classes", write_classes)):
        data = write(folder / name)
        run = segacc.train(dataset=data, **FLAGS, output_dir=folder / f"run-{name}")
        found[name] = (data, run)
    return found


@pytest.mark.parametrize("name", ["blobs", "classes"])
def test_masks_are_those_that_the_command_writes(made, tmp_path, name):
    data, run = made[name]
    files = sorted(p for p in (data / "test").iterdir() if p.suffix in (".jpg", ".bmp"))
    done = run_program("-m", "segacc", "predict", run.path, *files, "--out", tmp_path / "masks")
    assert done.returncode == 0, done.stderr
    pil = [Image.open(file) for file in files]
    arrays = [np.array(image) for image in pil]
    for images in (files, map(str, files), pil, arrays, np.stack(arrays)):
        masks = segacc.predict(run, images)
        assert len(masks) == len(files)
        for mask, file in zip(masks, files, strict=True):
            written = np.array(Image.open(tmp_path / "masks" / f"{file.stem}.png"))
            if name == "blobs":
                assert mask.dtype == bool
                written = written == 255
            np.testing.assert_array_equal(mask, written)


def test_images_of_other_sizes_modes_and_options(made):
    _, run = made["blobs"]
    model = segacc.load(run)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (50, 70, 3), dtype=np.uint8)
    grey = image[..., 0]
    same = [grey, Image.fromarray(grey), np.repeat(grey[..., None], 3, axis=2)]
    masks = segacc.predict(model, [image, *same], tta="hv", size="native")
    assert [mask.shape for mask in masks] == [(50, 70)] * 4
    np.testing.assert_array_equal(masks[1], masks[2])
    np.testing.assert_array_equal(masks[1], masks[3])
    everything = segacc.predict(model, image, threshold=1e-6, tile=32)[0]
    assert everything.all() and not segacc.predict(model, image, threshold=1 - 1e-6)[0].all()
    turned = Image.fromarray(image)
    turned.getexif()[0x0112] = 6  # as a phone stores it: viewers turn it
    assert segacc.predict(model, [turned])[0].shape == (70, 50)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    [mask] = segacc.predict(model, tensor)
    np.testing.assert_array_equal(mask, segacc.predict(model, image)[0])
    [small] = segacc.predict(model, image, size="64x32")
    np.testing.assert_array_equal(small, segacc.predict(model, image, size=(64, 32))[0])


@pytest.mark.parametrize(
    ("image", "options", "sentence"),
    [
        (np.zeros((8, 8, 3)), {}, r"image 0 is of the shape \(8, 8, 3\) and the type float64"),
        (np.zeros((0, 8, 3), np.uint8), {}, r"image 0 is of the shape \(0, 8, 3\)"),
        (np.zeros((8, 8, 3), np.uint8), {"size": "abc"}, "size='abc'"),
        ("nowhere.png", {}, "nowhere.png"),
        (np.zeros((8, 8, 3), np.uint8), {"tile": 8}, "--tile 8"),
        (Image.new("F", (8, 8)), {}, "pixel type F"),
    ],
)
def test_what_cannot_be_predicted_is_named(made, image, options, sentence):
    with pytest.raises(segacc.InputError, match=sentence):
        segacc.predict(made["blobs"][1], [image], **options)


def test_scores_are_those_of_the_files(made):
    _, run = made["classes"]
    scores = segacc.evaluate(run, split="valid", batch_size=2)
    record = json.loads((run.path / "valid" / "metrics.json").read_text())
    assert scores.folder == run.path / "valid" and scores.report.is_file()
    assert scores.iou == record["scores"]["iou"]["value"] and scores.threshold is None
    assert scores.all["dice"].low <= scores.all["dice"].value <= scores.all["dice"].high
    assert list(scores.per_class) == ["ground", "disc", "box"]
    assert scores.per_class["disc"]["iou"].value == record["per_class"][1]["iou"]["value"]
    rows = list(csv.DictReader((run.path / "valid" / "per_image.csv").open()))
    assert [row["name"] for row in scores.per_image] == [row["name"] for row in rows]
    assert scores.per_image[0]["iou"] == float(rows[0]["iou"])
    with pytest.raises(TypeError, match="did you mean split"):
        segacc.evaluate(run, splits="valid")
    with pytest.raises(segacc.InputError, match="--split nothing"):
        segacc.evaluate(run, split="nothing")


def test_a_model_is_loaded_from_a_run_and_from_an_export(made, tmp_path):
    from segacc.export.export import export

    _, run = made["blobs"]
    [path] = export(str(run.path), "onnx", tmp_path / "model.onnx")
    image = np.array(Image.open(made["blobs"][0] / "test" / "test0.jpg"))
    np.testing.assert_array_equal(segacc.predict(path, [image]), segacc.predict(run, [image]))
