"""Programs at the same time: all their processes end, none runs twice, their error is found."""

import os
import sys
import threading
import time

import pytest

from segacc.errors import InputError, Stopped
from segacc.runtime.programs import Programs, error_in

LAUNCHER = "Traceback (most recent call last):\nsubprocess.CalledProcessError: Command of 2"


def test_a_program_ends_with_all_its_processes_and_runs_once(tmp_path):
    programs, log = Programs(), tmp_path / "log"
    code = "import time; print('begun', flush=True); time.sleep(60)"
    launcher = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {code!r}])"
    ended = []

    def run():
        with pytest.raises(Stopped):
            programs.run([sys.executable, "-c", launcher], dict(os.environ), log)
        ended.append("stopped")

    thread = threading.Thread(target=run)
    thread.start()
    while not log.exists() or b"begun" not in log.read_bytes():
        time.sleep(0.02)
    time.sleep(0.5)
    assert thread.is_alive()  # the launcher has ended, and what it launched has not
    with pytest.raises(InputError, match="still run by a study that was killed, or by another"):
        Programs().run([sys.executable, "-c", "pass"], dict(os.environ), log)
    programs.stop()
    thread.join(timeout=30)
    assert ended == ["stopped"]
    with pytest.raises(Stopped):
        programs.run([sys.executable, "-c", "pass"], dict(os.environ), log)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (f"epoch 1\nerror: --model x is not known\n{LAUNCHER}", "--model x is not known"),
        (f"error: first\nTraceback:\n  a line\nKeyError: 'a'\n{LAUNCHER}", "KeyError: 'a'"),
        ("Killed", "Killed"),
        ("", "it printed nothing"),
    ],
)
def test_the_error_of_a_run_is_found_in_its_output(text, error):
    assert error_in(text).startswith(error)
