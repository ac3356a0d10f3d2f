"""compare(): trained runs in one table, each against the best with a paired test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from segacc.config.options import Reading
from segacc.config.sizes import size_of_json
from segacc.config.train import SEGFORMER_B0
from segacc.data.known import KnownData, find_again, prepare_found
from segacc.data.reading.depth import WHOLE
from segacc.data.store import find_prepared
from segacc.errors import InputError, command, quoted, write_text
from segacc.evaluation.per_class import class_lines, class_tables
from segacc.evaluation.scored_runs import (
    ScoredRun,
    best_first,
    course_of,
    data_labels,
    data_name,
    groups_of,
    how_to_have,
    iou_name,
    iou_note,
    notes_of,
    numbers_of,
    read_scored_run,
    report_groups,
    sizes_shown,
    way_of_scoring,
    with_interval,
)
from segacc.evaluation.tables import comma_separated, markdown, print_table
from segacc.metrics.counts import resampled_iou
from segacc.metrics.intervals import bootstrap, percentile_interval
from segacc.report.page import write_report
from segacc.report.scored import Scored, read_scored

COMPARISON_NOTE = (
    "; in brackets the 95 % bootstrap interval over images. against best: difference to the best "
    "run on the same images, its 95 % interval, and the two-sided p of a paired bootstrap."
)

CLASSES_NOTE = (
    "iou of each class, with its 95 % bootstrap interval; absent: in no mask and never predicted."
)


def comparison_note(runs: list[ScoredRun]) -> str:
    """What the columns of the table mean."""
    return iou_note(runs, "the split") + COMPARISON_NOTE


@dataclass(frozen=True)
class Paired:
    """How much worse a run is than the best one on the same images."""

    difference: float
    low: float
    high: float
    p: float


def paired_bootstrap(best: Tensor, other: Tensor) -> Paired:
    """Difference of `iou`, other minus best, over resamples of the images that both have.

    Args:
        best, other: (N, K, 4) counts of the same images in the same order.

    Returns:
        with the two-sided p: twice the share of resamples in which the sign is the other one.
    """
    whole = torch.ones(1, len(best), dtype=torch.double)
    one, two = (resampled_iou(counts, whole).item() for counts in (best, other))
    drawn = bootstrap(lambda w: resampled_iou(other, w) - resampled_iou(best, w), len(best))
    beyond = min(int((drawn >= 0).sum()), int((drawn <= 0).sum()))
    p = min(1.0, 2 * (beyond + 1) / (len(drawn) + 1))
    return Paired(two - one, *percentile_interval(drawn), p)


@dataclass(frozen=True)
class ComparedRun:
    """A run in the comparison."""

    run: ScoredRun
    best: str
    """the mark of the best run in the table; empty for all others"""
    pair: Paired | None
    """compared with the best run, if both were scored on the same several images"""


def compared_runs(runs: list[ScoredRun]) -> list[ComparedRun]:
    """The runs, best first within each data set.

    Runs are compared only if they were scored on the same images (by fingerprint) in the same way.
    """
    places = []
    for group in groups_of(runs).values():
        by_way: dict[str, list[ScoredRun]] = {}
        for run in best_first(group):
            by_way.setdefault(way_of_scoring(run), []).append(run)
        for way, (best, *others) in by_way.items():
            title = f"best {way}" if len(by_way) > 1 and way else "best"
            places.append(ComparedRun(best, title, None))
            for run in others:
                same = run.names == best.names and len(run.names) > 1
                pair = paired_bootstrap(best.counts, run.counts) if same else None
                places.append(ComparedRun(run, "", pair))
    return places


def comparison_table(places: list[ComparedRun]) -> list[dict[str, str]]:
    """The table for people, every value as text."""
    runs = [place.run for place in places]
    labels, score = data_labels(runs), iou_name(runs)
    rows = [_comparison_row(place, score) | {"data": labels[place.run.run]} for place in places]
    differ = len({row["weights"] for row in rows}) > 1
    return [{n: text for n, text in row.items() if differ or n != "weights"} for row in rows]


def _comparison_row(place: ComparedRun, score: str) -> dict[str, str]:
    run, pair = place.run, place.pair
    metrics, course = run.metrics, course_of(run)
    against = place.best
    if pair:
        against = f"{pair.difference:+.3f} [{pair.low:+.3f}, {pair.high:+.3f}], p {pair.p:.3f}"
    return {
        **model_columns(run),
        "weights": run.config["config"].get("weights") or "",
        f"{score} on {metrics['split']}": with_interval(metrics["scores"]["iou"]),
        "iou_image": with_interval(metrics["scores"]["iou_image"]),
        "against best": against,
        "threshold": "" if metrics["threshold"] is None else f"{metrics['threshold']:.4g}",
        "best epoch": f"{course.best_epoch} of {course.epochs}" if course else "",
        "minutes": f"{course.minutes:.1f}" if course else "",
        "img/s": f"{course.img_per_s:.1f}" if course else "",
        "run": run.run.name,
    }


def comparison_lines(places: list[ComparedRun]) -> list[dict[str, str]]:
    """The table for programs: a number in each column of numbers, or nothing."""
    runs = [place.run for place in places]
    labels = data_labels(runs)
    scores = list(dict.fromkeys(name for run in runs for name in run.metrics["scores"]))
    lines = []
    for place in places:
        run, pair, course = place.run, place.pair, course_of(place.run)
        metrics = run.metrics
        difference = asdict(pair) if pair else {}
        lines.append(
            {
                "run": run.run.name,
                **run_columns(run),
                "data": labels[run.run],
                "split": metrics["split"],
                "images": str(len(run.names)),
                **score_columns(scores, metrics["scores"]),
                "is_best": str(int(bool(place.best))),
                **{
                    column: f"{difference[name]:.6f}" if pair else ""
                    for column, name in (
                        ("difference", "difference"),
                        ("difference_low", "low"),
                        ("difference_high", "high"),
                        ("p", "p"),
                    )
                },
                "threshold": "" if metrics["threshold"] is None else f"{metrics['threshold']:g}",
                "best_epoch": str(course.best_epoch) if course else "",
                "epochs": str(course.epochs) if course else "",
                "minutes": f"{course.minutes:.3f}" if course else "",
                "img_per_s": f"{course.img_per_s:.3f}" if course else "",
            }
        )
    return lines


def score_columns(
    names: list[str], scores: Mapping[str, Mapping[str, float | None]]
) -> dict[str, str]:
    """Value, low and high of each score; empty for one that the run does not have."""
    return {
        column: text
        for name in names
        for column, text in numbers_of(name, scores.get(name, {})).items()
    }


def run_columns(run: ScoredRun) -> dict[str, str]:
    """The columns that describe the run, for programs."""
    config = run.config["config"]
    return {
        "model": config["model"],
        "encoder": config["encoder"] or "",
        "weights": config.get("weights") or "",
        "loss": config.get("loss") or "",
        "seed": str(config.get("seed", "")),
        "fold": config.get("fold") or "",
        "crop": str(config["crop"] or ""),
        "parameters": str(run.config["parameters"]["whole"]),
    }


def model_columns(run: ScoredRun) -> dict[str, str]:
    """The first columns of each table: the run's model and data, as the study names them."""
    config, metrics = run.config["config"], run.metrics
    encoder = "its own" if "/" in config["model"] else config["encoder"] or ""
    if config["model"] == "segformer":
        encoder = SEGFORMER_B0.split("/")[1].split("-finetuned")[0]
    crop = f", crop {config['crop']}" if config["crop"] else ""
    return {
        "model": config["model"],
        "encoder": encoder,
        "data": f"{Path(metrics['dataset'].rstrip('/')).name} {sizes_shown(run)}{crop}",
        "parameters (M)": f"{run.config['parameters']['whole'] / 1e6:.1f}",
    }


