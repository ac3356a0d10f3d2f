"""The page of `segacc check`, in a real browser."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from browser import opened
from PIL import Image

from segacc.commands.data import check
from segacc.data.audit.audit import audit
from segacc.data.audit.examples import around, examples_of_class
from segacc.errors import InputError
from segacc.report.pictures import tinted

EVIL = "<img src=x onerror=alert(1)>"
READY = "document.querySelector('#findings')"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three classes, one of them small; the names of a class and of a file are markup."""
    root = tmp_path_factory.mktemp("check") / "my set"
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("valid", 5), ("test", 4)):
        (root / split).mkdir(parents=True)
        for i in range(count):
            name = f"{i}{EVIL.replace('/', '')}" if split == "test" else f"{i}"
            coarse = rng.integers(0, 255, (8, 8, 3), np.uint8).repeat(25, 0).repeat(25, 1)
            Image.fromarray(coarse).save(root / split / f"{name}.jpg")
            label_map = np.zeros((200, 200), np.uint8)
            label_map[100:] = 1
            label_map[20 : 22 + i, 30:50] = 2
            label_map[:, 190:] = 255
            Image.fromarray(label_map).save(root / split / f"{name}.png")
    (root / "classes.txt").write_text(f"road\nsky\n{EVIL}\nboat\n")
    return root


