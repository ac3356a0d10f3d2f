"""Training refuses data on which no score means anything, and says what makes a score doubtful."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from small import TINY, write_blobs

from segacc.config.evaluate import EvaluateConfig
from segacc.config.flags import parse_train
from segacc.data.prepare import prepare
from segacc.data.reading.convert import convert_folder
from segacc.data.rows import Source
from segacc.errors import InputError
from segacc.evaluation.load import load_evaluation
from segacc.training.checks import check_data, check_flags, warnings_of
from segacc.training.fit import fit


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGACC_CACHE", str(tmp_path / "cache"))
    AcceleratorState._reset_state(reset_partial_state=True)
    return write_blobs(tmp_path / "blobs", train=4, valid=4, test=3)


def fill_masks(folder, split, value, *names):
    for path in (folder / split).glob("*.png"):
        if not names or path.stem in names:
            cv2.imwrite(str(path), np.full((64, 64), value, np.uint8))


def flags(folder, *more):
    base = ["--dataset", folder, "--size", 64, "--weights", "none", "--batch-size", 4, *more]
    return parse_train([*map(str, base), *TINY, "--tracker", "none"])


def refusal(folder, size=64):
    config = replace(flags(folder), size=size)
    with pytest.raises(InputError) as error:
        check_data(config, prepare(Source(convert_folder(folder)), size))
    return str(error.value)


def test_a_validation_split_without_foreground_is_refused_before_the_first_step(folder, tmp_path):
    """Before, it ended with the IoU 1.0000."""
    fill_masks(folder, "valid", 0)
    with pytest.raises(InputError, match="in its split valid, all 4 masks are empty, so that a"):
        fit(flags(folder, "--output-dir", tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("split", "value", "said"),
    [
        ("train", 0, "in its split train, all 4 masks are empty"),
        ("valid", 255, "in its split valid, all 4 masks are foreground everywhere"),
        ("train", 255, "in its split train, all 4 masks are foreground everywhere"),
    ],
)
def test_a_split_of_one_class_is_refused(folder, split, value, said):
    fill_masks(folder, split, value)
    assert said in refusal(folder)


def test_foreground_that_has_vanished_in_the_resize_is_explained(folder):
    dot = np.zeros((64, 64), np.uint8)
    dot[33, 33] = 255
    for path in (folder / "valid").glob("*.png"):
        cv2.imwrite(str(path), dot)
    said = refusal(folder, 16)
    assert "all foreground has vanished in the resize to 16 x 16 px: give --size" in said


def test_what_makes_a_score_doubtful_is_said_and_no_more(folder):
    assert warnings_of(prepare(Source(convert_folder(folder)), 64)) == []
    fill_masks(folder, "valid", 0, "valid0")
    fill_masks(folder, "test", 0)
    said = warnings_of(prepare(Source(convert_folder(folder)), 64))
    assert [line.split(":")[0] for line in said] == ["valid", "test"]
    assert said[0].startswith("valid: 1 of 4 masks are empty")
    assert said[1].endswith("evaluate.py will refuse it")


def test_regions_that_vanish_are_said_also_of_a_set_that_is_in_the_cache(folder):
    for path in folder.glob("*/*.png"):
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        mask[1::13, 1::13] = 255
        cv2.imwrite(str(path), mask)
    for _ in range(2):
        (said,) = warnings_of(prepare(Source(convert_folder(folder)), 32))
        assert "the resize to 32 px removes" in said
        assert "--size 64 keeps them in 11 of these 11" in said


def test_training_warns_and_evaluation_refuses_a_split_without_foreground(folder, tmp_path, capsys):
    fill_masks(folder, "valid", 0, "valid0")
    fit(flags(folder, "--output-dir", tmp_path / "run", "--epochs", 1))
    assert "  warning     valid: 1 of 4 masks are empty" in capsys.readouterr().out
    other = write_blobs(tmp_path / "other", 1, 1, 2)
    fill_masks(other, "test", 0)
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(InputError, match="--split test of .*other: all 2 masks are empty"):
        load_evaluation(EvaluateConfig(tmp_path / "run", dataset=str(other)))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--freeze-encoder",), "--freeze-encoder keeps the random weights that --weights none"),
        (("--freeze-encoder", "--layer-decay", "0.9"), "no effect on an encoder that is frozen"),
        (("--pictures", 3), "--pictures 3 has no effect with --tracker none"),
    ],
)
def test_a_flag_without_a_good_effect_is_said(folder, caplog, given, said):
    check_flags(flags(folder, *given), Accelerator(cpu=True))
    assert any(said in message for message in caplog.messages)


def test_flags_with_an_effect_are_not_remarked_upon(folder, caplog):
    config = replace(flags(folder, "--freeze-encoder"), weights="imagenet")
    check_flags(config, Accelerator(cpu=True))
    assert caplog.messages == []


def test_freeze_bn_of_a_model_without_batchnorm_is_in_the_banner(folder, tmp_path, capsys):
    config = flags(folder, "--output-dir", tmp_path / "run", "--freeze-bn", "--epochs", 1)
    fit(replace(config, model="fpn", encoder="tu-test_convnext"))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "batchnorm" in line]
    assert line.split(maxsplit=1)[1] == "the model has none"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ("--class-weights", "balanced", "--loss", "dice"),
            "no effect on --loss dice, only on ce and focal",
        ),
        (("--ohem", 0.3, "--loss", "lovasz"), "--ohem 0.3 has no effect .* or give --loss lovasz"),
        (("--label-smoothing", 0.1, "--loss", "focal"), "no effect on --loss focal, only on ce"),
        (("--ohem", 2, "--loss", "ce"), "--ohem 2.0: expected a share of the pixels"),
        (("--label-smoothing", 1, "--loss", "ce"), "--label-smoothing 1.0: expected 0 to below 1"),
    ],
)
def test_a_flag_without_effect_on_the_loss_is_refused(folder, given, said):
    with pytest.raises(InputError, match=said):
        check_flags(flags(folder, *given), Accelerator(cpu=True))


def test_how_pixels_count_is_said_and_changes_the_losses(folder, tmp_path, capsys):
    given = ("--loss", "ce", "--class-weights", "balanced", "--ohem", 0.5)
    losses = []
    for name, more in (("plain", given[:2]), ("weighed", given)):
        AcceleratorState._reset_state(reset_partial_state=True)
        run = fit(flags(folder, "--output-dir", tmp_path / name, "--epochs", 1, *more))
        losses.append(json.loads((run / "metrics.jsonl").read_text())["train_loss"])
    said = capsys.readouterr().out
    assert said.count("pixels weigh by class: background 0.") == 1
    assert "only the 50% of the pixels with the largest loss count" in said
    assert losses[1] > 1.1 * losses[0]
