"""The wheel holds the core, the client and the survey package, and what it always needs is light."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import HeaderParser

import pytest

from tests.running import ROOT

SOURCES = ("pyproject.toml", "README.md", "LICENSE", "photoz", "photoz_survey", "clients/python")
LIGHT = {"numpy", "pydantic", "httpx", "click", "h5py"}
HEAVY = {"tensorflow", "keras", "bentoml", "scipy", "matplotlib", "astropy", "openvino", "pandas", "jinja2"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel from a copy of the sources, because building leaves files behind."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, folder / "source" / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, folder / "source"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("photoz-*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def _read(wheel, suffix):
    (name,) = (name for name in wheel.namelist() if name.endswith(suffix))
    return wheel.read(name).decode()


def test_the_wheel_holds_our_packages_and_nothing_else(wheel):
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    packages = ("photoz", "photoz_survey")
    files = (path for name in packages for path in (ROOT / name).rglob("*") if path.suffix in (".py", ".html"))
    core = {path.relative_to(ROOT).as_posix() for path in files}
    client_files = (ROOT / "clients" / "python" / "photoz_client").glob("*.py")
    client = {f"photoz_client/{path.name}" for path in client_files}
    assert held == core | client | {f"{name}/py.typed" for name in (*packages, "photoz_client")}


def test_the_wheel_installs_the_command_and_light_dependencies(wheel):
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    requirements = HeaderParser().parsestr(_read(wheel, ".dist-info/METADATA")).get_all("Requires-Dist")
    required = [entry.replace(" ", "") for entry in requirements if "extra ==" not in entry]
    assert sorted(required) == sorted(declared)
    assert {entry.partition(">")[0] for entry in declared} == LIGHT
    assert "photoz = photoz_client.cli:main" in _read(wheel, "entry_points.txt")


def test_importing_the_client_imports_only_light_packages():
    code = "import sys, photoz_client, photoz_client.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded >= LIGHT
    assert not loaded & HEAVY
