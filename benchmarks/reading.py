"""Files of cutouts read by two revisions of the code: `python -m benchmarks.reading [--against REVISION]`.

A worktree of the other revision and this working tree read the same files in turns, in a process for each file and
turn. A ratio is that of one turn. Needs Linux and git.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np
from astropy.io import fits

from benchmarks.harness.environment import RESULTS, ROOT
from benchmarks.harness.results import Result, at_most, conclude, reported
from photoz.images import SDSS_IMAGES

BANDS = SDSS_IMAGES.bands
SCALE = SDSS_IMAGES.pixel_scale  # arcsec
LIMIT = 1.03

# Reads a file several times with the code in the folder that it runs in; prints the least seconds, and the peak memory
# of the process, which `getrusage` would confuse with that of its parent.
READ = """
import json, re, sys, time
import numpy as np
from photoz.images import ImageSpec
from photoz.io.fits import load_astropy
from photoz.io.layout import conform
from photoz.io.reader import open_cutouts
path, size, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
spec = ImageSpec(size=size)
load_astropy()
cpu, wall = [], []
for _ in range(times):
    cpu.append(-time.process_time())
    wall.append(-time.perf_counter())
    with open_cutouts(path) as opened:
        images = conform(opened, spec)[0].images
        for start in range(0, images.shape[0], 128):
            np.array(images[start : start + 128], np.float32)
    cpu[-1] += time.process_time()
    wall[-1] += time.perf_counter()
peak = int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) / 1024
print(json.dumps({"CPU seconds": min(cpu), "seconds": min(wall), "MB": peak}))
"""


def header(galaxy: int, n_axes: int) -> fits.Header:
    """Return the header of the images of a galaxy, with its bands, unit and world coordinates."""
    cards = {"BANDS": "".join(BANDS), "BUNIT": "nanomaggy", "OBJID": galaxy}
    sky = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0 + 0.01 * galaxy, "CRVAL2": 2.0}
    pixels = {"CRPIX1": 1.0, "CRPIX2": 1.0, "CDELT1": -SCALE / 3600.0, "CDELT2": SCALE / 3600.0}
    return fits.Header({"NAXIS": n_axes, **cards, **sky, **pixels})


def write_extensions(path: Path, cubes: np.ndarray, first: int = 0) -> None:
    """Write cubes (n_bands, size, size), each in an extension."""
    hdus = [fits.ImageHDU(cube, header(first + number, 3)) for number, cube in enumerate(cubes)]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)


def write_four_axes(path: Path, cubes: np.ndarray) -> None:
    """Write cubes (n, n_bands, size, size) as one image."""
    fits.PrimaryHDU(cubes, header(0, 4)).writeto(path)


def write_table(path: Path, cubes: np.ndarray) -> None:
    """Write cubes as a column of a table."""
    n, *shape = cubes.shape
    axes = f"({','.join(map(str, shape[::-1]))})"
    columns = [
        fits.Column("images", f"{np.prod(shape)}E", "nanomaggy", dim=axes, array=cubes),
        fits.Column("objid", "K", array=np.arange(n)),
    ]
    fits.BinTableHDU.from_columns(columns, fits.Header({"BANDS": "".join(BANDS)})).writeto(path)


def write_hdf5(path: Path, cubes: np.ndarray) -> None:
    """Write images with their bands last, and what they are as attributes."""
    with h5py.File(path, "w") as file:
        file["images"], file["object_id"] = np.moveaxis(cubes, 1, -1), np.arange(len(cubes))
        file.attrs.update({"bands": "".join(BANDS), "unit": "nanomaggy", "pixel_scale": SCALE})


def write_npz(path: Path, cubes: np.ndarray) -> None:
    """Write images with their bands last."""
    np.savez(path, images=np.moveaxis(cubes, 1, -1), object_id=np.arange(len(cubes)))


def write_folder(path: Path, cubes: np.ndarray) -> None:
    """Write the first quarter of the cubes, each to a file."""
    path.mkdir()
    for number in range(len(cubes) // 4):
        write_extensions(path / f"{number:04d}.fits", cubes[number : number + 1], number)


# Writers by the name of their file, and how often a process reads it.
FILES: Mapping[str, tuple[Callable[[Path, np.ndarray], None], int]] = {
    "extensions.fits": (write_extensions, 2),
    "four-axes.fits": (write_four_axes, 10),
    "table.fits": (write_table, 10),
    "images.h5": (write_hdf5, 10),
    "images.npz": (write_npz, 10),
    "folder": (write_folder, 2),
}


def read(checkout: Path, path: Path, size: int) -> dict[str, float]:
    """Read a file with the code of a checkout; returns what was measured."""
    command = [sys.executable, "-c", READ, str(path), str(size), str(FILES[path.name][1])]
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment = {**os.environ, **threads, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{checkout} cannot read {path.name}: {done.stderr}")
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def compare(options: argparse.Namespace, folder: Path) -> tuple[list[Result], dict[str, list[dict[str, float]]]]:
    """Read each file with both revisions in turns."""
    shape = (options.galaxies, len(BANDS), options.size, options.size)
    cubes = np.random.default_rng(0).standard_normal(shape, np.float32)
    sides = {"this": ROOT, "other": folder / "other"}
    results, details = list[Result](), dict[str, list[dict[str, float]]]()
    for name, (write, _) in FILES.items():
        write(folder / name, cubes)
        measured: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for turn in range(options.rounds):
            for side in list(sides)[:: 1 if turn % 2 else -1]:
                measured[side].append(read(sides[side], folder / name, options.size))
        for what in ("CPU seconds", "seconds", "MB"):
            ratios = [a[what] / b[what] for a, b in zip(measured["this"], measured["other"], strict=True)]
            text = f"{name}: {what}, of those of {options.against}"
            results.append(reported(text, ratios) if what == "seconds" else at_most(text, ratios, LIMIT))
        details |= {f"{name}, {side}": values for side, values in measured.items()}
    return results, details


def git(*arguments: str) -> str:
    """Return what git prints in this checkout."""
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def main() -> int:
    """Compare, print what was measured, and write the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reading", description=__doc__)
    parser.add_argument("--against", default="d2a0be5", help="revision")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--galaxies", type=int, default=2000)
    parser.add_argument("--size", type=int, default=64, help="pixels on a side of a cutout")
    options = parser.parse_args()
    options.program, options.output = "reading", RESULTS / "reading.json"
    revisions = {"this": git("describe", "--always", "--dirty"), "other": git("rev-parse", "--short", options.against)}
    began, load = time.strftime("%Y-%m-%d"), [os.getloadavg()]
    with tempfile.TemporaryDirectory() as folder:
        git("worktree", "add", "--detach", f"{folder}/other", options.against)
        try:
            results, measured = compare(options, Path(folder))
        finally:
            git("worktree", "remove", "--force", f"{folder}/other")
    load.append(os.getloadavg())
    return conclude(options, results, {"revisions": revisions, "date": began, "load": load, "measured": measured})


if __name__ == "__main__":
    sys.exit(main())
