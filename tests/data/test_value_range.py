"""Images of 10 or 12 bits in files of 16 bits are scaled by the range of their data set."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from accelerate.state import AcceleratorState
from small import TINY, write_blobs

from segacc.config.evaluate import EvaluateConfig
from segacc.config.flags import parse_train
from segacc.data.audit.audit import audit
from segacc.data.prepare import prepare
from segacc.data.reading.convert import convert_folder
from segacc.data.reading.depth import VALUES, WHOLE
from segacc.data.rows import Source
from segacc.data.split import Prepared
from segacc.data.value_range import Histograms, range_of
from segacc.errors import InputError
from segacc.evaluation.evaluate import evaluate
from segacc.models.load import load_segmenter
from segacc.prediction.files import predict_image, predict_images
from segacc.prediction.find import plan
from segacc.training.fit import fit

SIZE = 64
TWELVE = 4095


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGACC_CACHE", str(tmp_path / "cache"))


def deepen(folder: Path, white: int = TWELVE, channels: int = 3) -> Path:
    """Make images of 16 bits of those of a folder, in which 255 becomes `white`."""
    for path in folder.glob("*/*.jpg"):
        values = cv2.imread(str(path)).astype(np.float64) * white / 255
        path.unlink()
        values = values.round().astype(np.uint16)
        cv2.imwrite(str(path.with_suffix(".tif")), values if channels == 3 else values[..., 0])
    return folder


def prepared(folder: Path, value_range: tuple[int, int] | None = None) -> Prepared:
    return prepare(Source(convert_folder(folder)), SIZE, value_range)


@pytest.mark.parametrize(("white", "channels"), [(1023, 1), (TWELVE, 3)])
def test_all_bits_of_a_camera_reach_the_network(tmp_path, white, channels):
    """Before, 12 bits became 15 levels of gray, and 10 bits 5."""
    data = prepared(deepen(write_blobs(tmp_path / "deep", 3, 1, 0), white, channels))
    flat = np.concatenate([image.ravel() for image, _ in data.splits["train"]])
    assert len(np.unique(flat)) > 200
    low, high = data.value_range
    assert 0 <= low < 0.05 * white
    assert 0.8 * white < high <= white


def test_the_range_is_that_of_the_training_split_for_all_splits(tmp_path):
    folder = deepen(write_blobs(tmp_path / "deep", 3, 2, 1))
    first = prepared(folder)
    for path in (folder / "test").glob("*.tif"):
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED) * 8)
    again = prepared(folder)
    assert again.value_range == first.value_range
    assert {split.value_range for split in again.splits.values()} == {first.value_range}
    assert again.splits["test"][0][0].mean() > 2 * first.splits["test"][0][0].mean()


def test_a_range_that_is_given_is_used_and_the_own_one_is_known(tmp_path):
    folder = deepen(write_blobs(tmp_path / "deep", 3, 1, 0))
    own = prepared(folder)
    whole = prepared(folder, WHOLE)
    assert (whole.value_range, whole.own_range) == (WHOLE, own.value_range)
    assert whole.fingerprint != own.fingerprint
    assert whole.splits["train"][0][0].max() == 15  # as segacc 0.1.0 did
    assert prepared(folder, own.value_range).fingerprint == own.fingerprint


def test_images_of_8_bits_stay_as_they_are_also_beside_deep_ones(tmp_path):
    folder = write_blobs(tmp_path / "set", 3, 1, 1)
    plain = prepared(folder)
    assert plain.value_range is None
    assert prepared(folder, (0, TWELVE)).fingerprint == plain.fingerprint
    first = next((folder / "valid").glob("*.jpg"))
    values = cv2.imread(str(first))[..., 0].astype(np.uint16) * 16
    first.unlink()
    cv2.imwrite(str(first.with_suffix(".tif")), values)
    mixed = prepared(folder)  # its training split has no image of 16 bits
    assert mixed.splits["train"].fingerprint == plain.splits["train"].fingerprint
    assert mixed.value_range[1] == pytest.approx(values.max(), rel=0.1)


def histogram(**counts: int) -> np.ndarray:
    found = np.zeros(VALUES, dtype=np.int64)
    for name, count in counts.items():
        found[int(name.removeprefix("v"))] = count
    return found


NO_FOREGROUND = np.zeros(VALUES, dtype=np.int64)


def test_hot_and_dead_pixels_do_not_count():
    found = histogram(v0=3, v300=50_000, v4000=50_000, v65535=20)
    assert range_of(Histograms(found, NO_FOREGROUND)) == (300, 4000)


def test_a_bright_foreground_counts_however_small_it_is():
    found = histogram(v300=500_000, v900=500_000, v4000=100, v65535=20)
    assert range_of(Histograms(found, NO_FOREGROUND)) == (300, 900)
    assert range_of(Histograms(found, histogram(v4000=100))) == (300, 4000)


def test_images_of_one_value_have_a_range():
    assert range_of(Histograms(histogram(v7=100), NO_FOREGROUND)) == (6, 7)
    assert range_of(Histograms(histogram(v0=100), NO_FOREGROUND)) == (0, 1)


def test_a_model_keeps_the_range_that_it_was_trained_with(tmp_path, capsys):
    """Said by training, stored with the model, and used by evaluation and prediction."""
    AcceleratorState._reset_state(reset_partial_state=True)
    folder = deepen(write_blobs(tmp_path / "deep", 4, 2, 1))
    run = tmp_path / "run"
    flags = ["--dataset", folder, "--output-dir", run, "--size", SIZE, "--epochs", 1, *TINY]
    flags += ["--weights", "none", "--batch-size", 4, "--tracker", "none"]
    fit(parse_train(list(map(str, flags))))
    low, high = prepared(folder).value_range
    printed = capsys.readouterr().out
    assert f"16 bits per channel, of which {low}..{high} become 0..255" in printed
    record = json.loads((run / "config.json").read_text())
    assert record["data"]["value_range"] == [low, high]
    model = load_segmenter(run)
    assert model.value_range == (low, high)

    evaluate(EvaluateConfig(run))
    scored = json.loads((run / "test/metrics.json").read_text())
    assert scored["fingerprint"] == record["data"]["fingerprint"]
    assert scored["notes"] == []
    capsys.readouterr()
    evaluate(EvaluateConfig(run, dataset=str(write_blobs(tmp_path / "plain", 4, 2, 1))))
    assert "its images have 8 bits and are taken as they are" in capsys.readouterr().out

    image = next((folder / "test").glob("*.tif"))
    bright = cv2.imread(str(image), cv2.IMREAD_UNCHANGED) * 16
    (tmp_path / "new").mkdir()
    cv2.imwrite(str(tmp_path / "new/bright.png"), bright)
    cv2.imwrite(str(tmp_path / "new/flat.png"), np.zeros((64, 64), np.uint8))
    cv2.imwrite(str(tmp_path / "new/same.png"), bright // 16)
    done = predict_images(model, plan([str(tmp_path / "new")], tmp_path / "out"))
    outside, flat = sorted(done.notes)
    assert outside.startswith("1 image (bright.png) with more than 5% of the pixels outside of")
    assert flat.startswith("1 image (flat.png) with 8 bits, taken as they are")
    shown = predict_image(model, image)
    model.value_range = None  # as a model of images of 8 bits, or of segacc 0.1.0
    assert abs(shown - predict_image(model, image)).max() > 0
    done = predict_images(model, plan([str(image)], tmp_path / "out-2"))
    assert done.notes[0].endswith(
        "65535 was taken for white, since the model was trained on images of 8 bits; the largest "
        f"value in them is {(bright // 16).max()}, so they are far too dark for the model: "
        "scale their values up to 65535 first"
    )


def test_check_and_a_damaged_file_need_no_range(tmp_path):
    folder = deepen(write_blobs(tmp_path / "deep", 3, 1, 0))
    broken = next((folder / "train").glob("*.tif"))
    broken.write_bytes(broken.read_bytes()[:2000])
    with pytest.raises(InputError, match="is not an image that can be read"):
        prepared(folder)
    assert [f.severity for f in audit(str(folder)).findings].count("error") == 1
