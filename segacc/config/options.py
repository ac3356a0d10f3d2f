"""Options that several commands share: their types, and how the files of a data set are read.

This module imports nothing heavy, so that `train.py --help` is instant.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

import tyro

from segacc.config.sizes import AnySize, parse_size, size_text
from segacc.errors import InputError


def shown_as(metavar: str, default: str) -> object:
    """How --help shows a field whose default, None, is filled in later."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=f"(default: {default})")


SIZE_SPEC: object = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="PX|WxH|native",
    instance_from_str=parse_size,
    is_instance=lambda value: value is None or isinstance(value, int | tuple | str),
    str_from_instance=lambda value: ["none" if value is None else size_text(value)],
)
SIZE_ARG = (tyro.conf.arg(metavar="PX|WxH|native"), SIZE_SPEC)
Model = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
PairFlags = Annotated[tuple[str, ...], shown_as("IMAGES=MASKS", "found by names and contents")]
Binarise = Annotated[int | None, shown_as("VALUE", "none: they are refused")]
Classes = Annotated[
    str | None,
    shown_as("FILE|NAMES", "the data set's own, else categories of polygons, or binary masks"),
]
Ignore = Annotated[str | None, shown_as("CLASSES", "none; 255 where there are classes")]
GroupBy = Annotated[str | None, shown_as("REGEX", "none; look-alikes stay together")]
Device = Annotated[
    str | None, shown_as("cpu|cuda|cuda:N", "a GPU where there is one, else the CPU")
]
Fold = Annotated[str | None, shown_as("K/N", "none: the splits as they are")]
Column = Annotated[str | None, shown_as("NAME", "found by usual names")]


@dataclass(frozen=True)
class Reading:
    """How the files of a data set are read: the values of the flags of the same names."""

    pairs: PairFlags = ()
    """what `segacc train` takes as --pairs"""
    binarise: Binarise = None
    """what `segacc train` takes as --binarise, for masks that were smeared"""
    classes: Classes = None
    """what `segacc train` takes as --classes"""
    ignore: Ignore = None
    """what `segacc train` takes as --ignore"""
    group_by: GroupBy = None
    """what `segacc train` takes as --group-by, for a data set without splits, or with --fold"""
    fold: Fold = None
    """what `segacc train` takes as --fold"""
    image_column: Column = None
    """what `segacc train` takes as --image-column"""
    mask_column: Column = None
    """what `segacc train` takes as --mask-column"""

    def check(self) -> None:
        """Raises InputError for a --binarise that is no value of a pixel above black, or that
        stands beside classes, for a --group-by that is no regular expression, and for a --fold that
        is not K/N."""
        value = self.binarise
        if value is not None and not 1 <= value <= 255:
            raise InputError(
                f"--binarise {value}: expected a pixel's value, 1 to 255, such as 128."
            )
        if value is not None and self.classes is not None:
            raise InputError(
                f"--binarise {value} makes two classes of grey values, so it has no effect beside "
                "--classes: leave one of them out."
            )
        try:
            re.compile(self.group_by or "")
        except re.error as error:
            raise InputError(
                f"--group-by '{self.group_by}' is no regular expression ({error}): give one that "
                r"finds the patient or scene in the name of each image, such as '^(.+)_\d+$'."
            ) from None
        if self.fold is not None:
            fold_of_text(self.fold)

    @staticmethod
    def of(values: Mapping[str, Any]) -> Reading:
        """Make it from the values of a config or a JSON file; missing values count as not given."""
        names = [field.name for field in dataclasses.fields(Reading)]
        given = {name: values[name] for name in names if values.get(name) is not None}
        return Reading(**given | {"pairs": tuple(given.get("pairs", ()))})

    def over(self, other: Reading) -> Reading:
        """Return this one, with the other's values where it gives none."""
        return Reading.of(
            vars(other) | {name: value for name, value in vars(self).items() if value}
        )

    def to_flags(self) -> list[str]:
        """Return the arguments of a command; what is not given is left out."""
        flags = ["--pairs", *self.pairs] if self.pairs else []
        given = {name: value for name, value in vars(self).items() if value and name != "pairs"}
        # With a sign of equality, since a value may begin with a minus.
        return flags + [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]

    def to_config(self) -> dict[str, Any]:
        """Return a dictionary of JSON's types, which `of` reads."""
        return dataclasses.asdict(self) | {"pairs": list(self.pairs)}


