"""`segacc check`: every problem of a data set is found, with the file's name, and nothing else."""

import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from segacc.data.audit.audit import audit
from segacc.data.audit.findings import AuditFinding, format_findings
from segacc.data.reading.convert import convert_folder
from segacc.errors import InputError

H, W = 96, 128


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGACC_CACHE", str(tmp_path / "cache"))


def scene(seed: int) -> Image.Image:
    """A picture of its own: coarse blobs and fine grain."""
    rng = np.random.default_rng(seed)
    blobs = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    smooth = np.asarray(blobs.resize((W, H), Image.Resampling.BICUBIC), dtype=np.int64)
    grain = rng.integers(-10, 11, (H, W, 3))
    return Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))


def mask(value: int = 255) -> Image.Image:
    levels = np.zeros((H, W), dtype=np.uint8)
    levels[20:60, 30:80] = value
    return Image.fromarray(levels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound data set."""
    root = tmp_path / "set"
    for seed, name in enumerate(["train/a", "train/b", "train/c", "valid/d", "valid/e", "test/f"]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        scene(seed).save(root / f"{name}.jpg", quality=95)
        mask().save(root / f"{name}.png")
    return root


def only(folder: Path) -> AuditFinding:
    (finding,) = audit(str(folder)).findings
    return finding


def test_a_data_set_without_faults_has_no_findings(folder):
    assert audit(str(folder)).findings == []
    assert format_findings([]) == "errors: 0, warnings: 0"


def test_structure_and_content_are_both_checked(folder):
    (folder / "train/a.png").unlink()
    data = (folder / "valid/d.jpg").read_bytes()
    (folder / "valid/d.jpg").write_bytes(data[: len(data) // 2])
    Image.fromarray(np.full((H, W), 7, dtype=np.uint8)).save(folder / "test/f.png")
    findings = audit(str(folder)).findings
    assert {finding.severity for finding in findings} == {"error"}
    problems = {finding.file: finding.problem for finding in findings}
    assert problems.keys() == {"train/a.jpg", "valid/d.jpg", "test/f.png"}
    assert problems["train/a.jpg"].startswith("is an image without a mask")
    assert problems["valid/d.jpg"].startswith("is damaged or cut short")
    assert problems["test/f.png"].startswith("has the values 7 (1 in all)")


def test_the_same_image_in_two_splits_is_a_leak(folder):
    Image.open(folder / "train/b.jpg").save(folder / "other.png")  # the pixels count, not the file
    (folder / "other.png").rename(folder / "test/g.tif")
    mask().save(folder / "test/g.png")
    finding = only(folder)
    assert (finding.severity, finding.file) == ("warning", "test/g.tif")
    assert finding.topic == "the same image in two splits"
    assert finding.problem.startswith("is the same image as train/b.jpg: it leaks from train into")


def test_the_same_image_twice_in_a_split_is_found_also_with_another_mask(folder):
    shutil.copy(folder / "train/b.jpg", folder / "train/x.jpg")
    shutil.copy(folder / "train/b.png", folder / "train/x.png")
    shutil.copy(folder / "train/c.jpg", folder / "train/y.jpg")
    mask(0).save(folder / "train/y.png")
    twice = [f for f in audit(str(folder)).findings if f.topic == "the same image twice in a split"]
    assert [(f.file, f.problem) for f in twice] == [
        ("train/x.jpg", "is the same image as train/b.jpg: keep one of them"),
        ("train/y.jpg", "is the same image as train/c.jpg but with another mask: keep one of them"),
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.resize((W // 2, H // 2)),
        lambda image: ImageEnhance.Brightness(image).enhance(1.1),
        lambda image: image.crop((1, 1, W - 1, H - 1)),
    ],
    ids=["resized", "brightened", "cropped"],
)
def test_look_alikes_in_two_splits_are_found(
    folder: Path, change: Callable[[Image.Image], Image.Image]
):
    changed = change(Image.open(folder / "train/c.jpg"))
    changed.save(folder / "valid/x.jpg", quality=60)
    mask().resize(changed.size, Image.Resampling.NEAREST).save(folder / "valid/x.png")
    finding = only(folder)
    assert (finding.severity, finding.file) == ("warning", "valid/x.jpg")
    assert finding.problem.startswith("looks like train/c.jpg")


def test_look_alikes_within_a_split_are_not_reported(folder):
    Image.open(folder / "train/c.jpg").save(folder / "train/x.jpg", quality=60)
    mask().save(folder / "train/x.png")
    assert audit(str(folder)).findings == []


def test_scores_that_rest_on_few_masks_are_said(folder):
    mask(0).save(folder / "train/a.png")
    mask(0).save(folder / "train/b.png")
    finding = only(folder)
    assert (finding.severity, finding.file) == ("warning", "train")
    assert finding.problem == "all foreground is in 1 of 3 masks (c): iou rests on it"


def test_a_split_without_foreground_is_an_error(folder):
    for name in ("valid/d", "valid/e", "test/f"):
        mask(0).save(folder / f"{name}.png")
    valid, test = audit(str(folder)).findings
    assert (valid.severity, valid.file) == ("error", "valid")
    assert (test.severity, test.file) == ("warning", "test")
    assert valid.problem.startswith("all 2 masks are empty, so that a model that finds nothing has")


def test_objects_that_the_resize_takes_away_are_counted_when_asked_for(folder):
    dots = np.zeros((H, W), dtype=np.uint8)
    dots[10:80:16, 10:120:16] = 255  # one pixel each
    dots[60:90, 90:120] = 255
    Image.fromarray(dots).save(folder / "train/a.png")
    assert [f.topic for f in audit(str(folder)).findings] == ["tiny regions"]
    assert [f.topic for f in audit(str(folder), size=128).findings] == ["tiny regions"]
    finding, _ = audit(str(folder), size=32).findings
    assert (finding.severity, finding.file) == ("warning", "train")
    assert "the resize to 32 px removes" in finding.problem and "--size" in finding.problem


def test_the_values_of_images_with_16_bits_are_said(folder):
    for file in folder.rglob("*.jpg"):
        gray = np.asarray(Image.open(file).convert("L"), dtype=np.uint16)
        Image.fromarray(gray * 16 + 7).save(file.with_suffix(".tif"))
        file.unlink()
    notes = audit(str(folder)).findings
    assert [(note.severity, note.file) for note in notes] == [
        ("note", split) for split in ("train", "valid", "test")
    ]
    assert re.match(r"has values from \d+ to \d{4}; \d+\.\.\d{4} become 0\.\.255", notes[0].problem)


def test_a_mask_without_background_is_named(folder):
    Image.new("L", (W, H), 255).save(folder / "train/a.png")
    finding = only(folder)
    assert (finding.file, finding.topic) == ("train/a.png", "masks without background")


def test_a_mask_with_very_little_foreground_is_named(folder):
    dot = Image.new("L", (W, H), 0)
    dot.putpixel((50, 50), 255)
    dot.save(folder / "valid/e.png")
    finding, tiny = audit(str(folder)).findings
    assert tiny.problem.startswith("1 of 6 connected regions have at most 4 px (1 of foreground)")
    assert finding.file == "valid/e.png"
    assert finding.problem.startswith("is foreground on 0.0081% of the pixels only")


def test_masks_at_another_scale_are_one_entry(folder):
    for name in ("train/b", "train/c", "valid/d", "valid/e"):
        mask().resize((W // 2, H // 2), Image.Resampling.NEAREST).save(folder / f"{name}.png")
    findings = audit(str(folder)).findings
    assert [f.file for f in findings] == [
        "train/b.png",
        "train/c.png",
        "valid/d.png",
        "valid/e.png",
    ]
    said = format_findings(findings)
    assert "warning: masks at another scale (4)" in said
    assert "train/b.png: has another size than train/b.jpg, with the same proportions" in said
    assert "and 3 more of this kind: train/c.png, valid/d.png, ..." in said


def test_a_mask_of_another_convention_is_named(folder):
    mask(1).save(folder / "train/b.png")
    finding = only(folder)
    assert finding.file == "train/b.png"
    assert finding.problem.startswith("marks the foreground by 1 where most masks do by 255")


def test_an_archive_is_checked_like_its_folder(folder, tmp_path):
    (folder / "train/a.png").unlink()
    (folder / "valid/d.jpg").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for file in folder.rglob("*.*"):
            archive.write(file, file.relative_to(folder))
    assert audit(str(tmp_path / "set.zip")).findings == audit(str(folder)).findings
    assert len(audit(str(folder)).findings) == 2


def test_a_saved_data_set_of_embedded_files_is_checked(folder, tmp_path):
    (folder / "valid/d.jpg").write_bytes(b"no image")
    convert_folder(folder).save_to_disk(str(tmp_path / "saved"))
    shutil.rmtree(folder)
    finding = only(tmp_path / "saved")
    assert finding.severity == "error"
    assert "d.jpg" in finding.file
    assert finding.problem.startswith("is not an image")


def test_a_data_set_that_does_not_exist_is_an_input_error(tmp_path):
    with pytest.raises(InputError):
        audit(str(tmp_path / "nowhere"))


def test_findings_of_one_kind_are_one_entry(folder):
    for seed, name in enumerate("stuvw", 20):
        scene(seed).save(folder / f"train/{name}.jpg")
    Image.new("L", (W, H), 255).save(folder / "train/a.png")
    (folder / "valid/d.jpg").write_bytes(b"")
    findings = audit(str(folder)).findings
    assert format_findings(findings).splitlines() == [
        "error: files (5)",
        "  train/s.jpg: is an image without a mask: add s.png beside it or in a masks folder (or "
        "s_mask.png), or remove the image",
        "  and 4 more of this kind: train/t.jpg, train/u.jpg, ...",
        "error: images and masks (1)",
        "  valid/d.jpg: is empty (0 bytes); copy it again from its source",
        "warning: masks without background (1)",
        "  train/a.png: is foreground everywhere: check that it is not inverted or a placeholder",
        "errors: 6, warnings: 1",
    ]
    every = format_findings(findings, all_names=True)
    assert all(f"  train/{name}.jpg: is an image without a mask" in every for name in "stuvw")


def test_kinds_differ_by_more_than_names_and_numbers():
    def finding(file, problem):
        return AuditFinding(file, problem, "error", "masks")

    same = [finding(f"{i}.png", f"has the values 0, {i}, 255 ({i} in all)") for i in range(3, 9)]
    same.append(finding("9.png", "has the values 0, 1, 2, 3 (4 in all)"))
    other = finding("x.png", "is 10 x 20 px, its image a/b.jpg 30 x 40 px")
    lines = format_findings([*same, other]).splitlines()
    assert lines[1:-1] == [
        "  3.png: has the values 0, 3, 255 (3 in all)",
        "  and 6 more of this kind: 4.png, 5.png, ...",
        "  x.png: is 10 x 20 px, its image a/b.jpg 30 x 40 px",
    ]
