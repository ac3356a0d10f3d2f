"""Prepared data: the right pixels, prepared once for all processes, also after errors and kills."""

import logging
import multiprocessing
import operator
import os
import pickle
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict, Features, Value
from datasets import Image as ImageColumn
from PIL import Image
from small import write_shapes

from segacc.config.sizes import AnySize
from segacc.data import rows as rows_room
from segacc.data import split as split_room
from segacc.data import store
from segacc.data.prepare import prepare as prepare_source
from segacc.data.prepare import resize_image, resize_label_map
from segacc.data.reading.convert import convert_folder
from segacc.data.rows import Source
from segacc.data.split import Prepared
from segacc.errors import InputError
from segacc.labels import BINARY, Coding

FEATURES = Features(
    image=ImageColumn(decode=False), mask=ImageColumn(decode=False), name=Value("string")
)
SIZE = 32


def prepare(splits: DatasetDict, size: AnySize, binarise: int | None = None) -> Prepared:
    return prepare_source(Source(splits, Coding(BINARY, binarise=binarise)), size)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGACC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write_files(folder: Path, counts: dict[str, int], height: int = 48, width: int = 40) -> Path:
    rng = np.random.default_rng(0)
    for split, count in counts.items():
        (folder / split).mkdir(parents=True)
        for i in range(count):
            image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            mask = (rng.random((height, width)) > 0.7).astype(np.uint8) * 255
            Image.fromarray(image).save(folder / split / f"{i}.bmp")
            Image.fromarray(mask).save(folder / split / f"{i}.png")
    return folder


def source_of(folder: Path, embed: bool = False) -> DatasetDict:
    """The rows that `load_dataset` gives for the folder, or what the Hub gives: bytes, no path."""

    def cell(path: Path) -> dict[str, str | bytes | None]:
        return {"path": None, "bytes": path.read_bytes()} if embed else {"path": str(path)}

    splits = {}
    for split in sorted(folder.iterdir()):
        images = sorted(split.glob("*.bmp"))
        columns = {
            "image": [cell(path) for path in images],
            "mask": [cell(path.with_suffix(".png")) for path in images],
            "name": [path.stem for path in images],
        }
        splits[split.name] = Dataset.from_dict(columns, features=FEATURES)
    return DatasetDict(splits)


@pytest.fixture
def source(tmp_path: Path) -> DatasetDict:
    return source_of(write_files(tmp_path / "set", {"train": 5, "valid": 2}))


def file_of(source: DatasetDict, split: str, index: int, column: str) -> Path:
    return Path(source[split][index][column]["path"])


# ---- masks that were smeared


def smeared_source(folder: Path) -> DatasetDict:
    """Like `source_of`; the masks of the training split are resized discs, saved as JPEG."""
    source = source_of(write_files(folder, {"train": 2, "valid": 1}))
    y, x = np.mgrid[:12, :10]
    disc = Image.fromarray(((y - 6) ** 2 + (x - 5) ** 2 < 12).astype(np.uint8) * 255)
    for row in source["train"]:
        large = disc.resize((40, 48), Image.Resampling.BILINEAR)
        large.save(row["mask"]["path"], "JPEG", quality=90)
    return source


def test_binarise_is_said_and_is_part_of_what_was_prepared(tmp_path, caplog):
    source = smeared_source(tmp_path / "set")
    with pytest.raises(InputError, match=r"has smeared this one.*--binarise 128.*\(2 files"):
        prepare(source, SIZE)
    with caplog.at_level(logging.WARNING, "segacc"):
        low, high = (prepare(source, SIZE, binarise=value) for value in (64, 192))
    assert low.splits["train"].foreground.sum() > high.splits["train"].foreground.sum() > 0
    assert low.splits["valid"].fingerprint == high.splits["valid"].fingerprint
    said = caplog.messages
    assert [line.partition(":")[0] for line in said] == ["--binarise 64", "--binarise 192"]
    assert "2 smeared masks read; " in said[0]
    assert "most in that of train/0 (" in said[0]
    caplog.clear()
    assert prepare(source, SIZE, binarise=64).fingerprint == low.fingerprint
    assert not caplog.messages


