"""Import rules: the direction of imports between packages, no import cycles, and no heavy imports in the core."""

import ast
import pkgutil
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import photoz

ROOT = Path(__file__).parents[2]
FOLDERS = {"photoz_client": "clients/python/photoz_client"}

# What a package, or a single module, may import of the other packages, as drawn in CONTRIBUTING.md.
ARROWS = {
    "photoz": set(),
    "photoz_client": {"photoz"},
    "photoz_survey": {"photoz", "photoz_client"},
    "training": {"photoz"},
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


def read_sources():
    """Return the source code of our packages by module name."""
    sources = {}
    for package in sorted(PACKAGES):
        folder = ROOT / FOLDERS.get(package, package)
        for path in folder.rglob("*.py"):
            parts = (package, *path.relative_to(folder).with_suffix("").parts)
            sources[".".join(parts).removesuffix(".__init__")] = path.read_text(encoding="utf-8")
    return sources


def imported(node):
    """Yield the modules, or names of modules, that an import statement imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert not node.level, "expected absolute imports"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def all_imports(source):
    return {name for node in ast.walk(ast.parse(source)) for name in imported(node)}


def is_within(module, package):
    return f"{module}.".startswith(f"{package}.")


def forbidden(module):
    """Return the packages that a module must not import."""
    own = module.partition(".")[0]
    allowed = ARROWS.get(module, ARROWS[own])
    inner = {name for package, names in FORBIDDEN.items() if is_within(module, package) for name in names}
    command_line = set() if own != "photoz" or is_within(module, "photoz.cli") else {"photoz.cli"}
    return (PACKAGES - allowed - {own}) | inner | command_line


def violations(sources):
    """Return what modules import against the rules, wherever in their code."""
    return sorted(
        f"{module} imports {name}"
        for module, source in sources.items()
        for name in all_imports(source)
        if any(is_within(name, other) for other in forbidden(module))
    )


def imports_at_start(node):
    """Yield the imports that run when a module is imported: those outside of functions and `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        is_typing = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if not is_typing and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imported(child)
            yield from imports_at_start(child)


def import_graph(sources):
    """Return which of the modules each module imports, wherever in its code."""
    return {
        module: {name if name in sources else name.rpartition(".")[0] for name in all_imports(source)} & sources.keys()
        for module, source in sources.items()
    }


def cycle(graph):
    """Return a path that leads from a module back to itself, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_packages_import_in_one_direction():
    sources = read_sources()
    assert {module.partition(".")[0] for module in sources} == PACKAGES
    assert violations(sources) == []


@pytest.mark.parametrize(
    ("module", "source", "name"),
    [
        ("photoz.pdf", "import service", "service"),
        ("photoz.pdf", "def f():\n    from training.fit import fit", "training.fit.fit"),
        ("service.app", "from photoz_client import Client", "photoz_client.Client"),
        ("service.app", "import photoz_survey.scoring", "photoz_survey.scoring"),
        ("service.sky", "import photoz_client", "photoz_client"),
        ("training.fit", "import benchmarks.speed", "benchmarks.speed"),
        ("photoz.io.tables", "from photoz.cli.text import text_table", "photoz.cli.text.text_table"),
        ("photoz_client.cli", "import training.fit as fit", "training.fit"),
        ("service.limits", "from service import batcher", "service.batcher"),
        ("service.limits", "from photoz.inference.engines import Engine", "photoz.inference.engines.Engine"),
        ("service.limits", "if True:\n    import service.formats.json_", "service.formats.json_"),
    ],
)
def test_forbidden_import_is_found(module, source, name):
    allowed = {
        "service.app": "from service import batcher\nimport photoz.inference",
        "service.sky": "import photoz_survey.sky",
        "photoz.cli.options": "import photoz.cli.command",
        "benchmarks.speed": "import service, training, photoz_client",
    }
    assert violations({**allowed, module: source}) == [f"{module} imports {name}"]


def test_modules_do_not_import_each_other_in_cycles():
    assert cycle(import_graph(read_sources())) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import b", "abc"),
        ("from b import thing", "abc"),
        ("class A:\n    import b", "abc"),
        ("def f():\n    import b", "abc"),
        ("import d", ""),
    ],
)
def test_import_cycle_is_found(source, expected):
    sources = {"a": source, "b": "from c import other", "c": "import a", "d": "import json"}
    assert set(cycle(import_graph(sources))) == set(expected)


def modules_after(*modules):
    """Return the modules, and their top-level packages, in a new interpreter after these imports."""
    code = f"import sys, {', '.join(modules)}; print(*{{name.split('.')[0] for name in sys.modules}}, *sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_core_imports_few_packages():
    core = {name: source for name, source in read_sources().items() if is_within(name, "photoz")}
    imported_by = {
        name: {module.partition(".")[0] for module in imports_at_start(ast.parse(source))}
        for name, source in core.items()
    }
    for name, packages in imported_by.items():
        extra = {package for part, packages in PARTS.items() if is_within(name, part) for package in packages}
        assert packages - sys.stdlib_module_names - {"photoz"} <= CORE | extra, name


def test_core_loads_nothing_heavy():
    names = {module.name for module in pkgutil.walk_packages(photoz.__path__, "photoz.")}
    plain = {name for name in names if not any(is_within(name, part) for part in PARTS)}
    heavy = set().union(*PARTS.values()) | HEAVY | PACKAGES
    assert not modules_after(*sorted(plain)) & (heavy - {"photoz"})


def test_drawing_does_not_import_pyplot():
    loaded = modules_after("photoz.plots", "photoz.report")
    assert "matplotlib.figure" in loaded
    assert "matplotlib.pyplot" not in loaded


def test_openvino_is_imported_without_its_converter_until_that_is_needed():
    module = "photoz.inference.openvino"
    assert "openvino.tools.ovc" not in modules_after(module, f"{module}; {module}.import_openvino()")
    assert "openvino.tools.ovc" in modules_after(module, f"{module}; {module}.import_converter()")
