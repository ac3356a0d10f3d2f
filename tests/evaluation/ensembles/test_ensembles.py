"""Several runs scored as one: means of probabilities, and predictions out of fold."""

import csv
import html
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from small import TINY, run_program, write_blobs, write_classes

import segacc
from segacc.config.evaluate import EvaluateConfig
from segacc.config.flags import command_of, parse_evaluate, parse_train
from segacc.config.records import read_run_config
from segacc.config.sizes import size_of_json
from segacc.data.prepare import prepare
from segacc.data.reading.sources import load_dataset
from segacc.errors import InputError
from segacc.evaluation.compare import compare
from segacc.evaluation.ensembles.members import mean_scores
from segacc.evaluation.evaluate import evaluate
from segacc.metrics.counts import class_probabilities, count_pixels, predicted_labels
from segacc.metrics.scores import image_stats, scores_with_intervals
from segacc.models.load import load_segmenter
from segacc.prediction.logits import predict_logits, resize_logits
from segacc.training.fit import fit


def trained(data: Path, run: Path, *flags: str) -> Path:
    AcceleratorState._reset_state(reset_partial_state=True)
    usual = ["--size", "64", "--weights", "none", *TINY, "--batch-size", "4", "--tracker", "none"]
    usual += ["--epochs", "4", "--lr", "5e-3", "--output-dir", str(run)]
    return fit(parse_train(["--dataset", str(data), *usual, *flags]))


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    """Two folds of one set, and a run of another size."""
    folder = tmp_path_factory.mktemp("ensembles")
    data = write_blobs(folder / "blobs", test=5, size=80)
    runs = [trained(data, folder / f"fold{k}", "--fold", f"{k}/2") for k in (1, 2)]
    return [*runs, trained(data, folder / "wide", "--size", "96x80")]


@pytest.fixture(scope="module")
def class_folds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classes")
    data = write_classes(folder / "shapes")
    return [trained(data, folder / f"fold{k}", "--fold", f"{k}/2") for k in (1, 2)]


def scored(runs, out, **flags):
    AcceleratorState._reset_state(reset_partial_state=True)
    folder = evaluate(EvaluateConfig(runs[0], others=tuple(runs[1:]), out=out, **flags))
    rows = list(csv.DictReader((folder / "per_image.csv").open(encoding="utf-8")))
    return folder, json.loads((folder / "metrics.json").read_text()), rows


def probabilities(run, images, shape):
    """(1, K, H, W) of one image of the run's own size."""
    model = load_segmenter(run)
    batch = torch.from_numpy(images.copy()).permute(2, 0, 1)[None]
    return class_probabilities(resize_logits(predict_logits(model, batch), shape))


def data_of(run):
    record = json.loads((run / "config.json").read_text())["config"]
    return record["dataset"], size_of_json(record["size"])


@pytest.mark.parametrize("places", [(0, 1), (0, 2)])
def test_the_scores_are_those_of_the_mean_of_the_probabilities(folds, places, tmp_path):
    """Also of a run that sees the images at another size."""
    runs = [folds[place] for place in places]
    _, record, rows = scored(runs, tmp_path / "out")
    thresholds = [load_segmenter(run).threshold for run in runs]
    assert record["threshold"] == pytest.approx(np.mean(thresholds))
    assert record["threshold_from"] == "members"
    views = [prepare(load_dataset(data_of(run)[0]), data_of(run)[1]).splits["test"] for run in runs]
    maps, truth, beside = [], [], [[] for _ in runs]
    for i, row in enumerate(rows):
        label_map = torch.from_numpy(views[0][i][1].copy())[None]
        own = [
            probabilities(run, view[i][0], (64, 64)) for run, view in zip(runs, views, strict=True)
        ]
        maps.append(sum(own) / len(own))
        truth.append(label_map)
        for found, p, threshold in zip(beside, own, thresholds, strict=True):
            found.append(count_pixels(predicted_labels(p, threshold), label_map, 2).double())
        assert row["name"] == views[0].names[i]
    scales = [(80 / 64, 80 / 64)] * len(rows)
    stats = image_stats(torch.cat(maps), torch.cat(truth), record["threshold"], scales)
    for name, score in scores_with_intervals(stats).items():
        assert record["scores"][name]["value"] == pytest.approx(score.value, abs=1e-5), name
    for found, member, run in zip(beside, record["members"], runs, strict=True):
        assert member["run"] == str(run) and member["images"] == len(rows)
        for name, score in mean_scores(torch.cat(found)).items():
            assert member["scores"][name]["value"] == pytest.approx(score.value, abs=1e-6)


def test_a_member_has_the_scores_that_it_has_alone(folds, tmp_path):
    _, record, _ = scored(folds[:2], tmp_path / "out")
    for run, member in zip(folds, record["members"], strict=False):
        AcceleratorState._reset_state(reset_partial_state=True)
        alone = json.loads((evaluate(EvaluateConfig(run)) / "metrics.json").read_text())
        for name in ("iou", "iou_image", "dice"):
            assert member["scores"][name] == pytest.approx(alone["scores"][name], abs=1e-9)


