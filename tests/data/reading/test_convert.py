"""Layouts of image/mask folders, and what a folder can have wrong."""

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict, Image, load_from_disk
from PIL import Image as Pillow

from segacc.data.reading.convert import Scan, convert_folder, divided
from segacc.data.reading.convert import scan_folder as scan_names
from segacc.data.reading.division.divide import Division
from segacc.data.reading.division.shares import Group, share_out
from segacc.errors import InputError
from segacc.labels import BINARY_CODING


def scan_folder(folder: Path, patterns: Sequence[str] = ()) -> Scan:
    """All pairs in splits."""
    return divided(scan_names(folder, patterns), Division(BINARY_CODING))


def touch(folder: Path, *files: str) -> Path:
    """Empty files: pairing goes by names alone."""
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return folder


def found(scan: Scan) -> dict[str, list[tuple[str, str, str]]]:
    def relative(path: str) -> str:
        return os.path.relpath(path, scan.folder)

    return {
        split: [(pair.name, relative(pair.image), relative(pair.mask)) for pair in pairs]
        for split, pairs in scan.pairs.items()
    }


def problems(folder: Path) -> list[tuple[str, str]]:
    return [(finding.file, finding.problem) for finding in scan_folder(folder).findings]


SIDE_BY_SIDE = ("train/b.jpg", "train/b.png", "valid/c.jpg", "valid/c.png")

LAYOUTS = {
    "side by side": ("train/a.jpg", "train/a.png", "valid/b.jpg", "valid/b.png"),
    "upper-case extensions": ("train/a.JPG", "train/a.PNG", "valid/b.JPEG", "valid/b.Png"),
    "other types": ("train/a.tif", "train/a.png", "valid/b.bmp", "valid/b.png"),
    "mask suffix": ("train/a.jpg", "train/a_mask.png", "valid/b.png", "valid/b_mask.png"),
    "other suffixes": ("train/a.jpg", "train/a-gt.png", "valid/b.bmp", "valid/b_anno.bmp"),
    "suffix in a mask folder": (
        *("train/images/a.png", "train/masks/a_label.png"),
        *("valid/images/b.png", "valid/masks/b_label.png"),
    ),
    "masks below the images": (
        *("train/a.png", "train/masks/a.png"),
        *("valid/b.png", "valid/masks/b.png"),
    ),
    "roles above splits": (
        *("images/train/a.jpg", "masks/train/a.png"),
        *("images/valid/b.jpg", "masks/valid/b.png"),
    ),
    "img_dir and ann_dir": (
        *("img_dir/train/a.jpg", "ann_dir/train/a.png"),
        *("img_dir/val/b.jpg", "ann_dir/val/b.png"),
    ),
    "split and role in one name": (
        *("train_images/a.jpg", "train_masks/a.png"),
        *("images-val/b.jpg", "masks-val/b.png"),
    ),
    "nested one down": ("Set 1/train/a.jpg", "Set 1/train/a.png", "Set 1/valid/b.jpg",
                        "Set 1/valid/b.png"),
    "nested three down": ("x/images/y/train/a.jpg", "x/images/y/train/a.png",
                          "x/images/y/valid/b.jpg", "x/images/y/valid/b.png"),
}  # fmt: skip


@pytest.mark.parametrize("files", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_pairs_up(tmp_path, files):
    scan = scan_folder(touch(tmp_path, *files))
    assert scan.findings == ()
    assert found(scan) == {"train": [("a", *files[:2])], "valid": [("b", *files[2:])]}


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        *(("images", m) for m in ("masks", "labels", "annotations", "gt", "ground_truth")),
        *(("image", m) for m in ("mask", "label", "annotation")),
        ("Images", "Masks"),
    ],
)
def test_folders_inside_the_split_say_what_is_image_and_mask(tmp_path, images, masks):
    files = [
        f"{split}/{role}/a.png" for split in ("train", "valid", "test") for role in (images, masks)
    ]
    scan = scan_folder(touch(tmp_path, *files))
    assert scan.findings == ()
    assert found(scan) == {
        split: [("a", f"{split}/{images}/a.png", f"{split}/{masks}/a.png")]
        for split in ("train", "valid", "test")
    }


