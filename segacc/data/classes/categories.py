"""Assign the categories of polygons to classes, as --classes and --ignore say."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from segacc.data.classes.coding import check_number, labels_of, named_by_ignore
from segacc.data.classes.lists import NamedClass
from segacc.errors import InputError
from segacc.labels import IGNORE, Coding, is_background

REST = "*"
"""In a class's categories: all that no other class names."""


def code_shapes(
    classes: Sequence[NamedClass], categories: Sequence[str], ignore: Sequence[str] = ()
) -> Coding:
    """Find the class of each category of polygons. Pixels that no polygon covers are the
    background, class 0.

    A class gets the category of its own name, and the categories that it lists. If categories have
    numbers instead of names, a class gets those of its values, or else the number of its position.
    A category without a class is left out, and an image that has it cannot be read.

    Args:
        classes: those that were asked for; without any, each category is one.
        categories: as the files of polygons name them.
        ignore: names of classes or categories whose pixels do not count. For `background`, these
            are the pixels that no polygon covers.

    Raises:
        InputError: a class or `ignore` names a category that is not there, two classes name the
            same one, or fewer than two are left.
    """
    chosen = list(classes) or [NamedClass(name) for name in categories]
    owner = _owners(chosen, categories)
    background = next((one for one in chosen if is_background(one.name)), None)
    background = background or NamedClass("background")
    chosen = [background, *(one for one in chosen if one is not background)]
    names = [one.name for one in chosen]
    folded = {name.casefold() for name in names}
    rest = [NamedClass(name) for name in categories if name.casefold() not in folded]
    spoken = [*chosen, *rest]
    ignored, ranges, _ = named_by_ignore(spoken, ignore)
    ignored |= {str(i) for first, last in ranges for i in range(first, last + 1)}
    kept = [one for one in chosen if one.name not in ignored]
    check_number(kept, ignored)
    number = {one.name: place for place, one in enumerate(kept)}
    shapes = []
    for category in categories:
        of = owner.get(category)
        if category in ignored:
            shapes.append((category, IGNORE))
        elif of is not None:
            shapes.append((category, number.get(of, IGNORE)))
    return Coding(
        labels_of(kept), shapes=tuple(shapes), uncovered=number.get(background.name, IGNORE)
    )


def _owners(classes: Sequence[NamedClass], categories: Sequence[str]) -> dict[str, str]:
    """The class of each category, without those of no class."""
    numbered = all(category.isdigit() for category in categories)
    by_key = {category.casefold(): category for category in categories}
    by_key |= {category: category for category in categories}
    owner: dict[str, str] = {}
    rest = None
    for place, one in enumerate(classes):
        named = [one.name]
        if numbered and one.values:
            named = [str(i) for first, last in one.values for i in range(first, last + 1)]
        elif numbered and one.name not in by_key:
            named = [str(place)]
        for said in (*named, *_checked(one, by_key)):
            category = by_key.get(said, by_key.get(said.casefold()))
            if said == REST:
                rest = one.name
            elif category is not None and owner.setdefault(category, one.name) != one.name:
                raise InputError(
                    f"the category {category} is of the classes {owner[category]} and {one.name}: "
                    "take it from one of them"
                )
    if rest is not None:
        owner |= {category: rest for category in categories if category not in owner}
    return owner


def _checked(one: NamedClass, known: Iterable[str]) -> tuple[str, ...]:
    """The categories that a class names.

    Raises:
        InputError: there is none of this name.
    """
    for said in one.categories:
        if said != REST and said not in known and said.casefold() not in known:
            near = difflib.get_close_matches(said, list(known), n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise InputError(f"the class {one.name} has no category {said!r}: {hint}")
    return one.categories
