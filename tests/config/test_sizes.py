"""Sizes: 480x360 and native, from the command line through training to scores and masks."""

import csv
import json

import numpy as np
import pytest
from accelerate.state import AcceleratorState
from PIL import Image
from small import TINY, evaluate, lines, train, write_shapes

from segacc.config.evaluate import EvaluateConfig
from segacc.config.flags import parse_train
from segacc.config.records import read_run_config, to_json
from segacc.config.sizes import (
    parse_size,
    scaled_to,
    sides_in_words,
    size_in_words,
    size_of_json,
    size_text,
)
from segacc.errors import InputError
from segacc.evaluation.compare import compare
from segacc.models.load import load_segmenter
from segacc.models.segmenter import Segmenter
from segacc.prediction.files import predict_image
from segacc.training.fit import fit

MIXED = [(64, 96), (40, 30), (96, 64), (50, 120)]
TIMED = {"seconds", "img_per_s", "data_wait", "memory_gib"}


@pytest.fixture(autouse=True)
def fresh_accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)
    yield


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("data") / "mixed", MIXED)


def flags(data, size, *more):
    base = ["--dataset", str(data), "--size", size, "--weights", "none", *TINY, "--lr", "5e-3"]
    return [*base, "--batch-size", "4", "--epochs", "2", "--tracker", "none", *more]


@pytest.mark.parametrize(
    ("text", "size", "words", "sides"),
    [
        ("256", 256, "256 px", "256 x 256 px"),
        ("480x360", (480, 360), "480x360 px", "480 x 360 px"),
        ("64x64", 64, "64 px", "64 x 64 px"),
        ("native", "native", "native size", "native size"),
    ],
)
def test_a_size_is_read_and_written_as_text_and_as_json(text, size, words, sides):
    assert parse_size([text]) == size
    assert parse_size([size_text(size)]) == size
    assert size_of_json(json.loads(json.dumps(size))) == size
    assert (size_in_words(size), sides_in_words(size)) == (words, sides)


@pytest.mark.parametrize("text", ["480*360", "480x", "x360", "-3", "", "own", "1x2x3", "480 x 360"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="expected 256, 480x360"):
        parse_size([text])


def test_a_scaled_size_keeps_its_shape_in_steps():
    assert scaled_to((480, 360), 960, 32) == (960, 736)  # 720 is not a multiple
    assert scaled_to((360, 480), 960, 32) == (736, 960)
    assert scaled_to((100, 100), 384, 32) == (384, 384)
    assert scaled_to((1000, 10), 64, 32) == (64, 32)


def test_the_size_of_a_run_is_kept_in_its_config(tmp_path):
    for text, stored in (("256", 256), ("480x360", [480, 360]), ("native", "native")):
        config = parse_train(["--dataset", "demo", "--size", text, "--crop", "64"])
        written = json.loads(json.dumps(to_json(config)))
        assert written["size"] == stored
        (tmp_path / "config.json").write_text(json.dumps({"config": written}))
        assert read_run_config(tmp_path).size == config.size


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--size", "480x4"], "--size 480x4: expected 8 or more"),
        (["--size", "480x360", "--crop", "400"], "--crop 400 is larger than the images"),
        (["--size", "480x360", "--flips", "d4"], "--flips d4 turns images by quarters"),
    ],
)
def test_a_size_that_does_not_fit_is_refused_in_a_sentence(given, said):
    with pytest.raises(InputError, match=said):
        parse_train(["--dataset", "demo", *given])


def test_a_native_size_fits_any_crop_and_flips():
    config = parse_train(["--dataset", "demo", "--size", "native", "--crop", "4000"])
    assert (config.size, config.crop) == ("native", 4000)
    assert parse_train(["--size", "480x360", "--flips", "d4", "--crop", "300"]).flips == "d4"


def test_a_rectangle_is_trained_scored_and_predicted(mixed, tmp_path, capsys):
    run = fit(parse_train(flags(mixed, "64x48", "--output-dir", str(tmp_path / "run"))))
    assert "64x48 px" in capsys.readouterr().out
    model = load_segmenter(run)
    assert model.size == (64, 48)
    scores = evaluate(EvaluateConfig(run))
    said = capsys.readouterr().out
    assert "3 full images of 64 x 48 px" in said
    assert json.loads((run / "test" / "metrics.json").read_text())["size"] == [64, 48]
    levels = np.asarray(Image.open(run / "test" / "probabilities" / "test1.png"))
    assert levels.shape == (48, 64)
    page = (run / "test" / "report.html").read_text(encoding="utf-8")
    assert "64\u2009×\u200948 px" in page and "[64, 48]" not in page
    assert predict_image(model, mixed / "test" / "test1.bmp").shape == MIXED[1]
    compare([run], "test", tmp_path / "comparison")
    table = (tmp_path / "comparison" / "comparison.md").read_text()
    assert "mixed 64x48" in table and f"{scores['iou']:.3f}" in table
    with pytest.raises(InputError, match="--size 64 .the run has 64x48."):
        parse_train(["--resume", str(run), "--size", "64"])


