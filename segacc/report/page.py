"""The report: a page on one run, or on several side by side.

For two classes, the page follows a threshold. Its numbers come from histograms of levels, so they
are those of the scored size at every threshold. Its pictures come from 8-bit levels, and are
reduced if an image is larger than SIDE. For more classes, `class_page.py` makes the page.

The size of the page has a bound: if there are many images, the numbers are of all, but pictures and
points are of some.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segacc.report import figures
from segacc.report.class_page import class_data, class_values
from segacc.report.gallery import SIDE, GalleryImage, choose_images, gallery_image
from segacc.report.rendering import write_page
from segacc.report.scored import Scored, label_runs
from segacc.report.summary import Summary, image_histogram, summarise

MOST_PICTURES = 600  # in the page; an image needs one, its mask one, and each run one more
MOST_POINTS = 1000  # in the chart of IoUs, of all runs together
FOR_SCRIPT = ("point", "masks", "mask_of", "found")  # of a GalleryImage


def write_report(path: Path, runs: list[Scored], table: list[dict[str, str]] | None = None) -> None:
    """Write the page on one run, or on several side by side on the images that all of them have.

    Args:
        runs: scored on the same classes.
        table: the comparison of the runs, a dict for each line, all with the same keys; it is
            shown at the top.

    Raises:
        InputError: a picture of what a run found is missing or damaged.
    """
    assert runs, "a report is of at least one run"
    places = [{name: i for i, name in enumerate(run.names)} for run in runs]
    shared = [name for name in runs[0].names if all(name in place for place in places)]
    where = [[place[name] for name in shared] for place in places]
    labels = label_runs(runs)
    most = MOST_PICTURES // (2 + len(runs))
    values: dict[str, Any]
    if runs[0].labels.logits == 1:
        page = "thresholds"
        values = _threshold_values(runs, where, most)
        data = _threshold_data(runs, labels, values)
    else:
        page = "classes"
        values = class_values(runs, where, most)
        data = class_data(runs, labels, values["gallery"])
    write_page(
        path,
        f"{page}.html.j2",
        ("gallery.js", f"{page}.js"),
        data,
        one=len(runs) == 1,
        first=runs[0].metrics,
        runs=runs,
        labels=labels,
        table=table or [],
        shared=len(shared),
        reduced=any(
            max(run.split.shape_of(i)) > SIDE for run in runs for i in range(len(run.names))
        ),
        side=SIDE,
        **values,
    )


def _threshold_values(runs: list[Scored], where: list[list[int]], most: int) -> dict[str, Any]:
    """The variables of the template for two classes.

    Args:
        where: for each run, the positions of the images that all runs have.
        most: how many images the gallery has at most.
    """
    summaries = [summarise(run, indices) for run, indices in zip(runs, where, strict=True)]
    ious = torch.stack([summary.own_ious for summary in summaries]).mean(dim=0)
    chosen, points = choose_images(ious, most, max(most, MOST_POINTS // len(runs)))
    place_of = {image: place for place, image in enumerate(points)}
    gallery = [gallery_image(runs, place_of[i], [indices[i] for indices in where]) for i in chosen]
    histograms = [
        torch.stack([image_histogram(run, indices[i]) for i in points])
        for run, indices in zip(runs, where, strict=True)
        if points
    ]
    return {
        "summaries": summaries,
        "histograms": histograms,
        "gallery": gallery,
        "names": {picture.point: picture.name for picture in gallery},
        "worst": most // 2,
    }


def _threshold_data(
    runs: list[Scored], labels: list[str], values: dict[str, Any]
) -> dict[str, Any]:
    """Return the data for the page's script."""
    gallery: list[GalleryImage] = values["gallery"]
    summaries: list[Summary] = values["summaries"]
    histograms: list[Tensor] = values["histograms"]
    data: dict[str, Any] = {"runs": [], "plot": figures.plot()}
    data["pictures"] = [{key: getattr(p, key) for key in FOR_SCRIPT} for p in gallery]
    if gallery:
        data["runs"] = [
            {
                "label": label,
                "level": run.level,
                "histogram": summary.histogram.tolist(),
                "iou_image": summary.iou_image.tolist(),
                "bins": summary.bins.tolist(),
                "histograms": of_points.tolist(),
            }
            for label, run, summary, of_points in zip(
                labels, runs, summaries, histograms, strict=True
            )
        ]
    return data
