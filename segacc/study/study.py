"""study(): trains and scores all cells of the study, and writes its table."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from segacc.config.flags import parse_train
from segacc.errors import InputError, plural, write_text
from segacc.evaluation.compare import compare
from segacc.evaluation.scored_runs import read_scored_run
from segacc.evaluation.tables import comma_separated, markdown, print_table
from segacc.study.cells import Cell, check_same, check_test_split
from segacc.study.schedule import run_cells, score_folds
from segacc.study.table import (
    DEFAULT,
    NO_FOLDS,
    study_lines,
    study_note,
    study_rows,
    study_table,
)
from segacc.study.transfer import transfer_note, transfer_table


def study(cells: list[Cell], out: Path) -> int:
    """Train and score the cells that are not done yet, one at a time on each GPU, or one after the
    other where there is none; then write the table and the reports into `out`.

    Returns:
        1 when a cell has failed, else 0.

    Raises:
        InputError: a cell's folder holds another run, a set has no test split, or `out` cannot be
            written.
        Stopped: by a signal; the same command continues.
    """
    recipe = parse_train(cells[0].flags).recipe
    note = f" (`segacc train` has {DEFAULT.recipe})" if recipe != DEFAULT.recipe else ""
    print(f"{plural(len(cells), 'run')} with --recipe {recipe}{note}", flush=True)
    for cell in cells:
        check_same(cell)
    for dataset, reading in dict.fromkeys((cell.dataset, cell.reading) for cell in cells):
        check_test_split(dataset, reading)
    try:
        (out / "logs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--out {out} cannot be written ({error}): give another folder."
        ) from error
    failed = run_cells(cells, out)
    failed |= score_folds(cells, out)
    together = {cell.run: cell.together for cell in cells if cell.has_fold}
    write_tables([cell.run for cell in cells if cell.is_done], out, together)
    for name, sentence in failed.items():
        log = out / "logs" / f"{name}.log"
        print(f"failed: {name}: {sentence} (the whole output: {log})", file=sys.stderr)
    return int(bool(failed) or not all(cell.is_done for cell in cells))


def write_tables(done: list[Path], out: Path, together: Mapping[Path, Path] = NO_FOLDS) -> None:
    """Print the study's table and write it, with the comparison and the reports, into `out`.

    Args:
        done: the runs that were scored.
        together: of runs that are folds, the folder with the scores of these together.
    """
    runs = [scored for run in done if (scored := read_scored_run(run, "test"))]
    if not runs:
        return
    rows = study_rows(runs, together)
    table, transfer, note = study_table(rows), transfer_table(runs), study_note(rows)
    print_table(table)
    text = markdown(table, note)
    write_text(out / "study.csv", comma_separated(study_lines(rows)))
    if transfer:
        print_table(transfer)
        about_gain = transfer_note(transfer, runs)
        if about_gain:
            print(about_gain)
        text += f"\n\nWhat pretrained weights gave:\n\n{markdown(transfer, about_gain)}"
    write_text(out / "study.md", text)
    print(f"{note}\nwritten: {out / 'study.md'}, study.csv\n")
    means = [row.together for row in rows if row.together]
    compare([scored.run for scored in runs] + means, "test", out)
