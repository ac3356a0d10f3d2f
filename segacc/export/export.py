"""export(): a trained model in a format that others open, checked before it appears."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

import segacc
from segacc.config.records import read_run_record
from segacc.config.sizes import NATIVE, AnySize, Size, width_height
from segacc.data.known import find_again, known_data, prepare_found
from segacc.data.reading.depth import WHOLE
from segacc.data.split import Prepared
from segacc.errors import InputError, disk_errors, first_line
from segacc.export.check import (
    Predict,
    check_sizes,
    check_split,
    comparison,
    refuse_if_different,
    sizes_to_check,
    what_int8_gives,
)
from segacc.export.files import quiet, write_int8, write_onnx, write_pt2
from segacc.export.folders import write_smp, write_transformers
from segacc.export.network import ExportedNetwork
from segacc.export.opening import (
    predict_onnx,
    predict_pt2,
    predict_smp,
    predict_transformers,
    reference_of,
)
from segacc.models.load import load_segmenter
from segacc.models.segmenter import Segmenter
from segacc.runs.epochs import read_epochs

Format = Literal["onnx", "pt2", "smp", "transformers"]
SUFFIXES = {"onnx": ".onnx", "pt2": ".pt2", "smp": "-smp", "transformers": "-transformers"}
CALIBRATION_IMAGES = 64


def export(
    source: str,
    to: Format,
    out: Path | None = None,
    at: Size | None = None,
    pixels: Literal["uint8", "float32"] = "uint8",
    int8: bool = False,
) -> list[Path]:
    """Write a trained model in another format, and compare it with the model.

    Args:
        source: what `load_segmenter` takes. For a run, validation images are compared as well.
        out: the new file or folder; by default beside the model of a run, else in this folder.
        at: with `onnx` and `pt2`, resize images to this size inside, and the result back.
        pixels: with these, the type of the images.
        int8: with `onnx`, write a file that computes in 8 bits as well.

    Returns:
        what was written.

    Raises:
        InputError: the format cannot hold the model, or what was written differs from it.
    """
    check_flags(to, out, at, pixels, int8)
    run = Path(source).expanduser()
    written = output_paths(source, to, out, int8)
    path, lower = written[0], written[-1]
    for file in written:
        if file.exists():
            raise InputError(f"--out {file} is there already: give another name, or remove it.")
    model = load_segmenter(source)
    if model.channels != 3:
        raise InputError(f"the model takes {model.channels} channels: only RGB can be exported.")
    data = images_of(run, model, at)
    if int8 and data is None:
        raise InputError(
            f"--int8 needs training images, to see what values there are, and {source} is not a "
            "run's folder: give that."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        disk_errors(path.parent, remedy="free space there, then give the same command again."),
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as aside,
        torch.no_grad(),
    ):
        whole, smaller = (Path(aside) / file.name for file in (path, lower))
        with quiet():
            exported = write(model, to, whole, at, pixels, metadata_of(run, model, at))
        print(f"{path}: {size_in_mb(whole):.1f} MB", flush=True)
        compare_outputs(model, at, exported, data, path)
        if int8:
            assert data is not None
            write_int8(whole, calibration_images(data, pixels), smaller)
            print(f"{lower}: {size_in_mb(smaller):.1f} MB")
            print(what_int8_gives(check_split(exported, predict_onnx(smaller), data)), flush=True)
        for file in written:
            (Path(aside) / file.name).replace(file)
    return written


def output_paths(source: str, to: Format, out: Path | None, int8: bool) -> list[Path]:
    """The file or folder to write, and with --int8 the second file."""
    run = Path(source).expanduser()
    path = out or (run if run.is_dir() else Path()) / (run.name + SUFFIXES[to])
    return [path, path.with_name(f"{path.stem}-int8{path.suffix}")] if int8 else [path]


def compare_outputs(
    model: Segmenter, at: Size | None, exported: Predict, data: Prepared | None, path: Path
) -> None:
    """Print how what was written differs from the model; raises InputError where it does."""
    reference, image = reference_of(model, at), example_image(data)
    try:
        sizes = check_sizes(reference, exported, sizes_to_check(model), image)
    except RuntimeError as error:
        raise InputError(
            f"{path} was not kept: it does not take images of every size ({first_line(error)}), "
            "since the network computes with the size of its training: give another --to, or use "
            "`segacc predict`."
        ) from error
    on_split = None if data is None else check_split(reference, exported, data)
    print(comparison(sizes, on_split), flush=True)
    refuse_if_different(path, sizes, on_split)


def check_flags(to: Format, out: Path | None, at: Size | None, pixels: str, int8: bool) -> None:
    """Raises InputError for flags that the format has no use for."""
    suffix = SUFFIXES[to]
    if out is not None and suffix.startswith(".") and out.suffix != suffix:
        raise InputError(f"--out {out}: expected a name that ends in {suffix} for --to {to}.")
    if to in ("smp", "transformers") and (at is not None or pixels != "uint8"):
        raise InputError(
            f"--to {to}: --at and --pixels are for onnx and pt2, which have the preparation of "
            "images inside: leave them out."
        )
    if to == "onnx" and not (find_spec("onnxscript") and find_spec("onnxruntime")):
        raise InputError(
            "--to onnx needs the packages onnxscript and onnxruntime: `pip install onnxscript "
            "onnxruntime`."
        )
    if int8 and to != "onnx":
        raise InputError(f"--int8 is for --to onnx, not for {to}: leave it out.")


def write(
    model: Segmenter,
    to: Format,
    path: Path,
    at: Size | None,
    pixels: str,
    metadata: dict[str, Any],
) -> Predict:
    """Write the model in a format, and open it again as its users do."""
    if to == "smp":
        write_smp(model, path)
        return predict_smp(model, path)
    if to == "transformers":
        write_transformers(model, path)
        return predict_transformers(model, path)
    network = ExportedNetwork(model, at)
    if to == "onnx":
        write_onnx(network, pixels, metadata, path)
        return predict_onnx(path)
    write_pt2(network, pixels, metadata, path)
    return predict_pt2(path, pixels)


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's; else it may hold a model alone."""
    return (folder / "config.json").is_file() and (folder / "best").is_dir()


