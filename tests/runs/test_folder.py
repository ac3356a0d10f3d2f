"""What the folder of a run is called, and the git commit that it records."""

import os
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from small import ROOT

from segacc.config.defaults import fill
from segacc.config.train import TrainConfig
from segacc.errors import InputError
from segacc.runs.folder import check_output_dir, generated_name, make_run_folder
from segacc.tracking.start import naming_of

NOW = datetime(2026, 11, 29, 12, 30, 5)
AUTHOR = ("-c", "user.name=a", "-c", "user.email=a@example.org")


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *AUTHOR, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commit_of(folder: Path) -> str:
    """What the copy of segacc in `folder` says is its commit."""
    program = "import segacc.runs.folder as r; print(r.__file__, r.git_commit())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    file, commit = done.stdout.split()
    assert Path(file).parent == folder / "segacc" / "runs"
    return commit


@pytest.fixture
def project(tmp_path):
    """Somebody's repository, with a file of its own and one commit."""
    (tmp_path / "notes.txt").write_text("one")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "notes.txt")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    return tmp_path


def test_the_commit_is_that_of_segacc_and_not_of_a_repository_around_it(project):
    installed = project / ".venv" / "site-packages"
    shutil.copytree(ROOT / "segacc", installed / "segacc")
    assert commit_of(installed) == "None"

    shutil.copytree(ROOT / "segacc", project / "segacc")
    git(project, "add", "segacc")
    git(project, "commit", "--quiet", "--message", "segacc itself")
    head = git(project, "rev-parse", "HEAD")
    assert commit_of(project) == head
    (project / "notes.txt").write_text("two")
    assert commit_of(project) == head + "+"


def test_a_run_without_a_name_is_called_by_data_model_encoder_seed_and_time(tmp_path):
    (tmp_path / "my cells.zip").touch()
    for flags, name in (
        ({"seed": 3}, "gland-linknet-resnet34-seed3"),
        ({"dataset": str(tmp_path / "my cells.zip")}, "my-cells-linknet-resnet34-seed0"),
        ({"dataset": "owner/name", "model": "segformer"}, "owner-name-segformer-seed0"),
        ({"model": "own:Net", "weights": "own"}, "gland-Net-seed0"),
        ({"encoder": "tu-test_resnet"}, "gland-linknet-tu-test_resnet-seed0"),
    ):
        assert generated_name(fill(TrainConfig(**flags)), NOW) == f"{name}-20261129-123005"


def test_a_name_is_that_of_the_folder_and_of_the_tracker(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    named = TrainConfig(name="first", tags=("a",))
    assert make_run_folder(named) == Path("runs/first") and Path("runs/first").is_dir()
    assert naming_of(named, Path("runs/first")).name == "first"
    Path("runs/first/config.json").touch()
    with pytest.raises(InputError, match="--name first: runs/first is not empty: give a new name"):
        check_output_dir(named)
    both = TrainConfig(name="first", output_dir=Path("out/1"))
    assert make_run_folder(both) == Path("out/1")
    assert naming_of(both, Path("out/1")).name == "first"
    assert naming_of(TrainConfig(), Path("out/1")).name == "1"


def test_a_project_of_the_flag_wins_over_that_of_the_environment(monkeypatch):
    def project(**flags):
        return naming_of(TrainConfig(**flags), Path("run")).project

    monkeypatch.setenv("WANDB_PROJECT", "of-environment")
    assert project() == "of-environment" and project(project="mine") == "mine"
    assert project(tracker="trackio") == "segacc"
    monkeypatch.delenv("WANDB_PROJECT")
    assert project() == "segacc"
