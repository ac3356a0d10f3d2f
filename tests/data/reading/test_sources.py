"""Where data comes from: folders, archives, downloads (a loopback server), the Hub (another)."""

import hashlib
import io
import os
import random
import shutil
import ssl
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, Features, Image, Value
from loopback_hub import HubHandler
from PIL import Image as Pillow

from segacc.data.reading import archives
from segacc.data.reading.division.shares import Group, share_out
from segacc.data.reading.sources import CORPORA, load_dataset, locate
from segacc.errors import InputError

PAIRS = {
    "train/a.jpg": b"image a",
    "train/a.png": b"mask a",
    "valid/b.jpg": b"image b",
    "valid/b.png": b"mask b",
}
COUNTS = {"train": 1, "valid": 1}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGACC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def counts(data: DatasetDict) -> dict[str, int]:
    return {split: len(rows) for split, rows in data.items()}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def write_folder(folder: Path, files: dict[str, bytes] = PAIRS) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def zipped(files: dict[str, bytes] = PAIRS) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(files: dict[str, bytes] = PAIRS, mode: str = "w", *more: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in more:
            archive.addfile(member)
    return buffer.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = target
    return member


ARCHIVES = {
    "zip": zipped,
    "tar": tarred,
    "tar.gz": lambda files=PAIRS: tarred(files, "w:gz"),
    "tar.bz2": lambda files=PAIRS: tarred(files, "w:bz2"),
    "tar.xz": lambda files=PAIRS: tarred(files, "w:xz"),
}


# --- folders and names


def test_a_folder_is_read_where_it_is(tmp_path, cache):
    folder = write_folder(tmp_path / "my data")
    assert counts(load_dataset(str(folder)).rows) == COUNTS
    assert locate(str(folder)) == folder
    assert not cache.exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("glnad", r"--dataset 'glnad' is neither a known set \(did you mean 'gland'\?: pedestrian"),
        ("Pedestrians", "did you mean 'pedestrian'"),
        (
            "zzz",
            r"known set \(pedestrian, gland, gland-128, demo, demo-pedestrian, demo-street\), nor",
        ),
        ("", "--dataset '' is neither"),
        (
            "./no/such/place",
            r"was not found \(there is no no here\): expected a folder, an archive",
        ),
    ],
)
def test_an_unknown_name_is_refused_with_the_closest_known_ones(name, expected):
    with pytest.raises(InputError, match=expected):
        load_dataset(name)


def test_a_folder_with_the_name_of_a_set_is_not_taken_without_a_word(tmp_path, monkeypatch, caplog):
    write_folder(tmp_path / "gland", {"train/x.jpg": b"", "train/x.png": b""})
    monkeypatch.setenv("SEGACC_GLAND", str(write_folder(tmp_path / "other")))
    monkeypatch.chdir(tmp_path)
    assert counts(load_dataset("gland").rows) == COUNTS
    assert "--dataset gland is segacc's own set of this name, not the folder gland" in caplog.text
    assert "write ./gland for the folder" in caplog.text
    caplog.clear()
    with pytest.raises(InputError, match="has no valid folder"):
        load_dataset("./gland")
    assert "own set" not in caplog.text


def test_a_demo_set_is_drawn_once(cache):
    data = load_dataset("demo-pedestrian").rows
    assert list(data) == ["train", "valid", "test"]
    folder = locate("demo-pedestrian")
    assert folder is not None
    assert folder.is_relative_to(cache / "demo")
    before = folder.stat().st_ino
    assert counts(load_dataset("demo-pedestrian").rows) == counts(data)
    assert folder.stat().st_ino == before


# --- archives


@pytest.mark.parametrize("kind", ARCHIVES)
@pytest.mark.parametrize("root", ["", "Gland 512/"])
def test_the_type_of_an_archive_is_found_by_its_content(tmp_path, kind, root):
    archive = tmp_path / "data.bin"
    archive.write_bytes(ARCHIVES[kind]({root + name: file for name, file in PAIRS.items()}))
    data = load_dataset(str(archive)).rows
    assert counts(data) == COUNTS
    assert Path(data["train"][0]["mask"]["path"]).read_bytes() == b"mask a"


