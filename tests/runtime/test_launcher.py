"""The launcher, with small programs as its processes."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from small import ROOT

from segacc.errors import ERROR_SAID, LAUNCH_FOLDER
from segacc.runtime.launching.launcher import run_all
from segacc.runtime.launching.plan import ALONE

TWO = replace(ALONE, processes=2)


def launched(tmp_path: Path, program: str, plan=TWO) -> int:
    """Run a Python program in each process; returns the launcher's exit code."""
    start = f"import os, signal, sys, time\nfolder = {str(tmp_path)!r}\n"
    start += "rank = os.environ.get('RANK')\n"
    return run_all(plan, [sys.executable, "-c", start + program], {LAUNCH_FOLDER: str(tmp_path)})


def test_each_process_knows_its_rank_and_where_the_others_are(tmp_path):
    program = """
names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "X")
print(*(os.environ[name] for name in names), file=open(f"{folder}/{rank}", "w"))
print(os.environ["MASTER_PORT"], file=open(f"{folder}/port{rank}", "w"))
"""
    plan = replace(TWO, machines=2, machine_rank=1, port=29512, environment={"X": "y"})
    assert launched(tmp_path, program, plan) == 0
    assert (tmp_path / "2").read_text() == "2 0 4 2 127.0.0.1 y\n"
    assert (tmp_path / "3").read_text() == "3 1 4 2 127.0.0.1 y\n"
    assert (tmp_path / "port2").read_text() == (tmp_path / "port3").read_text() == "29512\n"


def test_the_exit_code_is_that_of_the_process_that_failed_first_and_the_others_are_told(tmp_path):
    program = """
def told(*_):
    open(f"{folder}/told", "w").close()
    sys.exit(3)
signal.signal(signal.SIGTERM, told)
open(f"{folder}/{rank}", "w").close()
while rank == "0" or not os.path.exists(f"{folder}/0"):
    time.sleep(0.01)
sys.exit(7)
"""
    assert launched(tmp_path, program) == 7
    assert (tmp_path / "told").exists()


def test_the_others_are_killed_where_they_do_not_end(tmp_path, monkeypatch):
    monkeypatch.setattr("segacc.runtime.launching.launcher.END_SECONDS", 0.2)
    program = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(f"{folder}/{rank}", "w").close()
while rank == "0" or not os.path.exists(f"{folder}/0"):
    time.sleep(0.01)
sys.exit(7)
"""
    assert launched(tmp_path, program) == 7


def test_a_process_that_is_killed_is_named(tmp_path, capsys):
    """Also where the others say that they have lost it, and end for that."""
    program = f"""
if rank == '1':
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(0.5)
open(f"{{folder}}/{ERROR_SAID}", "w")
sys.exit(2)
"""
    assert launched(tmp_path, program) == 128 + signal.SIGKILL
    said = "error: the process of rank 1 was killed by SIGKILL, as the system does where memory"
    assert capsys.readouterr().err.startswith(said)


PASSES_ON = """
import os, sys
from dataclasses import replace
from segacc.runtime.launching.plan import ALONE
from segacc.runtime.launching.launcher import run_all
program = '''
import os, signal, sys, time
got = []
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda n, _: got.append(signal.Signals(n).name))
say = lambda words: os.write(1, words.encode() + bytes([10]))  # in one piece: the pipe is shared
say("ready")
while not got:
    time.sleep(0.01)
time.sleep(0.3)  # for a second one, and to save
say(" ".join(got))
sys.exit(75)
'''
plan = replace(ALONE, processes=2)
sys.exit(run_all(plan, [sys.executable, "-c", program], {"SEGACC_LAUNCH_FOLDER": sys.argv[1]}))
"""


def test_a_signal_is_passed_on_once_and_the_launcher_ends_last(tmp_path):
    """As from a terminal, which sends Ctrl-C to the whole group of the launcher."""
    for number in (signal.SIGINT, signal.SIGHUP):
        process = subprocess.Popen(
            [sys.executable, "-c", PASSES_ON, str(tmp_path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout
        assert [process.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
        os.killpg(process.pid, number)
        printed, _ = process.communicate(timeout=30)
        assert process.returncode == 75
        # SIGTERM may come after it: the launcher tells the other process when one has ended.
        assert [line.split()[0] for line in printed.splitlines()] == [number.name] * 2
        assert printed.count(number.name) == 2


def test_a_process_that_a_signal_ends_before_it_can_handle_it_has_nothing_to_save(tmp_path):
    program = PASSES_ON.replace("signal.signal(number, lambda n, _: got", "(lambda n, _: got")
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert [process.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
    process.terminate()
    _, printed = process.communicate(timeout=30)
    assert process.returncode == 75
    assert printed == "stopped by SIGTERM with nothing to save: give the same command again.\n"
