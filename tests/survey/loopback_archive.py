"""An archive on this machine: frames in the layout of SDSS DR8 and later, and a catalogue that knows their galaxies.

It is also the cutout service of the Legacy Surveys, whose answers are as those of its source code
(github.com/legacysurvey/imagine, map/views.py).
"""

import bz2
import io
import itertools
import re
import socket
import struct
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

FRAMES = "/sas/dr17/eboss/photoObj/frames"
RUN, RERUN, CAMCOL = 94, 301, 3
RA, DEC = 150.1, 2.2  # of the centre of the field
SHAPE = (420, 500)
FWHM = (1.53, 1.44, 1.32, 1.26, 1.29)  # arcsec, of every frame
COLUMNS = "name,run,rerun,camcol,field,extinction_g,extinction_r,type," + ",".join(
    f"psffwhm_{band}" for band in "ugriz"
)


def around(x, y):
    """Return the position x arcsec east and y arcsec north of the centre of the field."""
    return RA + x / 3600 / np.cos(np.radians(DEC)), DEC + y / 3600


def frame_wcs(ra, dec, angle, shape, pixel_scale=0.396):
    """Return the WCS of a frame whose centre is at a position, turned by an angle in degrees."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = [ra, dec], [shape[1] / 2 + 1, shape[0] / 2 + 1]
    turn = np.radians(angle)
    matrix = [[-np.cos(turn), np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    wcs.wcs.cd = pixel_scale / 3600 * np.array(matrix)
    return wcs


def draw(wcs, shape, galaxies, sigma=2.5):
    """Draw galaxies, (ra, dec, flux) each, as Gaussians of sigma pixels; nanomaggies."""
    y, x = np.indices(shape)
    pixels = np.zeros(shape)
    for ra, dec, flux in galaxies:
        at_x, at_y = wcs.wcs_world2pix(ra, dec, 0)
        pixels += flux * np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)
    return pixels.astype(np.float32)


def frame_bytes(pixels, wcs):
    """Return a frame as SDSS writes it: the image, its calibration, the sky and asTrans; packed."""
    header = wcs.to_header()
    header["BUNIT"] = "nanomaggy"
    calibration = fits.ImageHDU(np.ones(pixels.shape[1], np.float32))
    sky = fits.BinTableHDU.from_columns([fits.Column("ALLSKY", "4E", array=np.zeros((1, 4), np.float32))])
    as_trans = fits.BinTableHDU.from_columns([fits.Column("run", "J", array=[RUN])])
    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(pixels, header), calibration, sky, as_trans]).writeto(stream)
    return bz2.compress(stream.getvalue(), 1)


def frame_path(band, field):
    return f"{FRAMES}/{RERUN}/{RUN}/{CAMCOL}/frame-{band}-{RUN:06d}-{CAMCOL}-{field:04d}.fits.bz2"


class Archive(ThreadingHTTPServer):
    """`files` by their paths; `catalogue` has (ra, dec, field, extinction_g, extinction_r) of each galaxy.

    `faults` are lists of what to do to the next requests of a path: "404", "500", "reset", "cut", "page" (a web page
    instead), "slow" (a second for an answer) or "stall" (half of it). `asked` and `sent` count requests and bytes by
    path. `sql` is the answer to any query.

    The cutouts of the Legacy Surveys show `galaxies`, (ra, dec, flux) each, times 1, 2, ... in the bands; declinations
    above `north` are not covered, and the western quarter of every image is not.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.catalogue, self.faults, self.agents = {}, [], {}, set()
        self.asked, self.sent, self.queries = Counter(), Counter(), []
        self.sql, self.galaxies, self.north, self.largest = b"", [], 90.0, 3000

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        self.server.asked[path] += 1
        self.server.agents.add(self.headers["User-Agent"])
        if path.endswith("fits-cutout"):
            return self.cutout(query)
        if "fDocColumns" in self.path:
            return self.answer(200, b'[{"TableName": "Table1", "Rows": [{"name": "run"}]}]')
        if "cmd" in query:
            self.server.queries.append(query["cmd"][0])
            return self.answer(200, self.server.sql)
        content, fault = self.server.files.get(path), (self.server.faults.get(path) or [""]).pop(0)
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return self.connection.close()
        if content is None or fault in ("404", "500"):
            return self.answer(int(fault or 404), b"not here")
        if fault == "page":
            return self.answer(200, b"<html>We are closed.</html>")
        self.file(path, content, fault)

    def file(self, path, content, fault):
        """Send a file, or the rest of it if the request asks for that of the same file."""
        etag, first = f'"{hash(content):x}"', 0
        if self.headers["If-Range"] == etag:
            first = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1])
        self.send_response(206 if first else 200)
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        last = first + (len(content) - first) // 2 if fault in ("cut", "stall") else len(content)
        pieces = np.linspace(first, last, 11, dtype=int) if fault == "slow" else [first, last]
        with suppress(ConnectionError):
            for start, stop in itertools.pairwise(pieces):
                self.wfile.write(content[start:stop])
                self.server.sent[path] += stop - start
                time.sleep(0.1 if fault == "slow" else 0)
        if fault == "stall":
            time.sleep(3)
        self.close_connection = self.close_connection or fault in ("cut", "stall")

    def cutout(self, query):
        """Answer with an image and its inverse variance, no larger than allowed, in other bands if it lacks some."""
        ra, dec, scale = (float(query[name][0]) for name in ("ra", "dec", "pixscale"))
        size = min(int(query["size"][0]), self.server.largest)
        if dec > self.server.north:
            return self.answer(404, b"No overlap")
        bands = query["bands"][0] if set(query["bands"][0]) <= set("griz") else "grz"
        wcs = frame_wcs(ra, dec, 0.0, (size - 1, size - 1), scale)
        drawn = draw(wcs, (size, size), self.server.galaxies)
        cube = np.stack([(number + 1) * drawn for number in range(len(bands))])
        header = wcs.to_header()
        header["BANDS"] = bands
        ivar = np.full_like(cube, 400.0)
        ivar[..., -size // 4 :] = 0.0
        planes = [fits.PrimaryHDU(np.where(ivar > 0, cube, 0.0).astype(np.float32), header)]
        if "invvar" in query:
            planes.append(fits.ImageHDU(ivar, header))
        stream = io.BytesIO()
        fits.HDUList(planes).writeto(stream)
        self.answer(200, stream.getvalue())

    def do_POST(self):
        """Answer a cross-identification with the nearest galaxy within the radius."""
        self.server.asked["crossid"] += 1
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        radius = float(re.search(r'name="radius"\s+([\d.e-]+)', body)[1]) / 60
        rows, fwhm = [], ",".join(map(str, FWHM))
        for name, ra, dec in re.findall(r"^\s*(\w+) ([\d.]+) ([-\d.]+)\s*$", body, re.MULTILINE):
            ra, dec = float(ra), float(dec)
            near = [
                (np.hypot((ra - one[0]) * np.cos(np.radians(dec)), dec - one[1]), one) for one in self.server.catalogue
            ]
            distance, one = min(near, default=(np.inf, None), key=lambda pair: pair[0])
            if distance <= radius:
                rows.append(f"{name},{RUN},{RERUN},{CAMCOL},{one[2]},{one[3]},{one[4]},GALAXY,{fwhm}")
        self.answer(200, "\n".join(["#Table1", COLUMNS, *rows]).encode() + b"\n")

    def answer(self, status, content):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextmanager
def running_archive():
    with Archive() as archive:
        threading.Thread(target=archive.serve_forever, daemon=True).start()
        yield archive
        archive.shutdown()