def test_masks_at_another_scale_are_counted_in_one_line(tmp_path, caplog):
    folder = write_files(tmp_path / "set", {"train": 5, "valid": 2})
    for name in ("train/0", "train/2", "train/3", "valid/1"):
        with Image.open(folder / f"{name}.png") as mask:
            mask.resize((20, 24), Image.Resampling.NEAREST).save(folder / f"{name}.png")
    source = convert_folder(folder)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "segacc"):
        prepared = prepare(source, SIZE)
    (said,) = caplog.messages
    assert said.startswith("4 masks of another size, with the proportions of the image, scaled")
    assert "(train/0, train/2, train/3 and 1 more)" in said
    with Image.open(folder / "train/2.png") as mask:
        label_map = np.asarray(mask.resize((40, 48), Image.Resampling.NEAREST)) // 255
    found = prepared.splits["train"]
    np.testing.assert_array_equal(found[2][1], resize_label_map(label_map, SIZE))
    with Image.open(folder / "train/1.png") as mask:
        mask.resize((20, 20), Image.Resampling.NEAREST).save(folder / "train/1.png")
    with pytest.raises(
        InputError, match="40 x 48 pixels but its mask .*1.png is 20 x 20; .*export"
    ):
        prepare(convert_folder(folder), SIZE)


# ---- the pixels


