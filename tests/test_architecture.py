"""The shape of the sources: sizes, names, cycles, docstrings, and one file per extension.

What may import what stands in pyproject.toml, under [tool.importlinter]; this is the rest of it.
"""

import ast
import graphlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

from longshore import extensions
from longshore.api import wire

SOURCES = Path(__file__).parents[1] / "src" / "longshore"
MODULES = {
    ".".join(path.relative_to(SOURCES).with_suffix("").parts): path
    for path in sorted(SOURCES.rglob("*.py"))
}

MAX_MODULE_LINES = 400
MAX_LINE_CHARACTERS = 100
MAX_FUNCTION_LINES = 60
MAX_NESTING = 4
MAX_PARAMETERS = 7

_LISTING = "each keyword narrows a listing or says what of it is wanted"
_OPTIONS = "each parameter is an option of the command line"

EXCEPTIONS = {
    "store.Store.list_objects: parameters": _LISTING,
    "stores.local.store.LocalStore.list_objects: parameters": _LISTING,
    "stores.memory.__init__.MemoryStore.list_objects: parameters": _LISTING,
    "stores.gs.store.GsStore.list_objects: parameters": _LISTING,
    "stores.s3.store.S3Store.list_objects: parameters": _LISTING,
    "cli.buckets.create: parameters": _OPTIONS,
    "cli.buckets.update: parameters": _OPTIONS,
    "cli.emulator.emulator: parameters": _OPTIONS,
    "patch: characters in a line": "one pattern, in one piece for ruff too",
}
"""What is too much, and why it may be. A line that is no longer needed fails as well."""

BANNED = {"utils", "common", "helpers", "core", "base", "manager", "types"}
"""Names of modules that do not say what is inside."""

FOREIGN_TO_WORKERS = {
    *("google", "grpc", "httpx", "uvicorn", "typer", "rich", "alembic", "prometheus_client", "jwt"),
    *("cel_expr_python", "botocore", "boto3", "lxml", "aiohttp", "dask", "distributed", "tornado"),
    *("psycopg", "longshore.api", "longshore.app", "longshore.cli"),
}
"""What would cost every worker memory and time to start, for nothing that it does."""

WORKER = """
import json, sys
import longshore.runners.local
from longshore import extensions

for store in ("local", "s3"):
    extensions.load("stores", store)
for folder in ("sources", "transformations"):
    for name in extensions.known(folder):
        extensions.load(folder, name)
print(json.dumps(sorted(sys.modules)))
"""

Function = ast.FunctionDef | ast.AsyncFunctionDef
Block = (
    (ast.For | ast.AsyncFor | ast.While | ast.If | ast.With | ast.AsyncWith)
    | (ast.Try | ast.TryStar | ast.Match)
    | Function
)


def test_nothing_is_larger_than_it_should_be() -> None:
    found = {line for module, path in MODULES.items() for line in _too_large(module, path)}
    assert found == set(EXCEPTIONS)


def _too_large(module: str, path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    if len(lines) > MAX_MODULE_LINES:
        yield f"{module}: lines"
    if any(len(line) > MAX_LINE_CHARACTERS for line in lines):
        yield f"{module}: characters in a line"
    for name, function in _functions(ast.parse(text), module):
        if (function.end_lineno or 0) - function.lineno + 1 > MAX_FUNCTION_LINES:
            yield f"{name}: lines"
        if _depth(function) - 1 > MAX_NESTING:
            yield f"{name}: nesting"
        if _parameter_count(function) > MAX_PARAMETERS:
            yield f"{name}: parameters"


def _functions(node: ast.AST, name: str) -> Iterator[tuple[str, Function]]:
    """Every function below ``node``, methods and inner functions too, by its dotted name."""
    for child in ast.iter_child_nodes(node):
        inner = f"{name}.{child.name}" if isinstance(child, Function | ast.ClassDef) else name
        if isinstance(child, Function):
            yield inner, child
        yield from _functions(child, inner)


def _depth(node: ast.AST) -> int:
    """How many blocks stand in each other, ``node`` included; an ``elif`` is no deeper."""
    return isinstance(node, Block) + max(
        (_depth(child) - _is_elif(child, node) for child in ast.iter_child_nodes(node)), default=0
    )


def _is_elif(child: ast.AST, node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(child, ast.If)
        and node.orelse == [child]
        and child.col_offset == node.col_offset
    )


def _parameter_count(function: Function) -> int:
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return sum(argument.arg not in ("self", "cls") for argument in named) + sum(
        argument is not None for argument in (given.vararg, given.kwarg)
    )


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not {module for module in MODULES if BANNED & set(module.split("."))}


def test_imports_have_no_cycles_at_run_time_or_typed() -> None:
    graph = grimp.build_graph("longshore", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(list(graphlib.TopologicalSorter(imports).static_order())) >= len(MODULES)


@pytest.mark.parametrize(
    ("folder", "message", "oneof"),
    [
        ("transformations", "Job", "transformation"),
        ("sources", "BucketOperation", "object_configuration"),
    ],
)
def test_a_folder_has_a_file_for_each_member_of_the_oneof(
    folder: str, message: str, oneof: str
) -> None:
    found = wire.descriptor(f"{wire.PACKAGE}.{message}").oneofs_by_name[oneof]
    assert extensions.known(folder) == sorted(field.name for field in found.fields)


def test_a_worker_loads_nothing_that_it_does_not_need() -> None:
    worker = subprocess.run(
        [sys.executable, "-c", WORKER], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = json.loads(worker.stdout)
    assert {"longshore.engine.worker", "longshore.transformations.delete_object"} <= set(loaded)
    assert not {
        module
        for module in loaded
        if any(f"{module}.".startswith(f"{foreign}.") for foreign in FOREIGN_TO_WORKERS)
    }


def test_contracts_say_what_they_promise() -> None:
    contracts = [
        module for module in MODULES if "." not in module or module.startswith("database.")
    ]
    assert not {name for module in contracts for name in _undocumented(module)}


def _undocumented(module: str) -> Iterator[str]:
    """Public names without a docstring; a method may have its own in the contract beside it."""
    public = list(_public(ast.parse(MODULES[module].read_text(encoding="utf-8")), module))
    documented = {name.rpartition(".")[2] for name, node in public if ast.get_docstring(node)}
    yield from (name for name, _ in public if name.rpartition(".")[2] not in documented)


def _public(
    node: ast.Module | ast.ClassDef | Function, name: str
) -> Iterator[tuple[str, ast.Module | ast.ClassDef | Function]]:
    """``node`` and, of a module or a class, all inside that others may use."""
    yield name, node
    if not isinstance(node, Function):
        for child in node.body:
            if isinstance(child, ast.ClassDef | Function) and not child.name.startswith("_"):
                yield from _public(child, f"{name}.{child.name}")
