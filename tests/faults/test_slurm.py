"""The Slurm script, with commands of Slurm that do here what the real ones do on two GPUs.

Slurm itself (22.05, two tasks on one and on two nodes) ran it by hand: time limit, preemption,
requeue, scancel, a failing task.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small import ROOT, TINY, lines, write_blobs

SRUN = """#!/bin/bash
trap : TERM  # it outlives the signal
while [ "$1" != bash ]; do shift; done
for i in 0 1; do
  SLURM_PROCID=$i SLURM_LOCALID=$i "$@" &
  pids+=($!)
done
highest=0
for pid in "${pids[@]}"; do
  wait "$pid"  # which a signal ends early
  while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
  wait "$pid"
  code=$?
  [ $code -gt $highest ] && highest=$code
done
exit $highest
"""
SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then echo 127.0.0.1; else echo "$@" >> "$CALLS"; fi
"""


@pytest.fixture
def slurm(tmp_path):
    """What sbatch gives a script: its folder, its variables, the commands."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ACCELERATE_USE_CPU": "true",
        "CALLS": str(tmp_path / "calls"),
        "SLURM_JOB_NAME": "segacc",
        "SLURM_JOB_ID": str(10_000 + os.getpid() % 10_000),
        "SLURM_JOB_NODELIST": "node",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_CPUS_PER_TASK": "1",
    }


@pytest.mark.soak
@pytest.mark.distributed
def test_a_job_that_is_told_to_stop_goes_back_into_the_queue_and_finishes(tmp_path, slurm):
    flags = ["--dataset", write_blobs(tmp_path / "data"), "--size", "64", "--weights", "none"]
    flags += ["--batch-size", "4", "--tracker", "none", "--epochs", "12", *TINY]
    run = tmp_path / "runs" / f"segacc-{slurm['SLURM_JOB_ID']}"
    script = ["bash", ROOT / "accelerate_configs" / "slurm.sh", *flags]
    script = [str(part) for part in script]
    job = subprocess.Popen(script, cwd=tmp_path, env=slurm, start_new_session=True)
    until = time.monotonic() + 120
    while not (run / "metrics.jsonl").exists():
        assert time.monotonic() < until and job.poll() is None
        time.sleep(0.05)
    os.killpg(job.pid, signal.SIGTERM)  # to the script and all that it has started
    assert job.wait(timeout=30) == 75
    done = len(lines(run))
    assert 1 <= done < 12
    requeued = f"requeue Incomplete {slurm['SLURM_JOB_ID']}\n"
    assert (tmp_path / "calls").read_text() == requeued

    again = subprocess.run(script, cwd=tmp_path, env=slurm, capture_output=True, timeout=120)
    assert again.returncode == 0, again.stderr[-3000:]
    assert [line["epoch"] for line in lines(run)] == list(range(1, 13))
    assert (tmp_path / "calls").read_text() == requeued  # not once more


def test_an_error_is_not_repeated(tmp_path, slurm):
    script = ["bash", str(ROOT / "accelerate_configs" / "slurm.sh"), "--crop", "1"]
    done = subprocess.run(script, cwd=tmp_path, env=slurm, capture_output=True, timeout=60)
    assert done.returncode == 2 and b"--crop 1: expected 8 or more" in done.stderr
    assert not (tmp_path / "calls").exists()
