"""What an attack is, and what attacks are made of."""

import io
import json
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from benchmarks.cutouts import cutouts
from benchmarks.endurance import checks

# wait for the answer | shut down the sending side, and wait | close | close with a reset
Finish = Literal["wait", "end", "leave", "reset"]

MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Attack:
    """Bytes that no client should send, or not like this.

    Parameters
    ----------
    kind : str
        In a few words.
    pieces : tuple of bytes
        Sent one after the other, with a pause between them.
    finish : str
        What comes then.
    answers : int
        How many of them are waited for at most: more than one where requests follow each other without a pause.
    bodiless : bool
        Whether the answer has no body, as that to HEAD.
    """

    kind: str
    pieces: tuple[bytes, ...]
    finish: Finish = "wait"
    answers: int = 1
    bodiless: bool = False


class Material:
    """Whole, good bodies of one cutout, to be spoilt.

    Parameters
    ----------
    path : str
        Of the protocol's inference.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.images, self.ebv = cutouts(1)
        self.infer_body, self.infer_length = checks.infer_message(1)
        self.infer = checks.infer_request(path, 0, 1)
        self.npz = checks.npz(1)

    @cached_property
    def npy(self) -> bytes:
        """The cutout as a .npy file."""
        file = io.BytesIO()
        np.save(file, self.images)
        return file.getvalue()

    @cached_property
    def json(self) -> bytes:
        """The cutout in the JSON of `/predict`, three digits a pixel: 100 kB."""
        return json.dumps({"images": np.round(self.images, 3).tolist(), "ebv": [0.03], "pdf": False}).encode()

    @cached_property
    def bomb(self) -> bytes:
        """A stream of deflate, 1 MB long, that unpacks into 1 GB of zeros and does not end."""
        packer = zlib.compressobj(9)
        block = packer.compress(bytes(MEGABYTE)) + packer.flush(zlib.Z_FULL_FLUSH)
        again = packer.compress(bytes(MEGABYTE)) + packer.flush(zlib.Z_FULL_FLUSH)  # without the head of the stream
        return block + again * 1023


Maker = Callable[[random.Random, Material], Attack]


def garbled(chance: random.Random, whole: bytes) -> bytes:
    """Spoil bytes: flip, cut, repeat, insert or remove some."""
    spoilt = bytearray(whole)
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        # Half of the harm goes to the first bytes, where the structure is.
        at = chance.randrange(min(len(spoilt), chance.choice((256, len(spoilt)))) or 1)
        size = chance.choice((1, 2, 8, 1000))
        match chance.randrange(5):
            case 0:
                spoilt[at : at + 1] = chance.randbytes(1)
            case 1:
                del spoilt[at : at + size]
            case 2:
                spoilt[at:at] = chance.randbytes(size)
            case 3:
                spoilt[at:at] = spoilt[at : at + size]
            case _:
                del spoilt[chance.randrange(len(spoilt) + 1) :]
        if not spoilt:
            break
    return bytes(spoilt)
