"""What the wheel carries: the core and the client, and of dependencies the light ones."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "photoz", "clients/python")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build it from a copy of the sources: building leaves files behind."""
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


def _metadata(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return HeaderParser().parsestr(wheel.read(name).decode())


def test_the_wheel_holds_the_core_and_the_client_whole_and_nothing_else(wheel):
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    files = (path for path in (ROOT / "photoz").rglob("*") if path.suffix in (".py", ".html"))
    core = {path.relative_to(ROOT).as_posix() for path in files}
    client_files = (ROOT / "clients" / "python" / "photoz_client").glob("*.py")
    client = {f"photoz_client/{path.name}" for path in client_files}
    assert held == core | client | {"photoz/py.typed", "photoz_client/py.typed"}


def test_the_wheel_installs_the_light_dependencies_only(wheel):
    with (ROOT / "pyproject.toml").open("rb") as file:
        declared = tomllib.load(file)["project"]["dependencies"]
    required = [entry for entry in _metadata(wheel).get_all("Requires-Dist") if "extra ==" not in entry]
    assert sorted(entry.replace(" ", "") for entry in required) == sorted(declared)
    names = {entry.partition(">")[0] for entry in declared}
    assert names == {"click", "h5py", "httpx", "numpy", "pydantic"}


def test_the_wheel_brings_the_command(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "photoz = photoz_client.cli:main" in wheel.read(name).decode()
