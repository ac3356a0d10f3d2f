"""The six models of the study and what holds for every Segmenter."""

import json

import base_tester
import pytest
import torch
from timm.layers import convert_sync_batchnorm
from torch import nn

from segacc.config.train import STUDY_MODELS
from segacc.errors import InputError
from segacc.models.load import load_segmenter
from segacc.models.probe import has_layer_that_onednn_fails_on
from segacc.models.segmenter import Segmenter
from segacc.models.weights.build import build_model

# Of the whole model, counted from the study's architectures (STUDY.md: 24.4 .. 3.7 M).
PARAMETERS = {
    "unet": 24_436_369,
    "fpn": 23_155_393,
    "pspnet": 21_437_985,
    "linknet": 21_771_937,
    "deeplabv3plus": 22_437_457,
    "segformer": 3_714_401,
}


@pytest.fixture(scope="module", params=STUDY_MODELS)
def named(request):
    torch.manual_seed(0)
    return request.param, build_model(request.param, "resnet34", "none").model


def tiny(architecture="linknet"):
    return Segmenter(architecture, "tu-test_resnet")


def test_parameters_are_those_of_the_study(named):
    name, model = named
    assert model.parameters_whole == PARAMETERS[name]


def test_every_parameter_that_trains_gets_a_gradient(named):
    name, model = named
    model.train()(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    model.zero_grad()
    left = sum(p.numel() for p in model.parameters())
    assert model.parameters_trained == left
    dropped = {"pspnet": 21_437_985 - 1_501_217}  # the stages that PSPNet never reads
    assert PARAMETERS[name] - left == dropped.get(name, 0)


@pytest.mark.parametrize("name", [*STUDY_MODELS, "manet", "upernet", "transformers"])
def test_a_model_has_as_many_logits_as_are_asked_for(name):
    if name == "transformers":
        config = base_tester.tiny_configs()["mobilevit"].to_dict()
        one, five = (Segmenter(name, classes=k, backbone_config=config) for k in (1, 5))
    else:
        encoder = "resnet34" if name in STUDY_MODELS else "tu-test_resnet"
        one, five = (build_model(name, encoder, "none", classes=k).model for k in (1, 5))
    assert one.parameters_whole == PARAMETERS.get(name, one.parameters_whole)
    state = one.state_dict()
    heads = [v for k, v in five.state_dict().items() if v.shape != state[k].shape]
    assert heads and {len(tensor) for tensor in heads} == {5}
    more = sum(tensor[1:].numel() for tensor in heads)
    assert five.parameters_whole == one.parameters_whole + more
    with torch.no_grad():
        assert five.eval()(torch.zeros(1, 3, 70, 50, dtype=torch.uint8)).shape == (1, 5, 70, 50)


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (33, 40), (1, 50)])
def test_logits_have_the_size_of_the_input(named, size):
    _, model = named
    with torch.no_grad():
        assert model.eval()(torch.zeros(1, 3, *size, dtype=torch.uint8)).shape == (1, 1, *size)


def test_a_saved_model_is_the_same_model_without_a_download(named, tmp_path):
    _, model = named
    model.eval().save_pretrained(tmp_path / "best")
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(model(images), load_segmenter(tmp_path)(images))
        again = Segmenter.from_pretrained(tmp_path / "best", strict=True)
        assert torch.equal(model(images), again(images))


def test_threshold_and_size_are_saved_with_the_model(tmp_path):
    model = Segmenter("linknet", "tu-test_resnet", threshold=0.25, size=96)
    assert (model.config()["threshold"], model.config()["size"]) == (0.25, 96)
    model.threshold, model.size = 0.75, None
    assert (model.config()["threshold"], model.config()["size"]) == (0.75, None)
    model.save_pretrained(tmp_path)
    for again in (load_segmenter(tmp_path), Segmenter.from_pretrained(tmp_path)):
        assert (again.threshold, again.size) == (0.75, None)
        saved = json.loads((tmp_path / "config.json").read_text())
        assert json.loads(json.dumps(again.config())) == saved
    made_again = Segmenter(**model.config())
    assert made_again.threshold == 0.75 and made_again.state_dict().keys() == model.tensors().keys()


