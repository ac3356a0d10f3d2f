"""The card of a model on the Hub: what it is, how to use it, data, recipe, scores, licence."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segacc.config.flags import chosen
from segacc.config.options import Reading
from segacc.config.records import read_run_config, read_run_record
from segacc.config.sizes import size_in_words, size_of_json, size_text
from segacc.config.train import TrainConfig
from segacc.data.reading.sources import CORPORA
from segacc.hub.scores import ScoredSplit, eval_results
from segacc.hub.use import how_to_use
from segacc.labels import Labels
from segacc.runs.epochs import read_epochs

MARK = "<!-- Below this line the text is yours: a push of segacc keeps it. -->"
YOURS = """## Licence

To fill in: write a line such as `license: apache-2.0` into the metadata at the top of this file.
What the model may be used for depends on the licences of the data set and of the pretrained
weights, too.

## Intended use and limits

To fill in: for what images the model is meant, and where it fails.
"""
NO_LICENCE = "# license: to fill in, such as apache-2.0"
OURS = {"library_name", "pipeline_tag", "tags", "datasets", "base_model", "model-index"}
"""keys of the metadata that a push writes anew; it keeps all others"""
NOT_RECIPE = {
    *(field.name for field in dataclasses.fields(Reading)),
    *("dataset", "output_dir", "resume", "debug", "tracker", "pictures", "workers"),
    *("save_every", "keep", "push_to_hub", "public", "name", "project", "tags", "config"),
}


@dataclass(frozen=True)
class Earlier:
    """The content of the card that the repository already has."""

    metadata: dict[str, Any]
    yours: str
    """the text that a push keeps"""


def read_earlier(card: str | None) -> Earlier:
    """Read the README.md of a repository; it is None if there is none. A card that segacc did not
    write is kept as a whole."""
    from huggingface_hub import RepoCard

    if not card:
        return Earlier({}, YOURS)
    read = RepoCard(card, ignore_metadata_errors=True)
    text = read.text.partition(MARK)[2] if MARK in read.text else read.text
    return Earlier(read.data.to_dict(), text.strip() + "\n")


def hub_card(
    run: Path,
    repository: str,
    files: Iterable[str],
    labels: Labels,
    splits: Sequence[ScoredSplit],
    earlier: Earlier,
) -> str:
    """The text of README.md.

    Args:
        repository: owner/name.
        files: all paths that the repository will hold.
        labels: the classes of the model.
        splits: on which it was scored.
        earlier: the content of the card that it replaces.
    """
    config, record = read_run_config(run), read_run_record(run)
    name = public_name(config.dataset)
    parts = [
        metadata(config, record, labels, splits, repository, earlier),
        f"# {repository.rpartition('/')[2]}\n",
        f"{config.model}{f' with {config.encoder}' if config.encoder else ''} for "
        f"{labels.classes} classes, trained on {name} by segacc "
        f"{record.get('versions', {}).get('segacc', '')}.\n",
        how_to_use(repository, set(files), config.size, labels),
        about_data(name, config, record, labels, splits),
        about_recipe(run, config, record),
        "## Scores\n",
        *(table_of(one) for one in splits),
    ]
    if "overview.png" in files:
        parts.append("![image, mask and prediction of some test images](overview.png)\n")
    return "\n".join([*parts, MARK, "", earlier.yours])


def metadata(
    config: TrainConfig,
    record: dict[str, Any],
    labels: Labels,
    splits: Sequence[ScoredSplit],
    repository: str,
    earlier: Earlier,
) -> str:
    """The YAML at the top, with the scores; a comment stands where a licence is missing."""
    from huggingface_hub import ModelCardData

    kept = {key: value for key, value in earlier.metadata.items() if key not in OURS}
    dataset, weights = public_name(config.dataset), config.weights or "none"
    fingerprint = record.get("data", {}).get("fingerprint", "")
    results = eval_results(list(splits), dataset, fingerprint, labels.classes)
    tags = ["segacc", "semantic-segmentation", *(earlier.metadata.get("tags") or [])]
    data = ModelCardData(
        library_name="segacc",
        pipeline_tag="image-segmentation",
        tags=tags,
        datasets=[dataset] if is_hub_id(config.dataset) else None,
        base_model=weights if is_hub_id(weights) else None,
        model_name=repository.rpartition("/")[2],
        eval_results=results or None,
        **kept,
    )
    if not results:
        data.pop("model_name")
    comment = "" if kept.get("license") else NO_LICENCE + "\n"
    return f"---\n{comment}{data.to_yaml().strip()}\n---\n"


def about_data(
    name: str,
    config: TrainConfig,
    record: dict[str, Any],
    labels: Labels,
    splits: Sequence[ScoredSplit],
) -> str:
    """The data set and its classes, with their colours."""
    data = record.get("data", {})
    images = ", ".join(f"{split} {count:,}" for split, count in data.get("images", {}).items())
    ious = dict(splits[0].per_class) if splits else {}
    lines = [
        "## Data\n",
        f"`{name}`, images: {images or 'not stored'}; {size_in_words(config.size or 0)}; "
        f"fingerprint `{data.get('fingerprint', '')[:16]}`.\n",
        f"| number | class | colour |{' iou | 95 % interval |' if ious else ''}",
        f"|---|---|---|{'---|---|' if ious else ''}",
    ]
    for number, (own, colour) in enumerate(zip(labels.names, labels.colours, strict=True)):
        line = f"| {number} | {cell(own)} | `#{bytes(colour).hex()}` |"
        if score := ious.get(own):
            line += f" {score.value:.4f} | {score.interval} |"
        lines.append(line + (" | |" if ious and not score else ""))
    return "\n".join(lines) + "\n"


def about_recipe(run: Path, config: TrainConfig, record: dict[str, Any]) -> str:
    """The command that trains such a model, and its number of epochs."""
    epochs = read_epochs(run)
    best = max(epochs, key=lambda line: line["valid_iou"])["epoch"] if epochs else 0
    versions = ", ".join(f"{name} {of}" for name, of in record.get("versions", {}).items())
    commit = f"; commit {record['git_commit']}" if record.get("git_commit") else ""
    return (
        f"## Recipe\n\n```\nsegacc train --dataset DATA {' '.join(recipe_flags(config))}\n```\n\n"
        f"Best epoch {best} of {len(epochs)}, on {record.get('device', 'a device not stored')}, "
        f"processes: {record.get('processes', 1)}. Versions: {versions}{commit}.\n"
    )


def recipe_flags(config: TrainConfig) -> list[str]:
    """The flags that train such a model on data of one's own, without local paths."""
    flags = []
    for name, value in chosen(dataclasses.replace(config, dataset="DATA")).items():
        if name in NOT_RECIPE:
            continue
        flag = "--" + name.replace("_", "-")
        if value is True:
            flags.append(flag)
        elif name == "size":
            flags.append(f"{flag} {size_text(size_of_json(value))}")
        else:
            flags.append(f"{flag} {shlex.quote(public_name(str(value)))}")
    return flags


