"""The report, in a real browser: what it shows is what Python computes from the same files."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import opened, until
from PIL import Image
from runs import a_split, counts_of, guess, write_run

from segacc.errors import InputError
from segacc.metrics.counts import iou_of, scores
from segacc.metrics.thresholds import LEVELS
from segacc.report import page as report
from segacc.report.gallery import SIDE, choose_images
from segacc.report.page import write_report
from segacc.report.scored import label_runs, read_scored

FP, FN = (0xD5, 0x5E, 0x00), (0x56, 0xB4, 0xE9)  # of the error maps


def blobs(rng: np.random.Generator, size: int, share: float = 0.5) -> np.ndarray:
    """(size, size) uint8, 0 or 1."""
    noise = Image.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8)).resize((size, size), 3)
    return (np.asarray(noise) > 255 * (1 - share)).astype(np.uint8)


def made(folder: Path, count: int = 6, size: int = 64, names=None, seed: int = 0, **options):
    """A run whose images are better and worse, and its report."""
    rng = np.random.default_rng(seed)
    masks = [blobs(rng, size) for _ in range(count)]
    images = [rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in range(count)]
    levels = [guess(mask, rng, size / 40, 0.5 + i % 4) for i, mask in enumerate(masks)]
    names = names or [f"image {i}" for i in range(count)]
    return write_run(folder, a_split(names, images, masks), levels, **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return made(tmp_path_factory.mktemp("report") / "one", threshold=90 / 256)


@pytest.fixture(scope="module")
def page_of_run(run):
    path = run.folder / "report.html"
    write_report(path, [run])
    return path


def all_of(run):
    indices = range(len(run.names))
    return [run.found(i) for i in indices], [run.mask(i) for i in indices]


def move(page, k: int, slider: str = "#slider") -> None:
    page.locator(slider).fill(str(k))
    until(page, f"document.querySelector('.at').textContent === ({k} / 256).toFixed(3)")


def shown(page, selector: str) -> float:
    return float(page.locator(selector).first.get_attribute("value"))


def pixels(page, image: int, kind: str, k: int, run: int = 0, root: str = "") -> np.ndarray:
    """(H, W, 4) uint8 of a canvas, once it is drawn at level k."""
    pair = f"{root or f'#image-{image}'} .pair[data-run='{run}']"
    canvas = f"{pair} canvas[data-kind={kind}]"
    if not root:
        page.locator(f"#image-{image}").scroll_into_view_if_needed()
    page.wait_for_selector(f"{canvas}[data-drawn='{k}']")
    url = page.evaluate("canvas => document.querySelector(canvas).toDataURL()", canvas)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))))


def is_colour(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (picture[..., :3] == colour).all(-1)


# ---- what is in the file ----


def test_each_score_has_its_interval_its_formula_and_its_value_at_0_5(run, page_of_run):
    text = page_of_run.read_text(encoding="utf-8")
    for name, score in run.metrics["scores"].items():
        half = run.metrics["scores_at_half"][name]
        for one in (score, half):
            value = f"{one['value']:.1f} px" if name == "hd95" else f"{one['value']:.4f}"
            low, high = (
                f"{one[k]:.1f}" if name == "hd95" else f"{one[k]:.4f}" for k in ("low", "high")
            )
            assert f"<b>{value}</b>\n<small>{low}–{high}</small>" in text
        assert run.metrics["formulas"][name] in text
    assert "at 0.352" in text and "at 0.5" in text and "Picked on the validation split" in text
    assert "<p>ece 0.0400. On the diagonal" in text
    assert f'<p class="big">{run.metrics["constant_mask_iou"]:.3f}</p>' in text


def test_a_model_that_is_no_better_than_a_constant_mask_is_warned_of_on_its_page(run, tmp_path):
    path = tmp_path / "report.html"
    warning = "the model is no better than calling every pixel foreground"
    write_report(path, [run])
    assert warning not in path.read_text(encoding="utf-8")
    low = run.metrics["scores"]["iou"]["low"]
    constant = replace(run, metrics=run.metrics | {"constant_mask_iou": low})
    write_report(path, [constant])
    assert warning in path.read_text(encoding="utf-8")


def test_the_page_has_no_address_and_allows_no_style_or_script_but_its_own(page_of_run):
    text = page_of_run.read_text(encoding="utf-8")
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)
    assert "http:" not in text and "@import" not in text
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text).group(1)
    assert policy.startswith("default-src 'none'; img-src data:;") and "unsafe" not in policy


def test_numbers_that_are_not_finite_or_missing_are_no_nan_in_the_page(tmp_path):
    distances = [float("inf"), None, 3.0, 2.0, 1.0, 0.0]
    run = made(tmp_path / "one", hd95=distances)
    for scored in (run.metrics["scores"], run.metrics["scores_at_half"]):
        scored["hd95"] = {"value": None, "low": None, "high": None}
    run.metrics["scores"]["iou"] |= {"low": None, "high": None}
    run.metrics["scores"]["ece"]["value"] = float("inf")
    run.epochs[0]["valid_loss"] = float("nan")
    run.epochs[1]["valid_loss"] = None
    write_report(tmp_path / "report.html", [run])
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    data = json.loads(block.group(1), parse_constant=pytest.fail)
    assert len(data["pictures"]) == 6
    markup = re.sub(r"base64,[^\"]*", "", text[text.index("</style>") : text.index('id="data"')])
    assert re.findall(r".{30}\b(?:nan|inf|None)\b", markup) == []
    assert "<dt>hd95</dt><dd>∞</dd>" in text and "<dt>hd95</dt><dd>–</dd>" in text


def test_the_levels_in_the_page_are_those_that_were_scored(run, page_of_run):
    block = re.search(r'id="data">(.*?)</script>', page_of_run.read_text(encoding="utf-8"), re.S)
    for picture in json.loads(block.group(1))["pictures"]:
        levels = Image.open(io.BytesIO(base64.b64decode(picture["found"][0])))
        assert levels.mode == "L" and (np.asarray(levels) == run.found(picture["point"])).all()


def test_ignored_pixels_are_not_counted_and_not_shown_as_foreground(tmp_path):
    rng = np.random.default_rng(0)
    mask = blobs(rng, 64)
    mask[:, :9] = 255
    levels = guess(mask % 255, rng, 64 / 40, 1.0)
    image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    run = write_run(tmp_path / "run", a_split(["one"], [image], [mask]), [levels])
    write_report(tmp_path / "report.html", [run])
    block = re.search(r'id="data">(.*?)</script>', (tmp_path / "report.html").read_text(), re.S)
    data = json.loads(block.group(1))
    assert np.sum(data["runs"][0]["histogram"]) == 64 * 55
    shown_mask = base64.b64decode(data["pictures"][0]["masks"][0])
    in_page = np.asarray(Image.open(io.BytesIO(shown_mask)))
    assert (in_page == np.select([mask == 1, mask == 255], [255, 128], 0)).all()


def noise(rng: np.random.Generator, side: int) -> np.ndarray:
    """(256, 256, 3) float32 in about 0..255, of grains of 256 / side px."""
    grains = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
    return np.asarray(grains.resize((256, 256), Image.Resampling.BICUBIC), np.float32)


def test_eighty_images_of_256_px_are_under_ten_megabytes(tmp_path):
    """Photo-like noise at every scale, which JPEG and PNG find hard, and unsure probabilities."""
    rng = np.random.default_rng(0)
    images, masks, levels = [], [], []
    for _ in range(80):
        grain = [noise(rng, side) for side in (256, 128, 32, 8)]
        weights = (0.2, 0.2, 0.3, 0.3)
        image = sum(w * g for w, g in zip(weights, grain, strict=True))
        images.append(image.clip(0, 255).astype(np.uint8))
        masks.append(blobs(rng, 256))
        doubt = rng.integers(-4, 5, (256, 256))
        unsure = guess(masks[-1], rng, 6, 1.0) + doubt
        levels.append(unsure.clip(0, 255).astype(np.uint8))
    run = write_run(
        tmp_path / "run", a_split([f"{i}" for i in range(80)], images, masks), levels, epochs=100
    )
    write_report(tmp_path / "report.html", [run])
    size = (tmp_path / "report.html").stat().st_size
    print(f"{size / 1e6:.2f} MB")
    assert 5e6 < size < 10e6


def test_of_very_many_images_the_gallery_shows_the_worst_and_some_others(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "MOST_PICTURES", 12)  # of an image, of its mask, of each run
    run = made(tmp_path / "run", count=12)
    write_report(tmp_path / "report.html", [run])
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "4 of 12 images: the worst 2" in text and "The numbers are of all images" in text
    order = iou_of(counts_of(*all_of(run), 0.5)[:, 0]).argsort(stable=True).tolist()
    cards = [int(i) for i in re.findall(r'id="image-(\d+)"', text)]
    assert cards == [order[0], order[1], order[2], order[-1]]
    assert text.count('class="point ') == 12  # the chart has a point for each


def test_of_very_many_images_some_have_a_point_and_the_numbers_are_of_all(
    browser, tmp_path, monkeypatch
):
    monkeypatch.setattr(report, "MOST_PICTURES", 12)
    monkeypatch.setattr(report, "MOST_POINTS", 7)
    run = made(tmp_path / "run", count=24)
    write_report(tmp_path / "report.html", [run])
    levels, masks = all_of(run)
    with opened(browser, tmp_path / "report.html") as page:
        assert page.locator(".point").count() == 7
        assert "for each of 7 of the 24 images" in page.locator("#scatter").inner_text()
        for k in (40, 128):
            move(page, k)
            counts = counts_of(levels, masks, k / LEVELS)
            expected, ious = scores(counts), iou_of(counts[:, 0])
            assert shown(page, ".readout .iou") == pytest.approx(expected["iou"], abs=1e-15)
            assert shown(page, ".readout .iou-image") == pytest.approx(
                expected["iou_image"], abs=1e-15
            )
            total = counts.sum(dim=(0, 1)).tolist()
            cells = [page.locator(f"#confusion [data-count='{i}']") for i in range(4)]
            assert [cell.text_content() for cell in cells] == [f"{n:,}" for n in total]
            for card in page.locator(".card").all():
                image = run.names.index(card.locator(".open").text_content())
                value = card.locator(".iou").get_attribute("value")
                assert float(value) == pytest.approx(ious[image].item(), abs=1e-15)


def test_the_gallery_is_among_the_points_and_both_go_from_the_worst_to_the_best():
    ious = torch.rand(5000, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    gallery, points = choose_images(ious, 200, 1000)
    order = ious.argsort().tolist()
    assert gallery[:100] == order[:100] and gallery[-1] == order[-1]
    assert len(set(gallery)) == 200 and set(gallery) <= set(points)
    assert points == sorted(set(points)) and len(points) == 1000
    others = [ious[i].item() for i in points if i not in gallery]
    assert max(np.diff(sorted(others))) < 0.02
    assert choose_images(ious[:200], 200, 1000) == (ious[:200].argsort().tolist(), [*range(200)])


def test_the_page_does_not_grow_with_the_number_of_images(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "MOST_PICTURES", 12)
    monkeypatch.setattr(report, "MOST_POINTS", 7)
    sizes = []
    for count in (25, 99):
        run = made(tmp_path / f"{count}", count=count, names=[f"{i:04d}" for i in range(count)])
        write_report(tmp_path / "report.html", [run])
        sizes.append((tmp_path / "report.html").stat().st_size)
    assert sizes[1] == pytest.approx(sizes[0], rel=0.03)


def test_pictures_of_names_that_differ_in_a_slash_are_their_own(tmp_path):
    run = made(tmp_path / "run", count=3, names=["a/b", "a__b", "a%2Fb"])
    assert len({run.found(i).tobytes() for i in range(3)}) == 3
    write_report(tmp_path / "report.html", [run])
    block = re.search(r'id="data">(.*?)</script>', (tmp_path / "report.html").read_text(), re.S)
    pictures = json.loads(block.group(1))["pictures"]
    assert len({picture["found"][0] for picture in pictures}) == 3


def test_results_of_segacc_0_1_0_can_be_read(tmp_path):
    """There, a slash became two underscores."""
    run = made(tmp_path / "run", count=2, names=["a/b", "c/d__e"])
    expected = [run.found(i) for i in range(2)]
    for new, old in (("a%2Fb.png", "a__b.png"), ("c%2Fd__e.png", "c__d__e.png")):
        (run.folder / "probabilities" / new).rename(run.folder / "probabilities" / old)
    again = read_scored(tmp_path / "run", run.folder, run.split)
    assert all((again.found(i) == expected[i]).all() for i in range(2))
    write_report(tmp_path / "report.html", [again])


def test_a_picture_that_two_images_share_in_results_of_0_1_0_is_refused(tmp_path):
    run = made(tmp_path / "run", count=2, names=["a/b", "a__b"])
    (run.folder / "probabilities" / "a%2Fb.png").unlink()
    with pytest.raises(InputError, match=r"a__b.png is the picture of 2 images, one of them a/b"):
        read_scored(tmp_path / "run", run.folder, run.split)


# ---- the slider ----


@pytest.mark.parametrize("k", [1, 64, 90, 128, 201, 255])
def test_numbers_and_pictures_are_what_python_computes_at_the_threshold(
    browser, run, page_of_run, k
):
    levels, masks = all_of(run)
    counts = counts_of(levels, masks, k / LEVELS)
    expected = scores(counts)
    with opened(browser, page_of_run) as page:
        move(page, 255 - k + 1)
        move(page, k)
        assert shown(page, ".readout .iou") == pytest.approx(expected["iou"], abs=1e-15)
        assert shown(page, ".readout .iou-image") == pytest.approx(expected["iou_image"], abs=1e-15)
        total = counts.sum(dim=(0, 1)).tolist()
        for cell, count in enumerate(total):
            said = page.locator(f"#confusion [data-count='{cell}']").text_content()
            assert said == f"{count:,}"
            share = page.locator(f"#confusion [data-share='{cell}']").text_content()
            assert float(share.removesuffix(" %")) == pytest.approx(
                100 * count / sum(total), abs=0.00501
            )
        for i, one in enumerate(counts[:, 0]):
            tp, fp, fn, _ = one.tolist()
            assert shown(page, f"#image-{i} .iou") == pytest.approx(iou_of(one).item(), abs=1e-15)
            assert page.locator(f"#image-{i} .wrong").text_content() == f"{fp:,} FP, {fn:,} FN px"
            found = pixels(page, i, "found", k)
            assert (found[..., :3] == np.where(levels[i] >= k, 255, 0)[..., None]).all()
            assert (found[..., 3] == 255).all()
            errors = pixels(page, i, "errors", k)
            assert is_colour(errors, FP).sum() == fp and is_colour(errors, FN).sum() == fn
            assert (is_colour(errors, FP) == ((levels[i] >= k) & (masks[i] == 0))).all()
            point = page.locator(f".point[data-image='{i}']").get_attribute("transform")
            y = float(point.split()[1].rstrip(")"))
            assert y == pytest.approx(32 + 190 * (1 - tp / max(1, tp + fp + fn)), abs=0.06)


def test_it_starts_at_the_models_threshold_and_comes_back_to_it(browser, run, page_of_run):
    with opened(browser, page_of_run) as page:
        slider = page.locator("#slider")
        assert slider.input_value() == "90" and slider.get_attribute("aria-valuetext") == "0.352"
        assert shown(page, ".readout .iou") == pytest.approx(
            run.metrics["scores"]["iou"]["value"], abs=1e-15
        )
        page.get_by_role("button", name="0.5", exact=True).click()
        until(page, "document.querySelector('.at').textContent === '0.500'")
        assert shown(page, ".readout .iou") == pytest.approx(
            run.metrics["scores_at_half"]["iou"]["value"], abs=1e-15
        )
        page.get_by_role("button", name="model's 0.352").click()
        until(page, "document.querySelector('.at').textContent === '0.352'")
        pressed = page.locator(".bar [aria-pressed=true]")
        assert pressed.count() == 1 and pressed.text_content() == "model's 0.352"


def test_arrow_keys_move_the_slider_and_a_screen_reader_gets_its_numbers_once(browser, page_of_run):
    with opened(browser, page_of_run) as page:
        page.locator("#slider").focus()
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        until(page, "document.querySelector('.at').textContent === '0.363'")
        status = page.locator("#said")
        assert status.text_content() == ""
        until(page, "document.getElementById('said').textContent")
        iou, mean = shown(page, ".readout .iou"), shown(page, ".readout .iou-image")
        said = f"Threshold 0.363. iou {iou:.4f}, iou_image {mean:.4f}."
        assert status.text_content() == said
        assert page.locator("#slider").get_attribute("aria-valuetext") == "0.363"


def test_only_pictures_in_sight_are_drawn(browser, tmp_path):
    write_report(tmp_path / "report.html", [made(tmp_path / "run", count=60)])
    with opened(browser, tmp_path / "report.html") as page:
        page.locator(".card").nth(0).scroll_into_view_if_needed()
        move(page, 200)
        page.wait_for_selector(".card canvas[data-drawn='200']")
        page.wait_for_timeout(300)
        assert 0 < page.locator("canvas[data-drawn='200']").count() < 60
        page.locator(".card").nth(59).scroll_into_view_if_needed()
        page.wait_for_selector(".card:nth-child(60) canvas[data-drawn='200']")


# ---- the gallery ----


def names_shown(page) -> list[str]:
    return page.locator(".card:visible .open").all_text_contents()


def test_the_gallery_is_worst_first_and_can_be_sorted_and_filtered(browser, run, page_of_run):
    ious = iou_of(counts_of(*all_of(run), run.threshold)[:, 0])
    worst = [run.names[i] for i in ious.argsort(stable=True).tolist()]
    assert len(set(ious.tolist())) == len(worst) and worst != run.names
    with opened(browser, page_of_run) as page:
        assert names_shown(page) == worst
        page.get_by_label("Order").select_option("best first")
        assert names_shown(page) == worst[::-1]
        page.get_by_label("Order").select_option("by name")
        assert names_shown(page) == run.names
        page.get_by_label("Name").fill("E 3")
        assert names_shown(page) == ["image 3"]
        assert page.locator("#found").text_content() == "1 of 6 images"
        # A point leads to its image, even if the filter had hidden it.
        page.locator(".point[data-image='5']").dispatch_event("click")
        assert page.evaluate("document.activeElement.textContent") == "image 5"
        assert len(names_shown(page)) == 6


def test_the_tab_key_stops_at_one_point_and_arrow_keys_go_to_the_others(browser, page_of_run):
    with opened(browser, page_of_run) as page:
        assert page.locator("a.point[tabindex='0']").count() == 1
        page.locator("a.point[tabindex='0']").focus()
        first = page.evaluate("document.activeElement.dataset.image")
        page.keyboard.press("ArrowRight")
        second = page.evaluate("document.activeElement.dataset.image")
        assert first != second and page.locator("a.point[tabindex='0']").count() == 1
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.textContent") == f"image {second}"


def test_keys_open_the_large_view_change_its_image_and_close_it(browser, run, page_of_run):
    with opened(browser, page_of_run) as page:
        order = names_shown(page)
        title, place = page.locator("#large-h"), page.locator("#large .place")
        page.locator(".card .open").nth(1).focus()
        page.keyboard.press("Enter")
        assert title.text_content() == order[1] and place.text_content() == "2 of 6"
        for key, at in (("ArrowRight", 2), ("ArrowLeft", 1), ("ArrowLeft", 0), ("ArrowLeft", 0)):
            page.keyboard.press(key)
            assert title.text_content() == order[at]
        page.keyboard.press("ArrowRight")
        image = run.names.index(order[1])
        found = pixels(page, image, "found", 90, root="#large")
        assert (found[..., 0] == np.where(run.found(image) >= 90, 255, 0)).all()
        # Its slider is the page's: numbers and picture follow, and arrows on it do not turn.
        page.locator("#slider-large").focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_selector("#large canvas[data-drawn='91']")
        assert title.text_content() == order[1]
        assert page.locator("#slider").input_value() == "91"
        one = counts_of([run.found(image)], [run.mask(image)], 91 / 256)[0, 0]
        assert shown(page, "#large .iou") == pytest.approx(iou_of(one).item(), abs=1e-15)
        page.keyboard.press("Escape")
        assert not page.locator("#large").is_visible()
        assert page.evaluate("document.activeElement.textContent") == order[1]


def test_a_click_opens_the_large_view_and_buttons_change_its_image(browser, page_of_run):
    with opened(browser, page_of_run) as page:
        order = names_shown(page)
        page.locator(".card").nth(0).click()
        page.get_by_role("button", name="Next image").click()
        assert page.locator("#large-h").text_content() == order[1]
        assert "dice" in page.locator("#large .more").inner_text()
        page.get_by_role("button", name="Close").click()
        assert not page.locator("#large").is_visible()


# ---- names, sizes, light and dark ----

EVIL = [
    '<img src=x onerror="window.hacked=1">.jpg',
    "</script><script>window.hacked=2</script>",
    "<!--<script>",
    "\"'><svg onload=window.hacked=3>",
    "{{ 7*7 }}{% raw %}",
    "a & b &lt; c",
]


def test_names_of_files_are_never_taken_for_html(browser, tmp_path):
    run = made(tmp_path / "<b>run & 'run'", names=EVIL, model="</title><b>unet")
    several = {"members": ["<i>a"], "training": [{"command": "<i>"}], "parameters": {"whole": 1}}
    run = replace(run, record=run.record | several)
    write_report(tmp_path / "report.html", [run], [{"<i>run": "<script>window.hacked=4</script>"}])
    # Without the page's policy: escaping alone must do.
    with opened(browser, tmp_path / "report.html", bypass_csp=True) as page:
        page.wait_for_timeout(300)
        assert page.evaluate("window.hacked") is None
        assert sorted(names_shown(page)) == sorted(EVIL)
        assert page.locator("img").count() == 2 * len(EVIL)
        assert page.locator("script").count() == 2 and page.locator("b b, i").count() == 0
        assert page.title() == "</title><b>unet on test of demo"
        for i in range(len(EVIL)):
            page.locator(".card .open").nth(i).press("Enter")
            assert page.locator("#large-h").text_content() in EVIL
            page.keyboard.press("Escape")
        move(page, 128)
        titles = page.locator(".point title").all_text_contents()
        assert titles[0].startswith(EVIL[0]) and page.evaluate("window.hacked") is None


def test_the_page_is_light_or_dark_as_the_reader_prefers(browser, page_of_run):
    corners = {}
    for scheme in ("light", "dark"):
        with opened(browser, page_of_run, color_scheme=scheme) as page:
            picture = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"))
            corners[scheme] = picture[5, 5], np.median(picture)
    assert min(corners["light"]) > 230 and max(corners["dark"]) < 40


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_the_page_never_scrolls_sideways(browser, tmp_path, width):
    names = ["x" * 120, "a name with spaces " * 9, *"abcd"]
    one = made(tmp_path / ("long" * 20), names=names)
    two = made(tmp_path / "two", names=names, seed=1)
    table = [{f"column {i}": "0.712 [0.688, 0.733]" for i in range(12)}]
    for runs in ([one], [one, two]):
        write_report(tmp_path / "report.html", runs, table if len(runs) > 1 else None)
        with opened(browser, tmp_path / "report.html", width=width) as page:
            wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert page.evaluate(wide) <= 0
            page.locator(".card .open").first.press("Enter")
            assert page.evaluate("large.scrollWidth - large.clientWidth") <= 0


def test_screen_readers_get_names_and_descriptions(browser, page_of_run):
    with opened(browser, page_of_run) as page:
        for name in ("Scores", "Training", "Images and thresholds", "Gallery"):
            assert page.get_by_role("region", name=name, exact=True).count() == 1
            assert page.get_by_role("heading", name=name, exact=True, level=2).count() == 1
        assert page.get_by_role("slider", name="Threshold").count() == 1
        unnamed = """[...document.querySelectorAll('img, canvas, figure > svg')].filter(e =>
            !(e.alt || e.ariaLabel || document.getElementById(e.getAttribute('aria-labelledby')
            ?.split(' ')[0])?.textContent)).length"""
        assert page.evaluate(unnamed) == 0
        said = page.locator("#curve-iou desc").text_content()
        assert re.match(r"iou: 0\.\d+ in epoch 1, 0\.\d+ in epoch 3, 0\.\d+ in epoch 3, the", said)


# ---- several runs ----


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two runs at 64 and 512 px, which have four images in common, in another order."""
    folder = tmp_path_factory.mktemp("several")
    small = made(folder / "small", count=6, threshold=90 / 256, model="unet")
    rng = np.random.default_rng(7)
    big = [np.kron(small.mask(i), np.ones((8, 8), np.uint8)) for i in (5, 2, 4, 3)]
    images = [np.kron(small.image(i), np.ones((8, 8, 1), np.uint8)) for i in (5, 2, 4, 3)]
    levels = [guess(mask, rng, 10, 0.4 + i) for i, mask in enumerate(big)]
    split = a_split([small.names[i] for i in (5, 2, 4, 3)], images, big)
    large = write_run(folder / "large", split, levels, threshold=0.625, model="segformer", epochs=9)
    table = [{"run": "small", "iou": "0.7"}, {"run": "large", "iou": "0.8 [0.7, 0.9]"}]
    write_report(folder / "report.html", [small, large], table)
    return small, large, folder / "report.html"


