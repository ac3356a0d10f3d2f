"""segacc study: its cells, its table, and runs that fail, are killed and go on."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields

import pytest
from runs import make_run
from small import ROOT, TINY, lines, run_program, write_blobs, write_classes

from segacc.config.evaluate import EvaluateConfig
from segacc.config.flags import parse_train
from segacc.config.options import Budget, Reading
from segacc.config.train import SEGFORMER_B0, STUDY_MODELS
from segacc.data.prepare import prepare
from segacc.data.reading.convert import convert_folder
from segacc.data.reading.sources import load_dataset
from segacc.data.rows import Source
from segacc.errors import InputError
from segacc.evaluation.evaluate import evaluate
from segacc.evaluation.scored_runs import read_scored_run
from segacc.labels import Labels, colours_for
from segacc.metrics.scores import FORMULAS
from segacc.study import schedule
from segacc.study.cells import Cell, cells_of, check_same, check_same_data
from segacc.study.study import study, write_tables
from segacc.study.table import (
    Row,
    study_lines,
    study_note,
    study_rows,
    study_table,
)
from segacc.study.transfer import transfer_note, transfer_table
from segacc.training.fit import fit


def cells(
    out, datasets=("pedestrian", "gland"), seeds=(0,), weights="imagenet", fast=False, **more
):
    starts, models = weights.split(","), list(STUDY_MODELS)
    return cells_of(list(datasets), models, list(seeds), starts, "none", fast, out, **more)


def test_the_study_has_fourteen_cells_under_its_protocol(tmp_path):
    configs = [parse_train(cell.flags) for cell in cells(tmp_path)]
    seen = [(c.dataset, c.model, c.size, c.crop, c.flips) for c in configs]
    assert seen == [
        *(("pedestrian", model, 128, None, "h") for model in STUDY_MODELS),
        *(("gland", model, 256, None, "hv") for model in STUDY_MODELS),
        ("gland", "linknet", 512, 256, "h"),
        ("gland", "deeplabv3plus", 512, 256, "h"),
    ]
    assert {(c.loss, c.epochs, c.patience) for c in configs} == {("dice", 100, 10)}


def test_seeds_and_weights_reach_every_cell_and_folders_differ(tmp_path):
    found = cells(tmp_path, seeds=(3, 5), weights="none")
    configs = [parse_train(cell.flags) for cell in found]
    assert len(found) == len({cell.run for cell in found}) == 28
    assert [c.seed for c in configs] == [3] * 14 + [5] * 14
    assert {c.weights for c in configs} == {"none"}


def test_each_fold_is_a_run_and_the_budget_reaches_all(tmp_path):
    budget = Budget(epochs=3, size=(96, 64), batch_size=4, loss="focal", lr=0.01, patience=2)
    found = cells(tmp_path, ["gland"], seeds=(0, 1), budget=budget, folds=3)
    configs = [parse_train(cell.flags) for cell in found]
    assert len(found) == len({cell.run for cell in found}) == 2 * 6 * 3  # without the crops
    assert {config.fold for config in configs} == {"1/3", "2/3", "3/3"}
    assert found[1].run.name == "gland-unet-seed0-fold2of3"
    assert len({cell.together for cell in found}) == 6
    assert {(c.epochs, c.size, c.batch_size, c.loss, c.lr, c.patience) for c in configs} == {
        (3, (96, 64), 4, "focal", 0.01, 2)
    }
    with pytest.raises(InputError, match="--fold 1/3 is one of --folds 3: give one of the two"):
        cells(tmp_path, reading=Reading(fold="1/3"), folds=3)


def test_figures_of_the_study_do_not_stand_beside_runs_of_another_budget(tmp_path):
    for name, budget in (("usual", {}), ("short", {"epochs": 3})):
        run = make_run(tmp_path / name, [0.5, 0.6], model="fpn", recipe="study", **budget)
        (row,) = study_table(study_rows([read_scored_run(run, "test")]))
        assert row.get("published", "") == ("0.768" if name == "usual" else "")


def same_as(row, column, score):
    for end, name in (("", "value"), ("_low", "low"), ("_high", "high")):
        assert float(row[column + end]) == pytest.approx(score[name], abs=2e-6), column + end


@pytest.mark.slow
def test_folds_that_are_done_are_scored_together_once(tmp_path, capsys):
    data, out = write_blobs(tmp_path / "blobs"), tmp_path / "out"
    more = {"encoder": TINY[3], "folds": 2}
    more |= {"budget": Budget(epochs=1, size=64, batch_size=4)}
    found = cells_of([str(data)], ["linknet"], [0], ["none"], "none", False, out, **more)
    for cell in found:
        fit(parse_train([*cell.flags, "--output-dir", str(cell.run)]))
        evaluate(EvaluateConfig(cell.run))
        cell.mark_done()
    assert study(found, out) == 0
    assert "blobs-linknet: its 2 folds are scored together" in capsys.readouterr().out
    scores = {
        split: json.loads((out / "folds" / "blobs-linknet" / split / "metrics.json").read_text())
        for split in ("test", "out-of-fold")
    }
    (row,) = csv.DictReader((out / "study.csv").open())
    assert row["runs"] == "2" and row["iou_sd"]
    for column, split in (("mean_of_folds", "test"), ("out_of_fold", "out-of-fold")):
        for name, score in scores[split]["scores"].items():
            called = column if name == "iou" else f"{column}_{name}"
            same_as(row, called, score)
    ends = [f"{name}{end}" for name in FORMULAS for end in ("", "_low", "_high")]
    empty = {name for name in ends if name in row and not row[name]}
    assert empty == {"ece_low", "ece_high"}
    twice = [read_scored_run(found[0].run, "test")] * 2
    of_mean, of_run = study_lines([Row(twice[:n], None, None) for n in (2, 1)])
    for name, score in twice[0].metrics["scores"].items():
        same_as(of_run, name, score)
        if name != "ece":  # the mean of a run and itself
            same_as(of_mean, name, score)
    text = (out / "study.md").read_text()
    assert "| out of fold |" in text and "all scores but ece" in text
    assert study(found, out) == 0 and "scored together" not in capsys.readouterr().out


def test_the_fast_one_has_the_same_cells_on_smaller_images(tmp_path):
    fast = cells(tmp_path, ("demo-pedestrian", "demo"), fast=True)
    assert [(parse_train(c.flags).model, bool(parse_train(c.flags).crop)) for c in fast] == [
        (parse_train(c.flags).model, bool(parse_train(c.flags).crop)) for c in cells(tmp_path)
    ]
    assert {parse_train(c.flags).size for c in fast} == {64, 128, 256}


def test_a_folder_with_a_run_of_other_flags_is_refused(tmp_path):
    flags = ("--dataset", "gland", "--lr", "0.01", "--weights", "none")
    run = make_run(tmp_path / "run", [0.5], flips="hv", weights="none")
    with pytest.raises(InputError, match=r"run was made with --lr 0\.001, and now 0\.01 is asked"):
        check_same(Cell(run, "gland", flags))
    check_same(Cell(run, "gland", (*flags[:2], *flags[4:], "--tracker", "none")))


def test_a_folder_with_a_run_on_other_images_is_refused(tmp_path):
    """Of sets in folders of one name; a set that has only moved is the same."""
    data = write_blobs(tmp_path / "blobs")
    flags = ("--dataset", str(data), "--size", "64", "--weights", "none")
    run = make_run(tmp_path / "run", [0.5], dataset="/gone/blobs", size=64, weights="none")
    with pytest.raises(InputError, match="made with --dataset /gone/blobs, and the images of"):
        check_same(Cell(run, str(data), flags))
    record = json.loads((run / "config.json").read_text())
    record["data"] = {"fingerprint": prepare(Source(convert_folder(data)), 64).fingerprint}
    (run / "config.json").write_text(json.dumps(record))
    check_same(Cell(run, str(data), flags))


def test_the_table_is_over_seeds_in_the_order_of_the_study(tmp_path):
    runs = [
        make_run(tmp_path / "a", [0.5, 0.7], seed=0, weights="none", recipe="study"),
        make_run(tmp_path / "b", [0.5, 0.7], model="fpn", size=512, crop=256, weights="none"),
        make_run(tmp_path / "c", [0.7, 0.9], seed=1, weights="none", recipe="study"),
    ]
    both, single = study_table(study_rows([read_scored_run(run, "test") for run in runs]))
    assert both["iou on test"] == "0.700 ± 0.141" and both["published"] == "0.781"
    assert both["95 % interval"] == "0.600 to 0.800"  # of two images: either one twice
    assert (both["model"], both["data"], both["seeds"]) == ("linknet", "gland 256", "2")
    assert both["best epoch"] == "2 of 3, 2 of 3" and both["minutes"] == "1.5 ± 0.0"
    assert (single["model"], single["data"]) == ("fpn", "gland 512, crop 256")
    assert single["iou on test"] == "0.600" and single.get("published", "") == ""
    assert single["weights"] == "none" and single["constant"] == "1.000"  # all is foreground there


def test_cells_that_would_be_the_same_run_are_refused(tmp_path):
    for sets, seeds in ((["a/images", "b/images"], [0]), (["gland"], [3, 3])):
        with pytest.raises(InputError, match="two cells would be .*-unet-seed"):
            cells_of(sets, ["unet"], seeds, ["none"], "none", False, tmp_path)
    with pytest.raises(InputError, match="--model linkent is not known; did you mean linknet"):
        cells_of(["gland"], ["linkent"], [0], ["none"], "none", False, tmp_path)


def test_the_study_says_its_recipe_and_over_what_its_means_are(tmp_path, capsys):
    data = write_blobs(tmp_path / "blobs")
    shutil.rmtree(data / "test")
    for recipe, shown in (
        ("study", "1 run with --recipe study (`segacc train` has default)"),
        ("default", "1 run with --recipe default"),
    ):
        (cell,) = cells_of(
            [str(data)], ["unet"], [0], ["none"], "none", True, tmp_path / "out", recipe=recipe
        )
        with pytest.raises(InputError, match="no test split"):
            study([cell], tmp_path / "out")
        assert capsys.readouterr().out.splitlines()[0] == shown
    runs = [make_run(tmp_path / f"{k}", [0.5], recipe="study", fold=f"{k}/2") for k in (1, 2)]
    for count, over in ((1, "over seeds,"), (2, "over seeds and folds,")):
        note = study_note(study_rows([read_scored_run(run, "test") for run in runs[:count]]))
        assert f"standard deviation {over} of runs with --recipe study. " in note
        assert ("out of fold: " in note) == (count == 2) and "as well" not in note


def test_a_set_without_a_test_split_is_refused_at_once(tmp_path):
    data = write_blobs(tmp_path / "blobs")
    shutil.rmtree(data / "test")
    (cell,) = cells_of([str(data)], ["unet"], [0], ["none"], "none", True, tmp_path / "out")
    with pytest.raises(InputError, match="blobs has no test split"):
        study([cell], tmp_path / "out")


RUN = """
import os, sys, time
from pathlib import Path
run = Path(sys.argv[1])
run.mkdir()
where = os.environ["CUDA_VISIBLE_DEVICES"]
(run / "where").write_text(where + " " + os.environ["WANDB_RUN_GROUP"])
until = time.monotonic() + 30
while len({p.read_text() for p in run.parent.glob("*/where")} - {""}) < 2:  # the other GPU's run
    assert time.monotonic() < until
    time.sleep(0.02)
