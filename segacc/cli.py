"""The command `segacc`, of which each command is a function or a config.

Libraries are imported by the commands that need them, so that every --help is instant.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from segacc.config import STUDY_MODELS, EvaluateConfig, RecipeName, TrackerName, TrainConfig
from segacc.data_commands import cache, check, prepare
from segacc.errors import InputError, is_local_main, plural, run_program
from segacc.flags import parse_evaluate, parse_train
from segacc.options import NO_FLAGS, SIZE_SPEC, ReadingFlags, with_home
from segacc.sizes import AnySize

Images = Annotated[
    tuple[str, ...],
    tyro.conf.Positional,
    tyro.conf.arg(metavar="IMAGES...", help_behavior_hint="(required)"),
]
Runs = Annotated[
    tuple[Path, ...],
    tyro.conf.Positional,
    tyro.conf.arg(metavar="RUNS...", help_behavior_hint="(required)"),
]
Model = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
Format = Literal["onnx", "pt2", "smp", "transformers"]


def _shown(metavar: str, default: str) -> object:
    """How --help shows an option whose default, None, is filled in later."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=f"(default: {default})")


SizeToPredict = Annotated[
    AnySize | None, _shown("PX|WxH|native", "the model's, but with --tile native"), SIZE_SPEC
]


def train(args: Sequence[str], prog: str | None = None) -> None:
    """Train as the flags say; `prog` as in `parse_train`."""
    config = parse_train(args, prog)
    from segacc.training.fit import fit

    fit(config)


def evaluate(args: Sequence[str], prog: str | None = None) -> None:
    """Score a trained model as the flags say; `prog` as in `parse_train`."""
    config = parse_evaluate(args, prog)
    from segacc.evaluation.evaluate import evaluate as evaluate_run

    evaluate_run(config)


def predict(
    model: Model,
    images: Images,
    out: Path,
    probabilities: bool = False,
    overlays: bool = False,
    threshold: Annotated[float | None, _shown("P", "the model's")] = None,
    tta: Literal["none", "h", "hv"] = "none",
    tile: Annotated[int | None, _shown("PX", "none")] = None,
    size: SizeToPredict = None,
    batch_size: int = 8,
) -> int:
    """Write a mask for each image: a PNG at the image's own size, foreground 255, the rest 0.

    With more than two classes a mask holds the number of the class, and a palette of their colours;
    DIR/classes.txt lists both.

    Images that cannot be read are listed at the end and do not stop the rest.

    Args:
        model: a run's folder, a from_pretrained folder, the Hub id of a segacc model, or an ONNX
            file of `segacc export`.
        images: files, folders (with the folders in them), or globs in quotes, with ** too.
        out: a new folder. A mask is named after its image; folders below a given one are kept.
        probabilities: write DIR/probabilities too: 8-bit gray, where a value v means a probability
            above v/256 and up to (v+1)/256; the mask at a threshold t is where v >= 256 t. With
            more than two classes a folder for each image, with a file for each class.
        overlays: write DIR/overlays too: the images with what was found tinted and outlined.
        threshold: a pixel is foreground where the probability is above this.
        tta: take the mean over flips: h horizontally, hv vertically and both ways as well.
        tile: predict windows of this width and height that overlap by half, at the image's own
            size: in bounded memory, however large the image is.
        size: resize images to this width and height first, or with native not at all; masks keep
            the images' own size.
        batch_size: images per step; fewer where they are large.

    Returns:
        1 when an image could not be read, else 0.
    """
    from segacc.prediction.find import plan

    jobs = plan(images, out, probabilities, overlays)  # before the slow import of torch
    from segacc.models.load import load_predictor
    from segacc.prediction.files import predict_images
    from segacc.prediction.writing import write_legend
    from segacc.runtime.accelerator import make_accelerator
    from segacc.runtime.threads import set_threads

    accelerator = make_accelerator("fp32")
    set_threads(accelerator)
    segmenter = load_predictor(model).to(accelerator.device)
    write_legend(out, segmenter.labels)
    done = predict_images(segmenter, jobs, threshold, tta, tile, size, batch_size)
    if done.failed:
        print(f"without a mask, {len(done.failed)} of {len(jobs)} images:", file=sys.stderr)
        print("\n".join(f"  {sentence}" for sentence in done.failed), file=sys.stderr)
    for note in done.notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{plural(done.masks, 'mask')} in {out}, {done.speed} on {accelerator.device.type}")
    return int(bool(done.failed))


def export(
    model: Model,
    to: Annotated[Format | None, _shown("onnx|pt2|smp|transformers", "none")] = None,
    out: Annotated[Path | None, _shown("PATH", "beside the run's model")] = None,
    at: Annotated[AnySize | None, _shown("PX|WxH", "none"), SIZE_SPEC] = None,
    pixels: Literal["uint8", "float32"] = "uint8",
    int8: bool = False,
    push_to_hub: Annotated[str | None, _shown("OWNER/NAME", "none")] = None,
    public: bool = False,
    push_pictures: bool = False,
) -> None:
    """Write a trained model in a format that opens without segacc, and compare both.

    onnx and pt2 take raw pixels, RGB in 0..255, (B, 3, H, W) of any size: normalisation and padding
    are inside. They return probabilities, the mask at the model's threshold, and the logits. smp
    and transformers are folders for the from_pretrained of these libraries, with a README.md that
    says how to use them. A file that differs from the model by more than 0.001 in a probability is
    not kept.

    Args:
        model: a run's folder, a from_pretrained folder, or the Hub id of a segacc model.
        to: onnx for onnxruntime, pt2 for torch.export.load, or a folder for one of the libraries;
            only with --push-to-hub it may be left out.
        out: the new file or folder.
        at: onnx and pt2: resize images to this size inside, as in training, and the result back.
        pixels: onnx and pt2: the type of the images.
        int8: onnx: write a second file that computes in 8 bits, and say what that gains and loses.
        push_to_hub: push the run's model to this repository of the Hugging Face Hub, with a card,
            and what was written beside it (docs/hub.md).
        public: with --push-to-hub: all may see the repository; it is private without this.
        push_pictures: with --push-to-hub: push the overview of `segacc evaluate`, too, which shows
            test images.
    """
    if isinstance(at, str):
        raise InputError(f"--at {at}: without --at images are not resized, so leave it out.")
    from segacc.export.push import Push, export_and_push

    push = Push(push_to_hub, public, push_pictures)
    for line in export_and_push(model, to, out, at, pixels, int8, push):
        print(line)