def test_an_archive_is_unpacked_once_and_again_when_it_has_changed(tmp_path, cache):
    archive = tmp_path / "data.zip"
    archive.write_bytes(zipped())
    first = locate(str(archive))
    assert first is not None
    (first / "train" / "c.txt").touch()
    assert locate(str(archive)) == first
    assert (first / "train" / "c.txt").exists()

    archive.write_bytes(zipped({**PAIRS, "test/c.jpg": b"", "test/c.png": b""}))
    assert list(load_dataset(str(archive)).rows) == ["train", "valid", "test"]


def test_archives_of_equal_bytes_are_unpacked_once(tmp_path, cache):
    """One that was touched, and a copy of another name."""
    archive, copy = tmp_path / "data.zip", tmp_path / "copy.zip"
    archive.write_bytes(zipped())
    first = locate(str(archive))
    os.utime(archive, (1, 1))
    shutil.copy(archive, copy)
    assert locate(str(archive)) == locate(str(copy)) == first
    assert [path for path in (cache / "extracted").iterdir() if path.is_dir()] == [first]


def test_a_partly_unpacked_folder_of_a_killed_process_is_not_used(tmp_path, cache):
    archive = tmp_path / "data.zip"
    archive.write_bytes(zipped())
    folder = locate(str(archive))
    assert folder is not None
    (key,) = (cache / "extracted").glob("*.key")
    folder.rename(folder.with_name(key.name + ".partial"))
    write_folder(folder.with_name(key.name + ".partial"), {"train/half.jpg": b""})
    assert locate(str(archive)) == folder
    assert contents(folder) == PAIRS


def refuses(tmp_path: Path, cache: Path, content: bytes, *expected: str) -> None:
    """The message has the archive's name and all that is expected, and nothing is left."""
    archive = tmp_path / "data.bin"
    archive.write_bytes(content)
    before = contents(tmp_path)
    with pytest.raises(InputError) as error:
        load_dataset(str(archive))
    for text in (str(archive), *expected):
        assert text in str(error.value)
    left = {path for path in contents(tmp_path).keys() - before if not path.endswith(".lock")}
    assert left == set()
    assert [path for path in (cache / "extracted").iterdir() if path.suffix != ".lock"] == []


@pytest.mark.parametrize("member", ["../evil.png", "a/../../evil.png", "/tmp/evil.png", "C:/evil"])
@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_members_that_lead_out_of_the_archive_are_refused(tmp_path, cache, kind, member):
    content = ARCHIVES[kind]({**PAIRS, member: b"evil"})
    refuses(tmp_path, cache, content, f"its member {member!r}", "nothing was unpacked")


def test_members_that_lead_out_with_backslashes_are_refused(tmp_path, cache):
    refuses(tmp_path, cache, zipped({"a\\..\\..\\evil.png": b""}), "member 'a/../../evil.png'")


@pytest.mark.parametrize("target", ["../../outside.png", "/etc/passwd", "nowhere.png", ".", "l"])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_that_lead_to_no_file_of_the_archive_are_refused(tmp_path, cache, kind, target):
    (tmp_path / "outside.png").write_bytes(b"secret")
    content = tarred(PAIRS, "w", link("l", target, kind))
    refuses(tmp_path, cache, content, f"'l' is a link to {target!r}")


def test_files_cannot_be_written_through_a_link(tmp_path, cache):
    (tmp_path / "outside").mkdir()
    content = tarred(
        {}, "w", link("out", str(tmp_path / "outside")), tarfile.TarInfo("out/evil.png")
    )
    refuses(tmp_path, cache, content, "'out' is a link")


def test_links_inside_an_archive_become_copies(tmp_path):
    archive = tmp_path / "data.tar"
    links = (
        link("test/c.jpg", "../train/a.jpg"),
        link("test/c.png", "train/a.png", tarfile.LNKTYPE),
    )
    archive.write_bytes(tarred(PAIRS, "w", *links))
    folder = locate(str(archive))
    assert folder is not None
    assert contents(folder / "test") == {"c.jpg": b"image a", "c.png": b"mask a"}
    assert not any(path.is_symlink() for path in folder.rglob("*"))


def test_a_link_in_a_zip_is_refused(tmp_path, cache):
    buffer = io.BytesIO(zipped())
    with zipfile.ZipFile(buffer, "a") as archive:
        member = zipfile.ZipInfo("train/l.png")
        member.external_attr = 0o120777 << 16
        archive.writestr(member, "../../outside.png")
    refuses(tmp_path, cache, buffer.getvalue(), "'train/l.png' is a link")


