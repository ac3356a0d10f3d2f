"""The commands and the Python that README.md and docs/ show, and whether the programs take them."""

import re
import shlex
import shutil
import sys
import tomllib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, wraps
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import tyro
from small import ROOT

from segacc import cli
from segacc.config.flags import parse_evaluate, parse_train
from segacc.config.launch import split_launch

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.S | re.M)
PROGRAMS = "segacc|accelerate|torchrun|python|make|pip|sbatch|wandb|tensorboard|trackio|apt-get"
PROGRAM = re.compile(rf"(\w+=\S+ )*((\.venv/bin/)?({PROGRAMS})|train\.py|evaluate\.py) \S")
SHELL = ("cp", "mkdir", "mv", "for", "apt-get")


@dataclass(frozen=True)
class Code:
    """A command, or a block of Python, of a page."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def copy_repository(folder: Path) -> Path:
    """The files of the repository, in a folder in which commands may write."""

    def ignore(inside: str, names: list[str]) -> list[str]:
        made = ("build", "site", "runs", "wandb") if Path(inside) == ROOT else ("__pycache__",)
        return [name for name in names if name in made or name.startswith(".")]

    shutil.copytree(ROOT, folder, ignore=ignore)
    return folder


def blocks(page: Path) -> Iterator[tuple[str, int, str]]:
    """Language, first line and text of each block of code; the text without its indentation."""
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 2
        indent = match[1]
        yield match[2], line, re.sub(rf"^{indent}", "", match[3], flags=re.M)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def commands(page: Path) -> Iterator[Code]:
    """The commands in blocks that say `bash`, in their order."""
    for language, first, text in blocks(page):
        if language == "bash":
            whole = text.replace("\\\n", " ")
            for i, line in enumerate(whole.splitlines()):
                if line.strip():
                    yield Code(name_of(page), first + i, line.strip())


def untagged(page: Path) -> list[Code]:
    """Lines in other blocks that look like commands, so that no test would see them."""
    return [
        Code(name_of(page), first + i, line)
        for language, first, text in blocks(page)
        if language not in ("bash", "python")
        for i, line in enumerate(text.splitlines())
        if PROGRAM.match(line.strip())
    ]


def inline(page: Path) -> Iterator[Code]:
    """Commands inside of sentences and tables."""
    text = FENCE.sub(lambda match: "\n" * match[0].count("\n"), page.read_text(encoding="utf-8"))
    for match in re.finditer(r"`([^`]+)`", text):
        command = " ".join(match[1].split())
        if PROGRAM.match(command):
            yield Code(name_of(page), text.count("\n", 0, match.start()) + 1, command)


def flags_of(page: Path) -> set[str]:
    """The flags that sentences and tables name."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    code = " ".join(re.findall(r"`([^`]+)`", text))
    return set(re.findall(r"(?<![\w-])--[a-z][\w-]*", code))


@cache
def known_flags() -> set[str]:
    """The flags of segacc's commands and of the launchers."""
    from accelerate.commands.launch import launch_command_parser
    from torch.distributed.run import get_args_parser

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        parsers = [tyro.extras.get_parser(function) for function in cli.COMMANDS.values()]
    parsers += [launch_command_parser(), get_args_parser()]
    return {flag for p in parsers for action in p._actions for flag in action.option_strings}


def split(text: str) -> tuple[dict[str, str], list[str]]:
    """Variables that are set for the command, and its words, without a comment."""
    words = shlex.split(text, comments=True)
    variables = {}
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        name, _, variables[name] = words.pop(0).partition("=")
    while words and words[-1] == "...":
        words.pop()
    return variables, words


def arguments(words: list[str]) -> tuple[str, list[str]] | None:
    """The command of segacc that these words start, with its flags; None where they start none.

    Launchers' own flags are read by the launchers' parsers, which end the test where they refuse.
    """
    program, rest = words[0].removeprefix(".venv/bin/"), words[1:]
    if program == "segacc":
        return rest[0], rest[1:]
    if program in ("train.py", "evaluate.py"):
        return program.removesuffix(".py"), rest
    if program == "python" and rest[0] in ("train.py", "evaluate.py"):
        return arguments(rest)
    if program == "python" and rest[:2] == ["-m", "segacc"]:
        return rest[2], rest[3:]
    if program == "accelerate" and rest[0] == "launch":
        from accelerate.commands.launch import launch_command_parser

        started = launch_command_parser().parse_args(rest[1:])
        assert started.config_file is None or Path(started.config_file).is_file()
        return _script(started.module, started.training_script, started.training_script_args)
    if program == "torchrun":
        from torch.distributed.run import get_args_parser

        started = get_args_parser().parse_args(rest)
        return _script(started.module, started.training_script, started.training_script_args)
    if program == "sbatch":
        assert Path(rest[0]).is_file()
        return "train", rest[1:]
    return None


def _script(module: bool, script: str, args: list[str]) -> tuple[str, list[str]]:
    assert (module and script == "segacc") or script in ("train.py", "evaluate.py"), script
    return (args[0], args[1:]) if module else (script.removesuffix(".py"), args)


def parse(words: list[str]) -> None:
    """Have the real parsers read a command, without running it.

    Raises:
        AssertionError, SystemExit, InputError: they refuse it, or no one has said how to read it.
    """
    started = arguments(words)
    if started is not None:
        parse_segacc(*started)
        return
    program, rest = words[0].removeprefix(".venv/bin/"), words[1:]
    if program == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
        assert rest[0] in targets, f"the Makefile has no target {rest[0]}"
    elif program == "pip":
        assert rest[0] == "install" and all(map(_can_be_installed, rest[1:]))
    elif program == "python" and rest[0] == "-m":
        assert find_spec(rest[1]) is not None, f"there is no module {rest[1]}"
    elif program == "python":
        assert (ROOT / rest[0]).is_file(), f"there is no file {rest[0]}"
    elif program == "wandb":
        from wandb.cli.cli import cli as wandb

        assert rest[0] in wandb.commands, f"wandb has no command {rest[0]}"
    elif program == "hf":  # of huggingface_hub
        assert Path(sys.executable).with_name("hf").exists() and rest == ["auth", "login"]
    elif program in ("tensorboard", "trackio"):
        assert find_spec(program) is not None
    else:
        assert program in SHELL, f"no one has said how to test {shlex.join(words)}"


def parse_segacc(command: str, args: list[str]) -> None:
    if command in ("train", "evaluate"):
        launch, args = split_launch(args, {})
        assert launch.launch_config is None or launch.launch_config.is_file()
        (parse_train if command == "train" else parse_evaluate)(args)
        return
    assert command in cli.COMMANDS, f"segacc has no command {command}"
    taken: list[object] = []
    with patch.dict(cli.COMMANDS, {command: recorder(cli.COMMANDS[command], taken)}):
        cli.run_command([command, *args])
    assert taken == [command]


def recorder(function, taken):
    """A function of the same flags that only notes that it was called."""

    @wraps(function)
    def noted(*args, **flags):
        taken.append(function.__name__)

    return noted


def _can_be_installed(word: str) -> bool:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    if word.startswith("."):
        return set(re.findall(r"\w+", word)) <= set(extras)
    return any(line.startswith(word) for lines in extras.values() for line in lines)
