"""The precision and the settings that a launcher asks for, and memory that is used again."""

import subprocess
import sys

import pytest
import torch

from segacc.errors import InputError
from segacc.runtime.accelerator import (
    LAUNCHER_SETTINGS,
    check_gpus,
    check_launcher,
    choose_precision,
    settings_put_back,
)

FAULTS = """
import ctypes, resource, sys
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
print(min(faults))  # some of them find the heap in pieces, and it has to grow
"""


def test_memory_that_training_frees_is_used_again():
    def faults(mode):
        command = [sys.executable, "-c", FAULTS, mode]
        done = subprocess.run(command, capture_output=True, text=True)
        if "no glibc" in done.stderr:
            pytest.skip("only glibc has this setting")
        return int(done.stdout)

    assert faults("keep") * 5 < faults("leave")


@pytest.mark.parametrize(
    ("asked", "launched", "use_cpu", "chosen"),
    [
        ("auto", "no", False, "no"),
        ("auto", "bf16", True, "bf16"),  # of a config that chooses the CPU
        ("auto", "bf16", False, "no"),  # of a config for a GPU
        ("auto", "fp16", False, "no"),
        ("bf16", "no", False, "bf16"),
        ("fp32", "bf16", True, "no"),
    ],
)
def test_a_precision_that_is_meant_for_a_gpu_is_not_taken_on_a_cpu(
    monkeypatch, caplog, asked, launched, use_cpu, chosen
):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    monkeypatch.setenv("ACCELERATE_USE_CPU", str(use_cpu))
    assert choose_precision(asked, cuda=False) == chosen
    warned = asked == "auto" and launched != "no" and not use_cpu
    assert (f"mixed_precision {launched}" in caplog.text and "in fp32" in caplog.text) == warned
    if asked == "auto" and launched != "no":
        assert choose_precision(asked, cuda=True) == launched


def test_fp16_on_a_cpu_is_refused_where_it_was_asked_for(monkeypatch):
    with pytest.raises(InputError, match="^--precision fp16 needs a GPU"):
        choose_precision("fp16", cuda=False)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with pytest.raises(InputError, match="^mixed_precision fp16 of the launcher's config"):
        choose_precision("auto", cuda=False)


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        *((variable, "true", name) for variable, name in LAUNCHER_SETTINGS.items()),
        ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR", "dynamo_backend inductor.* --compile"),
        ("ACCELERATE_MIXED_PRECISION", "fp8", "mixed_precision fp8"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", "--accumulate"),
    ],
)
def test_what_a_launcher_asks_for_and_does_not_get_is_refused(monkeypatch, variable, value, named):
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "NO")
    check_launcher()
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError, match=named):
        check_launcher()


def test_one_process_where_several_were_asked_for_is_said(monkeypatch, caplog):
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "NO")
    check_launcher()
    assert not caplog.text
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    check_launcher()
    assert "starts only one" in caplog.text


def test_more_processes_than_gpus_are_one_sentence(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "0")
    check_gpus()
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(InputError, match="2 processes or more .* 1 GPU can be used: start 1, or"):
        check_gpus()


def test_an_interrupt_while_libraries_load_stays_an_interrupt(monkeypatch):
    """What is put back may import what the interrupt has caught half imported."""

    def half_imported(*_):
        raise AttributeError("partially initialized module")

    monkeypatch.setattr(torch, "use_deterministic_algorithms", half_imported)
    with pytest.raises(KeyboardInterrupt), settings_put_back():
        raise KeyboardInterrupt


def test_the_choice_of_deterministic_operations_is_put_back():
    before = torch.are_deterministic_algorithms_enabled()
    with settings_put_back():
        torch.use_deterministic_algorithms(not before)
    assert torch.are_deterministic_algorithms_enabled() == before
