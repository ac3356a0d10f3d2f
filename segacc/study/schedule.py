"""Runs the cells of the study: one at a time on each GPU, or one after the other on the CPU."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from pathlib import Path

import torch
from rich.live import Live
from rich.table import Table

from segacc.errors import InputError, Stopped, write_text
from segacc.runs.epochs import read_epochs
from segacc.runtime.programs import Programs
from segacc.study.cells import DONE, Cell


def run_cells(cells: list[Cell], out: Path) -> dict[str, str]:
    """Run the cells that are not done, and show how all are doing.

    Returns:
        name -> error of each cell that has failed.

    Raises:
        Stopped: by a signal, after the runs have saved their states.
    """
    waiting = deque(cell for cell in cells if not cell.is_done)
    state = {cell.run.name: "done" if cell.is_done else "waits" for cell in cells}
    failed: dict[str, str] = {}
    programs = Programs()

    def show(cell: Cell, what: str) -> None:
        state[cell.run.name] = what
        if not live.console.is_terminal:
            print(f"{cell.run.name}: {what}", flush=True)

    def work(device: str | None) -> None:
        environment = {**os.environ, "WANDB_RUN_GROUP": out.name}
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        while True:
            try:
                cell = waiting.popleft()
            except IndexError:
                return
            log = out / "logs" / f"{cell.run.name}.log"
            try:
                show(cell, "trains")
                programs.run(train_command(cell), environment, log)
                show(cell, "is scored")
                programs.run(score_command(cell), environment, log)
                cell.mark_done()
                show(cell, "done")
            except Stopped:
                return show(cell, "stopped")
            except (InputError, OSError) as error:
                failed[cell.run.name] = str(error)
                show(cell, "failed")

    live = Live(get_renderable=lambda: progress_table(cells, state), refresh_per_second=1)
    threads = [threading.Thread(target=work, args=(device,)) for device in devices()]
    with live:
        stopped = wait_for(threads, programs)
    if not live.console.is_terminal:
        print()  # rich leaves out the newline after its last table
    if stopped:
        raise Stopped("stopped: the same command goes on from here.")
    return failed


def score_folds(cells: list[Cell], out: Path) -> dict[str, str]:
    """Score the folds of each cell together, where all are done: the mean of the models on test,
    and all images of train and valid out of fold. Existing scores stay.

    Returns:
        name -> error of what could not be scored.

    Raises:
        Stopped: by a signal.
    """
    groups: dict[Path, list[Cell]] = {}
    for cell in cells:
        if cell.has_fold:
            groups.setdefault(cell.together, []).append(cell)
    failed: dict[str, str] = {}
    programs = Programs()

    def work() -> None:
        for folder, group in groups.items():
            runs = [str(cell.run) for cell in group]
            if not all(cell.is_done for cell in group) or _scored_together(folder) == runs:
                continue
            print(f"{folder.name}: its {len(group)} folds are scored together", flush=True)
            base = [sys.executable, "-m", "segacc", "evaluate", *runs, "--out", str(folder)]
            log = out / "logs" / f"{folder.name}-folds.log"
            try:
                for split in ("test", "valid"):
                    programs.run([*base, "--split", split], dict(os.environ), log)
                write_text(folder / DONE, "\n".join(runs))
            except Stopped:
                return
            except (InputError, OSError) as error:
                failed[f"{folder.name}-folds"] = str(error)

    if wait_for([threading.Thread(target=work)], programs):
        raise Stopped("stopped: the same command goes on from here.")
    return failed


def _scored_together(folder: Path) -> list[str]:
    done = folder / DONE
    return done.read_text(encoding="utf-8").split("\n") if done.exists() else []


def wait_for(threads: list[threading.Thread], programs: Programs) -> bool:
    """Start the threads and wait until they have ended; a signal stops the programs first.

    Returns:
        whether there was a signal.
    """
    for thread in threads:
        thread.start()
    stopped = False
    while True:
        try:
            while any(thread.is_alive() for thread in threads):
                time.sleep(0.2)
            return stopped
        except KeyboardInterrupt:  # Stopped is one
            stopped = True
            programs.stop()  # a second signal makes them leave without saving


def devices() -> list[str | None]:
    """Return the CUDA_VISIBLE_DEVICES of each thread's runs; a single None if there is no GPU."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    names = visible.split(",") if visible else [str(index) for index in range(count)]
    return [*names[:count]] or [None]


def train_command(cell: Cell) -> list[str]:
    """The command that trains a cell, or continues it, in one process."""
    begun = (cell.run / "config.json").exists()
    folder = ["--resume" if begun else "--output-dir", str(cell.run)]
    return [sys.executable, "-m", "segacc", "train", *cell.flags, *folder]


def score_command(cell: Cell) -> list[str]:
    """The command that scores a trained cell on test."""
    return [sys.executable, "-m", "segacc", "evaluate", str(cell.run)]


def progress_table(cells: list[Cell], state: dict[str, str]) -> Table:
    """Make a table of what each cell is doing, with its epochs so far."""
    table = Table("run", "", "epoch", "best score", "minutes")
    for cell in cells:
        lines = read_epochs(cell.run)
        best = max((line["valid_iou"] for line in lines), default=None)
        minutes = sum(line["seconds"] for line in lines) / 60
        known = (f"{len(lines)}", f"{best:.3f}", f"{minutes:.1f}") if best is not None else ()
        table.add_row(cell.run.name, state[cell.run.name], *known)
    return table
