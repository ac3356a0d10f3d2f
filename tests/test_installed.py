"""An installed segacc, far from the repository: the wheel is built, installed and used.

Its processes do not find the packages of extras, nor albumentations, which is imported where it
is needed alone, though this environment has them. That pip finds all that the wheel needs is seen
where an empty environment is made: by `.ci/run` and by `make demo`.
"""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZipFile

import pytest
from small import ROOT, TINY, lines, write_blobs

EXTRAS = ("tensorboard", "trackio", "wandb_workspaces", "albumentations", "lightning", "pytest")
HIDE = (
    f"import sys; sys.modules |= dict.fromkeys({EXTRAS}, None)  # as if they were not installed\n"
)
TINY_STUDY = ("--models", *TINY[1:])  # --models linknet --encoder ...
FLAGS = ("--size", 64, "--batch-size", 4, "--weights", "none", "--tracker", "none", *TINY)


def run(
    *command: object, cwd: Path, code: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """What the command does; it must end with this exit code."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**os.environ, "ACCELERATE_USE_CPU": "true", **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, the folder that it is installed into, and a user's own folder with a data set."""
    folder = tmp_path_factory.mktemp("installed")
    source, site, home = folder / "source", folder / "site", folder / "home"
    shutil.copytree(ROOT / "segacc", source / "segacc", ignore=shutil.ignore_patterns("__pyc*"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    offline = ("--no-deps", "--no-build-isolation", "--no-index")
    run(*pip, "wheel", *offline, "--wheel-dir", folder, source, cwd=folder)
    (wheel,) = folder.glob("segacc-*.whl")
    run(*pip, "install", "--no-deps", "--no-index", "--target", site, wheel, cwd=folder)
    (site / "sitecustomize.py").write_text(HIDE)  # every Python program imports it
    write_blobs(home / "blobs", train=8, valid=2, test=2)
    return SimpleNamespace(wheel=wheel, site=site, home=home)


@pytest.fixture(scope="module")
def user(installed):
    """Runs a command in the user's folder, with the installed segacc and no other."""
    paths = {
        "PYTHONPATH": str(installed.site),
        "PATH": f"{installed.site / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    return lambda *command, code=0: run(*command, cwd=installed.home, code=code, **paths)


def test_the_wheel_holds_the_package_and_nothing_of_the_repository_around_it(installed):
    names = ZipFile(installed.wheel).namelist()
    package = [Path(name) for name in names if ".dist-info" not in name]
    assert {path.parts[0] for path in package} == {"segacc"}
    configs = {path.name for path in package if path.parent.name == "accelerate_configs"}
    assert configs == {"cpu.yaml", "gpu.yaml", "ddp.yaml", "multinode.yaml", "slurm.sh"}
    folders = {path.parent for path in (ROOT / "segacc").rglob("*.py")}
    assert {str(folder.relative_to(ROOT)) for folder in folders} <= {str(p.parent) for p in package}


@pytest.mark.slow
def test_train_resume_and_evaluate_with_every_launcher(installed, user):
    import_of = user(sys.executable, "-c", "import segacc; print(segacc.__file__)")
    assert import_of.stdout.startswith(str(installed.site))
    flags = ("--dataset", "blobs", *FLAGS)

    config = installed.site / "segacc" / "accelerate_configs" / "cpu.yaml"
    launch = ("accelerate", "launch", "--config_file", config, "-m", "segacc")
    trained = user(*launch, "train", *flags, "--output-dir", "run", "--epochs", 1)
    assert "next: segacc evaluate run" in trained.stdout

    torchrun = ("torchrun", "--nproc-per-node", 2, "--standalone", "-m", "segacc")
    resumed = user(*torchrun, "train", "--resume", "run", "--epochs", 2)
    assert "2 processes" in resumed.stdout and "resumed     after step 2" in resumed.stdout
    assert len(lines(installed.home / "run")) == 2

    user("segacc", "train", "--resume", "run", "--epochs", 3)
    record = json.loads((installed.home / "run" / "config.json").read_text())
    assert record["config"]["epochs"] == 3 and record["git_commit"] is None

    scored = user("segacc", "evaluate", "run")
    assert "2 full images of 64 x 64 px" in scored.stdout
    assert (installed.home / "run" / "test" / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("command", "package"),
    [
        (("train", "--dataset", "blobs", *FLAGS, "--tracker", "tensorboard"), "tensorboard"),
        (("dashboard", "--out", "workspace.json"), "wandb-workspaces"),
    ],
)
def test_an_optional_package_that_is_missing_is_one_sentence(user, command, package):
    done = user("segacc", *command, code=2)
    assert f"needs the package {package}, which is not installed: run `pip install" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_small_study_ends_with_its_table_and_is_done(installed, user):
    out = installed.home / "study"
    study = ("segacc", "study", "--fast", "--dataset", "blobs", *TINY_STUDY)
    done = user(*study, "--out", "study")
    for step in ("trains", "is scored", "done"):
        assert f"blobs-linknet-seed0: {step}" in done.stdout
    (row,) = csv.DictReader((out / "study.csv").open())
    (scores,) = out.glob("*/test/metrics.json")
    iou = json.loads(scores.read_text())["scores"]["iou"]["value"]
    assert row["iou"] == f"{iou:.6f}" and row["weights"] == "none"
    assert (row["model"], row["runs"]) == ("linknet", "1")
    assert round(int(row["parameters"]) / 1e6, 1) == 0.4
    assert "| linknet |" in (out / "study.md").read_text()
    assert (out / "report-blobs.html").stat().st_size > 10_000
    assert "trains" not in user(*study, "--out", "study").stdout