def test_a_model_saved_before_it_had_a_threshold_loads(tmp_path):
    tiny().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["threshold"], config["size"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    for model in (load_segmenter(tmp_path), Segmenter.from_pretrained(tmp_path)):
        assert (model.threshold, model.size) == (0.5, None)


def test_a_model_is_loaded_from_a_run_or_its_folder(tmp_path):
    model = tiny()
    model.save_pretrained(tmp_path / "run" / "best")
    (tmp_path / "run" / "config.json").write_text("{}")  # the run's own
    for source in (tmp_path / "run", tmp_path / "run" / "best", str(tmp_path / "run")):
        loaded = load_segmenter(source)
        assert not loaded.training
        assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in model.state_dict().items())


def change(folder, name, change):
    path = folder / name
    path.write_bytes(change(path.read_bytes()))


DAMAGE = {
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "holds no model.safetensors"),
    "no config": (
        lambda f: (f / "config.json").unlink(),
        r"config.json cannot be read .*No such",
    ),
    "half a config": (
        lambda f: change(f, "config.json", lambda b: b[:50]),
        "config.json cannot be",
    ),
    "not ours": (
        lambda f: (f / "config.json").write_text('{"model_type": "bert"}'),
        "does not describe a model of this segacc: .* an architecture",
    ),
    "a later one": (
        lambda f: change(f, "config.json", lambda b: b.replace(b'"size"', b'"sizes"')),
        "does not describe a model of this segacc",
    ),
    "half the weights": (
        lambda f: change(f, "model.safetensors", lambda b: b[:1000]),
        "model.safetensors cannot be read",
    ),
    "another's weights": (
        lambda f: change(f, "config.json", lambda b: b.replace(b"linknet", b"unet")),
        "model.safetensors does not fit the model that .*config.json describes",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_no_model_is_named(name, tmp_path):
    tiny().save_pretrained(tmp_path)
    damage, message = DAMAGE[name]
    damage(tmp_path)
    with pytest.raises(InputError, match=message):
        load_segmenter(tmp_path)


@pytest.mark.parametrize("source", ["no/such/folder", "nothing", "/no/such", "a b/c"])
def test_what_is_neither_a_folder_nor_an_id_is_named(source):
    said = f"{source} (is not a model|was not found .*): expected a run's folder"
    with pytest.raises(InputError, match=said):
        load_segmenter(source)


def test_a_seed_gives_the_weights():
    def first_weights(seed):
        torch.manual_seed(seed)
        return next(tiny().parameters())

    assert torch.equal(first_weights(1), first_weights(1))
    assert not torch.equal(first_weights(1), first_weights(2))


def test_normalisation_lives_in_the_model():
    model = tiny().eval()
    seen = []
    model.net.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    images = torch.full((1, 3, 64, 64), 51, dtype=torch.uint8)
    model(images)
    expected = (0.2 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    assert torch.allclose(seen[0][0, :, 5, 5], expected, atol=1e-6)


def test_padding_repeats_the_border_and_is_cut_off_again():
    model = tiny().eval()
    images = torch.randint(0, 256, (1, 3, 40, 50), dtype=torch.uint8)
    padded = nn.functional.pad(images.float(), (0, 14, 0, 24), mode="replicate")
    with torch.no_grad():
        assert torch.allclose(model(images), model(padded)[..., :40, :50], atol=1e-5)


@pytest.mark.parametrize(("encoder", "batchnorm"), [(True, False), (False, True), (True, True)])
def test_what_is_frozen_stays_as_it_is(encoder, batchnorm):
    model = tiny()
    model.freeze(encoder, batchnorm)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    model(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)).sum().backward()
    optimizer.step()
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    norms = {n for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    if encoder:
        assert not any(k.startswith("net.encoder.") for k in changed)
    else:
        assert any(k.startswith("net.encoder.") for k in changed)
    if batchnorm:
        assert not any(k.rpartition(".")[0] in norms for k in changed)


def test_synchronised_batchnorm_keeps_names_and_what_is_frozen():
    plain = tiny()
    names = list(plain.state_dict())
    plain.freeze(encoder=True)
    synced = convert_sync_batchnorm(plain)
    assert any(isinstance(m, nn.SyncBatchNorm) for m in synced.modules())
    assert list(synced.state_dict()) == names
    modes = {m.training for m in synced.train().encoder.modules()}
    assert modes == {False} and synced.net.decoder.training


def test_synchronised_batchnorm_keeps_the_activation_of_timms_layers():
    from timm.layers import BatchNormAct2d, SyncBatchNormAct

    plain = Segmenter("unet", "tu-test_efficientnet")
    acts = sum(isinstance(m, BatchNormAct2d) for m in plain.modules())
    synced = convert_sync_batchnorm(plain)
    assert acts == sum(isinstance(m, SyncBatchNormAct) for m in synced.modules()) > 0


def test_a_model_of_one_fixed_size_is_refused():
    with pytest.raises(InputError, match=r"does not run on images of 128 x 128 .*size of tensor"):
        build_model("unet", "tu-hiera_tiny_224", "none")


@pytest.mark.parametrize(("encoder", "stride"), [("test_vit", 32), ("vit_tiny_patch16_224", 32)])
def test_dpt_takes_vision_transformers_and_images_of_any_size(encoder, stride):
    model = Segmenter("dpt", f"tu-{encoder}").eval()
    assert model.stride == stride
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 50, 70)).shape == (1, 1, 50, 70)


