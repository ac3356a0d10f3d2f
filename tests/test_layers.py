"""The packages of segacc form layers; each imports only from the layers after it."""

import ast
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib.metadata import packages_distributions
from importlib.util import resolve_name
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent

# The packages and modules of segacc from the outside in: each imports only from those after it.
LAYERS = (
    ("train", "evaluate", "segacc.__main__"),
    ("segacc.cli", "segacc.api"),
    ("segacc.commands",),
    ("segacc.study",),
    ("segacc.training", "segacc.evaluation", "segacc.export"),
    ("segacc.prediction", "segacc.tracking", "segacc.hub"),
    ("segacc.report",),
    ("segacc.runs",),
    ("segacc.models", "segacc.data"),
    ("segacc.metrics", "segacc.runtime"),
    ("segacc.labels",),
    ("segacc.config",),
    ("segacc.command_line",),
    ("segacc.errors",),
    ("segacc",),  # __init__.py: the version, and the names of the API, which it finds by name
)
DEPTH = {package: depth for depth, packages in enumerate(LAYERS) for package in packages}
HEAVY = {"accelerate", "datasets", "segmentation_models_pytorch", "torch"}
HEAVY |= {"transformers", "wandb"}


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_name(file): file
    for file in sorted([ROOT / "train.py", ROOT / "evaluate.py", *ROOT.glob("segacc/**/*.py")])
}


def package_of(module: str) -> str:
    """segacc.data.reading.sources -> segacc.data"""
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
def test_a_package_imports_only_from_the_layers_after_its_own(module):
    own = package_of(module)
    assert own in DEPTH, f"{module} has no layer: give it one in LAYERS"
    wrong = [
        f"line {line} imports {target}"
        for line, target in imports_of(module)
        if is_ours(target)
        and package_of(target) != own
        and DEPTH.get(package_of(target), -1) <= DEPTH[own]
    ]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle():
    graph = {m: {t for _, t in imports_of(m) if t in FILES} for m in FILES}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_modules_and_packages_are_small():
    lines = {m: len(file.read_text(encoding="utf-8").splitlines()) for m, file in FILES.items()}
    assert {m: n for m, n in lines.items() if n >= 300} == {}
    modules = [file for file in FILES.values() if file.name != "__init__.py"]
    packages = Counter(file.parent for file in modules)
    assert {str(folder): n for folder, n in packages.items() if n > 10} == {}


def test_files_of_tests_have_names_of_their_own():
    """pytest imports them by these names."""
    names = Counter(file.name for file in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, n in names.items() if n > 1] == []


def test_functions_are_short():
    long = {
        f"{module}.{node.name}": length
        for module, file in FILES.items()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (length := (node.end_lineno or 0) - node.lineno + 1) > 60
    }
    assert long == {}


def test_every_library_that_is_imported_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = project["dependencies"] + extras["trackers"] + extras["export"]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    packages = packages_distributions()
    undeclared = {
        f"{target} in {module}"
        for module in FILES
        for _, target in imports_of(module)
        if not is_ours(target) and (name := target.split(".")[0]) not in sys.stdlib_module_names
        if not declared & {canonicalize_name(d) for d in packages.get(name, [])}
    }
    assert undeclared == set()


def test_no_allowed_version_of_a_library_runs_code_that_it_loads():
    runs_code = {
        "datasets": "3.6.0",  # a repository's script
        "segmentation-models-pytorch": "0.5.0",  # torch.load of a URL, without weights_only
        "torch": "2.5.1",  # CVE-2025-32434: in spite of weights_only
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    allowed = {
        canonicalize_name((r := Requirement(line)).name): r for line in project["dependencies"]
    }
    assert [name for name, old in runs_code.items() if allowed[name].specifier.contains(old)] == []


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


SLOW = {"torch._dynamo", "torch._inductor", "albumentations", "datasets", "matplotlib", "monai"}
SLOW |= {"pandas", "scipy", "segmentation_models_pytorch", "sympy", "timm", "torchvision"}
SLOW |= {"transformers", "wandb"}


@pytest.mark.parametrize("module", ["training.fit", "evaluation.evaluate", "prediction.files"])
def test_importing_takes_little_more_than_torch_and_accelerate_take(module):
    """What is slow to import, such as torch's compiler (a third of all), is where it is used."""
    program = f"import sys, segacc.{module}; print(*sys.modules)"
    names, printed = imported_by("-c", program)
    without = "import sys, torch, accelerate; print(*sys.modules)"
    already = subprocess.run([sys.executable, "-c", without], capture_output=True, text=True)
    assert "torch" in names
    assert SLOW & set(printed.split()) - set(already.stdout.split()) == set()


@pytest.mark.parametrize("command", [[], ["train"], ["evaluate"], ["predict"], ["study"]])
def test_the_help_of_segacc_imports_nothing_heavy(command):
    names, printed = imported_by("-m", "segacc", *command, "--help")
    assert f"usage: {' '.join(['segacc', *command])} [-h]" in printed
    launches = command[:1] in (["train"], ["evaluate"])
    assert ("launch options" in printed and "--processes N" in printed) == launches
    assert names & HEAVY == set()


def test_config_and_data_import_nothing_heavy():
    heavy = {"segacc.data.loading.loader", "segacc.data.loading.resident"}  # data sets of torch
    heavy |= {"segacc.data.loading.stream", "segacc.data.loading.start"}  # so are samplers
    packages = ("segacc.config", "segacc.data")
    light = [m for m in FILES if package_of(m) in packages and m not in heavy]
    names, _ = imported_by("-c", f"import {', '.join(light)}")
    assert names & HEAVY == set()


@pytest.mark.parametrize("program", ["train.py", "evaluate.py"])
def test_a_program_parses_calls_and_exits_and_nothing_else(program):
    assert len((ROOT / program).read_text(encoding="utf-8").splitlines()) < 60
