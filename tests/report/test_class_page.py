"""The page of a report on more than two classes, in a real browser."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import asdict

import numpy as np
import pytest
import torch
from browser import opened, until
from PIL import Image
from runs import a_split

from segacc.data.classes.palettes import with_palette
from segacc.evaluation.results import calibration_table, class_table, write_results
from segacc.labels import IGNORE, Labels, colours_for
from segacc.metrics.counts import confusion_matrices, constant_mask_iou
from segacc.metrics.scores import CLASS_FORMULAS, ImageStats, image_stats, scores_with_intervals
from segacc.report import page as report
from segacc.report.class_page import choose_class_images, colour_hex, confusions_of, matrix_of
from segacc.report.page import write_report
from segacc.report.pictures import picture_name
from segacc.report.scored import Scored, read_scored

NAMES = ("sky", "road", "tree", "person", "boat")  # no pixel has the last one
TP, FP, FN, TN = (0xD9,) * 3, (0xD5, 0x5E, 0x00), (0x56, 0xB4, 0xE9), (0x20, 0x22, 0x26)
UNCOUNTED = (0x7F, 0x7F, 0x86)
SIZE = 48


def label_maps(rng: np.random.Generator, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """A true and a predicted label map, which differ in one stripe; a part is ignored."""
    coarse = rng.integers(0, classes, (4, 4), dtype=np.uint8)
    truth = np.kron(coarse, np.ones((SIZE // 4, SIZE // 4), dtype=np.uint8))
    found = truth.copy()
    height = int(rng.integers(4, SIZE // 2))
    found[:height] = rng.integers(0, classes, (height, SIZE), dtype=np.uint8)
    truth[-5:, :7] = IGNORE
    return truth, found


def made(
    folder,
    count: int = 6,
    seed: int = 0,
    names=NAMES,
    images=None,
    model="linknet",
    colours=None,
) -> Scored:
    """A run's folder and its results, counted and written by segacc itself."""
    rng = np.random.default_rng(seed)
    labels = Labels(names, colours or colours_for(names))
    maps = [label_maps(np.random.default_rng(100 + i)) for i in range(count)]
    truths = [truth for truth, _ in maps]
    founds = [label_maps(rng)[1] if seed else found for _, found in maps]
    images = images or [f"image {i}" for i in range(count)]
    photos = [rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) for _ in range(count)]
    split = a_split(images, photos, truths)
    stats, confusion = [], torch.zeros(len(names), len(names), dtype=torch.long)
    (folder / "test" / "overlays").mkdir(parents=True)
    (folder / "test" / "predictions").mkdir()
    for name, truth, found in zip(images, truths, founds, strict=True):
        one_hot = torch.nn.functional.one_hot(torch.from_numpy(found).long(), len(names))
        p = 0.8 * one_hot.permute(2, 0, 1)[None].float() + 0.2 / len(names)
        true = torch.from_numpy(truth)[None]
        stats.append(image_stats(p, true, 0.5).packed())
        confusion += confusion_matrices(torch.from_numpy(found)[None], true, len(names))[0]
        picture = with_palette(found, labels)
        picture.save(folder / "test" / "predictions" / picture_name(name))
        picture.convert("RGB").save(folder / "test" / "overlays" / picture_name(name))
    whole = ImageStats.unpacked(torch.cat(stats))
    record = {
        "dataset": "city",
        "fingerprint": "0" * 64,
        "split": "test",
        "images": count,
        "size": SIZE,
        "labels": labels.to_config(),
        "threshold": None,
        "threshold_from": None,
        "scores": {name: asdict(score) for name, score in scores_with_intervals(whole).items()},
        "formulas": CLASS_FORMULAS,
        "per_class": class_table(whole, labels),
        "confusion": confusion.tolist(),
        "constant_mask_iou": constant_mask_iou(whole.counts),
        "calibration": calibration_table(whole),
    }
    write_results(folder / "test", split, whole, record)
    config = {"dataset": "city", "model": model, "encoder": "resnet18", "size": SIZE}
    (folder / "config.json").write_text(json.dumps({"config": config}))
    line = {"epoch": 1, "train_loss": 1, "valid_loss": 1, "valid_iou": 0.5, "lr": 0.1}
    (folder / "metrics.jsonl").write_text(json.dumps(line | {"valid_iou_image": 0.4}))
    return read_scored(folder, folder / "test", split)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return made(tmp_path_factory.mktemp("classes") / "one")


