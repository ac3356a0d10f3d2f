"""Processes in which the large libraries are loaded already, for tests that start many programs.

Importing PyTorch and what else a training needs takes five seconds of a core. A server of
multiprocessing imports them once, and each program runs in a fork of it. segacc itself is imported
anew by each, once its environment is as the test wants it.
"""

import atexit
import gc
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from segacc.errors import LAUNCH_FOLDER

LIBRARIES = (
    *("accelerate", "albumentations", "cv2", "datasets", "safetensors.torch", "scipy.ndimage"),
    *("segmentation_models_pytorch", "timm", "torch", "torch.distributed", "torch.utils.data"),
    *("tqdm.auto", "transformers", "tyro"),
)
BEFORE = dict(os.environ)  # as the libraries of the server read it
READ_LATE = (
    *("ACCELERATE_", "CUBLAS_", "PYTEST_", "SEGACC_", "TORCHINDUCTOR_", "WANDB_"),
    "PYTHONPATH",  # forks have the path of the tests
)
"""how variables begin that no library reads when it is imported"""


def takes(words: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether a program may run in a fork, whose libraries have read the environment of the server.
    Modules that start processes may not, nor programs that a test holds as text, since these look
    at what is imported and at memory."""
    if words[0] == "-c" or (words[0] == "-m" and words[1] != "segacc"):
        return False
    names = {name for name, _ in set(environment.items()) ^ set(BEFORE.items())}
    return all(name.startswith(READ_LATE) for name in names)


def run(
    words: Sequence[str], folder: Path, environment: Mapping[str, str], ranks: int, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run a program as `python WORDS` does, in one process or in several ranks of gloo.

    If a rank fails, the others are ended, as launchers do.
    """
    with tempfile.TemporaryDirectory() as scratch:
        printed = [os.path.join(scratch, name) for name in ("stdout", "stderr")]
        for path in printed:
            Path(path).touch()
        # What segacc's own launcher sets.
        together = {"WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1"}
        together |= {"MASTER_PORT": _free_port(), "OMP_NUM_THREADS": 1, LAUNCH_FOLDER: scratch}
        processes = []
        for rank in range(ranks):
            own = {"RANK": rank, "LOCAL_RANK": rank, **together} if ranks > 1 else {}
            own = {**environment, **{name: str(value) for name, value in own.items()}}
            given = (list(words), str(folder), own, printed)
            processes.append(_context().Process(target=_program, args=given))
        for process in processes:
            process.start()
        until = time.monotonic() + timeout
        while any(process.is_alive() for process in processes) and time.monotonic() < until:
            if any(process.exitcode for process in processes):
                until = min(until, time.monotonic() + 10)  # it is the others' turn to end
            time.sleep(0.02)
        in_time = not any(process.is_alive() for process in processes)
        for process in processes:
            process.kill()
            process.join()
        out, err = (Path(path).read_text(encoding="utf-8") for path in printed)
    codes = [process.exitcode or 0 for process in processes]
    if not in_time and not any(code > 0 for code in codes):
        raise subprocess.TimeoutExpired(list(words), timeout, out, err)
    code = next((code for code in codes if code), 0)
    return subprocess.CompletedProcess(list(words), code, out, err)


def _program(
    words: list[str], folder: str, environment: dict[str, str], printed: list[str]
) -> None:
    gc.freeze()  # so that collections do not look at all objects of the libraries
    for descriptor, path in enumerate(printed, start=1):
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, descriptor)
        os.close(file)
    multiprocessing.set_start_method(None, force=True)  # as in a program of its own
    # timm imports wandb, which then makes a folder for pictures; the first fork to end removes it.
    for name in [name for name in sys.modules if name.partition(".")[0] == "wandb"]:
        del sys.modules[name]
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    try:
        _run(words)
    finally:  # as an interpreter ends
        threading._shutdown()
        atexit._run_exitfuncs()


def _run(words: list[str]) -> None:
    option, *rest = words
    if option == "-m":
        sys.argv = rest
        sys.path.insert(0, "")
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        sys.path.insert(0, os.path.dirname(os.path.abspath(option)))
        runpy.run_path(option, run_name="__main__")


def _context() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(LIBRARIES))
    return context


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])
