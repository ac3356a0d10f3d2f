"""Keeps tests and the processes that they start from the user's settings, caches and network."""

import gc
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator

import pytest

CLOSED_PORT = "http://127.0.0.1:9"


def pytest_configure(config: pytest.Config) -> None:
    """Set before anything is imported: some libraries read their environment once, at import."""
    home = tempfile.TemporaryDirectory(prefix="segacc-tests-", ignore_cleanup_errors=True)
    config.add_cleanup(home.cleanup)
    for name in os.environ.copy():
        if name.startswith(("ACCELERATE_", "HF_", "SEGACC_", "WANDB_")):
            del os.environ[name]
    for name in ("HF_HOME", "SEGACC_CACHE", "TORCH_HOME", "TRACKIO_DIR", "WANDB_DIR"):
        os.environ[name] = os.path.join(home.name, name.lower())
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        os.environ[name] = os.path.join(home.name, "wandb_dir")
    os.makedirs(os.environ["WANDB_DIR"])
    os.environ["WANDB_MODE"] = "offline"
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

    # All clients that use the proxy variables get an error at once, except on this machine.
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        os.environ[name] = os.environ[name.upper()] = CLOSED_PORT
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1,localhost,::1"

    # nohup, and a shell's background jobs, ignore signals, and so would all programs started here.
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) == signal.SIG_IGN:
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, usual)

    # Each of pytest's workers, and what it starts, keeps to its own share of the cores.
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        share = cores[int(worker) :: int(os.environ["PYTEST_XDIST_WORKER_COUNT"])]
        os.sched_setaffinity(0, share or cores)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than the cores, for the times in which a worker waits for what it started."""
    return (len(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else 1) + 1


@pytest.hookimpl(trylast=True)  # when those that do not run are gone
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with a slow test first, then those with many tests: pytest's workers take whole files,
    and all of them should end at about the same time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path not in slow, -tests[item.path]))


@pytest.fixture(scope="module", autouse=True)
def later_garbage_collections_are_quick() -> Iterator[None]:
    """A training ends with a garbage collection, which would look at all objects of the libraries,
    for a third of the time of the tests. Frozen objects are passed over."""
    gc.freeze()
    yield
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # else triton's binding prints, at the end, that frozen objects have leaked
