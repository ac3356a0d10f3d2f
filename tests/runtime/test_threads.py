"""How many cores a process may use, and results in order from threads."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from segacc.runtime import threads
from segacc.runtime.threads import cores, in_order, threads_of_user


def test_results_come_in_order_and_few_items_are_read_ahead():
    read = []

    def items():
        for item in range(20):
            read.append(item)
            yield item

    def slow_at_first(item):
        time.sleep(0.05 * (item == 0))
        return item * item

    with ThreadPoolExecutor(4) as pool:
        results = in_order(pool, slow_at_first, items(), most=3)
        assert next(results) == 0
        assert read == [0, 1, 2, 3]
        assert list(results) == [item * item for item in range(1, 20)]


def test_an_error_is_raised_in_order():
    with ThreadPoolExecutor(2) as pool:
        results = in_order(pool, lambda item: 1 / item, [1, 2, 0, 4])
        assert [next(results), next(results)] == [1.0, 0.5]
        with pytest.raises(ZeroDivisionError):
            next(results)


V1 = "9:name=systemd:/\n4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n"


def v1(quota: int, period: int = 100_000) -> dict[str, str]:
    return {"cpu.cfs_quota_us": f"{quota}\n", "cpu.cfs_period_us": f"{period}\n"}


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux has control groups")
@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {"": {"cpu.max": "200000 100000\n"}}, 2),
        ("0::/\n", {"": {"cpu.max": "150000 100000\n"}}, 2),
        ("0::/\n", {"": {"cpu.max": "1000 100000\n"}}, 1),
        ("0::/\n", {"": {"cpu.max": "max 100000\n"}}, 64),
        ("0::/\n", {"": {"cpu.max": "9900000 100000\n"}}, 64),
        # The smallest of the groups around counts; slices without a limit are between.
        (
            "0::/job.slice/step/task\n",
            {
                "job.slice": {"cpu.max": "300000 100000"},
                "job.slice/step": {"cpu.max": "max 100000"},
                "job.slice/step/task": {"cpu.max": "800000 100000"},
            },
            3,
        ),
        # A container whose mount begins at its own group, which /proc names by its outer path.
        ("0::/system.slice/docker-abc.scope\n", {"": {"cpu.max": "400000 100000"}}, 4),
        (V1, {"cpu": v1(200_000)}, 2),
        (V1, {"cpu": v1(-1), "cpu/docker/abc": v1(50_000, 20_000)}, 3),
        (V1, {"cpu": v1(-1)}, 64),
        ("", {}, 64),
    ],
)
def test_the_cpu_quota_of_a_container_counts(tmp_path, monkeypatch, groups, files, expected):
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: set(range(64)))
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups)
    for group, held in files.items():
        folder = tmp_path / "sys/fs/cgroup" / group
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in held.items():
            (folder / name).write_text(text)
    assert cores(tmp_path) == expected


def test_cores_are_at_least_one_and_at_most_those_of_the_machine():
    assert 1 <= cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("value", "launcher", "command", "found"),
    [
        ("3", None, "", 3),  # no launcher: the user's own
        ("4,2", None, "", 4),
        ("many", None, "", None),
        ("1", "PATH=/bin", "torchrun", None),  # set by the launcher
        ("1", "PATH=/bin|OMP_NUM_THREADS=1", "torchrun", 1),
        ("2", "OMP_NUM_THREADS=2|A=b", "accelerate|launch", 2),
        ("2", "A=b", "accelerate|launch|--num_cpu_threads_per_process|2", 2),
        ("2", "A=b", "accelerate|launch", None),  # its guess for a CPU
        ("1", "no /proc", "", None),
        ("5", "no /proc", "", 5),
    ],
)
def test_the_users_number_of_threads_is_told_from_the_launchers(
    tmp_path, monkeypatch, value, launcher, command, found
):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    monkeypatch.setattr(threads, "LAUNCHED", launcher is not None)
    if launcher and launcher != "no /proc":
        for name, text in (("environ", launcher), ("cmdline", command)):
            (tmp_path / name).write_bytes(text.encode().replace(b"|", b"\0"))
    assert threads_of_user(tmp_path) == found
