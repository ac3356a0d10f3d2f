"""plan(): files, folders and globs -> the images to predict, and the files to write."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from segacc.data.reading.pairing import EXTENSIONS, pair_by_words
from segacc.data.reading.recognition.listing import list_files
from segacc.errors import InputError, plural, some_names


@dataclass(frozen=True)
class Target:
    """An image, and the files that are made of it."""

    image: Path
    mask: Path
    probabilities: Path | None = None
    overlay: Path | None = None


def plan(
    images: Iterable[str | Path],
    out: str | Path,
    probabilities: bool = False,
    overlays: bool = False,
    goes_on: bool = False,
) -> list[Target]:
    """Find the images and name what is made of each; no file is opened.

    A mask has the name of its image and lies in `out` as the image lies in the folder that was
    given, or in the part of a glob before its first wildcard: of the folder `photos`, the mask of
    `photos/a/b.jpg` is `out/a/b.png`, beside `out/probabilities/a/b.png` and
    `out/overlays/a/b.jpg`.

    Args:
        images: files of any name; folders, with all images in them and in folders below; globs, in
            which `**` stands for any number of folders.
        out: a new or empty folder.
        goes_on: the folder may hold what an interrupted call has written.

    Raises:
        InputError: something of `images` finds no image; two images would write the same file;
            `out` holds something, or lies in a folder of images.
    """
    out = Path(out).expanduser()
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file: give a new folder.")
    if out.exists() and any(out.iterdir()) and not goes_on:
        raise InputError(
            f"--out {out} is not empty: give a new folder, so that nothing is overwritten, or go "
            "on where the same command was interrupted with --skip-existing."
        )
    targets: dict[str, Target] = {}  # by the absolute path of the image: each is predicted once
    for given in images:
        found = list(_find(os.path.expanduser(given), out))
        if not found:
            raise InputError(
                f"{given} finds no image: expected files in {', '.join(sorted(EXTENSIONS))}."
            )
        for path, name in found:
            target = Target(
                image=Path(path),
                mask=out / f"{name}.png",
                probabilities=out / "probabilities" / f"{name}.png" if probabilities else None,
                overlay=out / "overlays" / f"{name}.jpg" if overlays else None,
            )
            targets.setdefault(os.path.abspath(path), target)
    if not targets:
        raise InputError("no images were given: name files, folders or globs after the model.")
    _check_files(targets.values())
    return list(targets.values())


def without_existing(targets: Iterable[Target]) -> list[Target]:
    """Return the targets that lack a file. The mask of an image is written last, and whole."""

    def exists(target: Target) -> bool:
        # With more than two classes, the probabilities are a folder.
        levels, overlay = target.probabilities, target.overlay
        return (
            target.mask.exists()
            and (levels is None or levels.exists() or levels.with_suffix("").is_dir())
            and (overlay is None or overlay.exists())
        )

    return [target for target in targets if not exists(target)]


def _find(given: str, out: Path) -> Iterator[tuple[str, str]]:
    """Paths of images, and the names of their results without suffix."""
    if os.path.isdir(given):
        if out.resolve().is_relative_to(Path(given).resolve()):
            raise InputError(
                f"--out {out} lies in {given}, of which all images are predicted, so the next time "
                "the masks would be taken for images: give a folder outside of it."
            )
        yield from _in_folder(given, given)
    elif os.path.exists(given):
        yield given, Path(given).stem
    elif glob.has_magic(given):
        root = str(Path(*takewhile(lambda part: not glob.has_magic(part), Path(given).parts)))
        suffixes = EXTENSIONS | {Path(given).suffix.lower()} - {""}
        for path in sorted(glob.glob(given, recursive=True)):
            if os.path.isdir(path):
                yield from _in_folder(path, root)
            elif os.path.splitext(path)[1].lower() in suffixes:
                yield path, os.path.splitext(os.path.relpath(path, root))[0]
    else:
        raise InputError(
            f"{given} was not found: expected an image, a folder of images, or a glob in quotes "
            "(or before the images one more model)."
        )


def _in_folder(folder: str, root: str) -> Iterator[tuple[str, str]]:
    names = list_files(Path(folder)).images
    masks = _masks_among(folder, names)
    if masks:
        logging.getLogger("segacc").warning(
            f"{folder} holds images with their masks: {plural(len(masks), 'mask')} "
            f"({some_names(sorted(masks))}) left out; to predict them, too, name these files"
        )
    for below in names:
        if below in masks:
            continue
        path = os.path.join(folder, below)
        yield path, os.path.splitext(os.path.relpath(path, root))[0]


def _masks_among(folder: str, names: Sequence[str]) -> set[str]:
    """Which of the images in a folder are masks of others there, by the words in their names; none
    where most images have no mask, so that names are no sign."""
    pairs = pair_by_words(Path(folder), list(names)).pairs.values() if names else ()
    masks = {os.path.relpath(pair.mask, folder) for of_split in pairs for pair in of_split}
    return masks if 4 * len(masks) > len(names) else set()


def _check_files(targets: Iterable[Target]) -> None:
    """Raises InputError where two results would be written to the same file."""
    taken: dict[Path, Path] = {}
    for target in targets:
        for file in (target.mask, target.probabilities, target.overlay):
            if file and (other := taken.setdefault(file, target.image)) != target.image:
                if other.parent == target.image.parent:
                    remedy = f"give one of them, as '{other.parent}/*{other.suffix}' does"
                else:
                    remedy = "give a folder that holds both, since its structure is kept"
                raise InputError(
                    f"{other} and {target.image} would both be written to {file}: {remedy}."
                )


def models_and_images(model: str, given: Sequence[str]) -> tuple[list[str], list[str]]:
    """Which arguments of `segacc predict MODEL ...` are more models: those before the first image,
    if they are folders with a model, or ONNX files."""
    more = []
    for word in given:
        if not is_model(word):
            break
        more.append(word)
    return [model, *more], list(given[len(more) :])


def is_model(word: str) -> bool:
    """Whether a path is that of a run, of a saved model or of an ONNX file."""
    path = Path(word).expanduser()
    if path.suffix == ".onnx":
        return path.is_file()
    return any((folder / "model.safetensors").is_file() for folder in (path, path / "best"))
