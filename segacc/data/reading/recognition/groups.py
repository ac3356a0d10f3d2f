"""Files in groups that have the same role, by what their names share.

A set keeps its images in one group and its masks in another one: in folders of their own, beside
each other with endings of their own (a_sat.jpg, a_mask.png), or both. Which folders and endings
these are is not known beforehand, so each way to read the names (`readings`) makes other groups,
and `match` says for how many files of one group another one has a partner.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product, takewhile
from typing import Literal

from segacc.data.reading.recognition.splits import splits_of

LEAST_SHARE = 0.1  # of a folder's files that have an ending for it to be a role's
MOST_GROUPS = 16  # with more, what was read as a role is a part of the names

GroupKey = tuple[str | None, tuple[str, ...], str]
Level = Literal["all", "first", "last", "none"]
Side = Literal["whole", "suffix", "prefix", "letters", "name"]

_WORDS = {
    "suffix": re.compile(r"(?<=.)[_\-. ][A-Za-z0-9]*[A-Za-z][A-Za-z0-9]*$"),
    "prefix": re.compile(r"^([A-Za-z][A-Za-z0-9]*[_\-. ](?=.)|[A-Za-z]+(?=\d))"),
    "letters": re.compile(r"(?<=\d)[A-Za-z]+$"),
    "name": re.compile(r"^.*$"),
}


@dataclass(frozen=True)
class Parts:
    """The parts of a file's path: `before/after/stem.extension`.

    `before` are the folders down to the one that names the split, with * in the place of its word.
    """

    path: str
    split: str | None
    before: tuple[str, ...]
    after: tuple[str, ...]
    stem: str

    @property
    def extension(self) -> str:
        return os.path.splitext(self.path)[1]


@dataclass(frozen=True)
class FileGroup:
    """Files that have the same role, in one way to read the names."""

    role: tuple[str, ...]
    level: Level
    files: tuple[Parts, ...]
    prefix: str = ""  # of all names in the group, in front of what tells them apart
    suffix: str = ""

    @cached_property
    def keys(self) -> list[tuple[dict[GroupKey, Parts], str, str]]:
        """The files by the part of their names that differs, with the prefix and suffix taken off.

        There are several ways: to take off nothing, or what all names begin or end with, or what
        all names of a split do. A way that gives one key to two files is left out.
        """
        stems = [self._core(file.stem) for file in self.files]
        whole = [common_affixes(stems)] * len(stems)
        found: dict[tuple[str, ...], tuple[dict[GroupKey, Parts], str, str]] = {}
        for affixes in (whole, self._affixes_of_splits(stems, whole[0])):
            for with_prefix, with_suffix in product((False, True), repeat=2):
                starts = [prefix if with_prefix else "" for prefix, _ in affixes]
                ends = [suffix if with_suffix else "" for _, suffix in affixes]
                cores = tuple(map(_middle, stems, starts, ends))
                keys = {
                    (file.split, self.ids(file), core): file
                    for core, file in zip(cores, self.files, strict=True)
                }
                if len(keys) == len(stems) and ("" not in cores or self.is_one_name):
                    prefix, suffix = self.prefix + _shown(starts), _shown(ends) + self.suffix
                    found.setdefault(cores, (keys, prefix, suffix))
        return list(found.values())

    def _affixes_of_splits(
        self, stems: Sequence[str], whole: tuple[str, str]
    ) -> list[tuple[str, str]]:
        """For each file what all names of its split begin and end with."""
        of_split: defaultdict[str | None, list[str]] = defaultdict(list)
        for file, stem in zip(self.files, stems, strict=True):
            of_split[file.split].append(stem)
        affixes = {
            split: common_affixes(its) if len(its) > 1 else whole for split, its in of_split.items()
        }
        return [affixes[file.split] for file in self.files]

    def _core(self, stem: str) -> str:
        return _middle(stem, self.prefix, self.suffix)

    def ids(self, file: Parts) -> tuple[str, ...]:
        """The folders that belong to the name, such as a city or a patient."""
        return _divide(file.after, self.level)[1]

    @property
    def is_one_name(self) -> bool:
        """Whether all files have the same name, and their folders tell them apart."""
        return all(file.stem == self.prefix for file in self.files)

    @property
    def has_splits(self) -> bool:
        return any(file.split for file in self.files)

    def pattern(self, prefix: str | None = None, suffix: str | None = None) -> str:
        """The paths of the files, with {} for the part that differs."""
        folders = [folder.replace("*", "{}") for folder in self.role]
        if self.level == "last" and any(self.ids(file) for file in self.files):
            folders.insert(len(folders) - 1, "{}")
        if self.is_one_name:
            return "/".join([*folders, "{}", f"{self.prefix}{self.files[0].extension}"])
        extensions = {file.extension for file in self.files}
        extension = extensions.pop() if len(extensions) == 1 else ".*"
        prefix = self.prefix if prefix is None else prefix
        suffix = self.suffix if suffix is None else suffix
        return "/".join([*folders, f"{prefix}{{}}{suffix}{extension}"])


@dataclass(frozen=True)
class Match:
    """Two groups whose files are partners, one to one."""

    groups: tuple[FileGroup, FileGroup]
    pairs: tuple[tuple[Parts, Parts], ...]
    patterns: tuple[str, str]

    def turned(self) -> Match:
        """Return the same match with the second group first."""
        pairs = tuple((b, a) for a, b in self.pairs)
        return Match(self.groups[::-1], pairs, self.patterns[::-1])


def parse(paths: Sequence[str]) -> list[Parts]:
    """The parts of paths of image files, without the folders that all of them lie in.

    Without a split for training, only a folder whose whole name is that of a split says one.
    """
    folders = {unicodedata.normalize("NFC", os.path.dirname(path)) for path in paths}
    splits = splits_of({name for folder in folders for name in folder.split("/")})
    wrapper = 0
    for component in os.path.commonpath(sorted(folders)).split("/"):
        if not component or component in splits:
            break
        wrapper += 1
    parsed = [_parse(path, wrapper, splits) for path in paths]
    if any(parts.split == "train" for parts in parsed):
        return parsed
    exact = {name: said for name, said in splits.items() if said[1] == "*"}
    return [_parse(path, wrapper, exact) for path in paths]


def _parse(path: str, wrapper: int, splits: dict[str, tuple[str, str]]) -> Parts:
    *folders, name = unicodedata.normalize("NFC", path).split("/")
    folders = folders[wrapper:]
    stem = os.path.splitext(name)[0]
    for depth, folder in enumerate(folders):
        if folder in splits:
            split, rest = splits[folder]
            before = (*folders[:depth], rest)
            return Parts(path, split, before, tuple(folders[depth + 1 :]), stem)
    return Parts(path, None, (), tuple(folders), stem)


def readings(files: Sequence[Parts]) -> Iterator[list[FileGroup]]:
    """The groups of the files, in each way to read their names; the plainest come first."""
    seen = set()
    sides: tuple[Side, ...] = ("whole", "suffix", "prefix", "letters")
    levels: tuple[Level, ...] = ("all", "first", "last", "none")
    # The last way is for a folder for each image: a/img.png, a/label.png.
    ways: list[tuple[Side, Level]] = [*product(sides, levels), ("name", "none")]
    for side, level in ways:
        groups = _groups(files, level, side)
        content = frozenset((g.files, g.prefix, g.suffix, g.ids(g.files[0])) for g in groups)
        if 1 < len(groups) <= MOST_GROUPS and content not in seen:
            seen.add(content)
            yield groups


def _divide(after: tuple[str, ...], level: Level) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The folders that belong to the role, and those that belong to the name."""
    if level == "all":
        return after, ()
    if level == "first":
        return after[:1], after[1:]
    if level == "last":
        return after[-1:], after[:-1]
    return (), after


