"""Where a data set comes from: a name of the study, a demo set, a folder, an archive, the Hub.

The study's archives are on Google Drive, which often refuses downloads (quota). Each can be
replaced, in this order: by the environment variable `SEGACC_<NAME>` (a folder, an archive or an
http(s) URL), or by a folder or an archive of any type that is put into the cache (see
`segacc.data.cache.cache_dir`) as `downloads/<name>` or `downloads/<name>.<anything>`.
"""

from __future__ import annotations

import difflib
import hashlib
import logging
import os
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from segacc.config.names import A_DATASET, check_place
from segacc.config.options import NO_FLAGS, Reading
from segacc.data.cache import cache_dir, cache_errors, once
from segacc.data.classes.choose import class_files, coding_of
from segacc.data.reading import archives
from segacc.data.reading.convert import rows_of, scan_to_load
from segacc.data.reading.division.divide import Division
from segacc.data.reading.pairing import EXTENSIONS
from segacc.data.rows import Source
from segacc.errors import InputError


@dataclass(frozen=True)
class Corpus:
    """A data set of the study."""

    name: str
    drive_id: str
    sha256: str | None = None  # of the archive; None: not known yet

    @property
    def variable(self) -> str:
        return "SEGACC_" + self.name.upper().replace("-", "_")

    @property
    def page(self) -> str:
        return f"https://drive.google.com/file/d/{self.drive_id}/view"


SAVED = ("dataset_dict.json", "state.json")
"""What `save_to_disk` of a DatasetDict or a Dataset writes."""

CORPORA = {
    corpus.name: corpus
    for corpus in (
        Corpus("pedestrian", drive_id="12Wn7ZkrYYFphrYCJniI0FRWBMaoutQdw"),
        Corpus("gland", drive_id="1hBywB14KQ_B4kboovO_FYVd-RosWruky"),
        Corpus("gland-128", drive_id="1SRNW28GolYUYOUrdDNnMJj0F7EJKDu8v"),
    )
}


def load_dataset(dataset: str, reading: Reading = NO_FLAGS) -> Source:
    """The data set that `--dataset` names, with splits train, valid and perhaps test, and what its
    masks mean.

    Columns: image and mask, `datasets.Image(decode=False)`, so rows hold {"path": str | None,
    "bytes": bytes | None}; name, unique in its split. Many processes may call this at once: one
    of them downloads and unpacks.

    Raises:
        InputError: the name, the download, the archive or the data set's form is wrong.
    """
    folder = locate(dataset)
    if folder and not holds_rows(folder):
        return _from_folder(folder, reading)
    if reading.pairs:
        raise InputError(
            f"--pairs {reading.pairs[0]} has no effect on --dataset {dataset}, whose rows hold "
            "each image and its mask: leave it out"
        )
    from segacc.data.reading.tables.load import from_hub, from_saved

    return from_saved(folder, reading) if folder else from_hub(dataset, reading)


def _from_folder(folder: Path, reading: Reading) -> Source:
    require_no_columns(folder, reading)
    scan = scan_to_load(folder, reading.pairs, class_files(reading, folder))
    coding = coding_of(reading, folder, scan.categories)
    return Source(rows_of(scan, Division(coding, reading.group_by, reading.fold)), coding)


def require_no_columns(folder: Path, reading: Reading) -> None:
    """Raises InputError for flags that name columns where there are files."""
    for flag, column in (
        ("--image-column", reading.image_column),
        ("--mask-column", reading.mask_column),
    ):
        if column:
            raise InputError(
                f"{flag} {column} has no effect on {folder}, which holds images and masks as "
                "files: leave it out (--pairs says which belong together)"
            )


def locate(dataset: str) -> Path | None:
    """The folder with the data set, downloaded, drawn or unpacked if needed; None for a Hub id.

    `dataset` is a corpus or demo name, a folder of images and masks, or one that `holds_rows`
    accepts, an archive of either, a parquet file, or a Hub id `owner/name`. A name wins over a
    folder of the same name (write `./gland` for the folder); a message says so.

    Raises:
        InputError: `dataset` is none of these, or it cannot be downloaded, unpacked or written.
    """
    from segacc.data.demo.sets import DEMO_NAMES, DEMO_VERSION, write_demo

    if dataset in {*CORPORA, *DEMO_NAMES} and os.path.isdir(dataset):
        logging.getLogger("segacc").warning(
            f"--dataset {dataset} is segacc's own set of this name, not the folder {dataset} here: "
            f"write ./{dataset} for the folder"
        )
    if dataset in DEMO_NAMES:
        target = cache_dir() / "demo" / f"{dataset}-{DEMO_VERSION}"
        return once(target, lambda folder: write_demo(dataset, folder))
    path = _corpus(CORPORA[dataset]) if dataset in CORPORA else Path(dataset).expanduser()
    if dataset and os.path.exists(path):  # Path.exists raises where a folder may not be read
        return path if path.is_dir() or is_parquet(path) else archives.extracted(path)
    check_place("--dataset", dataset, A_DATASET)
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", dataset):
        return None
    known = [*CORPORA, *DEMO_NAMES]
    near = difflib.get_close_matches(dataset, known, n=1)
    hint = f"did you mean {near[0]!r}?: " if near else ""
    raise InputError(
        f"--dataset {dataset!r} is neither a known set ({hint}{', '.join(known)}), nor a folder, "
        "an archive or a Hub id (owner/name)"
    )


