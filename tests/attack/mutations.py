"""Mutations of fuzz inputs that change values in JSON and in `.npy` headers, which stay well-formed."""

import ast
import json
from collections.abc import Callable, Mapping
from random import Random

from tests.attack.fuzz_targets import NO_HEADER
from tests.attack.malformed_inputs import DTYPES, mutate_json


def mutate_inference(random: Random, data: bytes) -> bytes | None:
    """Mutate the JSON of an input of the target "open_inference"; its length is rarely wrong."""
    length = int.from_bytes(data[:2], "little")
    header, tensors = (data[2:], b"") if length == NO_HEADER else (data[2 : 2 + length], data[2 + length :])
    changed = mutate_json(random, header)
    if changed is None or len(changed) >= NO_HEADER:
        return None
    if length != NO_HEADER:
        length = len(changed) + (random.random() < 0.05)
    return length.to_bytes(2, "little") + changed + tensors


def mutate_npy_header(random: Random, data: bytes) -> bytes | None:
    """Mutate the header of an input of the target "file" that starts with h."""
    header, _, numbers = data.removeprefix(b"h").partition(b"\n")
    try:
        content = ast.literal_eval(header.decode())
        changed = mutate_json(
            random, json.dumps(content | {"descr": random.choice((content["descr"], *DTYPES))}).encode()
        )
        content = json.loads(changed or b"0")
    except (ValueError, TypeError, KeyError, SyntaxError, RecursionError, MemoryError):
        return None
    if isinstance(content, dict) and isinstance(content.get("shape"), list):
        content["shape"] = tuple(content["shape"])
    return b"h" + ascii(content).encode() + b"\n" + numbers


# Values of FITS cards that are wrong for most keywords.
FITS_VALUES = (
    *(
        "0",
        "1",
        "-1",
        "2",
        "8",
        "64",
        "999",
        "2147483648",
        "9223372036854775807",
        "1" * 30,
        "T",
        "F",
        "NaN",
        "1E400",
        "",
    ),
    *("'1E'", "'128E'", "'999999999E'", "'1PE(3)'", "'16A'", "'1X'", "'Q'", "'(8,8,2)'", "'(2,-8,8)'", "'(9999999,8)'"),
    *("'BINTABLE'", "'IMAGE   '", "'TABLE   '", "'RA---TAN'", "'nJy'", "'g,r'", "'", "'it''s'", "(1, 2)", "'1E' / x"),
)
CARD = 80


def mutate_fits_cards(random: Random, data: bytes) -> bytes | None:
    """Change the values of a few cards in the headers of a FITS file, or copy cards over others."""
    cards = [start for start in range(0, len(data) - CARD, CARD) if data[start : start + 8].strip().isalnum()]
    if not cards:
        return None
    changed = bytearray(data)
    for _ in range(random.randint(1, 4)):
        start = random.choice(cards)
        if random.random() < 0.2:
            other = random.choice(cards)
            changed[start : start + CARD] = data[other : other + CARD]
        else:
            changed[start + 8 : start + CARD] = b"= " + random.choice(FITS_VALUES).encode().rjust(20).ljust(CARD - 10)
    return bytes(changed)


MUTATORS: Mapping[str, Callable[[Random, bytes], bytes | None]] = {
    "open_inference": mutate_inference,
    "json": mutate_json,
    "file": mutate_npy_header,
}