COMMON = ["image 2", "image 3", "image 4", "image 5"]


def common(run):
    indices = [run.names.index(name) for name in COMMON]
    return [run.found(i) for i in indices], [run.mask(i) for i in indices]


def test_several_runs_start_each_at_its_own_threshold_and_share_the_slider(browser, two):
    small, large, path = two
    with opened(browser, path) as page:
        assert "4 images in common" in page.locator("header").inner_text()
        first = page.locator("main > section").first
        assert first.get_attribute("id") == "comparison" and "0.8 [0.7, 0.9]" in first.inner_text()
        assert page.locator("#slider").get_attribute("aria-valuetext") == "each its own"
        for k in (None, 77, 140):
            if k:
                move(page, k)
            for r, run in enumerate((small, large)):
                expected = scores(counts_of(*common(run), k / 256 if k else run.threshold))
                line = f".readout [data-run='{r}']"
                assert shown(page, f"{line} .iou") == pytest.approx(expected["iou"], abs=1e-15)
                assert shown(page, f"{line} .iou-image") == pytest.approx(
                    expected["iou_image"], abs=1e-15
                )
        page.get_by_role("button", name="each its own").click()
        until(page, "document.querySelector('.at').textContent === 'each its own'")


def test_several_runs_are_side_by_side_on_the_same_images_worst_first(browser, two):
    small, large, path = two
    ious = torch.stack(
        [iou_of(counts_of(*common(run), run.threshold)[:, 0]) for run in (small, large)]
    )
    order = [COMMON[i] for i in ious.mean(dim=0).argsort().tolist()]
    with opened(browser, path) as page:
        assert names_shown(page) == order
        for i, name in enumerate(COMMON):
            for r, (run, k) in enumerate(((small, 90), (large, 160))):
                pair = f"#image-{i} .pair[data-run='{r}']"
                assert shown(page, f"{pair} .iou") == pytest.approx(ious[r, i].item(), abs=1e-15)
                levels = run.found(run.names.index(name))
                picture = Image.fromarray((levels >= k).astype(np.uint8) * 255)
                if levels.shape[0] > SIDE:  # of every pair of pixels one is shown
                    picture = picture.resize((256, 256), Image.Resampling.NEAREST)
                found = pixels(page, i, "found", k, run=r)
                assert (found[..., 0] == np.asarray(picture)).all()


