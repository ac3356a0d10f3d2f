"""segacc.train() in the kernel of a notebook: its bar, its errors, and its stop button."""

import queue
import time
from collections.abc import Iterator

import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager
from small import ROOT, TINY, write_blobs

SECONDS = 120
FLAGS = f"model={TINY[1]!r}, encoder={TINY[3]!r}, size=64, weights='none', batch_size=4"
BAR = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(scope="module")
def client() -> Iterator[BlockingKernelClient]:
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(ROOT))
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=SECONDS)
    client.manager = manager
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    return write_blobs(tmp_path_factory.mktemp("data") / "blobs")


def run_cell(client: BlockingKernelClient, code: str, stop_at: str | None = None) -> list[dict]:
    """What a cell sends until it is done; the stop button is pressed once `stop_at` is printed."""
    done, found = client.execute(code), []
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        try:
            message = client.get_iopub_msg(timeout=5)
        except queue.Empty:
            continue
        if message["parent_header"].get("msg_id") != done:
            continue
        found.append(message)
        if stop_at and stop_at in message["content"].get("text", ""):
            client.manager.interrupt_kernel()
            stop_at = None
        if message["content"].get("execution_state") == "idle":
            return found
    raise AssertionError(f"not done after {SECONDS} s: {text_of(found)}")


def text_of(messages: list[dict]) -> str:
    return "".join(m["content"]["text"] for m in messages if m["msg_type"] == "stream")


def errors(messages: list[dict]) -> list[tuple[str, str]]:
    return [
        (m["content"]["ename"], m["content"]["evalue"])
        for m in messages
        if m["msg_type"] == "error"
    ]


@pytest.mark.timeout(400)
def test_a_notebook_trains_shows_its_bar_and_is_stopped_and_resumed(client, blobs, tmp_path):
    flags = f"dataset={str(blobs)!r}, {FLAGS}, output_dir={str(tmp_path / 'run')!r}"
    cell = f"import segacc\nrun = segacc.train({flags}, tracker='none', epochs=3)"
    wrong = run_cell(client, cell.replace("epochs=3", "epochs=0"))
    assert errors(wrong) == [("InputError", "--epochs 0: expected 1 or more.")]
    stopped = run_cell(client, cell, stop_at="  1/3 ")
    [(kind, sentence)] = errors(stopped)
    assert kind == "Stopped" and "stopped by SIGINT after step" in sentence
    assert any(BAR in message["content"].get("data", {}) for message in stopped)
    # The kernel and its variables are still there.
    resumed = run_cell(
        client, f"run = segacc.train(resume={str(tmp_path / 'run')!r})\nprint(len(run.epochs))"
    )
    assert errors(resumed) == [] and text_of(resumed).endswith("3\n")
    assert "  1/3 " not in text_of(resumed)


@pytest.mark.timeout(400)
def test_a_second_stop_ends_a_cell_and_not_the_kernel(client, blobs, tmp_path):
    # Saving would take long: the first stop waits for the callback, the second one ends it.
    code = f"""
import time, segacc
def wait(line):
    print("waits", flush=True)
    import os, signal
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(2)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
left = 5
segacc.train(dataset={str(blobs)!r}, {FLAGS}, output_dir={str(tmp_path / "run")!r},
    tracker='none', epochs=3, on_epoch=wait)
"""
    began = time.monotonic()
    assert [kind for kind, _ in errors(run_cell(client, code))] == ["KeyboardInterrupt"]
    assert time.monotonic() - began < 50  # it does not wait for the callback's 60 seconds
    assert text_of(run_cell(client, "print(left)")) == "5\n"
