"""Public data sets as they are packed: what is paired, and with what."""

import io
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segacc.config.evaluate import EvaluateConfig
from segacc.config.flags import parse_train
from segacc.config.options import Reading
from segacc.config.records import read_run_config, to_json
from segacc.data.audit.audit import audit, open_for_check
from segacc.data.reading.convert import Scan, divided
from segacc.data.reading.convert import scan_folder as scan_names
from segacc.data.reading.decode import read_pair
from segacc.data.reading.division.divide import Division
from segacc.data.reading.recognition.listing import count_types
from segacc.data.reading.sources import load_dataset
from segacc.errors import InputError
from segacc.labels import BINARY_CODING


def scan_folder(folder: Path, patterns: Sequence[str] = ()) -> Scan:
    """All pairs in splits."""
    return divided(scan_names(folder, patterns), Division(BINARY_CODING))


@cache
def encoded(kind: str, extension: str, seed: int) -> bytes:
    """A file of 16 x 12 pixels: `photo`, `mask`, a mask in `colour`, or the `same` mask always."""
    rng = np.random.default_rng(seed)
    if kind == "photo":
        pixels = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    else:
        pixels = np.zeros((12, 16), np.uint8)
        pixels[2:9, 3:9] = 1 if extension == ".gif" else 255
        if kind != "same":
            pixels = np.roll(pixels, seed * 3, axis=(0, 1))
    if kind == "colour":
        pixels = np.stack([pixels, pixels // 2, pixels // 3], axis=-1)
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    image.save(buffer, {".jpg": "JPEG", ".tif": "TIFF", ".gif": "GIF"}.get(extension, "PNG"))
    return buffer.getvalue()


def write(folder: Path, files: dict[str, str]) -> Path:
    """Files by their paths: {"a.jpg": "photo"}; another kind is the text of the file."""
    for seed, (name, kind) in enumerate(files.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind in ("photo", "mask", "colour", "same"):
            path.write_bytes(encoded(kind, path.suffix, seed if kind == "photo" else seed % 4))
        else:
            path.write_text(kind)
    return folder


def of(ids: str, **kinds: str) -> dict[str, str]:
    """Files for each id: of("1 2", photo="images/{}.jpg", mask="masks/{}.png")."""
    return {path.format(i): kind for i in ids.split() for kind, path in kinds.items()}


def paired(folder: Path, *patterns: str) -> dict[str, list[tuple[str, str]]]:
    scan = scan_folder(folder, patterns)
    assert scan.findings == ()
    start = len(str(folder)) + 1
    return {
        split: [(pair.image[start:], pair.mask[start:]) for pair in pairs]
        for split, pairs in scan.pairs.items()
    }


CAMVID = {
    **of("0001TP_006690 0001TP_006720", photo="train/{}.png", mask="trainannot/{}.png"),
    **of("0016E5_07959 0016E5_07961", photo="val/{}.png", mask="valannot/{}.png"),
    **of("Seq05VD_f00000 Seq05VD_f00030", photo="test/{}.png", mask="testannot/{}.png"),
    "train.txt": "/SegNet/CamVid/train/0001TP_006690.png /SegNet/CamVid/trainannot/...",
}
CITY = "{0}_leftImg8bit.png"
CITYSCAPES = {
    path: kind
    for split, cities in (("train", "aachen bochum"), ("val", "munster"), ("test", "bonn"))
    for city in cities.split()
    for number in ("000000_000019", "000001_000019", "000002_000019")
    for path, kind in (
        (f"leftImg8bit/{split}/{city}/{city}_{number}_leftImg8bit.png", "photo"),
        (f"gtFine/{split}/{city}/{city}_{number}_gtFine_color.png", "colour"),
        (f"gtFine/{split}/{city}/{city}_{number}_gtFine_instanceIds.png", "mask"),
        (f"gtFine/{split}/{city}/{city}_{number}_gtFine_labelIds.png", "mask"),
        (f"gtFine/{split}/{city}/{city}_{number}_gtFine_polygons.json", "{}"),
    )
}
ISIC = {
    path: kind
    for images, masks, numbers in (
        ("Training_Data", "Training_Part1_GroundTruth", "0000000 0000001 0000002 0000003"),
        ("Validation_Data", "Validation_Part1_GroundTruth", "0001769 0001852"),
        ("Test_v2_Data", "Test_v2_Part1_GroundTruth", "0012086 0012092"),
    )
    for number in numbers.split()
    for path, kind in (
        (f"ISIC-2017_{images}/ISIC_{number}.jpg", "photo"),
        (f"ISIC-2017_{images}/ISIC_{number}_superpixels.png", "photo"),
        (f"ISIC-2017_{masks}/ISIC_{number}_segmentation.png", "mask"),
    )
}
VOC = {
    **of("2007_01 2007_02 2007_03 2008_04 2008_05 2008_06", photo="V/JPEGImages/{}.jpg"),
    **of("2007_01 2007_02 2007_03", mask="V/SegmentationClass/{}.png"),
    **of("2007_01 2007_02 2007_03 ", mask="V/SegmentationObject/{}.png"),
    **of("2007_01", text="V/Annotations/{}.xml"),
    "V/ImageSets/Segmentation/train.txt": "2007_03\n2007_01\n",
    "V/ImageSets/Segmentation/val.txt": "2007_02\n",
    "V/ImageSets/Segmentation/trainval.txt": "2007_01\n2007_02\n2007_03\n",
    "V/ImageSets/Main/train.txt": "2007_01\n2008_04\n2008_05\n",
    "V/ImageSets/Main/val.txt": "2007_02\n2007_03\n2008_06\n",
}
PETS = {
    **of("Abyssinian_1 Abyssinian_2 beagle_1 beagle_2 boxer_7", photo="images/{}.jpg"),
    **of("Abyssinian_1 Abyssinian_2 beagle_1 beagle_2 boxer_7", mask="annotations/trimaps/{}.png"),
    "annotations/list.txt": "#Image CLASS-ID\nAbyssinian_1 1 1 1\n",
    "annotations/trainval.txt": "Abyssinian_1 1 1 1\nbeagle_1 2 2 1\nboxer_7 3 2 1\n",
    "annotations/test.txt": "Abyssinian_2 1 1 1\nbeagle_2 2 2 1\n",
}
DRIVE = {
    **of("21 22 23 24", photo="D/training/images/{}_training.tif",
         mask="D/training/1st_manual/{}_manual1.gif", same="D/training/mask/{}_training_mask.gif"),
    **of("01 02 03 04", photo="D/test/images/{}_test.tif", same="D/test/mask/{}_test_mask.gif"),
}  # fmt: skip
CARVANA = {
    **of("00_01 00_02 01_01 01_02", photo="train/{}.jpg", mask="train_masks/{}_mask.gif"),
    **of("02_01 02_02", photo="test/{}.jpg"),
    "train.csv": "img,rle_mask\n",
}
DEEPGLOBE = {
    **of("1 22 333 4444", photo="train/{}_sat.jpg", mask="train/{}_mask.png"),
    **of("5 66", photo="valid/{}_sat.jpg"),
    **of("7 88", photo="test/{}_sat.jpg"),
}
SUPERVISELY = of("a b c", photo="ds1/img/{}.png", mask="ds1/masks_machine/{}.png",
                 colour="ds1/masks_human/{}.png") | of(
    "d e", photo="ds2/img/{}.png", mask="ds2/masks_machine/{}.png",
    colour="ds2/masks_human/{}.png") | {"meta.json": "{}", "ds1/ann/a.png.json": "{}"}  # fmt: skip

ALL = ("train", "valid", "test")
# The files, the number of pairs in each split (or in all of them, where names decide), an image and
# its mask, and what the notes say.
LAYOUTS = {
    "CamVid": (
        CAMVID,
        (2, 2, 2),
        ("val/0016E5_07959.png", "valannot/0016E5_07959.png"),
        "paired 2 train, 2 valid, 2 test images: train/*.png with trainannot/*.png, val/*.png with "
        "valannot/*.png, test/*.png with testannot/*.png; left out: 1 .txt",
    ),
    "Cityscapes": (
        CITYSCAPES,
        (6, 3, 3),
        (
            "leftImg8bit/val/munster/munster_000001_000019_leftImg8bit.png",
            "gtFine/val/munster/munster_000001_000019_gtFine_labelIds.png",
        ),
        "left out: 12 gtFine/**/*_gtFine_color.png, 12 gtFine/**/*_gtFine_instanceIds.png, "
        "12 .json",
    ),
    "ISIC 2017": (
        ISIC,
        (4, 2, 2),
        (
            "ISIC-2017_Test_v2_Data/ISIC_0012092.jpg",
            "ISIC-2017_Test_v2_Part1_GroundTruth/ISIC_0012092_segmentation.png",
        ),
        "left out: 6 **/*_superpixels.png",
    ),
    "VOC": (
        VOC,
        (2, 1),
        ("V/JPEGImages/2007_02.jpg", "V/SegmentationClass/2007_02.png"),
        "left out: 3 V/SegmentationObject/*.png, 5 .txt, 1 .xml",
    ),
    "Oxford pets": (
        PETS,
        (2, 1, 2),
        ("images/beagle_2.jpg", "annotations/trimaps/beagle_2.png"),
        "the lists in annotations say which images are for what: train 3, test 2",
    ),
    "DRIVE": (
        DRIVE,
        4,
        ("D/training/images/21_training.tif", "D/training/1st_manual/21_manual1.gif"),
        "left out: 4 test images without masks, 8 D/**/mask/*_mask.gif",
    ),
    "Carvana": (
        CARVANA,
        4,
        ("train/00_01.jpg", "train_masks/00_01_mask.gif"),
        "left out: 2 test images without masks, 1 .csv",
    ),
    "DeepGlobe": (
        DEEPGLOBE,
        4,
        ("train/22_sat.jpg", "train/22_mask.png"),
        "left out: 2 valid images without masks, 2 test images without masks",
    ),
    "Supervisely": (
        SUPERVISELY,
        5,
        ("ds2/img/d.png", "ds2/masks_machine/d.png"),
        "left out: 5 **/masks_human/*.png, 2 .json",
    ),
    "Kvasir-SEG": (
        of("a1 b2 c3", photo="K/images/{}.jpg", mask="K/masks/{}.jpg") | {"K/boxes.json": "{}"},
        3,
        ("K/images/b2.jpg", "K/masks/b2.jpg"),
        "left out: 1 .json",
    ),
    "Penn-Fudan": (
        of("P1 P2 P3", photo="P/PNGImages/{}.png", mask="P/PedMasks/{}_mask.png")
        | {"P/Annotation/P1.txt": "# boxes"},
        3,
        ("P/PNGImages/P2.png", "P/PedMasks/P2_mask.png"),
        "P/PNGImages/*.png with P/PedMasks/*_mask.png",
    ),
    "splits with years": (
        of("01 02", photo="images/train2017/{}.jpg", mask="masks/train2017/{}.png")
        | of("03", photo="images/val2017/{}.jpg", mask="masks/val2017/{}.png"),
        (2, 1),
        ("images/val2017/03.jpg", "masks/val2017/03.png"),
        "paired 2 train, 1 valid images",
    ),
    "masks of all splits in one folder": (
        of("01 02", photo="train/{}.png")
        | of("03 04", photo="val/{}.png")
        | of("01 02 03 04", mask="targets/{}.png"),
        (2, 2),
        ("val/03.png", "targets/03.png"),
        "val/*.png with targets/*.png",
    ),
    "prefixes": (
        of("001 002 010", photo="image_{}.png", mask="mask_{}.png"),
        3,
        ("image_010.png", "mask_010.png"),
        "*.png with *.png",
    ),
    "two types in a name": (
        of("a b", photo="pictures/{}.jpg", mask="targets/{}.jpg.png"),
        2,
        ("pictures/b.jpg", "targets/b.jpg.png"),
        "pictures/*.jpg with targets/*.jpg.png",
    ),
    "a folder for each image, as labelme writes it": (
        of("01 02 03", photo="{}_json/img.png", mask="{}_json/label.png")
        | {f"0{i}_json/label_viz.png": "photo" for i in (1, 2, 3)},
        3,
        ("02_json/img.png", "02_json/label.png"),
        "**/img.png with **/label.png; left out: 3 **/label_viz.png",
    ),
    "a test folder beside images and masks": (
        of("01 02 03", photo="images/{}.jpg", mask="masks/{}.png")
        | of("04 05", photo="test/images/{}.jpg", mask="test/masks/{}.png"),
        5,
        ("test/images/04.jpg", "test/masks/04.png"),
        "paired 3 train, 2 test images: images/*.jpg with masks/*.png",
    ),
    "training and validation in one folder": (
        of("01 02 03", photo="train_val/images/{}.jpg", mask="train_val/masks/{}.png")
        | of("04 05", photo="TEST/images/{}.jpg", mask="TEST/masks/{}.png"),
        5,
        ("TEST/images/04.jpg", "TEST/masks/04.png"),
        "paired 3 train, 2 test images",
    ),
    "words that nobody knows": (
        of("a b c", photo="foo/{}.png", mask="bar/{}_x.png"),
        3,
        ("foo/b.png", "bar/b_x.png"),
        "foo/*.png with bar/*_x.png",
    ),
}


@pytest.mark.parametrize(("files", "counts", "pair", "said"), LAYOUTS.values(), ids=LAYOUTS)
def test_public_sets_are_taken_as_they_are_packed(tmp_path, files, counts, pair, said):
    scan = scan_folder(write(tmp_path, files))
    assert scan.findings == ()
    found = {split: len(pairs) for split, pairs in scan.pairs.items()}
    assert list(found) == [split for split in ALL if split in found]
    if isinstance(counts, int):
        assert sum(found.values()) == counts
    else:
        assert found == dict(zip(ALL, counts, strict=False))
    assert pair in [its for pairs in paired(tmp_path).values() for its in pairs]
    assert said in " ".join(scan.notes)


@pytest.mark.parametrize(
    "ending", ["_lab", "_segmentation", "_gt", "_matte", "-anno", "_L", ".mask"]
)
@pytest.mark.parametrize("place", ["{}{}.png", "masks/{}{}.png", "train/labels/{}{}.png"])
def test_any_ending_that_the_masks_share_is_taken_off(tmp_path, ending, place):
    files = of("a_1 b_2 c_3", photo="{}.jpg" if place[0] == "{" else "photos/{}.jpg")
    if place.startswith("train"):
        files = of("a_1 b_2 c_3", photo="train/frames/{}.jpg")
    files |= {place.format(i, ending): "mask" for i in ("a_1", "b_2", "c_3")}
    found = paired(write(tmp_path, files))
    assert sorted(pair[1] for pairs in found.values() for pair in pairs) == [
        place.format(i, ending) for i in ("a_1", "b_2", "c_3")
    ]


def problem(folder: Path) -> str:
    (finding,) = scan_folder(folder).findings
    return f"{finding.file} {finding.problem}"


def test_two_folders_that_fit_equally_well_are_named(tmp_path):
    kinds = {"photo": "img/{}.jpg", "mask": "one/{}.png"}
    files = of("a b c", **kinds) | of("a b c", mask="two/{}_x.png")
    said = problem(write(tmp_path, files))
    assert "has one/{}.png and two/{}_x.png, which all fit as the masks of" in said
    assert "--pairs 'img/{}.jpg=one/{}.png'" in said
    assert paired(tmp_path, "img/{}.jpg=two/{}_x.png")["train"][0][1].startswith("two/")


def test_masks_whose_names_fit_in_another_way_are_not_left_out_without_a_word(tmp_path):
    """The coloured copies fit by their names; the masks themselves have a folder more."""
    files = {}
    for place, ids in (("c0", "a b c"), ("c1", "d e f")):
        files |= of(ids, photo=f"img/{place}/{{}}.jpg", colour=f"zz/{place}/{{}}_d.png")
        files |= of(ids, mask=f"labels/v1/{place}/{{}}.gif")
    said = problem(write(tmp_path, files))
    assert "more files, such as labels/v1/c0/a.gif, are masks whose names fit in another" in said
    found = paired(tmp_path, "img/{}.jpg=labels/v1/{}.gif")
    assert sum(map(len, found.values())) == 6


def test_two_groups_of_masks_are_no_images_and_masks_of_each_other(tmp_path):
    files = of("000 001 002 003", photo="x/train/{}_rgb.png", mask="bar/train/{}_1st.png")
    files |= of("004 005 006 007", photo="x/val/{}_rgb.png", mask="bar/val/{}_1st.png")
    files |= {f"mask_fov/{f[4:-8]}_d.png": "colour" for f in files if f.startswith("bar")}
    found = paired(write(tmp_path, files))
    assert found["valid"][0] == ("x/val/004_rgb.png", "bar/val/004_1st.png")


def test_the_masks_of_two_experts_are_both_named(tmp_path):
    files = of("01L 01R 02L", photo="Image_{}.jpg", mask="Image_{}_1stHO.png")
    said = problem(write(tmp_path, files | of("01L 01R 02L", mask="Image_{}_2ndHO.png")))
    assert "_1stHO.png" in said
    assert "_2ndHO.png, which all fit as the masks of the images" in said
    assert len(scan_folder(tmp_path, ["{}.jpg={}_2ndHO.png"]).findings) == 0


def test_images_and_masks_that_cannot_be_told_apart_are_named(tmp_path):
    files = of("a b c", photo="one/{}.png") | {f"two/{i}.png": "photo" for i in "abc"}
    said = problem(write(tmp_path, files))
    assert "which of them are the masks cannot be told" in said or "no image with a mask" in said


def test_a_folder_of_photographs_alone_is_told_that_masks_are_missing(tmp_path):
    said = problem(write(tmp_path, {f"{i}.jpg": "photo" for i in "abc"}))
    assert "has images and, as far as a few of them show, no masks (found 3 *.jpg)" in said


def test_several_masks_for_each_image_are_refused_in_a_sentence(tmp_path):
    files = {}
    for i in ("0a7e", "0b2d", "1f4c"):
        files |= {f"stage1_train/{i}/images/{i}.png": "photo"}
        files |= {f"stage1_train/{i}/masks/{i}{n}.png": "mask" for n in "xyz"}
    said = problem(write(tmp_path, files))
    assert said.startswith(". has a folder for each image with several masks (masks/) beside")


def test_names_that_do_not_fit_are_one_finding_with_what_there_is(tmp_path):
    files = of("a b c d", photo="img/{}.jpg") | of("1 2 3", mask="lab/{}.png") | {"x.json": "{}"}
    said = problem(write(tmp_path, files))
    assert "found 4 img/*.jpg, 3 lab/*.png; not looked at: 1 .json" in said
    assert "--pairs 'images/{}.jpg=masks/{}_mask.png'" in said


def test_an_empty_folder_that_is_left_over_stops_nothing(tmp_path):
    files = of("a b c", photo="images/{}.png", mask="masks/{}.png")
    for name in ("test", "valid", "train"):
        (tmp_path / name).mkdir()
    scan = scan_folder(write(tmp_path, files))
    assert scan.findings == ()
    assert scan.notes[0].endswith("without images: train, valid, test")


def test_validation_is_not_taken_from_training_where_it_may_be_elsewhere(tmp_path):
    files = of("a b c", photo="train/{}.jpg", mask="train/{}.png")
    write(tmp_path, files | of("d e", photo="vaildation/{}.jpg", mask="vaildation/{}.png"))
    assert problem(tmp_path).startswith(". has no valid folder")


def test_more_images_in_a_folder_aside_do_not_replace_those_of_the_splits(tmp_path):
    files = of("a b", photo="train/{}.jpg", mask="train/{}.png")
    files |= of("c d", photo="val/{}.jpg", mask="val/{}.png")
    files |= of("a1 a2 a3 b1 b2 b3", photo="train_aug/{}.jpg", mask="train_aug/{}.png")
    scan = scan_folder(write(tmp_path, files))
    assert [pair.name for pair in scan.pairs["train"]] == ["a", "b"]
    assert [pair.name for pair in scan.pairs["valid"]] == ["c", "d"]
    assert scan.notes[0].endswith("left out: 12 train_aug/*.*")


def test_a_word_inside_of_another_one_is_no_split(tmp_path):
    files = of("a b", photo="images/latest/{}.jpg", mask="masks/latest/{}.png")
    files |= of("c d", photo="images/contest/{}.jpg", mask="masks/contest/{}.png")
    assert len(scan_folder(write(tmp_path, files)).pairs["train"]) > 1


# --- --pairs


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("'a'", "expected IMAGES=MASKS, with {} on both sides"),
        ("images/{}.jpg=masks/a.png", "expected IMAGES=MASKS, with {} on both sides"),
        (
            "images/{}.png=masks/{}.png",
            "images/{}.png finds no file, the data set has images/",
        ),
        ("images/{}.jpg=mask/{}.png", "mask/{}.png finds no file"),
    ],
)
def test_a_pattern_that_is_wrong_or_finds_nothing_says_what_there_is(tmp_path, pattern, expected):
    write(tmp_path, of("a b", photo="images/{}.jpg", mask="masks/{}.png"))
    with pytest.raises(InputError) as error:
        scan_folder(tmp_path, [pattern])
    assert f"--pairs {pattern!r}: " in str(error.value)
    assert expected in str(error.value)


def test_patterns_alone_say_what_is_paired(tmp_path):
    files = of("a b c", photo="x/scan_{}.dat", mask="x/y/{}.v1.png") | of(
        "a", photo="images/{}.jpg"
    )
    found = paired(write(tmp_path, files), "x/scan_{}.dat=x/y/{}.*.png")
    assert sorted(pair for pairs in found.values() for pair in pairs) == [
        (f"x/scan_{i}.dat", f"x/y/{i}.v1.png") for i in "abc"
    ]


def test_several_patterns_and_splits_in_their_folders(tmp_path):
    files = of("a b", photo="s/train/i/{}.png", mask="s/train/m/{}.png")
    files |= of("a", photo="s/val/pic/{}.png", mask="s/gt-val/{}.png")
    found = paired(
        write(tmp_path, files), "{}/i/{}.png={}/m/{}.png", "s/val/pic/{}.png=s/gt-val/{}.png"
    )
    assert {split: len(pairs) for split, pairs in found.items()} == {"train": 2, "valid": 1}


def test_the_pattern_of_a_doubt_can_be_given_back_as_it_is(tmp_path):
    files = of("1 2 3", photo="train/img/{}.jpg", mask="train/one/{}_x.png")
    files |= of("1 2 3", mask="train/two/{}.png") | of("4 5", photo="test/img/{}.jpg")
    said = problem(write(tmp_path, files))
    pattern = said.partition("--pairs '")[2].partition("'")[0]
    scan = scan_folder(tmp_path, [pattern])
    assert scan.findings == ()
    assert sum(len(pairs) for pairs in scan.pairs.values()) == 3
    assert "left out: 2 test images without masks" in scan.notes[0]


def test_a_pattern_of_images_may_find_the_masks_as_well(tmp_path):
    files = of("1 2 3", photo="b/b ({}).png", mask="b/b ({})_mask.png")
    assert sum(map(len, paired(write(tmp_path, files), "b/{}.png=b/{}_mask.png").values())) == 3


def test_patterns_and_lists_of_splits(tmp_path):
    scan = scan_folder(write(tmp_path, VOC), ["JPEGImages/{}.jpg=SegmentationObject/{}.png"])
    assert scan.findings == ()
    assert {split: len(pairs) for split, pairs in scan.pairs.items()} == {"train": 2, "valid": 1}


def test_an_image_without_its_mask_is_named_with_the_mask_that_it_needs(tmp_path):
    files = of("a b", photo="images/{}.jpg", mask="masks/{}_x.png") | {"images/c.jpg": "photo"}
    (finding,) = scan_folder(write(tmp_path, files), ["images/{}.jpg=masks/{}_x.png"]).findings
    assert finding.file == "images/c.jpg"
    assert "add masks/c_x.png" in finding.problem


def test_pairs_reach_loading_and_checking_and_are_kept_with_the_run(tmp_path, monkeypatch):
    """Two files fit as the mask of each image; --pairs says which."""
    monkeypatch.setenv("SEGACC_CACHE", str(tmp_path / "cache"))
    files = of("a b c d e f", photo="d/img/{}.jpg", mask="d/one/{}.png")
    folder = write(tmp_path, files | of("a b c d e f", mask="d/two/{}.png")) / "d"
    pairs = ("img/{}.jpg=two/{}.png",)
    data = load_dataset(str(folder), Reading(pairs)).rows
    assert all("/two/" in row["mask"]["path"] for rows in data.values() for row in rows)
    assert all(
        "error" not in finding.severity for finding in audit(str(folder), Reading(pairs)).findings
    )
    with pytest.raises(InputError, match=r"which all fit as the masks of the images img/\{\}\.jpg"):
        load_dataset(str(folder))

    config = parse_train(["--dataset", str(folder), "--pairs", *pairs])
    (tmp_path / "config.json").write_text(json.dumps({"config": to_json(config)}))
    assert read_run_config(tmp_path).pairs == pairs
    assert EvaluateConfig(tmp_path).pairs == ()

    data.save_to_disk(tmp_path / "saved")
    with pytest.raises(InputError, match=r"--pairs img/.* has no effect on --dataset .*saved"):
        load_dataset(str(tmp_path / "saved"), Reading(pairs))


@pytest.mark.parametrize("value", [1, 255])
def test_gif_masks_are_read(tmp_path, value):
    write(tmp_path, of("a b", photo="images/{}.jpg"))
    mask = np.zeros((12, 16), np.uint8)
    mask[2:9, 3:9] = value
    for name in "ab":
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / f"masks/{name}_mask.gif")
    (row,) = load_dataset(str(tmp_path)).rows["valid"]
    label_map = read_pair(row["image"], row["mask"]).label_map
    assert (label_map == (mask > 0)).all()