def table_of(one: ScoredSplit) -> str:
    """The scores of a split as a table, with an explanation of each."""
    at = "" if one.threshold is None else f", threshold {one.threshold:g}"
    lines = [
        f"Split `{one.split}`, {one.images} full images{at}. Intervals: 95 % of 2000 resamples of "
        "the images.\n",
        *(f"Note: {note}.\n" for note in one.notes),
        "| score | value | 95 % interval | what it is |",
        "|---|---|---|---|",
    ]
    for name, score in one.scores.items():
        what = cell(one.formulas.get(name, ""))
        lines.append(f"| {name} | {score.value:.4f} | {score.interval} | {what} |")
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    """A text inside a table."""
    return " ".join(text.split()).replace("|", r"\|")


def is_hub_id(value: str) -> bool:
    """Whether a data set or weights are those of a repository of the Hub."""
    named = re.fullmatch(r"[\w.-]+/[\w.-]+", value) is not None and value not in CORPORA
    return named and not value.startswith(".") and not os.path.exists(value)


def public_name(value: str) -> str:
    """Return a name that tells nothing about this machine: the last part of a path, or a Hub id."""
    is_path = os.path.isabs(value) or os.path.exists(value) or value.startswith((".", "~"))
    return Path(value).name if is_path or value.count("/") > 1 else value
