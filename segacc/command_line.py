"""Commands whose flags --help shows in groups; the flags themselves stay flat."""

from __future__ import annotations

import dataclasses
import inspect
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, get_args, get_type_hints

import docstring_parser
import tyro

from segacc.errors import is_local_main

Groups = Mapping[str, Sequence[str]]
"""The names of flags by the name of their group, both in the order of --help. Flags without a group
come first, among the options."""


def read_flags(
    command: Callable[..., Any],
    groups: Groups,
    args: Sequence[str],
    prog: str | None = None,
    default: Any = None,
) -> dict[str, Any]:
    """Read the command line of a function or a dataclass.

    Args:
        command: its parameters or fields are the flags; its docstring is their help.
        prog: the program's name in its help; None for that of the file that was started.
        default: an instance of the dataclass, whose values stand for flags that are not given.

    Returns:
        the values by the names of the parameters.

    Raises:
        SystemExit: help was asked for, or a flag does not exist (argparse's convention, code 2).
    """
    flags: Any = tyro.cli(
        flags_in_groups(command, groups, default),
        prog=prog,
        description=about(command),
        args=args,
        console_outputs=is_local_main(),
    )
    values = dict(vars(flags))
    for group in groups:
        values |= vars(values.pop(group)) if group in values else {}
    return values


def flags_in_groups(command: Callable[..., Any], groups: Groups, default: Any = None) -> type:
    """Make a dataclass for tyro whose fields are the flags of a command; the flags of each group
    are in a dataclass of their own. Arguments are as in `read_flags`."""
    hints = get_type_hints(command, include_extras=True)
    texts = _texts(command)
    fields: dict[str, tuple[str, Any, Any]] = {}
    for parameter in inspect.signature(command).parameters.values():
        name = parameter.name
        value = getattr(default, name, parameter.default)
        field = dataclasses.MISSING if value is parameter.empty else value
        is_changed = default is not None and value not in (None, parameter.default)
        hint = f"(default: {value})" if is_changed else None  # instead of one that is said for all
        conf = tyro.conf.arg(help=texts.get(name), help_behavior_hint=hint)
        fields[name] = (name, Annotated[hints[name], conf], dataclasses.field(default=field))
    grouped: list[Any] = []
    for group, names in groups.items():
        members = [fields.pop(name) for name in names if name in fields]
        if members:
            of_group = dataclasses.make_dataclass(group, members, frozen=True, kw_only=True)
            grouped.append((group, Annotated[of_group, tyro.conf.OmitArgPrefixes]))
    # A dataclass of flags is a group already: it comes after all others.
    last = [
        name for name in fields if any(map(dataclasses.is_dataclass, get_args(hints[name])[:1]))
    ]
    nested = [fields.pop(name) for name in last]
    return dataclasses.make_dataclass("Flags", [*fields.values(), *grouped, *nested], kw_only=True)


def _texts(command: Callable[..., Any]) -> dict[str, str]:
    """Return the docstring's text on each parameter of a function, or on each field of a dataclass
    and its bases.

    Each text is one line: tyro breaks it at the width of the terminal, and keeps other breaks.
    """
    sources = reversed(command.__mro__[:-1]) if isinstance(command, type) else [command]
    return {
        parameter.arg_name: " ".join(parameter.description.split())
        for source in sources
        for parameter in docstring_parser.parse_from_object(source).params
        if parameter.description
    }


def paragraphs(command: Callable[..., Any]) -> list[str]:
    """Return the docstring of a command up to its arguments, each paragraph as one line."""
    parsed = docstring_parser.parse(inspect.getdoc(command) or "")
    texts = [parsed.short_description or "", parsed.long_description or ""]
    return [" ".join(part.split()) for text in texts for part in text.split("\n\n") if part]


def about(command: Callable[..., Any]) -> str:
    """Return what a command does, as text of the width of the terminal."""
    # A space before each line: tyro joins lines that begin with a letter, and breaks none itself.
    width = shutil.get_terminal_size().columns
    wrap = textwrap.TextWrapper(width, initial_indent=" ", subsequent_indent=" ")
    return "\n".join(map(wrap.fill, paragraphs(command)))


def list_commands(commands: Mapping[str, Callable[..., Any]], prog: str) -> str:
    """The help of a program with commands: the first sentence of each one's docstring.

    Args:
        commands: by name, in the order to show.
    """
    wide = max(map(len, commands))
    lines = [f"usage: {prog} [-h] COMMAND ...", ""]
    lines += [f"  {name:<{wide}}  {paragraphs(of)[0]}" for name, of in commands.items()]
    return "\n".join([*lines, "", f"{prog} COMMAND --help lists the flags of a command."])
