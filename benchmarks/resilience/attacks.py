"""Attacks: bytes that no client should send, or not in this way, and what they are made of."""

import json
import zlib
from collections.abc import Callable
from functools import cached_property
from random import Random
from typing import NamedTuple

import numpy as np

from benchmarks.harness.cutouts import cutouts
from benchmarks.harness.messages import infer_body, infer_request
from benchmarks.resilience.known_answers import OUTPUTS, npz

MEGABYTE = bytes(1 << 20)


class Attack(NamedTuple):
    """Pieces to send with a pause between them, what follows them, and how many answers are waited for at most."""

    kind: str
    pieces: tuple[bytes, ...]
    finish: str = "wait"  # for the answer; "end": shut down the sending side, and wait; "leave"; "reset"
    answers: int = 1
    bodiless: bool = False  # as the answer to HEAD


Maker = Callable[[Random, "Material"], Attack]


class Material:
    """Well-formed bodies of one cutout; `path` is that of the protocol's inference."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.images, self.ebv = cutouts(1)
        self.infer_body, self.infer_length = infer_body(self.images, self.ebv, *OUTPUTS)
        self.infer = infer_request(path, self.images, self.ebv, *OUTPUTS)
        self.npz = npz(1)

    @cached_property
    def npy(self) -> bytes:
        """The cutout as a .npy file."""
        header = {"descr": "<f4", "fortran_order": False, "shape": self.images.shape}
        text = f"{header!r:<117}\n".encode()
        return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + self.images.tobytes()

    @cached_property
    def json(self) -> bytes:
        """The cutout in the JSON of `/predict`, three digits a pixel: 100 kB."""
        return json.dumps({"images": np.round(self.images, 3).tolist(), "ebv": [0.03], "pdf": False}).encode()

    @cached_property
    def bomb(self) -> bytes:
        """A stream of deflate, 1 MB long, that unpacks into 1 GB of zeros and does not end."""
        packer = zlib.compressobj(9)
        first, again = (packer.compress(MEGABYTE) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
        return first + again * 1023  # the first has the head of the stream
