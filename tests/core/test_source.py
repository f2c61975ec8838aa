"""Rules of the source code: limits on the lines of files and functions, and frozen dataclasses."""

import ast
import importlib
import pkgutil
from dataclasses import is_dataclass
from pathlib import Path

import photoz

ROOT = Path(__file__).parents[2]
FOLDERS = ("photoz", "photoz_survey", "service", "training", "clients", "benchmarks", "tests")
FOLDERS += ("docs", "deploy", "requirements")
MAX_FILE, MAX_FUNCTION = 300, 40


def function_lengths(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) is not None else 0
            yield node.name, node.end_lineno - node.lineno + 1 - docstring


def excesses(path, source):
    """Return what exceeds the limits in a file."""
    lines = source.count("\n")
    long_file = [f"{path}: {lines} lines"] if lines > MAX_FILE else []
    return long_file + [f"{path}: {name}, {n} lines" for name, n in function_lengths(source) if n > MAX_FUNCTION]


def test_files_and_functions_are_short():
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(paths) > 100
    assert [line for path in paths for line in excesses(path.relative_to(ROOT), path.read_text(encoding="utf-8"))] == []


def test_long_files_and_functions_are_found():
    function = "def f():\n    '''Text,\n\n    not counted.'''\n" + 39 * "    pass\n"
    assert excesses("a.py", function) == []
    assert excesses("a.py", function + "    pass\n") == ["a.py: f, 41 lines"]
    assert excesses("a.py", 300 * "pass\n") == []
    assert excesses("a.py", 301 * "pass\n") == ["a.py: 301 lines"]


def test_dataclasses_of_the_core_are_frozen():
    modules = [importlib.import_module(module.name) for module in pkgutil.walk_packages(photoz.__path__, "photoz.")]
    classes = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    dataclasses = [cls for cls in classes if is_dataclass(cls) and cls.__module__.startswith("photoz.")]
    assert len(dataclasses) > 10
    assert [cls for cls in dataclasses if not cls.__dataclass_params__.frozen] == []
