"""Requests that break HTTP/1.1 as RFC 9110 and 9112 define it, or nearly do, each with what the service does.

`INNER` is a request that is hidden in a body or in a header.
"""

LIVEZ = b"GET /livez HTTP/1.1"
INNER = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: smuggled\r\n\r\n"
LENGTH = b"%d" % len(INNER)
EMPTY, ONE_BYTE = b"0\r\n\r\n", b"1\r\nx\r\n0\r\n\r\n"  # in chunks

# Rows only keep the lines short.
START_LINES = (
    *(b" /livez HTTP/1.1", b"G\0T /livez HTTP/1.1", b"GET /livez HTTP/0.9", b"GET /livez HTTP/2.0"),
    *(b"GET /livez http/1.1", b"GET /livez HTTP/1.1 x", b"GET /livez HTTP/1.10", b"GET /livez FTP/1.1"),
    *(b"GET\t/livez\tHTTP/1.1", b"GET  /livez HTTP/1.1", b"GET /li\rvez HTTP/1.1", b"GET /li\0vez HTTP/1.1"),
)
LINES = (b"X-A : b", b"X-A", b": b", b"X A: b", b"X\x01A: b", b"X-A: b\0c", b"X-A: b\rX-B: c", b"X-A: b\r\n c")
LENGTHS = (*(b"+" + LENGTH, b"-1", b"0x3d", b"61.0", b"6_1", b"", b"6 1", "６１".encode(), b"9" * 23, LENGTH + b", 0"),)
CODINGS = (b"gzip", b"chunked, gzip", b"identity", b"xchunked", b"\x0bchunked", b'"chunked"', b"\r\n chunked")
CHUNKS = (
    *(size + b"\r\nabc\r\n0\r\n\r\n" for size in (b"0x3", b"-3", b"+3", b"", b"0_3", b"f" * 17 + b"3", b"3\0")),
    *(b"3\nabc\r\n" + EMPTY, b"3\r\nabc" + EMPTY, b"3\r\nabcdef\r\n" + EMPTY, b"3\r\nabc\n" + EMPTY),
    *(b"3;a\nb\r\nabc\r\n" + EMPTY, b"3;" + b"a" * 100_000 + b"\r\nabc\r\n" + EMPTY),
)


def get(line: bytes = LIVEZ, *headers: bytes) -> bytes:
    return b"\r\n".join([line, b"Host: localhost", *headers, b"", b""])


def post(*headers: bytes, body: bytes = b"") -> bytes:
    return get(b"POST /predict_file HTTP/1.1", *headers) + body


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body=body)


def with_length(*values: bytes) -> bytes:
    return post(*(b"Content-Length: " + value for value in values), body=INNER)


def with_coding(*values: bytes) -> bytes:
    return post(*(b"Transfer-Encoding: " + value for value in values), body=ONE_BYTE)


MALFORMED = (
    *(*map(get, START_LINES), *(get(LIVEZ, line) for line in LINES), *map(with_length, LENGTHS)),
    *(*map(with_coding, CODINGS), *map(chunked, CHUNKS), with_length(b"0", LENGTH), b"GET /livez\r\n\r\n"),
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40) + b"\r\n\r\n",  # TLS
    *(b"GET /livez HTTP/1.1\r\n Host: localhost\r\n\r\n", get(LIVEZ, *[b"X: y"] * 110)),
    post(b"Transfer-Encoding : chunked", body=ONE_BYTE),
    post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=EMPTY + INNER),
    post(b"Transfer-Encoding: chunked", b"Content-Length: %d" % (5 + len(INNER)), body=EMPTY + INNER),
    get(b"POST /predict_file HTTP/1.0", b"Transfer-Encoding: chunked") + EMPTY + INNER,
)
READ = (  # the whole body, which is not a file
    *(with_length(LENGTH), with_coding(b"CHUNKED"), chunked(b"3\r\nabc\r\n0000\r\n\r\n")),
    *(chunked(start + b"\r\nabc\r\n" + EMPTY) for start in (b"3;name=value", b"0003")),
    *(chunked(b"3\r\nabc\r\n0\r\n" + line + b"\r\n\r\n") for line in (b"X-A: b", b"Content-Length: 90")),
    chunked(b"%x\r\n" % len(INNER) + INNER + b"\r\n" + EMPTY),
    post(b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: " + LENGTH, body=INNER),
)
LAST = (get(LIVEZ, b"Connection: close") + INNER, get(b"GET /livez HTTP/1.0") + INNER)
LENGTH_TWICE = (with_length(LENGTH, LENGTH), with_length(b"00" + LENGTH))

# The statuses that an answer may have, whether the connection ends then, or may end (None), and the requests.
ANSWERS = (
    ({400, 413, 431, 501, 505}, True, MALFORMED),
    ({404}, False, [get(b"GET /livez%0d%0a%0d%0aGET%20/model HTTP/1.1")]),
    ({200}, False, [get(b"GET http://a/livez HTTP/1.1"), b"\r\n" + get(), get(LIVEZ, b"X-A: \xff\xfe")]),
    ({400}, False, READ),
    ({400}, None, (b"GET /livez HTTP/1.1\r\n\r\n", get(LIVEZ, b"Host: b"), *LENGTH_TWICE)),
    ({200}, None, [b"GET /livez HTTP/1.0\r\n\r\n"]),
    ({200, 400}, None, [get(LIVEZ, b"Content-Length: " + LENGTH) + INNER]),
    ({400, 501}, None, [with_coding(b"chunked, chunked"), with_coding(b"identity", b"chunked")]),
    ({400, 417}, None, [post(b"Expect: x", b"Content-Length: 3", body=b"abc")]),
    ({None, 400, 505}, True, [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]),
    ({200}, True, LAST),  # as the client or HTTP/1.0 wants it
)
CASES = [(content, statuses, ends) for statuses, ends, contents in ANSWERS for content in contents]