def test_runs_of_the_same_model_are_labelled_with_their_names(tmp_path):
    runs = [made(tmp_path / name) for name in ("a/one", "b/one", "two")]
    assert label_runs(runs) == ["one (1)", "one (2)", "two"]
    assert label_runs(runs[:1]) == ["linknet (resnet34)"]


def test_runs_without_a_common_image_have_a_report_too(browser, tmp_path):
    runs = [made(tmp_path / name, count=2, names=[name, f"{name}2"]) for name in "ab"]
    write_report(tmp_path / "report.html", runs, [{"run": "a"}])
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "The runs have no image in common" in text and 'id="curve-valid_iou"' in text
    context = browser.new_context()
    page = context.new_page()
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.goto((tmp_path / "report.html").as_uri())
    assert page.locator(".card").count() == 0
    context.close()


# ---- edges ----


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("count", [1, 3])
def test_masks_of_nothing_and_of_everything(browser, tmp_path, value, count):
    rng = np.random.default_rng(0)
    masks = [np.full((32, 32), value, np.uint8)] * count
    images = [np.zeros((32, 32, 3), np.uint8)] * count
    levels = [rng.integers(0, 250, (32, 32), dtype=np.uint8) for _ in masks]
    split = a_split([f"{i}" for i in range(count)], images, masks)
    run = write_run(tmp_path / "run", split, levels, epochs=1)
    write_report(tmp_path / "report.html", [run])
    with opened(browser, tmp_path / "report.html") as page:
        for k in (1, 128, 255):
            move(page, k)
            expected = scores(counts_of(levels, masks, k / 256))
            assert shown(page, ".readout .iou") == pytest.approx(expected["iou"], abs=1e-15)
            assert shown(page, ".readout .iou-image") == pytest.approx(
                expected["iou_image"], abs=1e-15
            )
        assert "NaN" not in page.locator("main").inner_html()


