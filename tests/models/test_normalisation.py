"""Images are scaled as they were when the weights were pretrained."""

import numpy as np
import pytest
import torch
from segmentation_models_pytorch.encoders import preprocess_input
from torch import Tensor

from segacc.models.normalisation import (
    Normalisation,
    from_config,
    from_image_processor,
    from_smp,
    from_timm,
)
from segacc.models.segmenter import Segmenter

IMAGES = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)


def network_input(normalisation: Normalisation, images: Tensor = IMAGES) -> Tensor:
    model = Segmenter("linknet", "tu-test_resnet").eval()
    model.normalise_by(normalisation)
    found = []
    model.net.register_forward_pre_hook(lambda module, args: found.append(args[0]))
    model(images)
    return found[0]


PROCESSORS = [
    ("SegformerImageProcessor", {}),
    ("BeitImageProcessor", {}),
    ("BeitImageProcessor", {"do_rescale": False, "image_mean": [120.0, 110, 100]}),
    ("BeitImageProcessor", {"rescale_factor": 1 / 127.5, "image_std": [0.5, 0.6, 0.7]}),
    ("MobileViTImageProcessor", {}),  # turns the channels to BGR, and has no mean
    ("DPTImageProcessor", {"do_normalize": False}),
]


@pytest.mark.parametrize(("kind", "options"), PROCESSORS)
def test_what_an_image_processor_does_is_done(kind, options, tmp_path):
    import transformers

    plain = {"do_resize": False, "do_center_crop": False, "do_pad": False}
    processor = getattr(transformers, kind)(**plain, **options)
    processor.save_pretrained(tmp_path)
    theirs = processor(IMAGES[0], return_tensors="pt", input_data_format="channels_first")
    found = from_image_processor(tmp_path)
    assert found is not None
    torch.testing.assert_close(network_input(found), theirs["pixel_values"], atol=1e-4, rtol=1e-5)


def test_a_folder_without_an_image_processor_says_nothing(tmp_path):
    assert from_image_processor(tmp_path) is None


SMP = [
    {"mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.3]},
    {"mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.3], "input_space": "BGR"},
    {"mean": [104.0, 117, 123], "std": [1.0, 1, 1], "input_space": "BGR", "input_range": [0, 255]},
]


@pytest.mark.parametrize("config", SMP)
def test_what_smp_does_before_a_pretrained_encoder_is_done(config, monkeypatch, tmp_path):
    import json

    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(
        "segmentation_models_pytorch.encoders.hf_hub_download",
        lambda repo_id, filename, revision: str(tmp_path / filename),
    )
    wide = {"input_range": [0, 1], "input_space": "RGB", **config}
    theirs = preprocess_input(IMAGES[0].permute(1, 2, 0).numpy().astype(np.float64), **wide)
    for found in (from_smp("resnet34", "imagenet"), from_config(config)):
        ours = network_input(found)[0].permute(1, 2, 0).double().numpy()
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_timm_says_what_its_weights_expect():
    half = Normalisation((0.5,) * 3, (0.5,) * 3)
    assert from_timm("timm-tf_efficientnet_lite0") == from_timm("xception") == half
    assert from_timm("tu-resnet50.a1_in1k") == from_timm("resnet34") == Normalisation()
    dpn = from_timm("dpn68")
    assert dpn is not None and dpn.std[0] == pytest.approx(1 / (0.0167 * 255))
    assert from_timm("no-such-encoder") is None


def test_a_folder_of_timm_says_what_its_weights_expect():
    config = {"architecture": "resnet18", "pretrained_cfg": {"mean": [0.1] * 3, "std": [0.2] * 3}}
    assert from_config(config) == Normalisation((0.1,) * 3, (0.2,) * 3)
    assert from_config({"model_type": "segformer"}) is None
