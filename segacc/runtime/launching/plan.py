"""Which processes the flags of the launcher, and a config file of accelerate, ask for."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import segacc
from segacc.config.launch import Launch, number_of
from segacc.errors import InputError, first_line, plural

if TYPE_CHECKING:
    from accelerate.commands.config.config_args import ClusterConfig

OWN_CONFIGS = "accelerate_configs"
"""The folder of the package with config files."""
PORT = 29500  # as in torchrun and accelerate
USED = ("NO", "MULTI_CPU", "MULTI_GPU")
NAMED = {"DEEPSPEED": "ACCELERATE_USE_DEEPSPEED", "FSDP": "ACCELERATE_USE_FSDP"}
NAMED |= {"MEGATRON_LM": "ACCELERATE_USE_MEGATRON_LM"}
"""Types that the processes refuse, and the variables by which they know them."""


@dataclass(frozen=True)
class Plan:
    """The processes to start."""

    processes: int
    """the number of processes on this machine"""
    machines: int
    machine_rank: int
    address: str
    """the address of machine 0"""
    port: int | None
    """None for any free one"""
    environment: dict[str, str]
    """what a config file says to the processes, in the variables that accelerate reads"""

    @property
    def world(self) -> int:
        """The number of processes of all machines."""
        return self.processes * self.machines

    @property
    def first_rank(self) -> int:
        """The rank of this machine's first process."""
        return self.processes * self.machine_rank


ALONE = Plan(1, 1, 0, "127.0.0.1", None, {})


def plan_of(flags: Launch) -> Plan | None:
    """The processes that the flags ask for; None for one process without any config.

    Raises:
        InputError: there are fewer GPUs, a flag is missing or has no effect, or the config file
            cannot be used.
    """
    plan = ALONE if flags.launch_config is None else plan_of_file(flags.launch_config)
    if flags.machines is not None:
        plan = replace(plan, machines=flags.machines)
    if flags.machine_rank is not None:
        plan = replace(plan, machine_rank=flags.machine_rank)
    elif plan.machines > 1 and flags.launch_config is None:
        raise InputError(
            f"--machines {plan.machines}: give each of them its own --machine-rank, from 0 to "
            f"{plan.machines - 1}."
        )
    if flags.main_address is not None:
        address, port = split_address(flags.main_address)
        plan = replace(plan, address=address, port=port)
    count = number_of(flags.gpus) or flags.processes
    if flags.gpus is not None:
        count = gpus_to_use(flags.gpus, plan.environment)
        # The config file may be one for the CPU.
        without = {k: v for k, v in plan.environment.items() if k != "ACCELERATE_USE_CPU"}
        plan = replace(plan, environment=without)
    plan = replace(plan, processes=count or plan.processes)
    check_machines(plan, flags)
    return None if plan == ALONE else plan


