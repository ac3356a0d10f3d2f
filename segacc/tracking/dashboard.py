"""The project's workspace in W&B: which panels show what `tracking` logs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from segacc.errors import InputError, write_text
from segacc.tracking.trackers import BEST_PICTURES, PICTURES, TABLE

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

NAME = "segacc"
SCORES = ("iou", "iou_image", "dice", "dice_image", "precision", "recall")
SMOOTHING = 0.6  # of the curves per step, over the raw ones


def make_workspace(entity: str, project: str) -> Workspace:
    """All sections and panels; nothing is sent anywhere.

    Scores in the summary of a run, and so in the panels that compare runs, are its best epoch's.
    """
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise InputError(
            "segacc dashboard needs the package wandb-workspaces, which is not installed: run "
            "`pip install wandb-workspaces`."
        ) from error

    def line(title: str, *metrics: str, smooth: bool = False, **options: Any) -> Any:
        if smooth:
            options |= {"smoothing_type": "exponentialTimeWeighted", "smoothing_factor": SMOOTHING}
        return wr.LinePlot(title=title, x="Step", y=list(metrics), **options)

    def section(name: str, *panels: Any, columns: int = 3, rows: int = 1) -> Any:
        layout = ws.SectionLayoutSettings(columns=columns, rows=rows)
        return ws.Section(name=name, panels=list(panels), is_open=True, layout_settings=layout)

    iou, model = wr.SummaryMetric("valid/iou"), wr.Config("model")
    parameters = wr.Config("parameters.whole")
    speed = wr.SummaryMetric("throughput/img_per_s_epoch")
    comparison = section(
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
    sections = [
        section(
            "training",
            line("loss", "train/loss", smooth=True),
            line("loss, mean of the epoch", "train/loss_epoch"),
            line("learning rate", "train/lr"),
            line("gradient norm", "train/grad_norm", smooth=True, log_y=True),
            rows=2,
        ),
        section(
            "validation",
            *(line(score, f"valid/{score}") for score in SCORES),
            line("loss", "valid/loss"),
            line("iou at its best threshold", "valid/iou_best_threshold"),
            line("best threshold", "valid/threshold"),
            rows=3,
        ),
        section(
            "throughput",
            line("images per second", "throughput/img_per_s"),
            line("share of the time that waits for data", "throughput/data_wait"),
            line("seconds per epoch", "throughput/seconds_epoch"),
            line("memory (GiB)", "throughput/memory_gib"),
            rows=2,
        ),
        section(
            "pictures",
            wr.MediaBrowser(
                title="validation images by step", media_keys=[PICTURES], num_columns=4
            ),
            wr.MediaBrowser(title="of the best model", media_keys=[BEST_PICTURES], num_columns=4),
            wr.WeavePanelSummaryTable(table_name=TABLE),
            columns=1,
            rows=3,
        ),
        comparison,
    ]
    columns = ["run:displayName", "config:model.value", "config:loss.value", "config:lr.value"]
    columns += ["config:parameters.value.whole", "config:dataset.value"]
    columns += ["summary:valid/iou", "summary:valid/iou_image", "summary:best_epoch"]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=sections,
        runset_settings=ws.RunsetSettings(
            pinned_columns=columns,
            order=[ws.Ordering(ws.Summary("valid/iou"), ascending=False)],
        ),
    )


def to_json(workspace: Workspace) -> str:
    """What W&B is sent, as JSON."""
    view = workspace._to_model()  # the only way to it
    return view.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n"


def write_workspace(path: Path, entity: str, project: str) -> None:
    """Write what W&B would be sent into a file; no key and no network are needed.

    Raises:
        InputError: wandb-workspaces is not installed, or the file cannot be written.
    """
    text = to_json(make_workspace(entity, project))
    try:
        write_text(path, text)
    except OSError as error:
        raise InputError(
            f"--out {path} cannot be written ({error.strerror}): give another file."
        ) from error


def save_workspace(entity: str | None, project: str) -> str:
    """Save it in W&B as a new view of the project.

    Args:
        entity: a user or a team; None is who the key belongs to.

    Returns:
        Where it is.

    Raises:
        InputError: there is no key, W&B cannot be reached, or it refuses.
    """
    import requests
    import wandb

    if not wandb.login(prompt=False, verify=False):
        raise InputError(
            "segacc dashboard found no key of W&B, in which it saves the workspace: run `wandb "
            "login` or set WANDB_API_KEY, or look at what it would save with --out FILE."
        )
    try:
        workspace = make_workspace(entity or wandb.Api().default_entity or "", project)
        return workspace.save().url
    except (wandb.errors.Error, requests.RequestException, ValueError) as error:
        raise InputError(
            f"segacc dashboard could not save the workspace of --project {project} ({error}): "
            "check the network and the key, and that the project exists (a run that was logged "
            "or synced makes it)."
        ) from error
