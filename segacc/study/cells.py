"""The cells of the study's table: which run each one is, and whether it can be done."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from segacc.config.flags import RESUME_MAY_CHANGE, parse_train
from segacc.config.options import NO_BUDGET, NO_FLAGS, Budget, Reading
from segacc.config.records import read_run_config, read_run_record
from segacc.config.sizes import AnySize
from segacc.config.train import STUDY_MODELS, RecipeName, has_own_encoder
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
    """the flags of the program that trains"""
    name: str = ""
    """the name that all seeds and folds of the cell have in common"""

    @property
    def reading(self) -> Reading:
        """How its data set is read."""
        return Reading.of(vars(parse_train(self.flags)))

    @property
    def has_fold(self) -> bool:
        """Whether it is one of several folds."""
        return self.reading.fold is not None and bool(self.name)

    @property
    def together(self) -> Path:
        """The folder for the scores of all its folds and seeds together."""
        return self.run.parent / "folds" / self.name

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
    budget: Budget = NO_BUDGET,
    folds: int | None = None,
) -> list[Cell]:
    """A run for each cell of the table, each seed and each fold; all runs of the first seed come
    first.

    Args:
        weights: one or several; `imagenet` also means each model's own pretrained weights.
        encoder: of the models that have none of their own.
        reading: how all the data sets are read.
        budget: flags of all runs. If they set a size or a crop, the study's crops are left out.
        folds: into how many parts train and valid of each data set are divided.

    Raises:
        InputError: the training would refuse a flag, or two cells are the same.
    """
    check_models(models, encoder)
    if folds is not None and reading.fold:
        raise InputError(f"--fold {reading.fold} is one of --folds {folds}: give one of the two.")
    cells: dict[Path, Cell] = {}
    parts = [f"{k}/{folds}" for k in range(1, folds + 1)] if folds else [None]
    for seed, dataset in product(seeds, datasets):
        plans = [(model, False) for model in models]
        if _is_gland(dataset) and (budget.size, budget.crop) == (None, None):
            plans += [(model, True) for model in models if model in CROPPED]
        for (model, cropped), start, fold in product(plans, weights, parts):
            flags = ["--dataset", dataset, "--model", model, "--seed", str(seed)]
            flags += ["--recipe", recipe, *_start_flags(model, start, encoder)]
            flags += (replace(reading, fold=fold) if fold else reading).to_flags()
            flags += budget.over(_protocol(dataset, cropped, fast)).to_flags()
            flags += ["--tracker", tracker]
            parse_train(flags)
            name = f"{Path(dataset.rstrip('/')).name}-{model.replace('/', '-')}"
            name += "-crop" if cropped else ""
            name += f"-{Path(start).name}" if len(weights) > 1 else ""
            of_fold = f"-fold{fold.replace('/', 'of')}" if fold else ""
            run = out / f"{name}-seed{seed}{of_fold}"
            if run in cells:
                raise InputError(
                    f"two cells would be {run}: give each set, model, start and seed "
                    "once, and sets and weights of different names."
                )
            cells[run] = Cell(run, dataset, tuple(flags), name)
    return list(cells.values())


def _start_flags(model: str, weights: str, encoder: str | None) -> list[str]:
    if has_own_encoder(model):
        return [] if weights == "imagenet" else ["--weights", weights]
    return ["--weights", weights, *(["--encoder", encoder] if encoder else [])]


def check_models(models: list[str], encoder: str | None) -> None:
    """Raises InputError for a model or an encoder that is not known, or that has no effect."""
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


def _is_gland(dataset: str) -> bool:
    return dataset in ("gland", "demo")


def _protocol(dataset: str, cropped: bool, fast: bool) -> Budget:
    """The sizes of the study's protocol; a fast study halves them and shortens training."""
    if not fast:
        return Budget(crop=256) if cropped else NO_BUDGET
    size = 256 if cropped else 128 if _is_gland(dataset) else 64
    return Budget(crop=128 if cropped else None, size=size, epochs=2, batch_size=8)


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