@pytest.mark.parametrize("places", [["classes.txt"], ["train/_classes.csv", "valid/_classes.csv"]])
def test_the_files_that_say_the_classes_are_not_left_out(tmp_path, caplog, places):
    files = of("1 2", photo="train/{}.jpg", mask="train/{}.png")
    files |= of("3", photo="valid/{}.jpg", mask="valid/{}.png")
    text = "rest: 0\nthing: 255"
    if places[0].endswith(".csv"):
        text = "Pixel Value, Class\n0, rest\n255, thing"
    write(tmp_path, files | dict.fromkeys(places, text))
    for read in (load_dataset, open_for_check):
        read(str(tmp_path), Reading())
        *_, paired, classes = caplog.messages
        assert "train/*.png" in paired and "left out" not in paired
        assert classes.startswith("classes as in ") and classes.endswith(str(places[0]))
    (tmp_path / "notes.txt").write_text("")
    load_dataset(str(tmp_path))
    assert caplog.messages[-2].endswith("left out: 1 .txt")
    load_dataset(str(tmp_path), Reading(classes="rest:0,thing:255"))
    counted = count_types(["notes.txt", *places])
    assert caplog.messages[-1].endswith(f"left out: {counted}")


def test_classes_by_the_flag_need_no_file_of_the_folder(tmp_path):
    files = of("1 2 3 4", photo="{}.jpg", mask="{}.png")
    files |= {f"{y}/id2label.json": f'{{"0": "x", "255": "{y}"}}' for y in "ab"}
    write(tmp_path, files)
    with pytest.raises(InputError, match="give the right one with --classes"):
        load_dataset(str(tmp_path))
    source = load_dataset(str(tmp_path), Reading(classes="x:0,z:255"))
    assert source.coding.labels.names == ("x", "z")
