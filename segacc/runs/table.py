"""What `segacc runs` prints: the table, the next command for each run, and what --clean freed."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from segacc.errors import InputError, plural, quoted
from segacc.runs.listing import ListedRun, clean

UNCUT = 200
"""columns if the output is no terminal"""
HEADINGS = {
    "failed": "failed; once the cause is removed, continue with",
    "stopped": "stopped; continue with",
    "finished": "finished; score with, or look at",
}


def overview(runs: Sequence[ListedRun], folders: Sequence[Path]) -> str:
    """The table, and below it what to do next."""
    if not runs:
        where = " or ".join(map(str, folders))
        return f"no runs in {where}: `segacc train` makes the first one."
    about_best = "best: IoU on the validation images (of two classes at threshold 0.5)"
    parts = [_table(runs), about_best, *_what_next(runs)]
    done = [run for run in runs if run.may_be_cleaned]
    if done:
        size = in_words(sum(run.size_of_states for run in done))
        given = "" if list(folders) == [Path("runs")] else " ".join(["", *map(quoted, folders)])
        parts.append(
            f"segacc runs{given} --clean frees {size}: the saved states of "
            f"{plural(len(done), 'finished run')}"
        )
    return "\n\n".join(parts)


def _table(runs: Sequence[ListedRun]) -> str:
    from rich.console import Console
    from rich.table import Table

    table = Table("run", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.columns[0].overflow = "fold"
    for name in ("state", "epoch", "best", "at", "size"):
        right = name not in ("state",)
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for run in runs:
        best = ("-", "-") if run.best is None else (f"{run.best:.4f}", f"{run.best_epoch}")
        table.add_row(
            str(run.path),
            run.state,
            f"{run.epochs}/{run.most_epochs}",
            *best,
            in_words(run.size),
        )
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else UNCUT
    text = StringIO()
    Console(file=text, width=width, color_system=None, highlight=False, markup=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _what_next(runs: Sequence[ListedRun]) -> list[str]:
    parts = []
    for state, heading in HEADINGS.items():
        lines = []
        for run in runs:
            if run.state == state:
                lines += [f"  {run.path}: {run.why}"] if state == "failed" and run.why else []
                lines.append(f"  {run.next}")
        if lines:
            parts.append("\n".join([f"{heading}:", *lines]))
    return parts


def cleaned(runs: Sequence[ListedRun]) -> str:
    """Remove the states of the finished runs, and say what was freed and what stayed."""
    lines, total = [], 0
    for run in runs:
        if not run.may_be_cleaned:
            continue
        try:
            freed = clean(run.path)
        except InputError as error:  # it was started again a moment ago
            lines.append(f"kept: {error}")
            continue
        if freed:
            lines.append(f"{in_words(freed):>9}  {run.path}")
            total += freed
    kept = [run for run in runs if run.size_of_states and run.state != "finished"]
    if kept:
        size = in_words(sum(run.size_of_states for run in kept))
        lines.append(f"kept: {size} of {plural(len(kept), 'run')} that can still go on")
    count = plural(sum(run.may_be_cleaned for run in runs), "finished run")
    if not total:
        return "\n".join([*lines, "nothing to free: no finished run has saved states"])
    return "\n".join([*lines, f"freed {in_words(total)}: the saved states of {count}"])


def in_words(size: int) -> str:
    """Bytes for people."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"
