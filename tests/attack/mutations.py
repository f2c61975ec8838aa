"""Mutations that keep JSON well-formed: bytes flipped at random hardly ever get past its parser."""

import json
from random import Random
from typing import Any

from targets import NO_HEADER

ODD = (None, True, False, -1, 0, 1, 2, 8, 2**31, 2**40, 2**63, 2**64, -(2**63), 10**400, 0.5, -0.0, 1e39, 1e308)
ODD += (float("nan"), float("inf"), "", "a", "é\0", "\ud800", "x" * 300, [], {}, [[]], [{}], "images", "FP32", "BYTES")


def mutated_json(text: bytes, random: Random) -> bytes | None:
    """Change a few values of a JSON text; None if it is none."""
    try:
        content = [json.loads(text)]
        for _ in range(random.choice((1, 1, 2, 4))):
            _change(content, random)
        return json.dumps(content[0]).encode()
    except (ValueError, ArithmeticError, RecursionError):
        return None


def _change(content: list[Any], random: Random) -> None:
    """Go down to some value, and put another in its place."""
    holder: Any = content
    key: Any = 0
    while (children := _keys(holder[key])) and random.random() < 0.85:
        holder, key = holder[key], random.choice(children)
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
            holder[random.choice(tuple(holder))] = holder[key]
        case _:
            holder[key] = random.choice(ODD)


def _keys(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value)
    return list(range(len(value))) if isinstance(value, list) else []


def mutated_inference(data: bytes, random: Random) -> bytes | None:
    """Change the JSON of an input of the target "v2", and mostly let its header tell the truth."""
    length = int.from_bytes(data[:2], "little")
    header, behind = (data[2:], b"") if length == NO_HEADER else (data[2 : 2 + length], data[2 + length :])
    changed = mutated_json(header, random)
    if changed is None or len(changed) >= NO_HEADER:
        return None
    told = NO_HEADER if length == NO_HEADER else len(changed) + (random.random() < 0.05)
    return told.to_bytes(2, "little") + changed + behind
