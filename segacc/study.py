"""study(): the study that segacc grew out of, a run for each cell of its table."""

from __future__ import annotations

import os
import statistics
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.live import Live
from rich.table import Table

import segacc
from segacc.config import RESUME_MAY_CHANGE, STUDY_MODELS, parse_train, read_run_config
from segacc.data.reading.sources import load_dataset
from segacc.errors import InputError, Stopped, write_text
from segacc.evaluation.compare import (
    Result,
    columns_of,
    comma_separated,
    compare,
    markdown,
    read_result,
    show,
)
from segacc.metrics.counts import constant_mask_iou, iou_of
from segacc.metrics.intervals import interval, resamples
from segacc.models.segmenter import check_architecture
from segacc.runs import read_lines
from segacc.runtime.programs import Programs

ROOT = Path(segacc.__file__).parent.parent
DONE = "study-done"
"""a file in the folder of a run that was trained and scored"""
CROPPED = ("linknet", "deeplabv3plus")
"""models that the study also trained on crops of the full-size gland images"""

# IoU on test as published, by data and crop.
PUBLISHED: dict[tuple[str, bool], dict[str, float]] = {
    ("pedestrian", False): {
        "fpn": 0.592,
        "pspnet": 0.592,
        "segformer": 0.774,
        "linknet": 0.683,
        "deeplabv3plus": 0.653,
    },
    ("gland", False): {"fpn": 0.768, "segformer": 0.742, "linknet": 0.781, "deeplabv3plus": 0.758},
    ("gland", True): {"linknet": 0.844, "deeplabv3plus": 0.844},
}
NOTE = (
    "iou is over all pixels of the test split, iou_image the mean over its images, both at the "
    "threshold that validation picked; mean ± standard deviation over seeds. 95 % interval of iou: "
    "a bootstrap over images. constant: iou of calling every pixel foreground. published: IoU on "
    "test in the study, from pretrained weights; it does not say which IoU."
)


@dataclass(frozen=True)
class Cell:
    """A run of the study."""

    run: Path
    dataset: str
    flags: tuple[str, ...]  # of train.py

    @property
    def is_done(self) -> bool:
        """Whether the run has ended and was scored."""
        return (self.run / DONE).exists()


def cells_of(
    datasets: list[str],
    models: list[str],
    seeds: list[int],
    weights: str | None,
    tracker: str,
    fast: bool,
    out: Path,
) -> list[Cell]:
    """A run for each cell of the table and each seed; all of the first seed come first.

    Raises:
        InputError: a flag would be refused by train.py, or two cells are the same.
    """
    for model in models:
        if model not in STUDY_MODELS and "/" not in model:
            check_architecture(model)
    cells: dict[Path, Cell] = {}
    for seed in seeds:
        for dataset in datasets:
            tissue = dataset in ("gland", "demo")
            plans = [(model, False) for model in models]
            plans += [(model, True) for model in models if tissue and model in CROPPED]
            for model, cropped in plans:
                flags = ["--dataset", dataset, "--model", model, "--seed", str(seed)]
                flags += ["--weights", weights] if weights else []
                flags += ["--crop", "128" if fast else "256"] if cropped else []
                if fast:
                    size = 256 if cropped else 128 if tissue else 64  # half of the study's
                    flags += ["--size", str(size), "--epochs", "2", "--batch-size", "8"]
                flags += ["--tracker", tracker]
                parse_train(flags)
                data, name = Path(dataset.rstrip("/")).name, model.replace("/", "-")
                run = out / f"{data}-{name}{'-crop' if cropped else ''}-seed{seed}"
                if run in cells:
                    raise InputError(
                        f"two cells would be {run}: give each set, model and seed once, and sets "
                        "of different names."
                    )
                cells[run] = Cell(run, dataset, tuple(flags))
    return list(cells.values())


def check_same(cell: Cell) -> None:
    """Raises InputError when the cell's folder holds a run that other flags have made."""
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


def check_test(dataset: str) -> None:
    """Raises InputError when there is nothing to score a model on; fetches the data set."""
    if "test" not in load_dataset(dataset):
        raise InputError(
            f"--dataset {dataset} has no test split, which the study's table is about: add one."
        )


def study(cells: list[Cell], out: Path) -> int:
    """Train and score the cells that are not done yet, one at a time on each GPU, or one after the
    other where there is none; then write the table and the reports into `out`.

    Returns:
        1 when a cell has failed, else 0.

    Raises:
        InputError: a cell's folder holds another run, a set cannot be scored on, or `out` written.
        Stopped: by a signal; the same command goes on.
    """
    for cell in cells:
        check_same(cell)
    for dataset in {cell.dataset: None for cell in cells}:
        check_test(dataset)
    try:
        (out / "logs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--out {out} cannot be written ({error}): give another folder."
        ) from error
    failed = run_cells(cells, out)
    results = [read_result(cell.run, "test") for cell in cells if cell.is_done]
    if found := [result for result in results if result]:
        table = table_of(found)
        show(table)
        write_text(out / "study.md", markdown(table, NOTE))
        write_text(out / "study.csv", comma_separated(table))
        print(f"{NOTE}\nwritten: {out / 'study.md'}, study.csv\n")
        compare([result.run for result in found], "test", out)
    for name, sentence in failed.items():
        print(f"failed: {name}: {sentence} (all of it: {out / 'logs' / name}.log)", file=sys.stderr)
    return int(not all(cell.is_done for cell in cells))


