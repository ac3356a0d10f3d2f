"""The cells of the study's table: which run each one is, and whether it can be done."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

from segacc.config.defaults import has_own_encoder
from segacc.config.flags import RESUME_MAY_CHANGE, parse_train
from segacc.config.options import NO_FLAGS, Reading
from segacc.config.records import read_run_config, read_run_record
from segacc.config.sizes import AnySize
from segacc.config.train import STUDY_MODELS, RecipeName
from segacc.data.known import absolute, known_data
from segacc.data.prepare import prepare
from segacc.data.reading.sources import load_dataset
from segacc.errors import InputError
from segacc.labels import Labels
from segacc.models.smp import check_architecture, check_encoder

CROPPED = ("linknet", "deeplabv3plus")
"""models that the study also trained on crops of the full-size gland images"""
DONE = "study-done"
"""a file in the folder of a run that was trained and scored"""


@dataclass(frozen=True)
class Cell:
    """One run of the study."""

    run: Path
    dataset: str
    flags: tuple[str, ...]
    """of the program that trains"""

    @property
    def reading(self) -> Reading:
        """How its data set is read."""
        return Reading.of(vars(parse_train(self.flags)))

    @property
    def is_done(self) -> bool:
        """Whether the run has ended and was scored."""
        return (self.run / DONE).exists()

    def mark_done(self) -> None:
        """Record that the run has ended and was scored."""
        (self.run / DONE).touch()


def cells_of(
    datasets: list[str],
    models: list[str],
    seeds: list[int],
    weights: list[str],
    tracker: str,
    fast: bool,
    out: Path,
    reading: Reading = NO_FLAGS,
    encoder: str | None = None,
    recipe: RecipeName = "study",
) -> list[Cell]:
    """A run for each cell of the table and each seed; all runs of the first seed come first.

    Args:
        weights: one or several; `imagenet` is also each model's own pretrained ones.
        encoder: of the models that have none of their own.
        reading: how all the data sets are read.

    Raises:
        InputError: the training would refuse a flag, or two cells are the same.
    """
    for model in models:
        if model not in STUDY_MODELS and "/" not in model:
            check_architecture(model)
    if encoder:
        check_encoder(encoder)
    if encoder and all(map(has_own_encoder, models)):
        raise InputError(
            f"--encoder {encoder} has no effect on {', '.join(models)}, which have their own: "
            "leave it out."
        )
    cells: dict[Path, Cell] = {}
    for seed in seeds:
        for dataset in datasets:
            plans = [(model, False) for model in models]
            plans += [(m, True) for m in models if _is_gland(dataset) and m in CROPPED]
            for (model, cropped), start in product(plans, weights):
                flags = ["--dataset", dataset, "--model", model, "--seed", str(seed)]
                flags += ["--recipe", recipe]
                if has_own_encoder(model):
                    flags += [] if start == "imagenet" else ["--weights", start]
                else:
                    flags += ["--weights", start]
                    flags += ["--encoder", encoder] if encoder else []
                flags += reading.to_flags()
                flags += [*_size_flags(dataset, cropped, fast), "--tracker", tracker]
                parse_train(flags)
                data, name = Path(dataset.rstrip("/")).name, model.replace("/", "-")
                name += "-crop" if cropped else ""
                name += f"-{Path(start).name}" if len(weights) > 1 else ""
                run = out / f"{data}-{name}-seed{seed}"
                if run in cells:
                    raise InputError(
                        f"two cells would be {run}: give each set, model, start and seed "
                        "once, and sets and weights of different names."
                    )
                cells[run] = Cell(run, dataset, tuple(flags))
    return list(cells.values())


def _is_gland(dataset: str) -> bool:
    return dataset in ("gland", "demo")


def _size_flags(dataset: str, cropped: bool, fast: bool) -> list[str]:
    """The protocol gives the sizes; a fast study halves them and the number of epochs."""
    if not fast:
        return ["--crop", "256"] if cropped else []
    size = 256 if cropped else 128 if _is_gland(dataset) else 64
    flags = ["--crop", "128"] if cropped else []
    return [*flags, "--size", str(size), "--epochs", "2", "--batch-size", "8"]


def check_same(cell: Cell) -> None:
    """Raises InputError when the cell's folder holds a run that was made with other flags."""
    if not (cell.run / "config.json").exists():
        return
    found, wanted = read_run_config(cell.run), parse_train(cell.flags)
    # The precision is that of the machine.
    named = {"epochs", "patience"} | vars(wanted).keys() - RESUME_MAY_CHANGE - {"precision"}
    for name in sorted(named):
        have, want = getattr(found, name), getattr(wanted, name)
        if have != want:
            raise InputError(
                f"{cell.run} was made with --{name.replace('_', '-')} {have}, and now {want} is "
                "asked for: give another --out, or the flags of before."
            )
    check_same_data(cell.run, cell.dataset, cell.reading, wanted.size)


def check_same_data(run: Path, dataset: str, reading: Reading, size: AnySize | None) -> None:
    """Raises InputError when the run was made with other images or masks than those of `dataset`,
    as it is read now."""
    known = known_data(run)
    assert size is not None
    same_set = dataset == known.dataset or absolute(dataset) == known.dataset
    if same_set and reading == known.reading:
        return
    found = prepare(load_dataset(dataset, reading), size)
    names = Labels.from_config(read_run_record(run).get("data", {}).get("labels")).names
    if (found.fingerprint, found.labels.names) != (known.fingerprint, names):
        if same_set:
            other = "its images, masks or classes are others now"
        else:
            other = f"the images of {dataset}, or their classes, are other ones"
        raise InputError(
            f"{run} was made with --dataset {known.dataset}, and {other}: give another --out, or "
            "the data set and the flags of before."
        )


def check_test_split(dataset: str, reading: Reading) -> None:
    """Raises InputError when there is nothing to score a model on; fetches the data set."""
    if "test" not in load_dataset(dataset, reading).rows:
        raise InputError(
            f"--dataset {dataset} has no test split, and the study's table is made of scores on "
            "it: add one."
        )
