"""The command that writes a model in another format.

Libraries are imported by the commands that need them, so that every --help is instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from segacc.command_line import Groups
from segacc.config.names import A_TRAINED_MODEL, check_place
from segacc.config.options import SIZE_SPEC, Model, shown_as
from segacc.config.sizes import AnySize
from segacc.errors import InputError
from segacc.runtime.bars import show_doing

Format = Literal["onnx", "pt2", "smp", "transformers"]

EXPORT_GROUPS: Groups = {"hub": ("push_to_hub", "public", "push_pictures")}
"""The groups in which --help shows the flags."""


def export(
    model: Model,
    to: Annotated[Format | None, shown_as("onnx|pt2|smp|transformers", "none")] = None,
    out: Annotated[Path | None, shown_as("PATH", "beside the run's model")] = None,
    at: Annotated[AnySize | None, shown_as("PX|WxH", "none"), SIZE_SPEC] = None,
    pixels: Literal["uint8", "float32"] = "uint8",
    int8: bool = False,
    push_to_hub: Annotated[str | None, shown_as("OWNER/NAME", "none")] = None,
    public: bool = False,
    push_pictures: bool = False,
) -> None:
    """Write a trained model in a format that opens without segacc.

    What is written is compared with the model. onnx and pt2 take raw pixels, RGB in 0..255,
    (B, 3, H, W) of any size: normalisation and padding are inside. They return probabilities, the
    mask at the model's threshold, and the logits. smp and transformers are folders for the
    from_pretrained of these libraries, with a README.md that says how to use them. A file that
    differs from the model by more than 0.001 in a probability is not kept.

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
    check_place("the model", model, A_TRAINED_MODEL)
    show_doing("loading the model, writing it and comparing the two")
    import torch

    from segacc.export.push import Push, export_and_push
    from segacc.runtime.threads import prepare_cpu

    prepare_cpu(torch.device("cpu"))  # which writes the model and compares the two
    push = Push(push_to_hub, public, push_pictures)
    for line in export_and_push(model, to, out, at, pixels, int8, push):
        print(line)
