"""The commands of `segacc` on data sets: prepare, check and cache.

Libraries are imported by the commands that need them, so that every --help is instant.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from segacc.command_line import Groups
from segacc.config.defaults import fill
from segacc.config.options import NO_FLAGS, SIZE_ARG, Reading, ReadingFlags
from segacc.config.sizes import AnySize, check_size, sides_in_words, size_text
from segacc.config.train import ENCODER, RECIPES, Flips, TrainConfig
from segacc.errors import InputError, command, disk_errors, plural

if TYPE_CHECKING:
    from segacc.data.audit.audit import Audit
    from segacc.data.audit.draws import Draws
    from segacc.data.loading.transforms import Pipeline

Dataset = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATASET")]

PICTURES = 3  # that the terminal shows
FEW = 10 * TrainConfig.batch_size  # images: less than ten steps in an epoch

CHECK_GROUPS: Groups = {"page": ("page", "augment", "crop", "flips")}
"""The groups in which --help shows the flags of `check`."""


def prepare(
    dataset: Dataset,
    size: Annotated[AnySize, *SIZE_ARG] = 256,
    save: Path | None = None,
    reading: ReadingFlags = NO_FLAGS,
) -> None:
    """Fetch, convert and resize a data set ahead of training.

    Args:
        dataset: what `segacc train` takes as --dataset.
        size: what `segacc train` takes as --size.
        save: also write the images as they are, the masks and the names of the classes as a
            datasets.DatasetDict (for `load_from_disk` and `push_to_hub`) into this new folder.
        reading: how the files are read.
    """
    reading.check()
    check_size(size, None, None)
    if save is not None and save.exists() and (save.is_file() or any(save.iterdir())):
        raise InputError(f"--save {save} is not empty: give a new folder.")
    from segacc.data.prepare import prepare as prepare_dataset
    from segacc.data.reading.sources import load_dataset

    source = load_dataset(dataset, reading)
    prepared = prepare_dataset(source, size)
    for name, split in prepared.splits.items():
        print(f"{name:<6} {len(split):>6} images of {sides_in_words(size)} in {split.path}")
    if prepared.value_range:
        low, high = prepared.value_range
        print(f"images of 16 bits per channel: {low}..{high} become 0..255")
    print(f"fingerprint {prepared.fingerprint}")
    if save is not None:
        from segacc.data.classes.saved import save as save_classes

        save_classes(source, save)
        print(f"written: {save} (--dataset {save}, or load_from_disk and push_to_hub)")


def check(
    dataset: Dataset,
    size: Annotated[AnySize | None, *SIZE_ARG] = None,
    reading: ReadingFlags = NO_FLAGS,
    augment: Annotated[str | None, tyro.conf.arg(metavar="flips|light|strong|FILE")] = None,
    crop: Annotated[int | None, tyro.conf.arg(metavar="PX")] = None,
    flips: Annotated[Flips | None, tyro.conf.arg(metavar="none|h|hv|d4")] = None,
    all_names: bool = False,
    page: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    write_classes: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
) -> int:
    """Say what a data set holds, and what is wrong with it.

    Args:
        dataset: what `segacc train` takes as --dataset.
        size: what `segacc train` takes as --size; also look for small objects that the resize to it
            removes or breaks.
        reading: how the files are read.
        augment: what `segacc train` takes as --augment; the page then shows what training will see.
        crop: what `segacc train` takes as --crop, for --augment.
        flips: what `segacc train` takes as --flips, for --augment.
        all_names: name every file, not the first three of each kind.
        page: also write a page with the findings, the balance of the classes, and examples of each
            class in its colour to this file, such as check.html (the default with --augment).
        write_classes: only look at what the masks hold, and write a list of classes into this new
            file, for --classes; you then name the colours and values that segacc does not know.

    Returns:
        1 when there is an error that stops training, else 0.
    """
    reading.check()
    _check_flags(size, augment, crop, flips, write_classes)
    if write_classes is not None:
        return _write_classes(dataset, reading, write_classes)
    from segacc.data.audit.audit import audit
    from segacc.data.audit.findings import format_findings

    config = pipeline = None
    if augment is not None:
        from segacc.data.loading.pipelines import find_pipeline

        config = fill(TrainConfig(dataset, size=size, crop=crop, flips=flips, augment=augment))
        pipeline = find_pipeline(augment, size=config.size, crop=config.crop)
    found = audit(dataset, reading, None if isinstance(size, str) else size)
    _describe(found, has_page=page is not None or augment is not None)
    print(format_findings(found.findings, all_names))
    failed = any(finding.severity == "error" for finding in found.findings)
    draws: list[Draws] = []
    if config is not None:
        page = page or Path("check.html")
        if failed:
            print("what training will see is not shown, since errors stop the training")
        else:
            draws = _draws(config, reading, pipeline)
    if page is not None:
        _write_page(page, dataset, found, draws)
    if not failed:
        given = _flags_of(size=size, crop=crop, flips=flips, augment=augment)
        print(how_to_train(dataset, reading, len(found.splits["train"]), given))
    return int(failed)


def _flags_of(**values: AnySize | str | None) -> list[str]:
    """Return the flags with these names, except those that are None."""
    given = {name: value for name, value in values.items() if value is not None}
    texts = {n: size_text(v) if isinstance(v, tuple) else str(v) for n, v in given.items()}
    return [word for name, text in texts.items() for word in (f"--{name}", text)]


def how_to_train(dataset: str, reading: Reading, images: int, given: Sequence[str] = ()) -> str:
    """Return the next command, and the reason if it is not the shortest one: there are few images
    to train on; or the machine has the weights of an encoder other than the default, so that
    training with it works without a network.

    Args:
        images: in train.
        given: flags of `segacc check` with which training sees the same data as the check.
    """
    from segacc.models.weights.packaged import encoder_at_hand

    flags, notes = ["--dataset", dataset, *reading.to_flags(), *given], []
    if encoder := encoder_at_hand(ENCODER):
        flags += ["--encoder", encoder]
        notes.append(f"its weights are installed here; those of {ENCODER} would be downloaded")
    if images < FEW:
        flags += ["--recipe", "strong"]
        notes.append(
            f"{plural(images, 'image')} to train on are few: this recipe takes more steps, and "
            "changes images more"
        )
    if images < RECIPES["strong"]["batch_size"]:
        flags += ["--batch-size", str(images)]
    line = f"next: {command('train')} {shlex.join(flags)}"
    return "\n".join([line, *(f"      ({note})" for note in notes)])


def _check_flags(
    size: AnySize | None,
    augment: str | None,
    crop: int | None,
    flips: str | None,
    write_classes: Path | None,
) -> None:
    """Raises InputError for a size that is too small, and for flags that have no effect."""
    check_size(size, crop, flips)
    if augment is None and (crop, flips) != (None, None):
        raise InputError(
            "--crop and --flips have no effect without --augment, which has the page show what "
            "training will see: add --augment flips, or leave them out."
        )
    if augment is not None and write_classes is not None:
        raise InputError("--augment has no effect beside --write-classes: leave one of them out.")


def _describe(found: Audit, has_page: bool) -> None:
    """Print what the data are, and if the terminal can show them, three images of the first
    split."""
    from segacc.data.audit.summary import summary
    from segacc.report.check_page import pictures_of
    from segacc.runtime.terminal import show_pictures

    if not found.samples:
        return
    print(summary(found), end="\n\n")
    shown = show_pictures(pictures_of(found, found.samples[0].split, PICTURES))
    if not has_page:
        what = "larger pictures" if shown else "pictures"
        print(f"{what} of images with their masks: --page check.html")
    print()


def _write_page(path: Path, dataset: str, found: Audit, draws: list[Draws]) -> None:
    from segacc.report.check_page import write_check_page

    with disk_errors(path, remedy="give another file."):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_check_page(path, dataset, found, draws)
    print(f"look at: {path}")


def _draws(config: TrainConfig, reading: Reading, pipeline: Pipeline | None) -> list[Draws]:
    """Return what a training on the data set will see of some of its images."""
    from segacc.data.audit.draws import draw_samples
    from segacc.data.prepare import prepare as prepare_dataset
    from segacc.data.reading.sources import load_dataset
    from segacc.training.checks import check_shapes

    assert config.size is not None
    prepared = prepare_dataset(load_dataset(config.dataset, reading), config.size)
    train = prepared.splits["train"]
    if not config.crop:
        check_shapes(config, train)
    return draw_samples(config, train, pipeline)


def _write_classes(dataset: str, reading: Reading, path: Path) -> int:
    if path.exists():
        raise InputError(f"--write-classes {path} exists: give a new file.")
    from segacc.data.audit.audit import open_for_check
    from segacc.data.audit.classes import propose_classes
    from segacc.data.classes.lists import NamedClass, write_list

    _, _, splits, coding = open_for_check(dataset, Reading(reading.pairs))
    if coding.shapes:
        text = write_list([NamedClass(name) for name in coding.labels.names])
        said = f"the categories of the polygons; `name: {coding.shapes[0][0]}` is one under a name"
    else:
        text, said = propose_classes(splits.values())
    path.write_text(text, encoding="utf-8")
    print(f"{text}{said}\nwritten: {path}")
    flags = [dataset, *replace(reading, classes=str(path)).to_flags()]
    print(f"next: segacc check {shlex.join(flags)}")
    return 0


def cache(prune: bool = False, days: float | None = None, gb: float | None = None) -> None:
    """List what the cache holds, or remove from it.

    It lists the size, the last use and the kind of each entry. Downloads are never removed, nor is
    anything that a running training uses.

    Args:
        prune: remove, by --days, --gb or both.
        days: what was not used for this many days.
        gb: what was used longest ago, until the cache takes at most this many GB.
    """
    from segacc.data.prune import list_cache, prune_cache, table

    if prune != (days is not None or gb is not None):
        raise InputError("--prune goes with --days or --gb, such as --prune --days 30.")
    if not prune:
        return print(table(list_cache()))
    removed, in_use = prune_cache(days, None if gb is None else gb * 1e9)
    print(f"removed:\n{table(removed)}")
    if in_use:
        print(f"in use, so kept:\n{table(in_use)}")