def test_pictures_of_large_images_are_reduced_and_numbers_are_not(browser, tmp_path):
    run = made(tmp_path / "run", count=2, size=512)
    write_report(tmp_path / "report.html", [run])
    with opened(browser, tmp_path / "report.html") as page:
        assert "reduced to 256 px" in page.locator("#gallery").inner_text()
        move(page, 100)
        expected = scores(counts_of(*all_of(run), 100 / 256))
        assert shown(page, ".readout .iou") == pytest.approx(expected["iou"], abs=1e-15)
        assert pixels(page, 0, "errors", 100).shape == (256, 256, 4)


def test_the_page_says_that_a_threshold_is_between_two_levels(browser, tmp_path):
    run = made(tmp_path / "run", threshold=0.3, threshold_from="given")
    write_report(tmp_path / "report.html", [run])
    with opened(browser, tmp_path / "report.html") as page:
        assert page.locator("#slider").input_value() == "77"
        assert "the slider takes 77/256 for it" in page.locator("#images").inner_text()
        assert "Given on the command line" in page.locator("#scores").inner_text()


def test_a_run_without_curves_has_a_report(tmp_path):
    run = made(tmp_path / "run", epochs=0)
    write_report(tmp_path / "report.html", [run])
    assert "no <span" in (tmp_path / "report.html").read_text() and run.best_epoch is None


