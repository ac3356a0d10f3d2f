"""segacc export: what was written computes what the model computes, also without segacc."""

import json
import re
import subprocess
import sys
import zipfile

import numpy as np
import onnxruntime
import pytest
import torch
from base_tester import tiny_configs
from PIL import Image
from small import ROOT

import segacc.export.export as module
from segacc.errors import InputError
from segacc.export.export import export
from segacc.labels import Labels, colours_for
from segacc.metrics.counts import class_probabilities
from segacc.models.load import load_predictor, load_segmenter
from segacc.models.onnx_model import OnnxSegmenter
from segacc.models.segmenter import Segmenter
from segacc.prediction.files import predict_images
from segacc.prediction.find import plan
from segacc.prediction.logits import predict_logits

NAMES = ("ground", "disc", "box")


def save(folder, *arguments, **options):
    """A model with random weights, as from_pretrained opens it; its logits are spread out."""
    torch.manual_seed(0)
    model = Segmenter(*arguments, **options)
    with torch.no_grad():
        for buffer in (b for name, b in model.net.named_buffers() if name.endswith("running_var")):
            buffer.mul_(0.5)
    model.eval().save_pretrained(folder)
    return str(folder)


def save_settled(folder, *arguments, **options):
    """Like `save`, with BatchNorm's statistics of the noise that it is compared on. In a deep
    network logits would grow layer by layer, and so would the rounding of all formats."""
    torch.manual_seed(0)
    model = Segmenter(*arguments, **options).train()
    for layer in model.modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            layer.momentum = 0.5
    with torch.no_grad():
        for _ in range(8):
            model(noise(4, 128, 128))
    model.eval().save_pretrained(folder)
    return str(folder)


def of_classes(folder):
    labels = Labels(NAMES, colours_for(NAMES)).to_config()
    return save(folder, "linknet", "tu-test_resnet", classes=3, labels=labels)


def transformers_model(folder, classes, **options):
    config = tiny_configs()["segformer"].to_dict()
    return save(folder, "transformers", classes=classes, backbone_config=config, **options)


def noise(batch, height, width):
    rng = np.random.default_rng(height)
    return torch.from_numpy(rng.integers(0, 256, (batch, 3, height, width), dtype=np.uint8))


