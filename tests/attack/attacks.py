"""Attacks: messages changed at random, or sent as no client should send them; each follows from its seed alone."""

import gzip
import zlib
from collections.abc import Callable
from functools import cache
from random import Random
from typing import NamedTuple

from photoz.protocol.open_inference import HEADER_LENGTH
from tests.attack.malformed_http import CHUNKS
from tests.attack.malformed_inputs import HEADERS
from tests.attack.messages import GROUPS, group
from tests.attack.mutations import mutate_bytes, mutate_json

DEPARTURES = ("leave", "reset", "end")
END_OF_HEAD = b"\r\n\r\n"
# How often messages of a group are sent, in hundredths: seldom what the service needs a child process for.
WEIGHTS = {"HTTP": 19, "options": 10, "files": 20, "JSON": 15, "inference": 20, "broken": 15}
WEIGHTS |= {"described files": 0.3, "evaluations": 0.7}
# Headers that come too late, or are far too long.
LINES = (
    *(HEADERS, [f"Expect: {value}" for value in ("100-continue", "200-ok", "", "100-continue, x")]),
    [f"Content-Length: {value}" for value in ("-1", "+1", "0x10", "", "1,2", "9" * 30, "1_0", "00", "5")],
    ["X-Long: " + "v" * 10_000, "X-Long: " + "v" * 500_000, "X" * 100_000 + ": v", "X-A: b\r\n" * 5000 + "X-A: b"],
)


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
    _, whole = random.choice(group(name))
    if name == "broken" or random.random() < 0.2:
        finish = ("end", 2) if name == "broken" else ("wait", 1)
        return Attack(name, (whole,), *finish, whole.startswith(b"HEAD "))
    head, _, body = whole.partition(END_OF_HEAD)
    change = random.choice(ON_BODIES if body and random.random() < 0.6 else ON_HEADS)
    attack = change(random, head + END_OF_HEAD, body)
    kind = f"{name}, {change.__name__}"
    return attack._replace(kind=kind, bodiless=attack.bodiless or attack.pieces[0].startswith(b"HEAD "))


def mutated_body(random: Random, head: bytes, body: bytes) -> Attack:
    changed = mutate_bytes(random, body)
    return Attack("", (_with_length(head, len(changed)) + changed,))


def mutated_values(random: Random, head: bytes, body: bytes) -> Attack:
    """Change values of the JSON, which may be the beginning of the body, and stays well-formed."""
    before, name, after = head.partition(f"{HEADER_LENGTH}: ".encode())
    given = after.split(b"\r\n")[0]
    length = int(given) if given.isdigit() else len(body)
    changed = mutate_json(random, body[:length]) or mutate_bytes(random, body[:length])
    if given.isdigit():
        head = before + name + b"%d" % len(changed) + after.removeprefix(given)
    return Attack("", (_with_length(head, len(changed + body[length:])) + changed + body[length:],))


def packed(random: Random, head: bytes, body: bytes) -> Attack:
    """Pack a body wrongly, cut, or in place of it one that unpacks into 32 MB or 1 GB."""
    content = random.choice((gzip.compress(body, 1, mtime=0), zlib.compress(body, 1)))
    content = random.choice((mutate_bytes(random, content), content[: random.randrange(1, 50_000)]))
    if random.random() < 0.2:
        content = bomb()[: None if random.random() < 0.1 else 32 * 1024]
    coding = f"Content-Encoding: {random.choice(('gzip', 'deflate'))}"
    return Attack("", (_with(_with_length(head, len(content)), coding) + content,))


def false_length(random: Random, head: bytes, body: bytes) -> Attack:
    """Declare less than the body has, so that the rest is read as the next request, or more, which never comes."""
    missing = random.choice((-1, -min(1000, len(body)), 1, 1000, 10**6, 10**9, 10**12))
    finish = "end" if missing < 0 else random.choice(DEPARTURES)
    return Attack("", (_with_length(head, len(body) + missing), body), finish, 3)


def chunked(random: Random, head: bytes, body: bytes) -> Attack:
    """Send the body in chunks, the last of which is broken."""
    chunks = b"%x\r\n%s\r\n" % (len(body), body) + random.choice((*CHUNKS, random.randbytes(200)))
    return Attack("", (_with(_with_length(head, None), "Transfer-Encoding: chunked"), chunks), "end", 2)


def half(random: Random, head: bytes, body: bytes) -> Attack:
    """Leave in the middle of a request, or before its answer."""
    whole = head + body
    at = random.choice((random.randrange(1, len(head)), random.randrange(1, len(whole)), len(whole)))
    return Attack("", (whole[:at],), random.choice(DEPARTURES))


def mutated_head(random: Random, head: bytes, body: bytes) -> Attack:
    return Attack("", (mutate_bytes(random, head) + body,), "end", 2)


def other_headers(random: Random, head: bytes, body: bytes) -> Attack:
    """Add headers that mean something else, that accept only what no endpoint gives, or that are far too long."""
    lines = [random.choice(random.choice(LINES)) for _ in range(random.choice((1, 1, 2)))]
    return Attack("", (_with(head, *lines) + body,), "end", 3)


def pipelined(random: Random, head: bytes, body: bytes) -> Attack:
    """Send requests without waiting for the answers, good and bad ones."""
    chosen = (random.choice(group("HTTP"))[1] for _ in range(random.choice((1, 2, 19))))
    others = [message for message in chosen if not message.startswith(b"HEAD ")]  # its answer has no body
    return Attack("", (b"".join([head, body, *others]),), random.choice(("end", *DEPARTURES)), 1 + len(others))


ON_HEADS: tuple[Change, ...] = (mutated_head, other_headers, other_headers, pipelined, half)
ON_BODIES: tuple[Change, ...] = (
    *(mutated_body, mutated_body, mutated_values, mutated_values, packed, false_length, chunked, half),
)


@cache
def bomb() -> bytes:
    """Return a stream of deflate, 1 MB long, that unpacks into 1 GB of zeros and does not end."""
    packer, megabyte = zlib.compressobj(9), bytes(1 << 20)
    first, again = (packer.compress(megabyte) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + again * 1023  # the first has the head of the stream


def _with_length(head: bytes, length: int | None) -> bytes:
    """Declare another length of the body, or none."""
    lines = [line for line in head.removesuffix(END_OF_HEAD).split(b"\r\n") if not line.startswith(b"Content-Length:")]
    lines += [] if length is None else [b"Content-Length: %d" % length]
    return b"\r\n".join(lines) + END_OF_HEAD


def _with(head: bytes, *lines: str) -> bytes:
    return head.removesuffix(END_OF_HEAD) + b"\r\n" + "\r\n".join(lines).encode() + END_OF_HEAD