def compare(runs: Runs, split: str = "test", out: Path = Path("comparison")) -> None:
    """Trained models in one table: scores with intervals, each against the best, and a report.

    Args:
        runs: folders of runs that `segacc evaluate` has scored, such as runs/*
        split: the split that they were scored on, or another folder of results: test-tta-hv.
        out: folder for comparison.md, comparison.csv and a report for each data set.
    """
    from segacc.evaluation.compare import compare as compare_runs

    compare_runs(list(runs), split, out)


def study(
    dataset: Annotated[str | None, _shown("SETS", "pedestrian,gland")] = None,
    models: str = "all",
    seeds: str = "0",
    encoder: Annotated[str | None, _shown("NAME", "resnet34")] = None,
    weights: Annotated[str | None, _shown("STR", "each model's pretrained ones")] = None,
    recipe: RecipeName = "study",
    out: Annotated[Path | None, _shown("DIR", "runs/study, or runs/study-fast")] = None,
    tracker: Annotated[TrackerName | None, _shown("NAME", "wandb, with --fast none")] = None,
    fast: bool = False,
    reading: ReadingFlags = NO_FLAGS,
) -> int:
    """Train and score all models on the study's sets, and compare them: one command, one table.

    Runs are spread over the GPUs. Given again, it skips what is done and resumes what was killed.

    Args:
        dataset: what `segacc train` takes as --dataset; several with commas between them.
        models: what `segacc train` takes as --model; several with commas, all for the study's six.
        seeds: numbers with commas between them; each is another run of every cell.
        encoder: what `segacc train` takes as --encoder, for the models that take one.
        weights: what `segacc train` takes as --weights; none for random weights. With several, with
            commas between them, a second table says what pretrained weights gave: imagenet,none.
        recipe: what `segacc train` takes as --recipe.
        out: folder for the runs, the table (study.md, study.csv) and the reports.
        tracker: what `segacc train` takes as --tracker; W&B shows the runs as one group.
        fast: the demo sets at half the size for two epochs from random weights: the whole table in
            minutes, to see it work.
        reading: how the files of all sets are read.

    Returns:
        1 when a run has failed, else 0.
    """
    try:
        seed_numbers = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise InputError(f"--seeds {seeds}: expected numbers such as 0,1,2.") from None
    from segacc.study.cells import cells_of
    from segacc.study.study import study as run_study

    out = out or Path("runs") / ("study-fast" if fast else "study")
    cells = cells_of(
        datasets=_words(dataset or ("demo-pedestrian,demo" if fast else "pedestrian,gland")),
        models=list(STUDY_MODELS) if models == "all" else _words(models),
        seeds=seed_numbers,
        encoder=encoder,
        weights=_words(weights or ("none" if fast else "imagenet")),
        recipe=recipe,
        tracker=tracker or ("none" if fast else "wandb"),
        fast=fast,
        out=out,
        reading=reading,
    )
    return run_study(cells, out)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def dashboard(project: str = "segacc", entity: str | None = None, out: Path | None = None) -> None:
    """Build the project's workspace in W&B: training, validation, throughput, pictures, models.

    Args:
        project: the project that runs are logged to.
        entity: a user or a team of W&B; by default who the key belongs to.
        out: write what would be sent into this file instead, as JSON; needs no key and no network.
    """
    from segacc.tracking.dashboard import save_workspace, write_workspace

    if out is not None:
        write_workspace(out, entity or "", project)
        print(f"written: {out}")
    else:
        print(f"saved: {save_workspace(entity, project)}")


COMMANDS: dict[str, Callable[..., Any]] = {
    "train": TrainConfig,  # this one and the next only for the list of commands in --help
    "evaluate": EvaluateConfig,
    "prepare": prepare,
    "check": check,
    "cache": cache,
    "predict": predict,
    "export": export,
    "compare": compare,
    "study": study,
    "dashboard": dashboard,
}


def run_command(args: list[str]) -> int | None:
    """Run the command that `args` begin with.

    Returns:
        its exit code, None for 0.
    """
    # --resume takes the other flags from the run's folder, which only parse_train knows how to do.
    if args[:1] == ["train"]:
        train(args[1:], prog="segacc train")
        return None
    if args[:1] == ["evaluate"]:
        evaluate(args[1:], prog="segacc evaluate")
        return None
    code: int | None = tyro.extras.subcommand_cli_from_dict(
        COMMANDS, prog="segacc", args=args, console_outputs=is_local_main()
    )
    return code


def main() -> None:
    """Entry point of the command `segacc`."""
    args = with_home(sys.argv[1:])
    sys.exit(run_program(lambda: run_command(args), debug="--debug" in args))