def run_without_segacc(code, cwd, *missing):
    """Run Python that cannot import segacc."""
    block = f"import sys; sys.modules.update(dict.fromkeys({['segacc', *missing]}))\n"
    done = subprocess.run(
        [sys.executable, "-c", block + code], cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def masks_of(model, images, out, **options):
    done = predict_images(load_predictor(model), plan(images, out), **options)
    assert not done.failed
    return [np.asarray(Image.open(file)) for file in sorted(out.rglob("*.png"))]


@torch.no_grad()
def test_an_onnx_file_takes_any_batch_and_size(run, onnx_files):
    model, session = load_segmenter(run), onnxruntime.InferenceSession(onnx_files[0])
    assert session.get_inputs()[0].shape == ["batch", 3, "height", "width"]
    assert [output.name for output in session.get_outputs()] == ["probabilities", "mask", "logits"]
    for images in (noise(2, 64, 64), noise(1, 37, 90), noise(3, 65, 33), noise(1, 5, 7)):
        maps, mask, logits = session.run(None, {"images": images.numpy()})
        expected = model(images)
        assert expected.std() > 0.1  # else a wrong file would pass
        np.testing.assert_allclose(logits, expected.numpy(), atol=1e-4)
        np.testing.assert_allclose(maps, expected.sigmoid().numpy(), atol=1e-5)
        np.testing.assert_array_equal(mask, maps[:, 0] > model.threshold)


def test_what_was_compared_is_printed(run, onnx_files):
    printed = onnx_files[2]
    differences = [float(found) for found in re.findall(r"\d\.\de[-+]\d+$", printed, re.M)]
    assert len(differences) == 6 and max(differences) < 1e-4
    iou, own, lower = (
        float(re.search(rf"{before} (\d\.\d{{4}})", printed)[1])
        for before in ("segacc", "this file", "float32,")
    )
    assert 0.5 < iou <= 1 and own == pytest.approx(iou, abs=1e-4)
    assert lower == pytest.approx(iou, abs=0.1)
    assert onnx_files[1].stat().st_size < 0.5 * onnx_files[0].stat().st_size


def test_the_metadata_say_what_the_values_mean(run, onnx_files):
    about = OnnxSegmenter(onnx_files[0]).metadata
    model, best = load_segmenter(run), json.loads((run / "config.json").read_text())
    assert about["classes"] == ["background", "foreground"]
    assert (about["threshold"], about["size"], about["at"]) == (model.threshold, [64, 64], None)
    assert about["run_id"] == best["run_id"] and about["dataset"] == "blobs"
    assert about["commit"] == best["git_commit"]
    assert 0.2 < about["scores"]["valid_iou"] <= 1
    assert str(run.parent) not in json.dumps(about)  # no path of this machine


@pytest.mark.parametrize("options", [{}, {"tta": "hv"}, {"tile": 32, "tta": "h"}, {"size": 80}])
def test_predict_writes_the_masks_of_the_model(run, onnx_files, tmp_path, options):
    images = [run.parent / "blobs" / "test" / f"test{i}.jpg" for i in range(3)]
    theirs = masks_of(run, images, tmp_path / "model", **options)
    ours = masks_of(onnx_files[0], images, tmp_path / "onnx", **options)
    assert len(ours) == 3 and {0, 255} == {*np.unique(theirs).tolist()}
    np.testing.assert_array_equal(ours, theirs)


def test_the_example_needs_neither_segacc_nor_torch(run, onnx_files, tmp_path):
    image = run.parent / "blobs" / "test" / "test0.jpg"
    code = (ROOT / "examples" / "predict_onnx.py").read_text()
    assert len([line for line in code.splitlines() if line.strip()]) < 35
    arguments = ["predict_onnx.py", str(onnx_files[0]), str(image), "mask.png"]
    run_without_segacc(f"sys.argv = {arguments}\n{code}", tmp_path, "torch", "cv2")
    (theirs,) = masks_of(run, [image], tmp_path / "masks")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "mask.png")), theirs)