def compare(runs: list[Path], split: str, out: Path) -> None:
    """Print the table of `runs` and write it into the folder `out` as Markdown and CSV, with a
    table of the classes where there are several, and a report for each data set.

    Raises:
        InputError: a folder is not a run's, or none has results on the split.
    """
    if not runs:
        raise InputError("segacc compare lacks the runs to compare: give some, such as runs/*")
    found = [(run, read_scored_run(run, split)) for run in runs]
    scored = [scores for _, scores in found if scores]
    missing = [run for run, scores in found if not scores]
    hint = how_to_have(missing[0] if missing else Path("RUN"), split)
    if not scored:
        raise InputError(f"none of {len(missing)} runs has results on {split}: {hint} makes them.")
    places = compared_runs(scored)
    table = comparison_table(places)
    by_class = class_tables(scored)
    note = comparison_note(scored)
    print_table(table)
    for data, lines in by_class:
        print(f"iou of each class, {data}:")
        print_table(lines)
    warnings = [f"warning: {said}." for said in notes_of(scored)]
    print("".join(f"{warning}\n" for warning in warnings), end="")
    out.mkdir(parents=True, exist_ok=True)
    text = markdown(table, "\n\n".join([note, *warnings]))
    text += "".join(f"\n{markdown(lines, f'{data}: {CLASSES_NOTE}')}" for data, lines in by_class)
    write_text(out / "comparison.md", text)
    write_text(out / "comparison.csv", comma_separated(comparison_lines(places)))
    if by_class:
        write_text(out / "comparison-classes.csv", comma_separated(class_lines(scored)))
    files = "comparison.csv" + (", comparison-classes.csv" if by_class else "")
    print(f"{note}\nwritten: {out / 'comparison.md'}, {files}")
    if missing:
        print(f"without results on {split}: {', '.join(map(str, missing))} ({hint} scores one)")
    write_reports(scored, split, table, out)


def write_reports(
    runs: list[ScoredRun], split: str, table: list[dict[str, str]], out: Path
) -> None:
    """A report for each data set, with its runs side by side.

    Raises:
        InputError: a data set is not what it was when a run was scored on it.
    """
    sets = report_groups(runs)
    names = [data_name(group[0]) for group in sets]
    for name, group in zip(names, sets, strict=True):
        digits = f"-{group[0].metrics['fingerprint'][:8]}" if names.count(name) > 1 else ""
        report = out / f"report-{name}{digits}.html"
        write_report(report, [_with_images(run, split) for run in group], table)
        print(f"look at: {report}")


def _with_images(run: ScoredRun, split: str) -> Scored:
    metrics = run.metrics
    known = KnownData(
        dataset=metrics["dataset"],
        reading=Reading.of(metrics),
        source=metrics.get("source"),
        fingerprint=metrics["fingerprint"],
    )
    data = find_prepared(known.fingerprint)
    if data is None:
        value_range = tuple(metrics.get("value_range") or WHOLE)  # 0.1.0 wrote none
        found = find_again(known)
        data = prepare_found(found, size_of_json(metrics["size"]), value_range)
    if data.fingerprint != known.fingerprint:
        raise InputError(
            f"{run.run}: the data set {known.dataset} has changed since the run was scored on it: "
            f"give `{command('evaluate')} {quoted(run.run)} --split {metrics['split']}` again."
        )
    return read_scored(run.run, run.run / split, data.splits[metrics["split"]])
