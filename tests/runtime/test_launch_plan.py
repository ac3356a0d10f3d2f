"""What the flags of the launcher and the config files of accelerate ask for."""

from pathlib import Path

import pytest
import torch

from segacc.config.launch import Launch
from segacc.errors import InputError
from segacc.runtime.launching.plan import PORT, plan_of, split_address

CONFIGS = Path(__file__).parents[2] / "accelerate_configs"
TWO_MACHINES = "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\nnum_machines: 2\n"


def test_one_process_needs_no_launcher():
    assert plan_of(Launch()) is plan_of(Launch(processes=1)) is None


def test_processes_of_one_machine_and_of_several():
    plan = plan_of(Launch(processes=3))
    assert plan and (plan.world, plan.first_rank, plan.address) == (3, 0, "127.0.0.1")
    plan = plan_of(Launch(processes=3, machines=2, machine_rank=1, main_address="192.0.2.1:4"))
    assert plan and (plan.world, plan.first_rank) == (6, 3)
    assert (plan.address, plan.port) == ("192.0.2.1", 4)


@pytest.mark.parametrize(
    ("given", "host", "port"),
    [
        ("node7", "node7", PORT),
        ("192.0.2.1:4000", "192.0.2.1", 4000),
        ("[2001:db8::1]:4000", "2001:db8::1", 4000),
        ("[2001:db8::1]", "2001:db8::1", PORT),
    ],
)
def test_an_address_may_have_a_port(given, host, port):
    assert split_address(given) == (host, port)


@pytest.mark.parametrize("given", ["node7:x", "node7:99999", ":4000", ""])
def test_an_address_that_is_none_is_refused(given):
    with pytest.raises(InputError, match="--main-address .*expected HOST or HOST:PORT"):
        split_address(given)


@pytest.mark.parametrize(
    ("launch", "words"),
    [
        (Launch(machines=2), "--machines 2: give each of them its own --machine-rank, from 0 to 1"),
        (Launch(machines=2, machine_rank=0), "--machines 2: give --main-address"),
        (Launch(machines=2, machine_rank=2, main_address="a"), "counted from 0, so expected 1"),
        (Launch(machine_rank=1), "--machine-rank 1 has no effect on one machine"),
        (Launch(main_address="a"), "--main-address a has no effect on one machine"),
        (Launch(launch_config=Path("no.yaml")), "--launch-config no.yaml: there is no such file"),
    ],
)
def test_what_contradicts_itself_is_refused(launch, words):
    with pytest.raises(InputError, match=words):
        plan_of(launch)


def test_as_many_gpus_as_there_are(monkeypatch):
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for gpus in ("2", "all"):
        plan = plan_of(Launch(gpus=gpus))
        assert plan and plan.processes == 2
    assert plan_of(Launch(gpus="1")) is None
    with pytest.raises(
        InputError, match="--gpus 3: this machine has 2 GPUs: give --gpus 2, or all"
    ):
        plan_of(Launch(gpus="3"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(InputError, match="--gpus all: this machine has no GPU .*give --processes"):
        plan_of(Launch(gpus="all"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with pytest.raises(InputError, match="ACCELERATE_USE_CPU is set"):
        plan_of(Launch(gpus="1"))


def test_the_config_files_of_the_package_say_what_they_promise():
    ddp = plan_of(Launch(launch_config=CONFIGS / "ddp.yaml"))
    assert ddp and (ddp.processes, ddp.machines) == (2, 1)
    assert ddp.environment["ACCELERATE_MIXED_PRECISION"] == "bf16"
    assert "CUDA_VISIBLE_DEVICES" not in ddp.environment
    more = plan_of(Launch(launch_config=CONFIGS / "ddp.yaml", processes=4))
    assert more and more.processes == 4  # flags win
    cpu = plan_of(Launch(launch_config=CONFIGS / "cpu.yaml"))
    assert cpu and cpu.world == 1 and cpu.environment["ACCELERATE_USE_CPU"] == "true"
    nodes = Launch(launch_config=CONFIGS / "multinode.yaml", main_address="node0", machine_rank=1)
    plan = plan_of(nodes)
    assert plan and (plan.processes, plan.world, plan.first_rank, plan.port) == (8, 16, 8, PORT)


@pytest.mark.parametrize("file", ["ddp.yaml", "accelerate_configs/ddp.yaml"])
def test_a_config_file_of_the_package_is_found_without_a_checkout(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert plan_of(Launch(launch_config=Path(file))).processes == 2
    with pytest.raises(InputError, match="one that comes with segacc: cpu.yaml, ddp.yaml, gpu"):
        plan_of(Launch(launch_config=Path("elsewhere") / file))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1, 2", "is no config file of accelerate"),
        ("a: b", "is no config file of accelerate"),
        (f"{TWO_MACHINES}num_processes: 3", "num_processes 3, .* on all 2 machines together"),
        (TWO_MACHINES.replace("MULTI_GPU", "XLA") + "num_processes: 2", "distributed_type XLA"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(tmp_path, text, words):
    file = tmp_path / "launch.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        plan_of(Launch(launch_config=file))
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)


def test_a_config_tells_the_processes_what_accelerate_would_tell_them(tmp_path):
    file = tmp_path / "launch.yaml"
    text = "compute_environment: LOCAL_MACHINE\ndistributed_type: FSDP\nnum_processes: 2\n"
    text += 'gpu_ids: "0,2"\nmixed_precision: fp16\ndynamo_config:\n  dynamo_backend: INDUCTOR\n'
    file.write_text(text)
    plan = plan_of(Launch(launch_config=file))
    assert plan and plan.environment == {
        "ACCELERATE_MIXED_PRECISION": "fp16",
        "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR",
        "ACCELERATE_USE_FSDP": "true",  # which the processes refuse
        "CUDA_VISIBLE_DEVICES": "0,2",
    }
