"""Mutations of fuzz inputs that change values in JSON and in `.npy` headers, which stay well-formed."""

import ast
import json
from collections.abc import Callable, Mapping
from random import Random

from benchmarks.resilience.malformed_inputs import DTYPES, mutate_json
from tests.attack.fuzz_targets import NO_HEADER


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


MUTATORS: Mapping[str, Callable[[Random, bytes], bytes | None]] = {
    "open_inference": mutate_inference,
    "json": mutate_json,
    "file": mutate_npy_header,
}
