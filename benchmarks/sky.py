"""The speed of `photoz sky` against an archive on this machine: `python -m benchmarks.sky`.

The archive has the one field of `benchmarks.science real_field` under the names and headers of many, so that each
frame is downloaded, unpacked and read as often as if they were different. Needs Linux.
"""

import argparse
import bz2
import csv
import resource
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io.fits import Header

from benchmarks.harness.environment import RESULTS
from benchmarks.harness.results import at_least, conclude, reported
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


class _Frames(BaseHTTPRequestHandler):
    def __init__(self, frames: Mapping[str, tuple[bytes, bytes]], *arguments: Any) -> None:
        self._frames = frames
        super().__init__(*arguments)

    def do_GET(self) -> None:
        frame = self._frames.get(self.path, ())
        self.send_response(200 if frame else 404)
        self.send_header("Content-Length", str(sum(map(len, frame))))
        self.end_headers()
        for part in frame:
            self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def archive(fields: list[Field]) -> Iterator[str]:
    """Serve the frames of `FIELD` as those of many; yields the address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Frames, packed_frames(fields))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
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


def run(path: Path, folder: Path, url: str) -> Mapping[str, float]:
    """Cut a list; returns seconds, seconds of processors and the most memory in MB."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    where = ("--archive", url, "--cache", str(folder / "frames"), "--rate", "1000")
    command = [*COMMAND, "sky", "--list", str(path), "-o", str(folder / "cutouts.h5"), *where]
    samples = list(watched(command, int))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": samples[-1][0], "processor_s": processor, "mb": max(pss for _, _, pss in samples)}


def main() -> int:
    """Cut a list with an empty cache, again with a full one, and one that is longer."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sky", description=__doc__)
    parser.add_argument("--positions", type=int, default=1000)
    parser.add_argument("--fields", type=int, default=30)
    parser.add_argument("--longer", type=int, default=10, help="how many times as long the second list is")
    options = parser.parse_args()
    options.program, options.output = "sky", RESULTS / "sky.json"
    fields = [Field(94, 301, 3, 100 + 3 * number) for number in range(options.fields)]
    n, more = options.positions, options.positions * options.longer
    with tempfile.TemporaryDirectory() as name, archive(fields) as url:
        folder = Path(name)
        short, long = (write_list(folder / f"{k}.csv", k, fields, folder, url) for k in (n, more))
        cold, warm, longer = run(short, folder, url), run(short, folder, url), run(long, folder, url)
        n_bytes = sum(path.stat().st_size for path in FOLDER.glob(f"frame-*-{FIELD}.fits.bz2")) * len(fields) / n
    results = [
        reported("galaxies/s from the archive", n / cold["seconds"]),
        at_least("galaxies/s from the cache", n / warm["seconds"], 50),
        reported("galaxies/s from the cache, the longer list", more / longer["seconds"]),
        reported("MB downloaded for a galaxy", n_bytes / 1e6),
        reported("seconds of processors for a galaxy, from the archive", cold["processor_s"] / n),
        reported("the same, from the cache", warm["processor_s"] / n),
        reported("MB at most, all processes", warm["mb"]),
        reported("memory for the longer list, of that for the other", longer["mb"] / warm["mb"]),
    ]
    return conclude(options, results, {"cold": cold, "warm": warm, "longer": longer})


if __name__ == "__main__":
    sys.exit(main())
