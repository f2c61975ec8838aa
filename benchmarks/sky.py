"""The speed of `photoz sky` against an archive on this machine: `python -m benchmarks.sky`.

The archive has the one field of `benchmarks.science real_field` under the names and headers of many, so that each
frame is downloaded, unpacked and read as often as if they were different. With `--outage 60` it is down for a minute
after half of the frames: a run has to wait, and another one, which is stopped meanwhile, to be continued. Needs Linux.
"""

import argparse
import bz2
import csv
import dataclasses
import math
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from astropy.io.fits import Header

from benchmarks.harness.environment import RESULTS, ROOT
from benchmarks.harness.results import Result, at_least, at_most, conclude, reported
from benchmarks.science.real_field import FIELD, FOLDER
from benchmarks.survey import COMMAND, watched
from photoz.images import SDSS_IMAGES
from photoz_survey.sky.archive import FileCache
from photoz_survey.sky.cutting import read_frame
from photoz_survey.sky.frames import LATER, PATH, Field

EDGE = 60  # pixels at the edge of a frame without galaxies

BLOCK = 2880  # bytes, of which FITS headers have whole numbers


def packed_frames(fields: list[Field]) -> dict[str, tuple[bytes, bytes]]:
    """Return the frames of `FIELD` as those of many, by path: the header and the rest, packed on its own."""
    frames = {}
    for band in SDSS_IMAGES.bands:
        content = bz2.decompress((FOLDER / f"frame-{band}-{FIELD}.fits.bz2").read_bytes())
        end = -(-content.index(b"END".ljust(80)) // BLOCK) * BLOCK
        header, rest = Header.fromstring(content[:end].decode()), bz2.compress(content[end:])
        for field in fields:
            header["RUN"], header["CAMCOL"], header["FRAME"] = field.run, field.camcol, field.number + LATER[band]
            frames[f"{PATH}/{field.path(band)}"] = bz2.compress(header.tostring().encode()), rest
    return frames


@dataclasses.dataclass
class Archive:
    """An archive of frames, by path, which is down for some seconds after it has answered with half of them."""

    frames: Mapping[str, tuple[bytes, bytes]]
    url: str = ""
    outage: float = 0.0  # seconds
    down: float = math.inf  # when the outage began
    downloads: list[str] = dataclasses.field(default_factory=list)  # paths of the frames that were sent

    def record(self, path: str) -> None:
        """Record that a frame is sent; after half of them the outage begins."""
        self.downloads.append(path)
        if self.outage and len(self.downloads) >= len(self.frames) / 2:
            self.down = min(self.down, time.monotonic())

    def is_down(self) -> bool:
        """Whether the outage lasts."""
        return 0 <= time.monotonic() - self.down < self.outage

    def restart(self, outage: float) -> None:
        """Forget what was downloaded, for another run with an outage."""
        self.outage, self.down = outage, math.inf
        self.downloads.clear()

    def repeated(self) -> int:
        """Return how many downloads were of a frame that had been downloaded before."""
        return len(self.downloads) - len(set(self.downloads))


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, archive: Archive, *arguments: Any) -> None:
        self._archive = archive
        super().__init__(*arguments)

    def do_GET(self) -> None:
        is_down, frame = self._archive.is_down(), self._archive.frames.get(self.path, ())
        if frame and not is_down:
            self._archive.record(self.path)
        frame = () if is_down else frame
        self.send_response(503 if is_down else 200 if frame else 404)
        self.send_header("Content-Length", str(sum(map(len, frame))))
        self.end_headers()
        for part in frame:
            self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def running_archive(fields: list[Field]) -> Iterator[Archive]:
    """Serve the frames of `FIELD` as those of many."""
    archive = Archive(packed_frames(fields))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, archive)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        archive.url = f"http://127.0.0.1:{server.server_port}"
        yield archive
        server.shutdown()


