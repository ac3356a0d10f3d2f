"""Commands of the pages as a user starts them: a shell, the launchers, new processes.

What a command needs that is not here has a stand-in: servers of the Hub and of W&B on this
machine, processes on the CPU in place of GPUs and machines, small data and models.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import base_tester
import torch
from docs_commands import Code, arguments, copy_repository, split
from docs_world import SHORT
from model_hub import ModelHub, served
from small import ROOT, TINY
from transformers import AutoModelForSemanticSegmentation
from wandb_side import Server

BIN = Path(sys.executable).parent
# segacc where its launcher counts four GPUs; the processes that it starts find none.
GPUS = "import segacc.cli, torch; torch.cuda.device_count = lambda: 4; segacc.cli.main()"
DATA = {"slides": "slides-set", "gland": "./gland", "pedestrian": "./pedestrian"}
DATA |= {"demo": "./demo", "demo-street": "./demo-street"}  # drawn by code, which takes longer
DATA |= {"other": "./data"}
OTHER_DATA = {"--pairs": {"DIR": "paired"}, "--ignore": {"cells": "cells-set"}}  # beside a flag
# Weights that the test has made: those of a Hub, those of a command before, those of a file.
MADE = ("me/", "nvidia/", "last.ckpt")
FEWER = {"192.0.2.1": "127.0.0.1", "--num_processes 16": "--num_processes 2"}
FEWER |= {"--gpus 8": "--gpus 2", "owner/name": "me/name"}


def shorter(command: str, args: list[str]) -> list[str]:
    """The flags of a command, and others that make it quick on the small data."""
    if command == "check" and "--size" in args:
        args = [*args, "--size", "64", "--crop", "32"]
    if "--write-classes" in args:  # to whose classes a person gives names before the next command
        args = ["proposed.txt" if word == "classes.txt" else word for word in args]
    if command in ("predict", "evaluate") and "--tile" in args:
        args = [*args, "--tile", "32"]
    if command == "cache":
        args = [word for word in args if word not in ("--prune", "--days", "30", "--gb", "20")]
    if command == "dashboard":
        args = [*args, "--out", "workspace.json"]  # what would be sent; it needs no account
    if command == "study":
        words = dict(zip(args[::2], args[1::2], strict=True)) if "--fast" not in args else {}
        words |= {"--models": "linknet", "--encoder": TINY[3], "--seeds": "0", "--weights": "none"}
        words |= {"--tracker": "none", "--dataset": words.get("--dataset", "./pedestrian")}
        return ["--fast", *(part for pair in words.items() for part in pair)]
    return shorter_training(args) if command == "train" else list(args)


def shorter_training(args: list[str]) -> list[str]:
    data = dict(DATA)
    for flag, names in OTHER_DATA.items():
        data |= names if flag in args else {}
    args = [data.get(word, word) for word in args]
    if "--resume" in args:
        return [*args, "--epochs", "2", "--tracker", "none"]
    more = list(SHORT)
    if "--keep-head" in args or ("--weights" in args and any(w in " ".join(args) for w in MADE)):
        del more[(i := more.index("--weights")) : i + 2]
    if "segformer" in args:
        more = more[: more.index("--model")]
    elif "--model" in args:  # the page's architecture, with a small encoder
        more[more.index("--model") + 1] = args[args.index("--model") + 1]
    if "native" in args:
        more[more.index("--size") + 1] = "native"
    crop = ["--crop", "32"] if "--crop" in args else []
    return args + more + crop


def remove_what_is_written(args: list[str]) -> None:
    for flag in ("--out", "--output-dir", "--write-classes", "--save"):
        if flag in args:
            path = Path(args[args.index(flag) + 1])
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@contextmanager
def hub_with_pretrained(folder: Path) -> Iterator[dict[str, str]]:
    """A Hub that has the two SegFormers of the pages, tiny; the variables by which it is used."""
    with served(folder) as variables:
        for name in ("nvidia/mit-b0", "nvidia/segformer-b0-finetuned-ade-512-512"):
            config = base_tester.tiny_configs()["segformer"]
            config.id2label = {0: "sky", 1: "road", 2: "car"}
            config.label2id = {label: i for i, label in config.id2label.items()}
            AutoModelForSemanticSegmentation.from_config(config).save_pretrained(folder / name)
            ModelHub.repositories[name] = {
                file.name: file.read_bytes() for file in (folder / name).iterdir()
            }
        yield variables


def start(code: Code, world: Path, wandb: Server) -> None:
    """Run a command as a user does, and look whether it succeeds."""
    variables, words = split(code.text)
    text, folder = code.text, world
    for long, short in FEWER.items():
        text = text.replace(long, short)
    if words[0] == "cp":
        (world / "accelerate_configs").unlink()  # a link, which the command replaces
    elif "wandb" in words:
        variables = wandb.environment
        run = write_run(world, "OFFLINE", *TINY, "--tracker", "wandb", WANDB_MODE="offline")
        text = text.replace("runs/NAME", run)
        flags = [*SHORT, "--dataset", "data", "--tracker", "wandb"]  # of the point of a sweep
        names = [name.removeprefix("--") for name in flags[::2]]
        wandb.point = dict(zip(names, flags[1::2], strict=True))
    elif words[0] == "hf":
        text = f"{shlex.join(words)} --token $HF_TOKEN"  # which a person would type
    elif words[0] in ("make", "pip") or "golden.py" in text:
        folder = checkout(world.parent / "repository")
        text = shlex.join(words).replace("pip install", "pip install --dry-run")
        text += f" EPOCHS=1 INSTALLED={folder / 'installed'}" if words[0] == "make" else ""
    elif (started := arguments(split(text)[1])) is not None:
        command, args = started
        more = shorter(command, args)
        if more[-2:] == ["--to", "transformers"]:
            more[0] = write_run(world, "SEGFORMER", "--model", "segformer")
        remove_what_is_written(more)
        if more != args:
            words = split(text)[1]
            text = shlex.join(words[: len(words) - len(args)] + more)
    texts = [text]
    if re.search(r"--machine.rank", text):  # both machines are this one
        texts = [re.sub(r"(--machine.rank) \d", rf"\1 {rank}", text) for rank in (0, 1)]
    shells = [start_shell(text, folder, variables) for text in texts]
    for text, shell in zip(texts, shells, strict=True):
        printed, _ = shell.communicate(timeout=900)
        assert shell.returncode == 0, f"{code}\n{text}\n{printed[-5000:]}"


def start_shell(
    text: str, folder: Path, variables: Mapping[str, str | None]
) -> subprocess.Popen[str]:
    """Variables that are None are not set."""
    wanted = {"ACCELERATE_USE_CPU": "true", **os.environ, **variables}
    environment = {name: value for name, value in wanted.items() if value is not None}
    if "--gpus" in text:
        del environment["ACCELERATE_USE_CPU"]
        if not torch.cuda.is_available():
            text = text.replace("segacc", f"python -c '{GPUS}'", 1)
    environment |= {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        ["bash", "-c", text],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def checkout(folder: Path) -> Path:
    """A copy of the repository, in which commands may write; its .venv is the one of this test."""
    if not folder.exists():
        copy_repository(folder)
        (folder / ".venv").symlink_to(BIN.parent)
        (folder / "installed").touch()
    return folder


def write_run(world: Path, name: str, *flags: str, **variables: str) -> str:
    """A short run of other flags than that of the world; its folder."""
    run = world / "runs" / name
    if not run.exists():
        short = SHORT[: SHORT.index("--model")]
        words = ["segacc", "train", "--dataset", "data", *short, *flags, "--output-dir", str(run)]
        shell = start_shell(shlex.join(words), world, variables)
        printed, _ = shell.communicate(timeout=280)
        assert shell.returncode == 0, printed
    return f"runs/{name}"
