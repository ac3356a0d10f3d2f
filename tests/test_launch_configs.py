"""Every file in accelerate_configs/ starts the processes that it promises, here on the CPU."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

CONFIGS = Path(__file__).parent.parent / "accelerate_configs"

STATE = """
from accelerate import Accelerator
a = Accelerator()
state = f"{a.process_index} of {a.num_processes} on {a.device.type} in {a.mixed_precision}"
print(state + "\\n", end="")  # in one piece: the processes share the pipe
a.wait_for_everyone()  # one that ends at once may break the start of another
a.end_training()
"""


def start(tmp_path: Path, *launcher: str) -> subprocess.Popen[str]:
    script = tmp_path / "state.py"
    script.write_text(STATE, encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, "-m", *launcher, str(script)],
        env={**os.environ, "ACCELERATE_USE_CPU": "true"},
        stdout=subprocess.PIPE,
        text=True,
    )


def printed(*processes: subprocess.Popen[str]) -> list[str]:
    output = "".join(process.communicate(timeout=120)[0] for process in processes)
    assert [process.returncode for process in processes] == [0] * len(processes)
    return sorted(output.splitlines())


def launch(config: str, *flags: str) -> list[str]:
    return ["accelerate.commands.launch", "--config_file", str(CONFIGS / config), *flags]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_accelerate_accepts_the_file_and_it_says_how_to_use_it(config):
    load_config_from_file(str(config))  # refuses unknown keys and values
    text = config.read_text(encoding="utf-8")
    assert f"--config_file accelerate_configs/{config.name}" in text
    assert 3 <= len(text.splitlines()) <= 20


def test_one_process_on_the_cpu(tmp_path):
    assert printed(start(tmp_path, *launch("cpu.yaml"))) == ["0 of 1 on cpu in no"]


@pytest.mark.distributed
def test_several_processes_of_one_machine(tmp_path):
    run = start(tmp_path, *launch("ddp.yaml", "--main_process_port", "0"))
    assert printed(run) == ["0 of 2 on cpu in bf16", "1 of 2 on cpu in bf16"]


@pytest.mark.distributed
def test_several_machines(tmp_path):
    here = ["--main_process_ip", "127.0.0.1", "--main_process_port", str(free_port())]
    runs = [
        start(
            tmp_path,
            *launch("multinode.yaml", "--num_processes", "2", "--machine_rank", rank, *here),
        )
        for rank in ("0", "1")
    ]
    assert printed(*runs) == ["0 of 2 on cpu in bf16", "1 of 2 on cpu in bf16"]