def test_rows_are_the_decoded_and_resized_files_in_order(source):
    prepared = prepare(source, SIZE)
    assert prepared.size == SIZE
    assert list(prepared.splits) == ["train", "valid"]
    train = prepared.splits["train"]
    assert len(train) == 5
    assert train.names == ["0", "1", "2", "3", "4"]
    assert train.sizes.tolist() == [[48, 40]] * 5
    for i, (image, mask) in enumerate(train):
        assert (image.dtype, image.shape) == (np.uint8, (SIZE, SIZE, 3))
        assert (mask.dtype, mask.shape) == (np.uint8, (SIZE, SIZE))
        pixels = np.asarray(Image.open(file_of(source, "train", i, "image")))
        levels = np.asarray(Image.open(file_of(source, "train", i, "mask")))
        np.testing.assert_array_equal(image, resize_image(pixels, SIZE))
        np.testing.assert_array_equal(mask, resize_label_map(levels // 255, SIZE))


def test_images_of_the_right_size_are_untouched(tmp_path):
    source = source_of(write_files(tmp_path / "set", {"train": 1}, SIZE, SIZE))
    image, mask = prepare(source, SIZE).splits["train"][0]
    np.testing.assert_array_equal(image, Image.open(file_of(source, "train", 0, "image")))
    np.testing.assert_array_equal(mask * 255, Image.open(file_of(source, "train", 0, "mask")))


def test_many_record_batches_read_as_one_sequence(source, monkeypatch):
    whole = prepare(source, SIZE)
    monkeypatch.setattr(split_room, "BATCH_BYTES", 2 * SIZE * SIZE * 4)
    monkeypatch.setattr(store, "VERSION", 0)
    parts = prepare(source, SIZE)
    assert parts.fingerprint == whole.fingerprint
    for left, right in zip(whole.splits["train"], parts.splits["train"], strict=True):
        np.testing.assert_array_equal(left[0], right[0])
        np.testing.assert_array_equal(left[1], right[1])


def test_rows_are_read_only_views(source):
    train = prepare(source, SIZE).splits["train"]
    image, mask = train[0]
    assert not image.flags.writeable
    assert not mask.flags.writeable
    assert np.shares_memory(image, train[0][0])


def test_an_index_beyond_the_rows_is_an_index_error(source):
    train = prepare(source, SIZE).splits["train"]
    for index in (5, -1):
        with pytest.raises(IndexError):
            train[index]


def test_shrinking_does_not_alias():
    """Stripes finer than the new pixels become gray, also where the other side grows."""
    stripes = np.zeros((20, 600, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    gray = resize_image(stripes, 64).astype(int)
    assert np.abs(gray - 127).max() <= 8


def test_a_mask_takes_the_nearest_pixel():
    mask = np.random.default_rng(0).integers(0, 2, (101, 47), dtype=np.uint8)
    for size in (33, 64, 200):
        rows, columns = (
            np.floor((np.arange(size) + 0.5) * n / size).astype(int) for n in (101, 47)
        )
        np.testing.assert_array_equal(resize_label_map(mask, size), mask[np.ix_(rows, columns)])


def test_resizing_moves_neither_image_nor_mask():
    """The centre of a disc stays, in both, when shrinking and when growing."""
    y, x = np.mgrid[:101, :151]
    disc = ((y - 40) ** 2 + (x - 90) ** 2 < 30**2).astype(np.uint8)
    for size, tolerance in ((33, 0.25), (400, 0.7)):
        centre = np.array([(40.5 / 101) * size - 0.5, (90.5 / 151) * size - 0.5])
        mask = resize_label_map(disc, size)
        image = resize_image(np.repeat(disc[..., None] * 255, 3, axis=2), size)[..., 0]
        assert set(np.unique(mask)) == {0, 1}
        for weights in (mask.astype(float), image.astype(float)):
            found = [(np.indices(weights.shape)[axis] * weights).sum() for axis in (0, 1)]
            np.testing.assert_allclose(found / weights.sum(), centre, atol=tolerance)


# ---- native size

SHAPES = [(48, 40), (30, 60), (8, 9), (48, 40), (100, 7)]


@pytest.fixture
def mixed(tmp_path: Path) -> DatasetDict:
    return source_of(write_shapes(tmp_path / "mixed", SHAPES, train=5, valid=2, test=1))


def files_of(source: DatasetDict, split: str) -> list[tuple[np.ndarray, np.ndarray]]:
    columns = ("image", "mask")
    arrays = [
        [np.asarray(Image.open(file_of(source, split, i, column))) for column in columns]
        for i in range(len(source[split]))
    ]
    return [(image, mask // 255) for image, mask in arrays]


@pytest.mark.parametrize("batch_bytes", [1, 20_000, 1 << 24])
def test_images_of_native_size_are_the_decoded_files(mixed, batch_bytes, monkeypatch):
    monkeypatch.setattr(split_room, "BATCH_BYTES", batch_bytes)
    prepared = prepare(mixed, "native")
    train = prepared.splits["train"]
    assert prepared.size == "native" and train.shape is None and len(train) == 5
    assert [train.shape_of(i) for i in range(5)] == SHAPES
    for (image, label_map), (pixels, truth) in zip(train, files_of(mixed, "train"), strict=True):
        np.testing.assert_array_equal(image, pixels)
        np.testing.assert_array_equal(label_map, truth)
        assert not image.flags.writeable and not label_map.flags.writeable
    assert train.foreground.tolist() == [truth.sum() for _, truth in files_of(mixed, "train")]
    assert all(regions.lost == regions.broken == 0 for regions in train.regions)
    again = pickle.loads(pickle.dumps(train))
    train.forget()
    np.testing.assert_array_equal(again[4][0], train[4][0])
    with pytest.raises(IndexError):
        train[5]
    assert store.find_prepared(prepared.fingerprint).splits["train"].path == train.path


def test_native_images_that_happen_to_have_one_size_have_a_shape(source):
    prepared = prepare(source, "native")
    assert prepared.size == "native"
    assert prepared.splits["train"].shape == prepared.splits["valid"].shape == (48, 40)
    assert prepared.splits["train"].bytes_of_image == 48 * 40 * 4
    assert prepared.fingerprint != prepare(source, (40, 48)).fingerprint


def test_the_fingerprint_of_native_images_is_of_their_shapes_too(tmp_path):
    """Here all pixels are the same, and so are their number and the names."""
    for name, shape in (("one", (8, 18)), ("two", (12, 12))):
        (tmp_path / name / "train").mkdir(parents=True)
        Image.new("RGB", shape).save(tmp_path / name / "train" / "0.bmp")
        Image.new("L", shape).save(tmp_path / name / "train" / "0.png")
    one, two = (prepare(source_of(tmp_path / name), "native") for name in ("one", "two"))
    assert one.splits["train"].images == two.splits["train"].images
    assert one.fingerprint != two.fingerprint


def test_many_processes_prepare_native_images_in_order(tmp_path, monkeypatch):
    source = source_of(write_shapes(tmp_path / "set", SHAPES, train=40))
    monkeypatch.setattr(rows_room, "cores", lambda: 2)
    train = prepare(source, "native").splits["train"]
    assert train.names == source["train"]["name"][:]
    for (image, _), (pixels, _) in zip(train, files_of(source, "train"), strict=True):
        np.testing.assert_array_equal(image, pixels)


# ---- the file


def test_datasets_reads_the_prepared_file(source):
    train = prepare(source, SIZE).splits["train"]
    table = Dataset.from_file(str(train.path))
    assert table["name"][:] == train.names
    assert table[3]["image"] == train[3][0].tobytes()
    assert table[3]["mask"] == train[3][1].tobytes()
    assert (table[3]["height"], table[3]["width"]) == (48, 40)


def test_a_pickled_split_is_its_path(source):
    train = prepare(source, SIZE).splits["train"]
    data = pickle.dumps(train)
    assert len(data) < 1000
    np.testing.assert_array_equal(pickle.loads(data)[4][0], train[4][0])


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_worker_process_reads_the_same_rows(source, method):
    train = prepare(source, SIZE).splits["train"]
    with multiprocessing.get_context(method).Pool(1) as pool:
        image, mask = pool.apply(operator.getitem, (train, 2))
    np.testing.assert_array_equal(image, train[2][0])
    np.testing.assert_array_equal(mask, train[2][1])


# ---- the cache and the fingerprint


@pytest.mark.parametrize(
    ("size", "folder"),
    [
        (32, "70c3c95c479dabe06118b0697b4532b1-60ffc300"),
        ((48, 32), "fab9539a86aacad5f16bb32cf75dd559-9e10590f"),
    ],
)
def test_a_set_has_the_name_and_the_fingerprint_that_it_always_had(source, size, folder):
    """Runs know their data by the fingerprint, and caches of earlier versions by the name."""
    prepared = prepare(source, size)
    assert prepared.splits["train"].path.parent.name == folder
    assert prepared.fingerprint.startswith(folder.partition("-")[0])


def test_a_second_time_no_image_is_read(source):
    first = prepare(source, SIZE)
    for split in source:
        for i in range(len(source[split])):
            image = file_of(source, split, i, "image")
            stat = image.stat()
            image.write_bytes(bytes(stat.st_size))  # same name, size and time, nothing to decode
            os.utime(image, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert prepare(source, SIZE).fingerprint == first.fingerprint


def test_a_changed_file_is_prepared_again(source):
    before = prepare(source, SIZE)
    mask = file_of(source, "train", 1, "mask")
    Image.new("L", (40, 48), 255).save(mask)
    after = prepare(source, SIZE)
    assert (after.splits["train"][1][1] == 1).all()
    assert after.fingerprint != before.fingerprint


def test_sources_of_equal_content_share_one_copy(source, cache, tmp_path):
    """Files that were only touched, and a copy of the folder."""
    before = prepare(source, SIZE)
    for split in source:
        for i in range(len(source[split])):
            os.utime(file_of(source, split, i, "image"))
    shutil.copytree(tmp_path / "set", tmp_path / "copy")
    for again in (prepare(source, SIZE), prepare(source_of(tmp_path / "copy"), SIZE)):
        assert again.splits["train"].path == before.splits["train"].path
    assert len([path for path in (cache / "prepared").iterdir() if path.is_dir()]) == 1


def test_sets_that_differ_only_in_the_sizes_of_their_images_do_not_share(tmp_path):
    for name, height in (("one", 8), ("two", 16)):
        (tmp_path / name / "train").mkdir(parents=True)
        Image.new("RGB", (8, height)).save(tmp_path / name / "train" / "0.bmp")
        Image.new("L", (8, height)).save(tmp_path / name / "train" / "0.png")
    one, two = (prepare(source_of(tmp_path / name), SIZE) for name in ("one", "two"))
    assert one.fingerprint == two.fingerprint
    assert one.splits["train"].sizes.tolist() == [[8, 8]]
    assert two.splits["train"].sizes.tolist() == [[16, 8]]


def test_a_prepared_set_is_found_by_its_fingerprint_alone(source, tmp_path):
    prepared = prepare(source, SIZE)
    shutil.rmtree(tmp_path / "set")
    found = store.find_prepared(prepared.fingerprint)
    assert found is not None and list(found.splits) == ["train", "valid"]
    np.testing.assert_array_equal(found.splits["train"][3][0], prepared.splits["train"][3][0])
    assert store.find_prepared("0" * 64) is None


def test_a_prepared_set_that_misses_a_file_is_made_again(source):
    prepared = prepare(source, SIZE)
    prepared.splits["valid"].path.unlink()
    assert len(prepare(source, SIZE).splits["valid"]) == 2


def test_the_digest_of_an_image_is_of_its_pixels_alone(source):
    images = prepare(source, SIZE).splits["train"].images
    Image.new("L", (40, 48), 255).save(file_of(source, "train", 1, "mask"))
    assert prepare(source, SIZE).splits["train"].images == images
    assert len(set(images)) == 5 and {len(digest) for digest in images} == {16}


def test_another_size_is_prepared_apart(source):
    assert prepare(source, 16).fingerprint != prepare(source, SIZE).fingerprint
    assert prepare(source, 16).splits["valid"][0][0].shape == (16, 16, 3)
    assert prepare(source, SIZE).splits["valid"][0][0].shape == (SIZE, SIZE, 3)


def test_the_fingerprint_is_of_the_content_alone(source, tmp_path, monkeypatch):
    """Not of paths, embedding, the cache, or which split comes first."""
    here = prepare(source, SIZE).fingerprint
    shutil.copytree(tmp_path / "set", tmp_path / "copy")
    monkeypatch.setenv("SEGACC_CACHE", str(tmp_path / "other"))
    assert prepare(source_of(tmp_path / "copy"), SIZE).fingerprint == here
    assert prepare(source_of(tmp_path / "copy", embed=True), SIZE).fingerprint == here
    backwards = DatasetDict(reversed(source.items()))
    assert prepare(backwards, SIZE).fingerprint == here


def test_many_processes_prepare_what_one_does_in_its_order(tmp_path, monkeypatch):
    source = source_of(write_files(tmp_path / "set", {"train": 70, "valid": 3}, 24, 16))
    drawn, fingerprints = torch.get_rng_state(), []
    for cores in (1, 3):
        monkeypatch.setenv("SEGACC_CACHE", str(tmp_path / f"cache-{cores}"))
        monkeypatch.setattr(rows_room, "cores", lambda cores=cores: cores)
        prepared = prepare(source, SIZE)
        assert prepared.splits["train"].names == source["train"]["name"][:]
        fingerprints.append(prepared.fingerprint)
    assert fingerprints[0] == fingerprints[1]
    assert torch.equal(drawn, torch.get_rng_state())  # training draws what it would have drawn


def test_a_bad_file_of_another_process_is_named_in_order(tmp_path, monkeypatch):
    source = source_of(write_files(tmp_path / "set", {"train": 40}, 24, 16))
    monkeypatch.setattr(rows_room, "cores", lambda: 2)
    for index in (30, 5):
        file_of(source, "train", index, "mask").write_bytes(b"no image")
    first = file_of(source, "train", 5, "mask")
    with pytest.raises(InputError, match=rf"^mask {first} is not an image.*\(2 files"):
        prepare(source, SIZE)


def test_the_fingerprint_sees_order_names_and_pixels(source):
    here = prepare(source, SIZE).fingerprint
    turned = DatasetDict(source, train=source["train"].select([1, 0, 2, 3, 4]))
    renamed = DatasetDict(
        source, train=source["train"].map(lambda row: {"name": f"{row['name']}x"})
    )
    fewer = DatasetDict(source, train=source["train"].select(range(4)))
    found = {prepare(other, SIZE).fingerprint for other in (turned, renamed, fewer)}
    assert len(found | {here}) == 4


def test_two_processes_prepare_once(source, tmp_path):
    source.save_to_disk(str(tmp_path / "saved"))
    script = (
        "import logging, datasets\n"
        "from segacc.data.prepare import prepare\n"
        "from segacc.data.rows import Source\n"
        "logging.basicConfig(level='INFO')\n"
        f"rows = datasets.load_from_disk({str(tmp_path / 'saved')!r})\n"
        "print(prepare(Source(rows), 64).fingerprint)\n"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [run.communicate(timeout=60) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    assert sum(err.count("preparing 7 images at 64 px") for _, err in outputs) == 1
    assert "img/s" not in outputs[0][1] + outputs[1][1]  # no bar where nobody watches


def test_the_half_written_files_of_a_killed_process_are_not_used(source, cache):
    fingerprint = prepare(source, SIZE).fingerprint
    (folder,) = [path for path in (cache / "prepared").iterdir() if path.is_dir()]
    (key,) = (cache / "prepared").glob("*.key")
    partial = folder.with_name(f"{key.name}.partial")
    folder.rename(partial)
    (partial / "train.arrow").write_bytes((partial / "train.arrow").read_bytes()[:500])
    assert prepare(source, SIZE).fingerprint == fingerprint
    assert not partial.exists()


def test_a_cache_that_is_complete_is_read_without_writing(source, cache):
    fingerprint = prepare(source, SIZE).fingerprint
    for lock in (cache / "prepared").glob("*.lock"):
        lock.unlink()
    before = sorted(cache.rglob("*"))
    assert prepare(source, SIZE).fingerprint == fingerprint
    assert sorted(cache.rglob("*")) == before


# ---- what goes wrong


def test_every_bad_file_is_counted_and_the_first_is_named(source, cache):
    damaged = file_of(source, "train", 1, "image")
    damaged.write_bytes(damaged.read_bytes()[:1000])
    Image.new("L", (40, 48), 7).save(file_of(source, "train", 3, "mask"))
    file_of(source, "valid", 0, "image").unlink()
    with pytest.raises(InputError) as error:
        prepare(source, SIZE)
    message = str(error.value)
    assert message.startswith(f"image {damaged} is damaged or cut short")
    assert "(3 files cannot be used: run `segacc check DATASET` to list all)" in message
    assert [path for path in (cache / "prepared").iterdir() if path.is_dir()] == []


def test_an_embedded_file_is_named_by_its_row(tmp_path):
    folder = write_files(tmp_path / "set", {"train": 2})
    (folder / "train" / "1.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"mask 1 is not an image"):
        prepare(source_of(folder, embed=True), SIZE)


def test_an_empty_split_is_named(source):
    source["valid"] = source["valid"].select([])
    with pytest.raises(InputError, match="the split valid holds no images"):
        prepare(source, SIZE)


def test_a_cache_path_that_is_not_a_folder_is_named(source, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEGACC_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"file/prepared.*cannot be written.*SEGACC_CACHE"):
        prepare(source, SIZE)


def test_a_disk_that_is_too_small_is_told_before_the_work(source):
    with pytest.raises(InputError, match=r"7 images at 10000000 px need .* GB in the cache"):
        prepare(source, 10_000_000)


def test_a_disk_that_fills_up_leaves_nothing_behind(source, cache):
    """The limit on a file's size stands for the full disk: a write fails half way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(InputError, match=r"cannot be written.*SEGACC_CACHE"):
            prepare(source, 256)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path for path in (cache / "prepared").iterdir() if path.is_dir()] == []
    assert len(prepare(source, 256).splits["train"]) == 5


def test_masks_that_are_all_empty_are_prepared(source):
    for i in range(2):
        Image.new("L", (40, 48), 0).save(file_of(source, "valid", i, "mask"))
    assert not any(mask.any() for _, mask in prepare(source, SIZE).splits["valid"])


def test_preparing_is_logged_once(source, caplog):
    with caplog.at_level(logging.INFO, logger="segacc"):
        prepare(source, SIZE)
        prepare(source, SIZE)
    assert [record.getMessage() for record in caplog.records] == [
        f"preparing 7 images at {SIZE} px, once"
    ]