def test_dpt_refuses_patches_that_its_decoder_cannot_scale():
    with pytest.raises(InputError, match=r"tu-vit_small_patch14_dinov2 \(its patches are 14 px"):
        build_model("dpt", "tu-vit_small_patch14_dinov2", "none")


def test_pan_takes_small_images():
    model = build_model("pan", "resnet18", "none").model
    assert model.least_side == 128
    model.train()(torch.zeros(2, 3, 64, 50)).sum().backward()


def test_any_architecture_of_segmentation_models_pytorch_builds():
    assert tiny("unetplusplus").eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 1, 64, 64)


@pytest.mark.parametrize(
    ("model", "encoder", "message"),
    [
        ("lnknet", "resnet34", "--model lnknet is not known; did you mean linknet"),
        (
            "linknet",
            "timm-tf_efficientnet_lite",
            "did you mean timm-tf_efficientnet_lite0 or timm-tf_efficientnet_lite1",
        ),
        ("linknet", "resnet43", "--encoder resnet43 is not known; did you mean resnet34"),
        ("linknet", "tu-nothing", "--model linknet cannot be built with --encoder tu-nothing"),
    ],
)
def test_an_unknown_model_is_named_with_the_near_ones(model, encoder, message):
    with pytest.raises(InputError, match=message):
        build_model(model, encoder, "none")


@pytest.mark.parametrize(
    ("channels", "side", "stride", "fails"),
    [(3, 1, 2, True), (7, 1, (2, 1), True), (3, 3, 2, False), (3, 1, 1, False), (64, 1, 2, False)],
)
def test_layers_that_onednn_fails_on_are_found(channels, side, stride, fails):
    assert has_layer_that_onednn_fails_on(nn.Conv2d(channels, 4, side, stride)) == fails


def test_a_model_with_such_a_layer_trains_in_the_plain_format(monkeypatch):
    """In channels_last its gradients are wrong, or the process crashes or hangs (torch 2.15)."""
    assert tiny().memory_format == torch.channels_last
    found = "segacc.models.segmenter.has_layer_that_onednn_fails_on"
    monkeypatch.setattr(found, lambda net: True)
    model = tiny()
    assert model.memory_format == torch.contiguous_format
    assert all(p.is_contiguous() for p in model.parameters())
