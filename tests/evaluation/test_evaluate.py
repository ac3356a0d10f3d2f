"""evaluate(): scores against scores computed by hand from the files it wrote."""

import csv
import html
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from small import TINY, evaluate, write_blobs

from segacc.config.evaluate import EvaluateConfig
from segacc.config.flags import parse_evaluate, parse_train
from segacc.data.known import absolute, data_record, find_again, known_data, prepare_found
from segacc.errors import InputError
from segacc.evaluation.compare import compare
from segacc.evaluation.evaluate import load_evaluation
from segacc.evaluation.results import results_folder, spread
from segacc.evaluation.scored_runs import notes_of, read_scored_run
from segacc.training.fit import fit


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
    return [sheet[20 + 2 : 20 + 256 : 4, x + 2 : x + 256 : 4] for x in (1, 263, 525)]


def test_scores_table_and_pictures_tell_the_same(run, capsys):
    result = evaluate(EvaluateConfig(run))
    record = json.loads((run / "test" / "metrics.json").read_text())
    assert {k: score["value"] for k, score in record["scores"].items()} == result
    assert list(result) == list(record["formulas"]) and record["images"] == 7
    best = json.loads((run / "best" / "config.json").read_text())
    assert record["threshold"] == best["threshold"] and record["threshold_from"] == "validation"
    rows = list(csv.DictReader((run / "test" / "per_image.csv").open(encoding="utf-8")))
    assert [row["name"] for row in rows] == sorted(["straße 0", *(f"test{i}" for i in range(1, 7))])
    assert all(row["height"] == row["width"] == "80" for row in rows)
    tp, fp, fn = (sum(int(row[k]) for row in rows) for k in ("tp", "fp", "fn"))
    assert result["iou"] == pytest.approx(tp / (tp + fp + fn))
    assert result["iou"] > 0.5
    assert result["iou_image"] == pytest.approx(np.mean([float(r["iou"]) for r in rows]), abs=1e-6)
    for name in ("boundary_iou", "hd95"):
        mean = np.mean([float(row[name]) for row in rows])
        assert result[name] == pytest.approx(mean, abs=1e-6)
    for row in rows:
        levels = np.asarray(Image.open(run / "test" / "probabilities" / f"{row['name']}.png"))
        assert levels.shape == (64, 64) and levels.dtype == np.uint8
        above = levels >= round(256 * record["threshold"])
        assert above.sum() == int(row["tp"]) + int(row["fp"])
        _, truth, found = panels(run / "test" / "overlays" / f"{row['name']}.png")
        truth, found = truth > 127, found > 127
        assert (truth & found).sum() == int(row["tp"])
        assert (~truth & found).sum() == int(row["fp"])
        assert (truth & ~found).sum() == int(row["fn"])
    foreground = sum(int(r["tp"]) + int(r["fn"]) for r in rows) / (7 * 64 * 64)
    assert record["constant_mask_iou"] == pytest.approx(foreground)
    table = record["calibration"]
    assert sum(table["pixels"]) == 7 * 64 * 64
    parts = zip(table["pixels"], table["confidence"], table["foreground"], strict=True)
    error = sum(n * abs(f - c) for n, c, f in parts if n) / (7 * 64 * 64)
    assert result["ece"] == pytest.approx(error)
    said = capsys.readouterr().out
    low, high = (record["scores"]["iou"][k] for k in ("low", "high"))
    assert low <= result["iou"] <= high and f"{low:.4f} to {high:.4f}" in said
    assert f"{result['iou']:.4f}" in said and f"{foreground:.4f}" in said
    assert "report.html" in said and (run / "test" / "report.html").stat().st_size > 10_000
    assert re.search(r"^  constant .* iou of the best constant mask$", said, re.MULTILINE)
    assert "TP / (TP + FP + FN)" not in said
    again = evaluate(EvaluateConfig(run, explain=True))
    assert again == result
    said = capsys.readouterr().out
    assert all(formula in said for formula in record["formulas"].values())


def test_the_card_gets_the_scores_of_the_test_images_and_a_path_that_works(run):
    card = run / "best" / "README.md"
    result = evaluate(EvaluateConfig(run))
    first = card.read_text()
    assert f"| iou | {result['iou']:.4f} |" in first and "Not scored" not in first
    evaluate(EvaluateConfig(run, threshold=0.9))  # beside the usual results
    evaluate(EvaluateConfig(run, split="valid"))
    assert card.read_text() == first
    (code,) = re.findall(r"```python\n(.*?)```", first, re.DOTALL)
    given = torch.randint(0, 256, (1, 3, 50, 70), dtype=torch.uint8)
    names = {"images": given}
    exec(code, names)
    assert names["mask"].shape == (1, 1, 50, 70)


