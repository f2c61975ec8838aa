"""The wheel holds the core, the client and the survey package, and what it always needs is light."""

import os
import re
import runpy
import subprocess
import sys
import tomllib
import venv
import zipfile
from email.parser import HeaderParser
from importlib.metadata import distribution
from types import SimpleNamespace

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from photoz import __version__
from tests.running import ROOT

LIGHT = {"numpy", "pydantic", "httpx", "click", "h5py"}
HEAVY = {"tensorflow", "keras", "bentoml", "scipy", "matplotlib", "astropy", "openvino", "pandas", "jinja2"}


@pytest.fixture(scope="module")
def dist():
    return SimpleNamespace(**runpy.run_path(str(ROOT / "requirements" / "dist.py")))


@pytest.fixture(scope="module")
def built(dist, tmp_path_factory):
    """Return the source distribution and the wheel."""
    return dist.build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def wheel(built):
    with zipfile.ZipFile(built[1]) as archive:
        yield archive


def _read(wheel, suffix):
    (name,) = (name for name in wheel.namelist() if name.endswith(suffix))
    return wheel.read(name).decode()


def test_the_distributions_hold_our_packages_and_nothing_else(dist, built, tmp_path):
    assert dist.differences(*built) == []
    assert {"photoz/report.html", "photoz/py.typed", "photoz_client/py.typed"} <= set(dist.contents(built[1]))
    changed = tmp_path / built[1].name
    with zipfile.ZipFile(built[1]) as good, zipfile.ZipFile(changed, "w") as bad:
        bad.writestr("tests/__init__.py", "")
        for name in good.namelist():
            if name != "photoz/py.typed":
                bad.writestr(name, good.read(name))
    expected = [f"{changed.name} lacks photoz/py.typed", f"{changed.name} should not have tests/__init__.py"]
    assert dist.differences(built[0], changed) == expected


def test_the_wheel_installs_the_command_and_light_dependencies(wheel):
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    requirements = HeaderParser().parsestr(_read(wheel, ".dist-info/METADATA")).get_all("Requires-Dist")
    required = [entry.replace(" ", "") for entry in requirements if "extra ==" not in entry]
    assert sorted(required) == sorted(declared)
    assert {entry.partition(">")[0] for entry in declared} == LIGHT
    assert "photoz = photoz_client.cli:main" in _read(wheel, "entry_points.txt")


def test_importing_the_client_imports_only_light_packages():
    code = "import sys; from photoz_client import PhotozClient, _cli_commands; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded >= LIGHT
    assert not loaded & HEAVY


def required(*names):
    """Return these distributions and everything that they require here."""
    distributions, todo = {}, [*names]
    while todo:
        name = canonicalize_name(todo.pop())
        if name not in distributions:
            distributions[name] = distribution(name)
            needs = [Requirement(text) for text in distributions[name].requires or ()]
            todo += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return distributions.values()


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """An environment with the wheel and what it requires, linked from this one, and nothing else."""
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python3.*/site-packages")
    install = ["-m", "pip", "--python", folder, "install", "--quiet", "--no-deps", "--no-index", built[1]]
    subprocess.run([sys.executable, *map(str, install)], check=True)
    for package in required(*LIGHT):
        for name in {path.parts[0] for path in package.files} - {"..", "__pycache__"}:
            (packages / name).symlink_to(package.locate_file(name))
    return folder / "bin" / "photoz"


@pytest.mark.e2e
def test_the_wheel_alone_talks_to_the_service(installed, service_url, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [installed, "predict", ROOT / "examples" / "cutouts.npz", "--url", service_url]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 9
    refused = subprocess.run([installed, "score", "x"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (refused.returncode, refused.stderr.split()[-1]) == (1, "'photoz[survey]'")


def test_the_newest_release_is_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    newest = re.search(r"^## \[(\d.*)\] - (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest.groups() == (__version__, citation["date-released"])
    assert citation["version"] == __version__
    assert f"ARG VERSION={__version__} " in (ROOT / "Dockerfile").read_text(encoding="utf-8")