def test_a_device_in_a_tar_is_refused(tmp_path, cache):
    content = tarred(PAIRS, "w", link("pipe", "", tarfile.FIFOTYPE))
    refuses(tmp_path, cache, content, "'pipe' is no file")


def test_an_encrypted_zip_is_named(tmp_path, cache):
    content = bytearray(zipped({"train/a.jpg": b"image"}))
    content[6] |= 1  # the local header's flags
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the directory's
    refuses(tmp_path, cache, bytes(content), "'train/a.jpg' is encrypted")


def test_a_zip_with_an_unknown_compression_is_named(tmp_path, cache):
    content = bytearray(zipped({"train/a.jpg": b"image"}))
    content[8] = content[content.index(b"PK\x01\x02") + 10] = 9  # Deflate64, as Windows makes it
    refuses(tmp_path, cache, bytes(content), "'train/a.jpg' cannot be read")


def test_backslashes_of_windows_zips_are_folders(tmp_path):
    archive = tmp_path / "data.zip"
    archive.write_bytes(zipped({name.replace("/", "\\"): file for name, file in PAIRS.items()}))
    assert counts(load_dataset(str(archive)).rows) == COUNTS


BULKY = dict(PAIRS)
for index in range(9):
    BULKY[f"train/{index}.jpg"] = random.Random(index).randbytes(20_000)
    BULKY[f"train/{index}.png"] = random.Random(-index).randbytes(20_000)


@pytest.mark.parametrize("kind", ARCHIVES)
def test_a_truncated_archive_is_named(tmp_path, cache, kind):
    content = ARCHIVES[kind](BULKY)
    for share in (0.3, 0.7, 0.95):
        truncated = content[: int(len(content) * share)]
        expected = (f"truncated or damaged {kind} archive", "delete it and fetch it again")
        refuses(tmp_path, cache, truncated, *expected)


def test_a_tar_cut_between_two_members_is_named(tmp_path, cache):
    content = tarred(BULKY)
    cut = content.index(b"train/3.jpg")
    assert cut % 512 == 0
    refuses(tmp_path, cache, content[:cut], "truncated or damaged tar archive")


def test_a_zip_with_a_flipped_bit_is_named(tmp_path, cache):
    content = bytearray(zipped())
    content[content.index(b"mask a")] ^= 1
    refuses(tmp_path, cache, bytes(content), "damaged zip archive", "train/a.png")


@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_empty_archive_is_named(tmp_path, cache, kind):
    expected = "is empty" if kind == "tar" else f"is an empty {kind} archive"  # a tar of zeros
    refuses(tmp_path, cache, ARCHIVES[kind]({}), expected)


