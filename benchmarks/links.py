"""How much faster 8 processes would be, from measured steps and from the bytes that DDP sends.

    python -m benchmarks.links [--models linknet segformer] [--batches 16 64] [--processes 8]

Steps are measured on one process of this machine: with the whole batch, and with the share of the
batch that each process would have. The bytes between processes are computed: in a ring all-reduce
of float32 gradients, each process sends 4 bytes * parameters * 2 (W - 1) / W in each step
(Patarasuk & Yuan 2009). The speeds of links are those of their data sheets. So the gains are upper
bounds. They leave out latencies, the votes of the processes, and what BatchNorm and Dice sum over
them. The number of BatchNorm's sums in a step, one forward and one backward for each layer, is
printed. Prints two Markdown tables.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
import tyro
from accelerate import Accelerator
from torch import nn

from benchmarks.contenders.turns import use_cores
from benchmarks.throughput import machine
from segacc.config.train import STUDY_MODELS
from segacc.models.global_batch.dropout import Place, place_dropout
from segacc.models.segmenter import Segmenter
from segacc.models.weights.build import build_model
from segacc.runtime.threads import keep_memory
from segacc.training.losses.terms import make_loss
from segacc.training.optim import make_optimizer

LINKS = {  # GB/s in each direction
    "NVLink 4": 450.0,
    "PCIe 4 x16": 32.0,
    "100 Gb/s": 12.5,
    "10 Gb/s": 1.25,
}
BACKWARD = 2 / 3
"""Share of a step that is the backward pass, twice the work of the forward pass. DDP sends the
gradients while it is computed."""


@dataclass(frozen=True)
class Args:
    models: tuple[str, ...] = STUDY_MODELS
    batches: tuple[int, ...] = (16, 64)
    """sizes of the global batch; multiples of the number of processes"""
    processes: int = 8
    size: int = 128
    repeats: int = 3
    """steps that are counted, after two that are not"""


def bytes_sent(parameters: int, processes: int) -> float:
    """Bytes that each process sends in a step; it receives as many."""
    return 4 * parameters * 2 * (processes - 1) / processes


def step_seconds(
    accelerator: Accelerator, model: Segmenter, place: Place, batch: int, args: Args
) -> float:
    """The median time of some steps on one batch that stays on the device."""
    place.total = batch
    optimizer = make_optimizer(model, 1e-3, 0.01)
    loss_fn = make_loss("dice")
    pixels = torch.randint(0, 256, (batch, args.size, args.size, 3), dtype=torch.uint8)
    images = pixels.to(accelerator.device).permute(0, 3, 1, 2)
    label_maps = (images[:, 0] > 127).to(torch.uint8)
    times = []
    for _ in range(args.repeats + 2):
        began = time.perf_counter()
        with accelerator.autocast():
            loss = loss_fn(model(images), label_maps)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if accelerator.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times[2:])


def speed_up(whole: float, share: float, link: float) -> float:
    """How many times faster the processes are than one.

    Args:
        whole, share: seconds of a step with the whole batch, and with the share of a process.
        link: seconds that it takes to send the gradients of a step.
    """
    return whole / (share + max(0.0, link - BACKWARD * share))


def rule(columns: int) -> str:
    """The line below the heading of a Markdown table."""
    return "|" + "|".join(["---"] * columns) + "|"


def main(args: Args) -> None:
    wrong = [batch for batch in args.batches if batch % args.processes]
    if wrong:
        raise SystemExit(f"--batches {wrong[0]} cannot be divided by {args.processes} processes.")
    cuda = torch.cuda.is_available()
    accelerator = Accelerator(mixed_precision="bf16" if cuda else "no")
    if not cuda:
        use_cores()
        keep_memory()
    torch.backends.cudnn.benchmark = True  # as in training
    print(
        f"{args.size} px, {'bf16' if cuda else 'fp32'}, {args.processes} processes, each with such "
        f"a device; median of {args.repeats} steps.\n\n{machine()}.\n"
    )
    moves, gains = [], []
    for name in args.models:
        model = build_model(name, "resnet34", "none").model.to(accelerator.device).train()
        place = place_dropout(model)
        sent = bytes_sent(model.parameters_trained, args.processes)
        seconds = {link: sent / (1e9 * speed) for link, speed in LINKS.items()}
        sums = 2 * sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
        cells = [name, f"{model.parameters_trained / 1e6:.1f}", f"{sent / 1e6:.0f}"]
        cells += [f"{sums}"]
        cells += [f"{1e3 * s:.1f} ({1e3 * s / BACKWARD:.1f})" for s in seconds.values()]
        moves.append(f"| {' | '.join(cells)} |")
        for batch in args.batches:
            whole, share = (
                step_seconds(accelerator, model, place, images, args)
                for images in (batch, batch // args.processes)
            )
            free = speed_up(whole, share, 0.0)
            cells = [name, f"{batch}", f"{1e3 * whole:.1f}", f"{1e3 * share:.1f}", f"{free:.1f}"]
            cells += [f"{speed_up(whole, share, s):.1f}" for s in seconds.values()]
            gains.append(f"| {' | '.join(cells)} |")
    links = " | ".join(LINKS)
    print(
        "Milliseconds that a step's gradients take on each link (and how long a step must be to "
        f"hide them):\n\n| model | trained, M | MB sent | sums of BatchNorm | {links} |\n"
        f"{rule(4 + len(LINKS))}"
    )
    print("\n".join(moves))
    print(
        "\nTimes faster than one process, at most:\n\n"
        f"| model | batch | ms a step on one | ms a step of the "
        f"share | if sending took no time | {links} |\n{rule(5 + len(LINKS))}"
    )
    print("\n".join(gains))


if __name__ == "__main__":
    main(tyro.cli(Args))
