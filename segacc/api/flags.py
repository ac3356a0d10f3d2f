"""The flags of a command as keyword arguments of a function."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_type_hints

import numpy as np

from segacc.config.records import is_given, typed

Config = TypeVar("Config")
Function = TypeVar("Function", bound=Callable[..., Any])


def checked(config: type[Config], flags: Mapping[str, Any], function: str) -> dict[str, Any]:
    """The flags with the types that the fields of a config have, without those not given.

    Args:
        config: a dataclass.
        function: its name, for errors.

    Raises:
        TypeError: a flag does not exist.
        InputError: a value has another type than the flag.
    """
    fields = {field.name: field for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    given = {}
    for name, value in flags.items():
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise TypeError(f"{function}() has no flag {name}{hint}")
        if is_given(name, value):
            given[name] = value.item() if isinstance(value, np.generic) else value
    # One by one, so that those without a default are not missed.
    for name, value in given.items():
        given[name] = typed(config, name, value, f"{name}={value!r}")
    return given


def with_flags_of(config: type) -> Callable[[Function], Function]:
    """A decorator: editors, notebooks and `help` show the fields of a config among the keyword
    arguments of a function that takes them as `**flags`."""

    def decorate(function: Function) -> Function:
        own = inspect.signature(function)
        shown = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        names = {p.name for p in shown}
        hints = get_type_hints(config)
        shown += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None if field.default is dataclasses.MISSING else field.default,
                annotation=hints[field.name],
            )
            for field in dataclasses.fields(config)
            if field.name not in names
        ]
        function.__signature__ = own.replace(parameters=shown)  # type: ignore[attr-defined]
        return function

    return decorate
