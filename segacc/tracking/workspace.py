"""The panels of segacc's workspace in W&B: they show what the other modules of this package log.

Scores in the summary of a run, which the panels that compare runs show, are the best epoch's.
"""

from __future__ import annotations

from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from segacc.tracking.results import BEST_PICTURES, PICTURES, TABLE

NAME = "segacc"
SCORES = ("iou", "iou_image", "dice", "dice_image", "precision", "recall")
SMOOTHING = 0.6  # of curves that have a value for each step
COLUMNS = [  # of the table of runs
    "run:displayName",
    "config:model.value",
    "config:loss.value",
    "config:lr.value",
    "config:parameters.value.whole",
    "config:dataset.value",
    "summary:valid/iou",
    "summary:valid/iou_image",
    "summary:best_epoch",
]


def make_workspace(entity: str, project: str) -> ws.Workspace:
    """All sections with their panels; nothing is sent to W&B."""
    sections = [training(), validation(), throughput(), pictures(), comparison()]
    best_first = [ws.Ordering(ws.Summary("valid/iou"), ascending=False)]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=sections,
        runset_settings=ws.RunsetSettings(pinned_columns=COLUMNS, order=best_first),
    )


def training() -> ws.Section:
    """Curves over steps."""
    return section(
        "training",
        line_plot("loss", "train/loss", smooth=True),
        line_plot("loss, mean of the epoch", "train/loss_epoch"),
        line_plot("learning rate", "train/lr"),
        line_plot("gradient norm", "train/grad_norm", smooth=True, log_y=True),
        rows=2,
    )


def validation() -> ws.Section:
    """Scores and the loss of the validation split over epochs."""
    return section(
        "validation",
        *(line_plot(score, f"valid/{score}") for score in SCORES),
        line_plot("loss", "valid/loss"),
        line_plot("iou at its best threshold", "valid/iou_best_threshold"),
        line_plot("best threshold", "valid/threshold"),
        rows=3,
    )


def throughput() -> ws.Section:
    """How fast the run is, and what it waits for."""
    return section(
        "throughput",
        line_plot("images per second", "throughput/img_per_s"),
        line_plot("share of the time that waits for data", "throughput/data_wait"),
        line_plot("seconds per epoch", "throughput/seconds_epoch"),
        line_plot("memory (GiB)", "throughput/memory_gib"),
        rows=2,
    )


def pictures() -> ws.Section:
    """Validation images with their masks, and the table of their scores."""
    by_step, of_best = "validation images by step", "of the best model"
    return section(
        "pictures",
        wr.MediaBrowser(title=by_step, media_keys=[PICTURES], num_columns=4),
        wr.MediaBrowser(title=of_best, media_keys=[BEST_PICTURES], num_columns=4),
        wr.WeavePanelSummaryTable(table_name=TABLE),
        columns=1,
        rows=3,
    )


def comparison() -> ws.Section:
    """Runs beside each other."""
    iou, model = wr.SummaryMetric("valid/iou"), wr.Config("model")
    parameters = wr.Config("parameters.whole")
    speed = wr.SummaryMetric("throughput/img_per_s_epoch")
    return section(
        "comparison",
        wr.BarPlot(
            title="IoU by model (mean of its runs)",
            metrics=["valid/iou"],
            groupby=model,
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
        ),
        wr.ScatterPlot(title="IoU against parameters", x=parameters, y=iou, log_x=True),
        wr.ScatterPlot(title="IoU against training speed", x=speed, y=iou, log_x=True),
        wr.ParallelCoordinatesPlot(
            title="What makes the IoU",
            columns=[
                wr.ParallelCoordinatesPlotColumn(model, display_name="model"),
                wr.ParallelCoordinatesPlotColumn(wr.Config("loss"), display_name="loss"),
                wr.ParallelCoordinatesPlotColumn(wr.Config("lr"), display_name="lr", log=True),
                wr.ParallelCoordinatesPlotColumn(iou, display_name="IoU"),
            ],
        ),
        wr.ParameterImportancePlot(with_respect_to="valid/iou"),
        wr.RunComparer(diff_only="split"),
    )


def section(name: str, *panels: Any, columns: int = 3, rows: int = 1) -> ws.Section:
    """A section that is open at first."""
    layout = ws.SectionLayoutSettings(columns=columns, rows=rows)
    return ws.Section(name=name, panels=list(panels), is_open=True, layout_settings=layout)


def line_plot(title: str, *metrics: str, smooth: bool = False, **options: Any) -> wr.LinePlot:
    """A curve over steps."""
    if smooth:
        options |= {"smoothing_type": "exponentialTimeWeighted", "smoothing_factor": SMOOTHING}
    return wr.LinePlot(title=title, x="Step", y=list(metrics), **options)