@pytest.mark.parametrize("train", ["training", "Train"])
@pytest.mark.parametrize("valid", ["val", "validation"])
def test_splits_go_by_their_common_names(tmp_path, train, valid):
    folders = (train, valid, "testing")
    touch(tmp_path, *(f"{folder}/a.{ext}" for folder in folders for ext in ("jpg", "png")))
    assert list(scan_folder(tmp_path).pairs) == ["train", "valid", "test"]


def test_what_is_not_data_is_ignored(tmp_path):
    touch(tmp_path, *SIDE_BY_SIDE)
    before = scan_folder(tmp_path)
    touch(
        tmp_path,
        *("README.md", "train/Thumbs.db", "train/.hidden.jpg", "train/._b.png", ".git/x.jpg"),
        *("__MACOSX/train/._b.jpg", "__MACOSX/train/x.jpg", "valid/.DS_Store"),
    )
    scan = scan_folder(tmp_path)
    assert (scan.pairs, scan.findings) == (before.pairs, ())
    assert scan.notes == (f"{before.notes[0]}; left out: 1 .md",)


def test_spaces_and_letters_of_any_alphabet(tmp_path):
    names = ["Größe 1", "病理 (2)", "naïve.v2"]
    files = [f"{s}/{n}.{e}" for s in ("train", "valid") for n in names for e in ("jpg", "png")]
    scan = scan_folder(touch(tmp_path, *files))
    assert scan.findings == ()
    assert [pair.name for pair in scan.pairs["train"]] == sorted(names)