@pytest.mark.parametrize("kind", ["folds", "class_folds"])
def test_out_of_fold_each_image_is_predicted_by_the_run_that_had_it_for_validation(
    kind, tmp_path, request
):
    runs = request.getfixturevalue(kind)[:2]
    folder, record, rows = scored(runs, tmp_path / "out", split="valid")
    assert folder.name == record["split"] == "out-of-fold"
    assert len(rows) == 17 and [one["images"] for one in record["members"]] == [9, 8]
    assert [one["fold"] for one in record["members"]] == ["1/2", "2/2"]
    by_name = {row["name"]: row for row in rows}
    for run in runs:
        AcceleratorState._reset_state(reset_partial_state=True)
        flags = {} if kind == "class_folds" else {"threshold": record["threshold"]}
        own = evaluate(EvaluateConfig(run, split="valid", **flags))
        for row in csv.DictReader((own / "per_image.csv").open(encoding="utf-8")):
            assert by_name.pop(row["name"]) == row
    assert not by_name


def test_a_missing_fold_is_named_and_its_images_are_not_scored(folds, tmp_path):
    third = trained(Path(data_of(folds[0])[0]), tmp_path / "third", "--fold", "1/3")
    other = trained(Path(data_of(folds[0])[0]), tmp_path / "other", "--fold", "3/3")
    _, record, rows = scored([third, other], tmp_path / "out", split="valid")
    assert len(rows) == 11
    assert any("6 of the 17 images" in note and "run: 2)" in note for note in record["notes"])


@pytest.mark.slow
def test_two_processes_give_the_scores_of_one(folds, tmp_path):
    for split in ("test", "valid"):
        one, _, rows = scored(folds[:2], tmp_path / "one", split=split)
        flags = [*folds[:2], "--split", split, "--out", tmp_path / "two"]
        done = run_program("evaluate.py", *flags, processes=2)
        assert done.returncode == 0, done.stderr
        with (tmp_path / "two" / one.name / "per_image.csv").open(encoding="utf-8") as file:
            assert list(csv.DictReader(file)) == rows


def test_compare_takes_the_mean_beside_its_runs(folds, tmp_path, capsys):
    scored(folds[:2], tmp_path / "both")
    AcceleratorState._reset_state(reset_partial_state=True)
    evaluate(EvaluateConfig(folds[0]))
    compare([folds[0], tmp_path / "both"], "test", tmp_path / "comparison")
    assert "2 x linknet" in capsys.readouterr().out
    table = list(csv.DictReader((tmp_path / "comparison" / "comparison.csv").open()))
    assert {row["run"] for row in table} == {"fold1", "both"}
    assert (tmp_path / "comparison" / "report-blobs.html").stat().st_size > 10_000


def test_the_page_says_how_to_score_the_runs_again_and_how_each_was_trained(folds, tmp_path):
    folder, record, _ = scored(folds[:2], tmp_path / "out", split="valid", tta="h")
    command = shlex.split(record["command"])
    assert command[:2] == ["segacc", "evaluate"]
    assert parse_evaluate(command[2:]) == EvaluateConfig(
        folds[0], others=(folds[1],), out=tmp_path / "out", split="valid", tta="h"
    )
    text = html.unescape((folder / "report.html").read_text(encoding="utf-8"))
    assert record["command"] in text
    for run in folds[:2]:
        known = json.loads((run / "config.json").read_text())
        day = known["started"][:16].replace("T", " ")
        about = text.split(f"<h3>Training of <bdi>{run.name}</bdi></h3>")[1].split("</dl>")[0]
        assert day in about and command_of(read_run_config(run)) in about


def test_python_takes_a_list_of_runs(folds, tmp_path):
    AcceleratorState._reset_state(reset_partial_state=True)
    scores = segacc.evaluate(folds[:2], out=tmp_path / "out")
    assert [*scores.members] == [str(run) for run in folds[:2]]
    assert scores.report.exists() and scores.folder == tmp_path / "out" / "test"
    image = np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    (mask,) = segacc.predict([folds[0], folds[2]], image)
    assert mask.shape == (50, 70) and mask.dtype == bool
    with pytest.raises(InputError, match="no model was given"):
        segacc.predict([], image)


def test_runs_of_other_classes_or_divisions_are_refused(folds, class_folds):
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(InputError, match="fold1 has a model for the classes ground, disc, box"):
        evaluate(EvaluateConfig(folds[0], others=(class_folds[0],)))
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(InputError, match="needs folds of one division, and .* has --fold none"):
        evaluate(EvaluateConfig(folds[0], others=(folds[2],), split="valid"))


def test_flags_without_effect_and_runs_that_are_named_twice_are_refused():
    with pytest.raises(InputError, match="--out x has no effect on a single run"):
        parse_evaluate(["runs/a", "--out", "x"])
    with pytest.raises(InputError, match="runs/a is given twice"):
        parse_evaluate(["runs/a", "runs/a"])
