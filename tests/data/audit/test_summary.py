"""`segacc check` says what a data set is, and writes no file that was not asked for."""

import re
import shutil

import cv2
import pytest
from small import write_blobs, write_classes, write_shapes

from segacc.commands.data import check, how_to_train, prepare
from segacc.config.flags import parse_train
from segacc.config.options import NO_FLAGS
from segacc.data.audit.audit import audit
from segacc.data.audit.summary import split_rows, summary
from segacc.errors import InputError


@pytest.fixture
def blobs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_blobs(tmp_path / "blobs")


def test_images_sizes_and_foreground_of_each_split_are_said(blobs):
    masks = {
        split: [cv2.imread(str(path), 0) > 0 for path in (blobs / split).glob("*.png")]
        for split in ("train", "valid", "test")
    }
    cv2.imwrite(str(blobs / "test" / "test0.png"), 0 * cv2.imread(str(blobs / "test/test0.png")))
    masks["test"] = [cv2.imread(str(path), 0) > 0 for path in (blobs / "test").glob("*.png")]
    first, head, *rows, missing = summary(audit(str(blobs))).splitlines()
    assert first == "20 images, binary masks"
    assert head.split() == ["split", "images", "foreground", "empty", "size"]
    for row, (split, of_split) in zip(rows, masks.items(), strict=True):
        share = sum(mask.mean() for mask in of_split) / len(of_split)
        empty = str(sum(not mask.any() for mask in of_split))
        expected = [split, str(len(of_split)), f"{share:.1%}", empty, "64", "x", "64", "px"]
        assert row.split() == expected
    assert missing == "missing splits: none"


def test_shares_of_classes_and_ignored_pixels_are_said_in_80_columns(tmp_path):
    found = audit(str(write_classes(tmp_path / "set")))
    text = summary(found)
    assert text.startswith("20 images, 3 classes\n") and max(map(len, text.splitlines())) <= 80
    rows = split_rows(found)
    for number, name in enumerate(("ground", "disc", "box")):
        shares = "".join(f"  {row.shares[number]:>5.1%}" for row in rows)
        assert f"\n  {name:<19}{shares}\n" in text
    for row in rows:
        assert row.ignored == 3 / 64 and f"  {row.name:<5}  {row.images:>6}     4.7%  64" in text


def test_a_split_that_is_missing_and_the_range_of_sizes_are_said(tmp_path):
    shapes = [(40, 50), (60, 50), (64, 96)]
    folder = write_shapes(tmp_path / "set", shapes)
    shutil.rmtree(folder / "test")
    text = summary(audit(str(folder)))
    assert "3 sizes, 50 x 40 to 96 x 64 px" in text
    assert text.endswith("missing splits: test (score with --split valid)")


def test_good_data_are_described_and_no_file_is_written(blobs, tmp_path, capsys):
    assert check(str(blobs)) == 0
    printed = capsys.readouterr().out
    order = ["20 images, binary masks", "--page check.html", "errors: 0, warnings: 0", "next: "]
    places = [printed.index(text) for text in order]
    assert places == sorted(places)
    # The package is of the tests' own requirements, the weights of resnet34 are in no cache.
    encoder = "timm-tf_efficientnet_lite0"
    assert f"next: segacc train --dataset {blobs} --encoder {encoder} --recipe strong\n" in printed
    assert "(12 images to train on are few: " in printed
    assert "\N{UPPER HALF BLOCK}" not in printed  # here is no terminal
    assert [path.name for path in tmp_path.iterdir()] == ["blobs"]


def test_the_next_command_fits_the_number_of_images():
    assert "--recipe" not in how_to_train("set", NO_FLAGS, 160)
    assert "--recipe strong\n" in how_to_train("set", NO_FLAGS, 159)
    assert "--recipe strong --batch-size 4\n" in how_to_train("set", NO_FLAGS, 4)


def test_the_next_command_trains_on_what_was_checked(blobs, tmp_path, capsys):
    page = tmp_path / "check.html"
    assert check(str(blobs), size=(96, 64), crop=32, augment="light", page=page) == 0
    next_one = capsys.readouterr().out.partition("next: ")[2].splitlines()[0]
    config = parse_train(next_one.split()[2:])
    assert (config.size, config.crop, config.augment) == ((96, 64), 32, "light")


def test_a_terminal_shows_three_images_with_their_masks(blobs, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert check(str(blobs)) == 0
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if "\N{UPPER HALF BLOCK}" in line)
    assert row.count("\N{UPPER HALF BLOCK}") == 3 * 24
    assert len(re.findall(r"\btrain\d+\.jpg", printed)) == 3


def test_data_with_an_error_get_no_next_step(blobs, capsys):
    (blobs / "train" / "train0.png").write_bytes(b"no image")
    assert check(str(blobs)) == 1
    printed = capsys.readouterr().out
    assert "19 images, binary masks" in printed and "next: " not in printed


@pytest.mark.parametrize("command", [check, prepare])
def test_a_size_that_is_too_small_is_one_sentence(blobs, command):
    with pytest.raises(InputError, match=r"--size 0x5: expected 8 or more\."):
        command(str(blobs), size=(0, 5))
