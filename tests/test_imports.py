"""The import statements hold the architecture: who may know whom, and what may be slow to import."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("bitkeras", "export", "pipelines")
FORBIDDEN = [
    ("bitkeras", "export"),
    ("bitkeras", "pipelines"),
    ("export", "pipelines"),
    ("bitkeras.methods", "bitkeras.backbones"),
    ("bitkeras.evaluation", "bitkeras.methods"),
    ("bitkeras", "absl.flags"),
    ("export", "absl.flags"),
]
IN_ONE_MODULE = ("apache_beam", "tensorflow_addons", "keras_cv", "tensorflow_hub")
SLOW = ("apache_beam", "keras_cv", "tensorflow_addons", "tensorflow_hub", "sklearn", "matplotlib")


class Import(NamedTuple):
    importer: str  # dotted name of the module that holds the statement
    imported: str  # dotted name; of `from a import b` both a and a.b are listed
    at_import: bool  # runs when the module is imported: not inside a function, not under TYPE_CHECKING
    line: int


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def statements(node: ast.AST, at_import: bool = True) -> Iterator[tuple[ast.stmt, bool]]:
    """Every import statement below `node`, with whether importing the module runs it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child, at_import
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            for statement in child.body:
                yield from statements(ast.Module([statement], []), False)
            for statement in child.orelse:
                yield from statements(ast.Module([statement], []), at_import)
        else:
            is_function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from statements(child, at_import and not is_function)


def imported_names(statement: ast.stmt, package: str) -> list[str]:
    """Absolute dotted names of what a statement imports; `package` is what a relative import starts from."""
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names]
    base = statement.module or ""
    if statement.level:
        above = package.split(".")[: len(package.split(".")) - statement.level + 1]
        base = ".".join([*above, *([base] if base else [])])
    return [base] + [f"{base}.{alias.name}" for alias in statement.names]


def read_imports(source: str, importer: str, is_package: bool = False) -> list[Import]:
    package = importer if is_package else importer.rpartition(".")[0]
    return [
        Import(importer, name, at_import, statement.lineno)
        for statement, at_import in statements(ast.parse(source))
        for name in imported_names(statement, package)
    ]


def project_imports() -> list[Import]:
    found = []
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        module = ".".join(parts[:-1] if is_package else parts)
        found += read_imports(path.read_text(encoding="utf-8"), module, is_package)
    return found


IMPORTS = project_imports()


def test_the_reader_sees_every_spelling():
    source = """
import a.b as c
from .. import up
from .near import name
if TYPE_CHECKING:
    import only_for_types
def function():
    import late
class Body:
    import early
"""
    seen = {(i.imported, i.at_import) for i in read_imports(source, "top.middle.module")}
    assert {("a.b", True), ("top.up", True), ("top.middle.near.name", True), ("early", True)} <= seen
    assert {("only_for_types", False), ("late", False)} <= seen
    assert ("p.q.x", True) in {(i.imported, i.at_import) for i in read_imports("from . import x", "p.q", True)}


@pytest.mark.parametrize(("importer", "imported"), FORBIDDEN)
def test_nothing_points_back(importer, imported):
    wrong = [i for i in IMPORTS if is_within(i.importer, importer) and is_within(i.imported, imported)]
    assert not wrong


@pytest.mark.parametrize("library", IN_ONE_MODULE)
def test_a_replaceable_library_is_imported_in_exactly_one_module(library):
    importers = {i.importer for i in IMPORTS if is_within(i.imported, library)}
    assert len(importers) == 1, importers


@pytest.mark.parametrize("library", SLOW)
def test_the_library_imports_slow_packages_inside_functions(library):
    wrong = [i for i in IMPORTS if is_within(i.importer, "bitkeras") and is_within(i.imported, library) and i.at_import]
    assert not wrong


def test_every_folder_with_modules_is_a_package():
    """Else setup.py's find_packages leaves it out of a built wheel, unnoticed by an editable installation."""
    folders = {path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert not [str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").exists()]