def _groups(files: Sequence[Parts], level: Level, side: Side) -> list[FileGroup]:
    roles: defaultdict[tuple[str, ...], list[Parts]] = defaultdict(list)
    for file in files:
        roles[file.before + _divide(file.after, level)[0]].append(file)
    groups = []
    for role, inside in sorted(roles.items()):
        for word, its in _by_word(inside, side):
            prefix, suffix = ("", word) if side in ("suffix", "letters") else (word, "")
            groups += [FileGroup(role, level, part, prefix, suffix) for part in _by_type(its)]
    return groups


def _by_word(files: list[Parts], side: Side) -> list[tuple[str, list[Parts]]]:
    """The files by the word that their names begin or end with, if many do."""
    if side == "whole":
        return [("", files)]
    words = [word[0] if (word := _WORDS[side].search(f.stem)) else "" for f in files]
    least = max(LEAST_SHARE * len(files), 2 if side == "name" or len(files) > 3 else 1)
    often = {said for said, n in Counter(words).items() if n >= least}
    found: defaultdict[str, list[Parts]] = defaultdict(list)
    for said, file in zip(words, files, strict=True):
        found[said if said in often else ""].append(file)
    return sorted(found.items())


def _by_type(files: list[Parts]) -> list[tuple[Parts, ...]]:
    """The files by their extension if two of them differ in nothing else: a.jpg and a.png."""
    places = Counter((file.split, file.after, file.stem) for file in files)
    if max(places.values()) == 1:
        return [tuple(files)]
    found: defaultdict[str, list[Parts]] = defaultdict(list)
    for file in files:
        found[file.extension.lower()].append(file)
    return [tuple(its) for _, its in sorted(found.items())]


