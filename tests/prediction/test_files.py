"""predict_images and predict_image: files in, masks out."""

import os
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from small import run_program, write_blobs
from torch import nn

from segacc.data.classes.coding import make_coding
from segacc.data.classes.files import read_class_file
from segacc.data.prepare import prepare
from segacc.data.reading.convert import convert_folder
from segacc.data.reading.decode import Encoded, decode_image
from segacc.data.reading.masks import labels_of_file
from segacc.data.rows import Source
from segacc.errors import InputError
from segacc.labels import BINARY, Labels, colours_for
from segacc.models.segmenter import Segmenter
from segacc.prediction.files import STEP_PIXELS, predict_image, predict_images
from segacc.prediction.find import plan
from segacc.prediction.logits import predict_split
from segacc.prediction.writing import write_legend


class Bright(nn.Module):
    """Foreground is where the mean of R, G and B is above 128.5, pixel by pixel."""

    device = torch.device("cpu")

    def __init__(self, threshold=0.5, size=None):
        super().__init__()
        self.threshold, self.size, self.value_range = threshold, size, None
        self.labels = BINARY
        self.net = nn.Conv2d(3, 1, 1)
        nn.init.constant_(self.net.weight, 0.1 / 3)
        nn.init.constant_(self.net.bias, -12.85)
        self.seen = []

    def forward(self, images):
        self.seen.append(tuple(images.shape))
        return self.net(images.float())


def tiny(**arguments):
    torch.manual_seed(0)
    return Segmenter("linknet", "tu-test_resnet", **arguments).eval()


