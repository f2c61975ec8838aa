"""Attacks: messages changed at random, or sent as no client should send them; each follows from its seed alone."""

import gzip
import zlib
from collections.abc import Callable
from functools import cache
from random import Random
from typing import NamedTuple

from photoz.protocol.open_inference import HEADER_LENGTH
from tests.attack import malformed_inputs as malformed
from tests.attack.malformed_inputs import mutate_bytes, mutate_json
from tests.attack.messages import GROUPS, group, latin

DEPARTURES = ("leave", "reset", "end")
END_OF_HEAD = b"\r\n\r\n"
# How often messages of a group are sent, in hundredths: seldom what the service needs a child process for.
WEIGHTS = {"HTTP": 19, "options": 10, "files": 20, "JSON": 15, "inference": 20, "broken": 15} | {
    **{"described files": 0.3, "evaluations": 0.7}
}


class Attack(NamedTuple):
    """Pieces to send with a pause between them, what follows them, and how many answers are waited for at most."""

    kind: str
    pieces: tuple[bytes, ...]
    finish: str = "wait"  # for the answer; "end": shut down the sending side, and wait; "leave"; "reset"
    answers: int = 1
    bodiless: bool = False  # as the answer to HEAD


Change = Callable[[Random, bytes, bytes], Attack]  # of a head, with the empty line at its end, and a body


def attack_of(seed: int, number: int) -> Attack:
    """Make the attack of this number: the same each time."""
    random = Random(f"{seed}/{number}")
    (name,) = random.choices([*GROUPS], [WEIGHTS[name] for name in GROUPS])
    what, whole = random.choice(group(name))
    if name == "broken" or random.random() < 0.2:
        finish = "end" if name == "broken" else "wait"
        return Attack(name, (whole,), finish, 2 if name == "broken" else 1, whole.startswith(b"HEAD "))
    head, _, body = whole.partition(END_OF_HEAD)
    changes = ON_BODIES if body and random.random() < 0.6 else ON_HEADS
    change = random.choice(changes)
    attack = change(random, head + END_OF_HEAD, body)
    kind = f"{name}, {change.__name__}"
    return attack._replace(kind=kind, bodiless=attack.bodiless or attack.pieces[0].startswith(b"HEAD "))


def mutated_body(random: Random, head: bytes, body: bytes) -> Attack:
    return _whole(head, mutate_bytes(random, body))


def mutated_values(random: Random, head: bytes, body: bytes) -> Attack:
    """Change values of the JSON, which may be the beginning of the body, and stays well-formed."""
    before, name, after = head.partition(f"{HEADER_LENGTH}: ".encode())
    given = after.split(b"\r\n")[0]
    length = int(given) if given.isdigit() else len(body)
    changed = mutate_json(random, body[:length]) or mutate_bytes(random, body[:length])
    if given.isdigit():
        head = before + name + b"%d" % len(changed) + after.removeprefix(given)
    return _whole(head, changed + body[length:])


def packed(random: Random, head: bytes, body: bytes) -> Attack:
    """Pack a body wrongly, cut, or in place of it one that unpacks into 32 MB or 1 GB."""
    coding = random.choice(("gzip", "deflate"))
    content = random.choice((gzip.compress(body, 1, mtime=0), zlib.compress(body, 1)))
    content = random.choice((mutate_bytes(random, content), content[: random.randrange(1, 50_000)]))
    if random.random() < 0.2:
        content, coding = bomb()[: None if random.random() < 0.1 else 32 * 1024], "deflate"
    return _whole(_with(head, f"Content-Encoding: {coding}"), content)


def false_length(random: Random, head: bytes, body: bytes) -> Attack:
    """Declare less than the body has, so that the rest is read as the next request, or more, which never comes."""
    missing = random.choice((-1, -min(1000, len(body)), 1, 1000, 10**6, 10**9, 10**12))
    finish = "end" if missing < 0 else random.choice(DEPARTURES)
    return Attack("", (_declared(head, len(body) + missing), body), finish, 3)


def chunked(random: Random, head: bytes, body: bytes) -> Attack:
    """Send the body in chunks, the last of which is often broken."""
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length:")]
    chunks = b"%x\r\n%s\r\n" % (len(body), body) + random.choice((*malformed.CHUNKS, random.randbytes(200)))
    return Attack("", (_with(b"\r\n".join(lines), "Transfer-Encoding: chunked"), chunks), "end", 2)


