"""Lives of a run: each is a process that trains, and may be killed inside of something."""

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
from segacc.training.checkpoint import states

# What a run spends its time in: the functions of segacc that a kill may fall into.
PLACES = {
    "step": ("segacc.training.steps", "train_step"),
    "validation": ("segacc.training.fit", "validate"),
    "state": ("segacc.training.writer", "write_state"),
    "best": ("segacc.training.writer", "save_best"),
}


@dataclass(frozen=True)
class Moment:
    place: str
    call: int
    """which call of the place"""
    part: float
    """of the time that a call takes; above 1 is shortly after it"""


def draw(rng: random.Random, calls: int = 4) -> Moment:
    return Moment(rng.choice(sorted(PLACES)), rng.randint(1, calls), rng.uniform(0, 1.2))


def do_at(moment: Moment, action: str) -> None:
    """Let something happen to this process when the moment has come.

    Args:
        action: the name of a signal, or `raise` for a bug, or `refuse` for an error of the user, or
            `poison` for a weight that is too large for float32 as soon as it meets an image.
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
    """A program of ours in the background; what it says on stderr can be read."""
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "ACCELERATE_USE_CPU": "true"},
    )


def wait_for(what: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Until `what` is so, while the process lives."""
    until = time.monotonic() + 120
    while not what():
        assert time.monotonic() < until and process.poll() is None, process.communicate()
        time.sleep(0.02)


def _live(args: list[str], log: Path, moment: Moment | None, action: str) -> None:
    import segacc.training.fit
    from segacc.config import parse_train
    from segacc.errors import run_program

    multiprocessing.set_start_method("fork", force=True)  # as in a program; not from the server
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if moment:
        do_at(moment, action)

    def train() -> None:  # what a program returns would be its exit code
        segacc.training.fit.fit(parse_train(args))

    sys.exit(run_program(train, debug=False))


# A server that has imported everything forks the lives: each costs a second, not six.
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(["segacc.training.fit", "segmentation_models_pytorch"])


def live(run: Path, flags: list[str], moment: Moment | None = None, action: str = "SIGKILL") -> int:
    """Begin or resume the run and return the exit code; -9 when it was killed.

    What it prints is added to a file beside the run's folder: `run`.log.
    """
    begun = (run / "config.json").exists()
    args = ["--resume", str(run)] if begun else [*flags, "--output-dir", str(run)]
    process = _server.Process(target=_live, args=(args, run.with_suffix(".log"), moment, action))
    process.start()
    process.join()
    return process.exitcode


def sha256_of_weights(path: Path) -> str:
    """Of the names and bytes of a model's weights, in a state or in best/."""
    tensors = load_file(path)
    digest = hashlib.sha256()
    for name in sorted(tensors):
        if not name.startswith("optimizer."):
            digest.update(name.removeprefix("model.").encode())
            digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()


def outcome(run: Path) -> dict[str, object]:
    """All of a finished run that must not depend on how often it was killed."""
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    timings = {"img_per_s", "data_wait", "seconds", "memory_gib"}
    return {
        "last": sha256_of_weights(states(run)[-1]),
        "best": sha256_of_weights(run / "best" / "model.safetensors"),
        "epochs": [{k: v for k, v in line.items() if k not in timings} for line in history],
    }


if __name__ == "__main__":  # under torchrun: lives.py RANK PLACE CALL ACTION FLAGS... of train.py
    import segacc.training.fit
    from segacc.config import parse_train
    from segacc.errors import run_program

    rank, place, call, action, *flags = sys.argv[1:]
    if os.environ["RANK"] == rank:
        do_at(Moment(place, int(call), part=0.0), action)

    def train() -> None:  # what a program returns would be its exit code
        segacc.training.fit.fit(parse_train(flags))

    sys.exit(run_program(train, debug=False))
