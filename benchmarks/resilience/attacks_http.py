"""Attacks on HTTP itself: heads, lengths, chunks, connections."""

from random import Random

from benchmarks.harness.http_client import request, request_head
from benchmarks.resilience import malformed_inputs as malformed
from benchmarks.resilience.attacks import Attack, Maker, Material
from photoz.protocol.open_inference import HEADER_LENGTH

DEPARTURES = ("leave", "reset", "end")
ENDPOINTS = ("/predict", "/predict_file", "/evaluate")


def bad_length(random: Random, material: Material) -> Attack:
    """Send a Content-Length that is not a number, or a second one."""
    line = f"Content-Length: {random.choice(malformed.CONTENT_LENGTHS)}"
    head = request_head("POST /predict_file", *([line] if random.random() < 0.6 else [line, "Content-Length: 5"]))
    return Attack("bad Content-Length", (head + material.npz[:2000],), "end", answers=3)


def false_length(random: Random, material: Material) -> Attack:
    """Declare less than the body has, so that the rest is read as the next request, or more, which never comes."""
    missing = random.choice((-1, -1000, 1, 1000, 10**6, 10**9, 10**12))
    head = request_head("POST /predict_file", f"Content-Length: {len(material.npz) + missing}")
    return Attack(
        "false Content-Length", (head, material.npz), "end" if missing < 0 else random.choice(DEPARTURES), answers=3
    )


def both_lengths(random: Random, material: Material) -> Attack:
    """Send Content-Length and Transfer-Encoding: the beginning of request smuggling."""
    lines = ["Content-Length: 4", f"Transfer-Encoding: {random.choice(malformed.CODINGS)}"]
    random.shuffle(lines)
    smuggled = b"0\r\n\r\n" + request_head("GET /smuggled")
    return Attack(
        "Content-Length and Transfer-Encoding", (request_head("POST /predict", *lines) + smuggled,), "end", answers=3
    )


def bad_chunks(random: Random, material: Material) -> Attack:
    head = request_head(f"POST {random.choice((material.path, *ENDPOINTS))}", "Transfer-Encoding: chunked")
    body = random.choice((*malformed.CHUNKS, random.randbytes(200)))
    return Attack("bad chunks", (head, body) if random.random() < 0.3 else (head + body,), "end", answers=2)


def huge_head(random: Random, material: Material) -> Attack:
    """Send a head that is far too long: many lines, a long value or a long name."""
    many = [f"X-{number}: {'v' * 20}" for number in range(random.choice((200, 5000)))]
    value, name = "v" * random.choice((10_000, 70_000, 500_000)), "X" * random.choice((10_000, 100_000))
    lines = random.choice((many, [f"X-Long: {value}"], [f"{name}: v"]))
    return Attack("huge head", (request("GET", "/livez", b"", *lines),))


def expect(random: Random, material: Material) -> Attack:
    """Wait for 100 Continue, or for something else that never comes."""
    lines = f"{HEADER_LENGTH}: {material.infer_length}", f"Expect: {random.choice(malformed.EXPECTATIONS)}"
    head, _, body = request("POST", material.path, material.infer_body, *lines).partition(b"\r\n\r\n")
    return Attack("Expect", (head + b"\r\n\r\n", body), random.choice(("wait", "leave")))


def method(random: Random, material: Material) -> Attack:
    name, path = random.choice(malformed.METHODS), random.choice((*ENDPOINTS, "/", "/livez", "/metrics", "/v2"))
    return Attack("method", (request(name, path, random.choice((b"", b"x" * 100))),), bodiless=name == "HEAD")


def target(random: Random, material: Material) -> Attack:
    """Ask for paths and with queries that do not exist, in every spelling."""
    path, name = random.choice(malformed.PATHS), random.choice(("GET", "POST"))
    if random.random() < 0.3:
        path = random.choice((*ENDPOINTS, "/livez", material.path)) + "?" + random.choice(malformed.QUERIES)
    return Attack("path or query", (request(name, _latin(path), material.npz if name == "POST" else b""),))


def header(random: Random, material: Material) -> Attack:
    """Send a good body under a header that means something else, or that accepts only what no endpoint gives."""
    lines = random.choices((*malformed.HEADERS, *malformed.ACCEPTS), k=random.choice((1, 1, 2)))
    path, body = random.choice(((material.path, material.infer_body), ("/predict_file", material.npz), ("/livez", b"")))
    return Attack("header", (request("POST" if body else "GET", path, body, *map(_latin, lines)),), "end")


def pipelined(random: Random, material: Material) -> Attack:
    """Send requests without waiting for the answers, good and bad ones."""
    good = (request("GET", "/livez"), request("GET", "/nothing"), material.infer, request("POST", "/predict", b"{"))
    later = [random.choice((*good, b"\x00bad\r\n\r\n")) for _ in range(random.choice((1, 2, 19)))]
    finish = random.choice(("end", "end", "leave", "reset"))
    return Attack("pipelined", (b"".join([random.choice(good), *later]),), finish, answers=1 + len(later))


def other_version(random: Random, material: Material) -> Attack:
    whole = random.choice((request("GET", "/livez"), material.infer))
    changed = whole.replace(b"HTTP/1.1", random.choice(malformed.VERSIONS), 1)
    return Attack("other version of HTTP", (changed,), "end")


def not_http(random: Random, material: Material) -> Attack:
    sent = random.choice((*malformed.NOT_HTTP, random.randbytes(random.choice((1, 50, 5000)))))
    return Attack("not HTTP", (sent,), "end", answers=2)


def half(random: Random, material: Material) -> Attack:
    """Leave in the middle of a good request, or before its answer."""
    file, json = request("POST", "/predict_file", material.npz), request("POST", "/predict", material.json)
    whole = random.choice((material.infer, file, json))
    at = random.choice((random.randrange(1, 200), random.randrange(1, len(whole)), len(whole)))
    return Attack(
        "half a request" if at < len(whole) else "left before the answer", (whole[:at],), random.choice(DEPARTURES)
    )


def _latin(text: str) -> str:
    """Spell text so that it is sent as UTF-8."""
    return text.encode().decode("latin-1")


# How often each is made, in hundredths.
ON_HTTP: tuple[tuple[float, Maker], ...] = (
    *((3, bad_length), (3, false_length), (3, both_lengths), (3, bad_chunks), (1, huge_head), (2, expect), (3, method)),
    *((4, target), (6, header), (2, pipelined), (2, other_version), (3, not_http), (5, half)),
)