@pytest.fixture(scope="module")
def page_of_run(run):
    path = run.folder / "report.html"
    write_report(path, [run])
    return path


def data_in(path) -> dict:
    block = re.search(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"), re.S)
    return json.loads(block.group(1), parse_constant=pytest.fail)


def names_shown(page) -> list[str]:
    return page.locator(".card:visible .open").all_text_contents()


def card_of(page, name: str):
    return page.locator(".card", has=page.get_by_role("button", name=name, exact=True))


def pixels(page, name: str, kind: str, chosen: int, run: int = 0) -> np.ndarray:
    """(H, W, 3) uint8 of a canvas in a card, once it shows the chosen class."""
    card = card_of(page, name)
    card.scroll_into_view_if_needed()
    pair = "" if kind == "truth" else f".pair[data-run='{run}'] "
    canvas = card.locator(f"{pair}canvas[data-kind={kind}][data-drawn='{chosen}']")
    canvas.wait_for()
    url = canvas.evaluate("canvas => canvas.toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))))[..., :3]


def is_colour(picture: np.ndarray, colour: tuple[int, ...]) -> np.ndarray:
    return (picture == colour).all(-1)


def ious_of(run: Scored, number: int | None) -> dict[str, float]:
    """The IoU of each image, of one class or the mean; images without the class are left out."""
    ious = {}
    for i, name in enumerate(run.names):
        truth, found = run.mask(i), run.found(i)
        counted = truth != IGNORE
        of_classes = {}
        for k in range(len(NAMES)):
            both = (truth == k) & (found == k) & counted
            either = ((truth == k) | (found == k)) & counted
            if either.any():
                of_classes[k] = both.sum() / either.sum()
        if number is None:
            ious[name] = float(np.mean([*of_classes.values()]))
        elif number in of_classes:
            ious[name] = float(of_classes[number])
    return ious


def test_every_score_of_every_class_is_in_the_table_with_its_interval(run, page_of_run):
    text = page_of_run.read_text(encoding="utf-8")
    table = text[text.index('class="of-classes"') : text.index('id="confusion"')]
    for row in run.metrics["per_class"]:
        line = re.search(f"<bdi>{row['name']}</bdi>.*?</tr>", table, re.S).group()
        assert f"{100 * row['share']:.2f} %" in line
        for score in ("iou", "dice", "precision", "recall"):
            value = row[score]["value"]
            shown = "–" if value is None else f"{value:.4f}"
            low, high = row[score]["low"], row[score]["high"]
            interval = "" if low is None else f"{low:.4f}–{high:.4f}"
            assert f"<b>{shown}</b> <small>{interval}</small>" in line
    best = [re.search(f"<bdi>{name}</bdi>", table).start() for name in NAMES]
    ious = {row["name"]: row["iou"]["value"] for row in run.metrics["per_class"]}
    assert ious.pop("boat") is None and best[-1] == max(best)  # absent: no score, and last
    order = sorted(ious, key=lambda name: -ious[name])
    assert sorted(order, key=lambda name: best[NAMES.index(name)]) == order


def test_the_page_has_no_address_and_allows_no_style_or_script_but_its_own(page_of_run):
    text = page_of_run.read_text(encoding="utf-8")
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text).group(1)
    assert policy.startswith("default-src 'none'; img-src data:;") and "unsafe" not in policy


def test_pictures_in_the_page_are_the_label_maps(run, page_of_run):
    pictures = data_in(page_of_run)["pictures"]
    ious = ious_of(run, None)
    order = sorted(run.names, key=lambda name: ious[name])
    assert len(pictures) == len(order)
    for name, picture in zip(order, pictures, strict=True):
        i = run.names.index(name)
        for coded, expected in (
            (picture["masks"][0], run.mask(i)),
            (picture["found"][0], run.found(i)),
        ):
            shown = Image.open(io.BytesIO(base64.b64decode(coded)))
            assert shown.mode == "L" and (np.asarray(shown) == expected).all()
        assert picture["iou"][0] == pytest.approx(ious[name], abs=1e-6)


def test_all_classes_are_shown_in_their_colours_and_errors_are_marked(browser, run, page_of_run):
    colours = np.array(run.labels.colours, dtype=np.uint8)
    with opened(browser, page_of_run) as page:
        for i, name in enumerate(run.names):
            truth, found = run.mask(i), run.found(i)
            counted = truth != IGNORE
            shown = pixels(page, name, "truth", -1)
            assert (shown[counted] == colours[truth[counted]]).all()
            assert (shown[~counted] == 255).all()
            assert (pixels(page, name, "found", -1) == colours[found]).all()
            errors = pixels(page, name, "errors", -1)
            assert (is_colour(errors, FP) == (counted & (truth != found))).all()
            assert (is_colour(errors, TP) == (counted & (truth == found))).all()
            assert (is_colour(errors, UNCOUNTED) == ~counted).all()
            wrong = card_of(page, name).locator(".wrong").text_content()
            share = 100 * (counted & (truth != found)).sum() / counted.sum()
            assert wrong == f"{share:.1f} % of pixels wrong"


def test_a_data_sets_own_colours_can_be_changed_for_ours(browser, tmp_path, page_of_run):
    """Since those of VOC, Cityscapes or CamVid are hard to tell apart for colour-blind people."""
    theirs = ((70, 130, 180), (128, 64, 128), (107, 142, 35), (220, 20, 60), (0, 0, 142))
    run = made(tmp_path / "city", count=2, colours=theirs)
    path = tmp_path / "report.html"
    write_report(path, [run])
    with opened(browser, path) as page:
        switch = page.get_by_label("easier to tell apart")
        bar = page.locator("#classes tr", has_text="tree").locator(".bar-chart")
        chip = page.locator("#confusion th", has_text="tree").first.locator(".chip rect")
        for colours in (theirs, colours_for(NAMES), theirs):
            table = np.array(colours, dtype=np.uint8)
            for i, name in enumerate(run.names):
                counted = run.mask(i) != IGNORE
                shown = pixels(page, name, "truth", -1)
                assert (shown[counted] == table[run.mask(i)[counted]]).all()
                assert (pixels(page, name, "found", -1) == table[run.found(i)]).all()
            tree = colour_hex(colours[NAMES.index("tree")])
            assert bar.get_attribute("fill") == chip.get_attribute("fill") == tree
            switch.click()
    with opened(browser, page_of_run) as page:  # its colours are ours
        assert page.get_by_label("easier to tell apart").count() == 0


def test_a_chosen_class_is_shown_alone_and_its_worst_images_come_first(browser, run, page_of_run):
    number = NAMES.index("tree")
    ious = ious_of(run, number)
    worst = sorted(ious, key=lambda name: ious[name])
    with opened(browser, page_of_run) as page:
        whole = ious_of(run, None)
        assert names_shown(page) == sorted(whole, key=lambda name: whole[name])
        page.get_by_role("button", name="tree", exact=True).click()
        assert page.locator("#class").input_value() == str(number)
        assert names_shown(page) == worst
        page.get_by_label("Order").select_option("best first")
        assert names_shown(page) == worst[::-1]
        scores = run.metrics["per_class"][number]
        line = page.locator(".readout li").inner_text()
        for name in ("iou", "precision", "recall"):
            assert f"{name} {scores[name]['value']:.4f}" in line
        colour = run.labels.colours[number]
        for name in worst:
            i = run.names.index(name)
            truth, found = run.mask(i) == number, run.found(i) == number
            counted = run.mask(i) != IGNORE
            card = card_of(page, name)
            value = float(card.locator(".iou").get_attribute("value"))
            assert value == pytest.approx(ious[name], abs=1e-12)
            fp, fn = (found & ~truth & counted), (truth & ~found)
            assert card.locator(".wrong").text_content() == f"{fp.sum():,} FP, {fn.sum():,} FN px"
            assert (is_colour(pixels(page, name, "truth", number), colour) == truth).all()
            assert (is_colour(pixels(page, name, "found", number), colour) == found).all()
            errors = pixels(page, name, "errors", number)
            for kind, where in (
                (TP, truth & found),
                (FP, fp),
                (FN, fn),
                (TN, counted & ~truth & ~found),
                (UNCOUNTED, ~counted),
            ):
                assert (is_colour(errors, kind) == where).all()
        page.get_by_role("button", name="tree", exact=True).click()
        assert len(names_shown(page)) == len(run.names)
        assert page.locator("#class").input_value() == ""


def test_images_without_the_chosen_class_are_left_out_and_counted(browser, run, page_of_run):
    with opened(browser, page_of_run) as page:
        page.locator("#class").select_option("boat")
        assert names_shown(page) == []
        assert page.locator("#found").text_content() == f"0 of {len(run.names)} images"
        assert page.locator(".readout .iou").text_content() == "–"
        page.locator("#class").select_option("person")
        there = ious_of(run, NAMES.index("person"))
        assert sorted(names_shown(page)) == sorted(there)


def test_a_class_in_the_table_leads_to_its_worst_images(browser, run, page_of_run):
    ious = ious_of(run, NAMES.index("road"))
    with opened(browser, page_of_run) as page:
        page.get_by_role("link", name="road").click()
        assert page.locator("#class").input_value() == str(NAMES.index("road"))
        assert names_shown(page)[0] == min(ious, key=lambda name: ious[name])
        assert page.locator("#said").text_content().startswith("road. iou ")


@pytest.mark.parametrize("kind", ["truth", "found", "errors"])
def test_the_class_under_the_pointer_is_named(browser, run, page_of_run, kind):
    name = run.names[2]
    truth, found = run.mask(2), run.found(2)
    with opened(browser, page_of_run) as page:
        pixels(page, name, kind, -1)
        canvas = card_of(page, name).locator(f"canvas[data-kind={kind}]")
        for y, x in ((2, 3), (20, 40), (46, 3), (30, 10)):
            box = canvas.bounding_box()
            page.mouse.move(
                box["x"] + box["width"] * (x + 0.5) / SIZE,
                box["y"] + box["height"] * (y + 0.5) / SIZE,
            )
            true = "not counted" if truth[y, x] == IGNORE else NAMES[truth[y, x]]
            said = f"truth: {true}prediction: {NAMES[found[y, x]]}"
            until(page, f"document.getElementById('pointed').textContent === '{said}'")
            assert page.locator("#pointed").is_visible()
        page.mouse.move(1, 1)
        until(page, "document.getElementById('pointed').hidden")


def test_the_large_view_shows_one_kind_at_a_key_and_follows_the_class(browser, run, page_of_run):
    with opened(browser, page_of_run) as page:
        page.locator(".card .open").first.focus()
        page.keyboard.press("Enter")
        large = page.locator("#large")
        assert large.locator("figure:visible").count() == 4
        for key, kind in (("2", "image"), ("3", "truth"), ("4", "found"), ("5", "errors")):
            page.keyboard.press(key)
            shown = large.locator("figure:visible")
            assert shown.count() == 1 and shown.get_attribute("data-kind") == kind
        large.get_by_role("button", name="side by side").click()
        assert large.locator("figure:visible").count() == 4
        page.locator("#class-large").select_option("sky")
        large.locator("canvas[data-kind=errors][data-drawn='0']").wait_for()
        assert page.locator("#class").input_value() == "0"
        title = page.locator("#large-h").text_content()
        expected = ious_of(run, 0)[title]
        value = float(large.locator(".iou").get_attribute("value"))
        assert value == pytest.approx(expected, abs=1e-12)
        page.keyboard.press("Escape")
        assert page.evaluate("document.activeElement.textContent") == title


def test_runs_stand_side_by_side_with_their_own_predictions(browser, tmp_path):
    runs = [made(tmp_path / "a"), made(tmp_path / "b", seed=7, model="unet")]
    write_report(tmp_path / "report.html", runs, [{"model": "linknet"}, {"model": "unet"}])
    with opened(browser, tmp_path / "report.html") as page:
        assert page.locator(".matrix").count() == 2 and page.locator("#comparison").is_visible()
        colours = np.array(runs[0].labels.colours, dtype=np.uint8)
        name = runs[0].names[1]
        for place, run in enumerate(runs):
            assert (pixels(page, name, "found", -1, place) == colours[run.found(1)]).all()
            shown = card_of(page, name).locator(f".pair[data-run='{place}'] .iou")
            value = float(shown.get_attribute("value"))
            assert value == pytest.approx(ious_of(run, None)[name], abs=1e-6)
        box = card_of(page, name).locator("canvas[data-kind=truth]").bounding_box()
        page.mouse.move(box["x"] + 3, box["y"] + 3)
        until(page, "document.querySelectorAll('#pointed span').length === 3")
        said = page.locator("#pointed").inner_text()
        assert "linknet (resnet18): " in said and "unet (resnet18): " in said


def test_names_cannot_bring_markup_into_the_page(browser, tmp_path):
    evil = "<img src=x onerror=alert(1)>"
    names = (evil, "</script><script>alert(2)</script>", *NAMES[2:])
    images = [f"{i}{evil}" for i in range(4)]
    run = made(tmp_path / "run", count=4, names=names, images=images)
    write_report(tmp_path / "report.html", [run])
    with opened(browser, tmp_path / "report.html") as page:
        assert page.locator("img[src=x]").count() == 0
        assert evil in page.locator(".names").inner_text()
        pixels(page, images[0], "truth", -1)
        card_of(page, images[0]).locator("canvas[data-kind=truth]").hover()
        until(page, "!document.getElementById('pointed').hidden")
        assert page.locator("#pointed img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone(browser, page_of_run, scheme):
    options = {"color_scheme": scheme, "has_touch": True, "is_mobile": True}
    with opened(browser, page_of_run, width=360, height=740, **options) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.locator(".card").first.tap()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        canvas = page.locator("#large canvas[data-kind=truth]")
        canvas.tap()
        until(page, "document.getElementById('pointed').textContent.startsWith('truth: ')")


def test_the_gallery_of_many_images_has_the_worst_of_each_class_too(tmp_path, monkeypatch):
    counts = torch.zeros(40, 3, 4, dtype=torch.double)
    counts[:, :2, 0], counts[:, :2, 1] = 50, torch.arange(40)[:, None].double()  # 39 is the worst
    counts[5, 2] = torch.tensor([1.0, 99.0, 0.0, 0.0])  # the only image with the third class
    ious = -torch.arange(40).double()
    chosen = choose_class_images(ious, [counts], 12)
    assert chosen[0] == 39 and 5 in chosen and 0 in chosen and len(chosen) == len({*chosen}) == 12
    assert chosen == sorted(chosen, reverse=True)
    assert choose_class_images(ious, [counts], 40) == list(range(39, -1, -1))
    monkeypatch.setattr(report, "MOST_PICTURES", 12)
    write_report(tmp_path / "report.html", [made(tmp_path / "run", count=9)])
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "4 of 9 images: the worst, the worst of each class" in text
    assert text.count('class="card') == 5  # with the list of cards


def test_the_matrix_has_shares_of_the_true_class_and_leaves_out_what_is_nowhere():
    labels = Labels(NAMES, colours_for(NAMES))
    confusion = [[90, 10, 0, 0, 0], [5, 15, 0, 0, 0], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0] * 5]
    matrix = matrix_of(confusion, labels)
    assert matrix.names == ["sky", "road", "person"] and matrix.numbers == [0, 1, 3]
    assert matrix.share(0, 1) == 0.1 and matrix.share(1, 0) == 0.25 and matrix.share(2, 1) == 1
    assert matrix.shade(0, 1) == 1 and matrix.shade(0, 2) == 0 and matrix.shade(2, 1) == 10
    worst = confusions_of(confusion)
    assert [(one.true, one.predicted, one.pixels) for one in worst] == [
        (0, 1, 10),
        (1, 0, 5),
        (3, 1, 1),
    ]
    assert worst[0].of_class == 0.1 and worst[0].of_all == 10 / 121


def test_of_very_many_classes_the_matrix_has_the_largest_and_the_rest_as_one(tmp_path):
    names = tuple(f"class {i}" for i in range(150))
    labels = Labels(names, colours_for(names))
    confusion = np.diag(np.arange(150))
    confusion[149, 3] = 7
    matrix = matrix_of(confusion.tolist(), labels)
    assert len(matrix.names) == 30 and matrix.names[-1] == "120 others"
    assert matrix.names[0] == "class 121" and matrix.numbers[-1] is None
    assert np.sum(matrix.rows) == confusion.sum() and matrix.rows[-2][-1] == 7
    run = made(tmp_path / "run", count=3, names=names)
    write_report(tmp_path / "report.html", [run])
    assert (tmp_path / "report.html").stat().st_size < 1e6


def test_a_single_image_of_which_nothing_counts_has_a_page(browser, tmp_path):
    run = made(tmp_path / "run", count=2)
    run.split[0][1][:] = IGNORE
    run.rows[0].update({key: "0" for key in run.rows[0] if key[:3] in ("tp/", "fp/", "fn/")})
    run.rows[0]["iou"] = "0.000000"
    write_report(tmp_path / "report.html", [run])
    with opened(browser, tmp_path / "report.html") as page:
        text = card_of(page, run.names[0]).locator(".wrong").text_content()
        assert text == "0.0 % of pixels wrong"
