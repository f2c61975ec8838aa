"""An archive on this machine: frames in the layout of SDSS DR8 and later, and a catalogue that knows their galaxies.

It is also the cutout service of the Legacy Surveys, whose answers are as those of its source code
(github.com/legacysurvey/imagine, map/views.py).
"""

import bz2
import io
import re
import socket
import struct
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

RUN, RERUN, CAMCOL = 94, 301, 3
RA, DEC = 150.1, 2.2  # of the centre of the field
SHAPE = (256, 320)
FWHM = (1.53, 1.44, 1.32, 1.26, 1.29)  # arcsec, of every frame
COLUMNS = "name,run,rerun,camcol,field,extinction_g,extinction_r,type," + ",".join(f"psffwhm_{b}" for b in "ugriz")


def around(x, y):
    """Return the position x arcsec east and y arcsec north of the centre of the field."""
    return RA + x / 3600 / np.cos(np.radians(DEC)), DEC + y / 3600


def frame_wcs(ra, dec, angle, shape, pixel_scale=0.396):
    """Return the WCS of a frame whose centre is at a position, turned by an angle in degrees."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = [ra, dec], [shape[1] / 2 + 1, shape[0] / 2 + 1]
    turn = np.radians(angle)
    wcs.wcs.cd = pixel_scale / 3600 * np.array([[-np.cos(turn), np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return wcs


def draw(wcs, shape, galaxies, sigma=2.5):
    """Draw galaxies, (ra, dec, flux) each, as Gaussians of sigma pixels; nanomaggies."""
    y, x = np.indices(shape)
    pixels = np.zeros(shape)
    for ra, dec, flux in galaxies:
        at_x, at_y = wcs.wcs_world2pix(ra, dec, 0)
        pixels += flux * np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)
    return pixels.astype(np.float32)


def fits_bytes(header, *planes):
    stream = io.BytesIO()
    hdus = [fits.PrimaryHDU(planes[0], header), *(fits.ImageHDU(plane, header) for plane in planes[1:])]
    fits.HDUList(hdus).writeto(stream)
    return stream.getvalue()


def frame_bytes(pixels, wcs):
    """Return a frame as SDSS writes it: the image, and more HDUs that nothing reads; packed."""
    return bz2.compress(fits_bytes(wcs.to_header(), pixels, pixels[:1]), 1)


def frame_path(band, field):
    folder = f"/sas/dr17/eboss/photoObj/frames/{RERUN}/{RUN}/{CAMCOL}"
    return f"{folder}/frame-{band}-{RUN:06d}-{CAMCOL}-{field:04d}.fits.bz2"


class Archive(ThreadingHTTPServer):
    """`files` by their paths; `catalogue` has (ra, dec, field, extinction_g, extinction_r) of each galaxy.

    `faults` are lists of what to do to the next requests of a path: "404", "500", "reset", "cut", or a function to
    call before an answer. `asked` and `sent` count requests and bytes by path. `sql` is the answer to any query.

    The cutouts of the Legacy Surveys show `galaxies`, (ra, dec, flux) each, times 1, 2, ... in the bands; declinations
    above 60 are not covered, and the western quarter of every image is not.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files, self.catalogue, self.faults, self.agents = {}, [], {}, set()
        self.asked, self.sent, self.queries = Counter(), Counter(), []
        self.sql, self.galaxies = b"", []


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
        if callable(fault):
            fault()
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return self.connection.close()
        if content is None or fault in ("404", "500"):
            return self.answer(500 if fault == "500" else 404, b"not here")
        etag, first = f'"{hash(content):x}"', 0
        if self.headers["If-Range"] == etag:
            first = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1])
        rest = content[first:]
        sent = rest[: len(rest) // 2] if fault == "cut" else rest
        self.server.sent[path] += len(sent)
        with suppress(ConnectionError):
            self.answer(206 if first else 200, sent, len(rest), etag)

    def cutout(self, query):
        """Answer with an image and its inverse variance, in other bands if it lacks some."""
        ra, dec, scale = (float(query[name][0]) for name in ("ra", "dec", "pixscale"))
        if dec > 60:
            return self.answer(404, b"No overlap")
        size = int(query["size"][0])
        bands = query["bands"][0] if set(query["bands"][0]) <= set("griz") else "grz"
        wcs = frame_wcs(ra, dec, 0.0, (size - 1, size - 1), scale)
        cube = np.multiply.outer(np.arange(1, len(bands) + 1), draw(wcs, (size, size), self.server.galaxies))
        ivar = np.full_like(cube, 400.0)
        ivar[..., -size // 4 :] = 0.0
        header = wcs.to_header()
        header["BANDS"] = bands
        planes = [np.where(ivar > 0, cube, 0.0).astype(np.float32), ivar]
        self.answer(200, fits_bytes(header, *planes[: 1 + ("invvar" in query)]))

    def do_POST(self):
        """Answer a cross-identification with the nearest galaxy within the radius."""
        self.server.asked["crossid"] += 1
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        radius, rows = float(re.search(r'name="radius"\s+([\d.e-]+)', body)[1]) / 60, ["#Table1", COLUMNS]
        for name, *place in re.findall(r"^\s*(\w+) ([\d.]+) ([-\d.]+)\s*$", body, re.MULTILINE):
            ra, dec = map(float, place)
            near = [(np.hypot((ra - a) * np.cos(np.radians(dec)), dec - d), k) for a, d, *k in self.server.catalogue]
            distance, known = min(near, default=(np.inf, []))
            if distance <= radius:
                rows.append(",".join(map(str, (name, RUN, RERUN, CAMCOL, *known, "GALAXY", *FWHM))))
        self.answer(200, "\n".join(rows).encode() + b"\n")

    def answer(self, status, content, length=None, etag=""):
        """Send an answer, and claim that it has a length."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.send_header("ETag", etag)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextmanager
def running_archive():
    with Archive() as archive:
        threading.Thread(target=archive.serve_forever, args=(0.02,), daemon=True).start()
        yield archive
        archive.shutdown()
