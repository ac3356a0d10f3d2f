"""The git commit that a run's folder records."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small import ROOT

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
