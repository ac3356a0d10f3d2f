"""What a model starts from: weights files of any origin, matched by name and shape."""

import json
import re

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision

from segacc.errors import InputError
from segacc.models.load import load_segmenter
from segacc.models.segmenter import Segmenter
from segacc.models.weights.build import build_model
from segacc.models.weights.local import load_weights
from segacc.models.weights.tensors import match_names


def tiny(architecture="linknet", **kwargs):
    return Segmenter(architecture, "tu-test_resnet", **kwargs)


def encoder_weights(model):
    return {k: v for k, v in model.state_dict().items() if k.startswith("net.encoder.")}


@pytest.mark.parametrize("form", ["run", "folder", "safetensors", "pt", "encoder", "wrapped"])
def test_local_weights_are_loaded_from(form, tmp_path):
    from safetensors.torch import save_file

    torch.manual_seed(1)
    source = tiny()
    state = {k: v.contiguous() for k, v in source.state_dict().items()}
    path = tmp_path / "weights.pt"
    if form == "run":
        source.save_pretrained(tmp_path / "best")
        path = tmp_path
    elif form == "folder":
        source.save_pretrained(tmp_path / "any")
        path = tmp_path / "any"
    elif form == "safetensors":
        path = tmp_path / "weights.safetensors"
        save_file(state, path)
    elif form == "pt":
        torch.save(state, path)
    elif form == "encoder":
        torch.save(source.net.encoder.state_dict(), path)
    else:
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    torch.manual_seed(2)
    built = build_model("linknet", "tu-test_resnet", str(path))
    assert str(path) in built.weights and "tensors loaded" in built.weights
    loaded = built.model.state_dict()
    wanted = encoder_weights(source) if form == "encoder" else source.state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in wanted.items())
    assert ("new, because not in it: net.decoder" in built.weights) == (form == "encoder")


def test_weights_of_another_shape_are_said_to_be_new(tmp_path):
    Segmenter("linknet", "tu-test_resnet", classes=3).save_pretrained(tmp_path)
    said = load_weights(tiny(), tmp_path)
    assert "new, because of another shape there: net.segmentation_head.0.weight" in said


def test_weights_that_fit_nothing_are_refused(tmp_path):
    torch.save({"something.else": torch.zeros(3)}, tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"w.pt has no tensor that fits.*something.else"):
        build_model("linknet", "tu-test_resnet", str(tmp_path / "w.pt"))


def test_weights_of_another_architecture_are_refused(tmp_path):
    """Their mean and std would fit."""
    tiny("linknet").save_pretrained(tmp_path)
    with pytest.raises(InputError, match="has no tensor that fits"):
        build_model("segformer", "resnet34", str(tmp_path))


class Evil:
    def __reduce__(self):
        return print, ("code ran",)


def test_a_weights_file_that_would_run_code_is_refused(tmp_path, capsys):
    torch.save({"a": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match=r"evil.pt cannot be read"):
        build_model("linknet", "tu-test_resnet", str(tmp_path / "evil.pt"))
    assert "code ran" not in capsys.readouterr().out


def test_an_unknown_weights_name_lists_the_known_ones():
    with pytest.raises(InputError, match=r"--weights imagnet is neither a file.*imagenet, none"):
        build_model("linknet", "resnet34", "imagnet")


def smp_net():
    return smp.Linknet("tu-test_resnet", encoder_weights=None, classes=1)


def lightning(path):
    net = smp_net()
    state = {f"model.{k}": v for k, v in net.state_dict().items()}
    buffers = {"mean": torch.zeros(1, 3, 1, 1), "std": torch.ones(1, 3, 1, 1)}
    torch.save({"state_dict": buffers | state, "epoch": 3, "hyper_parameters": {"lr": 0.1}}, path)
    return net


def smp_folder(path):
    net = smp_net()
    net.save_pretrained(path)
    return net


def parallel(path):
    net = smp_net()
    torch.save({f"module.{k}": v for k, v in net.state_dict().items()}, path)
    return net


def compiled(path):
    net = smp_net()
    net.encoder.model = torch.compile(net.encoder.model)
    state = torch.compile(net).state_dict()
    assert "_orig_mod.encoder.model._orig_mod.conv1.0.weight" in state
    torch.save(state, path)
    net.encoder.model = net.encoder.model._orig_mod
    return net


@pytest.mark.parametrize("write", [lightning, smp_folder, parallel, compiled])
def test_whole_models_of_other_programs_are_recognised(write, tmp_path):
    torch.manual_seed(1)
    net = write(tmp_path / "weights")
    torch.manual_seed(2)
    built = build_model("linknet", "tu-test_resnet", str(tmp_path / "weights"))
    loaded = built.model.net.state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in net.state_dict().items() if k in loaded)
    assert "new" not in built.weights, built.weights
    assert (  # timm's for this encoder
        "images normalised by mean 0.5 0.5 0.5 and std 0.5 0.5 0.5 (guessed from" in built.weights
    )


