"""Calls of W&B's own functions: a run that is resumed, images with masks, models as artifacts."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segacc.errors import InputError, quoted
from segacc.labels import IGNORE
from segacc.report.pictures import Picture

if TYPE_CHECKING:
    from accelerate import Accelerator

    from segacc.tracking.trackers import Naming

INIT_SECONDS = 8.0  # after which W&B gives up
MODES = ("online", "offline", "shared", "disabled", "dryrun", "run")


def check_mode() -> None:
    """Raises InputError when WANDB_MODE has a value that W&B does not know."""
    mode = os.environ.get("WANDB_MODE") or "online"
    if mode not in MODES:
        raise InputError(
            f"WANDB_MODE={mode} is not known to W&B: expected online, offline or disabled, or "
            "leave it out."
        )


def start(
    accelerator: Accelerator,
    naming: Naming,
    run: Path,
    run_id: str,
    config: dict[str, Any],
) -> tuple[str, int]:
    """Open a new run or a resumed one, on rank 0.

    Args:
        naming: how W&B shows the run; a sweep chooses the project.
        config: what W&B shows as the run's config.

    Returns:
        where the curves go, for the banner; the first step that W&B has no row of.

    Raises:
        InputError: W&B refuses the key, cannot be reached, or cannot read its own files.
    """
    import wandb
    from wandb.sdk.mailbox.mailbox_handle import ServerResponseError

    options = _options(naming, run, config)
    if "WANDB_SWEEP_ID" in os.environ:
        chosen: Any = None  # the agent chooses project and id, and W&B warns of others
    else:
        chosen = naming.project
        options["id"] = run_id
    mode = _mode()
    description = f"wandb ({mode or 'online'})"
    # A service that another process started, such as a notebook or a test, goes on when this one is
    # killed. It would then keep the run, and refuse it when it is resumed. So each run has its own.
    os.environ.pop("WANDB_SERVICE", None)
    try:
        # Without a network, W&B would twice wait for the name of the user, which it only prints.
        wandb.setup(wandb.Settings(x_disable_viewer=True))
        if mode is None and not wandb.login(prompt=False, verify=False):
            options["mode"] = "offline"
        is_offline = (options.get("mode") or mode) in ("offline", "dryrun")
        if is_offline:
            upload = f"wandb sync {quoted(run)}/wandb/offline-run-*"
            why = "" if mode else ", since it has no key"
            description = f"wandb, offline{why}; upload with `{upload}`"
        # Offline, all that it says of itself is in the banner. Warnings and errors stay.
        wandb.termsetup(wandb.Settings(show_info=not is_offline), None)
        accelerator.init_trackers(chosen, init_kwargs={"wandb": options})
    except (wandb.errors.Error, ServerResponseError, ValueError) as error:
        # The last one is of WANDB_... variables.
        said = " ".join(str(error).split())
        wandb.teardown(exit_code=1)  # now, so that its last words come before ours
        raise InputError(
            f"--tracker wandb could not start ({said}): check the key and the network, set "
            "WANDB_MODE=offline (or for a slow network WANDB_INIT_TIMEOUT=60), or give another "
            "--tracker."
        ) from error
    wandb_run: Any = accelerator.get_tracker("wandb", unwrap=True)
    # W&B would put the last epoch's scores into the summary; `log_epoch` puts the best epoch's.
    wandb_run.define_metric("valid/*", summary="none")
    first = 1 + last_step(run / "wandb", run_id) if wandb_run.offline else wandb_run.starting_step
    return description, first


def _mode() -> str | None:
    """The value of WANDB_MODE. An empty one, which W&B refuses, is removed."""
    if os.environ.get("WANDB_MODE") == "":
        del os.environ["WANDB_MODE"]
    return os.environ.get("WANDB_MODE")


def _options(naming: Naming, run: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `wandb.init` for any run."""
    import wandb

    settings: dict[str, Any] = {"quiet": True}  # without histories and summaries at the end
    if "WANDB_INIT_TIMEOUT" not in os.environ:  # W&B's own would be 90 seconds
        settings["init_timeout"] = INIT_SECONDS
    return {
        "name": naming.name,
        # Without --tags, W&B uses those of WANDB_TAGS, and a resumed run keeps its own.
        **({"tags": list(naming.tags)} if naming.tags else {}),
        "dir": str(run),
        "resume": "allow",
        "config": config,
        # An earlier run in this process: one of segacc that has failed, or one of the user's own.
        "reinit": "finish_previous",
        "settings": wandb.Settings(**settings),
    }


def last_step(folder: Path, run_id: str) -> int:
    """The last step of a run that is in W&B's files; -1 when there is none.

    Each time an offline run starts, W&B makes a new folder and does not look into the older ones;
    `wandb sync` later sends what they all hold. So steps that are in them must not be logged again.
    Rows that a kill has lost are not in the files, and are logged again. The files are read by
    W&B's own program, the one behind `wandb leet inspect`.

    Args:
        folder: W&B's folder of the run; it holds a folder for each time the run was started.

    Raises:
        InputError: W&B cannot read its files.
    """
    from wandb.util import get_core_path

    files = folder.glob(f"*run-*/run-{run_id}.wandb")
    newest_first = sorted(files, key=lambda file: file.parent.name.removeprefix("offline-"))[::-1]
    reader = [get_core_path(), "leet", "inspect", "-no-observability", "-summary", "-json"]
    for file in newest_first:
        done = subprocess.run([*reader, "-run-file", str(file)], capture_output=True, text=True)
        if done.returncode:
            raise InputError(
                f"W&B cannot read {file}, which it wrote before the run was resumed "
                f"({done.stderr.strip()[-200:]}): move its folder away, or give --tracker none."
            )
        step = json.loads(done.stdout).get("step")
        if step is not None:
            return int(step)
    return -1


def masked_images(pictures: list[Picture]) -> list[Any]:
    """A wandb.Image of each picture, with truth and prediction as masks with names."""
    import wandb

    ignored = any((picture.truth == IGNORE).any() for picture in pictures)
    more = {IGNORE: "ignored"} if ignored else {}
    return [
        wandb.Image(
            picture.image,
            masks={
                name: {
                    "mask_data": mask,
                    "class_labels": dict(enumerate(picture.labels.names)) | more,
                }
                for name, mask in (("truth", picture.truth), ("prediction", picture.prediction))
            },
            caption=picture.caption,
            file_type="jpg",
        )
        for picture in pictures
    ]


def log_model(wandb_run: Any, run: Path, metadata: dict[str, Any]) -> None:
    """Log the best model as an artifact. Its files are not copied: they stay in `run/best`."""
    import wandb

    name = re.sub(r"[^\w.-]", "-", f"{run.name}-{metadata['run_id']}", flags=re.ASCII)[-128:]
    artifact = wandb.Artifact(name, type="model", metadata=metadata)
    artifact.add_dir(str(run / "best"), policy="immutable", skip_cache=True)
    wandb_run.log_artifact(artifact, aliases=["best"])
