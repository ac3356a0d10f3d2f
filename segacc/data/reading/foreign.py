"""Guess from its first bytes the type of a file that cannot be read."""

from __future__ import annotations

import re

HEAD_BYTES = 512
"""This many first bytes of a file are enough to recognise its type."""

_MAGIC = {
    b"7z\xbc\xaf\x27\x1c": "a 7z archive", b"Rar!": "a RAR archive",
    b"PK\x03\x04": "a zip archive", b"\x1f\x8b": "a gzip file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file", b"%PDF": "a PDF", b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"version https://git-lfs": "a Git LFS pointer (`git lfs pull` fetches the file itself)",
    b"\x93NUMPY": "a NumPy array", b"\x89HDF": "an HDF5 file", b"8BPS": "a Photoshop file",
    b"gimp xcf": "a GIMP file", b"%!PS": "a PostScript file",
}  # fmt: skip
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


def what_it_seems(head: bytes) -> str:
    """A few words for a file, such as "a PDF", from its first HEAD_BYTES bytes."""
    if not any(head):
        return "empty (no bytes or only zeros)"
    if b"<svg" in head:
        return "an SVG drawing"
    if re.match(rb"\s*<(!doctype|html|head|\?xml)", head, re.IGNORECASE):
        return "an HTML page (a login or quota page that was saved in its place?)"
    if head[4:8] == b"ftyp":
        if head[8:12] in _HEIC_BRANDS:
            return "a HEIC photo (export it as JPEG or PNG)"
        return "an AVIF image (convert it to PNG)" if head[8:12] == b"avif" else "a video"
    unknown = "a file of unknown type" if b"\0" in head else "a text file"
    return next((what for magic, what in _MAGIC.items() if head.startswith(magic)), unknown)
