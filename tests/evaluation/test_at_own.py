"""evaluate(--at own): scores at the images' own sizes, against what is computed from the files."""

import csv
import json

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from small import TINY, evaluate, write_shapes
from torch.nn import functional

from segacc.config.evaluate import EvaluateConfig
from segacc.config.flags import parse_train
from segacc.data.prepare import resize_image
from segacc.errors import InputError
from segacc.evaluation.compare import compare
from segacc.evaluation.evaluate import load_evaluation
from segacc.models.load import load_segmenter
from segacc.training.fit import fit

SHAPES = [(96, 128), (150, 70), (64, 200)]


def train(data, run, *more):
    AcceleratorState._reset_state(reset_partial_state=True)
    flags = ["--dataset", str(data), "--weights", "none", *TINY, "--batch-size", "4"]
    flags += ["--tracker", "none", "--lr", "5e-3", "--epochs", "2", "--output-dir", str(run)]
    return fit(parse_train([*flags, *more]))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("data") / "shapes", SHAPES, test=6)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    return train(data, tmp_path_factory.mktemp("runs") / "rectangle", "--size", "64x48")


@pytest.fixture(autouse=True)
def fresh_accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)
    yield


def rows_of(folder):
    return list(csv.DictReader((folder / "per_image.csv").open(encoding="utf-8")))


def test_scores_are_those_of_the_original_masks_and_of_resized_logits(data, run, capsys):
    result = evaluate(EvaluateConfig(run, at="own"))
    folder, model = run / "test-at-own", load_segmenter(run).eval()
    record = json.loads((folder / "metrics.json").read_text())
    assert {name: score["value"] for name, score in record["scores"].items()} == result
    assert (record["size"], record["seen_size"]) == ("native", [64, 48])
    tp = fp = fn = 0
    for i, row in enumerate(rows_of(folder)):
        assert row["name"] == f"test{i}"
        image = np.asarray(Image.open(data / "test" / f"test{i}.bmp"))
        truth = np.asarray(Image.open(data / "test" / f"test{i}.png")) > 0
        assert truth.shape == SHAPES[i % 3] == (int(row["height"]), int(row["width"]))
        pixels = torch.from_numpy(resize_image(image, (64, 48)).copy()).permute(2, 0, 1)[None]
        with torch.no_grad():
            logits = functional.interpolate(model(pixels), truth.shape, mode="bilinear")
        found = (logits.sigmoid() > model.threshold)[0, 0].numpy()
        counts = [int(row[name]) for name in ("tp", "fp", "fn", "tn")]
        assert sum(counts) == truth.size and counts[0] + counts[2] == truth.sum()
        expected = [(found & truth).sum(), (found & ~truth).sum(), (~found & truth).sum()]
        assert np.abs(np.array(counts[:3]) - expected).max() <= 2  # undecided pixels
        levels = np.asarray(Image.open(folder / "probabilities" / f"test{i}.png"))
        assert (levels >= round(256 * model.threshold)).sum() == counts[0] + counts[1]
        tp, fp, fn = tp + counts[0], fp + counts[1], fn + counts[2]
    assert result["iou"] == pytest.approx(tp / (tp + fp + fn))
    said = capsys.readouterr().out
    assert "6 full images of native size (predicted at 64 x 48 px)" in said
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "scored at native size (predicted at 64\u2009×\u200948 px)" in page


def test_the_model_sees_the_same_bytes_as_without(run):
    own = load_evaluation(EvaluateConfig(run, at="own"))
    AcceleratorState._reset_state(reset_partial_state=True)
    usual = load_evaluation(EvaluateConfig(run))
    assert own.seen.path == usual.seen.path and usual.seen is usual.split
    assert own.notes == usual.notes and (own.folder.name, usual.folder.name) == (
        "test-at-own",
        "test",
    )
    for (image, _), (small, _) in zip(own.split, own.seen, strict=True):
        assert (resize_image(image, (64, 48)) == small).all()


def test_where_images_have_the_size_of_the_model_nothing_changes(tmp_path):
    data = write_shapes(tmp_path / "same", [(64, 64)])
    run = train(data, tmp_path / "run", "--size", "64")
    scores = []
    for at in ("model", "own"):
        AcceleratorState._reset_state(reset_partial_state=True)
        scores.append(evaluate(EvaluateConfig(run, at=at)))
    assert scores[0] == scores[1]
    assert rows_of(run / "test") == rows_of(run / "test-at-own")


def test_models_of_different_sizes_are_compared_at_the_images_own_size(data, run, tmp_path, capsys):
    other = train(data, tmp_path / "native", "--size", "native", "--crop", "48")
    for one in (run, other):
        AcceleratorState._reset_state(reset_partial_state=True)
        evaluate(EvaluateConfig(one, at="own"))
    compare([run, other], "test-at-own", tmp_path / "out")
    table = (tmp_path / "out" / "comparison.md").read_text()
    assert "shapes 64x48, scored at native size" in table
    assert "shapes native, crop 48" in table
    assert table.count("| best |") == 1 and "], p " in table
    assert (tmp_path / "out" / "report-shapes.html").exists()


def test_classes_and_ignored_pixels_are_counted_in_the_original_masks(tmp_path):
    data, rng = write_shapes(tmp_path / "classes", SHAPES, train=6), np.random.default_rng(0)
    for path in data.glob("*/*.png"):
        mask = (np.asarray(Image.open(path)) > 0) * rng.integers(1, 3)
        mask[:7] = 255
        Image.fromarray(mask.astype(np.uint8)).save(path)
    flags = ["--classes", "rest,one,two", "--loss", "dice+ce"]
    run = train(data, tmp_path / "run", "--size", "64x48", *flags)
    AcceleratorState._reset_state(reset_partial_state=True)
    evaluate(EvaluateConfig(run, at="own"))
    record = json.loads((run / "test-at-own" / "metrics.json").read_text())
    masks = [np.asarray(Image.open(path)) for path in (data / "test").glob("*.png")]
    counted = np.concatenate([mask[mask != 255] for mask in masks])
    assert (
        np.array(record["confusion"]).sum(axis=1).tolist()
        == np.bincount(counted, minlength=3).tolist()
    )
    found = np.asarray(Image.open(run / "test-at-own" / "predictions" / "test1.png"))
    assert found.shape == SHAPES[1]


def test_a_data_set_that_is_gone_is_named(tmp_path):
    data = write_shapes(tmp_path / "gone", [(64, 80)])
    run = train(data, tmp_path / "run", "--size", "64")
    data.rename(tmp_path / "moved")
    AcceleratorState._reset_state(reset_partial_state=True)
    evaluate(EvaluateConfig(run))  # from the cache
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(InputError, match=r"--at own needs .* the cache has it at 64 px"):
        evaluate(EvaluateConfig(run, at="own"))
    AcceleratorState._reset_state(reset_partial_state=True)
    evaluate(EvaluateConfig(run, at="own", dataset=str(tmp_path / "moved")))
    assert (run / "test-at-own" / "metrics.json").exists()
