"""An archive on this machine: frames in the layout of SDSS DR8 and later, and a catalogue that knows their galaxies."""

import bz2
import io
import re
import socket
import struct
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

FRAMES = "/sas/dr17/eboss/photoObj/frames"
RUN, RERUN, CAMCOL = 94, 301, 3
COLUMNS = "name,run,rerun,camcol,field,extinction_g,extinction_r,type"


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

    `faults` are lists of what to do to the next requests of a path: "404", "500", "reset" or "cut".
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.catalogue, self.faults, self.asked, self.agents = {}, [], {}, Counter(), set()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked[self.path] += 1
        self.server.agents.add(self.headers["User-Agent"])
        fault = (self.server.faults.get(self.path) or [""]).pop(0)
        if "fDocColumns" in self.path:
            return self.answer(200, b'[{"TableName": "Table1", "Rows": [{"name": "run"}]}]')
        content = self.server.files.get(self.path)
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return self.connection.close()
        if content is None or fault in ("404", "500"):
            return self.answer(int(fault or 404), b"not here")
        self.answer(200, content, len(content) // 2 if fault == "cut" else None)

    def do_POST(self):
        """Answer a cross-identification with the nearest galaxy within the radius."""
        self.server.asked["crossid"] += 1
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        radius = float(re.search(r'name="radius"\s+([\d.e-]+)', body)[1]) / 60
        rows = []
        for name, ra, dec in re.findall(r"^\s*(\w+) ([\d.]+) ([-\d.]+)\s*$", body, re.MULTILINE):
            ra, dec = float(ra), float(dec)
            near = [
                (np.hypot((ra - one[0]) * np.cos(np.radians(dec)), dec - one[1]), one) for one in self.server.catalogue
            ]
            distance, one = min(near, default=(np.inf, None), key=lambda pair: pair[0])
            if distance <= radius:
                rows.append(f"{name},{RUN},{RERUN},{CAMCOL},{one[2]},{one[3]},{one[4]},GALAXY")
        self.answer(200, "\n".join(["#Table1", COLUMNS, *rows]).encode() + b"\n")

    def answer(self, status, content, n_sent=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:n_sent])

    def log_message(self, *_):
        pass


@contextmanager
def running_archive():
    with Archive() as archive:
        threading.Thread(target=archive.serve_forever, daemon=True).start()
        yield archive
        archive.shutdown()
