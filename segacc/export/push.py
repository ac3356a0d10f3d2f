"""segacc export: a file written, or a run's model pushed to the Hub, or both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segacc.config.sizes import Size
from segacc.errors import InputError
from segacc.export.export import Format, export, is_run, output_paths
from segacc.hub.access import FLAG, look_at
from segacc.hub.push import WEIGHTS, files_of, push_run
from segacc.hub.use import FILES, INT8


@dataclass(frozen=True)
class Push:
    """The values of the flags of the same names."""

    push_to_hub: str | None
    public: bool
    push_pictures: bool


def export_and_push(
    source: str,
    to: Format | None,
    out: Path | None,
    at: Size | None,
    pixels: Literal["uint8", "float32"],
    int8: bool,
    push: Push,
) -> list[str]:
    """Write a model in a format, if one is named, and push it beside the run's model, if asked to.

    With `push`, an export that exists and is newer than the model is pushed as it is. So the same
    command continues an upload that was interrupted.

    Args:
        source, to, out, at, pixels, int8: as in `export`.

    Returns:
        what was done, in sentences for the user.

    Raises:
        InputError: it could not be written or pushed; what was written stays.
    """
    repository = push.push_to_hub
    if repository is None:
        if to is None or push.public or push.push_pictures:
            what = "--to is missing" if to is None else "--public and --push-pictures do nothing"
            raise InputError(
                f"{what} without {FLAG}: give --to onnx, pt2, smp or transformers to write a file, "
                f"{FLAG} owner/name to push the model, or both."
            )
        return [f"written: {path}" for path in export(source, to, out, at, pixels, int8)]
    run = Path(source).expanduser()
    if not is_run(run):
        raise InputError(
            f"{FLAG} {repository}: {source} is not a run's folder, and the card says data, recipe "
            "and scores: give the folder that training has made."
        )
    if to is None and (out is not None or at is not None or pixels != "uint8" or int8):
        raise InputError("--out, --at, --pixels and --int8 have no effect without --to: give it.")
    own = files_of(run, {}, push.push_pictures)
    look_at(repository, push.public)  # before the export, which may take minutes
    exports: dict[str, Path] = {}
    if to is not None:
        paths = output_paths(source, to, out, int8)
        weights = own[WEIGHTS].stat().st_mtime
        if all(path.exists() and path.stat().st_mtime >= weights for path in paths):
            names = " and ".join(map(str, paths))
            print(f"there already, and newer than the model, so pushed as it is: {names}")
        else:
            export(source, to, out, at, pixels, int8)
        exports = dict(zip([FILES[to], INT8], paths, strict=False))
    said = push_run(run, repository, push.public, exports, push.push_pictures)
    return [*(f"written: {path}" for path in exports.values()), said]