def images_of(run: Path, model: Segmenter, at: Size | None) -> Prepared | None:
    """The run's data, as the exported model sees it; None where the model is not a run's."""
    if not is_run(run):
        return None
    size: AnySize = NATIVE if at is not None else model.size or NATIVE
    return prepare_found(find_again(known_data(run)), size, model.value_range or WHOLE)


def example_image(data: Prepared | None) -> np.ndarray:
    """(H, W, 3) uint8: a validation image, or noise where there is none."""
    if data is not None:
        return data.splits["valid"][0][0]
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def calibration_images(data: Prepared, pixels: str) -> Iterator[np.ndarray]:
    """(1, 3, H, W): the first training images."""
    split = data.splits["train"]
    for index in range(min(len(split), CALIBRATION_IMAGES)):
        yield split[index][0].transpose(2, 0, 1)[None].astype(pixels)


def metadata_of(run: Path, model: Segmenter, at: Size | None) -> dict[str, Any]:
    """Return the metadata of an exported file."""
    labels = model.labels
    values = model.config()
    found: dict[str, Any] = {
        "segacc": segacc.__version__,
        "classes": list(labels.names) if labels else None,
        "colours": [list(colour) for colour in labels.colours] if labels else None,
        "threshold": model.threshold if values["classes"] == 1 else None,
        "size": list(width_height(model.size)) if model.size else None,
        "value_range": values["value_range"],
        "at": list(width_height(at)) if at else None,
        "architecture": values["architecture"],
        "encoder": values["encoder"],
    }
    if is_run(run):
        record = read_run_record(run)
        config = record["config"]
        epochs = read_epochs(run)
        best = max(epochs, key=lambda line: line["valid_iou"]) if epochs else {}
        found |= {
            "dataset": Path(str(config["dataset"]).rstrip("/")).name,
            "run_id": record.get("run_id"),
            "commit": record.get("git_commit"),
            "weights": Path(str(config["weights"])).name,
            "loss": config["loss"],
            "seed": config["seed"],
            "scores": {name: value for name, value in best.items() if name.startswith("valid_")},
        }
        test = run / "test" / "metrics.json"
        if test.is_file():
            found["scores_on_test"] = json.loads(test.read_text(encoding="utf-8"))["scores"]
    return found


def size_in_mb(path: Path) -> float:
    """Return the size of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6
