"""Mutations of well-formed inputs, by bytes or in their structure: JSON, members and headers of arrays, FITS cards."""

import ast
import copy
import io
import json
import zipfile
from random import Random
from typing import Any

from tests.attack.files import make_npz, npy_with_header
from tests.attack.malformed_inputs import DTYPES, FITS_VALUES, ODD_VALUES

CARD = 80  # bytes


def mutate_bytes(random: Random, whole: bytes) -> bytes:
    """Flip, cut, repeat, insert or remove some bytes."""
    mutated = bytearray(whole)
    for _ in range(random.choice((1, 1, 2, 8, 64))):
        # Half of the changes go to the first bytes, where the structure is.
        at = random.randrange(min(len(mutated), random.choice((256, len(mutated)))) or 1)
        size = random.choice((1, 2, 8, 1000))
        match random.randrange(5):
            case 0:
                mutated[at : at + 1] = random.randbytes(1)
            case 1:
                del mutated[at : at + size]
            case 2:
                mutated[at:at] = random.randbytes(size)
            case 3:
                mutated[at:at] = mutated[at : at + size]
            case _:
                del mutated[random.randrange(len(mutated) + 1) :]
    return bytes(mutated)


def mutate_json(random: Random, text: bytes) -> bytes | None:
    """Change a few values of a JSON text, which stays well-formed; None if it cannot be read or written."""
    try:
        content = [json.loads(text)]
        for _ in range(random.choice((1, 1, 2, 4))):
            _change_value(random, content)
        return json.dumps(content[0]).encode()
    except (ValueError, ArithmeticError, RecursionError):
        return None


def _change_value(random: Random, content: list[Any]) -> None:
    """Descend to some value and change it."""
    holder: Any = content
    key: Any = 0
    while isinstance(holder[key], dict | list) and holder[key] and random.random() < 0.85:
        holder = holder[key]
        key = random.choice([*holder] if isinstance(holder, dict) else range(len(holder)))
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
            holder[random.choice((*holder, "extra"))] = holder[key]
        case _:
            holder[key] = copy.deepcopy(random.choice(ODD_VALUES))


def mutate_inference(random: Random, data: bytes) -> bytes | None:
    """Mutate the JSON before the tensors of an input of the target "open_inference"."""
    header, separator, tensors = data.partition(b"\0")
    changed = mutate_json(random, header)
    return changed and changed + separator + tensors


def mutate_arrays(random: Random, data: bytes) -> bytes | None:
    """Mutate a member of a `.npz` file, which keeps its checksum, or the header of a `.npy` file."""
    try:
        if data.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                members = {info.filename: archive.read(info) for info in archive.infolist() if info.file_size < 10**6}
            name = random.choice([*members])
            members[name] = mutate_arrays(random, members[name]) or mutate_bytes(random, members[name])
            return make_npz(members, random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))
        length = int.from_bytes(data[8:10], "little")
        content = ast.literal_eval(data[10 : 10 + length].decode())
        content["descr"] = random.choice((content["descr"], *DTYPES))
        content = json.loads(mutate_json(random, json.dumps(content).encode()) or b"0")
    except Exception:  # damaged by another mutation
        return None
    if isinstance(content, dict) and isinstance(content.get("shape"), list):
        content["shape"] = tuple(content["shape"])
    return npy_with_header(ascii(content).encode()[:65_534], data[10 + length :])


def mutate_fits_cards(random: Random, data: bytes) -> bytes | None:
    """Change the values of a few cards in the headers of a FITS file, or copy cards over others."""
    cards = [start for start in range(0, len(data) - CARD, CARD) if data[start : start + 8].strip().isalnum()]
    changed = bytearray(data)
    for start in random.choices(cards, k=random.randint(1, 4)) if cards else ():
        other, value = random.choice(cards), random.choice(FITS_VALUES).encode()
        card = (
            data[other : other + CARD] if random.random() < 0.2 else data[start : start + 8] + b"= " + value.rjust(20)
        )
        changed[start : start + CARD] = card.ljust(CARD)
    return bytes(changed) if cards else None


MUTATORS = {"open_inference": mutate_inference, "json": mutate_json, "file": mutate_arrays}
