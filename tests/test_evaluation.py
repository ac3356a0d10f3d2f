"""evaluate(): scores against scores computed by hand from the files it wrote."""

import csv
import json

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from small import TINY, write_blobs

from segacc.config import EvaluateConfig, parse_train
from segacc.evaluation import evaluate, spread
from segacc.loop import fit
from segacc.program import InputError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    data = write_blobs(folder / "blobs", test=7, size=80)
    (data / "test" / "test0.jpg").rename(data / "test" / "straße 0.jpg")
    (data / "test" / "test0.png").rename(data / "test" / "straße 0.png")
    AcceleratorState._reset_state(reset_partial_state=True)
    flags = ["--epochs", "8", "--lr", "5e-3", "--size", "64", "--weights", "none", *TINY]
    flags += ["--batch-size", "4", "--tracker", "none", "--output-dir", str(folder / "run")]
    return fit(parse_train(["--dataset", str(data), *flags]))


@pytest.fixture(autouse=True)
def fresh_accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)
    yield


def panels(path):
    """The three panels of a picture, enlarged 4 times, back at 64 px."""
    sheet = np.asarray(Image.open(path).convert("L"))
    return [sheet[20 + 2 : 20 + 256 : 4, x + 2 : x + 256 : 4] for x in (0, 262, 524)]


def test_scores_table_and_pictures_tell_the_same(run, capsys):
    result = evaluate(EvaluateConfig(run))
    record = json.loads((run / "test" / "metrics.json").read_text())
    assert record["scores"] == result and record["images"] == 7
    rows = list(csv.DictReader((run / "test" / "per_image.csv").open(encoding="utf-8")))
    assert [row["name"] for row in rows] == sorted(["straße 0", *(f"test{i}" for i in range(1, 7))])
    assert all(row["height"] == row["width"] == "80" for row in rows)
    tp, fp, fn = (sum(int(row[k]) for row in rows) for k in ("tp", "fp", "fn"))
    assert result["iou"] == pytest.approx(tp / (tp + fp + fn))
    assert result["iou"] > 0.5
    assert result["iou_image"] == pytest.approx(np.mean([float(r["iou"]) for r in rows]), abs=1e-6)
    for row in rows:
        _, truth, found = panels(run / "test" / "overlays" / f"{row['name']}.png")
        truth, found = truth > 127, found > 127
        assert (truth & found).sum() == int(row["tp"])
        assert (~truth & found).sum() == int(row["fp"])
        assert (truth & ~found).sum() == int(row["fn"])
    foreground = sum(int(r["tp"]) + int(r["fn"]) for r in rows) / (7 * 64 * 64)
    assert record["constant_mask_iou"] == pytest.approx(foreground)
    said = capsys.readouterr().out
    assert f"iou         {result['iou']:.4f}" in said and f"constant    {foreground:.4f}" in said
    assert "overview.png" in said


def test_the_batch_size_does_not_change_the_scores(run):
    first = evaluate(EvaluateConfig(run, split="valid", batch_size=5))
    AcceleratorState._reset_state(reset_partial_state=True)
    again = evaluate(EvaluateConfig(run, split="valid", batch_size=1))
    assert again == pytest.approx(first, abs=1e-3)


def test_the_score_of_the_best_epoch_is_found_again(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = max(lines, key=lambda line: line["valid_iou"])
    again = evaluate(EvaluateConfig(run, split="valid"))
    assert again["iou"] == pytest.approx(best["valid_iou"], abs=1e-6)


def test_a_lower_threshold_finds_more(run):
    low = evaluate(EvaluateConfig(run, threshold=0.05))
    AcceleratorState._reset_state(reset_partial_state=True)
    assert low["recall"] >= evaluate(EvaluateConfig(run, threshold=0.95))["recall"]


def test_another_data_set_has_its_own_folder(run, tmp_path):
    data = write_blobs(tmp_path / "other", test=2)
    evaluate(EvaluateConfig(run, dataset=str(data)))
    assert json.loads((run / "test-other" / "metrics.json").read_text())["images"] == 2


def test_a_run_trained_in_fp16_is_scored_without_a_gpu(run, tmp_path, capsys):
    record = json.loads((run / "config.json").read_text())
    record["config"]["precision"] = "fp16"
    (tmp_path / "config.json").write_text(json.dumps(record))
    (tmp_path / "best").symlink_to(run / "best")
    evaluate(EvaluateConfig(tmp_path))
    assert "fp32" in capsys.readouterr().out or torch.cuda.is_available()


def test_a_split_that_is_not_there_is_named(run, tmp_path):
    with pytest.raises(InputError, match=r"--split tset: .* it has train, valid, test"):
        evaluate(EvaluateConfig(run, split="tset"))


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(InputError, match="is not a run's folder"):
        evaluate(EvaluateConfig(tmp_path))


def test_a_run_without_a_model_is_named(run, tmp_path):
    (tmp_path / "config.json").write_text((run / "config.json").read_text())
    with pytest.raises(InputError, match=r"holds no model.safetensors"):
        evaluate(EvaluateConfig(tmp_path))


def test_the_overview_goes_from_first_to_last():
    assert spread(7, 4) == [0, 2, 4, 6]
    assert spread(2, 6) == [0, 1] and spread(1, 6) == [0]