def run_cells(cells: list[Cell], out: Path) -> dict[str, str]:
    """Run the cells that are not done, and show how all are doing.

    Returns:
        name -> error of each cell that has failed.
    """
    waiting = deque(cell for cell in cells if not cell.is_done)
    state = {cell.run.name: "done" if cell.is_done else "waits" for cell in cells}
    failed: dict[str, str] = {}
    programs = Programs()

    def work(device: str | None) -> None:
        environment = {**os.environ, "WANDB_RUN_GROUP": out.name}
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        while True:
            try:
                cell = waiting.popleft()
            except IndexError:
                return
            name, log = cell.run.name, out / "logs" / f"{cell.run.name}.log"
            try:
                say(name, "trains")
                programs.run(training(cell, device is not None), environment, log)
                say(name, "is scored")
                programs.run(scoring(cell), environment, log)
                (cell.run / DONE).touch()
                say(name, "done")
            except Stopped:
                return say(name, "stopped")
            except (InputError, OSError) as error:
                failed[name] = str(error)
                say(name, "failed")

    def say(name: str, what: str) -> None:
        state[name] = what
        if not live.console.is_terminal:
            print(f"{name}: {what}", flush=True)

    live = Live(get_renderable=lambda: board(cells, state), refresh_per_second=1)
    threads = [threading.Thread(target=work, args=(device,)) for device in devices()]
    with live:
        for thread in threads:
            thread.start()
        stopped = False
        while any(thread.is_alive() for thread in threads):
            try:
                while any(thread.is_alive() for thread in threads):
                    time.sleep(0.2)
            except (KeyboardInterrupt, Stopped):
                stopped = True
                programs.stop()  # told twice, they leave at once
    if not live.console.is_terminal:
        print()  # rich ends its last table without it
    if stopped:
        raise Stopped("stopped: the same command goes on from here.")
    return failed


def devices() -> list[str | None]:
    """What each thread gives its runs as CUDA_VISIBLE_DEVICES; one None where there is no GPU."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    names = visible.split(",") if visible else [str(index) for index in range(count)]
    return [*names[:count]] or [None]


def training(cell: Cell, gpu: bool) -> list[str]:
    """The command that trains a cell, or goes on with it."""
    config = ROOT / "accelerate_configs" / ("gpu.yaml" if gpu else "cpu.yaml")  # not the user's own
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    launch += ["--mixed_precision", "no"]  # train.py takes bf16 where the GPU has it
    begun = (cell.run / "config.json").exists()
    where = ["--resume" if begun else "--output-dir", str(cell.run)]
    return [*launch, str(ROOT / "train.py"), *cell.flags, *where]


def scoring(cell: Cell) -> list[str]:
    """The command that scores a trained cell on test."""
    return [sys.executable, str(ROOT / "evaluate.py"), str(cell.run)]


def board(cells: list[Cell], state: dict[str, str]) -> Table:
    """How the cells are doing."""
    table = Table("run", "", "epoch", "best valid iou", "minutes")
    for cell in cells:
        lines = read_lines(cell.run)
        best = max((line["valid_iou"] for line in lines), default=None)
        minutes = sum(line["seconds"] for line in lines) / 60
        known = (f"{len(lines)}", f"{best:.3f}", f"{minutes:.1f}") if best is not None else ()
        table.add_row(cell.run.name, state[cell.run.name], *known)
    return table


def table_of(results: list[Result]) -> list[dict[str, str]]:
    """A line for each model and data set, over its seeds, in the study's order."""
    groups: dict[tuple[str, int, bool, str], list[Result]] = {}
    for result in results:
        config = result.config["config"]
        key = (config["dataset"], result.metrics["size"], bool(config["crop"]), config["model"])
        groups.setdefault(key, []).append(result)
    return [
        _row(group, PUBLISHED.get((dataset, cropped), {}).get(model))
        for (dataset, _, cropped, model), group in groups.items()
    ]


def _row(group: list[Result], published: float | None) -> dict[str, str]:
    config = group[0].config["config"]
    tops = [max(result.epochs, key=lambda line: line["valid_iou"]) for result in group]
    minutes = [sum(line["seconds"] for line in result.epochs) / 60 for result in group]
    speeds = [statistics.median(line["img_per_s"] for line in r.epochs) for r in group]
    weights = resamples(len(group[0].counts))
    ious = torch.stack([iou_of(weights @ result.counts) for result in group]).mean(dim=0)
    low, high = interval(ious)
    return {
        **columns_of(group[0]),
        "iou on test": _over_seeds([r.metrics["scores"]["iou"]["value"] for r in group], 3),
        "95 % interval": f"{low:.3f} to {high:.3f}" if len(group[0].counts) > 1 else "",
        "iou_image": _over_seeds([r.metrics["scores"]["iou_image"]["value"] for r in group], 3),
        "constant": f"{constant_mask_iou(group[0].counts):.3f}",
        "published": "" if published is None else f"{published:.3f}",
        "weights": config["weights"],
        "seeds": f"{len(group)}",
        "threshold": _over_seeds([result.metrics["threshold"] for result in group], 2),
        "best epoch": ", ".join(
            f"{top['epoch']} of {len(r.epochs)}" for top, r in zip(tops, group, strict=True)
        ),
        "minutes": _over_seeds(minutes, 1),
        "img/s": _over_seeds(speeds, 1),
    }


def _over_seeds(values: list[float], digits: int) -> str:
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean
