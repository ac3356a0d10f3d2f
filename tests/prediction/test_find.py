"""Which files are predicted, and what their results are called."""

import os
from pathlib import Path

import pytest

from segacc.errors import InputError
from segacc.prediction.find import plan


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """photos/ with images in folders, and what is none; also the working directory's."""
    monkeypatch.chdir(tmp_path)
    for name in (
        *("a.jpg", "b.PNG", "notes.txt", ".hidden.jpg", "Thumbs.db", "c.d.tif", "e.jp2"),
        *("deep/a.jpg", "deep/er/f.webp", ".git/g.jpg", "__MACOSX/a.jpg"),
    ):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return tmp_path / "photos"


def masks(*images, out="out", **options):
    """{image: mask}, both as relative to photos and out."""
    return {
        os.path.relpath(job.image, "photos"): job.mask.relative_to(out).as_posix()
        for job in plan(images, out, **options)
    }


def test_a_folder_is_searched_and_its_structure_kept(photos):
    expected = {
        "a.jpg": "a.png",
        "b.PNG": "b.png",
        "c.d.tif": "c.d.png",
        "deep/a.jpg": "deep/a.png",
        "deep/er/f.webp": "deep/er/f.png",
    }
    assert masks("photos") == masks("photos/") == masks(photos) == expected


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("photos/*.jpg", {"a.jpg": "a.png"}),
        ("photos/**/e*/*.webp", {"deep/er/f.webp": "deep/er/f.png"}),
        ("photos/deep/**/*.webp", {"deep/er/f.webp": "er/f.png"}),
        ("photos/*/a.jpg", {"__MACOSX/a.jpg": "__MACOSX/a.png", "deep/a.jpg": "deep/a.png"}),
        ("photos/[ab].*", {"a.jpg": "a.png", "b.PNG": "b.png"}),
        ("photos/*.jp2", {"e.jp2": "e.png"}),
        ("p*s/d*/e?", {"deep/er/f.webp": "photos/deep/er/f.png"}),
    ],
)
def test_a_glob_keeps_the_structure_below_its_first_wildcard(photos, glob, expected):
    assert masks(glob) == expected


def test_a_file_is_taken_whatever_its_name(photos):
    (photos / "scan[1]").touch()
    assert masks("photos/e.jp2", "photos/.hidden.jpg", "photos/scan[1]") == {
        "e.jp2": "e.png",
        ".hidden.jpg": ".hidden.png",
        "scan[1]": "scan[1].png",
    }


def test_an_image_given_twice_is_predicted_once(photos):
    assert masks("photos/deep", "photos/deep/a.jpg", photos / "deep", "./photos/deep/../deep") == {
        "deep/a.jpg": "a.png",
        "deep/er/f.webp": "er/f.png",
    }


def test_a_home_folder_is_found(photos, monkeypatch):
    monkeypatch.setenv("HOME", str(photos))
    assert masks("~/deep/*.jpg") == {"deep/a.jpg": "a.png"}


def test_links_are_followed_and_end(photos):
    (photos / "deep" / "er" / "up").symlink_to(photos, target_is_directory=True)
    (photos / "deep" / "other").symlink_to(photos / "a.jpg")
    (photos / "linked.jpg").symlink_to(photos / "a.jpg")
    assert {"linked.jpg", "a.jpg", "deep/er/f.webp"} < masks("photos").keys()
    assert len(masks("photos")) == 6


def test_probabilities_and_overlays_have_folders_of_their_own(photos):
    (job,) = plan(["photos/deep/er"], "out", probabilities=True, overlays=True)
    assert job.probabilities == Path("out/probabilities/f.png")
    assert job.overlay == Path("out/overlays/f.jpg")
    (job,) = plan(["photos/deep/er"], "out")
    assert job.probabilities is None and job.overlay is None


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (["photos/typo.jpg"], "photos/typo.jpg was not found"),
        (
            ["photos/a.jpg", "photos/*.gif"],
            r"photos/\*.gif finds no image: expected .*jpg",
        ),
        (["photos/empty"], "photos/empty finds no image"),
        ([], "no images were given"),
    ],
)
def test_an_argument_that_finds_no_image_is_named(photos, images, message):
    (photos / "empty").mkdir()
    with pytest.raises(InputError, match=message):
        plan(images, "out")


def test_two_images_with_the_same_output_file_are_refused(photos):
    (photos / "a.png").touch()
    with pytest.raises(InputError, match=r"a.jpg and .*a.png would .* as 'photos/\*.jpg' does"):
        plan(["photos"], "out")
    with pytest.raises(InputError, match=r"written to out/a.png: give a folder that holds both"):
        plan(["photos/a.jpg", "photos/deep/a.jpg"], "out")


def test_a_mask_is_not_written_among_the_probabilities(photos):
    (photos / "probabilities").mkdir()
    (photos / "probabilities" / "a.jpg").touch()
    assert "probabilities/a.jpg" in masks("photos")
    with pytest.raises(InputError, match="would both be written to out/probabilities/a.png"):
        plan(["photos"], "out", probabilities=True)


def test_existing_files_are_never_overwritten(photos):
    with pytest.raises(InputError, match=r"--out photos/deep is not empty: give a new folder"):
        plan(["photos/a.jpg"], "photos/deep")
    with pytest.raises(InputError, match=r"--out photos/a.jpg is a file"):
        plan(["photos/deep"], "photos/a.jpg")
    Path("out").mkdir()
    assert plan(["photos/a.jpg"], "out")


def test_the_output_folder_may_not_lie_in_a_folder_of_images(photos):
    with pytest.raises(InputError, match=r"--out photos/masks lies in photos, of which all"):
        plan(["photos"], "photos/masks")
    Path("link").symlink_to(photos, target_is_directory=True)
    with pytest.raises(InputError, match=r"--out link/masks lies in photos"):
        plan(["photos"], "link/masks")
    assert plan(["photos/a.jpg"], "photos/masks")


@pytest.mark.parametrize(
    ("names", "images"),
    [
        (["images/{}.jpg", "masks/{}.png"], 3),
        (["train/{}.jpg", "train/{}.png"], 3),
        (["{}.jpg", "{}_mask.png"], 3),
        (["{}.jpg", "photo-{}.png"], 6),
    ],
)
def test_masks_beside_their_images_are_left_out_with_a_word(
    tmp_path, monkeypatch, caplog, names, images
):
    monkeypatch.chdir(tmp_path)
    for name in names:
        for letter in "abc":
            file = tmp_path / "data" / name.format(letter)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    assert len(plan(["data"], "out")) == images
    said = "data holds images with their masks: 3 masks (" in caplog.text
    assert said == (images == 3)
    every = "**/*.png"
    assert len(plan([f"data/{every}"], "out")) == 3  # by a glob they may be predicted