"""


def test_cells_are_spread_over_the_gpus_in_one_group(tmp_path, monkeypatch):
    """Of the GPUs only their number and names are made up."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")

    def train(cell):
        return [sys.executable, "-c", RUN, str(cell.run)]

    monkeypatch.setattr(schedule, "train_command", train)
    monkeypatch.setattr(schedule, "score_command", lambda cell: [sys.executable, "-c", "pass"])
    (tmp_path / "night" / "logs").mkdir(parents=True)
    some = cells(tmp_path / "night", ["pedestrian"], weights="none")
    assert schedule.run_cells(some, tmp_path / "night") == {} and all(cell.is_done for cell in some)
    found = [(cell.run / "where").read_text() for cell in some]
    assert set(found) == {"4 night", "7 night"} and len(found) == 6


@pytest.mark.soak
def test_a_study_that_is_stopped_goes_on_and_one_that_fails_does_the_rest(tmp_path):
    data = write_blobs(tmp_path / "blobs", train=16)
    out = tmp_path / "study"
    command = [sys.executable, "-m", "segacc", "study", "--fast"]
    command += ["--dataset", str(data), "--out", str(out), "--models"]
    options = {"cwd": ROOT, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}

    first = subprocess.Popen([*command, "linknet"], **options)
    run = out / "blobs-linknet-seed0"
    until = time.monotonic() + 120
    while not (run / "config.json").exists():
        assert time.monotonic() < until and first.poll() is None, first.communicate()
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    printed, said = first.communicate(timeout=60)
    assert first.returncode == 75 and "the same command goes on from here" in said
    assert "blobs-linknet-seed0: stopped" in printed
    assert not (run / "test").exists()

    second = subprocess.run([*command, "dpt,linknet"], timeout=240, **options)
    assert second.returncode == 1, second.stderr
    assert (
        "failed: blobs-dpt-seed0: --model dpt cannot be built with --encoder resnet34"
        in second.stderr
    )
    assert "blobs-linknet-seed0: done" in second.stdout and len(lines(run)) == 2
    assert (out / "study.csv").read_text().count("\n") == 2
    for name in ("study.md", "comparison.md", "report-blobs.html"):
        assert "linknet" in (out / name).read_text()

    third = subprocess.run([*command, "linknet"], timeout=240, **options)
    assert third.returncode == 0 and "linknet-seed0: " not in third.stdout  # it is done