def write_list(path: Path, n: int, fields: list[Field], folder: Path, url: str) -> Path:
    """Write n positions, as many in each field, at random in its frames."""
    with FileCache(folder, 10**9).open(f"{url}{PATH}/{fields[0].path('r')}", "r.fits") as file:
        frame = read_frame(file)
    ny, nx = frame.pixels.shape
    pixels = np.random.default_rng(0).uniform(EDGE, (nx - EDGE, ny - EDGE), (n, 2))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("ra", "dec", "ebv", "run", "rerun", "camcol", "field"))
        for row, (ra, dec) in enumerate(frame.wcs.all_pix2world(pixels, 0)):
            field = fields[row * len(fields) // n]
            writer.writerow((f"{ra:.7f}", f"{dec:.7f}", 0.05, field.run, field.rerun, field.camcol, field.number))
    return path


def sky_command(path: Path, folder: Path, url: str) -> list[str]:
    """Return the command that cuts a list into a file beside it."""
    where = ("--archive", url, "--cache", str(folder / "frames"), "--rate", "1000")
    return [*COMMAND, "sky", "--list", str(path), "-o", str(path.with_suffix(".h5")), *where]


def run(path: Path, folder: Path, url: str) -> Mapping[str, float]:
    """Cut a list anew; returns seconds, seconds of processors and the most memory in MB."""
    path.with_suffix(".h5").unlink(missing_ok=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    samples = list(watched(sky_command(path, folder, url), int))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": samples[-1][0], "processor_s": processor, "mb": max(pss for _, _, pss in samples)}


def through_outage(path: Path, folder: Path, archive: Archive, seconds: float, *, stopped: bool) -> list[Result]:
    """Cut a list with an empty cache while the archive is down in the middle, by one command or, if stopped, by two."""
    shutil.rmtree(folder / "frames")
    path.with_suffix(".h5").unlink(missing_ok=True)
    archive.restart(seconds)
    if stopped:
        with subprocess.Popen(sky_command(path, folder, archive.url), cwd=ROOT) as first:
            while not archive.is_down() and first.poll() is None:
                time.sleep(0.1)
            time.sleep(seconds / 2)
            first.terminate()
        time.sleep(seconds)
    subprocess.run(sky_command(path, folder, archive.url), cwd=ROOT, check=True)
    with h5py.File(path.with_suffix(".h5")) as file:
        n_cut = len(file["images"])
    name = f"an outage of {seconds:g} s, by {'two commands' if stopped else 'one command'}"
    return [
        at_least(f"{name}: galaxies with a cutout", n_cut, len(path.read_text().splitlines()) - 1),
        at_most(f"{name}: frames downloaded again", archive.repeated(), 0),
    ]


def main() -> int:
    """Cut a list with an empty cache, again with a full one, one that is longer, and through outages."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sky", description=__doc__)
    parser.add_argument("--positions", type=int, default=1000)
    parser.add_argument("--fields", type=int, default=30)
    parser.add_argument("--longer", type=int, default=10, help="how many times as long the second list is")
    parser.add_argument("--outage", type=float, default=60, help="seconds for which the archive is down")
    options = parser.parse_args()
    options.program, options.output = "sky", RESULTS / "sky.json"
    fields = [Field(94, 301, 3, 100 + 3 * number) for number in range(options.fields)]
    n, more = options.positions, options.positions * options.longer
    with tempfile.TemporaryDirectory() as name, running_archive(fields) as archive:
        folder = Path(name)
        short, long = (write_list(folder / f"{k}.csv", k, fields, folder, archive.url) for k in (n, more))
        cold, warm, longer = (run(path, folder, archive.url) for path in (short, short, long))
        n_bytes = sum(path.stat().st_size for path in FOLDER.glob(f"frame-*-{FIELD}.fits.bz2")) * len(fields) / n
        outages = [through_outage(short, folder, archive, options.outage, stopped=stopped) for stopped in (False, True)]
    results = [
        reported("galaxies/s from the archive", n / cold["seconds"]),
        at_least("galaxies/s from the cache", n / warm["seconds"], 50),
        reported("galaxies/s from the cache, the longer list", more / longer["seconds"]),
        reported("MB downloaded for a galaxy", n_bytes / 1e6),
        reported("seconds of processors for a galaxy, from the archive", cold["processor_s"] / n),
        reported("the same, from the cache", warm["processor_s"] / n),
        reported("MB at most, all processes", warm["mb"]),
        reported("memory for the longer list, of that for the other", longer["mb"] / warm["mb"]),
        *outages[0],
        *outages[1],
    ]
    return conclude(options, results, {"cold": cold, "warm": warm, "longer": longer})


if __name__ == "__main__":
    sys.exit(main())
