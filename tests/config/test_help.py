"""--help shows the flags in groups, as wide as the terminal."""

import dataclasses
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Annotated

import pytest
import tyro
from small import ROOT

from segacc.cli import COMMANDS, GROUPS, run_command
from segacc.command_line import read_flags
from segacc.config.evaluate import EvaluateConfig
from segacc.config.flags import parse_train
from segacc.config.train import TRAIN_GROUPS, TrainConfig
from segacc.errors import EXIT_INPUT, InputError

# In a process of its own, since tyro draws other boxes where output is captured.
PRINT_ALL = """
from segacc.cli import COMMANDS, run_command
for name in COMMANDS:
    print(f"COMMAND {name}")
    try:
        run_command([name, "--help"])
    except SystemExit as ended:
        assert ended.code == 0
"""


@cache
def all_help(width):
    environment = {**os.environ, "COLUMNS": str(width), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-c", PRINT_ALL],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def help_of(command, width):
    return all_help(width).split(f"COMMAND {command}\n")[1].split("COMMAND ")[0]


def test_each_flag_of_a_config_is_in_one_group_or_concerns_the_whole_run():
    for config, command in ((TrainConfig, "train"), (EvaluateConfig, "evaluate")):
        grouped = [name for names in GROUPS[command].values() for name in names]
        assert len(grouped) == len(set(grouped))
        flags = {field.name for field in dataclasses.fields(config)}
        assert set(grouped) <= flags
        assert flags - set(grouped) <= {"resume", "config", "debug", "run", "others"}


def test_the_groups_of_training_come_in_their_order_with_their_flags():
    shown = help_of("train", 80)
    titles = re.findall(r"^╭─ (.*?) ─", shown, re.M)
    assert titles == ["options", *(f"{group} options" for group in (*TRAIN_GROUPS, "launch"))]
    boxes = dict(zip(titles, shown.split("╭─")[1:], strict=True))
    for group, names in TRAIN_GROUPS.items():
        flags = re.findall(r"^│ --([a-z-]+)", boxes[f"{group} options"], re.M)
        assert flags == [name.replace("_", "-") for name in names]


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_as_wide_as_the_terminal(command, width):
    lines = help_of(command, width).splitlines()
    boxes = [line for line in lines if line.startswith(("╭", "│", "╰"))]
    (wide,) = {len(line) for line in boxes}
    assert wide == width or (command != "train" and wide < width)  # if there is no more to show
    assert all(len(line) <= width for line in lines if not line.startswith("usage"))


def test_texts_break_at_the_width_and_nowhere_else():
    shown = help_of("train", 80)
    rows = [line.strip("│ \n") for line in shown.splitlines()]
    start = rows.index("which file is whose mask, such as")
    assert rows[start + 2].startswith("both sides, * any text")  # where the source breaks it, too


def test_flags_stay_flat_and_their_errors_name_them(capsys):
    assert parse_train(["--dataset", "demo", "--lr", "0.5"]).lr == 0.5
    with pytest.raises(SystemExit):
        parse_train(["--training.lr", "0.5"])
    with pytest.raises(SystemExit):
        parse_train(["--lr", "fast"])
    assert "--lr" in capsys.readouterr().err


def test_values_of_a_default_stand_for_flags_that_are_not_given():
    default = TrainConfig(lr=0.25, size=(480, 360), pairs=("a=b",), freeze_bn=True)
    values = read_flags(TrainConfig, TRAIN_GROUPS, ["--epochs", "3"], default=default)
    assert TrainConfig(**values) == dataclasses.replace(default, epochs=3)


@dataclasses.dataclass(frozen=True)
class Where:
    """Where it runs."""

    machines: int = 1
    """how many"""


def test_a_config_may_be_extended_by_a_dataclass_with_flags_of_its_own():
    """As those of a launcher are, which are no part of a run's config."""
    where = ("where", Annotated[Where, tyro.conf.OmitArgPrefixes], Where())
    made = dataclasses.make_dataclass("Made", [where], bases=(EvaluateConfig,), frozen=True)
    given = ["runs/a", "--at", "own", "--machines", "2"]
    values = read_flags(made, GROUPS["evaluate"], given, default=EvaluateConfig(Path("b")))
    assert values["at"] == "own" and values["where"] == Where(2)
    assert values["run"] == Path("runs/a")


@pytest.mark.parametrize(("args", "code"), [([], EXIT_INPUT), (["-h"], None), (["--help"], None)])
def test_segacc_alone_lists_each_command_in_a_line(args, code, capsys):
    assert run_command(args) == code
    shown = capsys.readouterr().out
    assert re.findall(r"^  (\w+)  ", shown, re.M) == list(COMMANDS)
    assert list(COMMANDS)[:4] == ["check", "train", "evaluate", "predict"]
    assert max(map(len, shown.splitlines())) <= 80


def test_an_unknown_command_is_a_sentence():
    with pytest.raises(InputError, match="no command predct: did you mean predict"):
        run_command(["predct"])
