"""Runs on a set of several classes: trained, scored, compared and used, as a user does it."""

import csv
import json
import shutil

import numpy as np
import pytest
from accelerate.state import AcceleratorState
from PIL import Image
from runs import make_run
from small import CLASSES, TINY, run_program, write_classes

from segacc.config.evaluate import EvaluateConfig
from segacc.config.flags import parse_train
from segacc.data.classes.coding import make_coding
from segacc.data.classes.files import read_class_file
from segacc.data.reading.sources import load_dataset
from segacc.data.rows import read_row
from segacc.evaluation.compare import compare, compared_runs, comparison_note, comparison_table
from segacc.evaluation.evaluate import evaluate
from segacc.evaluation.per_class import class_lines, class_tables
from segacc.evaluation.scored_runs import read_scored_run, report_groups
from segacc.labels import colours_for
from segacc.training.fit import fit


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs that are scored on test; the second one has learnt longer."""
    folder = tmp_path_factory.mktemp("classes")
    data = write_classes(folder / "shapes")
    flags = ["--dataset", str(data), *TINY, "--weights", "none", "--size", "64", "--lr", "5e-3"]
    flags += ["--batch-size", "4", "--tracker", "none", "--loss", "dice+ce"]
    found = []
    for name, epochs in (("short", "1"), ("long", "8")):
        AcceleratorState._reset_state(reset_partial_state=True)
        run = fit(parse_train([*flags, "--epochs", epochs, "--output-dir", str(folder / name)]))
        evaluate(EvaluateConfig(run))
        found.append(run)
    AcceleratorState._reset_state(reset_partial_state=True)
    return found


def metrics(run):
    return json.loads((run / "test" / "metrics.json").read_text())


def test_a_small_model_learns_three_classes(runs):
    record = metrics(runs[1])
    assert [one["name"] for one in record["per_class"]] == list(CLASSES)
    ious = [one["iou"]["value"] for one in record["per_class"]]
    assert min(ious) > 0.3
    assert record["scores"]["iou"]["value"] == pytest.approx(np.mean(ious))
    assert record["scores"]["iou"]["value"] > metrics(runs[0])["scores"]["iou"]["value"]


def test_two_class_runs_are_compared_by_miou_and_class_by_class(runs, tmp_path, capsys):
    compare(runs, "test", tmp_path)
    said = capsys.readouterr().out
    table = list(csv.DictReader((tmp_path / "comparison.csv").open(encoding="utf-8")))
    assert [row["run"] for row in table] == ["long", "short"]
    best = metrics(runs[1])["scores"]["iou"]
    assert float(table[0]["iou"]) == pytest.approx(best["value"], abs=1e-6)
    assert float(table[0]["iou_low"]) == pytest.approx(best["low"], abs=1e-6)
    assert table[0]["threshold"] == "" and table[0]["is_best"] == "1"
    assert table[0]["difference"] == "" and float(table[1]["difference"]) < 0

    text = (tmp_path / "comparison.md").read_text()
    assert "miou is the mean over the classes of their iou over all pixels" in text
    for name in CLASSES:
        assert f"| {name} | " in text and f" {name} " in said

    page = (tmp_path / "report-shapes.html").read_text()
    assert "disc" in page and "short" in page and "long" in page

    lines = list(csv.DictReader((tmp_path / "comparison-classes.csv").open(encoding="utf-8")))
    assert [(line["run"], line["class"]) for line in lines] == [
        (run, name) for run in ("long", "short") for name in CLASSES
    ]
    for line, one in zip(lines[:3], metrics(runs[1])["per_class"], strict=True):
        assert line["iou"] == f"{one['iou']['value']:.6f}"
        assert line["pixels"] == str(one["pixels"])


def test_runs_with_and_without_classes_stand_in_one_table(runs, tmp_path):
    """A class that is in no mask and was never predicted is called absent."""
    shutil.copytree(runs[1], tmp_path / "long")
    record = metrics(runs[1])
    record["per_class"][2]["iou"] = dict.fromkeys(("value", "low", "high"))
    (tmp_path / "long" / "test" / "metrics.json").write_text(json.dumps(record))
    both = [read_scored_run(run, "test") for run in (runs[1], tmp_path / "long")]
    ((data, table),) = class_tables(both)
    assert data == "shapes 64" and [line["class"] for line in table] == list(CLASSES)
    assert list(table[2])[2:] == [str(runs[1]), str(tmp_path / "long")]  # of one name
    assert table[2][str(tmp_path / "long")] == "absent"
    assert class_lines(both)[5]["iou"] == ""

    binary = read_scored_run(make_run(tmp_path / "binary", [0.5, 0.7]), "test")
    mixed = comparison_table(compared_runs([binary, *both]))
    assert {"iou on test"} <= mixed[0].keys() and len(mixed) == 3
    assert "with more than two classes the mean over these (miou)" in comparison_note(
        [binary, *both]
    )
    assert "miou" not in comparison_note([binary]) and class_tables([binary]) == []


def test_runs_of_other_classes_on_the_same_images_are_not_compared(runs, tmp_path):
    shutil.copytree(runs[0], tmp_path / "other")
    path = tmp_path / "other" / "test" / "metrics.json"
    path.write_text(path.read_text().replace('"disc"', '"ring"'))
    table = tmp_path / "other" / "test" / "per_image.csv"
    table.write_text(table.read_text().replace("/disc", "/ring"))
    found = [read_scored_run(run, "test") for run in (*runs, tmp_path / "other")]
    assert [
        row["against best"][:4].rstrip("0123456789")
        for row in comparison_table(compared_runs(found))
    ] == [
        "best",
        "-0.",
        "best",
    ]
    assert [[run.run.name for run in group] for group in report_groups(found)] == [
        ["short", "long"],
        ["other"],
    ]


def test_predict_writes_numbers_with_a_palette_a_legend_and_probabilities(runs, tmp_path):
    data, out = runs[1].parent / "shapes", tmp_path / "masks"
    flags = ["--out", out, "--probabilities", "--overlays"]
    done = run_program("-m", "segacc", "predict", runs[1], data / "test" / "*.bmp", *flags)
    assert done.returncode == 0, done.stderr[-3000:]
    colours = colours_for(CLASSES)
    coding = make_coding(read_class_file(out / "classes.txt"))
    assert coding.labels.names == CLASSES and coding.labels.colours == colours
    right = 0.0
    for i in range(3):
        with Image.open(out / f"test{i}.png") as mask:
            assert mask.mode == "P" and mask.size == (64, 64)
            found = np.asarray(mask)
            assert (np.asarray(mask.convert("RGB")) == np.array(colours)[found]).all()
        scored = np.asarray(Image.open(runs[1] / "test" / "predictions" / f"test{i}.png"))
        assert (found == scored).all()
        truth = np.asarray(Image.open(data / "test" / f"test{i}.png"))
        right += (found == truth)[truth != 255].mean() / 3
        files = [f"{n:03d}-{name}.png" for n, name in enumerate(CLASSES)]
        folder = out / "probabilities" / f"test{i}"
        assert sorted(path.name for path in folder.iterdir()) == files
        levels = np.stack([np.asarray(Image.open(folder / name)) for name in files])
        # The most probable class has the highest level, or one of several that are as high.
        assert (np.take_along_axis(levels, found[None], 0)[0] == levels.max(axis=0)).all()
        assert (np.abs(levels.astype(int).sum(axis=0) - 254.5) <= 2).all()
        assert (out / "overlays" / f"test{i}.jpg").is_file()
    assert right > 0.8
    # What was predicted is a set of masks that can be trained on.
    for name in ("train", "valid"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(3):
            shutil.copy(data / "test" / f"test{i}.bmp", tmp_path / "set" / name)
            shutil.copy(out / f"test{i}.png", tmp_path / "set" / name)
    shutil.copy(out / "classes.txt", tmp_path / "set")
    source = load_dataset(str(tmp_path / "set"))
    assert source.labels.names == CLASSES
    assert set(np.unique(read_row(source.rows["train"][0], source.coding).label_map)) <= {0, 1, 2}