def scene(height=60, width=90):
    """A bright disc on dark noise, off the centre."""
    image = np.random.default_rng(0).integers(0, 60, (height, width, 3), dtype=np.uint8)
    return cv2.circle(image, (width // 3, height // 4), 12, (250, 220, 200), -1)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def read(path):
    picture = Image.open(path)
    assert picture.mode == "L"
    return np.asarray(picture)


def turned(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(path / "turned.jpg", scene(), quality=95, exif=exif)


def sixteen_bits(path):
    gray = scene().mean(axis=2) * 257
    save(path / "deep.png", gray.astype(np.uint16))


WAYS = {
    "JPEG turned by EXIF": turned,
    "16 bits": sixteen_bits,
    "gray": lambda path: save(path / "gray.png", scene()[..., 0]),
    "alpha": lambda path: save(path / "a.png", np.dstack([scene(), scene()[..., 0]])),
    "palette": lambda path: Image.fromarray(scene()).quantize(32).save(path / "palette.png"),
    "CMYK": lambda path: Image.fromarray(scene()).convert("CMYK").save(path / "cmyk.tif"),
    "one pixel": lambda path: save(path / "dot.png", scene()[:1, :1]),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", [{}, {"tile": 32}], ids=["whole", "tiles"])
def test_a_mask_lies_on_the_image_as_viewers_show_it(tmp_path, way, options):
    (tmp_path / "in").mkdir()
    WAYS[way](tmp_path / "in")
    (job,) = plan([tmp_path / "in"], tmp_path / "out")
    done = predict_images(Bright(), [job], **options)
    assert (done.masks, done.failed) == (1, [])
    seen = decode_image(Encoded(path=str(job.image), bytes=None))
    np.testing.assert_array_equal(read(job.mask), (seen.mean(axis=2) > 128.5) * np.uint8(255))
    if way == "JPEG turned by EXIF":
        assert read(job.mask).shape == (90, 60)


def test_masks_of_training_images_are_what_the_trained_model_finds(tmp_path):
    """At the model's size the probabilities are those of predict_split, and so of evaluate.py."""
    data = write_blobs(tmp_path / "blobs", test=5, size=64)
    large = write_blobs(tmp_path / "large", test=2, size=201)
    model = tiny(threshold=0.4, size=64)
    accelerator = SimpleNamespace(
        process_index=0, num_processes=1, device=torch.device("cpu"), autocast=torch.no_grad
    )
    for folder, tolerance in ((data, 0), (large, 1e-5)):
        split = prepare(Source(convert_folder(folder)), 64).splits["test"]
        jobs = plan([folder / "test" / f"{name}.jpg" for name in split.names], folder / "out")
        assert predict_images(model, jobs, batch_size=2).masks == len(split)
        logits = torch.cat([logits for _, logits, _ in predict_split(model, split, accelerator, 2)])
        for job, one in zip(jobs, logits.sigmoid()[:, 0].numpy(), strict=True):
            found = predict_image(model, job.image)
            # OpenCV's bilinear filter, to compare with another's.
            height, width = found.shape
            expected = cv2.resize(one, (width, height), interpolation=cv2.INTER_LINEAR)
            np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance or 1e-6)
            clear = abs(expected - 0.4) > 1e-5
            np.testing.assert_array_equal((read(job.mask) > 0)[clear], (expected > 0.4)[clear])


def test_the_mask_of_every_threshold_follows_from_the_levels(tmp_path):
    image = save(tmp_path / "ramp.png", np.arange(98, 158, dtype=np.uint8)[None].repeat(9, axis=0))
    (job,) = plan([image], tmp_path / "out", probabilities=True)
    predict_images(Bright(threshold=100 / 256), [job])
    levels = read(job.probabilities)
    probabilities = predict_image(Bright(), image)
    assert probabilities.dtype == np.float32 and levels.min() < 20 and levels.max() > 235
    for level in range(1, 256):
        np.testing.assert_array_equal(levels >= level, probabilities > level / 256)
    np.testing.assert_array_equal(read(job.mask) == 255, levels >= 100)


def test_the_threshold_is_the_models_unless_given(tmp_path):
    image = save(tmp_path / "ramp.png", np.arange(256, dtype=np.uint8)[None])
    found = []
    for i, threshold in enumerate((None, 0.5, 0.001)):
        (job,) = plan([image], tmp_path / f"out{i}")
        predict_images(Bright(threshold=0.999), [job], threshold)
        found.append((read(job.mask) > 0).sum())
    assert found == [58, 127, 196]  # 6.9 is the logit of 0.999, at 69 from 128.5


def test_an_image_is_resized_to_the_size_of_the_training(tmp_path):
    images = [save(tmp_path / f"{side}.png", scene(side, 2 * side)) for side in (40, 70)]

    def seen(name, **options):
        model = Bright(size=48)
        jobs = plan(images, tmp_path / name)
        assert predict_images(model, jobs, **options).masks == 2
        for job, side in zip(jobs, (40, 70), strict=True):
            assert read(job.mask).shape == (side, 2 * side)
        return model.seen

    assert seen("a") == [(2, 3, 48, 48)]
    assert seen("b", size=64) == [(2, 3, 64, 64)]
    assert seen("c", tile=128) == [(1, 3, 40, 80), (2, 3, 70, 128)]  # at their own size
    assert seen("d", tile=128, size=64) == [(1, 3, 64, 64), (1, 3, 64, 64)]


def test_images_of_a_model_without_size_keep_theirs_and_share_a_step_where_they_can(tmp_path):
    shapes = [(40, 50), (40, 50), (40, 50), (50, 40), (40, 50)]
    images = [save(tmp_path / f"{i}.png", scene(*shape)) for i, shape in enumerate(shapes)]
    model = Bright()
    jobs = plan(images, tmp_path / "out")
    predict_images(model, jobs, batch_size=2)
    assert [seen[0] for seen in model.seen] == [2, 1, 1, 1]
    for job, shape in zip(jobs, shapes, strict=True):
        np.testing.assert_array_equal(read(job.mask) > 0, scene(*shape).mean(axis=2) > 128.5)


def test_large_images_do_not_share_a_step(tmp_path):
    side = int(STEP_PIXELS**0.5) // 2 + 1  # of which three fit into a step
    for i in range(4):
        Image.new("L", (side, side)).save(tmp_path / f"{i}.png")
    model = Bright()
    predict_images(model, plan([tmp_path], tmp_path.with_name("out")))
    assert [seen[0] for seen in model.seen] == [3, 1]


def test_flips_are_averaged(tmp_path):
    image = save(tmp_path / "a.png", scene())
    model = tiny()
    with torch.no_grad():
        batch = torch.from_numpy(scene()).permute(2, 0, 1)[None]
        logits = (model(batch) + model(batch.flip(3)).flip(3)) / 2
    expected = logits.sigmoid()[0, 0].numpy()
    np.testing.assert_allclose(predict_image(model, image, tta="h"), expected, atol=1e-6)
    (job,) = plan([image], tmp_path / "out", probabilities=True)
    predict_images(model, [job], tta="h")
    assert abs(read(job.probabilities) / 256 - expected).max() < 1 / 256


def test_a_file_that_cannot_be_read_does_not_stop_the_others(tmp_path):
    photos = tmp_path / "photos"
    for name in ("a", "b", "c", "d", "e"):
        save(photos / f"{name}.jpg", scene())
    (photos / "b.jpg").write_bytes((photos / "b.jpg").read_bytes()[:500])
    (photos / "c.jpg").write_text("<html>not found</html>")
    jobs = plan([photos], tmp_path / "out", probabilities=True, overlays=True)
    (photos / "d.jpg").unlink()
    for options in ({}, {"tile": 32}, {"batch_size": 1}):
        done = predict_images(Bright(), jobs, **options)
        assert done.masks == 2
        assert [sentence.split(" (")[0] for sentence in done.failed] == [
            f"image {photos}/b.jpg is damaged or cut short",
            f"image {photos}/c.jpg is not an image that can be read, it seems to be an HTML page",
            f"image {photos}/d.jpg cannot be opened",
        ]
    written = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")}
    assert written == {
        *("a.png", "e.png", "probabilities/a.png", "probabilities/e.png"),
        *("overlays/a.jpg", "overlays/e.jpg"),
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_does_not_stop_the_others(tmp_path):
    images = [save(tmp_path / f"{name}.png", scene()) for name in "ab"]
    images[0].chmod(0)
    done = predict_images(Bright(), plan(images, tmp_path / "out"))
    assert done.masks == 1 and "a.png cannot be opened (Permission denied)" in done.failed[0]


def test_an_image_that_is_too_large_for_the_memory_does_not_stop_the_others(tmp_path):
    class Hungry(Bright):
        def forward(self, images):
            if images.shape[-1] > 64:
                torch.empty(2**55)  # refused by torch, as with an image that is really too large
            return super().forward(images)

    images = [save(tmp_path / f"{side}.png", scene(50, side)) for side in (50, 100, 60)]
    done = predict_images(Hungry(), plan(images, tmp_path / "out"))
    assert done.masks == 2
    (sentence,) = done.failed
    assert f"image {images[1]} needs more memory than there is" in sentence
    assert "(predicted at 100 x 50 px); give --tile 256" in sentence
    assert predict_images(Hungry(), plan(images, tmp_path / "tiles"), tile=64).failed == []


def test_any_other_error_is_not_hidden(tmp_path):
    class Broken(Bright):
        def forward(self, images):
            raise RuntimeError("a bug")

    image = save(tmp_path / "a.png", scene())
    with pytest.raises(RuntimeError, match="a bug"):
        predict_images(Broken(), plan([image], tmp_path / "out"))


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    image = save(tmp_path / "a.png", scene())
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/out/a.png could not be written \(Not a directory"):
        predict_images(Bright(), plan([image], tmp_path / "file" / "out"))


def test_an_overlay_shows_the_image_and_the_mask(tmp_path):
    image = save(tmp_path / "a.png", scene())
    (job,) = plan([image], tmp_path / "out", overlays=True)
    predict_images(Bright(), [job])
    overlay = np.asarray(Image.open(job.overlay)).astype(int)
    assert overlay.shape == scene().shape
    far = cv2.dilate(read(job.mask), np.ones((9, 9))) == 0
    assert abs(overlay - scene())[far].mean() < 12  # JPEG on noise
    inside = cv2.erode(read(job.mask), np.ones((9, 9))) != 0
    assert (overlay - scene())[inside, 2].mean() < -30  # yellow takes blue away


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 31}, "--tile 31: expected 32 or more"),
        ({"size": 0}, "--size 0: expected 8 or more"),
        ({"batch_size": 0}, "--batch-size 0: expected 1 or more"),
        ({"threshold": 1.5}, "--threshold 1.5: expected a number between 0 and 1"),
        ({"threshold": float("nan")}, "--threshold nan: expected"),
        ({"tta": "vh"}, "--tta vh: expected none, h, hv"),
    ],
)
def test_options_out_of_range_are_named(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        predict_images(Bright(), [], **options)


def test_an_array_is_an_image_too(tmp_path):
    found = predict_image(Bright(size=32), scene())
    assert found.shape == (60, 90)
    np.testing.assert_array_equal(
        found, predict_image(Bright(size=32), str(save(tmp_path / "a.png", scene())))
    )
    for wrong in (scene()[..., 0], scene() / 255, scene()[..., :2]):
        with pytest.raises(InputError, match=r"expected RGB, \(H, W, 3\) uint8"):
            predict_image(Bright(), wrong)


class Channels(Bright):
    """The class of a pixel is its brightest channel."""

    def __init__(self, size=None):
        super().__init__(size=size)
        self.labels = Labels(("red", "green", "a/b"), colours_for(("red", "green", "a/b")))

    def forward(self, images):
        return images.float() / 50


def test_of_several_classes_a_mask_holds_the_number_and_shows_the_colour(tmp_path):
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, :20, 0], image[:, 20:45, 1], image[:, 45:, 2] = 200, 200, 200
    jobs = plan([save(tmp_path / "a.png", image)], tmp_path / "out", True, True)
    assert predict_images(Channels(), jobs).masks == 1
    with Image.open(tmp_path / "out" / "a.png") as mask:
        assert mask.mode == "P"
        assert (np.asarray(mask) == image.argmax(axis=2)).all()
        assert mask.convert("RGB").getpixel((50, 5)) == Channels().labels.colours[2]
    files = sorted(path.name for path in (tmp_path / "out" / "probabilities" / "a").iterdir())
    assert files == ["000-red.png", "001-green.png", "002-a-b.png"]
    levels = np.asarray(Image.open(tmp_path / "out" / "probabilities" / "a" / "001-green.png"))
    found = predict_image(Channels(), image)
    assert found.shape == (3, 40, 60)
    np.testing.assert_allclose(found.sum(axis=0), 1, rtol=1e-6)
    assert (levels == np.ceil(found[1] * 256).clip(1) - 1).all()
    assert Image.open(tmp_path / "out" / "overlays" / "a.jpg").size == (60, 40)


def test_several_classes_are_told_apart_at_the_size_of_the_image(tmp_path):
    image = np.zeros((64, 96, 3), np.uint8)
    image[:32, :, 0], image[32:, :, 1] = 200, 200
    jobs = plan([save(tmp_path / "a.png", image)], tmp_path / "out")
    predict_images(Channels(), jobs, size=(24, 16))
    mask = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert mask.shape == (64, 96) and (mask[:30] == 0).all() and (mask[34:] == 1).all()


def test_a_threshold_between_several_classes_is_refused(tmp_path):
    with pytest.raises(InputError, match="--threshold 0.4 decides between two classes, and the"):
        predict_images(Channels(), [], threshold=0.4)


def test_the_legend_is_a_list_of_classes_that_is_read_again(tmp_path):
    labels = Channels().labels
    write_legend(tmp_path / "out", labels)
    again = make_coding(read_class_file(tmp_path / "out" / "classes.txt"))
    assert again.labels == labels and again.values == ((0, 0, 0), (1, 1, 1), (2, 2, 2))
    names = ("bg: x", "#3 sky", "car")  # which a line cannot hold
    write_legend(tmp_path / "other", Labels(names, colours_for(names)))
    again = make_coding(read_class_file(tmp_path / "other" / "id2label.json"))
    assert again.labels.names == names and again.values == ((0, 0, 0), (1, 1, 1), (2, 2, 2))
    assert not (tmp_path / "other" / "classes.txt").exists()


LARGE = """
import sys
from pathlib import Path
import torch
from segacc.prediction.find import plan
from segacc.prediction.files import predict_images

class Bright(torch.nn.Conv2d):
    threshold, size, value_range, labels = 0.5, None, None, None
    device = torch.device("cpu")
    def forward(self, images):
        return super().forward(images.float())

torch.set_num_threads(1)
model = Bright(3, 1, 1)
torch.nn.init.constant_(model.weight, 0.1 / 3)
torch.nn.init.constant_(model.bias, -12.85)
done = predict_images(model, plan([sys.argv[1]], sys.argv[2], True, True), tile=256)
assert not done.failed, done.failed
# Of this program alone; getrusage would count what the process was before.
peak = next(l for l in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in l)
print(int(peak.split()[1]) / 2**20)
"""


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """10,000 x 10,000 px, a bright ellipse, and how many pixels that has."""
    picture = Image.new("RGB", (10_000, 10_000), (20, 90, 40))
    ImageDraw.Draw(picture).ellipse((1000, 2000, 9000, 9500), (250, 200, 220))
    path = tmp_path_factory.mktemp("slide") / "slide.png"
    picture.save(path, compress_level=1)
    return path, int((np.asarray(picture.getchannel("R")) > 128).sum())


@on_linux
@pytest.mark.soak
def test_an_image_of_100_megapixels_takes_no_more_memory_than_it_must(slide, tmp_path):
    """With a model that takes none itself. What the issue asks of a real one: the next test."""
    path, bright = slide
    done = run_program("-c", LARGE, path, tmp_path / "out")
    assert done.returncode == 0, done.stderr[-3000:]
    assert (np.asarray(Image.open(tmp_path / "out" / "slide.png")) > 0).sum() == bright
    assert float(done.stdout) < 2.75


MEASURED = """
import atexit
from pathlib import Path
from segacc.cli import main
from segacc.data.rows import Source

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    print(next(int(line.split()[1]) / 2**20 for line in lines if "VmHWM" in line))

atexit.register(peak)
main()
"""


@on_linux
@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_segacc_predict_takes_less_than_4_gib_for_100_megapixels(slide, tmp_path):
    tiny().save_pretrained(tmp_path / "model")
    out = tmp_path / "out"
    flags = ["--out", out, "--tile", 256, "--probabilities", "--overlays"]
    done = run_program(
        "-c", MEASURED, "predict", tmp_path / "model", slide[0], *flags, timeout=3600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said, gib = done.stdout.splitlines()
    print(f"{said}: {gib} GiB")
    assert float(gib) < 4
    for name in ("slide.png", "probabilities/slide.png", "overlays/slide.jpg"):
        assert Image.open(out / name).size == (10_000, 10_000)


def test_of_several_classes_a_mask_in_colours_is_read_back_by_its_legend(tmp_path):
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, :20, 0], image[:, 20:45, 1], image[:, 45:, 2] = 200, 200, 200
    jobs = plan([save(tmp_path / "a.png", image)], tmp_path / "out")
    predict_images(Channels(), jobs, colours=True)
    write_legend(tmp_path / "out", Channels().labels)
    with Image.open(tmp_path / "out" / "a.png") as mask:
        assert mask.mode == "RGB"
        assert mask.getpixel((50, 5)) == Channels().labels.colours[2]
        coding = make_coding(read_class_file(tmp_path / "out" / "classes.txt"))
        assert (labels_of_file(mask, coding).label_map == image.argmax(axis=2)).all()
