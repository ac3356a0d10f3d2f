"""How the code is built: modules, functions, imports between packages, and the way of the config.

    python -m benchmarks.structure [--root DIR] [--start segacc.training.fit:fit]

It reads the code of a checkout and runs none of it. The way of the config is the sequence of
functions that it, its values, or what is computed from them are passed to, in the order of the
code, both branches of a condition; the inside of a function counts once. A climb is a step of this
way from a package to a higher one, where a package is higher than all that it imports.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import resolve_name
from itertools import pairwise
from pathlib import Path

import tyro

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Args:
    root: Path = Path(__file__).parent.parent
    """of the checkout"""
    start: str = "segacc.training.fit:fit"
    """the function that gets the config as its first argument"""


@dataclass
class Module:
    """What a file defines and imports."""

    name: str
    lines: int
    functions: dict[str, Function] = field(default_factory=dict)
    """by name; of a class what makes it, by the name of the class"""
    names: dict[str, str] = field(default_factory=dict)
    """what imported names stand for"""
    imports: set[str] = field(default_factory=set)
    """modules of ours, also those imported inside of functions"""
    longest: int = 0


def read_modules(root: Path) -> dict[str, Module]:
    """Every module of segacc, by its full name."""
    files = {}
    for file in sorted(root.glob("segacc/**/*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return {name: read_module(name, file, set(files)) for name, file in files.items()}


def read_module(name: str, file: Path, known: set[str]) -> Module:
    text = file.read_text(encoding="utf-8")
    tree = ast.parse(text)
    module = Module(name, len(text.splitlines()))
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                full = f"{source}.{alias.name}"
                module.names[alias.asname or alias.name] = full
                module.imports |= {full if full in known else source} & known
        elif isinstance(node, Function):
            module.longest = max(module.longest, (node.end_lineno or 0) - node.lineno + 1)
    for node in tree.body:
        if isinstance(node, Function):
            module.functions[node.name] = node
        elif isinstance(node, ast.ClassDef):
            for made in (n for n in node.body if isinstance(n, Function) and n.name == "__init__"):
                module.functions[node.name] = made
    return module


def package_of(module: str) -> str:
    """segacc.data.reading.sources -> segacc.data"""
    return ".".join(module.split(".")[:2])


def package_imports(modules: dict[str, Module]) -> set[tuple[str, str]]:
    """(package, package that it imports from) for each import that leaves a package."""
    pairs = {
        (package_of(module.name), package_of(target))
        for module in modules.values()
        for target in module.imports
    }
    return {(one, other) for one, other in pairs if one != other}


def walk(modules: dict[str, Module], start: str) -> Iterator[str]:
    """The modules of the functions on the config's way, one for each call."""
    passed: set[str] = set()

    def resolve(module: Module, called: ast.expr) -> str | None:
        if isinstance(called, ast.Name):
            if called.id in module.functions:
                return f"{module.name}:{called.id}"
            full = module.names.get(called.id, "")
        elif isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
            full = f"{module.names.get(called.value.id, '')}.{called.attr}"
        else:
            return None
        source, _, name = full.rpartition(".")
        return f"{source}:{name}" if name in getattr(modules.get(source), "functions", {}) else None

    def enter(function: str, tracked: set[str]) -> Iterator[str]:
        name, _, own = function.partition(":")
        yield name
        if function not in passed:
            passed.add(function)
            yield from visit(modules[name], modules[name].functions[own].body, tracked)

    def visit(module: Module, nodes: Sequence[ast.AST], own: set[str]) -> Iterator[str]:
        for node in nodes:
            children = list(ast.iter_child_nodes(node))
            if isinstance(node, ast.Call):
                yield from visit(module, children, own)
                callee = resolve(module, node.func)
                if callee and (tracked := parameters(callee, node, own)):
                    yield from enter(callee, tracked)
                continue
            if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and node.value:
                yield from visit(module, [node.value], own)
                if mentions(node.value, own):
                    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                    own |= {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
                continue
            yield from visit(module, children, own)

    def parameters(callee: str, call: ast.Call, own: set[str]) -> set[str]:
        """The callee's parameters that get something tracked."""
        name, _, function = callee.partition(":")
        given = modules[name].functions[function].args
        names = [arg.arg for arg in (*given.posonlyargs, *given.args) if arg.arg != "self"]
        found = {names[i] for i, a in enumerate(call.args[: len(names)]) if mentions(a, own)}
        found |= {k.arg or names[-1] for k in call.keywords if names and mentions(k.value, own)}
        return found

    name, _, function = start.partition(":")
    yield from enter(start, {modules[name].functions[function].args.args[0].arg})


def mentions(node: ast.AST, names: set[str]) -> bool:
    """Whether an expression uses one of the names."""
    return any(isinstance(n, ast.Name) and n.id in names for n in ast.walk(node))


def main(args: Args) -> None:
    modules = read_modules(args.root)
    pairs = package_imports(modules)

    @cache
    def height(package: str) -> int:
        return max((1 + height(other) for one, other in pairs if one == package), default=0)

    way = [package_of(module) for module in walk(modules, args.start)]
    climbs = sum(height(after) > height(before) for before, after in pairwise(way))
    rows = {
        "modules": len(modules),
        "packages, and modules outside of them": len({package_of(name) for name in modules}),
        "lines": sum(module.lines for module in modules.values()),
        "lines of the longest module": max(module.lines for module in modules.values()),
        "lines of the longest function": max(module.longest for module in modules.values()),
        "imports between packages (pairs)": len(pairs),
        "calls on the config's way": len(way),
        "climbs of the config": climbs,
    }
    print("| what | number |\n|---|---|")
    for name, number in rows.items():
        print(f"| {name} | {number} |")


if __name__ == "__main__":
    main(tyro.cli(Args))