def split_address(given: str) -> tuple[str, int]:
    """Host and port of --main-address; raises InputError where they are none."""
    try:
        parts = urlsplit(f"//{given}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host:
        raise InputError(
            f"--main-address {given}: expected HOST or HOST:PORT, such as 192.0.2.1:{PORT} (an "
            "address of IPv6 in brackets)."
        )
    return host, port or PORT


def check_machines(plan: Plan, flags: Launch) -> None:
    """Raises InputError where machines cannot find each other."""
    if plan.machines == 1:
        for flag, value in (
            ("--machine-rank", flags.machine_rank),
            ("--main-address", flags.main_address),
        ):
            if value:
                raise InputError(
                    f"{flag} {value} has no effect on one machine: give --machines, or leave it "
                    "out."
                )
    if plan.machine_rank >= plan.machines:
        raise InputError(
            f"--machine-rank {plan.machine_rank}: {plan.machines} machines are counted from 0, so "
            f"expected {plan.machines - 1} at most."
        )
    if plan.machines > 1 and plan.address == ALONE.address and flags.main_address is None:
        raise InputError(
            f"--machines {plan.machines}: give --main-address, an address of machine 0 that the "
            f"others can reach, such as 192.0.2.1:{PORT}."
        )


def gpus_to_use(given: str, environment: dict[str, str]) -> int:
    """How many GPUs --gpus names.

    Raises:
        InputError: this machine has fewer.
    """
    from accelerate.utils import parse_flag_from_env
    from torch.cuda import device_count

    ids = environment.get("CUDA_VISIBLE_DEVICES")
    there = len(ids.split(",")) if ids else device_count()
    if parse_flag_from_env("ACCELERATE_USE_CPU"):
        raise InputError(
            f"--gpus {given}: ACCELERATE_USE_CPU is set, which forbids GPUs: unset it, or give "
            "--processes for processes on the CPU."
        )
    count = there if given == "all" else number_of(given) or 0
    if not there or count > there:
        found = plural(there, "GPU") if there else "no GPU that PyTorch can use"
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        why = f" (CUDA_VISIBLE_DEVICES is {visible!r})" if visible is not None else ""
        remedy = f"--gpus {there}, or all" if there else "--processes for processes on the CPU"
        raise InputError(f"--gpus {given}: this machine has {found}{why}: give {remedy}.")
    return count


def _find_config(file: Path) -> Path:
    """The file itself, or that of the package with this name, so that
    `accelerate_configs/ddp.yaml` is found without a checkout.

    Raises:
        InputError: there is neither.
    """
    if file.is_file():
        return file
    folder = Path(segacc.__file__).parent / OWN_CONFIGS
    own = folder / file.name
    if own.is_file() and file.parent in (Path(), Path(OWN_CONFIGS)):
        return own
    names = ", ".join(sorted(path.name for path in folder.glob("*.yaml")))
    raise InputError(
        f"--launch-config {file}: there is no such file; expected a config file of accelerate "
        f"(`accelerate config` writes one), or one that comes with segacc: {names}."
    )


def plan_of_file(file: Path) -> Plan:
    """Read what a config file of accelerate asks for on this machine.

    Raises:
        InputError: it is no such file, or asks for something that segacc does not support.
    """
    file = _find_config(file)
    from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
    from yaml import YAMLError

    try:
        config = load_config_from_file(str(file))
    except (ValueError, KeyError, TypeError, AttributeError, OSError, YAMLError) as error:
        raise InputError(
            f"--launch-config {file} is no config file of accelerate ({first_line(error)}): see "
            "accelerate_configs/ddp.yaml for one."
        ) from error
    if not isinstance(config, ClusterConfig) or config.distributed_type not in (*USED, *NAMED):
        raise InputError(
            f"--launch-config {file} has distributed_type {config.distributed_type.value} in "
            f"{config.compute_environment.value}, which segacc does not use: write one of "
            f"{', '.join(USED)}, in LOCAL_MACHINE."
        )
    machines, number = config.num_machines, config.num_processes
    if machines < 1 or number < 1 or number % machines:
        raise InputError(
            f"--launch-config {file} has num_processes {number}, which is the number on all "
            f"{plural(machines, 'machine')} together: write a multiple of {machines}."
        )
    return Plan(
        processes=number // machines,
        machines=machines,
        machine_rank=config.machine_rank,
        address=config.main_process_ip or ALONE.address,
        port=config.main_process_port or (PORT if machines > 1 else None),
        environment=environment_of(config),
    )


def environment_of(config: ClusterConfig) -> dict[str, str]:
    """The variables that accelerate's launcher would set for this config."""
    kind = config.distributed_type.value
    backend = (config.dynamo_config or {}).get("dynamo_backend", "no")
    given = {
        "ACCELERATE_MIXED_PRECISION": str(config.mixed_precision or "no"),
        "ACCELERATE_DYNAMO_BACKEND": str(backend),
    }
    if kind in NAMED:
        given[NAMED[kind]] = "true"
    if config.parallelism_config:
        given["ACCELERATE_USE_PARALLELISM_CONFIG"] = "true"
    if config.enable_cpu_affinity:
        given["ACCELERATE_CPU_AFFINITY"] = "1"
    if config.use_cpu or kind == "MULTI_CPU":
        given["ACCELERATE_USE_CPU"] = "true"
    if config.gpu_ids not in (None, "all"):
        given["CUDA_VISIBLE_DEVICES"] = str(config.gpu_ids)
    return given
