"""What training needs of its process: memory that is used again."""

import subprocess
import sys

import pytest

FAULTS = """
import ctypes, resource, statistics, sys
from segacc.runtime.threads import keep_memory
if not hasattr(ctypes.CDLL(None), "mallopt"):
    raise SystemExit("no glibc")
if sys.argv[1] == "keep":
    keep_memory()
import torch
faults = []
for _ in range(13):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24).sum()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(statistics.median(faults))  # a few times the heap has to grow
"""


def test_memory_that_training_frees_is_used_again():
    def faults(mode):
        command = [sys.executable, "-c", FAULTS, mode]
        done = subprocess.run(command, capture_output=True, text=True)
        if "no glibc" in done.stderr:
            pytest.skip("only glibc has this setting")
        return float(done.stdout)

    assert faults("keep") * 5 < faults("leave")
