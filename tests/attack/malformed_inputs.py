"""The corpus of malformed input for tests, fuzzing and `hostile`: odd values and mutations."""

import copy
import json
from random import Random
from typing import Any
from urllib.parse import quote

import numpy as np

from photoz.protocol.open_inference import HEADER_LENGTH

# For request heads, and in place of them. Rows only keep the lines short.

CONTENT_LENGTHS = (
    *("-1", "+1", "0x10", "1e3", "", " ", "1 2", "1,2", "abc", "\u00b2", "9" * 30, "18446744073709551616", "1_0", "00"),
)
VERSIONS = (b"HTTP/1.0", b"HTTP/1.0\r\nConnection: keep-alive", b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1")
CODINGS = (
    *("chunked", "Chunked", "chunked, identity", "identity", "xchunked", " chunked", "gzip, chunked", "\x0bchunked"),
)
EXPECTATIONS = ("100-continue", "100-Continue", "200-ok", "", "100-continue, x")
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
_TYPES = (
    *("*/*;q=0", "text/csv;q=9", "a" * 5000, "\xff", ",,,,", "application/json;q=abc", "text/csv, */*;q=0.1", "*", "/"),
    *("application/x-npz", "image/png", ";", "text/*", "application/json;version=\x7f"),
)
ACCEPTS = tuple(f"Accept: {value}" for value in _TYPES)
CHUNKS = (
    *(b"zz\r\nhello\r\n0\r\n\r\n", b"-1\r\n\r\n0\r\n\r\n", b"fffffffffffffffff\r\nx", b"5\r\nhel", b"5\nhello\n0\n\n"),
    *(b"\r\n\r\n", b"5;" + b"x" * 20_000 + b"\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloXX0\r\n\r\n", b"0\r\n\r\n"),
    *(b"0\r\nBad trailer\r\n\r\n", b"1\r\nx\r\n" * 3000 + b"0\r\n\r\n", b"7fffffffffffffff\r\nx"),
    b"0\r\n" + b"t: v\r\n" * 3000 + b"\r\n",
)
NOT_HTTP = (
    *(b"\x00" * 100, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), b"\r\n\r\n\r\n", b"GET\r\n\r\n"),
    *(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"),
    *(b"GET / HTTP/1.1\r\nHost\r\n\r\n", b"GET / FTP/1.1\r\n\r\n", b"\n\nGET /livez\n\n"),
    *(b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"GET  /livez  HTTP/1.1\r\nHost: a\r\n\r\n"),
    *(b"GET /livez HTTP/1.1\r\n Folded: x\r\n\r\n", b"GET /livez HTTP/1.1\r\nA\x00b: c\r\n\r\n"),
    *(b"GET /livez HTTP/1.1\r\nA: b\x00c\r\n\r\n", b"GET /livez HTTP/1.1\nHost: a\n\n"),
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
NPY_HEADERS = (
    "{'descr': '<f4', 'fortran_order': False, 'shape': (100000000, 64, 64, 5), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 64, 64, 5), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }",
    "{'descr': '<f4', 'fortran_order': 1, 'shape': (1,)}",
    "{'descr': [('a', '<f4', (1000000, 100000))], 'fortran_order': False, 'shape': (100,), }",
    "{'descr': '<f4', 'fortran_order': True, 'shape': (1, 64, 64, 5), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 64, 64, 5), }",
    *("__import__('os').system('true')", "{" * 900, "", "{}", "(" * 200 + ")" * 200, "{'descr':\x00}"),
)
PICKLE = b"cos\nsystem\n(S'true'\ntR."  # it would run a command
EVALUATIONS = (
    *("plot=nothing", "plot=", "plot=scatter&seed=x", "plot=pdfs&num_images=0", "plot=pdfs&num_images=-1"),
    *("plot=pdfs&num_images=1000000", "seed=-1&plot=pdfs", "seed=99999999999999999999&plot=pdfs"),
)


def mutate_bytes(random: Random, whole: bytes) -> bytes:
    """Flip, cut, repeat, insert or remove some bytes."""
    mutated = bytearray(whole)
    for _ in range(random.choice((1, 1, 2, 8, 64))):
        # Half of the changes go to the first bytes, where the structure is.
        at = random.randrange(min(len(mutated), random.choice((256, len(mutated)))) or 1)
        size = random.choice((1, 2, 8, 1000))
        match random.randrange(5):
            case 0:
                mutated[at : at + 1] = random.randbytes(1)
            case 1:
                del mutated[at : at + size]
            case 2:
                mutated[at:at] = random.randbytes(size)
            case 3:
                mutated[at:at] = mutated[at : at + size]
            case _:
                del mutated[random.randrange(len(mutated) + 1) :]
        if not mutated:
            break
    return bytes(mutated)


def mutate_json(random: Random, text: bytes) -> bytes | None:
    """Change a few values of a JSON text, which stays well-formed; None if it cannot be read or written."""
    try:
        content = [json.loads(text)]
        for _ in range(random.choice((1, 1, 2, 4))):
            _change_value(random, content)
        return json.dumps(content[0]).encode()
    except (ValueError, ArithmeticError, RecursionError):
        return None


def _change_value(random: Random, content: list[Any]) -> None:
    """Descend to some value and change it."""
    holder: Any = content
    key: Any = 0
    while (keys := _keys(holder[key])) and random.random() < 0.85:
        holder, key = holder[key], random.choice(keys)
    match random.randrange(6):
        case 0:
            del holder[key]
            content or content.append(None)
        case 1:
            holder[key] = [holder[key]]
        case 2 if isinstance(holder, list):
            holder.insert(key, holder[key])
        case 3 if isinstance(holder[key], int | float):
            holder[key] *= random.choice((-1, 0.5, 2, 256))
        case 4 if isinstance(holder, dict):
            holder[random.choice((*holder, "extra"))] = holder[key]
        case _:
            holder[key] = copy.deepcopy(random.choice(ODD_VALUES))


def _keys(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value)
    return list(range(len(value))) if isinstance(value, list) else []