def expecting(random: Random, head: bytes, body: bytes) -> Attack:
    """Wait for 100 Continue, or for something else that never comes."""
    line = f"Expect: {random.choice(malformed.EXPECTATIONS)}"
    return Attack("", (_with(head, line), body), random.choice(("wait", "leave")))


def half(random: Random, head: bytes, body: bytes) -> Attack:
    """Leave in the middle of a request, or before its answer."""
    whole = head + body
    at = random.choice((random.randrange(1, len(head)), random.randrange(1, len(whole)), len(whole)))
    return Attack("", (whole[:at],), random.choice(DEPARTURES))


def mutated_head(random: Random, head: bytes, body: bytes) -> Attack:
    return Attack("", (mutate_bytes(random, head) + body,), "end", 2)


def other_header(random: Random, head: bytes, body: bytes) -> Attack:
    """Add headers that mean something else, or that accept only what no endpoint gives."""
    lines = random.choices((*malformed.HEADERS, *malformed.ACCEPTS), k=random.choice((1, 1, 2)))
    return Attack("", (_with(head, *map(latin, lines)) + body,), "end")


def second_length(random: Random, head: bytes, body: bytes) -> Attack:
    line = f"Content-Length: {random.choice(malformed.CONTENT_LENGTHS)}"
    return Attack("", (_with(head, line) + body[:2000],), "end", 3)


def other_start(random: Random, head: bytes, body: bytes) -> Attack:
    """Change the method, the path or the version of HTTP."""
    method, path, *_ = head.split(b" ")
    method = random.choice((method, latin(random.choice(malformed.METHODS)).encode("latin-1")))
    path = random.choice((path, latin(random.choice(malformed.PATHS)).encode("latin-1")))
    version = random.choice((b"HTTP/1.1", random.choice(malformed.VERSIONS)))
    start = b" ".join((method, path, version))
    return Attack("", (start + b"\r\n" + head.partition(b"\r\n")[2] + body,), "end")


def huge_head(random: Random, head: bytes, body: bytes) -> Attack:
    """Send a head that is far too long: many lines, a long value or a long name."""
    many = [f"X-{number}: {'v' * 20}" for number in range(random.choice((200, 5000)))]
    value, name = "v" * random.choice((10_000, 70_000, 500_000)), "X" * random.choice((10_000, 100_000))
    return Attack("", (_with(head, *random.choice((many, [f"X-Long: {value}"], [f"{name}: v"]))) + body,))


def pipelined(random: Random, head: bytes, body: bytes) -> Attack:
    """Send requests without waiting for the answers, good and bad ones."""
    chosen = (random.choice(group("HTTP"))[1] for _ in range(random.choice((1, 2, 19))))
    others = [message for message in chosen if not message.startswith(b"HEAD ")]  # its answer has no body
    return Attack("", (b"".join([head, body, *others]),), random.choice(("end", *DEPARTURES)), 1 + len(others))


ON_BODIES: tuple[Change, ...] = (
    *(mutated_body, mutated_body, mutated_values, mutated_values, packed, false_length, chunked, expecting, half),
)
ON_HEADS: tuple[Change, ...] = (mutated_head, other_header, second_length, other_start, huge_head, pipelined, half)


@cache
def bomb() -> bytes:
    """Return a stream of deflate, 1 MB long, that unpacks into 1 GB of zeros and does not end."""
    packer, megabyte = zlib.compressobj(9), bytes(1 << 20)
    first, again = (packer.compress(megabyte) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + again * 1023  # the first has the head of the stream


def _whole(head: bytes, body: bytes) -> Attack:
    return Attack("", (_declared(head, len(body)) + body,))


def _declared(head: bytes, length: int) -> bytes:
    lines = [line for line in head.removesuffix(END_OF_HEAD).split(b"\r\n") if not line.startswith(b"Content-Length:")]
    return b"\r\n".join([*lines, b"Content-Length: %d" % length]) + END_OF_HEAD


def _with(head: bytes, *lines: str) -> bytes:
    return head.removesuffix(END_OF_HEAD) + b"\r\n" + "\r\n".join(lines).encode("latin-1") + END_OF_HEAD