def test_results_that_cannot_be_read_are_named(tmp_path):
    run = made(tmp_path / "run")
    read = tmp_path / "run", run.folder, run.split
    picture = run.folder / "probabilities" / "image 2.png"
    Image.new("L", (32, 32)).save(picture)
    with pytest.raises(InputError, match=r"image 2.png is no 8-bit gray picture of 64 x 64 px"):
        write_report(tmp_path / "report.html", [read_scored(*read)])
    picture.unlink()
    with pytest.raises(InputError, match=r"image 2.png cannot be read .* `segacc evaluate`, which"):
        write_report(tmp_path / "report.html", [run])
    assert not (tmp_path / "report.html").exists()
    table = run.folder / "per_image.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-1]))
    with pytest.raises(InputError, match=r"per_image.csv is of other images than the 6"):
        read_scored(*read)
    (run.folder / "metrics.json").write_text("{")
    with pytest.raises(InputError, match=r"metrics.json cannot be read"):
        read_scored(*read)


def test_a_browser_that_cannot_decode_pictures_says_so_and_has_numbers(browser, run, page_of_run):
    context = browser.new_context()
    context.add_init_script("delete window.DecompressionStream")
    page = context.new_page()
    page.goto(page_of_run.as_uri())
    page.locator(".card").first.scroll_into_view_if_needed()
    until(page, "document.querySelector('.card .wrong').textContent.startsWith('cannot be drawn')")
    assert shown(page, ".readout .iou") == pytest.approx(run.metrics["scores"]["iou"]["value"])
    context.close()


def test_the_histogram_counts_the_images(browser, run, page_of_run):
    ious = iou_of(counts_of(*all_of(run), 60 / 256)[:, 0])
    expected = np.bincount([min(19, int(iou * 20)) for iou in ious.tolist()], minlength=20)
    with opened(browser, page_of_run) as page:
        move(page, 60)
        drawn = page.locator("#ious .outline").get_attribute("d")
        ticks = page.locator("#ious .tick.y").all_text_contents()
        tops = [float(v) for v in re.findall(r"V([\d.]+)H", drawn)]
        counts = [(222 - top) / 190 * int(ticks[-1]) for top in tops]
        assert ticks[0] == "0" and counts == pytest.approx(expected.tolist(), abs=0.01)
