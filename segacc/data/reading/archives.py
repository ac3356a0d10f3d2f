"""An archive (zip, tar, tar.gz, tar.bz2, tar.xz) -> a folder in the cache, unpacked once.

What comes out of an archive stays in its folder: members with absolute or `..` paths are refused
by name, and no link is ever created (a link to a file of the archive becomes a copy of it).
"""

from __future__ import annotations

import hashlib
import lzma
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import IO

from segacc.config import cache_dir
from segacc.data.cache import once
from segacc.errors import InputError

MAGIC = {
    b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"\x1f\x8b": "tar.gz", b"BZh": "tar.bz2",
    b"\xfd7zXZ\x00": "tar.xz",
}  # fmt: skip
FOREIGN_MAGIC = {
    b"7z\xbc\xaf\x27\x1c": "a 7z archive", b"Rar!": "a RAR archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard file", b"%PDF": "a PDF", b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image", b"version https://git-lfs": "a Git LFS pointer",
}  # fmt: skip


def archive_type(path: Path) -> str | None:
    """`zip`, `tar`, `tar.gz`, `tar.bz2` or `tar.xz` by content, None for anything else."""
    with open(path, "rb") as file:
        head = file.read(512)
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            return kind
    return "tar" if head[257:262] == b"ustar" else None


def require_archive(path: Path) -> str:
    """The archive's type.

    Raises:
        InputError: when the file is no archive; it says what the file seems to be.
    """
    if kind := archive_type(path):
        return kind
    with open(path, "rb") as file:
        head = file.read(512)
    if not any(head):
        seems = "empty (no bytes or only zeros)"
    elif re.match(rb"\s*<(!doctype|html|head|\?xml)", head, re.IGNORECASE):
        seems = "an HTML page (a login or quota page that was saved as the archive?)"
    else:
        unknown = "a file of unknown type" if b"\0" in head else "a text file"
        foreign = (what for magic, what in FOREIGN_MAGIC.items() if head.startswith(magic))
        seems = next(foreign, unknown)
    raise InputError(
        f"{path} is {seems}: expected a folder or a zip, tar, tar.gz, tar.bz2 or tar.xz archive, "
        "so repack it as one of these or fetch it again"
    )


def extracted(archive: Path) -> Path:
    """The folder with the archive's content, unpacked at the first call and shared by all
    processes; a changed archive (path, size or time) is unpacked anew.

    Raises:
        InputError: no archive, empty, damaged, or a member that would leave the folder.
    """
    return once(place(archive), lambda folder: _extract(archive, folder))


def place(archive: Path) -> Path:
    """Where the archive is, or will be, unpacked."""
    archive = archive.resolve()
    about = archive.stat()
    key = f"{archive}\0{about.st_size}\0{about.st_mtime_ns}"
    digest = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:16]
    return cache_dir() / "extracted" / f"{archive.name.split('.')[0]}-{digest}"


def _extract(archive: Path, folder: Path) -> None:
    kind = require_archive(archive)
    try:
        count = (_extract_zip if kind == "zip" else _extract_tar)(archive, folder)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError) as error:
        raise _damaged(archive, kind, error) from error
    except OSError as error:
        if error.errno is not None:  # the disk's, not the archive's
            raise
        raise _damaged(archive, kind, error) from error
    if not count:
        raise InputError(f"{archive} is an empty {kind} archive: expected images and masks in it")


def _damaged(archive: Path, kind: str, error: Exception) -> InputError:
    return InputError(
        f"{archive} is a truncated or damaged {kind} archive ({error}): delete it and fetch it "
        "again"
    )


def _refuse(archive: Path, member: str, why: str) -> InputError:
    return InputError(
        f"{archive}: refused, its member {member!r} {why}; nothing was unpacked: get the archive "
        "from its source again or pack it anew"
    )


def _inside(archive: Path, folder: Path, member: str) -> Path:
    parts = member.split("/")
    if member.startswith("/") or re.match(r"[A-Za-z]:", member):
        raise _refuse(archive, member, "has an absolute path")
    if ".." in parts:
        raise _refuse(archive, member, "leads out of its folder")
    return folder.joinpath(*parts)


def _write(source: IO[bytes], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target, "wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)


def _extract_zip(archive: Path, folder: Path) -> int:
    count = 0
    with zipfile.ZipFile(archive) as zipped:
        for info in zipped.infolist():
            # Some Windows programs write backslashes.
            target = _inside(archive, folder, info.filename.replace("\\", "/"))
            if info.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            if stat.S_ISLNK(info.external_attr >> 16):
                raise _refuse(archive, info.filename, "is a link")
            if info.flag_bits & 1:
                raise _refuse(archive, info.filename, "is encrypted")
            try:
                source = zipped.open(info)
            except NotImplementedError as error:
                raise _refuse(archive, info.filename, f"cannot be read ({error})") from error
            with source:
                _write(source, target)
            count += 1
    return count


def _extract_tar(archive: Path, folder: Path) -> int:
    count = 0
    with tarfile.open(archive, "r:*") as tar:
        for member in tar:
            target = _inside(archive, folder, member.name)
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            try:
                # Of a link this is the file of the archive that it leads to.
                source = tar.extractfile(member)
            except (KeyError, RecursionError):
                source = None
            if source is None:
                what = f"is a link to {member.linkname!r}, which is no file of the archive"
                raise _refuse(archive, member.name, what if member.linkname else "is no file")
            with source:
                _write(source, target)
            count += 1
        # tarfile takes the end of the file for the end of the archive.
        tar.fileobj.seek(tar.offset)
        if not tar.fileobj.read(512):
            raise tarfile.ReadError("the end mark is missing")
    return count
