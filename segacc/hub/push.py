"""push_run(): the best model of a run to the Hub, in one commit with its card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segacc.config.records import read_run_config
from segacc.config.train import OWN, is_own
from segacc.errors import InputError, quoted
from segacc.hub.access import FLAG, Repository, look_at, refusals
from segacc.hub.card import hub_card, read_earlier
from segacc.hub.scores import scored_splits
from segacc.hub.use import FILES, INT8
from segacc.labels import Labels, colours_for

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

CARD, CONFIG, WEIGHTS, OVERVIEW = "README.md", "config.json", "model.safetensors", "overview.png"


def push_run(
    run: Path,
    name: str,
    public: bool = False,
    exports: Mapping[str, Path] | None = None,
    pictures: bool = False,
) -> str:
    """Push the best model of a run, with its card; what is there already is not sent again.

    All comes in one commit, so that the repository never holds half of it. An upload that was
    interrupted goes on when the same is called again.

    Args:
        name: owner/name of the repository, which is made if it is not there.
        public: whether all may see it.
        exports: files and folders that `segacc export` has written of this model, by their paths in
            the repository, of FILES.
        pictures: push RUN/test/overview.png too, which shows images of the data set.

    Returns:
        what was done, in sentences for the user.

    Raises:
        InputError: it could not be pushed. The run is as it was.
    """
    from huggingface_hub import HfApi

    check_network(read_run_config(run).model)
    files = files_of(run, exports or {}, pictures)
    there = look_at(name, public)
    labels = labels_of(files[CONFIG])
    splits, left_out = scored_splits(run, labels)
    stale = stale_files(there, files)
    paths = {*there.files, *files} - {*stale}
    start = f"{FLAG} {name}: the model could not be pushed"
    again = "give the same command again" if exports else how_to_push(run, name, public)
    with refusals(start, again):
        text = earlier_card(there)
    earlier = read_earlier(text)
    card = hub_card(run, name, paths, labels, splits, earlier)
    with refusals(start, again):
        api = HfApi()
        url = api.create_repo(name, private=not public, exist_ok=True)
        api.create_commit(
            name, operations(files, card, stale), commit_message="Push a model trained by segacc"
        )
    said = [f"pushed: {url}, {'public' if public else 'private'}: {', '.join([*files, CARD])}"]
    if stale:
        said.append(f"removed there, since they were of another model: {', '.join(stale)}")
    said += [left_out] if left_out else []
    if not earlier.metadata.get("license"):
        said.append("to fill in on its card: the licence, the intended use and the limits")
    return "\n".join(said)


def check_network(model: str) -> None:
    """Raises InputError where --model is a network of a program, whose weights nobody else could
    open."""
    if is_own(model):
        raise InputError(
            f"{FLAG}: the network {model.removeprefix(OWN)} is Python code of your program, which "
            "a repository of a model would not hold: leave the flag out, and share the run's "
            "folder best with the code."
        )


def how_to_push(run: Path, name: str, public: bool) -> str:
    """The end of a sentence that says how to push a run later."""
    flags = f"{FLAG} {name}" + (" --public" if public else "")
    return f"the run is whole; push it with: segacc export {quoted(run)} {flags}"


def files_of(run: Path, exports: Mapping[str, Path], pictures: bool) -> dict[str, Path]:
    """The files to push, by their paths in the repository.

    Raises:
        InputError: one is missing.
    """
    files = {file: run / "best" / file for file in (CONFIG, WEIGHTS)}
    missing = [path for path in files.values() if not path.is_file()]
    if missing:
        raise InputError(
            f"{FLAG}: {missing[0]} is not there: give the folder of a run that has finished its "
            "first epoch."
        )
    for place, path in exports.items():
        if path.is_dir():
            own = [file for file in sorted(path.rglob("*")) if file.is_file()]
            files |= {f"{place}/{file.relative_to(path).as_posix()}": file for file in own}
        else:
            files[place] = path
    if pictures:
        overview = run / "test" / OVERVIEW
        if not overview.is_file():
            raise InputError(
                f"--push-pictures: {overview} is not there: make it with `segacc evaluate "
                f"{quoted(run)}`, or leave the flag out."
            )
        files[OVERVIEW] = overview
    return files


def labels_of(config: Path) -> Labels:
    """The classes that a model's config.json names; by numbers where it names none."""
    values = json.loads(config.read_text(encoding="utf-8"))
    if values.get("labels") or values.get("classes", 1) == 1:
        return Labels.from_config(values.get("labels"))
    names = tuple(f"class {number}" for number in range(values["classes"]))
    return Labels(names, colours_for(names))


def stale_files(there: Repository, files: Mapping[str, Path]) -> list[str]:
    """Return files of another model in the repository: exports and pictures, if its weights
    differ."""
    theirs = there.files.get(WEIGHTS)
    if theirs is None:
        return []
    with files[WEIGHTS].open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() == theirs:
            return []
    places = {*FILES.values(), INT8, OVERVIEW}
    return [path for path in there.files if path.split("/")[0] in places and path not in files]


def earlier_card(there: Repository) -> str | None:
    """The README.md of the repository, if it has one."""
    from huggingface_hub import hf_hub_download

    if CARD not in there.files:
        return None
    return Path(hf_hub_download(there.name, CARD)).read_text(encoding="utf-8")


def without_origin(config: Any) -> Any:
    """Return a config without the place that it was read from, which may be a path of this
    machine."""
    if isinstance(config, dict):
        kept = config.items()
        return {key: without_origin(value) for key, value in kept if key != "_name_or_path"}
    return config


def operations(
    files: Mapping[str, Path], card: str, stale: list[str]
) -> list[CommitOperationAdd | CommitOperationDelete]:
    """Return what the commit adds and removes."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    config = without_origin(json.loads(files[CONFIG].read_text(encoding="utf-8")))
    added = [
        CommitOperationAdd(CONFIG, json.dumps(config, indent=2, sort_keys=True).encode()),
        *(CommitOperationAdd(place, path) for place, path in files.items() if place != CONFIG),
    ]
    removed = [CommitOperationDelete(path) for path in stale]
    return [*added, CommitOperationAdd(CARD, card.encode()), *removed]