def holds_rows(path: Path) -> bool:
    """Whether images and masks lie in rows, which the `datasets` library reads: a parquet file, a
    folder of these without images, or a folder that `save_to_disk` has written."""
    if is_parquet(path) or any((path / name).is_file() for name in SAVED):
        return True
    found = False
    for _, _, files in os.walk(path):
        types = {os.path.splitext(file)[1].lower() for file in files if not file.startswith(".")}
        if types & EXTENSIONS:
            return False
        found |= ".parquet" in types
    return found


def is_parquet(path: Path) -> bool:
    """Whether a file is a parquet file, by its content."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(4) == b"PAR1"


def resolve(dataset: str) -> str:
    """Return where `locate` has found a data set: the absolute path of its folder or archive, which
    is valid from any folder and without the variable; a demo name or a Hub id stays.
    """
    if is_drawn(dataset):
        return dataset
    path = _corpus(CORPORA[dataset]) if dataset in CORPORA else Path(dataset).expanduser()
    return os.path.abspath(path) if os.path.exists(path) else dataset


def is_drawn(dataset: str) -> bool:
    """Whether the data set is drawn by code."""
    from segacc.data.demo.sets import DEMO_NAMES

    return dataset in DEMO_NAMES


def _corpus(corpus: Corpus) -> Path:
    """The corpus as a folder or an archive: from its variable, the cache, or the network."""
    value = os.environ.get(corpus.variable)
    if value and re.match(r"https?://", value):
        return _fetched(corpus, url=value)
    if value:
        path = Path(value).expanduser()
        if not path.exists():
            raise InputError(
                f"{corpus.variable}={value} does not exist: set it to a folder, an archive or an "
                "http(s) URL"
            )
        return path
    downloads = cache_dir() / "downloads"
    dropped = [*downloads.glob(corpus.name), *downloads.glob(f"{corpus.name}.*")]
    if len(dropped) > 1:
        names = ", ".join(sorted(path.name for path in dropped))
        raise InputError(f"{downloads} holds {names}, all for {corpus.name}: keep one of them")
    return dropped[0] if dropped else _fetched(corpus, url=None)


def _fetched(corpus: Corpus, url: str | None) -> Path:
    """The downloaded archive (from Google Drive without a URL), checked against its checksum."""
    source = url or corpus.drive_id
    key = hashlib.sha256(source.encode()).hexdigest()[:12]
    target = cache_dir() / "downloads" / f"{corpus.name}-{key}"
    record = target.with_name(target.name + ".sha256")
    if not target.exists():
        from filelock import FileLock

        with cache_errors(target), FileLock(str(target) + ".lock"):
            if not target.exists():  # another process may have been faster
                _download(corpus, url, target, record)
    # The checksum takes a read of the whole archive, so only an archive that is still to be
    # unpacked is checked.
    if not archives.is_extracted(target):
        found = _sha256(target)
        recorded = record.read_text().strip() if record.exists() else found
        expected = (None if url else corpus.sha256) or recorded
        if found != expected:
            raise InputError(
                f"{target} has the SHA-256 {found}, expected {expected}: it was changed or "
                "damaged, delete it and run again"
            )
    return target


def _download(corpus: Corpus, url: str | None, target: Path, record: Path) -> None:
    """Download to a file beside `target`, and rename it once it is known to be an archive.

    An interrupted download is continued.
    """
    import gdown
    import requests
    from gdown.exceptions import DownloadError

    aside = target.with_name(target.name + ".download")

    def download() -> None:
        gdown.download(
            url=url,
            id=None if url else corpus.drive_id,
            output=str(aside),
            resume=True,
            timeout=60,
            retries=2,
        )

    try:
        try:
            download()
        except DownloadError as error:
            # The server cannot continue a download, or its file has changed: start again.
            if "byte range" not in str(error):
                raise
            for part in aside.parent.glob(f"{aside.name}*.part"):
                part.unlink()
            download()
    except (DownloadError, requests.RequestException) as error:
        reason = textwrap.shorten(str(error), 160, placeholder=" ...")
        raise _no_download(corpus, url, reason) from error
    try:
        archives.require_archive(aside)
    except InputError as error:
        aside.unlink()
        raise _no_download(corpus, url, f"what came is not an archive: {error}") from error
    record.write_text(_sha256(aside) + "\n")
    aside.rename(target)


def _no_download(corpus: Corpus, url: str | None, reason: str) -> InputError:
    return InputError(
        f"{corpus.name} could not be downloaded from {url or 'Google Drive'} ({reason}): run again "
        f"to continue, or open {corpus.page} in a browser and save the archive as "
        f"{cache_dir() / 'downloads' / corpus.name}.zip (any archive type), or set "
        f"{corpus.variable} to a folder, an archive or an http(s) URL; for images of your own, "
        "give their folder as --dataset"
    )


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