def test_images_of_native_size_are_trained_on_crops_and_scored_whole(mixed, tmp_path, capsys):
    run = fit(
        parse_train(flags(mixed, "native", "--crop", "48", "--output-dir", str(tmp_path / "run")))
    )
    assert "native size, crops of 48 px in training only" in capsys.readouterr().out
    model = load_segmenter(run)
    assert model.size is None
    assert "at native size" in (run / "best" / "README.md").read_text()
    best = max(lines(run), key=lambda line: line["valid_iou"])
    valid = evaluate(EvaluateConfig(run, split="valid", batch_size=4))
    assert valid["iou"] == pytest.approx(best["valid_iou_best_threshold"], abs=1e-6)
    AcceleratorState._reset_state(reset_partial_state=True)
    evaluate(EvaluateConfig(run))
    assert "3 full images of native size" in capsys.readouterr().out
    rows = list(csv.DictReader((run / "test" / "per_image.csv").open()))
    for row, shape in zip(rows, MIXED[:3], strict=True):
        assert (int(row["height"]), int(row["width"])) == shape
        assert sum(int(row[count]) for count in ("tp", "fp", "fn", "tn")) == shape[0] * shape[1]
        levels = np.asarray(Image.open(run / "test" / "probabilities" / f"{row['name']}.png"))
        assert levels.shape == shape
        found = predict_image(model, mixed / "test" / f"{row['name']}.bmp") > model.threshold
        assert abs(int(found.sum()) - int(row["tp"]) - int(row["fp"])) <= 2
    assert "native size" in (run / "test" / "report.html").read_text(encoding="utf-8")


@pytest.mark.soak
def test_native_images_give_the_same_run_on_two_processes_and_with_workers(mixed, tmp_path):
    more = [*TINY, "--size", "native", "--crop", 48, "--epochs", 2, "--flips", "hv"]
    runs = {"one": (1, 0), "two": (2, 0), "workers": (1, 2)}
    for name, (processes, workers) in runs.items():
        done = train(mixed, tmp_path / name, *more, "--workers", workers, processes=processes)
        assert done.returncode == 0, done.stderr
    one, two, workers = (
        [{k: v for k, v in line.items() if k not in TIMED} for line in lines(tmp_path / name)]
        for name in runs
    )
    assert one == workers
    for left, right in zip(one, two, strict=True):
        # AdamW's first steps make much of rounding, as in tests/distributed/test_ddp_runs.py.
        for name in ("train_loss", "valid_loss"):
            assert right[name] == pytest.approx(left[name], rel=1e-3), name
        assert right["valid_iou"] == pytest.approx(left["valid_iou"], abs=1e-3)


def test_native_images_of_one_size_need_no_crop(tmp_path):
    data = write_shapes(tmp_path / "same", [(48, 64)])
    run = fit(parse_train(flags(data, "native", "--output-dir", str(tmp_path / "run"))))
    assert len(lines(run)) == 2


@pytest.mark.parametrize(
    ("shapes", "more", "said"),
    [
        (MIXED, [], r"different sizes, from 30 x 40 px .train1. to 96 x 64 px .*--crop 256"),
        ([(48, 64)], ["--flips", "d4"], r"--flips d4 .* are 64 x 48 px"),
    ],
)
def test_native_images_that_make_no_batch_are_refused(tmp_path, shapes, more, said):
    data = write_shapes(tmp_path / "data", shapes)
    with pytest.raises(InputError, match=said):
        fit(parse_train(flags(data, "native", *more, "--output-dir", str(tmp_path / "run"))))


@pytest.mark.parametrize(("size", "stored"), [(96, 96), ((96, 64), [96, 64]), (None, None)])
def test_a_model_keeps_its_size(tmp_path, size, stored):
    Segmenter("linknet", "tu-test_resnet", size=size).save_pretrained(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["size"] == stored
    assert Segmenter.from_pretrained(tmp_path / "model").size == size


def test_predict_takes_any_size(mixed):
    model = Segmenter("linknet", "tu-test_resnet", size=(64, 32)).eval()
    image = mixed / "test" / "test0.bmp"
    own = predict_image(model, image, size="native")
    assert own.shape == MIXED[0]
    resized = predict_image(model, image)
    assert resized.shape == MIXED[0] and (resized != own).any()
    assert (predict_image(model, image, size=(64, 32)) == resized).all()
    assert (predict_image(model, image, size=(96, 64)) == own).all()  # which is its own size
