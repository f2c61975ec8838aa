"""Odd values for requests, for tests, fuzzing and the benchmark `hostile`."""

import struct
from typing import Any
from urllib.parse import quote

import numpy as np

from photoz.protocol.open_inference import HEADER_LENGTH
from tests.attack.files import npy_with_header

# For request heads, and in place of them. Rows only keep the lines short.

METHODS = (
    *("GETT", "get", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PATCH", "DELETE", "PUT", "PRI", "M-SEARCH", "A" * 300),
    "\x01",
)
PATHS = (
    *("/nothing", "//", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/%", "/%zz", "/%00", "/\xff\xfe", "*", ""),
    *("/predict/", "http://127.0.0.1/livez", "http://other/", "http://[::1", "//other/livez", "livez", "/livez#x"),
    *("/v2/models/%2e%2e/infer", "/v2/models//infer", "/v2/models/photoz/versions/\u00e9/infer", "/a" * 4000),
    *("/predict_file%3Fpdf=true", "/v2/models/" + quote("photoz\r\nx: y") + "/infer", "/static/../service/app.py"),
    "/livez?" + "x" * 60_000,
)
QUERIES = (
    *("pdf=maybe", "pdf=true&pdf=false", "ebv=nan", "ebv=inf", "ebv=1e999", "ebv=", "ebv=%00", "%ff=%fe", "&&&", "="),
    "?",
)
HEADERS = (
    *("Content-Encoding: br", "Content-Encoding: gzip", "Content-Encoding: deflate, gzip", "Content-Encoding: \xff"),
    *("Content-Type: multipart/form-data; boundary=x", "Content-Type: multipart/form-data", "Content-Type: \xff/\xfe"),
    *("Content-Type: application/json; charset=utf-7", "Content-Type: application/vnd.bento+json", "Connection: \xff"),
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13",
    *("Upgrade: h2c\r\nConnection: Upgrade", "Content-Type: " + "a" * 9000, "Range: bytes=0-1", "Host: \xff"),
    *("Cookie: " + "c" * 7000, "Forwarded: for=\x01", "X-Forwarded-For: " + "1.1.1.1," * 500),
    "Accept-Encoding: gzip;q=0",
    *("Accept-Encoding: deflate", "Traceparent: 00-zz-zz-zz", "Bentoml-Payload-Meta: {", "Args-Number: 9"),
    *("Payload-Container: PandasDataFrameContainer", "Batch-Size: -1", "Payload-Meta: \xff"),
    *(f"{HEADER_LENGTH}: {value}" for value in ("-1", "+5", "5 5", "\u00b2", "9" * 25, "", "1e2", "0")),
    *("Accept: */*;q=0", "Accept: text/csv;q=9", "Accept: " + "a" * 5000, "Accept: \xff", "Accept: ,,,,", "Accept: *"),
    *("Accept: application/json;q=abc", "Accept: text/csv, */*;q=0.1", "Accept: /", "Accept: ;", "Accept: a/b;c=\x7f"),
)

# For bodies.

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2, 8, 0.5, 1.5, -0.0, 2**31, 2**40, 2**63, 2**64, -(2**63), 10**40, 10**400),
    *(1e39, 1e308, float("nan"), float("inf"), "", "a", "x" * 300, "\ud800", "\x00", "\u00e9\0", "\u00e9" * 300),
    *([], {}, [[]], [{}], [None], [1] * 9, [-1, 64, 64, 5], [0, 64, 64, 5], [2**40, 2**40], {"a": {"b": []}}, [["1"]]),
    *("images", "FP32", "BYTES"),
)
SHAPES = (
    *((0, 64, 64, 5), (1, 64, 64), (64, 64, 5), (1, 5, 64, 64), (1, 63, 64, 5), (1, 64, 64, 4), (1,), ()),
    *((2, 1, 64, 64, 5), (5000, 1, 1, 1)),
)
DTYPES = (
    *("<f2", ">f8", "<f8", "<i8", "u1", "?", "<c16", "<U3", "S5", "<M8[s]", "<m8[D]", "V8", "<f4,<i4", "<f16", ">i2"),
)
PIXELS = (np.nan, np.inf, -np.inf, 1e38, -1e38, 0.0, 1e-45, 3.4e38)
REDDENINGS = (np.nan, -1.0, 11.0, 1e308, [0.1, 0.1], [[0.1]], "x", 1j)
OBJECT_IDS = (
    *("", "x" * 256, "x" * 257, "\x00", 'a\nb,c"d', "=cmd()", "\u202e", "\U0001f30c" * 100, "\ud800", "NaN", "-0"),
    *("\u00e9", " "),
)
PICKLE = b"cos\nsystem\n(S'true'\ntR."  # it would run a command
EVALUATIONS = (
    *("plot=nothing", "plot=", "plot=scatter&seed=x", "plot=pdfs&num_images=0", "plot=pdfs&num_images=-1"),
    *("plot=pdfs&num_images=1000000", "seed=-1&plot=pdfs", "seed=99999999999999999999&plot=pdfs"),
)
# Values of FITS cards that are wrong for most keywords.
FITS_VALUES = (
    *("0", "1", "-1", "2", "8", "64", "999", "2147483648", "9223372036854775807", "1" * 30, "T", "F", "NaN", "1E400"),
    *("", "'1E'", "'128E'", "'999999999E'", "'1PE(3)'", "'16A'", "'1X'", "'Q'", "'(8,8,2)'", "'(2,-8,8)'"),
    *("'(9999999,8)'", "'BINTABLE'", "'IMAGE   '", "'TABLE   '", "'RA---TAN'", "'nJy'", "'g,r'", "'", "'it''s'"),
    *("(1, 2)", "'1E' / x"),
)


def with_header(descr="<f4", shape=(2, 8, 8, 2)):
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    return npy_with_header(header.encode(), bytes(8))


# `.npy` files, each with why it is refused where cutouts of 8 x 8 pixels in two bands are expected.
UNREADABLE = r"not a readable \.npy file"
NPY_FILES = {
    "terabytes": (with_header(shape=(2**40,)), "expected 4,398,046,511,104 bytes"),
    "overflow": (with_header(shape=(2**62, 8)), "expected 147,573,952,589,676,412,928 bytes"),
    "empty and huge": (with_header(shape=(2**40, 2**40, 0)), UNREADABLE),
    "negative": (with_header(shape=(-1, -1)), "no negative length"),
    "objects": (with_header("|O"), "nothing is unpickled"),
    "objects in fields": (with_header([("a", "<f4"), ("b", "|O")]), "nothing is unpickled"),
    "objects of variable length": (with_header("T"), "nothing is unpickled"),
    "elements without a size": (with_header("|S0", (2**62,)), "expected numbers or text"),
    "wide elements": (with_header(("<f4", (2**28,)), (16,)), "expected 17,179,869,184 bytes"),
    "deep expression": (npy_with_header(b"(" * 5000), UNREADABLE),
    "expression of signs": (npy_with_header(b"-" * 9000 + b"1"), UNREADABLE),
    "power": (npy_with_header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (9**9**9,)}"), UNREADABLE),
    "call": (npy_with_header(b"__import__('os')._exit(66)"), UNREADABLE),
    "a million digits": (npy_with_header(b"{'shape': (" + b"9" * 9000 + b",)}"), UNREADABLE),
    "longer than numpy reads": (npy_with_header(b" " * 60_000), "its header has expressions or field names that are"),
    "four gigabytes": (b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + bytes(1000), UNREADABLE),
    "truncated": (with_header(), "expected 1,024 bytes for shape .* got 8"),
}