READING = Reading(
    pairs=("{}.bmp={}.png",), classes="ground,disc,box", ignore="7-9", group_by=r"-?(\w+)\d"
)


def test_how_a_set_is_read_reaches_every_cell(tmp_path):
    found = cells_of(["a", "b"], ["unet", "fpn"], [0], ["none"], "none", True, tmp_path, READING)
    assert [cell.reading for cell in found] == [READING] * 4
    assert [Reading.of(vars(parse_train(cell.flags))) for cell in found] == [READING] * 4
    with pytest.raises(InputError, match="--group-by '\\(' is no regular expression"):
        cells_of(["a"], ["unet"], [0], ["none"], "none", True, tmp_path, Reading(group_by="("))


def test_the_command_takes_the_flags_of_training(tmp_path):
    done = run_program("-m", "segacc", "study", "--help")
    for field in fields(Reading):
        assert f"--{field.name.replace('_', '-')}" in done.stdout, field.name
    data = write_classes(tmp_path / "shapes")
    shutil.rmtree(data / "test")
    flags = ["--dataset", data, "--models", "unet", "--classes", "a,b,c", "--out", tmp_path / "out"]
    done = run_program("-m", "segacc", "study", *flags, "--fast")
    assert done.returncode == 2 and "shapes has no test split" in done.stderr


