"""The flags of the launcher are taken off a command line, and refused where they mean nothing."""

from pathlib import Path

import pytest

from segacc.config.launch import Launch, split_launch
from segacc.errors import InputError


def test_the_flags_are_taken_off_and_the_others_keep_their_order():
    args = ["runs/one", "--gpus", "4", "--pairs", "a=b", "c=d", "--launch_config=x.yaml", "--debug"]
    launch, others = split_launch(args, {})
    assert launch == Launch(gpus="4", launch_config=Path("x.yaml"))
    assert others == ["runs/one", "--pairs", "a=b", "c=d", "--debug"]
    assert split_launch(["--lr", "-1", "--help"], {}) == (Launch(), ["--lr", "-1", "--help"])


def test_what_was_taken_off_can_be_given_again():
    launch = Launch(processes=2, machines=2, machine_rank=0, main_address="192.0.2.1")
    assert split_launch(launch.to_flags(), {}) == (launch, [])


@pytest.mark.parametrize("variable", ["RANK", "TORCHELASTIC_RUN_ID", "ACCELERATE_DYNAMO_BACKEND"])
def test_inside_of_a_launcher_they_are_refused_and_no_other_flag_is(variable):
    with pytest.raises(InputError, match=rf"--processes 2: a launcher .*\({variable} is set\)"):
        split_launch(["--processes", "2"], {variable: "0"})
    assert split_launch(["--lr", "1"], {variable: "0"})[1] == ["--lr", "1"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--gpus four", "--gpus four: expected a number such as 4, or all"),
        ("--gpus 0", "--gpus 0: expected a number of at least 1"),
        ("--gpus -1", "--gpus -1: expected a number of at least 1"),
        ("--processes 0", "--processes 0: expected a number of at least 1"),
        ("--machine-rank -1", "--machine-rank -1: expected a number of at least 0"),
        ("--gpus 2 --processes 2", "both say how many"),
    ],
)
def test_values_out_of_range_are_refused(flags, words):
    with pytest.raises(InputError, match=words):
        split_launch(flags.split(), {})