def test_the_page_says_how_the_run_was_made(run):
    evaluate(EvaluateConfig(run))
    page = (run / "test" / "report.html").read_text()
    said = dict(re.findall(r"<div><dt>(.*?)</dt><dd.*?><bdi>(.*?)</bdi></dd></div>", page))
    record = json.loads((run / "config.json").read_text())
    assert said["model"].endswith("M parameters")
    assert said["weights"] == "started from none" and said["loss"] == "dice+ce"
    assert said["epochs"].startswith("8 of at most 8, the best was ")
    assert said["scored on"] == "7 images of test"
    assert said["learnt from"] == f"{record['data']['images']['train']} images"
    assert said["trained"].startswith(record["started"][:10]) and "segacc" in said["trained"]
    again = parse_train(shlex.split(html.unescape(said["command"]))[2:])
    assert again.lr == 5e-3 and again.dataset == record["config"]["dataset"]


def test_a_threshold_that_is_given_is_used_beside_one_half(run):
    """Its results have a folder of their own: those at the model's threshold stay."""
    usual = run / "test" / "metrics.json"
    before = usual.read_bytes() if usual.exists() else None
    result = evaluate(EvaluateConfig(run, threshold=0.3))
    assert before == (usual.read_bytes() if usual.exists() else None)
    record = json.loads((run / "test-threshold-0.3" / "metrics.json").read_text())
    assert (record["threshold"], record["threshold_from"]) == (0.3, "given")
    AcceleratorState._reset_state(reset_partial_state=True)
    half = evaluate(EvaluateConfig(run, threshold=0.5))
    assert {k: score["value"] for k, score in record["scores_at_half"].items()} == half
    assert half["recall"] <= result["recall"] and half["ece"] == result["ece"]


