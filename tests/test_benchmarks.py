"""The benchmarks: what they compute from what they time, and that their contenders run."""

from types import SimpleNamespace

import pytest
from small import run_program, write_blobs

from benchmarks.throughput import rows, spread, write_files


def contender(train, epoch, **more):
    epochs = [{"train": 99, "epoch": 99, "first_step": 2.0, "memory_gib": 9.0}]
    times = zip(train, epoch, strict=True)
    epochs += [{"train": t, "epoch": e, "memory_gib": 1.5, **more} for t, e in times]
    return SimpleNamespace(epochs=epochs, launch=3.0)


def test_ratios_are_of_epochs_that_were_measured_beside_each_other():
    running = {
        "segacc": contender([2, 4, 2], [3, 6, 3], images=32, data_wait=0.02),
        "bare": contender([4, 4, 2], [6, 6, 6]),
    }
    ours, bare = ([cell.strip() for cell in row.split("|")[1:-1]] for row in rows(running, 32))
    assert ours == [
        "segacc",
        "16.0 (8.0 to 16.0)",
        "",
        "3.00 (3.00 to 6.00)",
        "",
        "5.0",
        "1.00%",
        "1.50",
    ]
    assert bare[2] == "1.00 (1.00 to 2.00)"  # 2, 1 and 1
    assert bare[4] == "2.00 (1.00 to 2.00)"  # 2, 1 and 2


def test_a_spread_is_the_median_and_the_range():
    assert spread([3.0, 1.0, 2.0], 1) == "2.0 (1.0 to 3.0)"


def test_contenders_get_the_data_set_as_files(tmp_path):
    blobs = write_blobs(tmp_path / "blobs", train=3, valid=2)
    assert write_files(str(blobs), tmp_path / "files") == {"train": 3, "valid": 2}
    for split, count in (("train", 3), ("valid", 2)):
        for suffix in ("jpg", "png"):
            assert len(list((tmp_path / "files" / split).glob(f"*.{suffix}"))) == count
    first = (blobs / "train" / "train0.jpg").read_bytes()
    assert first in [path.read_bytes() for path in (tmp_path / "files" / "train").glob("*.jpg")]


@pytest.mark.soak
def test_all_contenders_take_turns(tmp_path):
    pytest.importorskip("lightning")
    blobs = write_blobs(tmp_path / "blobs")
    flags = ["--dataset", blobs, "--models", "segformer", "--size", 64, "--batch-size", 4]
    done = run_program("-m", "benchmarks.throughput", *flags, "--repeats", 1)
    assert done.returncode == 0, done.stderr[-3000:]
    table = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(table) == 6 and all("(" in line for line in table[1:])