def test_a_run_whose_classes_were_others_is_refused(tmp_path):
    data = write_classes(tmp_path / "shapes")
    read = Reading(classes="ground,disc,box")
    source = load_dataset(str(data), read)
    known = {"fingerprint": prepare(source, 64).fingerprint, "labels": source.labels.to_config()}
    run = make_run(tmp_path / "run", [0.5], dataset=str(data), size=64, classes=read.classes)
    record = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(record | {"data": known}))
    check_same_data(run, str(data), read, 64)
    check_same_data(run, str(data), Reading(), 64)  # the same classes, as classes.txt says
    for other in ("ground,disc,square", "ground:0,disc:1-2"):
        with pytest.raises(InputError, match="its images, masks or classes are others now"):
            check_same_data(run, str(data), Reading(classes=other), 64)


COUNTS_OF_A_HALF = {"tp": 30, "fp": 15, "fn": 15, "tn": 40}


def test_the_table_of_sets_with_classes_says_miou(tmp_path):
    per_class = [{"name": name, "pixels": 50, "share": 0.5} for name in ("a", "b", "c")]
    labels = Labels(("a", "b", "c"), colours_for(("a", "b", "c"))).to_config()
    scored = {"labels": labels, "per_class": per_class, "threshold": None}
    runs = [make_run(tmp_path / f"{i}", [0.5], seed=i, scored=scored) for i in range(2)]
    for run in runs:
        columns = {f"{k}/{name}": n for name in "abc" for k, n in COUNTS_OF_A_HALF.items()}
        rows = [["name", *columns], ["image0", *map(str, columns.values())]]
        (run / "test" / "per_image.csv").write_text("\n".join(map(",".join, rows)))
    found = [read_scored_run(run, "test") for run in runs]
    (row,) = study_table(study_rows(found))
    assert row["miou on test"] == "0.500 ± 0.000" and "iou on test" not in row
    assert row["threshold"] == "" and row["seeds"] == "2"
    assert study_note(study_rows(found)).startswith("miou is the mean over the classes")
    binary = [read_scored_run(make_run(tmp_path / "binary", [0.5]), "test")]
    assert study_note(study_rows(binary)).startswith(
        "iou is over all pixels of the test split, iou_image"
    )
    assert "iou on test" in study_table(study_rows(binary + found))[0]


