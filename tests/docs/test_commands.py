"""Every command of README.md, CONTRIBUTING.md and docs/ works as it is written.

All are read by the real parsers. Those that HOW says to `run` are run in this process, on small
data under the names that the pages use, page by page in their order. `make soak` runs those that
HOW says to `start`, with a shell and the real launchers. What makes them short is in `shorter`.
"""

import glob
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import partial

import pytest
import torch
from docs_commands import (
    PAGES,
    Code,
    arguments,
    blocks,
    commands,
    flags_of,
    inline,
    known_flags,
    name_of,
    parse,
    split,
    untagged,
)
from docs_start import DATA, hub_with_pretrained, remove_what_is_written, shorter, start
from docs_world import SHORT, make_world
from wandb_side import wandb_server

import segacc
from segacc import cli
from segacc.errors import run_program

# How each command is tested: the first pattern that fits decides; one that none fits is an error.
# `run` in `make test` and in `make soak`; `start` in `make soak` only; all else is a reason why a
# command is only read by its parser.
HOW = {
    r"make (test|soak)": "they are what runs this test",
    r"make|pip install|hf auth login|.*golden\.py": "start",
    r"(?!cp|mv).*\bme/": "start",
    r".*(--push-to-hub|predict owner/)": "start",
    r"segacc train .*--(gpus|machines|processes|launch-config)": "start",
    r"sbatch": "tests/faults/ run the script with stand-ins for Slurm",
    r"wandb|.*wandb sync": "start",
    r"segacc dashboard|segacc study|.*--keep-head|.*--weights nvidia": "start",
    r"segacc export .*(onnx|pt2|transformers)": "start",
    r"segacc (check|cache|predict|evaluate|compare|export|prepare|runs)": "run",
    r"python evaluate\.py": "run",
    r"cp -r \"\$\(python": "start",
    r"(accelerate launch train\.py|segacc train) ": "run",
    r"(ACCELERATE_USE_CPU=true torchrun|accelerate launch)": "start",
    r"cp|mkdir|mv": "run",
}
# What a page's Python is tested by, where it is not run.
PYTHON_TESTED_BY = {
    "docs/export.md": "tests/export/ open what was exported",
    "docs/data.md": "it needs the Hub; tests/data/reading/tables/test_push.py has a stand-in",
}
# They only read the run, which is the same on all pages: once is enough.
ONLY_READ = ("python evaluate.py", *(f"segacc {c}" for c in ("evaluate", "predict", "compare")))
# Of a benchmark, taskset, Docker and TensorBoard.
OTHER_FLAGS = {"--camvid", "--cpu-list", "--shm-size", "--ipc", "--logdir"}
PAGES_WITH_CODE = [page for page in PAGES if any(kind for kind, _, _ in blocks(page))]
BLOCKS = [code for page in PAGES for code in commands(page)]
INLINE = [code for page in PAGES for code in inline(page)]


def how(code: Code) -> str:
    for pattern, answer in HOW.items():
        if re.match(pattern, code.text):
            return answer
    raise AssertionError(f"{code}: say in HOW how to test this command")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("docs") / "made")


@pytest.fixture(scope="module")
def already():
    """Commands that have run on a page before."""
    return set()


@pytest.fixture
def world(made, tmp_path, monkeypatch):
    """A copy for one page, which is the current folder."""
    shutil.copytree(made, tmp_path / "world", symlinks=True)
    monkeypatch.chdir(tmp_path / "world")
    return tmp_path / "world"


def test_commands_are_found():
    texts = {str(code) for code in BLOCKS}
    assert len(texts) > 60
    assert any("segacc predict runs/NAME photos --out masks" in text for text in texts)
    assert any(re.search("multinode.yaml.*--machine_rank 0", text) for text in texts)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_of_commands_say_bash(page):
    assert list(map(str, untagged(page))) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_parsers_take_every_command(page, made, monkeypatch):
    monkeypatch.chdir(made)
    for code in (c for c in BLOCKS + INLINE if c.page == name_of(page)):
        if code in BLOCKS:
            how(code)
        elif _is_name_alone(code):
            continue
        try:
            parse(split(code.text)[1])
        except (Exception, SystemExit) as error:
            raise AssertionError(f"{code}: {error}") from error


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_flags_that_are_named_exist(page):
    if "migrate" not in page.parts:  # which name those of other tools
        assert flags_of(page) - known_flags() - OTHER_FLAGS == set()


def _is_name_alone(code: Code) -> bool:
    """What stands inside of a sentence for its name, or for that of any module."""
    words = code.text.split()
    if words[:2] == ["accelerate", "launch"] and not {"train.py", "segacc"} & set(words):
        return True  # what the launcher itself does
    if len(words) == 2 and words[0] == "segacc":
        return words[1] in cli.COMMANDS
    return words in (
        ["python", "train.py"],
        ["python", "evaluate.py"],
        ["accelerate", "config"],
    ) or ("benchmarks.NAME" in words)


def run(code: Code) -> None:
    """Run a command in this process, and what the shell does before it."""
    words = split(code.text)[1]
    words = [path for w in words for path in (sorted(glob.glob(w)) if w.endswith("/*") else [w])]
    started = arguments(words)
    if started is None:
        subprocess.run(words, check=True)
        return
    command, args = started
    args = shorter(command, args)
    remove_what_is_written(args)
    ended = run_program(lambda: cli.run_command([command, *args]), debug=True)
    assert ended == 0, f"{code}: ended with {ended}"


def short_train(train: Callable[..., segacc.Run], **flags: object) -> segacc.Run:
    """`segacc.train` with a small model from random weights, as `shorter` does it."""
    named = [word.removeprefix("--").replace("-", "_") for word in SHORT]
    short = dict(zip(named[::2], SHORT[1::2], strict=True))
    if not isinstance(flags.get("model"), str):
        del short["encoder"], short["weights"], short["model"]
    if isinstance(name := flags["dataset"], str):
        flags["dataset"] = DATA.get(name, name)
    return train(**short | flags | {"epochs": 1})


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES_WITH_CODE, ids=name_of)
def test_the_code_of_a_page_runs(page, world, already, monkeypatch):
    """Commands and Python, in their order."""
    names = {"images": torch.zeros(1, 3, 64, 64, dtype=torch.uint8)}
    monkeypatch.setattr(segacc, "train", partial(short_train, segacc.train), raising=False)
    code = [c for c in BLOCKS if c.page == name_of(page) and how(c) == "run"]
    if name_of(page) not in PYTHON_TESTED_BY:
        code += [Code("", line, text) for kind, line, text in blocks(page) if kind == "python"]
    for one in sorted(code, key=lambda code: code.line):
        if not one.page:
            exec(one.text, names)
        elif one.text not in already:
            already.update([one.text] * one.text.startswith(ONLY_READ))
            try:
                run(one)
            except Exception as error:
                raise AssertionError(f"{one}: {error}") from error


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", PAGES_WITH_CODE, ids=name_of)
def test_a_shell_runs_the_commands_of_a_page(page, world, tmp_path, monkeypatch):
    whole = name_of(page) in ("README.md", "docs/quickstart.md")
    with hub_with_pretrained(tmp_path) as hub, wandb_server() as wandb:
        for name, value in hub.items():
            monkeypatch.setenv(name, value)
        for code in (c for c in BLOCKS if c.page == name_of(page)):
            if how(code) == "start" or (whole and how(code) == "run"):
                start(code, world, wandb)
