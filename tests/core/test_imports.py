"""Rules of the source code: imports without cycles and in one direction, short functions, frozen dataclasses."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from dataclasses import is_dataclass
from functools import cache
from graphlib import TopologicalSorter

import photoz
from tests.running import ROOT

# What a package, or a single module, may import of the other packages, as drawn in CONTRIBUTING.md.
ARROWS = {
    "photoz": set(),
    "photoz_client": {"photoz"},
    "photoz_survey": {"photoz", "photoz_client"},
    "training": {"photoz"},
    "training.observed": {"photoz", "photoz_survey"},
    "service": {"photoz"},
    "service.sky": {"photoz", "photoz_survey"},
    "benchmarks": {"photoz", "photoz_client", "photoz_survey", "training", "service"},
}
PACKAGES = {name for name in ARROWS if "." not in name}

# What a module must not import although its package may: these know nothing of formats and the network.
FORBIDDEN = {
    f"service.{name}": {"service.formats", "service.batcher", "photoz.inference"}
    for name in ("limits", "settings", "logs", "metrics", "resources", "tracing")
}

# Third-party packages that importing the core, or one part of it, imports.
CORE = {"numpy", "pydantic", "pydantic_core", "typing_extensions", "h5py"}
PARTS = {
    "photoz.cli": {"click"},
    "photoz.inference.preflight": {"pebble"},
    "photoz.processes": {"pebble"},
    "photoz.plots": {"matplotlib"},
    "photoz.report": {"matplotlib", "jinja2"},
}
HEAVY = {"PIL", "scipy", "pandas", "sklearn", "astropy", "tensorflow", "keras", "openvino", "bentoml"}


@cache
def read_trees():
    """Return the syntax trees of our packages by module name."""
    trees = {}
    for package in sorted(PACKAGES):
        folder = ROOT / {"photoz_client": "clients/python/photoz_client"}.get(package, package)
        for path in folder.rglob("*.py"):
            parts = (package, *path.relative_to(folder).with_suffix("").parts)
            trees[".".join(parts).removesuffix(".__init__")] = ast.parse(path.read_text(encoding="utf-8"))
    return trees


def imports(node, at_start=False):
    """Yield the modules, or names in modules, that are imported anywhere, or when the module itself is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert not child.level, "expected absolute imports"
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        is_typing = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        is_later = is_typing or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        if not isinstance(child, ast.expr) and not (at_start and is_later):
            yield from imports(child, at_start)


def is_within(module, package):
    return f"{module}.".startswith(f"{package}.")


def forbidden(module):
    """Return the packages that a module must not import."""
    own = module.partition(".")[0]
    inner = {name for package, names in FORBIDDEN.items() if is_within(module, package) for name in names}
    command_line = set() if own != "photoz" or is_within(module, "photoz.cli") else {"photoz.cli"}
    return (PACKAGES - ARROWS.get(module, ARROWS[own]) - {own}) | inner | command_line


def test_packages_import_in_one_direction_and_modules_not_in_cycles():
    trees = read_trees()
    assert {module.partition(".")[0] for module in trees} == PACKAGES
    pairs = [(module, name) for module, tree in trees.items() for name in imports(tree)]
    assert ("photoz.cli.options", "photoz.images.parse_bands") in pairs
    assert [pair for pair in pairs if any(is_within(pair[1], other) for other in forbidden(pair[0]))] == []
    graph = {module: set() for module in trees}
    for module, name in pairs:
        graph[module] |= {name if name in trees else name.rpartition(".")[0]} & trees.keys()
    TopologicalSorter(graph).prepare()  # raises CycleError


def modules_after(*steps):
    """Return the modules, and their top-level packages, in a new interpreter after each of these steps."""
    show = "print(*{name.split('.')[0] for name in sys.modules}, *sys.modules)"
    code = "\n".join(["import sys", *(f"{step}\n{show}" for step in steps)])
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return [set(line.split()) for line in result.stdout.splitlines()]


def test_core_imports_few_packages_and_nothing_heavy_before_it_is_needed():
    names = {module.name for module in pkgutil.walk_packages(photoz.__path__, "photoz.")}
    plain = sorted(name for name in names if not any(is_within(name, part) for part in PARTS))
    calls = [f"photoz.inference.openvino.import_{what}()" for what in ("openvino", "converter")]
    first, drawn, *loaded = modules_after(f"import {', '.join(plain)}", "import photoz.plots, photoz.report", *calls)
    assert not first & ((set().union(*PARTS.values()) | HEAVY | PACKAGES) - {"photoz"})
    assert [name in drawn for name in ("matplotlib.figure", "matplotlib.pyplot")] == [True, False]
    assert ["openvino.tools.ovc" in modules for modules in loaded] == [False, True]
    for name, tree in read_trees().items():
        if is_within(name, "photoz"):
            extra = {package for part, packages in PARTS.items() if is_within(name, part) for package in packages}
            packages = {module.partition(".")[0] for module in imports(tree, at_start=True)}
            assert packages - sys.stdlib_module_names - {"photoz"} <= CORE | extra, name


def test_the_client_imports_nothing_heavy_before_it_is_needed():
    (modules,) = modules_after("import photoz_client._api, photoz_client._cli_commands")
    assert not modules & HEAVY


FOLDERS = (*PACKAGES - {"photoz_client"}, "clients", "tests", "docs", "deploy", "requirements")
MAX_FILE, MAX_FUNCTION = 300, 40


def lines_of(function):
    """Count the lines of a function without its docstring."""
    first = function.body[0]
    docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(function) is not None else 0
    return function.end_lineno - function.lineno + 1 - docstring


def test_files_and_functions_are_short_and_dataclasses_of_the_core_frozen():
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    sources = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}
    assert len(sources) > 100
    assert {path: n for path, source in sources.items() if (n := source.count("\n")) > MAX_FILE} == {}
    nodes = [(path, node) for path, source in sources.items() for node in ast.walk(ast.parse(source))]
    functions = [pair for pair in nodes if isinstance(pair[1], ast.FunctionDef | ast.AsyncFunctionDef)]
    assert [(path, node.name) for path, node in functions if lines_of(node) > MAX_FUNCTION] == []
    modules = [importlib.import_module(module.name) for module in pkgutil.walk_packages(photoz.__path__, "photoz.")]
    classes = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    dataclasses = [cls for cls in classes if is_dataclass(cls) and cls.__module__.startswith("photoz.")]
    assert len(dataclasses) > 10
    assert [cls for cls in dataclasses if not cls.__dataclass_params__.frozen] == []


def test_commands_print_text_of_others_by_the_functions_that_escape_it():
    printed = {
        (module, call.lineno)
        for module, tree in read_trees().items()
        if module.split(".")[0] in ("photoz", "photoz_client", "photoz_survey") and module != "photoz.cli.printing"
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("print", "click.echo", "click.secho")
        if not isinstance(call.args[0], ast.Constant)
    }
    assert {module for module, _ in printed} == {"photoz_client._cli_options"}  # a report, whose lines are escaped
