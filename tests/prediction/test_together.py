"""Several models that predict together: the mean of their probabilities."""

import numpy as np
import pytest
import torch
from PIL import Image
from small import run_program

from segacc.errors import InputError
from segacc.labels import BINARY, Labels, colours_for
from segacc.models.segmenter import Segmenter
from segacc.prediction.ensemble import Ensemble, together
from segacc.prediction.files import predict_image, predict_images, predict_masks
from segacc.prediction.find import models_and_images, plan

CLASSES = Labels(("a", "b", "c"), colours_for(("a", "b", "c")))


def model(seed, size, threshold=0.5, labels=BINARY):
    torch.manual_seed(seed)
    classes = labels.logits
    return Segmenter(
        "linknet",
        "tu-test_resnet",
        classes,
        threshold=threshold,
        size=size,
        labels=labels.to_config(),
    ).eval()


@pytest.fixture
def image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (70, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return pixels


@pytest.mark.parametrize("labels", [BINARY, CLASSES])
def test_the_mean_is_taken_of_what_each_gives_alone(labels, image, tmp_path):
    models = [model(0, 64, 0.25, labels), model(1, (96, 64), 0.5, labels)]
    both = together(models)
    assert isinstance(both, Ensemble) and both.threshold == 0.375
    mean = sum(predict_image(one, image) for one in models) / 2
    np.testing.assert_allclose(predict_image(both, image), mean, atol=1e-6)
    wanted = mean > 0.375 if labels == BINARY else mean.argmax(axis=0)
    (mask,) = predict_masks(both, [image])
    assert (mask != wanted).mean() < 1e-3  # where two are equal
    jobs = plan([tmp_path / "a.png"], tmp_path / "out")
    assert predict_images(both, jobs).masks == 1
    written = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert ((written > 0) == mask).all() if labels == BINARY else (written == mask).all()


@pytest.mark.parametrize("options", [{"tta": "hv"}, {"tile": 32}, {"size": 32}])
def test_flips_windows_and_sizes_are_those_of_each(options, image):
    models = [model(0, 64), model(1, 96)]
    mean = sum(predict_image(one, image, **options) for one in models) / 2
    np.testing.assert_allclose(predict_image(together(models), image, **options), mean, atol=1e-6)


def test_one_model_is_taken_as_it_is():
    one = model(0, 64)
    assert together([one]) is one


def test_models_of_other_classes_are_refused():
    with pytest.raises(InputError, match="model 1 has a model for the classes a, b, c"):
        together([model(0, 64), model(0, 64, labels=CLASSES)])


def test_words_before_the_images_are_models_where_they_hold_one(tmp_path):
    for name in ("one/best", "two", "photos"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "one" / "best" / "model.safetensors").touch()
    (tmp_path / "two" / "model.safetensors").touch()
    (tmp_path / "three.onnx").touch()
    one, two, three, photos = (str(tmp_path / n) for n in ("one", "two", "three.onnx", "photos"))
    assert models_and_images(one, [two, three, photos, "a.png"]) == (
        [one, two, three],
        [photos, "a.png"],
    )
    assert models_and_images("owner/name", [photos, two]) == (["owner/name"], [photos, two])


def test_the_command_takes_several_models(image, tmp_path):
    for seed, name in enumerate(("one", "two")):
        model(seed, 64).save_pretrained(tmp_path / name)
    runs = [tmp_path / name for name in ("one", "two")]
    out = tmp_path / "out"
    done = run_program("-m", "segacc", "predict", *runs, tmp_path / "a.png", "--out", out)
    assert done.returncode == 0, done.stderr
    (mask,) = predict_masks(together([model(0, 64), model(1, 64)]), [image])
    assert ((np.asarray(Image.open(out / "a.png")) > 0) == mask).all()