def test_weights_below_any_key_of_a_checkpoint_are_found(tmp_path):
    net = smp_net()
    optimizer = torch.optim.AdamW(net.parameters())
    net.encoder.model(torch.rand(2, 3, 64, 64))[-1].sum().backward()
    optimizer.step()
    beside = {"epoch": torch.tensor(3), "optim": optimizer.state_dict()}
    torch.save(beside | {"weights": net.state_dict()}, tmp_path / "one.pt")
    torch.save({"net": net.state_dict(), "ema": net.state_dict()}, tmp_path / "two.pt")
    torch.save({"epoch": 3, "scores": {"iou": 0.5}}, tmp_path / "none.pt")
    built = build_model("linknet", "tu-test_resnet", str(tmp_path / "one.pt"))
    loaded = built.model.net.state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in net.state_dict().items())
    for name, message in (
        ("two.pt", r"two.pt holds several sets of tensors \(net, ema\): save the one"),
        ("none.pt", "none.pt holds no named tensors: expected a model's state_dict"),
    ):
        with pytest.raises(InputError, match=message):
            build_model("linknet", "tu-test_resnet", str(tmp_path / name))


@pytest.mark.parametrize(
    ("make", "encoder", "prefix"),
    [
        (lambda: timm.create_model("test_resnet"), "tu-test_resnet", "encoder.model."),
        (lambda: timm.create_model("test_convnext"), "tu-test_convnext", "encoder.model."),
        (lambda: timm.create_model("test_vit"), "tu-test_vit", "encoder.model."),
        (torchvision.models.resnet18, "resnet18", "encoder."),
        (torchvision.models.resnet18, "tu-resnet18", "encoder.model."),
    ],
)
def test_encoders_of_timm_and_torchvision_are_recognised(make, encoder, prefix, tmp_path):
    torch.manual_seed(1)
    theirs = make()
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    torch.manual_seed(2)
    architecture = "dpt" if "vit" in encoder else "fpn"
    built = build_model(architecture, encoder, str(tmp_path / "w.pth"))
    flat = {k.replace(".", "_"): v for k, v in theirs.state_dict().items()}
    own = {
        k.removeprefix(prefix): v
        for k, v in built.model.net.state_dict().items()
        if k.startswith("encoder.")
    }
    assert len(own) > 20 and all(torch.equal(v, flat[k.replace(".", "_")]) for k, v in own.items())
    assert "first layer" not in built.weights


def test_older_names_of_torchvisions_densenets_are_recognised():
    own = {"net.encoder.features.denselayer1.norm1.weight": torch.zeros(2)}
    state = {"features.denselayer1.norm.1.weight": torch.zeros(2)}
    assert list(match_names(own, state).values()) == list(state)


