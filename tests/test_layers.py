"""The rooms of segacc form layers; each imports only from the layers after it."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from importlib.util import resolve_name
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent

# The layers from the outside in; `segacc.data` stands for the whole package.
LAYERS = (
    ("train", "evaluate", "segacc.cli"),
    ("segacc.study",),
    ("segacc.loop", "segacc.evaluation", "segacc.comparison", "segacc.prediction"),
    ("segacc.setup", "segacc.report", "segacc.dashboard"),
    ("segacc.tracking",),
    (
        *("segacc.checkpoint", "segacc.inference", "segacc.optim", "segacc.launch"),
        *("segacc.record", "segacc.stop", "segacc.wandb_run", "segacc.weights"),
        *("segacc.scores", "segacc.figures", "segacc.processes"),
    ),
    (
        *("segacc.models", "segacc.global_batch", "segacc.losses", "segacc.metrics"),
        *("segacc.surfaces", "segacc.charts", "segacc.pictures", "segacc.data"),
    ),
    ("segacc.config",),
    ("segacc.program",),
    ("segacc",),  # __init__.py: the version, nothing else
)
DEPTH = {room: depth for depth, rooms in enumerate(LAYERS) for room in rooms}
HEAVY = {"accelerate", "datasets", "segmentation_models_pytorch", "torch"}
HEAVY |= {"transformers", "wandb"}


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_name(file): file
    for file in sorted([ROOT / "train.py", ROOT / "evaluate.py", *ROOT.glob("segacc/**/*.py")])
}


def room(module: str) -> str:
    """segacc.data.sources -> segacc.data"""
    return ".".join(module.split(".")[:2])


def is_ours(module: str) -> bool:
    return module.split(".")[0] in ("segacc", "train", "evaluate")


def imports(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Line and full name of every module imported anywhere in the tree, functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                member = f"{source}.{alias.name}"
                yield node.lineno, member if member in FILES else source


def imports_of(module: str) -> Iterator[tuple[int, str]]:
    file = FILES[module]
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    return imports(ast.parse(file.read_text(encoding="utf-8")), package)


@pytest.mark.parametrize("module", FILES)
def test_a_room_imports_only_from_the_layers_after_its_own(module):
    assert room(module) in DEPTH, f"{module} has no layer: give it one in LAYERS"
    ours = [(line, room(target)) for line, target in imports_of(module) if is_ours(target)]
    wrong = [
        f"line {line} imports {target}"
        for line, target in ours
        if DEPTH.get(target, -1) <= DEPTH[room(module)]
        and not target == room(module) == "segacc.data"  # a package is free inside
    ]
    assert wrong == []


def test_every_library_that_is_imported_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]["trackers"]
    declared = {
        canonicalize_name(Requirement(line).name) for line in project["dependencies"] + extras
    }
    packages = packages_distributions()
    undeclared = {
        f"{target} in {module}"
        for module in FILES
        for _, target in imports_of(module)
        if not is_ours(target) and (name := target.split(".")[0]) not in sys.stdlib_module_names
        if not declared & {canonicalize_name(d) for d in packages.get(name, [])}
    }
    assert undeclared == set()


def imported_by(*command: str) -> tuple[set[str], str]:
    """Every top-level package that a fresh interpreter imports, and what it prints."""
    run = subprocess.run(
        [sys.executable, "-X", "importtime", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    names = {line.split("|")[-1].strip().split(".")[0] for line in run.stderr.splitlines()}
    assert "segacc" in names
    return names, run.stdout


@pytest.mark.parametrize("program", ["train.py", "evaluate.py"])
def test_help_imports_nothing_heavy(program):
    names, printed = imported_by(program, "--help")
    assert "--dataset" in printed
    assert names & HEAVY == set()


@pytest.mark.parametrize("command", [[], ["predict"]])
def test_the_help_of_segacc_imports_nothing_heavy(command):
    names, printed = imported_by("-c", "from segacc.cli import main; main()", *command, "--help")
    assert "predict" in printed
    assert names & HEAVY == set()


def test_config_and_data_import_nothing_heavy():
    light = [m for m in FILES if room(m) in ("segacc.config", "segacc.data")]
    for heavy in ("loader", "resident"):  # samplers and data sets are torch's
        light.remove(f"segacc.data.{heavy}")
    names, _ = imported_by("-c", f"import {', '.join(light)}")
    assert names & HEAVY == set()


@pytest.mark.parametrize("program", ["train.py", "evaluate.py"])
def test_a_program_parses_calls_and_exits_and_nothing_else(program):
    assert len((ROOT / program).read_text(encoding="utf-8").splitlines()) < 60
