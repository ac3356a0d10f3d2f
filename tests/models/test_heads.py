"""--keep-head: the rows of a pretrained head whose classes have the names of ours."""

import json
import os
import subprocess
import sys
import threading
from http.server import ThreadingHTTPServer

import base_tester
import pytest
import torch
from loopback_hub import HubHandler
from small import ROOT
from torch.nn import functional
from transformers import (
    AutoModelForSemanticSegmentation,
    SegformerForImageClassification,
    SegformerImageProcessor,
)

from segacc.config.flags import parse_train
from segacc.errors import InputError
from segacc.labels import BINARY, Labels, colours_for
from segacc.models.huggingface import head_tensors, place_of
from segacc.models.weights.build import build_model

THEIRS = ("wall", "person;individual;someone", "traffic light", "Sky", "wheel, disc")
OURS = ("sky", "pole", "Traffic_Light", "someone")
PLACES = (3, None, 2, 1)  # of ours in theirs
# Of each kind the tensors that have a row for each class.
HEADS = {
    "segformer": ["decode_head.classifier"],
    "beit": ["auxiliary_head.classifier", "decode_head.classifier"],
    "dpt": ["auxiliary_head.head.4", "head.head.4"],
    "mobilenet_v2": ["segmentation_head.classifier.convolution"],
    "mobilevit": ["segmentation_head.classifier.convolution"],
    "mobilevitv2": ["segmentation_head.classifier.convolution"],
    "sapiens2": ["decode_head.predictor"],
    "upernet (ConvNeXt)": ["auxiliary_head.classifier", "decode_head.classifier"],
}


def labels_of(*names):
    return Labels(names, colours_for(names))


def write_pretrained(folder, kind="segformer", names=THEIRS, seed=1):
    """A tiny network of transformers with classes of its own, as save_pretrained writes it."""
    torch.manual_seed(seed)
    config = base_tester.tiny_configs()[kind]
    config.id2label = dict(enumerate(names))
    config.label2id = {name: i for i, name in enumerate(names)}
    net = AutoModelForSemanticSegmentation.from_config(config)
    with torch.no_grad():
        for name in head_tensors(config):
            net.state_dict()[name].normal_()  # biases are 0 otherwise
    net.save_pretrained(folder)
    return net.eval()


def build(folder, labels, name=None, seed=2):
    torch.manual_seed(seed)
    return build_model(name or str(folder), None, str(folder), labels.logits, head_of=labels)


@pytest.mark.parametrize("kind", HEADS)
def test_the_layers_that_have_a_row_for_each_class_are_found(kind):
    config = base_tester.tiny_configs()[kind]
    found = head_tensors(config)
    assert sorted({name.rpartition(".")[0] for name in found}) == HEADS[kind]
    config.num_labels = 7
    state = AutoModelForSemanticSegmentation.from_config(config).state_dict()
    assert all(len(state[name]) == 7 for name in found)


@pytest.mark.parametrize("kind", HEADS)
def test_kept_classes_have_the_logits_of_the_pretrained_model(kind, tmp_path):
    theirs = write_pretrained(tmp_path, kind)
    built = build(tmp_path, labels_of(*OURS))
    torch.manual_seed(3)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        found, expected = built.model.eval().net(images).logits, theirs(images).logits
    assert found.shape[1] == len(OURS)
    for i, place in enumerate(PLACES):
        same = [torch.allclose(found[:, i], row, atol=1e-5) for row in expected.unbind(1)]
        assert same == [other == place for other in range(len(THEIRS))], OURS[i]
    said = "head kept for sky (Sky), Traffic_Light (traffic light), someone (person;individual;"
    assert f"({said}someone), new for pole)" in built.weights


def test_every_pixel_is_that_of_the_librarys_own_preprocessing_and_forward(tmp_path):
    theirs = write_pretrained(tmp_path)
    processor = SegformerImageProcessor(
        image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.25, 0.3], do_resize=False
    )
    processor.save_pretrained(tmp_path)
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    model = build(tmp_path, labels_of(*OURS), "segformer").model.eval()
    with torch.no_grad():
        inputs = processor(list(images.numpy()), return_tensors="pt")
        expected = functional.interpolate(theirs(**inputs).logits, size=(64, 96), mode="bilinear")
        found = model(images)
    kept = [i for i, place in enumerate(PLACES) if place is not None]
    there = [place for place in PLACES if place is not None]
    torch.testing.assert_close(found[:, kept], expected[:, there], rtol=1e-4, atol=1e-4)


def test_as_many_classes_in_another_order_are_put_into_ours(tmp_path):
    """No shape differs then, so that a whole head would be taken as it is."""
    theirs = write_pretrained(tmp_path)
    order = [4, 2, 0, 3, 1]
    model = build(tmp_path, labels_of(*(THEIRS[i] for i in order))).model
    found, expected = model.net.decode_head.classifier, theirs.decode_head.classifier
    assert torch.equal(found.weight, expected.weight[order])
    assert torch.equal(found.bias, expected.bias[order])


def test_new_rows_are_initialised_as_the_library_does_and_depend_on_the_seed_only(tmp_path):
    theirs = write_pretrained(tmp_path)
    models = [build(tmp_path, labels_of(*OURS), seed=seed).model for seed in (2, 2, 3)]
    rows = [model.net.decode_head.classifier.weight[1] for model in models]
    assert torch.equal(rows[0], rows[1]) and not torch.equal(rows[0], rows[2])
    assert models[0].net.decode_head.classifier.bias[1] == 0
    assert 0 < rows[0].std() < 3 * theirs.config.initializer_range


