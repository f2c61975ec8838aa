"""Mutations of fuzz inputs: of bytes, and of values in JSON and in `.npy` headers, which stay well-formed."""

import ast
import json
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from tests.attack.fuzz_targets import NO_HEADER

DTYPES = ("<f4", ">f8", "|b1", "|O", "|S0", "<U0", "|V0", "|V8", "<c16", "<M8[s]", "T", "<f16", "<U9", "|S999999999")
SHAPES = ([1, 8, 8, 2], [8, 8, 2], [2], [0], [2**40 - 1] * 8, [2**32, 2**32], [-1], [1] * 9)
ODD_VALUES = (
    *(None, True, False, -1, 0, 1, 2, 8, 2**31, 2**40, 2**63, 2**64, -(2**63), 10**400),
    *(0.5, -0.0, 1e39, -1e308, float("nan"), float("inf")),
    *("", "a", "é\0", "\ud800", "x" * 300, "images", "FP32", "BYTES", [], {}, [[]], [{}], *SHAPES, *DTYPES),
)


def damage(data: bytes, random: Random) -> bytes:
    """Change some bytes, and perhaps truncate them or append others."""
    content = bytearray(data)
    for _ in range(random.choice((0, 1, 1, 2, 8))):
        content[random.randrange(min(len(content), random.choice((100, 10**6))))] = random.randrange(256)
    if random.random() < 0.3:
        del content[random.randrange(len(content)) :]
    return bytes(content) + random.randbytes(random.choice((0, 0, 0, 1, 9)))


def mutate_value(value: Any, random: Random) -> Any:
    """Change a few of the values inside a value."""
    content = [value]
    for _ in range(random.choice((1, 1, 2, 4))):
        _mutate_one(content, random)
    return content[0]


def _mutate_one(content: list[Any], random: Random) -> None:
    parent: Any = content
    key: Any = 0
    while (children := _keys(parent[key])) and random.random() < 0.85:
        parent, key = parent[key], random.choice(children)
    match random.randrange(6):
        case 0:
            del parent[key]
            content or content.append(None)
        case 1:
            parent[key] = [parent[key]]
        case 2 if isinstance(parent, list):
            parent.insert(key, parent[key])
        case 3 if isinstance(parent[key], int | float):
            parent[key] *= random.choice((-1, 0.5, 2, 256))
        case 4 if isinstance(parent, dict):
            parent[random.choice(tuple(parent))] = parent[key]
        case _:
            parent[key] = random.choice(ODD_VALUES)


def _keys(value: Any) -> Sequence[Any]:
    return list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()


def mutate_json(data: bytes, random: Random) -> bytes:
    return json.dumps(mutate_value(json.loads(data), random)).encode()


def mutate_inference(data: bytes, random: Random) -> bytes:
    """Mutate the JSON of an input of the target "open_inference"; its length is rarely wrong."""
    length = int.from_bytes(data[:2], "little")
    header, tensors = (data[2:], b"") if length == NO_HEADER else (data[2 : 2 + length], data[2 + length :])
    changed = mutate_json(header, random)
    if length != NO_HEADER:
        length = len(changed) + (random.choice((-1, 1, 8)) if random.random() < 0.05 else 0)
    return length.to_bytes(2, "little") + changed + tensors


def mutate_npy_header(data: bytes, random: Random) -> bytes:
    """Mutate the header of an input of the target "file" that starts with h."""
    header, _, numbers = data.removeprefix(b"h").partition(b"\n")
    content = ast.literal_eval(header.decode())
    content = mutate_value(content | {"shape": list(content["shape"])}, random)
    if isinstance(content, dict) and isinstance(content.get("shape"), list):
        content["shape"] = tuple(content["shape"])
    return b"h" + ascii(content).encode() + b"\n" + numbers


MUTATORS: Mapping[str, Callable[[bytes, Random], bytes]] = {
    "open_inference": mutate_inference,
    "json": mutate_json,
    "file": mutate_npy_header,
}


def mutate(target: str, data: bytes, random: Random) -> bytes | None:
    """Mutate the values in an input of a target; None if that is not possible."""
    try:
        return MUTATORS[target](data, random)
    except (KeyError, TypeError, ValueError, ArithmeticError, RecursionError, SyntaxError, MemoryError):
        return None
