"""The house rules that can be measured. What they are for: a newcomer finds each step, and can read it at once."""

from __future__ import annotations

import ast
import functools
import pathlib
import re
import statistics

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "reconciler"
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "migrations" not in path.parts)
OWNERS = {
    "alembic": {"store"},
    "botocore": {"artifacts"},
    "backports": {"artifacts"},
    "click": {"cli"},
    "compression": {"artifacts"},
    "cryptography": {"store"},
    "h11": {"web"},
    "jsonschema": {"source"},
    "orjson": {"cli", "protocol", "services", "source", "store"},
    "paho": {"transport"},
    "prometheus_client": {"services"},
    "pydantic": {"domain", "settings", "source"},
    "rich": {"cli"},
    "ruamel": {"source"},
    "sqlalchemy": {"store"},
    "starlette": {"web"},
    "uvicorn": {"web"},
    "watchfiles": {"source"},
}


def _name(path: pathlib.Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def _nodes(path: pathlib.Path) -> list[ast.AST]:
    """The module, and everything in it."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def _module(path: pathlib.Path) -> ast.Module:
    module = _nodes(path)[0]
    assert isinstance(module, ast.Module)
    return module


def _functions(path: pathlib.Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in _nodes(path) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def _body(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body, the docstring left out."""
    first = function.body[0]
    documented = ast.get_docstring(function, clean=False) is not None
    docstring = (first.end_lineno or first.lineno) - first.lineno + 1 if documented else 0
    last = function.end_lineno or function.lineno
    return last - first.lineno + 1 - docstring


def test_files_are_short() -> None:
    sizes = {_name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: size for name, size in sizes.items() if size > 500} == {}
    assert statistics.median(sizes.values()) <= 150


def test_functions_are_short() -> None:
    bodies = {
        f"{_name(path)}:{function.name}:{function.lineno}": _body(function)
        for path in FILES
        for function in _functions(path)
    }
    sizes = sorted(bodies.values())
    assert {name: size for name, size in bodies.items() if size > 60} == {}
    assert statistics.median(sizes) <= 9
    assert sizes[int(0.9 * (len(sizes) - 1))] <= 30


def test_functions_take_few_positional_parameters() -> None:
    greedy = []
    for path in FILES:
        for function in _functions(path):
            names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
            if len([name for name in names if name not in {"self", "cls"}]) > 5:
                greedy.append(f"{_name(path)}:{function.name}")
    assert greedy == []


def test_every_module_says_what_it_decides() -> None:
    silent = [_name(path) for path in FILES if not ast.get_docstring(_module(path))]
    assert silent == []


@functools.cache
def _imports(path: pathlib.Path) -> frozenset[str]:
    """The top-level packages that a module imports."""
    names = []
    for node in _nodes(path):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.append(node.module or "")
    return frozenset(name.split(".")[0] for name in names)


@pytest.mark.parametrize("library", sorted(OWNERS))
def test_each_library_has_its_owner(library: str) -> None:
    users = [path.relative_to(PACKAGE) for path in FILES if library in _imports(path)]
    assert {path.parts[0].removesuffix(".py") for path in users} <= OWNERS[library], users


def test_nothing_is_left_open() -> None:
    marker = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX|HA" + r"CK)\b|NotImplementedError")
    texts = {_name(path): path.read_text(encoding="utf-8") for path in FILES}
    assert [name for name, text in texts.items() if marker.search(text)] == []


def test_no_module_is_a_drawer_for_everything() -> None:
    drawers = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
    assert [_name(path) for path in FILES if path.stem in drawers] == []


def test_the_top_level_holds_what_people_expect() -> None:
    expected = {"bench", "deploy", "docs", "examples", "reconciler", "schemas", "tests"}
    ignored = {"build", "data", "dist"}
    found = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))}
    assert found - ignored <= expected
