"""What each kind of image and mask file is decoded to, or why it is refused."""

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segacc.data.classes.coding import classes_of_flag, make_coding
from segacc.data.reading.alignment import is_at_another_scale
from segacc.data.reading.decode import Encoded, decode_image, read_labels, read_pair, read_pixels
from segacc.errors import InputError
from segacc.labels import BINARY, Coding

ORIENTATION = 0x0112
H, W = 20, 30
SHAPE = np.zeros((H, W), dtype=np.uint8)
SHAPE[2:9, 3:15] = 1  # no rotation or reflection leaves it as it is


def scene(height: int = H, width: int = W) -> np.ndarray:
    """Smooth, so that JPEG changes it little; no rotation or reflection leaves it as it is."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 6, y * 9, (x + 2 * y) * 2], axis=2).astype(np.uint8)


def encoded(path: Path) -> Encoded:
    return Encoded(path=str(path), bytes=None)


def save(path: Path, image: Image.Image | np.ndarray, orientation: int | None = None) -> Encoded:
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    options = {"quality": 95, "subsampling": 0} if path.suffix == ".jpg" else {}
    if orientation is not None:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        options["exif"] = exif
    image.save(path, **options)
    return encoded(path)


def decode_pair(image: Encoded, mask: Encoded) -> tuple[np.ndarray, np.ndarray]:
    pair = read_pair(image, mask)
    return pair.values, pair.label_map


@pytest.fixture
def image(tmp_path: Path) -> Encoded:
    return save(tmp_path / "image.png", scene())


def mask_of(tmp_path: Path, image: Encoded, saved: Image.Image | np.ndarray) -> np.ndarray:
    pixels, mask = decode_pair(image, save(tmp_path / "mask.png", saved))
    assert mask.dtype == np.uint8
    assert mask.shape == pixels.shape[:2]
    return mask


def refusal(image: Encoded, mask: Encoded) -> str:
    with pytest.raises(InputError) as error:
        decode_pair(image, mask)
    return str(error.value)


# ---- images


def test_rgb_comes_through_exactly(image):
    pixels = decode_image(image)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, scene())


def test_embedded_bytes_are_read_without_the_file(image):
    data = Path(image["path"]).read_bytes()
    np.testing.assert_array_equal(decode_image(Encoded(path=None, bytes=data)), scene())
    np.testing.assert_array_equal(decode_image(Encoded(path="gone.png", bytes=data)), scene())


def test_spaces_and_letters_of_any_language_in_a_name(tmp_path):
    np.testing.assert_array_equal(
        decode_image(save(tmp_path / "Gewebe Nr. 1, Łódź 組織.png", scene())), scene()
    )


def test_grayscale_becomes_three_equal_channels(tmp_path):
    gray = scene()[..., 0]
    pixels = decode_image(save(tmp_path / "a.png", gray))
    np.testing.assert_array_equal(pixels, np.repeat(gray[..., None], 3, axis=2))


def test_one_bit_becomes_black_and_white(tmp_path):
    pixels = decode_image(save(tmp_path / "a.png", SHAPE.astype(bool)))
    np.testing.assert_array_equal(pixels, np.repeat(SHAPE[..., None] * 255, 3, axis=2))


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path, suffix):
    gray = np.linspace(0, 65535, H * W).reshape(H, W).astype(np.uint16)
    pixels = decode_image(save(tmp_path / f"a.{suffix}", gray))
    np.testing.assert_array_equal(pixels[..., 1], np.round(gray / 257))


@pytest.mark.parametrize(("suffix", "channels"), [("png", 3), ("png", 4), ("tif", 3), ("tif", 4)])
def test_all_16_bits_of_each_channel_are_read(tmp_path, suffix, channels):
    """Pillow reads the upper 8."""
    bgr = np.random.default_rng(0).integers(0, 4096, (H, W, channels), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), bgr)
    values = read_pixels(encoded(tmp_path / f"a.{suffix}"))
    np.testing.assert_array_equal(values, bgr[..., 2::-1])
    assert decode_image(encoded(tmp_path / f"a.{suffix}")).max() == 15
    pixels = decode_image(encoded(tmp_path / f"a.{suffix}"), (0, 4095))
    np.testing.assert_allclose(pixels, values / 4095 * 255, atol=0.5)


@pytest.mark.parametrize("orientation", [3, 6, 8])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_deep_channels_are_turned_as_shallow_ones(tmp_path, orientation, suffix):
    rgb = scene().astype(np.uint16) * 16
    if suffix == "tif":
        data = tiff_of_16_bits(rgb, orientation)
    else:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        plain = cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()
        data = (
            plain[:33] + png_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) + plain[33:]
        )
    values = read_pixels(Encoded(path=f"a.{suffix}", bytes=data))
    np.testing.assert_array_equal(values // 16, seen(scene(), orientation))


def tiff_of_16_bits(rgb: np.ndarray, orientation: int) -> bytes:
    """Neither Pillow nor OpenCV writes one with an orientation."""
    height, width, channels = rgb.shape
    pixels = rgb.astype("<u2").tobytes()
    numbers = {256: width, 257: height, 259: 1, 262: 2, 273: 8, 274: orientation, 277: channels}
    numbers |= {258: 0, 278: height, 279: len(pixels)}
    bits = 8 + len(pixels) + 2 + 12 * len(numbers) + 4  # where those of the tag 258 are
    tags = b"".join(
        struct.pack("<HHII", tag, 3, channels, bits)
        if tag == 258
        else struct.pack("<HHII", tag, 4, 1, number)
        for tag, number in sorted(numbers.items())
    )
    directory = struct.pack("<H", len(numbers)) + tags + struct.pack("<I", 0)
    head = b"II*\0" + struct.pack("<I", 8 + len(pixels))
    return head + pixels + directory + struct.pack("<3H", 16, 16, 16)


def test_palette_colours_are_looked_up(tmp_path):
    flat = np.where(SHAPE[..., None], (200, 40, 90), (10, 250, 30)).astype(np.uint8)
    palette = Image.fromarray(flat).quantize(2)
    palette.info["transparency"] = b"\x00\x80"
    pixels = decode_image(save(tmp_path / "a.png", palette))
    assert Image.open(tmp_path / "a.png").mode == "P"
    np.testing.assert_array_equal(pixels, flat)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_dropped_and_not_blended(tmp_path, mode):
    transparent = Image.fromarray(scene()).convert(mode)
    expected = np.asarray(transparent.convert("RGB"))
    transparent.putalpha(Image.fromarray(SHAPE * 255))
    np.testing.assert_array_equal(decode_image(save(tmp_path / "a.png", transparent)), expected)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_keeps_its_colours(tmp_path, suffix):
    cmyk = Image.fromarray(scene()).convert("CMYK")
    pixels = decode_image(save(tmp_path / f"a.{suffix}", cmyk))
    assert Image.open(tmp_path / f"a.{suffix}").mode == "CMYK"
    assert suffix == "tif" or b"Adobe" in (tmp_path / "a.jpg").read_bytes()  # stored inverted
    assert np.abs(pixels.astype(int) - scene()).max() <= 12


def test_float_pixels_are_refused(tmp_path):
    image = save(tmp_path / "a.tif", scene()[..., 0].astype(np.float32))
    with pytest.raises(InputError, match=r"image .*a\.tif has the pixel type F.*save as PNG"):
        decode_image(image)


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("share", [0.01, 0.5, 0.9])
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "bmp", "webp"])
def test_a_truncated_image_is_named(tmp_path, suffix, share):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    image = save(tmp_path / f"cut.{suffix}", noise)
    data = (tmp_path / f"cut.{suffix}").read_bytes()
    (tmp_path / f"cut.{suffix}").write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError, match=rf"image .*cut\.{suffix} (is damaged|is not an image)"):
        decode_image(image)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_damaged_bytes_are_decoded_or_refused_in_a_sentence(tmp_path):
    """Whatever bytes are hit, a file decodes or is refused in a sentence."""
    rng = np.random.default_rng(0)
    for suffix in ("jpg", "png", "bmp", "webp", "pgm"):
        save(tmp_path / f"a.{suffix}", scene()[..., 0], orientation=None)
        data = (tmp_path / f"a.{suffix}").read_bytes()
        refused = 0
        for _ in range(100):
            damaged = bytearray(data)
            for _ in range(3):
                damaged[rng.integers(min(len(data), 64))] = rng.integers(256)
            try:
                decode_image(Encoded(path=f"a.{suffix}", bytes=bytes(damaged)))
            except InputError as error:
                refused += 1
                assert f"image a.{suffix} " in str(error)
        assert refused > 0


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is empty (0 bytes)"),
        (
            b"<html>quota exceeded</html>",
            "is not an image that can be read, it seems to be an HTML page",
        ),
        (b"%PDF-1.7\n%\xe2\xe3", "it seems to be a PDF; expected one of JPEG, PNG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC photo (export it as JPEG or PNG)"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
            "a Git LFS pointer (`git lfs pull` fetches the file itself)",
        ),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image that can be read"),
    ],
)
def test_a_file_that_is_not_an_image_is_named(tmp_path, data, problem):
    (tmp_path / "odd.jpg").write_bytes(data)
    with pytest.raises(InputError) as error:
        decode_image(encoded(tmp_path / "odd.jpg"))
    assert str(error.value).startswith(f"image {tmp_path}/odd.jpg is ")
    assert problem in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.png cannot be opened \(No such file"):
        decode_image(encoded(tmp_path / "gone.png"))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_a_decompression_bomb_is_refused():
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(bytes(1000)))
    with pytest.raises(InputError, match=r"bomb\.png is too large.*10000000000 pixels"):
        decode_image(Encoded(path="bomb.png", bytes=bomb))


@pytest.mark.filterwarnings("error")
def test_an_image_of_180_megapixels_is_read():
    slide = io.BytesIO()
    Image.new("1", (18_000, 10_000), 1).save(slide, "PNG")
    assert read_labels(Encoded(path="slide.png", bytes=slide.getvalue()))[0].foreground == 255


def test_a_file_of_several_images_is_refused(tmp_path):
    page = Image.fromarray(scene())
    page.save(tmp_path / "stack.tif", save_all=True, append_images=[page, page])
    with pytest.raises(InputError, match=r"stack\.tif holds 3 pictures"):
        decode_image(encoded(tmp_path / "stack.tif"))


# ---- masks


@pytest.mark.parametrize(
    "saved",
    [
        SHAPE * 255,
        SHAPE,
        SHAPE.astype(bool),
        SHAPE.astype(np.uint16) * 65535,
        SHAPE.astype(np.uint16) * 255,
        SHAPE.astype(np.uint16),
        np.repeat(SHAPE[..., None] * 255, 3, axis=2),
        np.repeat(SHAPE[..., None], 3, axis=2),
        np.dstack([SHAPE * 255] * 3 + [np.full_like(SHAPE, 255)]),
        np.dstack([SHAPE * 255] * 4),
        np.dstack([SHAPE * 255, np.full_like(SHAPE, 255)]),
    ],
    ids=[
        "0/255",
        "0/1",
        "bool",
        "16-bit",
        "16-bit/255",
        "16-bit/1",
        "RGB",
        "RGB/1",
        "RGBA",
        "RGBA/alpha",
        "LA",
    ],
)
def test_binary_masks_of_every_file_type_are_read(tmp_path, image, saved):
    np.testing.assert_array_equal(mask_of(tmp_path, image, saved), SHAPE)


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (1, 1), (255, 1)])
def test_a_mask_of_one_value(tmp_path, image, value, expected):
    mask = mask_of(tmp_path, image, np.full((H, W), value, dtype=np.uint8))
    assert (mask == expected).all()


@pytest.mark.parametrize(
    ("indices", "palette"),
    [
        (SHAPE, [0, 0, 0, 255, 255, 255]),
        (1 - SHAPE, [255, 255, 255, 0, 0, 0]),  # by colour: index 0 is white
        (SHAPE * 7, [0, 0, 0] * 7 + [255, 255, 255]),
        (SHAPE, [0, 0, 0, 128, 0, 0]),  # VOC's colours: by index
        (SHAPE, [0, 0, 0, 0, 0, 0]),  # a palette that was never filled
        (SHAPE * 255, [200, 10, 10] * 255 + [10, 200, 10]),
    ],
    ids=["white-on-black", "inverted", "any-index", "voc", "unfilled", "255"],
)
def test_a_palette_mask_is_read_by_black_and_white_or_else_by_index(
    tmp_path, image, indices, palette
):
    saved = Image.fromarray(indices).convert("L")
    saved.putpalette(palette)
    np.testing.assert_array_equal(mask_of(tmp_path, image, saved), SHAPE)


def test_a_palette_mask_of_three_classes_is_refused(tmp_path, image):
    indices = SHAPE.copy()
    indices[15:] = 2
    saved = Image.fromarray(indices)
    saved.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    message = refusal(image, save(tmp_path / "mask.png", saved))
    assert "mask.png has the values 0, 1, 2 (3 in all)" in message


def test_a_mask_of_0_1_and_255_is_refused_with_what_says_that_255_does_not_count(tmp_path, image):
    values = SHAPE.copy()
    values[15:] = 255
    message = refusal(image, save(tmp_path / "mask.png", values))
    assert "has the values 0, 1, 255 (3 in all)" in message
    assert "give the classes their values, such as --classes 'background: 0, thing: 1'" in message


def test_two_names_without_values_are_said_where_masks_hold_more(tmp_path):
    values = SHAPE.copy()
    values[15:] = 2
    mask = save(tmp_path / "mask.png", values)
    with pytest.raises(InputError) as error:
        read_labels(mask, make_coding(classes_of_flag("ground,car")))
    assert "has the values 0, 1, 2 (3 in all)" in str(error.value)
    assert "give each class its values, such as 'ground: 0, car: 1'" in str(error.value)


def test_a_mask_of_classes_is_refused_with_its_values(tmp_path, image):
    classes = SHAPE * 38
    classes[15:] = 75
    message = refusal(image, save(tmp_path / "mask.png", classes))
    assert f"mask {tmp_path / 'mask.png'} has the values 0, 38, 75 (3 in all)" in message
    assert "holds 0 and 255 (or 0 and 1): set every foreground pixel to 255" in message


def test_class_numbers_are_not_reported_as_lossy_compression(tmp_path, image):
    classes = SHAPE.copy()
    classes[15:] = 2
    message = refusal(image, save(tmp_path / "mask.png", classes))
    assert "0, 1, 2 (3 in all)" in message
    assert "resizing has smeared" not in message


def test_a_gray_foreground_is_refused(tmp_path, image):
    message = refusal(image, save(tmp_path / "mask.png", SHAPE * 128))
    assert "mask.png has the values 0, 128 (2 in all)" in message


def test_a_mask_of_0_1_and_255_is_refused(tmp_path, image):
    levels = SHAPE * 255
    levels[15:] = 1
    assert "0, 1, 255 (3 in all)" in refusal(image, save(tmp_path / "mask.png", levels))


def test_a_mask_saved_as_jpeg_is_reported_as_lossy(tmp_path, image):
    mask = save(tmp_path / "mask.jpg", np.where(SHAPE, 250, 5).astype(np.uint8))
    message = refusal(image, mask)
    assert "mask.jpg has the values" in message
    assert "resizing has smeared" in message
    assert "PNG" in message


@pytest.mark.parametrize("values", [(0, 255), (5, 250)])
@pytest.mark.parametrize("suffix", ["jpg", "png"])  # a PNG that was made of a JPEG
def test_binarise_gives_back_what_jpeg_has_smeared(tmp_path, values, suffix):
    shape = np.kron(SHAPE, np.ones((4, 4), np.uint8))
    smeared, path = io.BytesIO(), tmp_path / f"mask.{suffix}"
    Image.fromarray(np.where(shape, *values[::-1]).astype(np.uint8)).save(
        smeared, "JPEG", quality=90
    )
    if suffix == "jpg":
        path.write_bytes(smeared.getvalue())
    else:
        Image.open(smeared).save(path)
    with pytest.raises(InputError, match="has smeared this one: .*or give --binarise 128"):
        read_labels(encoded(path))
    read, _ = read_labels(encoded(path), Coding(BINARY, binarise=128))
    assert (read.label_map == shape).all()
    assert read.foreground == 255
    assert read.in_doubt is not None and read.in_doubt < 0.01


def test_binarise_changes_no_binary_mask(tmp_path):
    for name, factor in (("a", 1), ("b", 255)):
        read, _ = read_labels(
            save(tmp_path / f"{name}.png", SHAPE * factor), Coding(BINARY, binarise=255)
        )
        assert (read.label_map == SHAPE).all()
        assert read.in_doubt is None


def others() -> dict[str, np.ndarray]:
    """Masks of more than two classes, of objects, and what is no mask."""
    rng = np.random.default_rng(0)
    areas = np.kron(rng.integers(0, 12, (8, 8)), np.ones((16, 16))).astype(np.uint8)
    many = np.kron(rng.integers(0, 21, (8, 8)), np.ones((16, 16))).astype(np.uint8)
    many[:16, :16] = 255
    two = np.kron(rng.choice([0, 128, 255], (8, 8)), np.ones((16, 16))).astype(np.uint8)
    objects = np.zeros((128, 128), np.uint8)
    objects[::4, ::4] = objects[1::4, 1::4] = (np.arange(1024).reshape(32, 32) % 255) + 1
    night = (rng.random((128, 128)) ** 4 * 255).astype(np.uint8)
    return {
        "0..11": areas,
        "0..20, 255": many,
        "0, 128, 255": two,
        "objects": objects,
        "photo": night,
    }


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("kind", list(others()))
def test_binarise_makes_no_nonsense_of_other_masks(tmp_path, kind, suffix):
    mask = save(tmp_path / f"mask.{suffix}", others()[kind])
    with pytest.raises(InputError, match="has the values") as error:
        read_labels(mask, Coding(BINARY, binarise=128))
    assert "--binarise" not in str(error.value)


def test_binarise_takes_no_coloured_or_palette_mask(tmp_path):
    red = np.stack([SHAPE * 255, SHAPE * 0, SHAPE * 0], axis=2)
    with pytest.raises(InputError, match="is coloured") as error:
        read_labels(save(tmp_path / "red.jpg", red), Coding(BINARY, binarise=128))
    assert "--binarise" not in str(error.value)
    indices = Image.fromarray(np.where(SHAPE, 255, np.arange(W) % 21).astype(np.uint8))
    indices.putpalette([*range(256)] * 3)
    with pytest.raises(InputError, match="set every foreground pixel to 255"):
        read_labels(save(tmp_path / "palette.png", indices), Coding(BINARY, binarise=128))


def test_a_mask_smeared_by_resizing_is_reported_as_such(tmp_path, image):
    large = Image.fromarray(SHAPE * 255).resize((10 * W, 10 * H), Image.Resampling.BILINEAR)
    message = refusal(image, save(tmp_path / "mask.png", large))
    assert ", ... (" in message
    assert "resizing has smeared" in message


def test_a_coloured_mask_is_refused_with_its_colours(tmp_path, image):
    colours = np.where(SHAPE[..., None], (255, 0, 0), (0, 0, 64)).astype(np.uint8)
    message = refusal(image, save(tmp_path / "mask.png", colours))
    assert "mask.png is coloured: (0 0 64), (255 0 0) (2 in all)" in message


def test_a_mask_in_the_alpha_channel_is_refused(tmp_path, image):
    white = np.full((H, W), 255, dtype=np.uint8)
    message = refusal(image, save(tmp_path / "mask.png", np.dstack([white] * 3 + [SHAPE * 255])))
    assert "mask.png has one colour and its shape only in the transparency" in message


def test_a_truncated_mask_is_named(tmp_path, image):
    save(tmp_path / "mask.png", SHAPE * 255)
    data = (tmp_path / "mask.png").read_bytes()
    (tmp_path / "mask.png").write_bytes(data[:60])
    assert "mask.png is damaged" in refusal(image, encoded(tmp_path / "mask.png"))


def test_sizes_that_differ_name_both_files(tmp_path, image):
    message = refusal(image, save(tmp_path / "mask.png", np.zeros((H, W - 2), dtype=np.uint8)))
    assert f"image.png is {W} x {H} pixels but its mask" in message
    assert f"mask.png is {W - 2} x {H};" in message


@pytest.mark.parametrize(
    ("mask", "image", "fits"),
    [
        ((10, 15), (20, 30), True),
        ((40, 60), (20, 30), True),
        ((188, 250), (375, 500), True),  # 187.5 was rounded
        ((187, 250), (375, 500), True),
        ((19, 30), (20, 30), True),  # 28.5 x 19: in the shorter side less than a pixel off
        ((18, 30), (20, 30), False),
        ((20, 28), (20, 30), False),
        ((30, 20), (20, 30), False),
        ((375, 375), (375, 500), False),
        ((75, 100), (376, 500), True),  # 75.2
        ((72, 100), (376, 500), False),
        ((1, 1), (20, 30), False),
        ((4, 6), (40, 60), False),  # too small to tell
    ],
)
def test_which_sizes_are_one_image_at_two_scales(mask, image, fits):
    assert is_at_another_scale(mask, image) == fits


@pytest.mark.parametrize("factor", [2, 3])
def test_a_mask_at_another_scale_is_scaled_to_its_image(tmp_path, factor):
    large = save(tmp_path / "large.png", scene(factor * H, factor * W))
    small = read_pair(large, save(tmp_path / "mask.png", SHAPE * 255))
    assert small.was_scaled
    np.testing.assert_array_equal(small.label_map, np.kron(SHAPE, np.ones((factor, factor))))
    image = save(tmp_path / "image.png", scene())
    enlarged = np.kron(SHAPE, np.ones((factor, factor), np.uint8))
    of_large = read_pair(image, save(tmp_path / "large_mask.png", enlarged))
    assert of_large.was_scaled
    np.testing.assert_array_equal(of_large.label_map, SHAPE)
    assert not read_pair(image, save(tmp_path / "own.png", SHAPE)).was_scaled


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_scaled_mask_is_turned_where_its_proportions_tell(tmp_path, orientation):
    image = save(tmp_path / "image.jpg", scene(2 * H, 2 * W), orientation)
    expected = np.kron(seen(SHAPE, orientation), np.ones((2, 2)))
    drawn_on_file = save(tmp_path / "stored.png", SHAPE)
    drawn_as_seen = save(tmp_path / "seen.png", seen(SHAPE, orientation))
    for mask in (drawn_on_file, drawn_as_seen):
        np.testing.assert_array_equal(read_pair(image, mask).label_map, expected)


@pytest.mark.parametrize(("factor", "value"), [(255, 255), (1, 1), (0, 0)])
def test_the_value_that_stands_for_foreground(tmp_path, factor, value):
    assert read_labels(save(tmp_path / "mask.png", SHAPE * factor))[0].foreground == value


# ---- EXIF orientation

SEEN = {  # independent of the code under test: what a viewer shows
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def seen(array: np.ndarray, orientation: int) -> np.ndarray:
    return np.asarray(Image.fromarray(array).transpose(SEEN[orientation]))


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", SEEN)
def test_an_orientation_is_applied_to_the_image(tmp_path, orientation, suffix):
    plain = decode_image(save(tmp_path / f"plain.{suffix}", scene()))
    turned = decode_image(save(tmp_path / f"turned.{suffix}", scene(), orientation))
    expected = seen(plain, orientation)
    assert turned.shape == expected.shape
    np.testing.assert_allclose(turned.astype(int), expected, atol=8)  # a JPEG's blocks move


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("orientation", SEEN)
def test_a_mask_with_its_own_orientation_is_turned_by_it(tmp_path, orientation, suffix):
    image = save(tmp_path / "image.jpg", scene(), orientation)
    mask = save(tmp_path / f"mask.{suffix}", SHAPE * 255, orientation)
    np.testing.assert_array_equal(decode_pair(image, mask)[1], seen(SHAPE, orientation))


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mask_without_orientation_follows_its_image_where_the_size_tells(
    tmp_path, orientation, suffix
):
    image = save(tmp_path / f"image.{suffix}", scene(), orientation)
    expected = seen(SHAPE, orientation)
    as_stored = save(tmp_path / "stored.png", SHAPE * 255)
    as_seen = save(tmp_path / "seen.png", expected * 255)
    np.testing.assert_array_equal(decode_pair(image, as_stored)[1], expected)
    np.testing.assert_array_equal(decode_pair(image, as_seen)[1], expected)


@pytest.mark.parametrize(("orientation", "side"), [(2, W), (3, W), (4, W), (6, H), (8, H)])
def test_an_orientation_is_refused_where_it_is_unclear_how_the_mask_lies(
    tmp_path, orientation, side
):
    image = save(tmp_path / "image.jpg", scene()[:, :side], orientation)
    message = refusal(image, save(tmp_path / "mask.png", SHAPE[:, :side] * 255))
    assert f"image.jpg has the EXIF orientation {orientation} and its mask" in message
    assert "mogrify -auto-orient" in message


@pytest.mark.parametrize("orientation", [0, 1, 9])
def test_an_unknown_orientation_changes_nothing(tmp_path, orientation):
    image = save(tmp_path / "image.png", scene(), orientation)
    pixels, mask = decode_pair(image, save(tmp_path / "mask.png", SHAPE))
    np.testing.assert_array_equal(pixels, scene())
    np.testing.assert_array_equal(mask, SHAPE)


def test_broken_exif_data_changes_nothing(tmp_path):
    Image.fromarray(scene()).save(tmp_path / "image.png", exif=b"Exif\0\0MM\0\x1b\0\0\0\x08")
    np.testing.assert_array_equal(decode_image(encoded(tmp_path / "image.png")), scene())


def test_a_mask_that_fits_neither_way_of_its_turned_image_is_refused(tmp_path):
    image = save(tmp_path / "image.jpg", scene(), 6)
    message = refusal(image, save(tmp_path / "mask.png", np.zeros((H, W - 2), dtype=np.uint8)))
    assert f"image.jpg is {H} x {W} pixels" in message


def test_a_clean_coloured_png_is_not_called_smeared(tmp_path, image):
    red = np.where(SHAPE[..., None], (255, 0, 0), (0, 0, 0)).astype(np.uint8)
    message = refusal(image, save(tmp_path / "mask.png", red))
    assert "mask.png is coloured: (0 0 0), (255 0 0) (2 in all)" in message
    assert "smeared" not in message
    assert "set every foreground pixel to 255" in message
