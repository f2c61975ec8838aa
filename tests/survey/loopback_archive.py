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


def frame_bytes(pixels, wcs, band="r", field=100, **cards):
    """Return a frame as SDSS writes it: the image, and more HDUs that nothing reads; packed."""
    header, frame = wcs.to_header(), field + {"r": 0, "i": 2, "u": 4, "z": 6, "g": 8}[band]
    header.update({"RUN": RUN, "RERUN": str(RERUN), "CAMCOL": CAMCOL, "FRAME": frame, "FILTER": band} | cards)
    return bz2.compress(fits_bytes(header, pixels, pixels[:1]), 1)


def frame_path(band, field):
    folder = f"/sas/dr17/eboss/photoObj/frames/{RERUN}/{RUN}/{CAMCOL}"
    return f"{folder}/frame-{band}-{RUN:06d}-{CAMCOL}-{field:04d}.fits.bz2"


class Archive(ThreadingHTTPServer):
    """`files` by their paths; `catalogue` has (ra, dec, field, extinction_g, extinction_r) of each galaxy, and the
    type if it is another.

    `faults` are lists of what to do to the next requests of a path: a status such as "404", which headers may follow,
    "reset", "cut", or a function of the handler, which returns whether it has answered; those of "" concern any path.
    `asked` and `sent` count requests and whole files by path. `sql` is the answer to any query, or a function that
    returns it; `crossid`, if it is not empty, an answer (status, content) to any cross-identification.

    The cutouts of the Legacy Surveys show `galaxies`, (ra, dec, flux) each, times 1, 2, ... in the bands; declinations
    above 60 are not covered, and the western quarter of every image is not.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files, self.catalogue, self.faults, self.agents = {}, [], {}, set()
        self.asked, self.sent, self.queries = Counter(), Counter(), []
        self.sql, self.galaxies, self.crossid = b"", [], None


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        self.server.asked[path] += 1
        self.server.agents.add(self.headers["User-Agent"])
        if self.fault(path):
            return None
        if path.endswith("fits-cutout"):
            return self.cutout(query)
        if "fDocColumns" in self.path:
            return self.answer(200, b'[{"TableName": "Table1", "Rows": [{"name": "run"}]}]')
        if "cmd" in query:
            self.server.queries.append(query["cmd"][0])
            sql = self.server.sql
            return self.answer(200, sql(query["cmd"][0]) if callable(sql) else sql)
        content = self.server.files.get(path)
        if content is None:
            return self.answer(404, b"not here")
        self.server.sent[path] += 1
        return self.answer(200, content)

    def fault(self, path):
        """Do what the next fault of a path says; returns whether that was the answer."""
        fault, *_ = faults = self.server.faults.get(path) or self.server.faults.get("") or [""]
        faults.pop(0)
        if callable(fault):
            return fault(self)
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        elif fault == "cut":
            content = self.server.files[path]
            self.answer(200, content[: len(content) // 2], {"Content-Length": str(len(content))})
        elif fault:
            status, *headers = fault.split(" ", 1)
            self.answer(int(status), b"not now", dict(header.split(": ", 1) for header in headers))
        return bool(fault)

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
        if self.fault("crossid"):
            return None
        if self.server.crossid:
            return self.answer(*self.server.crossid)
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        radius, rows = float(re.search(r'name="radius"\s+([\d.e-]+)', body)[1]) / 60, ["#Table1", COLUMNS]
        for name, *place in re.findall(r"^\s*(\w+) ([\d.]+) ([-\d.]+)\s*$", body, re.MULTILINE):
            ra, dec = map(float, place)
            near = [(np.hypot((ra - a) * np.cos(np.radians(dec)), dec - d), k) for a, d, *k in self.server.catalogue]
            distance, known = min(near, default=(np.inf, []))
            if distance <= radius:
                field, *extinction, kind = [*known, "GALAXY"][:4]
                rows.append(",".join(map(str, (name, RUN, RERUN, CAMCOL, field, *extinction, kind, *FWHM))))
        return self.answer(200, "\n".join(rows).encode() + b"\n")

    def answer(self, status, content, headers=None):
        """Send an answer, and claim that it has a length."""
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(ConnectionError):
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextmanager
def running_archive():
    with Archive() as archive:
        threading.Thread(target=archive.serve_forever, args=(0.02,), daemon=True).start()
        yield archive
        archive.shutdown()