def fold_of_text(text: str) -> tuple[int, int]:
    """Parse K and N of `--fold K/N`; raises InputError for anything else."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]) or int(found[2]) < 2:
        raise InputError(
            f"--fold {text}: expected K/N, the Kth of N parts, with N of 2 or more and K from 1 to "
            "N, such as 1/5."
        )
    return int(found[1]), int(found[2])


OR_NONE = ("--ema", "--crop", "--ohem")
"""flags of training that take a number or nothing"""
NO_FLAGS = Reading()
ReadingFlags = Annotated[Reading, tyro.conf.OmitArgPrefixes]
"""The type of a command's argument: each field is a flag of its own."""


@dataclass(frozen=True)
class Budget:
    """The flags of training that all runs of a study have in common."""

    epochs: Annotated[int | None, shown_as("INT", "the recipe's")] = None
    """what `segacc train` takes as --epochs"""
    patience: Annotated[int | None, shown_as("INT", "the recipe's")] = None
    """what `segacc train` takes as --patience"""
    size: Annotated[AnySize | None, shown_as("PX|WxH|native", "the protocol's"), SIZE_SPEC] = None
    """what `segacc train` takes as --size"""
    crop: Annotated[int | None, shown_as("PX", "the protocol's")] = None
    """what `segacc train` takes as --crop"""
    batch_size: Annotated[int | None, shown_as("INT", "the recipe's")] = None
    """what `segacc train` takes as --batch-size"""
    loss: Annotated[str | None, shown_as("STR", "the recipe's")] = None
    """what `segacc train` takes as --loss"""
    lr: Annotated[float | None, shown_as("FLOAT", "the recipe's")] = None
    """what `segacc train` takes as --lr"""
    augment: Annotated[str | None, shown_as("none|flips|light|strong|FILE", "the recipe's")] = None
    """what `segacc train` takes as --augment"""

    def over(self, other: Budget) -> Budget:
        """Return this one, with the other's values where it gives none."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return dataclasses.replace(other, **given)

    def to_flags(self) -> list[str]:
        """Return the arguments of a command; what is not given is left out."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        if self.size is not None:
            given["size"] = size_text(self.size)
        return [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]


NO_BUDGET = Budget()
BudgetFlags = Annotated[Budget, tyro.conf.OmitArgPrefixes]


def with_home(args: Sequence[str]) -> list[str]:
    """The arguments with ~/ expanded where a shell leaves it, as in --output-dir=~/runs/one."""
    home = os.path.expanduser("~")
    return [re.sub(r"(^|[=,])~(?=/|$)", lambda match: match[1] + home, arg) for arg in args]


def with_none(args: Sequence[str]) -> list[str]:
    """The arguments with `None` for `none`, where a flag takes numbers: --help says `none`."""
    return [
        arg.removesuffix("none") + "None"
        if arg in [f"{flag}=none" for flag in OR_NONE] or (arg == "none" and before in OR_NONE)
        else arg
        for before, arg in pairwise(["", *args])
    ]


def with_all_epochs(args: Sequence[str]) -> list[str]:
    """The arguments with `--freeze-encoder` as `--freeze-encoder all` where no number follows, and
    with `--no-freeze-encoder` as 0."""
    given = []
    for arg, following in pairwise([*args, ""]):
        flag = arg.replace("_", "-")
        if flag == "--no-freeze-encoder":
            given += ["--freeze-encoder", "0"]
        elif flag == "--freeze-encoder" and (not following or following.startswith("--")):
            given += [arg, "all"]
        else:
            given.append(arg)
    return given