@torch.no_grad()
def test_classes_and_float_pixels(tmp_path):
    folder = of_classes(tmp_path / "model")
    (path,) = export(folder, "onnx", tmp_path / "deep" / "classes.onnx", pixels="float32")
    exported, model, images = OnnxSegmenter(path), load_segmenter(folder), noise(2, 50, 70)
    found, expected = exported.run(images), model(images)
    torch.testing.assert_close(found["probabilities"], expected.softmax(1), atol=1e-4, rtol=0)
    assert found["mask"].equal(expected.argmax(1).to(torch.uint8))
    assert exported.labels.names == NAMES
    smooth = images.float() + 0.25  # no whole numbers
    torch.testing.assert_close(exported(smooth), model(smooth), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(
        predict_logits(exported, images, "h", tile=32).softmax(1),
        predict_logits(model, images, "h", tile=32).softmax(1),
        atol=1e-4,
        rtol=0,
    )


@torch.no_grad()
@pytest.mark.parametrize("to", ["onnx", "pt2", "smp"])
def test_nothing_of_this_machine_is_in_what_was_exported(run, tmp_path, to):
    """Such as the stack traces that torch stores, with the name of the user in their paths."""
    name = "out" if to == "smp" else f"out.{to}"
    (path,) = export(str(run), to, tmp_path / name)
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    for file in files:
        parts = [file.read_bytes()]
        if zipfile.is_zipfile(file):
            archive = zipfile.ZipFile(file)
            parts = [archive.read(part) for part in archive.namelist()]
        for place in (run, ROOT, sys.prefix):
            assert not any(str(place).encode() in part for part in parts), (file, place)


def test_pt2_opens_without_segacc_and_resizes_inside(run, tmp_path):
    (path,) = export(str(run), "pt2", tmp_path / "model.pt2", at=48)
    images = noise(2, 70, 55)
    torch.save(images, tmp_path / "images.pt")
    code = "import torch\nmodule = torch.export.load('model.pt2').module()\n"
    code += "torch.save(module(torch.load('images.pt')), 'found.pt')\n"
    run_without_segacc(code, tmp_path, "segmentation_models_pytorch")
    probabilities, mask = torch.load(tmp_path / "found.pt")
    expected, masks = module.reference_of(load_segmenter(run), 48)(images)
    assert probabilities.shape == (2, 1, 70, 55) and probabilities.std() > 0.01
    torch.testing.assert_close(probabilities, expected, atol=1e-3, rtol=0)
    assert (mask != masks).float().mean() < 1e-3
    assert path == tmp_path / "model.pt2"


def readme_code(folder, image):
    """The Python in a README.md, with our folder and our image."""
    code = re.search("```python\n(.*?)```", (folder / "README.md").read_text(), re.S)[1]
    assert code.count("PATH") == 2
    return code.replace("PATH", str(folder)).replace("IMAGE", str(image)) + (
        "\nImage.fromarray(mask[0].numpy().astype('uint8')).save('mask.png')\n"
    )


def check_readme(folder, source, image, tmp_path):
    """What it says works without segacc, and gives the mask of `segacc predict`."""
    run_without_segacc(readme_code(folder, image), tmp_path)
    (theirs,) = masks_of(source, [image], tmp_path / "masks")
    found = np.asarray(Image.open(tmp_path / "mask.png"))
    assert {*np.unique(found).tolist()} == {0, 1}
    np.testing.assert_array_equal(255 * found, theirs)


def test_the_readme_of_an_smp_folder_works_without_segacc(run, tmp_path):
    (folder,) = export(str(run), "smp", tmp_path / "folder")
    check_readme(folder, run, run.parent / "blobs" / "test" / "test1.jpg", tmp_path)


@torch.no_grad()
def test_the_readme_of_a_transformers_folder_works_without_segacc(run, tmp_path):
    image = run.parent / "blobs" / "test" / "test1.jpg"
    source = transformers_model(tmp_path / "model", 1)
    model, pixels = load_segmenter(source), np.array(Image.open(image))
    model.threshold = model(torch.from_numpy(pixels).permute(2, 0, 1)[None]).sigmoid().median()
    model.threshold = round(model.threshold.item(), 5)
    model.save_pretrained(source)
    (folder,) = export(source, "transformers", tmp_path / "folder")
    check_readme(folder, source, image, tmp_path)
    names = json.loads((folder / "config.json").read_text())["id2label"]
    assert names == {"0": "background", "1": "foreground"}


def test_folders_of_the_libraries_hold_classes(tmp_path):
    """What is written is opened again and compared; here are only the names to see."""
    export(of_classes(tmp_path / "smp"), "smp", tmp_path / "smp-folder")
    labels = Labels(NAMES, colours_for(NAMES)).to_config()
    source = transformers_model(tmp_path / "model", 3, labels=labels, size=(64, 32))
    (folder,) = export(source, "transformers", tmp_path / "folder")
    names = json.loads((folder / "config.json").read_text())["id2label"]
    assert names == {"0": "ground", "1": "disc", "2": "box"}
    size = json.loads((folder / "preprocessor_config.json").read_text())["size"]
    assert size == {"height": 32, "width": 64}


def test_an_export_that_differs_is_not_kept(run, tmp_path, monkeypatch):
    right = module.write_smp

    def wrong(model, folder):
        model = load_segmenter(run)
        model.net.segmentation_head[0].bias.data += 0.01
        right(model, folder)

    monkeypatch.setattr(module, "write_smp", wrong)
    with pytest.raises(InputError, match=r"was not kept: it differs .* by up to 2\.\de-03 in a"):
        export(str(run), "smp", tmp_path / "out" / "folder")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("to", "options", "said"),
    [
        ("transformers", {}, "linknet is a network of segmentation_models_pytorch: give --to smp"),
        ("smp", {"at": 64}, "--at and --pixels are for onnx and pt2"),
        ("pt2", {"int8": True}, "--int8 is for --to onnx"),
        ("onnx", {"out": "model.pt2"}, "expected a name that ends in .onnx"),
        ("onnx", {"out": "there.onnx"}, "there.onnx is there already"),
        ("onnx", {"int8": True}, "--int8 needs training images"),
    ],
)
def test_what_cannot_be_exported_is_said_in_a_sentence(tmp_path, monkeypatch, to, options, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.onnx").write_text("mine")
    folder = save(tmp_path / "model", "linknet", "tu-test_resnet")
    if "out" in options:
        options = {"out": tmp_path / options["out"]}
    with pytest.raises(InputError, match=re.escape(said)):
        export(folder, to, **options)
    assert (tmp_path / "there.onnx").read_text() == "mine"


def test_a_transformers_model_is_not_for_smp(tmp_path):
    source = transformers_model(tmp_path / "model", 1)
    with pytest.raises(InputError, match="of the library transformers: give --to transformers"):
        export(source, "smp", tmp_path / "folder")


def test_a_network_of_one_size_is_not_kept(tmp_path):
    """DPT of transformers computes with the number of patches, which torch then takes for fixed."""
    config = tiny_configs()["dpt"].to_dict()
    source = save(tmp_path / "model", "transformers", backbone_config=config)
    with pytest.raises(InputError, match=r"was not kept: it does not take images of every size"):
        export(source, "pt2", tmp_path / "out" / "model.pt2")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_that_is_not_ours_is_refused(tmp_path, onnx_files):
    (tmp_path / "broken.onnx").write_bytes(b"no protobuf")
    with pytest.raises(InputError, match=r"broken\.onnx cannot be read as ONNX"):
        load_predictor(tmp_path / "broken.onnx")
    import onnx

    foreign = onnx.load(onnx_files[0])
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    with pytest.raises(InputError, match="does not say what its values mean"):
        load_predictor(tmp_path / "foreign.onnx")


REAL = [
    *((name, "resnet34") for name in ("unet", "fpn", "pspnet", "linknet", "deeplabv3plus")),
    ("unetplusplus", "timm-tf_efficientnet_lite0"),
    ("upernet", "tu-convnext_atto"),
    *(("transformers", name) for name in ("segformer", "mobilenet_v2", "sapiens2")),
]


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("architecture", "encoder"), REAL)
def test_real_models_are_exported_in_every_format(tmp_path, architecture, encoder, capsys):
    if architecture == "transformers":
        config = tiny_configs()[encoder].to_dict()
        source = save_settled(tmp_path / "model", architecture, backbone_config=config)
    else:
        source = save_settled(tmp_path / "model", architecture, encoder)
    for to in ("onnx", "pt2", "transformers" if architecture == "transformers" else "smp"):
        (path,) = export(source, to, tmp_path / f"{to}.{to}")
        assert path.exists()
        if to in ("onnx", "pt2"):
            export(source, to, tmp_path / f"at.{to}", at=(96, 64))
    with torch.no_grad():
        assert class_probabilities(load_segmenter(source)(noise(1, 64, 64))).std() > 1e-3


@pytest.mark.soak
@pytest.mark.parametrize("name", ["beit", "upernet (Swin)"])
def test_a_network_that_onnx_fixes_to_one_size_is_refused_in_a_sentence(tmp_path, name):
    config = tiny_configs()[name].to_dict()
    source = save_settled(tmp_path / "model", "transformers", backbone_config=config)
    with pytest.raises(InputError, match="was not kept: it does not take images of every size"):
        export(source, "onnx", tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()
