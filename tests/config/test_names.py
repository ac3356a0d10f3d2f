"""Names as people write them, and what can only be a path."""

import pytest
import segmentation_models_pytorch as smp
from segmentation_models_pytorch.encoders import encoders

from segacc.config.defaults import fill
from segacc.config.flags import parse_train
from segacc.config.names import ENCODERS, MODELS, check_place, encoder_name, is_path, model_name
from segacc.config.train import TrainConfig
from segacc.errors import InputError
from segacc.models.smp import check_architecture


@pytest.mark.parametrize(
    ("written", "ours"),
    [
        ("Unet", "unet"),
        ("U-Net", "unet"),
        ("UnetPlusPlus", "unetplusplus"),
        ("unet++", "unetplusplus"),
        ("UNet++", "unetplusplus"),
        ("DeepLabV3+", "deeplabv3plus"),
        ("DeepLabV3Plus", "deeplabv3plus"),
        ("deeplab-v3", "deeplabv3"),
        ("MAnet", "manet"),
        ("PSPNet", "pspnet"),
        ("SegFormer", "segformer"),
        ("segformer-b0", "segformer"),
        ("segformer_B0", "segformer"),
        ("nvidia/SegFormer-B0", "nvidia/SegFormer-B0"),
        ("own:Unet", "own:Unet"),
        ("nosuch", "nosuch"),
    ],
)
def test_models_are_taken_as_they_are_written(written, ours):
    assert model_name(written) == ours
    assert parse_train(["--model", written]).model == ours
    assert fill(TrainConfig(model=written)).model == ours


@pytest.mark.parametrize(
    ("written", "ours"),
    [
        ("ResNet34", "resnet34"),
        ("efficientnet_b0", "efficientnet-b0"),
        ("EfficientNet-B7", "efficientnet-b7"),
        ("ResNeXt50-32x4d", "resnext50_32x4d"),
        ("MobileNetV2", "mobilenet_v2"),
        ("tu-test_resnet", "tu-test_resnet"),
        ("nosuch", "nosuch"),
    ],
)
def test_encoders_are_taken_as_they_are_written(written, ours):
    assert encoder_name(written) == ours
    assert parse_train(["--encoder", written]).encoder == ours


def test_every_name_of_the_library_is_known_and_stays_as_it_is():
    assert {*ENCODERS.split()} == {*encoders}
    assert {*MODELS} == {*smp.MODEL_ARCHITECTURES_MAPPING}
    assert all(model_name(name) == name for name in MODELS)
    assert all(encoder_name(name) == name for name in encoders)


def test_a_larger_segformer_is_named_by_its_weights():
    with pytest.raises(InputError, match="--model segformer, .* --weights nvidia/mit-b2"):
        check_architecture("SegFormer-B2")


def test_paths_are_told_from_repositories(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    for path in ("./x", "../x", "/x", "~/x", "x/", "x/y/z", "runs/x", "mine/x"):
        assert is_path(path), path
    for other in ("x", "demo", "nvidia/mit-b2", "unet", ""):
        assert not is_path(other), other


def test_a_path_where_nothing_is_is_named_with_what_is_near(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "first").mkdir(parents=True)
    check_place("--weights", "runs/first", "x")
    check_place("--weights", "owner/name", "x")
    for given, said in (
        ("runs/frst", "--weights runs/frst was not found (runs/first is there): expected a file."),
        ("run/first/best", "(runs is there)"),
        ("./other", "(there is no other here)"),
        (f"{tmp_path}/runs/zzz", f"(there is no zzz in {tmp_path}/runs)"),
    ):
        with pytest.raises(InputError) as error:
            check_place("--weights", given, "a file")
        assert said in str(error.value)
