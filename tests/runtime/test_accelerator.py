"""What training needs of its process: memory that is used again."""

import subprocess
import sys

import pytest

FAULTS = """
import ctypes, resource, sys
from segacc.runtime.threads import keep_memory
if not hasattr(ctypes.CDLL(None), "mallopt"):
    raise SystemExit("no glibc")
if sys.argv[1] == "keep":
    keep_memory()
import torch
for _ in range(3):
    torch.ones(2**24).sum()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(2**24).sum()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_memory_that_training_frees_is_used_again():
    def faults(mode):
        command = [sys.executable, "-c", FAULTS, mode]
        done = subprocess.run(command, capture_output=True, text=True)
        if "no glibc" in done.stderr:
            pytest.skip("only glibc has this setting")
        return int(done.stdout)

    assert faults("keep") * 5 < faults("leave")  # once more, where the heap has to grow
