"""Build the source distribution and the wheel of this project, list what they contain, and check them.

    python requirements/dist.py FOLDER

They hold the packages and nothing else, their metadata can be published, and the wheel works in an empty environment.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = ("pyproject.toml", "README.md", "LICENSE")
PACKAGES = {"photoz": "photoz", "photoz_client": "clients/python/photoz_client", "photoz_survey": "photoz_survey"}


def run(*command: object, **options: object) -> None:
    """Run a program; exit with its output if it fails."""
    done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode:
        sys.exit(f"{done.stdout}failed: {' '.join(map(str, command))}")


def build(folder: Path) -> tuple[Path, Path]:
    """Build both in a folder, of a copy of the sources, because building leaves files; return their paths."""
    with tempfile.TemporaryDirectory() as copied:
        for name in FILES:
            shutil.copy2(ROOT / name, copied)
        for name in PACKAGES.values():
            shutil.copytree(ROOT / name, Path(copied, name), ignore=shutil.ignore_patterns("__pycache__"))
        run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, copied)
    return max(folder.glob("photoz-*.tar.gz"), key=os.path.getmtime), max(folder.glob("*.whl"), key=os.path.getmtime)


def contents(path: Path) -> list[str]:
    """Return the names of the files in a distribution."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return sorted(wheel.namelist())
    with tarfile.open(path) as sdist:
        return sorted(member.name.partition("/")[2] for member in sdist if member.isfile())


def sources() -> Iterator[tuple[str, str]]:
    """Yield the name of each file of the packages in the sources and in the wheel."""
    for package, folder in PACKAGES.items():
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".html") or path.name == "py.typed":
                name = path.relative_to(ROOT / folder)
                yield f"{folder}/{name}", f"{package}/{name}"


def differences(sdist: Path, wheel: Path) -> list[str]:
    """Return what is missing in the two, or should not be there."""
    in_sources, in_wheel = map(set, zip(*sources(), strict=True))
    added = {*FILES, "PKG-INFO", "setup.cfg"}
    found = []
    for path, expected, generated in ((sdist, in_sources | added, ".egg-info/"), (wheel, in_wheel, ".dist-info/")):
        held = {name for name in contents(path) if generated not in name}
        found += [f"{path.name} lacks {name}" for name in sorted(expected - held)]
        found += [f"{path.name} should not have {name}" for name in sorted(held - expected)]
    return found


def try_wheel(wheel: Path) -> None:
    """Install a wheel with its dependencies into an empty environment, and use it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder, "venv", "bin", "python")
        run(sys.executable, "-m", "venv", python.parents[1])
        run(python, "-m", "pip", "--disable-pip-version-check", "install", wheel.resolve())
        for command in ((python, "-c", "import photoz, photoz_client"), (python.with_name("photoz"), "--help")):
            run(*command, cwd=folder, env=environment)


def main(folder: Path) -> None:
    """Build, list and check."""
    shutil.rmtree(folder, ignore_errors=True)
    sdist, wheel = build(folder)
    for path in (sdist, wheel):
        print(f"{path}, {path.stat().st_size / 1e3:.0f} kB", *contents(path), sep="\n  ")
    if found := differences(sdist, wheel):
        sys.exit("\n".join(found))
    run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
    try_wheel(wheel)
    print(f"{sdist.name} and {wheel.name} are complete; the wheel works in an empty environment")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
