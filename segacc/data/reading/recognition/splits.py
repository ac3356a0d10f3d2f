"""Which split an image belongs to: words in the names of folders, and text files with lists."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from segacc.config.names import SPLIT_NAMES
from segacc.data.reading.pairing import SPLITS

ROLE_ENDINGS = {
    "annot", "annots", "anno", "annos", "annotation", "annotations", "mask", "masks", "label",
    "labels", "gt", "image", "images", "img", "imgs",
}  # fmt: skip
LIST_TYPES = (".txt", ".csv", ".lst")
LARGEST_LIST = 64 << 20  # bytes; a larger text file is no list of names
LEAST_KNOWN = 0.95  # share of a list's names that must be those of images

_PIECE = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_WORDS = "|".join(sorted(SPLITS, key=len, reverse=True))
_GLUED = re.compile(rf"({_WORDS})(?P<after>[a-z]+)|(?P<before>[a-z]+)({_WORDS})")


def pieces(name: str) -> list[str]:
    """The words and numbers of a name in small letters: JPEGImages_v2 -> jpeg, images, v, 2."""
    return [piece.casefold() for piece in _PIECE.findall(name)]


def splits_of(names: Collection[str]) -> dict[str, tuple[str, str]]:
    """The split that each name of a folder says, and the name with * in the place of the split.

    A word of its own counts: images_train, Train2017. A word that is glued to another one counts
    before a word such as annot, or where another split has the same rest: `latest` does not name a
    split. Names that say no split, or two, are left out.
    """
    found: dict[str, tuple[str, str]] = {}
    glued: defaultdict[str, dict[str, str]] = defaultdict(dict)  # rest -> split -> name
    for name in sorted(names):
        words = [match for match in _PIECE.finditer(name) if match[0].casefold() in SPLITS]
        said = {SPLITS[match[0].casefold()] for match in words}
        if said == {"train", "valid"}:  # train_val
            said, words = {"train"}, [m for m in words if SPLITS[m[0].casefold()] == "train"]
        if len(said) == 1:
            rest = f"{name[: words[0].start()]}*{name[words[0].end() :]}"
            found[name] = said.pop(), rest
        elif not said and (glue := _GLUED.fullmatch(name.casefold())):
            rest = f"*{glue['after']}" if glue["after"] else f"{glue['before']}*"
            glued[rest][SPLITS[glue[1] or glue[4]]] = name
    for rest, of_split in glued.items():
        if rest.strip("*") in ROLE_ENDINGS or ("train" in of_split and len(of_split) > 1):
            found |= {name: (split, rest) for split, name in of_split.items()}
    return found


def splits_from_lists(
    folder: Path, files: Collection[str], images: Sequence[str]
) -> tuple[dict[int, str], str] | None:
    """The splits that text files such as ImageSets/Segmentation/train.txt give.

    A file that is named after a split counts if nearly all of its lines begin with the name or the
    path of an image. There must be one for train and another one, all in one folder.

    Args:
        folder: the data set's.
        files: the paths in it of files that are no images.
        images: the paths in it of the images that have a mask.

    Returns:
        the split of each image that a list names, by its index; the folder of the lists. None
        where there are no such lists.
    """
    index = _index_of_names(images)
    best: tuple[dict[int, str], str] | None = None
    for place, lists in _lists(files).items():
        splits: dict[int, str] = {}
        for split, file in lists.items():
            indices = list(_listed(folder / file, index))
            known = [i for i in indices if i is not None]
            if not known or len(known) < LEAST_KNOWN * len(indices):
                break
            # An image that is in two lists is not learnt from and scored as well.
            splits |= dict.fromkeys(known, split)
        else:
            complete = {"train", *splits.values()} == set(splits.values()) and len(lists) > 1
            if complete and (best is None or len(splits) > len(best[0])):
                best = splits, place or "."
    return best


def _lists(files: Collection[str]) -> dict[str, dict[str, str]]:
    """The text files that are named after splits: folder -> split -> file, train first."""
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for file in sorted(files):
        place, name = os.path.split(file)
        stem, extension = os.path.splitext(name)
        if extension.lower() not in LIST_TYPES:
            continue
        if stem.casefold() == "trainval":
            found[place].setdefault("train", file)
        elif stem in (said := splits_of([stem])) and said[stem][1] in ("*", "*_list", "*_files"):
            found[place][said[stem][0]] = file
    return {
        place: {split: lists[split] for split in SPLIT_NAMES if split in lists}
        for place, lists in sorted(found.items())
    }


def _index_of_names(images: Sequence[str]) -> Mapping[str, int]:
    """All ways in which a list may name an image, without those that could mean two images."""
    names: Counter[str] = Counter()
    index: dict[str, int] = {}
    for i, path in enumerate(images):
        for name in {path, os.path.splitext(path)[0], *_without_folders(path)}:
            names[name] += 1
            index[name] = i
    return {name: i for name, i in index.items() if names[name] == 1}


def _without_folders(path: str) -> tuple[str, str]:
    name = path.rpartition("/")[2]
    return name, os.path.splitext(name)[0]


def _listed(file: Path, index: Mapping[str, int]) -> Iterator[int | None]:
    """The index of the image that each line of a list names first; None for another name."""
    try:
        if file.stat().st_size > LARGEST_LIST:
            return
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        if name := line.strip().replace("\\", "/"):
            first = re.split(r"[\s,;]", name, maxsplit=1)[0]
            spelled = (name, first, *_without_folders(first), first.lstrip("/"))
            yield next((index[s] for s in spelled if s in index), None)
