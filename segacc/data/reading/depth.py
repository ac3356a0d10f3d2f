"""Images with 16 bits per channel: their values as the file has them, and how these become 0..255.

Cameras of 10, 12 or 14 bits write files of 16 bits, and so do thermal cameras and scanners. What is
black and white in them is not in the file: it is a property of the data set
(`segacc.data.value_range`), stored with the model.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

VALUES = 1 << 16
ValueRange = tuple[int, int]
"""The values of such an image that become 0 and 255; the first is the smaller one."""
WHOLE: ValueRange = (0, VALUES - 1)
"""The range that the type of the file can hold. segacc 0.1.0 scaled all images by it."""


def deep_values(opened: Image.Image, data: bytes) -> np.ndarray | None:
    """The values of an image with 16 bits per channel, which is loaded; None for any other.

    Args:
        data: the bytes of the file.

    Returns:
        (H, W) or (H, W, 3) RGB uint16, turned as `opened` is.

    Raises:
        ValueError: the file cannot be read with 16 bits.
    """
    if opened.mode.startswith("I;16") or (
        opened.mode == "I" and opened.format in ("PPM", "PNG")  # 16 bits in some Pillow versions
    ):
        return np.asarray(opened).astype(np.uint16)
    if not _has_deep_channels(opened, data):
        return None
    import cv2

    # Pillow keeps only the upper 8 of each channel's 16 bits. Like Pillow, OpenCV turns a TIFF as
    # its orientation says, and with this flag no other file.
    values = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.ndim != 3 or values.shape[2] < 3:
        raise ValueError("16 bits per channel in a form that OpenCV cannot read")
    return np.ascontiguousarray(values[..., 2::-1])  # BGR or BGRA


def _has_deep_channels(opened: Image.Image, data: bytes) -> bool:
    if opened.mode not in ("RGB", "RGBA", "LA"):
        return False
    if opened.format == "PNG":
        return data[24] == 16  # the bit depth in IHDR, which is always the first chunk
    if opened.format == "TIFF":
        return max(opened.tag_v2.get(258, (8,))) == 16  # type: ignore[attr-defined]
    return False


def to_8_bits(values: np.ndarray, value_range: ValueRange) -> np.ndarray:
    """Scale an image to 8 bits, as the network gets it.

    Args:
        values: (H, W, 3) uint8, which is returned as it is, or what `deep_values` returns.
        value_range: the values that become 0 and 255. Those between become the nearest level, those
            outside 0 or 255.

    Returns:
        (H, W, 3) uint8.
    """
    if values.dtype == np.uint8:
        return values
    if (
        value_range == WHOLE and values.ndim == 3
    ):  # as segacc 0.1.0 did, so that its runs keep their data
        return (values >> 8).astype(np.uint8)
    levels = _levels(*value_range)[values]
    return levels if levels.ndim == 3 else np.repeat(levels[..., None], 3, axis=2)


def share_outside(values: np.ndarray, value_range: ValueRange) -> float:
    """Share of the values that lie outside of the range."""
    low, high = value_range
    return float(((values < low) | (values > high)).mean())


def about_range(value_range: ValueRange | None) -> str:
    """Return the end of a sentence on a data set; empty if no image has 16 bits."""
    if value_range is None:
        return ""
    return "; images of 16 bits per channel, of which {}..{} become 0..255".format(*value_range)


def about_other_range(trained: ValueRange | None, own: ValueRange | None) -> str | None:
    """A sentence on a data set whose values are unlike those that a model was trained on.

    Args:
        trained: the model's range; None where it was trained on images of 8 bits, or by 0.1.0.
        own: the range that the data set has itself; None for images of 8 bits.

    Returns:
        None where they are alike.
    """
    if trained == own:
        return None
    if own is None:
        assert trained is not None
        return (
            "its images have 8 bits and are taken as they are; the model was trained on images of "
            f"16 bits per channel, in which {trained[0]}..{trained[1]} became 0..255"
        )
    by = trained or WHOLE
    return (
        f"its images have 16 bits per channel, of which {by[0]}..{by[1]} become 0..255, as "
        f"{'in the training of the model' if trained else 'the model has no range of its own'}; "
        f"their own range is {own[0]}..{own[1]}"
    )


def _levels(low: int, high: int) -> np.ndarray:
    """(65536,) uint8: the level of each value."""
    assert 0 <= low < high < VALUES
    above = np.clip(np.arange(VALUES, dtype=np.int64), low, high) - low
    return ((above * 255 + (high - low) // 2) // (high - low)).astype(np.uint8)