def match(one: FileGroup, other: FileGroup) -> Match | None:
    """The partners in two groups, with the prefixes and suffixes that give the most of them; None
    where there are none."""
    best: Match | None = None
    with_split = one.has_splits and other.has_splits
    for (a, *its), (b, *others) in product(one.keys, other.keys):
        if not with_split:
            a, b = _without_split(a), _without_split(b)
        shared = sorted(a.keys() & b.keys(), key=str)
        if len(shared) > (len(best.pairs) if best else 0):
            pairs = tuple((a[key], b[key]) for key in shared)
            best = Match((one, other), pairs, (one.pattern(*its), other.pattern(*others)))
        if len(shared) == min(len(one.files), len(other.files)):
            break
    return best


def _without_split(keys: dict[GroupKey, Parts]) -> dict[GroupKey, Parts]:
    found: dict[GroupKey, Parts] = {(None, *key[1:]): file for key, file in keys.items()}
    return found if len(found) == len(keys) else {}


def common_affixes(stems: Sequence[str]) -> tuple[str, str]:
    """What all names begin and end with, up to a place between two words or numbers."""
    if len(set(stems)) < 2:
        return "", ""
    prefix = _common_start(stems)
    while prefix and not all(_is_edge(stem, len(prefix)) for stem in stems):
        prefix = prefix[:-1]
    rest = [stem[len(prefix) :] for stem in stems]
    suffix = _common_start([stem[::-1] for stem in rest])[::-1]
    while suffix and not all(_is_edge(stem, len(stem) - len(suffix)) for stem in rest):
        suffix = suffix[1:]
    return prefix, suffix


def _common_start(texts: Sequence[str]) -> str:
    first, last = min(texts), max(texts)
    same = takewhile(lambda both: both[0] == both[1], zip(first, last, strict=False))
    return "".join(letter for letter, _ in same)


def _middle(text: str, start: str, end: str) -> str:
    return text[len(start) : len(text) - len(end)]


def _shown(affixes: Sequence[str]) -> str:
    """One prefix or suffix for a pattern; * where the splits have different ones."""
    return affixes[0] if len(set(affixes)) == 1 else "*"


def _is_edge(text: str, place: int) -> bool:
    """Whether a word or a number ends or begins at a place inside of the text."""
    if not 0 < place < len(text):
        return False
    left, right = text[place - 1], text[place]
    return not (left.isalnum() and right.isalnum()) or (left.isalpha() != right.isalpha())
