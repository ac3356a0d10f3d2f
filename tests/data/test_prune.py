"""What the cache holds, and its removal."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock
from small import ROOT, write_blobs

from segacc.commands.data import cache as cache_command
from segacc.data.cache import once
from segacc.data.prepare import prepare
from segacc.data.prune import DAY, list_cache, prune_cache
from segacc.data.reading.convert import convert_folder
from segacc.data.rows import Source
from segacc.errors import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGACC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path):
    return convert_folder(write_blobs(tmp_path / "blobs", train=2, valid=1, test=1, size=16))


def used(folder: Path, days_ago: float) -> Path:
    """Set the time of the last use of something in the cache."""
    for path in [folder, *folder.glob("about*")]:
        os.utime(path, (time.time() - days_ago * DAY,) * 2)
    return folder


def folder_at(source, size: int) -> Path:
    """The folder of a prepared set that no one maps any more."""
    return prepare(Source(source), size).splits["train"].path.parent


def test_the_list_says_what_is_there_and_when_it_was_used(source, cache, tmp_path, capsys):
    used(folder_at(source, 16), days_ago=3)
    used(once(cache / "extracted" / "set-1", lambda f: (f / "x").write_bytes(b"xx")), days_ago=2)
    (cache / "prepared" / "0123").mkdir()  # as an earlier version named it
    (cache / "prepared" / "0123" / "train.arrow").write_bytes(bytes(100))
    (cache / "downloads").mkdir()
    (cache / "downloads" / "gland.zip").write_bytes(bytes(10))
    entries = {entry.what: entry for entry in list_cache()}
    assert [entry.used for entry in list_cache()] == sorted(
        (entry.used for entry in entries.values()), reverse=True
    )
    assert entries[f"{tmp_path / 'blobs'} at 16 px"].size > 4 * 16 * 16 * 4
    assert entries["prepared by an earlier version"].size == 100
    assert entries["an archive, unpacked"].size == 2
    cache_command()
    printed = capsys.readouterr().out
    assert "blobs at 16 px)" in printed and "gland.zip  (a download)" in printed


def test_a_set_that_is_used_again_counts_as_used_now(source):
    used(folder_at(source, 16), days_ago=3)
    prepare(Source(source), 16)
    (entry,) = list_cache()
    assert time.time() - entry.used < 100


def test_what_was_not_used_for_long_is_removed(source, cache, capsys):
    old, new = used(folder_at(source, 16), days_ago=31), folder_at(source, 24)
    cache_command(prune=True, days=30)
    assert not old.exists() and new.exists()
    assert "at 16 px" in capsys.readouterr().out
    assert len(list((cache / "prepared").glob("*.key"))) == 1
    assert folder_at(source, 16) == old  # made again


def test_what_was_used_longest_ago_is_removed_until_the_rest_is_small_enough(source, cache):
    folders = [used(folder_at(source, size), days_ago=size) for size in (16, 24, 32)]
    (cache / "downloads").mkdir()
    (cache / "downloads" / "gland.zip").write_bytes(bytes(10))
    sizes = {entry.path: entry.size for entry in list_cache()}
    prune_cache(None, sum(sizes.values()) - sizes[folders[2]] - 1)
    assert [folder.exists() for folder in folders] == [True, False, False]
    prune_cache(None, 0)
    assert [entry.path.name for entry in list_cache()] == ["gland.zip"]


def test_what_a_process_maps_or_makes_is_kept(source, cache):
    """A map of this process, and one of another one."""
    extracted = once(cache / "extracted" / "set-1", lambda f: (f / "x").write_bytes(b"xx"))
    mapped, folder = prepare(Source(source), 16), folder_at(source, 24)
    with FileLock(cache / "prepared" / "some.key.lock"):  # as while a set is prepared
        removed, in_use = prune_cache(0, None)
        assert {entry.path for entry in removed} == {folder}
        assert {entry.path for entry in in_use} == {extracted, mapped.splits["train"].path.parent}
    folder = mapped.splits["train"].path.parent
    program = (
        "import sys; from pathlib import Path; from segacc.data.split import open_split\n"
        f"split = open_split(Path({str(folder)!r}) / 'train.arrow'); print('open', flush=True)\n"
        "sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, **pipes) as other:
        other.stdout.readline()
        del mapped
        assert [entry.path for entry in prune_cache(0, None)[1]] == [folder]
        other.communicate()
    assert [entry.path for entry in prune_cache(0, None)[0]] == [folder]


@pytest.mark.parametrize("flags", [{"prune": True}, {"days": 3}, {"gb": 1.0}])
def test_pruning_needs_an_age_or_a_size(flags):
    with pytest.raises(InputError, match="--prune goes with --days or --gb"):
        cache_command(**flags)
