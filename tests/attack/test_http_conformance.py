"""HTTP/1.1 as RFC 9110 and 9112 define it, and request smuggling: where a body ends, and what is no request.

Each case is sent with a good request, the canary, after it. A request that is hidden in a body or in a header carries
an id of its own: it must never be answered. A malformed request ends its connection, so that the canary is not answered
either; after a well-formed one it is.
"""

import pytest

from tests.service.raw_http import RawConnection

INNER = b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Request-Id: smuggled\r\n\r\n"
CANARY = b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Request-Id: canary\r\nConnection: close\r\n\r\n"

ENDS = "the connection ends"  # after the answer, if there is one
GOES_ON = "the canary is answered"
EITHER = "either"


def get(line: bytes = b"GET /livez HTTP/1.1", *headers: bytes) -> bytes:
    return b"\r\n".join([line, b"Host: a", *headers, b"", b""])


def post(*headers: bytes, body: bytes = b"") -> bytes:
    return get(b"POST /predict_file HTTP/1.1", *headers) + body


def chunked(body: bytes, *headers: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", *headers, body=body)


def with_length(value: bytes) -> bytes:
    return post(b"Content-Length: " + value, body=INNER)


def with_coding(*headers: bytes) -> bytes:
    return post(*headers, body=b"1\r\nx\r\n0\r\n\r\n")


BAD, OK = {400}, {200}
NO_FILE = {400}  # the whole body was read, and it is not a file

REQUEST_LINES = {
    "lower-case method": (get(b"get /livez HTTP/1.1"), {400, 405, 501}, EITHER),
    "unknown method": (get(b"BREW /livez HTTP/1.1"), {400, 405, 501}, EITHER),
    "empty method": (get(b" /livez HTTP/1.1"), BAD, ENDS),
    "method with a colon": (get(b"GE:T /livez HTTP/1.1"), {400, 405}, EITHER),
    "NUL in the method": (get(b"G\0T /livez HTTP/1.1"), BAD, ENDS),
    "no version": (b"GET /livez\r\n\r\n", BAD, ENDS),
    "HTTP/0.9": (get(b"GET /livez HTTP/0.9"), {400, 505}, ENDS),
    "HTTP/1.2": (get(b"GET /livez HTTP/1.2"), {200, 400, 505}, EITHER),
    "HTTP/2.0": (get(b"GET /livez HTTP/2.0"), {400, 505}, ENDS),
    "lower-case version": (get(b"GET /livez http/1.1"), BAD, ENDS),
    "more after the version": (get(b"GET /livez HTTP/1.1 x"), BAD, ENDS),
    "version with a hundred": (get(b"GET /livez HTTP/1.10"), {400, 505}, ENDS),
    "tabs": (get(b"GET\t/livez\tHTTP/1.1"), BAD, ENDS),
    "two spaces": (get(b"GET  /livez HTTP/1.1"), BAD, ENDS),
    "CR in the target": (get(b"GET /li\rvez HTTP/1.1"), BAD, ENDS),
    "NUL in the target": (get(b"GET /li\0vez HTTP/1.1"), BAD, ENDS),
    "request in the target": (get(b"GET /livez%0d%0a%0d%0aGET%20/model HTTP/1.1"), {404}, GOES_ON),
    "absolute target": (get(b"GET http://a/livez HTTP/1.1"), OK, GOES_ON),
    "CONNECT": (get(b"CONNECT a:80 HTTP/1.1"), {400, 404, 405, 501}, EITHER),
    "asterisk": (get(b"GET * HTTP/1.1"), {400, 404}, EITHER),
    "empty line before": (b"\r\n" + get(), OK, GOES_ON),
    "preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {None, 400, 505}, ENDS),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40) + b"\r\n\r\n", BAD, ENDS),
}

HEADERS = {
    "space before the colon": (get(b"GET /livez HTTP/1.1", b"X-A : b"), BAD, ENDS),
    "no colon": (get(b"GET /livez HTTP/1.1", b"X-A"), BAD, ENDS),
    "empty name": (get(b"GET /livez HTTP/1.1", b": b"), BAD, ENDS),
    "space in a name": (get(b"GET /livez HTTP/1.1", b"X A: b"), BAD, ENDS),
    "control character in a name": (get(b"GET /livez HTTP/1.1", b"X\x01A: b"), BAD, ENDS),
    "NUL in a value": (get(b"GET /livez HTTP/1.1", b"X-A: b\0c"), BAD, ENDS),
    "CR in a value": (get(b"GET /livez HTTP/1.1", b"X-A: b\rX-B: c"), BAD, ENDS),
    "folded": (get(b"GET /livez HTTP/1.1", b"X-A: b\r\n c"), BAD, ENDS),
    "space before the first": (b"GET /livez HTTP/1.1\r\n Host: a\r\n\r\n", BAD, ENDS),
    "bytes above ASCII": (get(b"GET /livez HTTP/1.1", b"X-A: \xff\xfe"), OK, GOES_ON),
    "no host": (b"GET /livez HTTP/1.1\r\n\r\n", BAD, EITHER),
    "two hosts": (get(b"GET /livez HTTP/1.1", b"Host: b"), BAD, EITHER),
    "no host in HTTP/1.0": (b"GET /livez HTTP/1.0\r\n\r\n", OK, ENDS),
    "101 of them": (get(b"GET /livez HTTP/1.1", *[b"X: y"] * 110), {431}, ENDS),
}

LENGTHS = {
    "with a sign": (with_length(b"+%d" % len(INNER)), BAD, ENDS),
    "negative": (with_length(b"-1"), BAD, ENDS),
    "hexadecimal": (with_length(b"0x3d"), BAD, ENDS),
    "decimal point": (with_length(b"61.0"), BAD, ENDS),
    "underscore": (with_length(b"6_1"), BAD, ENDS),
    "empty": (with_length(b""), BAD, ENDS),
    "space inside": (with_length(b"6 1"), BAD, ENDS),
    "other digits": (with_length("６１".encode()), BAD, ENDS),
    "beyond 64 bits": (with_length(b"99999999999999999999999"), {400, 413}, ENDS),
    "two in a list": (with_length(b"%d, 0" % len(INNER)), BAD, ENDS),
    "two headers": (post(b"Content-Length: 0", b"Content-Length: %d" % len(INNER), body=INNER), BAD, ENDS),
    "the same twice": (post(*[b"Content-Length: %d" % len(INNER)] * 2, body=INNER), {400}, EITHER),
    "leading zeros": (with_length(b"00%d" % len(INNER)), NO_FILE, EITHER),
    "of the body": (with_length(b"%d" % len(INNER)), NO_FILE, GOES_ON),
    "with GET": (get(b"GET /livez HTTP/1.1", b"Content-Length: %d" % len(INNER)) + INNER, {200, 400}, EITHER),
}

CODINGS = {
    "upper case": (with_coding(b"Transfer-Encoding: CHUNKED"), NO_FILE, GOES_ON),
    "gzip": (with_coding(b"Transfer-Encoding: gzip"), {400, 501}, ENDS),
    "chunked is not the last": (with_coding(b"Transfer-Encoding: chunked, gzip"), {400, 501}, ENDS),
    "identity": (with_coding(b"Transfer-Encoding: identity"), {400, 501}, ENDS),
    "chunked twice": (with_coding(b"Transfer-Encoding: chunked, chunked"), {400, 501}, EITHER),
    "letters before": (with_coding(b"Transfer-Encoding: xchunked"), {400, 501}, ENDS),
    "vertical tab before": (with_coding(b"Transfer-Encoding: \x0bchunked"), {400, 501}, ENDS),
    "quotes": (with_coding(b'Transfer-Encoding: "chunked"'), {400, 501}, ENDS),
    "space before the colon": (with_coding(b"Transfer-Encoding : chunked"), BAD, ENDS),
    "folded": (with_coding(b"Transfer-Encoding:\r\n chunked"), {400, 501}, ENDS),
    "two headers": (with_coding(b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked"), {400, 501}, EITHER),
    "with a length": (post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + INNER), BAD, ENDS),
    "after a length of the whole": (
        post(b"Transfer-Encoding: chunked", b"Content-Length: %d" % (5 + len(INNER)), body=b"0\r\n\r\n" + INNER),
        BAD,
        ENDS,
    ),
    "in HTTP/1.0": (
        get(b"POST /predict_file HTTP/1.0", b"Transfer-Encoding: chunked") + b"0\r\n\r\n" + INNER,
        {400, 501},
        ENDS,
    ),
}

CHUNKS = {
    "0x before the size": (chunked(b"0x3\r\nabc\r\n0\r\n\r\n"), BAD, ENDS),
    "negative size": (chunked(b"-3\r\nabc\r\n0\r\n\r\n"), BAD, ENDS),
    "size with a sign": (chunked(b"+3\r\nabc\r\n0\r\n\r\n"), BAD, ENDS),
    "empty size": (chunked(b"\r\nabc\r\n0\r\n\r\n"), BAD, ENDS),
    "underscore in the size": (chunked(b"0_3\r\nabc\r\n0\r\n\r\n"), BAD, ENDS),
    "size beyond 64 bits": (chunked(b"fffffffffffffffff3\r\nabc\r\n0\r\n\r\n"), BAD, ENDS),
    "NUL in the size": (chunked(b"3\0\r\nabc\r\n0\r\n\r\n"), BAD, ENDS),
    "LF after the size": (chunked(b"3\nabc\r\n0\r\n\r\n"), BAD, ENDS),
    "no end of the data": (chunked(b"3\r\nabc0\r\n\r\n"), BAD, ENDS),
    "more data than the size": (chunked(b"3\r\nabcdef\r\n0\r\n\r\n"), BAD, ENDS),
    "LF after the data": (chunked(b"3\r\nabc\n0\r\n\r\n"), BAD, ENDS),
    "extension": (chunked(b"3;name=value\r\nabc\r\n0\r\n\r\n"), NO_FILE, GOES_ON),
    "LF in an extension": (chunked(b"3;a\nb\r\nabc\r\n0\r\n\r\n"), BAD, ENDS),
    "endless extension": (chunked(b"3;" + b"a" * 100_000 + b"\r\nabc\r\n0\r\n\r\n"), BAD, ENDS),
    "last chunk of many zeros": (chunked(b"3\r\nabc\r\n0000\r\n\r\n"), NO_FILE, GOES_ON),
    "trailers": (chunked(b"3\r\nabc\r\n0\r\nX-A: b\r\n\r\n"), NO_FILE, GOES_ON),
    "length as a trailer": (chunked(b"3\r\nabc\r\n0\r\nContent-Length: %d\r\n\r\n" % len(CANARY)), NO_FILE, GOES_ON),
    "request in a chunk": (chunked(b"%x\r\n" % len(INNER) + INNER + b"\r\n0\r\n\r\n"), NO_FILE, GOES_ON),
}

CONNECTIONS = {
    "close": (get(b"GET /livez HTTP/1.1", b"Connection: close") + INNER, OK, ENDS),
    "HTTP/1.0 closes": (get(b"GET /livez HTTP/1.0") + INNER, OK, ENDS),
    "upgrade with a body": (
        post(b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: %d" % len(INNER), body=INNER),
        NO_FILE,
        GOES_ON,
    ),
    "websocket": (get(b"GET /livez HTTP/1.1", b"Connection: Upgrade", b"Upgrade: websocket"), {200, 400}, EITHER),
    "expectation that is unknown": (post(b"Expect: x", b"Content-Length: 3", body=b"abc"), {400, 417}, EITHER),
    "HEAD": (get(b"HEAD /livez HTTP/1.1"), {200, 405}, EITHER),
}

CASES = {
    f"{group}: {name}": case
    for group, cases in {
        "request line": REQUEST_LINES,
        "header": HEADERS,
        "Content-Length": LENGTHS,
        "Transfer-Encoding": CODINGS,
        "chunk": CHUNKS,
        "connection": CONNECTIONS,
    }.items()
    for name, case in cases.items()
}


@pytest.mark.parametrize(("content", "statuses", "then"), CASES.values(), ids=CASES)
def test_conformance(service_url, content, statuses, then):
    answers = []
    with RawConnection(service_url) as connection:
        connection.send(content + CANARY)
        is_head = content.startswith(b"HEAD")
        while (answer := connection.read_response(bodiless=is_head and not answers)) is not None:
            answers.append(answer)
    ids = [answer.headers.get("x-request-id") for answer in answers]
    assert "smuggled" not in ids
    assert (answers[0].status_code if answers else None) in statuses
    if then == ENDS:
        assert "canary" not in ids
    if then == GOES_ON:
        assert ids[1:] == ["canary"]
