"""Attacks on HTTP itself: heads, lengths, chunks, connections."""

import random

from benchmarks.endurance.attacks import Attack, Finish, Maker, Material
from benchmarks.endurance.client import request
from benchmarks.endurance.oddities import ACCEPTS, CHUNKS, GARBAGE, HEADERS, LENGTHS, LIES, METHODS, PATHS, QUERIES
from photoz.protocol.open_inference import HEADER_LENGTH


def length(chance: random.Random, material: Material) -> Attack:
    """Send a Content-Length that is none, or a second one."""
    line = f"Content-Length: {chance.choice(LENGTHS)}"
    lines = [line] if chance.random() < 0.6 else [line, "Content-Length: 5"]
    head = "\r\n".join(["POST /predict_file HTTP/1.1", "Host: a", *lines, "", ""]).encode("latin-1")
    return Attack("bad Content-Length", (head + material.npz[:2000],), "end", answers=3)


def lying_length(chance: random.Random, material: Material) -> Attack:
    """Declare another length than the body has: the rest is read as the next request, or never comes."""
    if chance.random() < 0.5:
        head = b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %s\r\n\r\n" % (
            material.path.encode(),
            chance.choice(LIES),
        )
        return Attack("Content-Length too small", (head + material.infer_body[:3000],), "end", answers=3)
    size = len(material.npz) + chance.choice((1, 1000, 10**6, 10**9, 10**12, 2**63 - 1))
    head = b"POST /predict_file HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
    return Attack("Content-Length too large", (head, material.npz), _departure(chance))


def both_lengths(chance: random.Random, material: Material) -> Attack:
    """Send Content-Length and Transfer-Encoding: the beginning of request smuggling."""
    coding = chance.choice(
        ("chunked", "Chunked", "chunked, identity", "identity", "xchunked", " chunked", "gzip, chunked", "\x0bchunked")
    )
    lines = ["Content-Length: 4", f"Transfer-Encoding: {coding}"]
    chance.shuffle(lines)
    head = "\r\n".join(["POST /predict HTTP/1.1", "Host: a", *lines, "", ""]).encode("latin-1")
    smuggled = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    return Attack("Content-Length and Transfer-Encoding", (head + smuggled,), "end", answers=3)


def chunks(chance: random.Random, material: Material) -> Attack:
    """Send chunks that are none."""
    path = chance.choice((material.path, "/predict", "/predict_file", "/evaluate"))
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    body = chance.choice((*CHUNKS, chance.randbytes(200)))
    return Attack("bad chunks", (head, body) if chance.random() < 0.3 else (head + body,), "end", answers=2)


def huge_head(chance: random.Random, material: Material) -> Attack:
    """Send a head that is far too long."""
    match chance.randrange(3):
        case 0:
            lines = [f"X-{number}: {'v' * 20}" for number in range(chance.choice((200, 5000)))]
        case 1:
            lines = ["X-Long: " + "v" * chance.choice((10_000, 70_000, 500_000))]
        case _:
            lines = ["X" * chance.choice((10_000, 100_000)) + ": v"]
    return Attack("huge head", (request("GET", "/livez", b"", *lines),))


def expect(chance: random.Random, material: Material) -> Attack:
    """Wait for 100 Continue, or for something else that never comes."""
    wish = chance.choice(("100-continue", "100-Continue", "200-ok", "", "100-continue, x"))
    whole = request(
        "POST", material.path, material.infer_body, f"{HEADER_LENGTH}: {material.infer_length}", f"Expect: {wish}"
    )
    head, _, body = whole.partition(b"\r\n\r\n")
    return Attack("Expect", (head + b"\r\n\r\n", body), chance.choice(("wait", "leave")))


def method(chance: random.Random, material: Material) -> Attack:
    """Ask with a method that the path does not know."""
    name = chance.choice(METHODS)
    path = chance.choice(("/", "/livez", "/predict", "/predict_file", "/evaluate", "/metrics", material.path, "/v2"))
    body = chance.choice((b"", b"x" * 100))
    return Attack("method", (request(name, path, body),), bodiless=name == "HEAD")


def target(chance: random.Random, material: Material) -> Attack:
    """Ask for what is not there, in every spelling."""
    path, name = chance.choice(PATHS), chance.choice(("GET", "POST"))
    if chance.random() < 0.3:
        path = (
            chance.choice(("/predict_file", "/predict", "/evaluate", "/livez", material.path))
            + "?"
            + chance.choice(QUERIES)
        )
    return Attack(
        "path or query", (request(name, path.encode().decode("latin-1"), material.npz if name == "POST" else b""),)
    )


def header(chance: random.Random, material: Material) -> Attack:
    """Send a good body under a header that means something else."""
    lines = [chance.choice(HEADERS) for _ in range(chance.choice((1, 1, 2)))]
    path, body = chance.choice(((material.path, material.infer_body), ("/predict_file", material.npz), ("/livez", b"")))
    return Attack("header", (request("POST" if body else "GET", path, body, *(_latin(line) for line in lines)),), "end")


def accept(chance: random.Random, material: Material) -> Attack:
    """Accept what nobody gives."""
    wish = _latin(f"Accept: {chance.choice(ACCEPTS)}")
    return Attack(
        "Accept", (request("POST", "/predict_file", material.npz, wish, content_type="application/x-npz"),), "end"
    )


def pipelined(chance: random.Random, material: Material) -> Attack:
    """Send requests without waiting for the answers, good and bad ones."""
    one = (
        request("GET", "/livez"),
        request("GET", "/nothing"),
        material.infer,
        request("POST", "/predict", b"{"),
        b"\x00bad\r\n\r\n",
    )
    chosen = [chance.choice(one[: 5 if number else 4]) for number in range(chance.choice((2, 3, 20)))]
    return Attack(
        "pipelined", (b"".join(chosen),), chance.choice(("end", "end", "leave", "reset")), answers=len(chosen)
    )


def old(chance: random.Random, material: Material) -> Attack:
    """Speak HTTP/1.0 or 0.9, with and without keep-alive."""
    version = chance.choice(
        (b"HTTP/1.0", b"HTTP/1.0\r\nConnection: keep-alive", b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1")
    )
    whole = chance.choice((request("GET", "/livez"), material.infer))
    return Attack("other version of HTTP", (whole.replace(b"HTTP/1.1", version, 1),), "end")


def garbage(chance: random.Random, material: Material) -> Attack:
    """Send what is no HTTP."""
    return Attack(
        "no HTTP", (chance.choice((*GARBAGE, chance.randbytes(chance.choice((1, 50, 5000))))),), "end", answers=2
    )


def half(chance: random.Random, material: Material) -> Attack:
    """Go away in the middle of a good request, or before its answer."""
    whole = chance.choice(
        (material.infer, request("POST", "/predict_file", material.npz), request("POST", "/predict", material.json))
    )
    at = chance.choice((chance.randrange(1, 200), chance.randrange(1, len(whole)), len(whole)))
    return Attack("half a request" if at < len(whole) else "gone before the answer", (whole[:at],), _departure(chance))


def _departure(chance: random.Random) -> Finish:
    departures: tuple[Finish, ...] = ("leave", "reset", "end")
    return chance.choice(departures)


def _latin(text: str) -> str:
    return text.encode().decode("latin-1")


ON_HTTP: tuple[tuple[int, Maker], ...] = (
    *((3, length), (3, lying_length), (3, both_lengths), (3, chunks), (1, huge_head), (2, expect), (3, method)),
    *((4, target), (4, header), (2, accept), (2, pipelined), (2, old), (3, garbage), (5, half)),
)