@pytest.mark.parametrize("file", ["", "model.safetensors"])
def test_a_folder_of_transformers_is_read_by_the_library(file, tmp_path, capfd):
    """The names in its file are not those in memory: only 8 of 124 are the same."""
    from transformers import (
        SegformerConfig,
        SegformerForSemanticSegmentation,
        SegformerImageProcessor,
    )

    torch.manual_seed(1)
    config = SegformerConfig(
        hidden_sizes=[8, 16, 24, 32], depths=[1] * 4, decoder_hidden_size=16, num_labels=150
    )
    net = SegformerForSemanticSegmentation(config)
    net.save_pretrained(tmp_path)
    if not file:
        processor = SegformerImageProcessor(image_mean=[0.5] * 3, image_std=[0.25] * 3)
        processor.save_pretrained(tmp_path)
    capfd.readouterr()
    built = build_model("segformer", None, str(tmp_path / file))
    assert capfd.readouterr() == ("", "")  # no bar and no report of the library
    loaded = built.model.net.state_dict()
    new = [k for k, v in net.state_dict().items() if not torch.equal(v, loaded[k])]
    assert new == ["decode_head.classifier.weight", "decode_head.classifier.bias"]
    assert "(new: decode_head.classifier.bias, decode_head.classifier.weight)" in built.weights
    if not file:
        assert built.weights.endswith(
            "images normalised by mean 0.5 0.5 0.5 and std 0.25 0.25 0.25"
        )


def test_a_file_of_transformers_without_its_config_is_refused(tmp_path):
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    net = SegformerForSemanticSegmentation(SegformerConfig())
    net.save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(InputError, match=r"of the \d+ tensors of the encoder, by name and shape"):
        build_model("segformer", None, str(tmp_path))


def test_weights_of_a_small_part_of_the_encoder_are_refused(tmp_path):
    state = tiny().net.encoder.state_dict()
    torch.save(dict(list(state.items())[:20]), tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"w.pt has 1\d of the \d+ tensors of the encoder.*random"):
        build_model("linknet", "tu-test_resnet", str(tmp_path / "w.pt"))


@pytest.mark.parametrize("there", [True, False])
def test_a_first_layer_that_does_not_fit_is_named(there, tmp_path):
    state = tiny().net.encoder.state_dict()
    if not there:
        del state["model.conv1.0.weight"]
    torch.save(state, tmp_path / "w.pt")
    built = build_model("linknet", "tu-test_resnet", str(tmp_path / "w.pt"), channels=4)
    why = r"\d+ x 4 x 3 x 3 here and \d+ x 3 x 3 x 3 there" if there else "not in it"
    pattern = rf"the first layer starts random, as net.encoder.model.conv1.0.weight is {why};"
    assert re.search(pattern, built.weights), built.weights


def test_a_model_of_four_channels_is_saved_and_loaded(tmp_path):
    model = tiny(channels=4).eval()
    images = torch.randint(0, 256, (1, 4, 40, 40), dtype=torch.uint8)
    model.save_pretrained(tmp_path)
    again = load_segmenter(tmp_path)
    assert again.channels == 4 and torch.equal(again(images), model(images))
    assert again.mean.flatten()[3] == again.mean.flatten()[0]


def test_a_run_of_segacc_brings_its_own_normalisation(tmp_path):
    source = tiny(mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6], channel_order="BGR")
    source.save_pretrained(tmp_path / "run" / "best")
    built = build_model("linknet", "tu-test_resnet", str(tmp_path / "run"))
    assert built.model.normalisation == source.normalisation
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    assert torch.equal(built.model.eval()(images), source.eval()(images))
    assert "mean 0.1 0.2 0.3 and std 0.4 0.5 0.6, channels as BGR" in built.weights
    config = built.model.config()
    assert (config["mean"], config["channel_order"]) == ([0.1, 0.2, 0.3], "BGR")
    again = load_segmenter(tmp_path / "run")
    assert torch.equal(again(images), source(images))


def test_a_model_of_0_1_0_loads_and_keeps_its_stride(tmp_path):
    """Its config.json says nothing of channels, their order or the stride."""
    model = tiny().eval()
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for name in ("channels", "channel_order", "stride"):
        del config[name]
    (tmp_path / "config.json").write_text(json.dumps(config))
    again = load_segmenter(tmp_path)
    images = torch.randint(0, 256, (1, 3, 40, 50), dtype=torch.uint8)
    assert again.stride == 32 and torch.equal(again(images), model(images))