@pytest.fixture(scope="module")
def page_of_set(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "sub" / "check.html"
    assert check(str(folder), page=path) == 0
    return path


def test_the_page_has_the_splits_the_balance_and_the_findings(browser, folder, page_of_set):
    with opened(browser, page_of_set, ready=READY) as page:
        assert page.locator("h1").text_content() == "my set"
        head = page.locator(".of-classes thead").inner_text()
        assert "8 images, 200 × 200 px; 5.0 % of the pixels do not count" in head
        rows = page.locator(".of-classes tbody tr").all_inner_texts()
        assert re.search(r"sky\s+50\.00 %\s+8 masks\s+50\.00 %\s+5 masks", rows[1])
        assert rows[3].split() == ["boat", "none", "none", "none"]
        said = page.locator("#findings").inner_text()
        assert "has no pixel of boat: no model can learn this" in said
        assert page.locator("#examples").inner_text().count("It is in no mask.") == 1


def test_names_cannot_bring_markup_into_the_page(browser, page_of_set):
    with opened(browser, page_of_set, ready=READY) as page:
        assert page.locator("img[src=x]").count() == 0
        assert EVIL in page.locator(".of-classes").inner_text()
    text = page_of_set.read_text(encoding="utf-8")
    assert "script" not in re.sub(r"base64,[^\"]*", "", text)
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone(browser, page_of_set, scheme):
    with opened(browser, page_of_set, width=360, ready=READY, color_scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_examples_go_from_the_largest_share_to_the_smallest_and_small_things_are_cut_out(folder):
    found = audit(str(folder))
    small = list(examples_of_class(found, 2, 4))
    shares = [example.share for example in small]
    assert shares == sorted(shares, reverse=True) and len(small) == 4
    assert shares[0] == 9 * 20 / 200**2 and shares[-1] == 2 * 20 / 200**2
    for example in small:
        assert example.is_part and example.image.shape == (64, 64, 3)
        assert (example.label_map == 2).sum() == example.share * 200**2
    whole = next(examples_of_class(found, 1, 4))
    assert not whole.is_part and whole.image.shape == (200, 200, 3)
    assert list(examples_of_class(found, 3, 4)) == []


def test_a_cut_stays_inside_of_the_image():
    of_class = np.zeros((100, 300), bool)
    of_class[95:, 290:] = True
    assert around(of_class) == (slice(36, 100), slice(236, 300))
    of_class[:, 100:250] = True  # three times as wide is more than the image
    assert around(of_class) == (slice(0, 100), slice(0, 300))


def test_two_classes_have_examples_of_the_foreground(browser, folder, tmp_path):
    for mask in folder.glob("*/*.png"):
        target = tmp_path / "two" / mask.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        label_map = np.array(Image.open(mask))
        Image.fromarray(((label_map == 1) * 255).astype(np.uint8)).save(target)
        target.with_suffix(".jpg").write_bytes(mask.with_suffix(".jpg").read_bytes())
    path = tmp_path / "check.html"
    check(str(tmp_path / "two"), page=path)
    with opened(browser, path, ready=READY) as page:
        assert page.locator("#examples h3").all_inner_texts() == ["foreground"]
        assert page.locator("#examples img").count() == 4
        address = page.locator("#examples img").first.get_attribute("src")
        coded = base64.b64decode(address.removeprefix("data:image/jpeg;base64,"))
        shown = np.asarray(Image.open(io.BytesIO(coded))).astype(int)
        # Yellow lies over the lower half, so red and green rise there, and blue falls.
        rise = shown[150:, :, :2].mean() - shown[150:, :, 2].mean()
        assert rise > shown[:50, :, :2].mean() - shown[:50, :, 2].mean() + 20


def test_the_page_of_a_set_with_nothing_to_read_has_the_errors(browser, folder, tmp_path):
    for split in ("train", "valid"):
        (tmp_path / "bad" / split).mkdir(parents=True)
        (tmp_path / "bad" / split / "0.jpg").write_bytes(b"no image")
        Image.new("L", (8, 8)).save(tmp_path / "bad" / split / "0.png")
    path = tmp_path / "check.html"
    assert check(str(tmp_path / "bad"), page=path) == 1
    with opened(browser, path, ready=READY) as page:
        assert "is not an image that can be read" in page.locator("#findings").inner_text()


def test_augment_shows_what_training_will_see(browser, folder, tmp_path, monkeypatch):
    """Of up to eight training images, as they are and in six epochs; as a training draws them."""
    from segacc.data.loading.loader import TrainSamples
    from segacc.data.loading.pipelines import find_pipeline
    from segacc.data.prepare import prepare
    from segacc.data.reading.sources import load_dataset

    monkeypatch.chdir(tmp_path)
    assert check(str(folder), augment="strong", size=64, crop=32) == 0
    with opened(browser, tmp_path / "check.html", ready=READY) as page:
        found = page.locator("#training figcaption").all_inner_texts()
        sources = page.locator("#training img").evaluate_all("imgs => imgs.map(i => i.src)")
    assert len(found) == 8 * 7 and [text.split("\n")[1] for text in found[:7]] == [
        "as it is",
        *(f"epoch {number}" for number in range(1, 7)),
    ]
    source = load_dataset(str(folder))
    split = prepare(source, 64).splits["train"]
    samples = TrainSamples(split, "h", 32, 0, find_pipeline("strong"))
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(sources[3].partition(",")[2]))))
    batch = samples.__getitems__([(epoch, 0) for epoch in range(6)])
    drawn = zip(batch["images"].numpy(), batch["label_maps"].numpy(), strict=True)
    wanted = [np.asarray(tinted(*pair, source.labels)).astype(int) for pair in drawn]
    apart = [np.abs(one - seen).mean() for one in wanted]
    assert seen.shape == wanted[2].shape == (32, 32, 3)
    assert np.argmin(apart) == 2 and apart[2] < 8  # it is a JPEG


def test_augment_is_checked_as_training_checks_it(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="--augment lihgt: there is no such file"):
        check(str(folder), augment="lihgt")
    with pytest.raises(InputError, match="no effect beside --write-classes"):
        check(str(folder), augment="light", write_classes=tmp_path / "classes.txt")
    for name, side in (("0", 40), ("1", 60)):
        for split in ("train", "valid"):
            (tmp_path / "sizes" / split).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (side, 50)).save(tmp_path / "sizes" / split / f"{name}.jpg")
            mask = np.zeros((50, side), np.uint8)
            mask[:20] = 255
            Image.fromarray(mask).save(tmp_path / "sizes" / split / f"{name}.png")
    with pytest.raises(InputError, match="--size native leaves the training images"):
        check(str(tmp_path / "sizes"), augment="light", size="native")
    (tmp_path / "sizes" / "valid" / "0.jpg").write_bytes(b"no image")
    assert check(str(tmp_path / "sizes"), augment="light", size=32) == 1
    assert "what training will see is not shown" in capsys.readouterr().out


def test_flags_of_training_without_augment_are_refused(folder):
    with pytest.raises(InputError, match="--crop and --flips have no effect without --augment"):
        check(str(folder), crop=32)
