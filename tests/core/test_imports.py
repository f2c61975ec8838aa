"""The picture of who may import whom, held by tests."""

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import photoz

ROOT = Path(__file__).parents[2]
OURS = {"photoz", "service", "training", "photoz_client"}

# Whom of ours each package may import beside itself.
ALLOWED = {"photoz": set(), "service": {"photoz"}, "training": {"photoz"}, "photoz_client": {"photoz"}}
FOLDERS = {"photoz_client": ROOT / "clients" / "python" / "photoz_client"}

LIGHT = {"numpy", "pydantic", "httpx", "click", "h5py", "astropy"}  # astropy where it is asked for
DRAWING = {"plots", "report"}
HEAVY = ["matplotlib", "jinja2", "PIL", "scipy", "pandas", "sklearn", "astropy"]
HEAVY += ["tensorflow", "keras", "bentoml", "openvino", "service", "training", "photoz_client"]


def imports(package):
    """Top-level names that any file of a package imports, wherever in the file."""
    for path in FOLDERS.get(package, ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (name.name.split(".")[0] for name in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield node.module.split(".")[0]


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_run_one_way(package):
    names = set(imports(package))
    assert names, f"{package} has no files"
    assert names & OURS - {package} <= ALLOWED[package]


def test_the_client_imports_only_light_packages():
    assert set(imports("photoz_client")) - sys.stdlib_module_names - OURS <= LIGHT


def modules_after(*imported):
    """Top-level modules of a fresh interpreter after these imports."""
    code = f"import sys, {', '.join(imported)}; print(*{{name.split('.')[0] for name in sys.modules}}, *sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_the_core_imports_nothing_heavy():
    names = {module.name for module in pkgutil.iter_modules(photoz.__path__)}
    assert names > DRAWING
    core = [f"photoz.{name}" for name in sorted(names - DRAWING)]
    assert not modules_after(*core) & set(HEAVY)


def test_drawing_does_not_import_pyplot():
    loaded = modules_after("photoz.plots", "photoz.report")
    assert "matplotlib.figure" in loaded
    assert "matplotlib.pyplot" not in loaded