@pytest.mark.parametrize(
    ("content", "seems"),
    [
        (b"", "is empty (no bytes"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "is a 7z archive"),
        (b"Rar!\x1a\x07\x01\0", "is a RAR archive"),
        (b"\n<!DOCTYPE html><html>", "is an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"just words", "is a text file"),
        (b"\x00\x01\x02", "is a file of unknown type"),
    ],
)
def test_a_file_that_is_no_archive_is_refused_with_its_likely_type(tmp_path, cache, content, seems):
    refuses(tmp_path, cache, content, seems, "repack it")


def false_size(content: bytes, size: int) -> bytes:
    """A zip whose last member declares another size than it has."""
    changed = bytearray(content)
    directory = changed.rindex(b"PK\x01\x02")
    changed[directory + 24 : directory + 28] = size.to_bytes(4, "little")
    return bytes(changed)


def deflated(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def sparse(size: int) -> bytes:
    """A tar with a member that is `size` bytes of nothing, which takes no room in it."""
    member = tarfile.TarInfo("train/a.png")
    member.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(size)}
    return tarred({}, "w", member)


@pytest.mark.parametrize(
    ("content", "unpacked"),
    [
        (false_size(zipped(), 0xFFFFFFF0), "4.29 GB or more"),
        (sparse(1 << 41), "2.2e+03 GB or more"),
    ],
)
def test_an_archive_that_declares_too_much_is_refused(tmp_path, cache, content, unpacked):
    expected = (f"unpacks to {unpacked}, expected at most 1.07 GB", "unpack it yourself and give")
    refuses(tmp_path, cache, content, *expected)


@pytest.fixture
def small_bounds(monkeypatch):
    monkeypatch.setattr(archives, "SMALL_BYTES", 1_000_000)
    monkeypatch.setattr(archives, "MOST_RATIO", 1.5)


MANY = {**PAIRS, **{f"train/{index}.txt": b"" for index in range(400)}}


@pytest.mark.parametrize(
    "content",
    [
        deflated({**PAIRS, "zeros": bytes(2_000_000)}),
        tarred({**PAIRS, "zeros": bytes(2_000_000)}, "w:gz"),
        tarred({**PAIRS, "zeros": bytes(2_000_000)}, "w:xz"),
        # Links declare no size, and each becomes a copy.
        tarred({"a": bytes(90_000)}, "w:gz", *(link(f"l{n}", "a") for n in range(20))),
        tarred({"a": bytes(90_000)}, "w:gz", *(link(f"l{n}", "a", b"1") for n in range(20))),
        tarred(MANY, "w:gz"),  # empty files take room, too
    ],
)
def test_what_is_written_is_bounded(tmp_path, cache, small_bounds, content):
    refuses(tmp_path, cache, content, "MB or more, expected at most 1 MB")


def test_a_zip_cannot_write_more_than_it_declares(tmp_path, cache):
    content = false_size(deflated({**PAIRS, "zeros": bytes(2_000_000)}), 10)
    refuses(tmp_path, cache, content, "truncated or damaged zip archive")


@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_archive_of_images_is_within_the_bounds(tmp_path, small_bounds, kind):
    archive = tmp_path / "data.bin"
    files = {**PAIRS, **{f"train/{n}.jpg": random.Random(n).randbytes(500_000) for n in range(4)}}
    archive.write_bytes(ARCHIVES[kind](files))
    folder = locate(str(archive))
    assert folder is not None
    assert contents(folder) == files


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_an_archive_that_does_not_fit_on_the_disk_is_refused(tmp_path, cache, monkeypatch, kind):
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: SimpleNamespace(free=300_000))
    content = ARCHIVES[kind]({**BULKY, "more": random.Random(0).randbytes(10_000)})
    expected = (f"{cache}/extracted has 0.3 MB free", "set SEGACC_CACHE to a folder on another")
    refuses(tmp_path, cache, content, *expected)


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "data.zip").write_bytes(zipped())
    monkeypatch.setenv("SEGACC_CACHE", str(tmp_path / "file"))
    with pytest.raises(
        InputError, match=r"cannot be written .* set SEGACC_CACHE to another folder"
    ):
        load_dataset(str(tmp_path / "data.zip"))


# --- the study's sets: variables, dropped files, downloads


def test_the_variable_of_a_set_may_hold_a_folder_or_an_archive(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGACC_GLAND_128", str(write_folder(tmp_path / "folder")))
    assert counts(load_dataset("gland-128").rows) == COUNTS
    (tmp_path / "archive").write_bytes(ARCHIVES["tar.xz"]())
    monkeypatch.setenv("SEGACC_PEDESTRIAN", str(tmp_path / "archive"))
    assert counts(load_dataset("pedestrian").rows) == COUNTS


def test_a_variable_with_a_path_that_does_not_exist_is_refused(monkeypatch):
    monkeypatch.setenv("SEGACC_GLAND", "/no/such/place")
    with pytest.raises(InputError, match="SEGACC_GLAND=/no/such/place does not exist: set it to"):
        load_dataset("gland")


@pytest.mark.parametrize("place", ["gland.zip", "gland.tar.gz", "gland.anything", "gland"])
def test_an_archive_dropped_in_the_cache_replaces_the_download(cache, place):
    write_folder(cache / "downloads", {place: ARCHIVES["tar.gz"]()})
    assert counts(load_dataset("gland").rows) == COUNTS


def test_a_folder_dropped_in_the_cache_replaces_the_download(cache):
    write_folder(cache / "downloads" / "gland")
    assert counts(load_dataset("gland").rows) == COUNTS


def test_two_dropped_archives_of_one_set_are_named(cache):
    write_folder(cache / "downloads", {"gland.zip": zipped(), "gland.tar": tarred()})
    with pytest.raises(InputError, match=r"holds gland\.tar, gland\.zip, all for gland: keep one"):
        load_dataset("gland")


@pytest.mark.parametrize("name", CORPORA)
def test_without_a_network_the_message_lists_all_other_ways(cache, name):
    """conftest's proxy refuses every connection to elsewhere; the other sets' files do not help."""
    others = {f"{other}.zip": zipped() for other in CORPORA if other != name}
    write_folder(cache / "downloads", others)
    with pytest.raises(InputError) as error:
        load_dataset(name)
    message = str(error.value)
    assert message.startswith(f"{name} could not be downloaded from Google Drive (")
    assert f"https://drive.google.com/file/d/{CORPORA[name].drive_id}/view" in message
    assert f"set SEGACC_{name.upper().replace('-', '_')} to" in message
    assert f"save the archive as {cache}/downloads/{name}.zip" in message
    assert "\n" not in message


class FileServer(ThreadingHTTPServer):
    """Serves one file, with ranges if asked to, and can hang up in the middle."""

    content = zipped(BULKY)
    status = 200
    with_ranges = True
    cut_at: int | None = None  # no byte after this one is ever sent
    cuts = 10**9  # this often

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FileHandler)
        self.ranges: list[str | None] = []  # of each request
        self.url = f"http://127.0.0.1:{self.server_port}/some/file?name=gland.zip"