def difference(net, foreground, background):
    weight, bias = (net.state_dict()[f"decode_head.classifier.{n}"] for n in ("weight", "bias"))
    return weight[foreground] - weight[background], bias[foreground] - bias[background]


def test_the_logit_of_two_classes_is_the_softmax_over_their_two_rows(tmp_path):
    theirs = write_pretrained(tmp_path)
    built = build(tmp_path, labels_of("wall", "person"))
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        found = built.model.eval().net(images).logits.sigmoid()
        both = theirs(images).logits[:, [0, 1]].softmax(dim=1)
    torch.testing.assert_close(found[:, 0], both[:, 1])


def test_the_logit_of_two_classes_keeps_the_row_of_the_one_that_agrees(tmp_path):
    theirs = write_pretrained(tmp_path)
    built = build(tmp_path, labels_of("background", "person"))
    assert "head kept for person (person;individual;someone), new for background" in built.weights
    row = built.model.net.decode_head.classifier.weight[0] - theirs.decode_head.classifier.weight[1]
    assert 0 < row.abs().max() < 0.2  # of a new row, those of theirs are drawn from N(0, 1)


@pytest.mark.parametrize(("name", "sign"), [("gland", 1), ("background", -1)])
def test_a_head_of_one_row_is_a_logit_already(name, sign, tmp_path):
    theirs = write_pretrained(tmp_path, names=[name])
    model = build(tmp_path, labels_of("background", "gland")).model
    found, expected = model.net.decode_head.classifier, theirs.decode_head.classifier
    assert torch.equal(found.weight, sign * expected.weight)
    assert torch.equal(found.bias, sign * expected.bias)


@pytest.mark.parametrize(
    ("name", "names", "place"),
    [
        ("Traffic-Light", ["light", "traffic light"], 1),
        ("door", ["screen;door;screen", "door;double;door"], 1),  # of ADE20K
        ("door", ["door;double;door", "door"], 1),
        ("individual", ["wall", "person, individual,  someone"], 1),
        ("auto; car", ["bus", "car"], 1),
        ("road", ["crossroad", "road route"], None),
        ("bed", ["bed "], 0),  # of nvidia/segformer-b0-finetuned-ade-512-512
        ("LABEL_1", ["LABEL_0", "LABEL_1"], 1),
        ("Straße", ["STRASSE"], 0),
        ("-", ["-", ""], None),
    ],
)
def test_names_agree_where_one_synonym_does(name, names, place):
    assert place_of(name, names) == place


def test_no_name_that_agrees_is_refused_with_the_names_of_both(tmp_path):
    write_pretrained(tmp_path)
    with pytest.raises(InputError) as raised:
        build(tmp_path, BINARY)
    assert "none of the classes background, foreground (2 in all) has the name" in str(raised.value)
    assert "which are wall, person;individual;someone, traffic light, Sky" in str(raised.value)


def test_weights_without_a_head_of_segmentation_are_refused(tmp_path):
    """Their config names classes, too: those of whole images."""
    config = base_tester.tiny_configs()["segformer"]
    config.id2label = dict(enumerate(THEIRS))
    SegformerForImageClassification(config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="has no head of semantic segmentation"):
        build(tmp_path, labels_of(*OURS))


def test_a_file_that_does_not_name_its_classes_is_refused(tmp_path):
    write_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(InputError, match="--keep-head: .* does not name the classes of its head"):
        build(tmp_path, labels_of(*OURS), "segformer")


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (["--model", "unet"], "--model unet"),
        (["--model", "linknet", "--weights", "none"], "--model linknet"),
        (["--model", "segformer", "--weights", "none"], "--weights none"),
        (["--model", "owner/name", "--weights", "none"], "--weights none"),
    ],
)
def test_a_model_without_a_pretrained_head_is_refused_at_once(flags, what):
    with pytest.raises(InputError, match=f"--keep-head has no effect on {what}: it needs a model"):
        parse_train([*flags, "--keep-head"])
    assert parse_train(["--model", "segformer", "--keep-head"]).keep_head


ON_THE_HUB = """
import json, torch
from segacc.labels import Labels, colours_for
from segacc.models.weights.build import build_model
names = ("sky", "pole", "wall")
built = build_model("me/tiny", None, "me/tiny", 3, head_of=Labels(names, colours_for(names)))
print(json.dumps([built.weights, built.model.net.decode_head.classifier.bias.tolist()]))
"""


def test_a_head_of_the_hub_is_kept(tmp_path):
    """In another process: the address of the Hub is read when its client is imported."""
    theirs = write_pretrained(tmp_path / "tiny")
    files = {path.name: path.read_bytes() for path in (tmp_path / "tiny").iterdir()}
    HubHandler.repositories = {"me/tiny": files}
    server = ThreadingHTTPServer(("127.0.0.1", 0), HubHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", ON_THE_HUB],
        cwd=ROOT,
        env=os.environ | address,
        capture_output=True,
        text=True,
        timeout=120,
    )
    server.shutdown()
    server.server_close()
    assert done.returncode == 0, done.stderr[-3000:]
    said, bias = json.loads(done.stdout.splitlines()[-1])
    expected = theirs.decode_head.classifier.bias.tolist()
    assert bias == pytest.approx([expected[3], 0, expected[0]])
    assert said.startswith("me/tiny (head kept for sky (Sky), wall, new for pole)")