@pytest.mark.soak
def test_a_study_of_a_set_with_classes_ends_in_a_table_of_miou(tmp_path):
    data = write_classes(tmp_path / "shapes")
    flags = ["--dataset", data, "--models", "linknet,unet", "--classes", "ground,disc,box"]
    done = run_program("-m", "segacc", "study", "--fast", *flags, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "miou on test" in (tmp_path / "out" / "study.md").read_text()
    assert "| disc | " in (tmp_path / "out" / "comparison.md").read_text()


def test_the_transfer_study_has_each_cell_from_both_starts(tmp_path):
    """SegFormer has an encoder of its own, whose pretrained weights have another name."""
    lite = "timm-tf_efficientnet_lite0"
    found = cells(tmp_path, ["pedestrian"], weights="imagenet,none", encoder=lite)
    configs = [parse_train(cell.flags) for cell in found]
    assert [(c.model, c.encoder, c.weights) for c in configs] == [
        *((m, lite, w) for m in STUDY_MODELS[:-1] for w in ("imagenet", "none")),
        ("segformer", None, SEGFORMER_B0),
        ("segformer", None, "none"),
    ]
    names = [cell.run.name for cell in found]
    assert names[:2] == ["pedestrian-unet-imagenet-seed0", "pedestrian-unet-none-seed0"]
    assert {c.recipe for c in configs} == {"study"}
    strong = cells(tmp_path, ["pedestrian"], weights="none", recipe="strong")
    assert {parse_train(cell.flags).augment for cell in strong} == {"light"}


def test_the_transfer_table_says_what_pretrained_weights_gave(tmp_path, monkeypatch):
    runs = [
        make_run(tmp_path / "a", [0.5, 0.7], weights="none", patience=10, background=200),
        make_run(tmp_path / "b", [0.5, 0.9], weights="none", seed=1, patience=10, background=200),
        make_run(tmp_path / "c", [0.8, 0.9], weights="imagenet", background=200),
    ]
    scored = [read_scored_run(run, "test") for run in runs]
    (row,) = table = transfer_table(scored)
    assert (row["model"], row["data"]) == ("linknet", "gland 256")
    assert row["iou from random weights"] == "0.650 ± 0.071"
    assert (row["pretrained"], row["iou from these"], row["gain"]) == (
        "imagenet",
        "0.850",
        "+0.200",
    )
    assert len(study_table(study_rows(scored))) == 2 and transfer_note(table, scored) == ""
    assert transfer_table(scored[:2]) == transfer_table(scored[2:]) == []  # of one start
    runs.append(make_run(tmp_path / "e", [0.4, 0.4], weights="mine.pt", background=200))
    table = transfer_table([read_scored_run(run, "test") for run in runs])
    assert [(row["pretrained"], row["gain"]) for row in table] == [
        ("imagenet", "+0.200"),
        ("mine.pt", "-0.250"),
    ]
    monkeypatch.setattr("segacc.study.study.compare", lambda *_: None)  # which needs the images
    write_tables(runs, tmp_path)
    assert "+0.200" in (tmp_path / "study.md").read_text()


def test_the_transfer_table_says_if_the_recipe_depends_on_the_start(tmp_path):
    runs = [
        make_run(tmp_path / "a", [0.5, 0.7], weights="none", lr=1e-3, augment="light", patience=9),
        make_run(tmp_path / "b", [0.8, 0.9], weights="imagenet", lr=3e-3, augment="strong"),
    ]
    scored = [read_scored_run(run, "test") for run in runs]
    note = transfer_note(transfer_table(scored), scored)
    assert "the recipe has other values of --augment, --lr, --patience, so the gain" in note


def test_the_transfer_table_has_models_of_one_start_and_marks_those_that_learnt_nothing(
    tmp_path, monkeypatch, capsys
):
    """Of two pixels in three that are background, the constant mask has 1 / 3."""
    runs = [
        make_run(tmp_path / f"{i}", ious, weights=weights, model=model, background=200)
        for i, (model, weights, ious) in enumerate(
            [
                ("pspnet", "none", [0.3, 0.6]),
                ("pspnet", "imagenet", [0.3, 0.6]),
                ("segformer", "none", [0.5, 0.7]),
                ("fpn", "imagenet", [0.5, 0.9]),
            ]
        )
    ]
    table = transfer_table([read_scored_run(run, "test") for run in runs])
    names = ("model", "iou from random weights", "pretrained", "iou from these", "gain")
    assert [tuple(row[name] for name in names) for row in table] == [
        ("pspnet", "0.450 *", "imagenet", "0.450 *", "+0.000"),
        ("segformer", "0.600", "–", "–", "–"),
        ("fpn", "–", "imagenet", "0.700", "–"),
    ]
    monkeypatch.setattr("segacc.study.study.compare", lambda *_: None)  # which needs the images
    write_tables(runs, tmp_path)
    for text in (capsys.readouterr().out, (tmp_path / "study.md").read_text()):
        assert "*: no better than the best constant mask" in text


def test_published_figures_stand_only_beside_runs_of_the_study(tmp_path):
    for number, (given, shown) in enumerate(
        [({}, "0.781"), ({"encoder": "resnet18"}, ""), ({"recipe": "default"}, "")]
    ):
        run = make_run(tmp_path / f"{number}", [0.5], **{"recipe": "study"} | given)
        assert (
            study_table(study_rows([read_scored_run(run, "test")]))[0].get("published", "") == shown
        )


def test_an_encoder_that_is_wrong_or_without_effect_is_refused_before_a_run(tmp_path):
    for models, encoder, message in (
        (["unet"], "resnet43", "--encoder resnet43 is not known"),
        (["segformer"], "resnet18", "--encoder resnet18 has no effect on segformer"),
    ):
        with pytest.raises(InputError, match=message):
            cells_of(["gland"], models, [0], ["none"], "none", False, tmp_path, encoder=encoder)