class FileHandler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        served, wanted = self.server, self.headers["Range"]
        served.ranges.append(wanted)
        start = int(wanted[len("bytes=") : -1]) if wanted and served.with_ranges else 0
        total = len(served.content)
        self.send_response(206 if start else served.status)
        self.send_header("Content-Length", str(total - start))
        self.send_header("ETag", f'"{hashlib.md5(served.content).hexdigest()}"')
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.end_headers()
        end = total
        if served.cut_at is not None and served.cuts:
            end = served.cut_at
            served.cuts -= 1
        self.wfile.write(served.content[start:end])

    def log_message(self, format: str, *args: object) -> None:
        pass


def running(server: ThreadingHTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    server = FileServer()
    monkeypatch.setenv("SEGACC_GLAND", server.url)
    for _ in running(server):
        yield server


BULKY_COUNTS = {"train": 10, "valid": 1}
MEGABYTES = zipped({**BULKY, "train/a.jpg": random.Random(0).randbytes(3 << 20)})


def test_a_url_is_downloaded_once_and_its_checksum_recorded(server, cache):
    assert counts(load_dataset("gland").rows) == BULKY_COUNTS
    assert counts(load_dataset("gland").rows) == BULKY_COUNTS
    assert server.ranges == [None]
    (archive,) = (path for path in (cache / "downloads").iterdir() if not path.suffix)
    record = archive.with_name(archive.name + ".sha256").read_text()
    assert record.strip() == hashlib.sha256(server.content).hexdigest()


def test_a_download_cut_in_the_middle_is_continued(server):
    server.content, server.cut_at, server.cuts = MEGABYTES, 2 << 20, 1
    assert counts(load_dataset("gland").rows) == BULKY_COUNTS
    assert server.ranges == [None, f"bytes={2 << 20}-"]


def test_a_download_that_failed_is_continued_by_the_next_run(server, cache):
    server.content, server.cut_at = MEGABYTES, 2 << 20
    with pytest.raises(InputError, match=r"gland could not be downloaded from http://.*run again"):
        load_dataset("gland")
    assert not [path for path in (cache / "downloads").iterdir() if not path.suffix]
    assert not (cache / "extracted").exists()

    server.cut_at, server.ranges = None, []
    assert counts(load_dataset("gland").rows) == BULKY_COUNTS
    assert server.ranges[-1] == f"bytes={2 << 20}-"
    assert not list(cache.rglob("*.part"))


def test_a_download_that_cannot_be_continued_starts_again(server):
    server.content, server.with_ranges = MEGABYTES, False
    server.cut_at, server.cuts = 2 << 20, 1
    assert counts(load_dataset("gland").rows) == BULKY_COUNTS


def test_parts_of_two_versions_of_a_file_are_not_joined(server):
    server.content, server.cut_at = MEGABYTES, 2 << 20
    with pytest.raises(InputError):
        load_dataset("gland")
    server.content, server.cut_at = zipped(), None
    assert counts(load_dataset("gland").rows) == COUNTS


def test_a_web_page_instead_of_the_archive_is_refused_and_deleted(server, cache):
    server.content = b"<!DOCTYPE html><title>Google Drive - Quota exceeded</title>"
    with pytest.raises(InputError, match=r"what came is not an archive.*HTML page.*SEGACC_GLAND"):
        load_dataset("gland")
    server.content = zipped()
    assert counts(load_dataset("gland").rows) == COUNTS


def test_a_server_error_is_in_the_message(server):
    server.status = 404
    with pytest.raises(InputError, match=r"could not be downloaded from http.*404.*in a browser"):
        load_dataset("gland")


def test_an_archive_that_no_longer_has_its_checksum_is_named(server, cache):
    load_dataset("gland")
    (archive,) = (path for path in (cache / "downloads").iterdir() if not path.suffix)
    archive.write_bytes(zipped())
    with pytest.raises(InputError, match=rf"{archive} has the SHA-256 .* delete it and run again"):
        load_dataset("gland")
    archive.unlink()
    assert counts(load_dataset("gland").rows) == BULKY_COUNTS


LOADED = """
from segacc.data.reading.sources import load_dataset
from segacc.errors import InputError
for name in {names}:
    try:
        data = load_dataset(name).rows
        print({{split: rows['name'][:] for split, rows in data.items()}})
        assert data["train"][0]["mask"]["bytes"] or open(data["train"][0]["mask"]["path"])
    except InputError as error:
        print(error)
"""


def python(code: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def printed(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return output


def test_only_one_of_several_processes_downloads_and_unpacks(server):
    server.content = MEGABYTES
    code = (
        "from segacc.data.reading.sources import *; print(len(load_dataset('gland').rows['train']))"
    )
    assert [printed(p) for p in [python(code) for _ in range(2)]] == ["10\n"] * 2
    assert server.ranges == [None]


class DriveProxy(BaseHTTPRequestHandler):
    """Stands between gdown and Google Drive and answers in its place."""

    tls: ssl.SSLContext

    def do_CONNECT(self) -> None:
        self.send_response(200)
        self.end_headers()
        with self.tls.wrap_socket(self.connection, server_side=True) as connection:
            DriveHandler(connection, self.client_address, self.server)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


class DriveHandler(BaseHTTPRequestHandler):
    """A quota page for Gland; for Pedestrian the question that Drive asks for large files."""

    def do_GET(self) -> None:
        file_id, confirmed = (parse_qs(urlsplit(self.path).query).get(k) for k in ("id", "confirm"))
        page = '<p class="uc-error-subcaption">Too many users have downloaded this file</p>'
        if file_id == [CORPORA["pedestrian"].drive_id]:
            page = (
                '<form id="download-form" action="https://drive.usercontent.google.com/download">'
                f'<input type="hidden" name="id" value="{file_id[0]}">'
                '<input type="hidden" name="confirm" value="t"></form>'
            )
        body = zipped() if confirmed else page.encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/zip" if confirmed else "text/html")
        if confirmed:
            self.send_header("Content-Disposition", 'attachment; filename="Penn-Fudan.zip"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl to make a certificate")
def test_google_drive(tmp_path, cache):
    hosts = "DNS:drive.google.com,DNS:drive.usercontent.google.com"
    subprocess.run(
        "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=drive -keyout key.pem -out cert.pem "
        f"-addext subjectAltName={hosts}".split(),
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    DriveProxy.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    DriveProxy.tls.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server = ThreadingHTTPServer(("127.0.0.1", 0), DriveProxy)
    for _ in running(server):
        process = python(
            LOADED.format(names=["pedestrian", "gland"]),
            https_proxy=f"http://127.0.0.1:{server.server_port}",
            REQUESTS_CA_BUNDLE=str(tmp_path / "cert.pem"),
            HOME=str(tmp_path),  # gdown keeps cookies there
        )
        pedestrian, gland = printed(process).splitlines()
    assert pedestrian == "{'train': ['a'], 'valid': ['b']}"
    assert "from Google Drive (Failed to retrieve file url: Too many users have downloaded" in gland
    assert f"save the archive as {cache}/downloads/gland.zip" in gland


# --- what the datasets library loads


def picture(mode: str, shade: int) -> bytes:
    buffer = io.BytesIO()
    Pillow.new(mode, (8, 8), shade).save(buffer, "PNG")
    return buffer.getvalue()


def rows(
    count: int,
    columns: tuple[str, str] = ("image", "label"),
    path: Callable[[int], str | None] = lambda index: None,
    **more: list[object],
) -> Dataset:
    images = [{"bytes": picture("RGB", index), "path": path(index)} for index in range(count)]
    masks = [{"bytes": picture("L", 255), "path": None} for _ in range(count)]
    features = Features(dict.fromkeys(columns, Image()))
    data = Dataset.from_dict(dict(zip(columns, (images, masks), strict=True)), features=features)
    for name, values in more.items():
        data = data.add_column(name, values)
    return data


def save(folder: Path, **splits: Dataset) -> str:
    DatasetDict(splits).save_to_disk(folder)
    return str(folder)


def test_a_converted_set_loads_unchanged_after_it_was_saved(tmp_path):
    folder = write_folder(tmp_path / "data")
    load_dataset(str(folder)).rows.save_to_disk(tmp_path / "saved")
    shutil.rmtree(folder)
    data = load_dataset(str(tmp_path / "saved")).rows
    assert data["train"][0]["image"]["bytes"] == b"image a"
    assert data["valid"]["name"][:] == ["b"]


@pytest.mark.parametrize("mask", ["mask", "label", "annotation", "segmentation"])
def test_columns_and_splits_of_other_names(tmp_path, mask):
    more = {"scene": [1, 2]}
    place = save(
        tmp_path / "saved",
        train=rows(2, ("img", mask), **more),
        validation=rows(1, ("img", mask)),
        extra=rows(1, ("img", mask)),
    )
    data = load_dataset(place).rows
    assert counts(data) == {"train": 2, "valid": 1}
    still = Image(decode=False)
    assert data["train"].features == Features(image=still, mask=still, name=Value("string"))
    assert data["train"][1]["image"]["bytes"] == picture("RGB", 1)
    assert data["train"][1]["mask"]["bytes"] == picture("L", 255)


@pytest.mark.parametrize(
    ("train", "names"),
    [
        (rows(2, name=["x", "y"]), ["x", "y"]),
        (rows(2, name=["x", "x"]), ["000000", "000001"]),
        (rows(2, name=[7, 8]), ["000000", "000001"]),
        (rows(2, path=lambda i: f"some/scene {i}.png"), ["scene 0", "scene 1"]),
        (rows(2, path=lambda i: "image.png"), ["000000", "000001"]),
        (rows(2), ["000000", "000001"]),
    ],
)
def test_rows_get_names_that_are_unique(tmp_path, train, names):
    data = load_dataset(save(tmp_path / "saved", train=train, val=rows(1))).rows
    assert data["train"]["name"][:] == names


def test_a_set_with_one_split_is_split(tmp_path, caplog):
    data = load_dataset(save(tmp_path / "saved", train=rows(20))).rows
    names = [f"{index:06d}" for index in range(20)]
    groups = [Group(name, (i,)) for i, name in enumerate(names)]
    by_hash = share_out(groups, None, exactly=False).parts
    parts = {split: [names[i] for i in part] for split, part in by_hash.items()}
    assert {split: rows["name"][:] for split, rows in data.items()} == parts
    assert "has one split: its 20 images were split into train " in caplog.text


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        ({"train": rows(1), "test": rows(2)}, r"has no valid split.*found train \(1 rows\), test"),
        ({"train": rows(1), "valid": rows(0)}, "a split is empty, write it again"),
        ({"train": rows(1, ("image", "depth"))}, r"one named mask.*image \(Image\), depth"),
        ({"train": Dataset.from_dict({"image": [1], "mask": [2]})}, r"image \(Value\)"),
    ],
)
def test_the_message_says_what_a_saved_set_lacks(tmp_path, splits, expected):
    with pytest.raises(InputError, match=expected):
        load_dataset(save(tmp_path / "saved", **splits))


def test_a_saved_set_without_splits_is_split(tmp_path):
    rows(20).save_to_disk(tmp_path / "saved")
    assert sum(counts(load_dataset(str(tmp_path / "saved")).rows).values()) == 20


def test_validation_is_taken_from_training_where_there_is_only_a_test_split(tmp_path, caplog):
    data = load_dataset(save(tmp_path / "saved", train=rows(30), test=rows(4))).rows
    assert counts(data)["test"] == 4
    assert counts(data)["train"] + counts(data)["valid"] == 30
    assert counts(data)["valid"] >= 1
    assert "saved has no valid split; of train, its 30 images were split into" in caplog.text


def test_parquet_files_say_their_split_by_their_names(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name, count in (("train-0-of-2", 2), ("train-1-of-2", 1), ("val-0-of-1", 1)):
        (folder / f"{name}.parquet").write_bytes(parquet(rows(count)))
    assert counts(load_dataset(str(tmp_path)).rows) == {"train": 3, "valid": 1}


@pytest.mark.parametrize("kind", ["struct", "bytes"])
def test_parquet_that_other_programs_wrote(tmp_path, kind):
    def column(files: list[bytes]) -> list[object]:
        return [{"bytes": file, "path": None} if kind == "struct" else file for file in files]

    images = column([picture("RGB", shade) for shade in range(9)])
    masks = column([picture("L", 255)] * 9)
    pq.write_table(pa.table({"image": images, "mask": masks}), tmp_path / "cells.parquet")
    data = load_dataset(str(tmp_path / "cells.parquet")).rows
    assert sum(counts(data).values()) == 9
    assert data["train"][0]["mask"]["bytes"] == picture("L", 255)


def test_a_damaged_parquet_file_is_named(tmp_path):
    (tmp_path / "cells.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match=r"cells\.parquet cannot be loaded by"):
        load_dataset(str(tmp_path / "cells.parquet"))


def test_parquet_beside_images_is_left_out(tmp_path, caplog):
    write_folder(tmp_path, {**PAIRS, "train/boxes.parquet": b"PAR1"})
    assert counts(load_dataset(str(tmp_path)).rows) == COUNTS
    assert "left out: 1 .parquet" in caplog.text


def test_a_damaged_saved_set_is_named(tmp_path):
    place = save(tmp_path / "saved", train=rows(1), valid=rows(1))
    (tmp_path / "saved/train/state.json").write_text("{")
    with pytest.raises(InputError, match=r"saved cannot be loaded by the datasets library"):
        load_dataset(place)


def test_a_saved_set_in_an_archive(tmp_path):
    save(tmp_path / "saved", train=rows(2), valid=rows(1))
    archive = shutil.make_archive(str(tmp_path / "saved"), "gztar", tmp_path / "saved")
    assert counts(load_dataset(archive).rows) == {"train": 2, "valid": 1}


def parquet(data: Dataset) -> bytes:
    buffer = io.BytesIO()
    data.to_parquet(buffer)
    return buffer.getvalue()


def test_the_hub(tmp_path):
    """In another process: the address of the Hub is read when its client is imported."""
    metadata = b"file_name,mask_file_name\na b.png,m.png\n"
    HubHandler.repositories = {
        "me/parquet": {
            "data/train-00000-of-00001.parquet": parquet(rows(2, path="x{}.jpg".format)),
            "data/validation-00000-of-00001.parquet": parquet(rows(1)),
            "README.md": b"# Cells",
        },
        "me/folder": {
            f"{split}/{name}": content
            for split in ("train", "validation", "test")
            for name, content in (
                *(("metadata.csv", metadata), ("a b.png", picture("RGB", 0))),
                ("m.png", picture("L", 255)),
            )
        },
        "me/words": {"data.csv": b"a,b\n1,2\n"},
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), HubHandler)
    names = ["me/parquet", "me/folder", "me/words", "me/missing"]
    environment = {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "hf"),
    }
    for _ in running(server):
        lines = printed(python(LOADED.format(names=names), **environment)).splitlines()
    assert lines[0] == "{'train': ['x0', 'x1'], 'valid': ['000000']}"
    assert lines[1] == "{'train': ['a b'], 'valid': ['a b'], 'test': ['a b']}"
    assert "it holds csv data, expected parquet or an image folder" in lines[2]
    assert "--dataset 'me/missing' is no folder or archive here" in lines[3]
    assert "doesn't exist on the Hub" in lines[3]
    assert len(lines) == 4

    # What was loaded before needs no network; what was not says how to go on.
    environment["HF_HUB_OFFLINE"] = "1"
    again, unknown = printed(
        python(LOADED.format(names=["me/parquet", "me/new"]), **environment)
    ).splitlines()
    assert again == lines[0]
    assert "where the Hub cannot be reached, fetch it elsewhere, write it with datasets'" in unknown
