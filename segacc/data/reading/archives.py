"""An archive (zip, tar, tar.gz, tar.bz2, tar.xz) -> a folder in the cache, unpacked once.

What comes out of an archive stays in its folder: members with absolute or `..` paths are refused
by name, and no link is ever created (a link to a file of the archive becomes a copy of it). It is
bounded, too: by the free space of the disk and by a ratio to the archive's own size.

Why not `tarfile`'s filter="data" and `ZipFile.extractall`? Python 3.11.0 lacks the filter. It
creates links, which led out of the folder in some releases (CVE-2025-4517). Both drop a leading
`/` in silence, and `ZipFile` a `..` too, so that a file may replace another one. Neither bounds
what it writes, nor reads the backslashes of Windows.
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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from segacc.data.cache import cache_dir, made_of, once_by_content
from segacc.data.reading.foreign import HEAD_BYTES, what_it_seems
from segacc.errors import InputError

MAGIC = {
    b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"\x1f\x8b": "tar.gz", b"BZh": "tar.bz2",
    b"\xfd7zXZ\x00": "tar.xz",
}  # fmt: skip
SMALL_BYTES = 1 << 30
"""Any archive may unpack to this size."""
MOST_RATIO = 100
"""An archive may unpack to more than that if it is at most this many times its own size. Compressed
images hardly shrink, and uncompressed masks may shrink by a factor of a hundred. An archive made to
fill the disk shrinks by a factor of a thousand."""
BLOCK_BYTES = 4096
"""An empty file or a folder counts as this many bytes, so that their number is bounded, too."""


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
        head = file.read(HEAD_BYTES)
    raise InputError(
        f"{path} is {what_it_seems(head)}: expected a folder or a zip, tar, tar.gz, tar.bz2 or "
        "tar.xz archive, so repack it as one of these or fetch it again"
    )


def extracted(archive: Path) -> Path:
    """The folder with the archive's content. It is unpacked at the first call, by one of all
    processes. A changed archive (path, size or time) is read anew, and unpacked if its bytes are
    new.

    Raises:
        InputError: no archive, empty, damaged, larger than allowed when unpacked, or with a member
            that would leave the folder.
    """

    def fill(folder: Path) -> str:
        with archive.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:24]
        for same in folder.parent.glob(f"*-{digest}"):
            return same.name
        _extract(archive, folder)
        return f"{archive.name.split('.')[0]}-{digest}"

    return once_by_content(_key(archive), fill)


def is_extracted(archive: Path) -> bool:
    """Whether the archive was unpacked before, and has not changed since."""
    return made_of(_key(archive)) is not None


def _key(archive: Path) -> Path:
    """The file that says where the archive is unpacked."""
    archive = archive.resolve()
    about = archive.stat()
    key = f"{archive}\0{about.st_size}\0{about.st_mtime_ns}"
    digest = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:32]
    return cache_dir() / "extracted" / f"{digest}.key"


@dataclass(frozen=True)
class _Member:
    """A file or a folder of an archive."""

    name: str
    size: int  # bytes when unpacked, as the archive declares
    source: IO[bytes] | None  # to read it from; None for a folder


@dataclass(frozen=True)
class _Bounds:
    """How much an archive may take on the disk when unpacked."""

    archive: Path
    folder: Path
    most: int
    free: int

    def check(self, size: int) -> None:
        """Raises:
        InputError: `size` bytes are too many.
        """
        if size > self.most:
            raise InputError(
                f"{self.archive} ({_bytes(self.archive.stat().st_size)}) unpacks to "
                f"{_bytes(size)} or more, expected at most {_bytes(self.most)}: it may be damaged "
                "or made to fill the disk; if you trust it, unpack it yourself and give the folder"
            )
        if size > self.free:
            raise InputError(
                f"{self.archive} unpacks to {_bytes(size)} or more, and {self.folder.parent} has "
                f"{_bytes(self.free)} free: free some space, or set SEGACC_CACHE to a folder on "
                "another disk"
            )


def _bytes(size: int) -> str:
    return f"{size / 1e9:.3g} GB" if size >= 1e8 else f"{size / 1e6:.3g} MB"


def _extract(archive: Path, folder: Path) -> None:
    kind = require_archive(archive)
    most = max(SMALL_BYTES, MOST_RATIO * archive.stat().st_size)
    bounds = _Bounds(archive, folder, most, shutil.disk_usage(folder).free)
    members = _zip_members(archive, bounds) if kind == "zip" else _tar_members(archive)
    try:
        files = _write_members(members, bounds)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError) as error:
        raise _damaged(archive, kind, error) from error
    except OSError as error:
        if error.errno is not None:  # of the disk, not of the archive
            raise
        raise _damaged(archive, kind, error) from error
    if not files:
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


def _write_members(members: Iterable[_Member], bounds: _Bounds) -> int:
    """Write all members; return the number of files among them.

    What an archive declares may be false, so what is really written is counted as well.
    """
    written, files = 0, 0
    for member in members:
        target = _inside(bounds.archive, bounds.folder, member.name)
        written += BLOCK_BYTES
        bounds.check(written + member.size)
        if member.source is None:
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with member.source as source, open(target, "wb") as file:
            while some := source.read(1 << 20):
                written += len(some)
                bounds.check(written)
                file.write(some)
        files += 1
    return files


def _zip_members(archive: Path, bounds: _Bounds) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as zipped:
        bounds.check(sum(info.file_size + BLOCK_BYTES for info in zipped.infolist()))
        for info in zipped.infolist():
            name = info.filename.replace("\\", "/")  # some Windows programs write backslashes
            if info.is_dir():
                yield _Member(name, 0, None)
                continue
            if stat.S_ISLNK(info.external_attr >> 16):
                raise _refuse(archive, info.filename, "is a link")
            if info.flag_bits & 1:
                raise _refuse(archive, info.filename, "is encrypted")
            try:
                source = zipped.open(info)
            except NotImplementedError as error:
                raise _refuse(archive, info.filename, f"cannot be read ({error})") from error
            yield _Member(name, info.file_size, source)


def _tar_members(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive, "r:*") as tar:
        for member in tar:
            if member.isdir():
                yield _Member(member.name, 0, None)
                continue
            try:
                # For a link, this is the file of the archive that it leads to.
                source = tar.extractfile(member)
            except (KeyError, RecursionError):
                source = None
            if source is None:
                what = f"is a link to {member.linkname!r}, which is no file of the archive"
                raise _refuse(archive, member.name, what if member.linkname else "is no file")
            yield _Member(member.name, member.size, source)
        # tarfile takes the end of the file for the end of the archive.
        tar.fileobj.seek(tar.offset)
        if not tar.fileobj.read(512):
            raise tarfile.ReadError("the end mark is missing")