def test_the_threshold_of_the_model_is_the_best_on_validation(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = max(lines, key=lambda line: line["valid_iou"])
    again = evaluate(EvaluateConfig(run, split="valid"))
    record = json.loads((run / "valid" / "metrics.json").read_text())
    assert record["threshold"] == best["valid_threshold"]
    assert again["iou"] == pytest.approx(best["valid_iou_best_threshold"], abs=1e-6)
    for k in (64, 96, 128, 160, 192):
        AcceleratorState._reset_state(reset_partial_state=True)
        other = evaluate(EvaluateConfig(run, split="valid", threshold=k / 256))
        assert other["iou"] <= again["iou"] + 1e-9


def test_flips_and_tiles_change_a_little(run):
    plain = evaluate(EvaluateConfig(run))
    for folder, how in (("test-tta-hv", {"tta": "hv"}), ("test-tile-32", {"tile": 32})):
        AcceleratorState._reset_state(reset_partial_state=True)
        other = evaluate(EvaluateConfig(run, **how))
        assert other != plain and other["iou"] == pytest.approx(plain["iou"], abs=0.25)
        record = json.loads((run / folder / "metrics.json").read_text())
        assert (record["tta"], record["tile"]) == (how.get("tta", "none"), how.get("tile"))


def test_the_batch_size_does_not_change_the_scores(run):
    first = evaluate(EvaluateConfig(run, split="valid", batch_size=5))
    AcceleratorState._reset_state(reset_partial_state=True)
    again = evaluate(EvaluateConfig(run, split="valid", batch_size=1))
    assert again == pytest.approx(first, abs=1e-3)


def test_the_score_of_the_best_epoch_is_found_again(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = max(lines, key=lambda line: line["valid_iou"])
    again = evaluate(EvaluateConfig(run, split="valid", threshold=0.5))
    assert again["iou"] == pytest.approx(best["valid_iou"], abs=1e-6)
    with (run / "best" / "valid_per_image.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [f"valid{i}" for i in range(5)]
    mean = np.mean([float(row["iou"]) for row in rows])
    assert again["iou_image"] == pytest.approx(best["valid_iou_image"], abs=1e-6)
    assert mean == pytest.approx(best["valid_iou_image"], abs=1e-6)


def test_a_lower_threshold_finds_more(run):
    low = evaluate(EvaluateConfig(run, threshold=0.05))
    AcceleratorState._reset_state(reset_partial_state=True)
    assert low["recall"] >= evaluate(EvaluateConfig(run, threshold=0.95))["recall"]


def test_another_data_set_has_its_own_folder(run, tmp_path):
    data = write_blobs(tmp_path / "other", test=2)
    evaluate(EvaluateConfig(run, dataset=str(data)))
    assert json.loads((run / "test-other" / "metrics.json").read_text())["images"] == 2


def test_the_folder_of_the_results_says_what_is_not_as_usual(run, tmp_path):
    def folder(fingerprint, **flags):
        config, is_own = EvaluateConfig(tmp_path, **flags), fingerprint == "own"
        return results_folder(config, fingerprint, is_own).name

    assert folder("own") == folder("changed") == "test"
    assert folder("own", split="valid", threshold=0.99, tta="h") == "valid-threshold-0.99-tta-h"
    assert folder("own", dataset="/copy/of/it") == "test"
    assert folder("own", at="own", tta="h") == "test-at-own-tta-h"
    assert folder("other", dataset="/a/data/", tile=64) == "test-data-tile-64"
    (tmp_path / "test-data").mkdir()
    (tmp_path / "test-data" / "metrics.json").write_text('{"fingerprint": "other"}')
    assert folder("other", dataset="/a/data") == "test-data"
    assert folder("0123456789abcdef", dataset="/b/data") == "test-data-01234567"


def as_of_an_older_version(run, folder, **data):
    """The run as it would be without what newer versions store about its data."""
    folder.mkdir(exist_ok=True)
    record = json.loads((run / "config.json").read_text())
    record["data"] = {"fingerprint": record["data"]["fingerprint"], **data}
    (folder / "config.json").write_text(json.dumps(record))
    (folder / "best").symlink_to(run / "best")
    return folder


def test_images_that_the_run_has_seen_are_named(run, tmp_path, capsys):
    """By their pixels: under other names, in other splits, with corrected masks."""
    data = Path(json.loads((run / "config.json").read_text())["config"]["dataset"])
    other = tmp_path / "more"
    shutil.copytree(data, other)
    for old, new in (
        ("train/train3", "test/x3"),
        ("train/train4", "test/x4"),
        ("valid/valid0", "test/y"),
    ):
        for ending in ("jpg", "png"):
            shutil.copy(other / f"{old}.{ending}", other / f"{new}.{ending}")
    Image.new("L", (80, 80), 255).save(other / "test" / "x4.png")
    evaluate(EvaluateConfig(run, dataset=str(other)))
    said = [
        "2 of the 10 images that are scored were trained on, so the scores are too good: x3, x4",
        "1 of the 10 images that are scored were used to pick the epoch and the threshold, so the "
        "scores are too good: y",
    ]
    folder = run / "test-more"
    record = json.loads((folder / "metrics.json").read_text())
    assert record["notes"] == said
    assert all(f"warning: {sentence}\n" in capsys.readouterr().out for sentence in said[:1])
    assert all(sentence in (folder / "report.html").read_text() for sentence in said)
    assert notes_of([read_scored_run(run, "test-more")]) == [f"{run}: {note}" for note in said]

    old = as_of_an_older_version(run, tmp_path / "old")
    assert notes(old, dataset=str(other)) == tuple(
        said
    )  # the cache still has what it was trained on
    old = as_of_an_older_version(run, tmp_path / "older", fingerprint="0" * 64)
    (unknown,) = notes(old)
    assert unknown.startswith("which of the images that are scored were trained on is not known")


def notes(run, **flags):
    AcceleratorState._reset_state(reset_partial_state=True)
    return load_evaluation(EvaluateConfig(run, **flags)).notes


def test_images_of_the_split_that_was_asked_for_are_not_named(run):
    assert notes(run) == notes(run, split="train") == notes(run, split="valid") == ()


def test_the_data_are_found_from_any_folder_and_where_they_are_gone(run, tmp_path, monkeypatch):
    known = known_data(run)
    assert known.source == known.dataset and os.path.isabs(known.dataset)
    source = Path(known.source)
    monkeypatch.chdir(tmp_path)
    assert load_evaluation(EvaluateConfig(run)).data.fingerprint == known.fingerprint
    source.rename(source.with_name("away"))
    try:
        AcceleratorState._reset_state(reset_partial_state=True)
        found = load_evaluation(EvaluateConfig(run))  # in the cache
        assert found.data.fingerprint == known.fingerprint and found.notes == ()
        monkeypatch.setenv("SEGACC_CACHE", str(tmp_path / "empty"))
        message = f"the run's data set {source} is not here and the cache has no images of it"
        with pytest.raises(InputError, match=message):
            notes(run)
        assert notes(run, dataset=str(source.with_name("away"))) == ()
    finally:
        source.with_name("away").rename(source)


def test_a_run_whose_variable_is_no_longer_set_finds_its_data(run, tmp_path, monkeypatch):
    """`gland` was a folder named by SEGACC_GLAND when the run began."""
    record = json.loads((run / "config.json").read_text())
    monkeypatch.setenv("SEGACC_GLAND", record["config"]["dataset"])
    assert data_record("gland", load_evaluation(EvaluateConfig(run)).data) == record["data"]
    assert absolute("gland") == "gland"
    monkeypatch.delenv("SEGACC_GLAND")
    record["config"]["dataset"] = "gland"
    (tmp_path / "config.json").write_text(json.dumps(record))
    found = find_again(known_data(tmp_path))
    assert prepare_found(found, 64).fingerprint == record["data"]["fingerprint"]


def test_a_run_trained_in_fp16_is_scored_in_fp32_on_a_cpu(run, tmp_path, monkeypatch, capsys):
    """Also on a machine with a GPU that the user has switched off for this process."""
    record = json.loads((run / "config.json").read_text())
    record["config"]["precision"] = "fp16"
    (tmp_path / "config.json").write_text(json.dumps(record))
    (tmp_path / "best").symlink_to(run / "best")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    evaluate(EvaluateConfig(tmp_path))
    assert "64 x 64 px, fp32 (trained in fp16, which needs a GPU)\n" in capsys.readouterr().out
    assert json.loads((tmp_path / "test" / "metrics.json").read_text())["precision"] == "fp32"


@pytest.mark.parametrize(("tile", "remedy"), [(None, "--tile 256"), (48, "a --tile below 48")])
def test_too_little_memory_is_a_sentence_with_the_remedy(run, tile, remedy):
    """No machine has the memory for a list of 10**15 positions."""
    message = (
        f"too little memory for --batch-size {10**15}: give a smaller --batch-size, or {remedy}"
    )
    with pytest.raises(InputError, match=re.escape(message)):
        evaluate(EvaluateConfig(run, batch_size=10**15, tile=tile))


def test_results_that_cannot_be_written_are_a_sentence(run, tmp_path):
    for name in ("config.json", "best"):
        (tmp_path / name).symlink_to(run / name)
    (tmp_path / "test").write_text("a file where the folder of the results should be")
    message = "test could not be written .*; free space there, then give the same command again"
    with pytest.raises(InputError, match=message):
        evaluate(EvaluateConfig(tmp_path))


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


def test_runs_are_compared_from_what_evaluation_wrote(run, tmp_path, capsys):
    evaluate(EvaluateConfig(run))
    record = json.loads((run / "test" / "metrics.json").read_text())["scores"]
    shutil.copytree(run, tmp_path / "twin")
    capsys.readouterr()
    compare([run, tmp_path / "twin", run], "test", tmp_path / "out")
    said = capsys.readouterr().out
    table = list(csv.DictReader((tmp_path / "out" / "comparison.csv").open(encoding="utf-8")))
    assert [row["run"] for row in table] == ["run", "twin", "run"]
    for name, score in record.items():
        for column, end in ((name, "value"), (f"{name}_low", "low"), (f"{name}_high", "high")):
            assert float(table[0][column]) == pytest.approx(score[end], abs=1e-6)
    beside_best = ("difference", "difference_low", "difference_high", "p")
    assert [float(table[1][name]) for name in beside_best] == [0, 0, 0, 1]
    assert [row["is_best"] for row in table] == ["1", "0", "0"]
    assert (tmp_path / "out" / "comparison.md").read_text().count("linknet") == 3
    assert (tmp_path / "out" / "report-blobs.html").stat().st_size > 10_000
    assert "comparison.md" in said and "report-blobs.html" in said


def test_distances_are_also_in_own_pixels_and_in_mm(run):
    """The images of 80 px are scored at 64 px."""
    scores = evaluate(EvaluateConfig(run, spacing="0.5"))
    assert scores["hd95_own"] == pytest.approx(scores["hd95"] * 80 / 64)
    assert scores["hd95_mm"] == pytest.approx(scores["hd95_own"] / 2)
    rows = list(csv.DictReader((run / "test" / "per_image.csv").open(encoding="utf-8")))
    mean = np.mean([float(row["hd95_mm"]) for row in rows])
    assert mean == pytest.approx(scores["hd95_mm"], abs=1e-6)
    text = (run / "test" / "report.html").read_text()
    assert f"{scores['hd95_mm']:.1f} mm" in text
    assert "hd95_mm" not in evaluate(EvaluateConfig(run))


@pytest.mark.parametrize("spacing", ["0", "0.5x", "1x1x1", "-1", "inf", "a"])
def test_a_spacing_that_is_none_is_refused(spacing):
    with pytest.raises(InputError, match="expected mm per pixel, one number such as 0.5"):
        parse_evaluate(["runs/a", f"--spacing={spacing}"])
