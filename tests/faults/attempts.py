"""Attempts to train a run: each is a process, which a test may kill or stop at a given moment."""

import hashlib
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from small import ROOT

from segacc.errors import InputError
from segacc.training.saving.checkpoint import states

# Where a run spends its time: the functions of segacc during which a test kills it.
PLACES = {
    "step": ("segacc.training.steps", "train_step"),
    "validation": ("segacc.training.fit", "validate"),
    "state": ("segacc.training.saving.writer", "write_state"),
    "best": ("segacc.training.saving.writer", "save_best"),
}


@dataclass(frozen=True)
class Moment:
    place: str
    call: int
    """which call of the place"""
    part: float
    """when during this call, as a part of its usual duration; above 1 is shortly after it"""


def draw_moment(rng: random.Random, calls: int = 4) -> Moment:
    return Moment(rng.choice(sorted(PLACES)), rng.randint(1, calls), rng.uniform(0, 1.2))


def act_at(moment: Moment, action: str) -> None:
    """Do something to this process at the given moment.

    Args:
        action: the name of a signal that is sent; `raise` for a bug; `refuse` for an error of the
            user; `poison` for weights so large that the next loss is not finite.
    """
    module, name = PLACES[moment.place]
    original, calls, took = getattr(sys.modules[module], name), 0, 0.02

    def act(delay: float, job: Any) -> None:
        time.sleep(delay)
        if action == "raise":
            raise ArithmeticError(f"a bug that only rank {os.environ['RANK']} meets")
        if action == "refuse":
            raise InputError(f"only rank {os.environ['RANK']} knows why")
        if action == "poison":
            next(p for p in job.model.trained.model.parameters() if p.ndim == 4).data.mul_(1e38)
        else:
            os.kill(os.getpid(), signal.Signals[action])

    def watched(*args, **kwargs):
        nonlocal calls, took
        calls += 1
        if calls == moment.call and moment.part == 0:
            act(0, args[0])
        elif calls == moment.call:
            delay = moment.part * took
            threading.Thread(target=act, args=(delay, args[0]), daemon=True).start()
        started = time.perf_counter()
        result = original(*args, **kwargs)
        took = time.perf_counter() - started
        return result

    setattr(sys.modules[module], name, watched)


def start(*command: object) -> subprocess.Popen[str]:
    """Start a program of segacc in the background, with stderr as a pipe."""
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "ACCELERATE_USE_CPU": "true"},
    )


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait until `condition` holds; the process must be running until then."""
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until and process.poll() is None, process.communicate()
        time.sleep(0.02)


def _train(args: list[str], log: Path, moment: Moment | None, action: str) -> None:
    import segacc.training.fit
    from segacc.config.flags import parse_train
    from segacc.errors import run_program

    # As in a program: not the fork server, which this process inherits from the tests.
    multiprocessing.set_start_method("fork", force=True)
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if moment:
        act_at(moment, action)

    def train() -> None:  # what a program returns would be its exit code
        segacc.training.fit.fit(parse_train(args))

    sys.exit(run_program(train, debug=False))


# A fork server that has imported everything starts the attempts: each takes a second, not six.
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["segacc.training.fit", "segmentation_models_pytorch"])


def run_attempt(
    run: Path, flags: list[str], moment: Moment | None = None, action: str = "SIGKILL"
) -> int:
    """Start or resume the run, and return the exit code; -9 when it was killed.

    What it prints is added to a file beside the run's folder: `run`.log.
    """
    begun = (run / "config.json").exists()
    args = ["--resume", str(run)] if begun else [*flags, "--output-dir", str(run)]
    process = _server.Process(target=_train, args=(args, run.with_suffix(".log"), moment, action))
    process.start()
    process.join()
    return process.exitcode


def sha256_of_weights(path: Path) -> str:
    """The sha256 of the names and bytes of a model's weights, in a state or in best/."""
    tensors = load_file(path)
    digest = hashlib.sha256()
    for name in sorted(tensors):
        if not name.startswith("optimizer."):
            digest.update(name.removeprefix("model.").encode())
            digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()


def outcome(run: Path) -> dict[str, object]:
    """What must be the same for a finished run, however often it was killed."""
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    timings = {"img_per_s", "data_wait", "seconds", "memory_gib"}
    return {
        "last": sha256_of_weights(states(run)[-1]),
        "best": sha256_of_weights(run / "best" / "model.safetensors"),
        "epochs": [{k: v for k, v in line.items() if k not in timings} for line in history],
    }


if __name__ == "__main__":  # torchrun ... attempts.py RANK PLACE CALL ACTION FLAGS...
    import segacc.training.fit
    from segacc.config.flags import parse_train
    from segacc.errors import run_program

    rank, place, call, action, *flags = sys.argv[1:]
    if os.environ["RANK"] == rank:
        act_at(Moment(place, int(call), part=0.0), action)

    def train() -> None:  # what a program returns would be its exit code
        segacc.training.fit.fit(parse_train(flags))

    sys.exit(run_program(train, debug=False))