def test_names_that_differ_only_in_unicode_form_pair_up(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    files = [f"{s}/{composed}.jpg" for s in ("train", "valid")]
    files += [f"{s}/{decomposed}.png" for s in ("train", "valid")]
    scan = scan_folder(touch(tmp_path, *files))
    assert scan.findings == ()
    assert found(scan)["train"] == [(composed, f"train/{composed}.jpg", f"train/{decomposed}.png")]


def test_rows_are_sorted_by_name_and_nested_names_keep_their_folders(tmp_path):
    names = ["p2/a", "p10/a", "b", "B"]
    files = [f"{s}/{n}.{e}" for s in ("train", "valid") for n in names for e in ("jpg", "png")]
    scan = scan_folder(touch(tmp_path, *files))
    assert [pair.name for pair in scan.pairs["valid"]] == ["B", "b", "p10/a", "p2/a"]


def test_images_whose_own_name_ends_like_a_mask(tmp_path):
    touch(tmp_path, *(f"{s}/x_gt.{e}" for s in ("train", "valid") for e in ("jpg", "png")))
    assert found(scan_folder(tmp_path))["train"] == [("x_gt", "train/x_gt.jpg", "train/x_gt.png")]


def test_images_whose_own_name_ends_like_a_mask_beside_a_mask_folder(tmp_path):
    for split in ("train", "valid"):
        touch(tmp_path, *(f"{split}/{n}" for n in ("x.jpg", "x_gt.jpg")))
        touch(tmp_path, *(f"{split}/masks/{n}" for n in ("x.png", "x_gt.png")))
    scan = scan_folder(tmp_path)
    assert scan.findings == ()
    assert [pair.name for pair in scan.pairs["train"]] == ["x", "x_gt"]


def test_linked_folders_are_followed_and_circles_end(tmp_path):
    touch(tmp_path / "elsewhere", "a.jpg", "a.png")
    data = touch(tmp_path / "data", *SIDE_BY_SIDE)
    (data / "test").symlink_to(tmp_path / "elsewhere")
    (data / "train" / "again").symlink_to(data)
    assert found(scan_folder(data)) == {
        "train": [("b", "train/b.jpg", "train/b.png")],
        "valid": [("c", "valid/c.jpg", "valid/c.png")],
        "test": [("a", "test/a.jpg", "test/a.png")],
    }


def by_hash(names: list[str]) -> dict[str, list[int]]:
    groups = [Group(name, (i,)) for i, name in enumerate(names)]
    return share_out(groups, None, exactly=False).parts


def test_without_split_folders_the_images_are_divided_by_their_names(tmp_path, caplog):
    names = [f"{index:03d}" for index in range(100)]
    files = [f"{folder}/{name}.png" for folder in ("images", "masks") for name in names]
    scan = scan_folder(touch(tmp_path / "one", *files))
    assert scan.findings == ()
    split = {s: [pair.name for pair in pairs] for s, pairs in scan.pairs.items()}
    assert split == {s: [names[i] for i in part] for s, part in by_hash(names).items()}

    twin = scan_folder(touch(tmp_path / "two", *reversed(files)))
    assert {s: [pair.name for pair in pairs] for s, pairs in twin.pairs.items()} == split

    convert_folder(tmp_path / "one")
    counts = ", ".join(f"{s} {len(part)}" for s, part in split.items())
    assert f"100 images were split into {counts} by a hash of their names; where" in caplog.text


@pytest.mark.parametrize(("count", "splits"), [(2, 2), (3, 3), (7, 3)])
def test_a_few_images_without_split_folders(tmp_path, count, splits):
    touch(tmp_path, *(f"{i}.{ext}" for i in range(count) for ext in ("jpg", "png")))
    assert list(scan_folder(tmp_path).pairs) == ["train", "valid", "test"][:splits]


def test_a_single_image_without_split_folders_is_refused(tmp_path):
    ((file, problem),) = problems(touch(tmp_path, "a.jpg", "a.png"))
    assert file == "."
    assert "a single image" in problem


FINDINGS = {
    "missing mask": (("train/a.jpg",), "train/a.jpg", "an image without a mask: add a.png"),
    "missing mask in a masks folder": (
        ("train/images/a.png", "train/masks/e.png", "train/images/e.png"),
        "train/images/a.png",
        "an image without a mask",
    ),
    "mask without image": (("valid/a.png",), "valid/a.png", "a mask without an image"),
    "suffixed mask without image": (("valid/a_mask.png",), "valid/a_mask.png", "without an image"),
    "mask folder without image": (
        ("train/masks/a.png",),
        "train/masks/a.png",
        "a mask without an image",
    ),
    "two images, mask beside": (
        ("train/a.jpeg", "train/a.jpg", "train/a.png"),
        "train/a.jpeg",
        "same name as the image train/a.jpg",
    ),
    "two images, masks folder": (
        ("train/images/a.jpg", "train/images/a.png", "train/masks/a.png"),
        "train/images/a.jpg",
        "same name as the image train/images/a.png",
    ),
    "two masks": (
        ("train/a.jpg", "train/a.png", "train/a_mask.png"),
        "train/a_mask.png",
        "same name as train/a.png",
    ),
    "two JPEGs side by side": (
        ("train/a.JPG", "train/a.jpg"),
        "train/a.JPG",
        "ambiguous with train/a.jpg: neither is a .png",
    ),
}


@pytest.mark.parametrize(("files", "file", "problem"), FINDINGS.values(), ids=FINDINGS)
def test_what_does_not_pair_up_is_named(tmp_path, files, file, problem):
    touch(tmp_path, *SIDE_BY_SIDE, *files)
    ((found_file, found_problem),) = problems(tmp_path)
    assert found_file == file
    assert problem in found_problem


def test_an_empty_test_folder_is_named_and_stops_nothing(tmp_path):
    scan = scan_folder(touch(tmp_path, *SIDE_BY_SIDE, "test/notes.txt"))
    assert scan.findings == ()
    assert scan.notes[0].endswith("; left out: 1 .txt; without images: test")


def test_an_empty_folder_for_validation_is_a_finding(tmp_path):
    touch(tmp_path, *(f"train/{i}.{ext}" for i in range(9) for ext in ("jpg", "png")))
    (tmp_path / "valid").mkdir()
    assert problems(tmp_path) == [
        ("valid", "holds no images: put images and masks in it or remove it")
    ]


@pytest.mark.parametrize("missing", ["train", "valid"])
def test_a_missing_split_is_named(tmp_path, missing):
    touch(tmp_path, *(file for file in SIDE_BY_SIDE if not file.startswith(missing)))
    ((file, problem),) = problems(tmp_path)
    assert file == "."
    assert problem.startswith(f"has no {missing} folder: expected train/ and valid/")


def test_an_empty_folder_says_what_was_looked_for(tmp_path):
    touch(tmp_path, "train/a.npy", "train/b.npy", "README")
    with pytest.raises(InputError, match=r"no images \(found 2 \.npy, 1 without ext.*NAME\.jpg"):
        convert_folder(tmp_path)


def test_files_of_other_types_are_counted_and_the_first_is_named_for_what_it_is(tmp_path):
    touch(tmp_path, "train/notes.txt", "train/b.heic")
    (tmp_path / "train/a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    ((_, problem),) = problems(tmp_path)
    assert "holds no images (found 2 .heic, 1 .txt; train/a.heic is a HEIC photo (export" in problem


def test_a_name_that_is_not_utf8_is_named(tmp_path):
    touch(tmp_path, *SIDE_BY_SIDE)
    Path(os.fsdecode(bytes(tmp_path) + b"/train/caf\xe9.jpg")).touch()
    with pytest.raises(InputError, match=r"train/caf\?\.jpg: has a name that is not UTF-8"):
        convert_folder(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere: cannot be read"):
        convert_folder(tmp_path / "nowhere")


def test_images_outside_of_the_splits_are_noted(tmp_path):
    scan = scan_folder(touch(tmp_path, *SIDE_BY_SIDE, "overview.png", "extra/x.jpg"))
    assert scan.findings == ()
    assert scan.notes[0].endswith("left out: extra/x.jpg, overview.png")


def test_the_scan_lists_all_findings_and_the_error_the_first_and_their_number(tmp_path):
    touch(tmp_path, *SIDE_BY_SIDE, "train/a.jpg", "train/x.jpg", "valid/d.png")
    files = [file for file, _ in problems(tmp_path)]
    assert files == ["train/a.jpg", "train/x.jpg", "valid/d.png"]
    with pytest.raises(InputError) as error:
        convert_folder(tmp_path)
    assert str(error.value).startswith(f"{tmp_path}/train/a.jpg: is an image without a mask")
    assert str(error.value).endswith(f"(2 more: run `segacc check {tmp_path}` to list all)")


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """Two real pairs."""
    folder = touch(tmp_path / "data", *SIDE_BY_SIDE)
    for index, file in enumerate(SIDE_BY_SIDE):
        mode = "RGB" if file.endswith("jpg") else "L"
        Pillow.new(mode, (9, 7), index * 20).save(folder / file)
    return folder


def test_the_data_set_holds_paths_and_decodes(real, monkeypatch):
    monkeypatch.chdir(real.parent)
    data = convert_folder(Path("data"))
    monkeypatch.chdir("/")
    assert data["train"].features["image"] == Image(decode=False)
    assert data["train"][0] == {
        "image": {"path": str(real / "train/b.jpg"), "bytes": None},
        "mask": {"path": str(real / "train/b.png"), "bytes": None},
        "name": "b",
    }
    decoded = data.cast_column("mask", Image())
    assert decoded["valid"][0]["mask"].getpixel((0, 0)) == 60


def test_a_saved_copy_no_longer_needs_the_files(real, tmp_path):
    contents = (real / "train/b.jpg").read_bytes()
    convert_folder(real).save_to_disk(tmp_path / "saved")
    real.rename(tmp_path / "gone")
    copy = load_from_disk(tmp_path / "saved")
    assert isinstance(copy, DatasetDict)
    assert copy["train"][0]["image"]["bytes"] == contents
    assert copy["train"][0]["name"] == "b"


def test_parquet_as_pushed_to_the_hub_embeds_the_files(real, tmp_path):
    """push_to_hub embeds with this function before it writes parquet."""
    from datasets.table import embed_table_storage

    data = convert_folder(real)["train"].with_format("arrow")
    pushed = data.map(embed_table_storage, batched=True).with_format(None)
    pushed.to_parquet(tmp_path / "train.parquet")
    contents = (real / "train/b.png").read_bytes()
    real.rename(tmp_path / "gone")
    copy = Dataset.from_parquet(str(tmp_path / "train.parquet"))
    assert copy.cast_column("mask", Image(decode=False))[0]["mask"]["bytes"] == contents


def test_where_folders_say_what_is_what_no_file_is_opened(tmp_path, monkeypatch):
    """Large sets are scanned in no time: files that are empty would be found out if opened."""
    monkeypatch.setattr(Pillow, "open", None)
    for split, count in (("train", 400), ("valid", 100)):
        for role in ("images", "masks"):
            (tmp_path / split / role).mkdir(parents=True)
            for index in range(count):
                (tmp_path / split / role / f"{index}.png").touch()
    assert len(convert_folder(tmp_path)["train"]) == 400
