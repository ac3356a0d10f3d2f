"""Threads sleep instead of spinning while other programs use their cores, and only then."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from segacc.runtime.spinning import share_taken

# What a program needs that has two cores of its own: each of pytest's workers may have one.
TWO_CORES = """
import os, sys, threading, time
cores = sorted(os.sched_getaffinity(0) | set(range(os.cpu_count())))[:2]
try:
    os.sched_setaffinity(0, cores)
except OSError:
    pass
if len(os.sched_getaffinity(0)) < 2:
    print("one core")
    raise SystemExit
import torch
from segacc.runtime import spinning
torch.set_num_threads(2)
numbers = torch.ones(2**16)  # enough for two threads

def names():
    return [thread.name for thread in threading.enumerate()]
"""

IDLE = """
def idle():  # processor time while there is nearly nothing to do; spinning takes milliseconds
    before = time.process_time()
    for _ in range(30):
        numbers.add_(1)
        time.sleep(0.01)
    return time.process_time() - before

idle()
for _ in range(10):  # a busy machine gives a spinning thread no time
    spins = idle()
    with spinning.no_spinning(2):
        sleeps = idle()
    if min(spins, idle()) > 3 * sleeps:
        print("spinning ends and starts again")
        break
"""

FOLLOW = """
def threads():
    return len(os.listdir("/proc/self/task"))

numbers.add_(1)
seen = []

def shares():
    before = threads()
    for taken in [0.0, 0.06, 0.7, 0.4, 0.3] + 5 * [0.01] + [0.06] + 6 * [0.01] + [0.0, 0.5, 0.5]:
        yield taken
        time.sleep(0.02)  # a thread that ends is a moment in /proc
        seen.append(threads() - before)

spinning.follow(shares(), 2)
print(seen)
"""

WATCH = """
import subprocess
spinning.watch_cores(1)  # one thread waits for no other: so it is with a rank per core
print(names().count(spinning.WATCH))
spinning.watch_cores(2)
spinning.watch_cores(2)
print(names().count(spinning.WATCH))
busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
began = time.monotonic()
while "segacc-no-spinning" not in names() and time.monotonic() - began < 30:
    numbers.add_(1)
for program in busy:
    program.kill()
print("segacc-no-spinning" in names())
"""


def printed(code: str, **changed: str) -> tuple[str, str]:
    """What a program with two cores prints, and its warnings."""
    environment = {**os.environ, **changed}
    if not changed:
        environment.pop("OMP_WAIT_POLICY", None)
    done = subprocess.run(
        [sys.executable, "-c", TWO_CORES + code],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    if done.stdout == "one core\n":
        pytest.skip("needs two cores")
    return done.stdout, done.stderr


pytestmark = pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="needs Linux")


def test_one_more_team_ends_the_spinning_of_libgomp_until_it_ends():
    assert printed(IDLE)[0] == "spinning ends and starts again\n"


def test_spinning_ends_when_others_take_the_cores_and_starts_after_they_are_gone():
    seen, warnings = printed(FOLLOW)
    # The team is a thread of Python and the one that it starts.
    assert seen == f"{[0, 0] + 14 * [2] + [0, 0] + [2, 2]}\n"
    assert warnings.count("take 70% of the time of this process's 2 cores") == 1
    assert warnings.count("\n") == 1 and "taskset" in warnings


def test_a_process_that_has_to_share_its_cores_says_so_once():
    states, warnings = printed(WATCH)
    assert states == "0\n1\nTrue\n"
    assert warnings.count("its threads sleep now") == 1


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_what_the_user_has_set_stays(name):
    value = "PASSIVE" if name == "OMP_WAIT_POLICY" else "1000"
    code = "spinning.watch_cores(2); spinning.watch_cores(1); print(spinning.WATCH in names())"
    assert printed(code, **{name: value}) == ("False\n", "")


@pytest.mark.parametrize(
    ("ran", "waited", "share"),
    [
        (2.0, 0.1, 0.0),  # more threads than cores: they wait for each other
        (0.6, 1.4, 0.7),
        (1.0, 0.5, 0.25),  # the rest of the time nothing was to do
        (2.1, 0.0, 0.0),
    ],
)
def test_only_time_that_others_had_counts_as_taken(ran, waited, share):
    assert share_taken(ran, waited, own=2.0) == pytest.approx(share)
